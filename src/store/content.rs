//! Where the bytes of what is received lie until it is whole.
//!
//! A file lies in its partial file. Of a directory the partial file has the first chunks, as many as its
//! list reaches into; what follows lies in the files of its [`Stage`], once the list was read.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::claim::stage_name;
use super::downloads::Downloads;
use super::failure::cannot;
use super::held::lock;
use super::stage::{Stage, similar};
use crate::engine::{Code, Failure, Incoming};
use crate::wire::{CHUNK_SIZE, Tree, TreeInfo};

/// The bytes of what is received.
pub(super) struct Content {
    file: File,
    size: u64,
    /// Of a directory.
    tree: Option<TreeInfo>,
    stage: Mutex<Option<Arc<Stage>>>,
}

/// Chunks that the list of a directory reaches into.
pub(super) fn list_chunks(tree: TreeInfo) -> u32 {
    tree.list_bytes.div_ceil(CHUNK_SIZE)
}

impl Content {
    pub(super) fn new(file: File, incoming: &Incoming) -> Self {
        Self { file, size: incoming.size, tree: incoming.tree, stage: Mutex::default() }
    }

    /// Bytes that lie in the partial file.
    pub(super) fn in_file(&self) -> u64 {
        let list = |tree| (u64::from(list_chunks(tree)) * u64::from(CHUNK_SIZE)).min(self.size);
        self.tree.map_or(self.size, list)
    }

    fn lies_in_file(&self, offset: u64) -> bool {
        self.tree.is_none() || offset < self.in_file()
    }

    /// Where the files of a directory lie.
    pub(super) fn stage(&self) -> Option<Arc<Stage>> {
        lock(&self.stage).clone()
    }

    fn stage_or_error(&self) -> io::Result<Arc<Stage>> {
        self.stage().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Reads bytes that do not lie on both sides of [`Content::in_file`].
    pub(super) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if self.lies_in_file(offset) {
            return self.file.read_exact_at(buffer, offset);
        }
        self.stage_or_error()?.read_exact_at(buffer, offset)
    }

    /// Writes such bytes.
    pub(super) fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        if self.lies_in_file(offset) {
            return self.file.write_all_at(data, offset);
        }
        self.stage_or_error()?.write_all_at(data, offset)
    }

    /// Whether there is nothing but a hole there, as far as that is quickly told.
    pub(super) fn is_hole(&self, offset: u64, length: usize) -> bool {
        if !self.lies_in_file(offset) {
            return self.stage().is_none();
        }
        match rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Data(offset)) {
            Ok(data) => data >= offset + length as u64,
            Err(rustix::io::Errno::NXIO) => true,
            // Where holes are not known, there are none.
            Err(_) => false,
        }
    }

    /// Cuts off what lies behind. The files of a stage are written over instead.
    pub(super) fn cut(&self, length: u64) -> io::Result<()> {
        if length < self.in_file() {
            *lock(&self.stage) = None;
        }
        let in_file = self.file.metadata()?.len().min(self.in_file());
        self.file.set_len(in_file.min(length))
    }

    /// Whether as much is there as there should be.
    pub(super) fn is_whole(&self) -> io::Result<bool> {
        Ok(self.file.metadata()?.len() == self.in_file())
    }

    /// Reads the list of a directory, whose chunks are there, and opens the stage for its files.
    pub(super) fn open_stage(
        &self,
        downloads: &Path,
        partial: &str,
        incoming: &Incoming,
    ) -> Result<Arc<Stage>, Failure> {
        let mut stage = lock(&self.stage);
        if let Some(stage) = &*stage {
            return Ok(stage.clone());
        }
        let info = self.tree.unwrap_or(TreeInfo { list_bytes: 0, files: 0 });
        let mut list = vec![0; info.list_bytes as usize];
        self.file.read_exact_at(&mut list, 0).map_err(|error| cannot("read the partial file back", error))?;
        let refused = |why: &str| {
            Failure::new(Code::BadTree, format!("the directory \"{}\" was refused: {why}", incoming.name))
        };
        let tree = Tree::decode(list).map_err(|error| refused(&error.to_string()))?;
        if tree.size() != self.size || tree.info() != info {
            return Err(refused("its list is not the one that was offered"));
        }
        let opened = Downloads::open(downloads)
            .and_then(|downloads| downloads.open_partials())
            .map_err(|errno| cannot("open the directory of partial files", errno))?;
        let below = similar(downloads, incoming.name.as_str());
        let new = Arc::new(Stage::open(&opened, stage_name(partial), tree, below)?);
        *stage = Some(new.clone());
        Ok(new)
    }

    /// Everything is prepared: what the chunks of the list have of the first files goes to these.
    pub(super) fn move_beginning(&self, stage: &Stage) -> io::Result<()> {
        let list = stage.tree().as_bytes().len() as u64;
        let mut beginning = vec![0; usize::try_from(self.in_file() - list).expect("less than a chunk")];
        self.file.read_exact_at(&mut beginning, list)?;
        stage.write_all_at(&beginning, list)
    }
}
