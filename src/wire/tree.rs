//! What is in a directory: the names, kinds, times and sizes that its content begins with.
//!
//! A directory travels as one content: this list, and behind it the bytes of its files, one after the
//! other in the order of the list. So it has one hash and one manifest like a file, and everything that
//! is true of the chunks of a file is true of it; many small files share a chunk.
//!
//! Invariant: a [`Tree`] is checked as a whole. Every name in it is one that a file may have, every entry
//! stands in a directory of the list, none is there twice or differs from another in case alone, and
//! no link leads out of it. There is exactly one list for a directory (PROTOCOL.md, "Directories").

use std::cmp::Ordering;
use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};

use thiserror::Error;

use super::{BadName, MAX_MANIFEST_SIZE, SafeName};

/// Bytes in the largest list. It is kept in memory while its directory travels.
pub const MAX_TREE_BYTES: u32 = 32 << 20;

/// Bytes in the smallest list, that of an empty directory.
pub const MIN_TREE_BYTES: u32 = 27;

/// Entries in the largest list.
pub const MAX_TREE_ENTRIES: u32 = 1 << 18;

/// Bytes in the longest path, so that it still has room below where the directory is put: systems take
/// 4,096 or, with macOS, 1,024.
const MAX_PATH_BYTES: usize = 1_000;

/// Components in the longest path.
const MAX_DEPTH: usize = 128;

/// Links that may be followed to find out where one leads.
const MAX_LINKS_FOLLOWED: u32 = 40;

/// Components that are looked at to find out where all links lead.
const MAX_LINK_STEPS: u32 = 1 << 20;

/// What a list begins with.
const MAGIC: &[u8] = b"p2p-tree-1\n";

/// When something was modified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Modified {
    /// Seconds since 1970, UTC.
    pub seconds: i64,
    /// Nanoseconds of the next one; less than 10⁹.
    pub nanoseconds: u32,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TreeKind<'a> {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Bytes in it.
        size: u64,
        /// Whether it may be run.
        is_executable: bool,
    },
    /// A symbolic link.
    Link {
        /// Where it leads, as it stands in the link.
        target: &'a str,
    },
}

/// Something in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeEntry<'a> {
    /// Its path from the directory on, with `/` between the names.
    pub path: &'a str,
    /// When it was modified.
    pub modified: Modified,
    /// What it is.
    pub kind: TreeKind<'a>,
}

impl<'a> TreeEntry<'a> {
    /// The path of the directory it stands in (empty for the uppermost), and its name there.
    pub fn split(&self) -> (&'a str, &'a str) {
        self.path.rsplit_once('/').unwrap_or(("", self.path))
    }

    /// Bytes of its content.
    pub fn size(&self) -> u64 {
        if let TreeKind::File { size, .. } = self.kind { size } else { 0 }
    }
}

/// What an offer tells of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeInfo {
    /// Bytes of its list, with which its content begins.
    pub list_bytes: u32,
    /// Regular files in it.
    pub files: u32,
}

/// Why a list is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadTree {
    /// It does not have the form of one.
    #[error("the list of the directory is damaged: {0}")]
    Malformed(&'static str),
    /// It is too long.
    #[error("the directory has more than {MAX_TREE_ENTRIES} entries or its list more than {} MiB; send parts of it, or an archive", MAX_TREE_BYTES >> 20)]
    TooLong,
    /// The files together are too large.
    #[error("the files of the directory are larger together than what can be sent at once")]
    TooLarge,
    /// A name that no file may have.
    #[error("`{path}` in the directory has a name that cannot be sent: {error}")]
    Name {
        /// The path.
        path: String,
        /// What is wrong.
        #[source]
        error: BadName,
    },
    /// A path that is too long or too deep.
    #[error(
        "`{0}` in the directory is deeper than {MAX_DEPTH} directories or longer than {MAX_PATH_BYTES} bytes"
    )]
    TooDeep(String),
    /// The same path twice, or paths out of order.
    #[error("`{0}` is in the directory twice, or not in order")]
    OutOfOrder(String),
    /// What an entry stands in is not a directory of the list.
    #[error("`{0}` stands in something that is not a directory of the list")]
    NoDirectory(String),
    /// Two paths that only some systems can tell apart.
    #[error(
        "`{0}` differs from another entry in upper and lower case alone, which not every system can keep apart; rename one of them or send an archive"
    )]
    CaseCollision(String),
    /// A link that leads out of the directory, or nowhere.
    #[error("the link `{0}` leads out of the directory, back to itself, or too far")]
    Link(String),
    /// Links that lead to links that lead to links.
    #[error("it takes too long to find out where the links in the directory lead")]
    TooManyLinks,
}

