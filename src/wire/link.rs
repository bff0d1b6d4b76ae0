//! Links: the hash of a content, and what helps to fetch it.
//!
//! `p2p:<hash>/name=…,size=…,root=…,kind=dir,known=1,from=host:port#id`. Only the hash is needed; what
//! else is there is a claim of whoever made the link. Values are percent-encoded, and nothing is left
//! that means something to a shell, so that a link can be pasted behind a command as it is. Keys that
//! are not known are skipped, so that later versions may add some.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::hash::{FileHash, Root};
use super::name::SafeName;

const SCHEME: &str = "p2p:";

/// Bytes in the longest link.
const MAX_LINK_BYTES: usize = 8192;

/// Addresses in one link that count.
const MAX_ADDRESSES: usize = 16;

/// What a link leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    /// A file.
    File,
    /// A directory.
    Directory,
}

/// A content, and what helps to fetch it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// What the content is.
    pub hash: FileHash,
    /// What it is called.
    pub name: Option<SafeName>,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// What its list is checked against.
    pub root: Option<Root>,
    /// What it is, if that is said.
    pub kind: Option<LinkKind>,
    /// Whether only those get it whom its owner trusts.
    pub known_only: bool,
    /// Where to ask: `host:port`, or `host:port#id`; not checked.
    pub from: Vec<String>,
}

/// Why a text is no link.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadLink {
    /// It does not begin like one.
    #[error("a link looks like p2p:<64 digits>/…, and a hash is 64 hexadecimal digits")]
    Form,
    /// It is longer than any.
    #[error("it is longer than any link")]
    TooLong,
    /// A part of it is not what it should be.
    #[error("its `{0}` is not one")]
    Part(&'static str),
}

impl Link {
    /// A link to a content of which only the hash is known.
    pub fn bare(hash: FileHash) -> Self {
        Self { hash, name: None, size: None, root: None, kind: None, known_only: false, from: Vec::new() }
    }
}

impl FromStr for Link {
    type Err = BadLink;

    /// Reads a link, or a bare hash.
    fn from_str(text: &str) -> Result<Self, BadLink> {
        let text = text.trim();
        if text.len() > MAX_LINK_BYTES {
            return Err(BadLink::TooLong);
        }
        if let Ok(hash) = text.parse() {
            return Ok(Self::bare(hash));
        }
        let rest = text.get(..SCHEME.len()).filter(|scheme| scheme.eq_ignore_ascii_case(SCHEME));
        let rest = rest.map(|_| &text[SCHEME.len()..]).ok_or(BadLink::Form)?;
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let (hash, parts) = rest.split_once('/').unwrap_or((rest, ""));
        let hash = hash.parse().map_err(|_| BadLink::Form)?;
        let mut link = Self::bare(hash);
        for pair in parts.split(',').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            link.take(key, &decoded(value)?)?;
        }
        // What need not have been encoded is when it is written again.
        if link.to_string().len() > MAX_LINK_BYTES { Err(BadLink::TooLong) } else { Ok(link) }
    }
}

impl Link {
    fn take(&mut self, key: &str, value: &str) -> Result<(), BadLink> {
        match key {
            "name" => self.name = Some(SafeName::new(value).map_err(|_| BadLink::Part("name"))?),
            "size" => self.size = Some(value.parse().map_err(|_| BadLink::Part("size"))?),
            "root" => self.root = Some(value.parse().map_err(|_| BadLink::Part("root"))?),
            "kind" => {
                self.kind = Some(match value {
                    "dir" => LinkKind::Directory,
                    "file" => LinkKind::File,
                    _ => return Err(BadLink::Part("kind")),
                });
            }
            "known" => self.known_only = value == "1",
            "from" if self.from.len() < MAX_ADDRESSES => self.from.push(value.to_owned()),
            _ => {}
        }
        Ok(())
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.hash)?;
        let mut separator = '/';
        let mut put = |key: &str, value: &str| {
            write!(f, "{separator}{key}={}", encoded(value))?;
            separator = ',';
            Ok(())
        };
        if let Some(name) = &self.name {
            put("name", name.as_str())?;
        }
        if let Some(size) = self.size {
            put("size", &size.to_string())?;
        }
        if let Some(root) = self.root {
            put("root", &root.to_string())?;
        }
        match self.kind {
            Some(LinkKind::Directory) => put("kind", "dir")?,
            Some(LinkKind::File) => put("kind", "file")?,
            None => {}
        }
        if self.known_only {
            put("known", "1")?;
        }
        self.from.iter().try_for_each(|address| put("from", address))
    }
}

