//! Under what a content is found in the BitTorrent DHT.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::FileHash;

/// Keeps our keys apart from those that others derive from the same hash.
const DOMAIN: &[u8] = b"p2p-dht-v1";

/// The key of a content in a DHT (PROTOCOL.md, "Finding each other"): who sees it does not learn the hash,
/// and who knows the hash knows the key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DhtKey(pub [u8; 20]);

impl DhtKey {
    /// The key of the content with this hash.
    #[must_use]
    pub fn of(hash: FileHash) -> Self {
        let digest = Sha256::new().chain_update(DOMAIN).chain_update(hash.0).finalize();
        Self(std::array::from_fn(|n| digest[n]))
    }
}

impl fmt::Display for DhtKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for DhtKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DhtKey({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_beginning_of_a_hash_of_the_hash() {
        // printf 'p2p-dht-v1' | cat - <(printf '%064d' 0 | xxd -r -p) | sha256sum | cut -c-40
        assert_eq!(DhtKey::of(FileHash([0; 32])).to_string(), "8bd3ece315bbaf3e5be95512f5118df8a3491da9");
    }
}