/// The checked list of a directory. Cheap to look at, and as large as the list itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    bytes: Vec<u8>,
    entries: Vec<Start>,
    content_bytes: u64,
    files: u32,
}

/// Where an entry begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Start {
    /// In the list.
    at: u32,
    /// Its content, behind the list.
    content: u64,
}

/// An entry that a list is to be made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeItem {
    /// Its path, as in [`TreeEntry`].
    pub path: String,
    /// When it was modified.
    pub modified: Modified,
    /// What it is.
    pub kind: ItemKind,
}

/// [`TreeKind`] with what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemKind {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Bytes in it.
        size: u64,
        /// Whether it may be run.
        is_executable: bool,
    },
    /// A symbolic link.
    Link {
        /// Where it leads.
        target: String,
    },
}

impl Tree {
    /// Makes the list of a directory out of what is in it. Links that may not be in a list are taken out
    /// of `items`, which is brought into the order of the list, and returned.
    ///
    /// # Errors
    /// What else may not be in a list.
    pub fn of(modified: Modified, items: &mut Vec<TreeItem>) -> Result<(Self, Vec<TreeItem>), BadTree> {
        items.sort_by(|a, b| by_components(&a.path, &b.path));
        let tree = Self::parse(encode(modified, items)?)?;
        let bad: HashSet<String> = tree.bad_links()?.into_iter().map(str::to_owned).collect();
        if bad.is_empty() {
            return Ok((tree, Vec::new()));
        }
        let left_out = items.extract_if(.., |item| bad.contains(&item.path)).collect();
        Ok((Self::decode(encode(modified, items)?)?, left_out))
    }