/// Leaves what no shell takes for something else.
fn encoded(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b':' => {
                out.push(char::from(byte));
            }
            _ => {
                out.push('%');
                out.push_str(&hex::encode_upper([byte]));
            }
        }
    }
    out
}

fn decoded(value: &str) -> Result<String, BadLink> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [first, behind @ ..] = rest {
        rest = behind;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = rest.get(..2).ok_or(BadLink::Part("%"))?;
        let mut byte = [0];
        hex::decode_to_slice(digits, &mut byte).map_err(|_| BadLink::Part("%"))?;
        bytes.extend(byte);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).map_err(|_| BadLink::Part("%"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HASH: &str = "cc7223d73856a6c654639c8defc538a83d3741220be94ec4b853aeddfd9c8411";

    fn whole() -> Link {
        Link {
            hash: HASH.parse().unwrap(),
            name: Some(SafeName::new("a & b?#%=ü.txt").unwrap()),
            size: Some(7),
            root: Some(Root([5; 32])),
            kind: Some(LinkKind::Directory),
            known_only: true,
            from: vec!["[::1]:8000#0102".into(), "host:1".into()],
        }
    }

    #[test]
    fn a_link_is_read_as_it_was_written() {
        let link = whole();
        let text = link.to_string();
        assert_eq!(text.parse::<Link>().unwrap(), link);
        assert!(
            text.is_ascii() && !text.contains([' ', '#', '"', '\'', '$', '(', '&', '?', '*', ';', '~', '!']),
            "{text}"
        );
        assert_eq!(Link::bare(link.hash).to_string(), format!("p2p:{HASH}"));
    }

    #[test]
    fn a_link_that_was_read_is_not_too_long_when_it_is_written() {
        let raw = |count: usize| format!("p2p:{HASH}/from={}", "!".repeat(count)).parse::<Link>();
        let link = raw(2_000).unwrap();
        assert_eq!(link.to_string().parse::<Link>().unwrap(), link);
        assert_eq!(raw(3_000), Err(BadLink::TooLong));
    }

    #[test]
    fn a_hash_alone_is_a_link_however_it_is_written() {
        for text in [HASH, &HASH.to_uppercase(), &format!("p2p:{HASH}"), &format!(" P2P://{HASH}/later=x\n")]
        {
            assert_eq!(text.parse::<Link>().unwrap(), Link::bare(HASH.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn what_is_no_link_is_refused_with_a_reason() {
        for (text, why) in [
            ("", "64 digits"),
            ("p2p:cc72", "64 digits"),
            ("http:x", "64 digits"),
            (&format!("p2p:{HASH}/name=.."), "name"),
            (&format!("p2p:{HASH}/name=a%2Fb"), "name"),
            (&format!("p2p:{HASH}/size=-1"), "size"),
            (&format!("p2p:{HASH}/root=1"), "root"),
            (&format!("p2p:{HASH}/kind=disk"), "kind"),
            (&format!("p2p:{HASH}/name=%4"), "%"),
            (&format!("p2p:{HASH}/name=%ff"), "%"),
            (&format!("p2p:{HASH}/name={}", "a".repeat(9000)), "longer"),
        ] {
            let error = text.parse::<Link>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        let crowd: String = (1..40).map(|n| format!(",from=h:{n}")).collect();
        assert_eq!(format!("p2p:{HASH}/x{crowd}").parse::<Link>().unwrap().from.len(), MAX_ADDRESSES);
    }

    proptest! {
        #[test]
        fn any_text_is_a_link_or_an_error(text in "(p2p:)?[0-9a-f]{60,64}[/,=%a-z0-9:#\u{202e}]{0,60}|.{0,100}") {
            if let Ok(link) = text.parse::<Link>() {
                prop_assert_eq!(link.to_string().parse::<Link>().unwrap(), link);
            }
        }
    }
}
