//! What is written beside a partial file, so that another attempt can go on with it.
//!
//! A header that says of which file it is, and behind it the entries of its list. It is a hint: what it
//! says is compared with the bytes of the partial file, and nothing is believed that they do not bear
//! out. So it need not be synced, and may be lost, cut or garbage.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use serde::{Deserialize, Serialize};

use crate::engine::Incoming;
use crate::wire::{FileHash, NodeId, SafeName};

/// What the name of a journal ends with, behind that of its partial file.
pub(super) const SUFFIX: &str = ".journal";

/// Bytes in the header, padded with spaces: a name of 255 bytes that are all escaped fits.
pub(super) const HEADER_BYTES: u64 = 4096;

/// The header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    version: u32,
    pub(super) from: Option<NodeId>,
    #[serde(with = "name")]
    pub(super) name: SafeName,
    pub(super) size: u64,
    pub(super) file_hash: Option<FileHash>,
    /// Bytes of its list, where it is a directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) list_bytes: Option<u32>,
}

impl Header {
    /// Of a file that is to be received.
    pub(super) fn of(incoming: &Incoming) -> Self {
        Self {
            version: 1,
            from: incoming.from,
            name: incoming.name.clone(),
            size: incoming.size,
            file_hash: incoming.head.as_ref().map(|head| head.file_hash()),
            list_bytes: incoming.tree.map(|tree| tree.list_bytes),
        }
    }

    /// Whether what is there is of the file that is to be received, as far as it says.
    pub(super) fn is_of(&self, incoming: &Incoming) -> bool {
        let hash = incoming.head.as_ref().map(|head| head.file_hash());
        let same_content = hash.is_some() && self.file_hash == hash;
        let same_offer = self.from == incoming.from && self.name == incoming.name;
        // Of a directory that has changed much is still the same.
        let are_directories = self.list_bytes.is_some() && incoming.tree.is_some();
        let same_form = self.has_form_of(incoming);
        (same_form && (same_content || same_offer)) || (are_directories && same_offer)
    }

    /// Whether it is of something of that size, and of a list of that size where it is a directory.
    pub(super) fn has_form_of(&self, incoming: &Incoming) -> bool {
        self.size == incoming.size && self.list_bytes == incoming.tree.map(|tree| tree.list_bytes)
    }

    /// Reads it; `None` where it is none.
    pub(super) fn read(journal: &File) -> Option<Self> {
        let mut bytes = vec![0; usize::try_from(HEADER_BYTES).expect("it is small")];
        journal.read_exact_at(&mut bytes, 0).ok()?;
        let header: Self = serde_json::from_slice(bytes.trim_ascii_end()).ok()?;
        (header.version == 1).then_some(header)
    }

    /// Writes it.
    pub(super) fn write(&self, journal: &File) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(self)?;
        bytes.resize(usize::try_from(HEADER_BYTES).expect("it is small"), b' ');
        journal.write_all_at(&bytes, 0)
    }
}

/// A name as a string, checked when it is read.
mod name {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::wire::SafeName;

    pub(super) fn serialize<S: Serializer>(name: &SafeName, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(name.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SafeName, D::Error> {
        let name = String::deserialize(deserializer)?;
        SafeName::new(&name).map_err(serde::de::Error::custom)
    }
}