    /// Checks a list as it travels.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn decode(bytes: Vec<u8>) -> Result<Self, BadTree> {
        let tree = Self::parse(bytes)?;
        match tree.bad_links()?.first() {
            Some(link) => Err(BadTree::Link((*link).to_owned())),
            None => Ok(tree),
        }
    }

    /// All but where links lead.
    fn parse(bytes: Vec<u8>) -> Result<Self, BadTree> {
        if bytes.len() > MAX_TREE_BYTES as usize {
            return Err(BadTree::TooLong);
        }
        let mut reader = Reader { rest: &bytes };
        if reader.take(MAGIC.len())? != MAGIC {
            return Err(BadTree::Malformed("it is none, or of a version that is not known"));
        }
        reader.modified()?;
        let count = u32::from_be_bytes(reader.array()?);
        if count > MAX_TREE_ENTRIES {
            return Err(BadTree::TooLong);
        }
        let mut entries = Vec::new();
        let (mut content_bytes, mut files) = (0_u64, 0);
        let mut checker = Checker::default();
        for _ in 0..count {
            let at = u32::try_from(bytes.len() - reader.rest.len()).expect("checked above");
            let entry = reader.entry()?;
            checker.check(&entry)?;
            if let TreeKind::Link { target } = entry.kind
                && target.len() > MAX_PATH_BYTES
            {
                return Err(BadTree::Link(entry.path.to_owned()));
            }
            entries.push(Start { at, content: content_bytes });
            content_bytes = content_bytes.checked_add(entry.size()).ok_or(BadTree::TooLarge)?;
            files += u32::from(matches!(entry.kind, TreeKind::File { .. }));
        }
        if !reader.rest.is_empty() {
            return Err(BadTree::Malformed("something follows its end"));
        }
        if content_bytes > MAX_MANIFEST_SIZE - u64::from(MAX_TREE_BYTES) {
            return Err(BadTree::TooLarge);
        }
        Ok(Self { bytes, entries, content_bytes, files })
    }

    /// The list as it travels.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes of the directory as it travels: the list and the files.
    pub fn size(&self) -> u64 {
        self.bytes.len() as u64 + self.content_bytes
    }

    /// What an offer tells of it.
    pub fn info(&self) -> TreeInfo {
        let list_bytes = u32::try_from(self.bytes.len()).expect("checked when it was made");
        TreeInfo { list_bytes, files: self.files }
    }

    /// How many regular files there are.
    pub fn files(&self) -> u32 {
        self.files
    }

    /// When the directory itself was modified.
    pub fn modified(&self) -> Modified {
        Reader { rest: &self.bytes[MAGIC.len()..] }.modified().expect("checked when it was made")
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the directory is empty.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entry of that number, of [`Tree::len`].
    pub fn entry(&self, number: usize) -> TreeEntry<'_> {
        let at = self.entries[number].at as usize;
        Reader { rest: &self.bytes[at..] }.entry().expect("checked when it was made")
    }

    /// All entries, each directory before what is in it.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = TreeEntry<'_>> {
        (0..self.len()).map(|number| self.entry(number))
    }

    /// Where in what travels the content of an entry begins.
    pub fn offset(&self, number: usize) -> u64 {
        self.bytes.len() as u64 + self.entries[number].content
    }

    /// The first entry with content at that place of what travels, or behind it.
    pub fn entry_at(&self, offset: u64) -> usize {
        let content = offset.saturating_sub(self.bytes.len() as u64);
        // Of those that begin there, all but the last are empty.
        self.entries.partition_point(|start| start.content <= content).saturating_sub(1)
    }

    /// The entry of that path.
    pub fn find(&self, path: &str) -> Option<TreeEntry<'_>> {
        let found = self
            .entries
            .binary_search_by(|start| {
                let entry = Reader { rest: &self.bytes[start.at as usize..] }.entry();
                by_components(entry.expect("checked when it was made").path, path)
            })
            .ok()?;
        Some(self.entry(found))
    }

    /// The paths of the links that may not be in a list.
    fn bad_links(&self) -> Result<Vec<&str>, BadTree> {
        let mut steps = 0;
        let mut bad = Vec::new();
        for entry in self.entries() {
            if let TreeKind::Link { target } = entry.kind
                && !self.leads_inside(entry.split().0, target, &mut steps)
            {
                bad.push(entry.path);
            }
            if steps > MAX_LINK_STEPS {
                return Err(BadTree::TooManyLinks);
            }
        }
        Ok(bad)
    }

    /// Follows a link as a system would, and sees whether it stays inside all the way.
    fn leads_inside(&self, directory: &str, target: &str, steps: &mut u32) -> bool {
        let mut at: Vec<&str> = components(directory).collect();
        let mut to_go: Vec<&str> = target.split('/').rev().collect();
        let mut followed = 0;
        // Whether what `at` names is a directory of the list: only then is it known what is in it, and
        // its parent is the one before it.
        let mut is_there = is_relative(target);
        if !is_there {
            return false;
        }
        while let Some(component) = to_go.pop() {
            *steps += 1;
            if *steps > MAX_LINK_STEPS {
                return false;
            }
            match component {
                "" | "." => {}
                ".." if !is_there || at.pop().is_none() => return false,
                ".." => {}
                _ if at.len() > MAX_DEPTH => return false,
                name if SafeName::check(name).is_err() => return false,
                // What is not there has nothing in it that could be looked up.
                name if !is_there => at.push(name),
                name => {
                    at.push(name);
                    match self.find(&at.join("/")).map(|entry| entry.kind) {
                        Some(TreeKind::Directory) => {}
                        Some(TreeKind::Link { target }) => {
                            followed += 1;
                            if followed > MAX_LINKS_FOLLOWED || !is_relative(target) {
                                return false;
                            }
                            at.pop();
                            to_go.extend(target.split('/').rev());
                        }
                        Some(TreeKind::File { .. }) | None => is_there = false,
                    }
                }
            }
        }
        true
    }
}

fn is_relative(target: &str) -> bool {
    !target.is_empty() && !target.starts_with('/')
}

/// A text that is the same for all that differ in case alone, also where one letter has several lower
/// or upper ones.
fn without_case(text: &str) -> String {
    text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

/// The components of a path; none of the empty one.
fn components(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|component| !component.is_empty())
}

/// The order of a list: a directory comes before what is in it, and that before everything else.
fn by_components(a: &str, b: &str) -> Ordering {
    a.split('/').cmp(b.split('/'))
}

