//! The list of a file's chunks, on disk where it is long.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::wire::{ENTRIES_PER_PAGE, Entry, ManifestBuilder, ManifestHead, Page, State};

/// Pages kept in memory (1 MiB); the list of a file of 4 GiB.
const PAGES_IN_MEMORY: usize = 16;

/// The entries of the first chunks of a file, in order.
#[derive(Debug)]
pub(super) struct EntryList {
    kept: Kept,
    len: u32,
    last: State,
}

#[derive(Debug)]
enum Kept {
    Memory(Vec<Entry>),
    /// One after the other in a file, from an offset on.
    File(File, u64),
}

impl EntryList {
    /// An empty list, in memory as long as it is short.
    pub(super) fn new() -> Self {
        Self { kept: Kept::Memory(Vec::new()), len: 0, last: State::INITIAL }
    }

    /// An empty list that is written to a file, from an offset on.
    pub(super) fn in_file(file: File, offset: u64) -> Self {
        Self { kept: Kept::File(file, offset), len: 0, last: State::INITIAL }
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// The state after all of them.
    pub(super) fn state(&self) -> State {
        self.last
    }

    /// The state after so many.
    pub(super) fn state_after(&self, chunks: u32) -> io::Result<State> {
        match chunks {
            0 => Ok(State::INITIAL),
            chunks if chunks == self.len => Ok(self.last),
            chunks => Ok(self.get(chunks - 1)?.state),
        }
    }

    /// The entry of a chunk that the list has.
    pub(super) fn get(&self, index: u32) -> io::Result<Entry> {
        match &self.kept {
            Kept::Memory(entries) => {
                entries.get(index as usize).copied().ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
            }
            Kept::File(file, offset) => {
                let mut bytes = [0; Entry::BYTES];
                file.read_exact_at(&mut bytes, offset + u64::from(index) * Entry::BYTES as u64)?;
                Ok(Entry::from_bytes(&bytes))
            }
        }
    }

    /// Adds entries at the end.
    pub(super) fn extend(&mut self, more: &[Entry]) -> io::Result<()> {
        if let Kept::Memory(entries) = &self.kept
            && entries.len() + more.len() > PAGES_IN_MEMORY * ENTRIES_PER_PAGE as usize
        {
            let file = tempfile::tempfile()?;
            file.write_all_at(&to_bytes(entries), 0)?;
            self.kept = Kept::File(file, 0);
        }
        match &mut self.kept {
            Kept::Memory(entries) => entries.extend_from_slice(more),
            Kept::File(file, offset) => {
                file.write_all_at(&to_bytes(more), *offset + u64::from(self.len) * Entry::BYTES as u64)?;
            }
        }
        self.len += u32::try_from(more.len()).expect("at most a page");
        self.last = more.last().map_or(self.last, |entry| entry.state);
        Ok(())
    }

    /// Keeps only the first so many.
    pub(super) fn truncate(&mut self, len: u32) -> io::Result<()> {
        self.last = self.state_after(len.min(self.len))?;
        self.len = len.min(self.len);
        match &mut self.kept {
            Kept::Memory(entries) => entries.truncate(len as usize),
            Kept::File(file, offset) => {
                file.set_len(*offset + u64::from(self.len) * Entry::BYTES as u64)?;
            }
        }
        Ok(())
    }

    /// The entries of a page, as they travel; as many as there are of it.
    pub(super) fn page(&self, page: u32) -> io::Result<Vec<u8>> {
        let start = page.saturating_mul(ENTRIES_PER_PAGE).min(self.len);
        let count = (self.len - start).min(ENTRIES_PER_PAGE) as usize;
        match &self.kept {
            Kept::Memory(entries) => Ok(to_bytes(&entries[start as usize..][..count])),
            Kept::File(file, offset) => {
                let mut bytes = vec![0; count * Entry::BYTES];
                file.read_exact_at(&mut bytes, offset + u64::from(start) * Entry::BYTES as u64)?;
                Ok(bytes)
            }
        }
    }

    /// All entries in order, page by page.
    pub(super) fn for_each(&self, mut with: impl FnMut(Entry)) -> io::Result<()> {
        for page in 0..self.len.div_ceil(ENTRIES_PER_PAGE) {
            self.page(page)?.as_chunks().0.iter().map(Entry::from_bytes).for_each(&mut with);
        }
        Ok(())
    }

    /// The head of the list of a file of that size and hash; `None` where it is not the whole list.
    pub(super) fn head(
        &self,
        size: u64,
        file_hash: crate::wire::FileHash,
    ) -> io::Result<Option<ManifestHead>> {
        let Ok(mut builder) = ManifestBuilder::new(size) else { return Ok(None) };
        let mut fits = true;
        self.for_each(|entry| {
            let pushed: Result<Option<Page>, _> = builder.push(entry);
            fits &= pushed.is_ok();
        })?;
        Ok(if fits { builder.finish(file_hash).ok() } else { None })
    }
}

fn to_bytes(entries: &[Entry]) -> Vec<u8> {
    entries.iter().flat_map(|entry| entry.to_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ChunkHash;

    fn entry(number: u32) -> Entry {
        let mut bytes = [7; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        Entry { hash: ChunkHash(bytes), state: State(bytes) }
    }

    #[test]
    fn a_list_is_the_same_in_memory_and_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        let file =
            File::options().read(true).write(true).create_new(true).open(dir.path().join("list")).unwrap();
        let mut lists = [EntryList::new(), EntryList::in_file(file, 100)];
        for list in &mut lists {
            for number in 0..20_000 {
                list.extend(&[entry(number)]).unwrap();
            }
            assert_eq!(list.get(19_999).unwrap(), entry(19_999));
            assert_eq!(list.state_after(5).unwrap(), entry(4).state);
            assert_eq!(list.page(0).unwrap().len(), 65_536);
            assert_eq!(list.page(19).unwrap().len(), (20_000 - 19 * 1024) * 64);
            assert!(list.page(20).unwrap().is_empty());
            list.truncate(3).unwrap();
            assert_eq!((list.len(), list.state()), (3, entry(2).state));
            assert!(list.get(3).is_err());
        }
        assert!(matches!(lists[0].kept, Kept::File(..)), "a long list is not in memory");
    }
}
