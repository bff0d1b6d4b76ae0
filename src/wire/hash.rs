//! SHA-256 digests as types that cannot be mixed up.
//!
//! On the wire a digest is 64 hexadecimal digits; a baseline peer slices them without looking at
//! their length, so nothing shorter is ever sent, and nothing else is accepted.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// A string that is not 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("a SHA-256 is 64 hexadecimal digits")]
pub struct BadHash;

macro_rules! digest {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), &hex::encode(&self.0[..8]))
            }
        }

        impl FromStr for $name {
            type Err = BadHash;
            fn from_str(text: &str) -> Result<Self, BadHash> {
                let mut digest = [0; 32];
                hex::decode_to_slice(text, &mut digest).map_err(|_| BadHash)?;
                Ok(Self(digest))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

digest! {
    /// The SHA-256 of a whole file, as `sha256sum` prints it. It is the content's name.
    FileHash
}
digest! {
    /// The SHA-256 of one chunk of a file.
    ChunkHash
}
digest! {
    /// The chaining state of a file's SHA-256: its eight working words, big-endian, after a whole
    /// number of 64-byte blocks. See [`State::absorb`].
    State
}
digest! {
    /// What names a manifest as a whole; see [`ManifestHead`](super::ManifestHead).
    Root
}
digest! {
    /// What one page of a manifest is checked against; see [`Page`](super::Page).
    PageDigest
}
digest! {
    /// Who a node is: the SHA-256 of its public key. Known only where a handshake proved it.
    NodeId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_64_hex_digits_are_a_hash() {
        let good = "cc7223d73856a6c654639c8defc538a83d3741220be94ec4b853aeddfd9c8411";
        assert_eq!(good.parse::<FileHash>().unwrap().to_string(), good);
        assert_eq!(good.to_uppercase().parse::<FileHash>().unwrap().to_string(), good);
        for bad in ["", "cc72", &good[1..], &format!("{good}0"), &format!("g{}", &good[1..])] {
            assert_eq!(bad.parse::<FileHash>(), Err(BadHash), "{bad:?}");
        }
    }
}