/// What must be true of each entry because of those before it.
#[derive(Default)]
struct Checker {
    /// The path before, and how many of its components are directories of the list.
    previous: String,
    directories: usize,
    hasher: RandomState,
    /// Hashes of all paths without their case.
    folded: HashSet<u64>,
}

impl Checker {
    fn check(&mut self, entry: &TreeEntry<'_>) -> Result<(), BadTree> {
        let path = entry.path;
        let here = || path.to_owned();
        for name in path.split('/') {
            SafeName::check(name).map_err(|error| BadTree::Name { path: here(), error })?;
        }
        let depth = path.split('/').count();
        if path.len() > MAX_PATH_BYTES || depth > MAX_DEPTH {
            return Err(BadTree::TooDeep(here()));
        }
        if !self.previous.is_empty() && by_components(&self.previous, path) != Ordering::Less {
            return Err(BadTree::OutOfOrder(here()));
        }
        let shared = self.previous.split('/').zip(path.split('/')).take_while(|(a, b)| a == b).count();
        if depth - 1 > shared.min(self.directories) {
            return Err(BadTree::NoDirectory(here()));
        }
        // Two that differ but have the same hash by accident are not to be expected in 2⁶⁴.
        if !self.folded.insert(self.hasher.hash_one(without_case(path))) {
            return Err(BadTree::CaseCollision(here()));
        }
        self.directories = if entry.kind == TreeKind::Directory { depth } else { depth - 1 };
        path.clone_into(&mut self.previous);
        Ok(())
    }
}

/// Takes a list apart.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], BadTree> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(BadTree::Malformed("it is cut off"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BadTree> {
        Ok(self.take(N)?.try_into().expect("as many as were asked for"))
    }

    fn modified(&mut self) -> Result<Modified, BadTree> {
        let seconds = i64::from_be_bytes(self.array()?);
        let nanoseconds = u32::from_be_bytes(self.array()?);
        if nanoseconds >= 1_000_000_000 {
            return Err(BadTree::Malformed("it has a time that is none"));
        }
        Ok(Modified { seconds, nanoseconds })
    }

    fn text(&mut self) -> Result<&'a str, BadTree> {
        let length = u16::from_be_bytes(self.array()?);
        str::from_utf8(self.take(length.into())?).map_err(|_| BadTree::Malformed("a name in it is not UTF-8"))
    }

    fn entry(&mut self) -> Result<TreeEntry<'a>, BadTree> {
        let [kind] = self.array()?;
        let modified = self.modified()?;
        let path = self.text()?;
        let kind = match kind {
            b'd' => TreeKind::Directory,
            b'f' | b'x' => {
                TreeKind::File { size: u64::from_be_bytes(self.array()?), is_executable: kind == b'x' }
            }
            b'l' => TreeKind::Link { target: self.text()? },
            _ => return Err(BadTree::Malformed("it has an entry of a kind that is not known")),
        };
        Ok(TreeEntry { path, modified, kind })
    }
}

fn encode(modified: Modified, items: &[TreeItem]) -> Result<Vec<u8>, BadTree> {
    let count = u32::try_from(items.len()).map_err(|_| BadTree::TooLong)?;
    let mut out = MAGIC.to_vec();
    put_modified(&mut out, modified);
    out.extend(count.to_be_bytes());
    for TreeItem { path, modified, kind } in items {
        out.push(match kind {
            ItemKind::Directory => b'd',
            ItemKind::File { is_executable: false, .. } => b'f',
            ItemKind::File { is_executable: true, .. } => b'x',
            ItemKind::Link { .. } => b'l',
        });
        put_modified(&mut out, *modified);
        put_text(&mut out, path)?;
        match kind {
            ItemKind::Directory => {}
            ItemKind::File { size, .. } => out.extend(size.to_be_bytes()),
            ItemKind::Link { target } => put_text(&mut out, target)?,
        }
        if out.len() > MAX_TREE_BYTES as usize {
            return Err(BadTree::TooLong);
        }
    }
    Ok(out)
}

fn put_modified(out: &mut Vec<u8>, modified: Modified) {
    out.extend(modified.seconds.to_be_bytes());
    out.extend(modified.nanoseconds.to_be_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) -> Result<(), BadTree> {
    let length = u16::try_from(text.len()).map_err(|_| BadTree::TooDeep(text.to_owned()))?;
    out.extend(length.to_be_bytes());
    out.extend(text.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests;
