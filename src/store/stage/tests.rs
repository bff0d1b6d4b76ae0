//! Directories from one disk to another, through [`Disk::run`], as the engine would have it done.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use crate::engine::{ChunkProof, Code, Failure, Incoming, Job, JobDone, Kept, TransferId};
use crate::store::Disk;
use crate::store::downloads::PARTIALS;
use crate::store::tests::{content, make_fifo, name};
use crate::wire::{
    CHUNK_SIZE, ChunkIndex, Geometry, ItemKind, ManifestHead, Modified, NodeId, Tree, TreeInfo, TreeItem,
};

const CHUNK: usize = CHUNK_SIZE as usize;
const ID: TransferId = TransferId(1);

/// A sender with a directory, and a receiver.
struct TestTree {
    root: TempDir,
    from: Disk,
    to: Disk,
    /// Whether a broken connection is all that lies between two attempts.
    goes_on: bool,
}

/// What came of a transfer.
#[derive(Debug)]
struct Arrived {
    path: PathBuf,
    /// Chunks that were moved.
    moved: u32,
    already: bool,
}

/// What there is at a path below a directory: kind, permissions to run it, time and content.
type Snapshot = BTreeMap<String, (char, bool, (i64, i64), Vec<u8>)>;

impl TestTree {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let to = Disk::new(root.path().join("downloads"), None);
        let from = Disk::new(root.path().join("unused"), None);
        fs::create_dir(root.path().join("dir")).unwrap();
        Self { root, from, to, goes_on: false }
    }

    /// The same with much in the directory: many small files, some that chunks divide, and all kinds.
    fn full() -> Self {
        let test = Self::new();
        for number in 0..300 {
            test.write(&format!("many/{}/{number}", number % 7), &content(number * 5, number as u64 + 1));
        }
        test.write("large", &content(5 * CHUNK + 77, 2));
        test.write("other/exact", &content(2 * CHUNK, 3));
        test.write("run", b"#!/bin/sh\n");
        fs::set_permissions(test.dir().join("run"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir_all(test.dir().join("empty/below")).unwrap();
        symlink("../large", test.dir().join("other/link")).unwrap();
        symlink("many", test.dir().join("to a directory")).unwrap();
        symlink("nowhere", test.dir().join("dangling")).unwrap();
        let long_ago = fs::FileTimes::new()
            .set_modified(std::time::UNIX_EPOCH + std::time::Duration::new(900_000_000, 123_456_789));
        for path in ["large", "many/3/10", "empty", "empty/below", "many/3"] {
            fs::File::open(test.dir().join(path)).unwrap().set_times(long_ago).unwrap();
        }
        test
    }

    fn dir(&self) -> PathBuf {
        self.root.path().join("dir")
    }

    fn downloads(&self) -> PathBuf {
        self.root.path().join("downloads")
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.dir().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// The receiving process is killed, and another begins.
    fn kill(&mut self) {
        self.to = Disk::new(self.downloads(), None);
    }

    fn open_source(&self) -> Result<(u64, TreeInfo, Option<String>), Failure> {
        match self.from.done(ID, Job::OpenSource(self.dir())) {
            JobDone::SourceOpened { size, tree: Some(tree), left_out, .. } => Ok((size, tree, left_out)),
            other => Err(failed(other)),
        }
    }

    fn hash(&self, until: u32) -> Result<Result<Arc<ManifestHead>, Kept>, Failure> {
        loop {
            match self.from.done(ID, Job::HashSource { until }) {
                JobDone::SourceHashed(head) => return Ok(Ok(head)),
                JobDone::SourceHashing { hashed } if hashed.chunks == until => return Ok(Err(hashed)),
                JobDone::SourceHashing { .. } => {}
                other => return Err(failed(other)),
            }
        }
    }

    /// Sends the directory, hashed before or on the way, and no more than so many chunks.
    fn send(&self, listed: bool, most: u32) -> Result<Option<Arrived>, Failure> {
        let (size, tree, _) = self.open_source()?;
        let chunks = Geometry::new(size).unwrap().chunks();
        let head = if listed { self.hash(chunks)?.ok() } else { None };
        let from = Some(NodeId([1; 32]));
        let mut incoming = Incoming {
            from,
            name: name("dir"),
            size,
            head: head.clone(),
            tree: Some(tree),
            goes_on: self.goes_on,
        };
        let (mut to_check, similar) = self.open(&incoming)?;
        let (mut head, mut listed) = (head, listed);
        if similar {
            // The list is wanted first.
            assert!(!listed && !to_check);
            head = self.hash(chunks)?.ok();
            incoming.head.clone_from(&head);
            listed = true;
            self.to.done(ID, Job::Release { keep: true });
            (to_check, _) = self.open(&incoming)?;
        }
        let mut receiver = Receiver { test: self, chunks, tree, stored: BTreeSet::new(), opened: false };
        if to_check {
            match receiver.check()? {
                Checked::Already(path) => {
                    self.to.done(ID, Job::Release { keep: false });
                    return Ok(Some(Arrived { path, moved: 0, already: true }));
                }
                Checked::Kept(kept) => receiver.compare(kept)?,
                Checked::Nothing => {}
            }
        }
        if let Some(head) = &head {
            receiver.take_pages(head)?;
        }
        let moved = receiver.pull(listed, most)?;
        if receiver.stored.len() < chunks as usize {
            return Ok(None);
        }
        let seal = self.hash(chunks)?.ok();
        let finish = Job::Finish { name: name("dir"), seal: seal.filter(|_| !listed) };
        match self.to.done(ID, finish) {
            JobDone::Finished { path, already, .. } => {
                self.from.done(ID, Job::Release { keep: false });
                assert_eq!(self.to.done(ID, Job::Release { keep: true }), JobDone::Released { left: None });
                Ok(Some(Arrived { path, moved, already }))
            }
            other => Err(failed(other)),
        }
    }

    fn open(&self, incoming: &Incoming) -> Result<(bool, bool), Failure> {
        match self.to.done(ID, Job::OpenPartial(Arc::new(incoming.clone()))) {
            JobDone::PartialOpened { to_check, similar, .. } => Ok((to_check, similar)),
            other => Err(failed(other)),
        }
    }

    #[track_caller]
    fn send_all(&self, listed: bool) -> Arrived {
        self.send(listed, u32::MAX).unwrap().expect("all of it may move")
    }

    fn names_in(&self, dir: PathBuf) -> Vec<String> {
        let Ok(dir) = fs::read_dir(dir) else { return Vec::new() };
        let mut names: Vec<_> = dir.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

enum Checked {
    Already(PathBuf),
    Kept(Kept),
    Nothing,
}

/// What the engine of the receiver does.
struct Receiver<'a> {
    test: &'a TestTree,
    chunks: u32,
    tree: TreeInfo,
    stored: BTreeSet<u32>,
    opened: bool,
}

impl Receiver<'_> {
    fn check(&self) -> Result<Checked, Failure> {
        loop {
            match self.test.to.done(ID, Job::CheckKept) {
                JobDone::KeptChecking { .. } => {}
                JobDone::KeptChecked(None) => return Ok(Checked::Nothing),
                JobDone::KeptChecked(Some(kept)) => return Ok(Checked::Kept(kept)),
                JobDone::AlreadyHere { path } => return Ok(Checked::Already(path)),
                other => return Err(failed(other)),
            }
        }
    }

    fn compare(&mut self, kept: Kept) -> Result<(), Failure> {
        let is_same = match self.test.hash(kept.chunks)? {
            Ok(head) => head.file_hash().0 == kept.state.0,
            Err(hashed) => hashed == kept,
        };
        if is_same {
            self.stored.extend(0..kept.chunks);
        } else {
            let again = self.test.to.done(ID, Job::StartOver);
            assert!(
                matches!(again, JobDone::PartialOpened { resumed: None, to_check: false, .. }),
                "{again:?}"
            );
        }
        Ok(())
    }

    fn take_pages(&mut self, head: &ManifestHead) -> Result<(), Failure> {
        for page in 0..head.pages() {
            let JobDone::PageRead { entries, .. } = self.test.from.done(ID, Job::ReadPage(page)) else {
                panic!("no page {page}");
            };
            match self.test.to.done(ID, Job::StorePage { page, entries }) {
                JobDone::PageStored { kept, .. } => self.take(&kept),
                other => return Err(failed(other)),
            }
        }
        Ok(())
    }

    fn take(&mut self, kept: &[ChunkIndex]) {
        self.stored.extend(kept.iter().map(|index| index.get()));
    }

    fn pull(&mut self, listed: bool, most: u32) -> Result<u32, Failure> {
        let mut moved = 0;
        let in_list = self.tree.list_bytes.div_ceil(CHUNK_SIZE);
        let geometry = Geometry::new(u64::from(self.chunks) * u64::from(CHUNK_SIZE)).unwrap();
        for raw in 0..=self.chunks {
            if raw >= in_list && !self.opened {
                self.open()?;
            }
            if raw == self.chunks || self.stored.contains(&raw) {
                continue;
            }
            if moved == most {
                return Ok(moved);
            }
            let index = geometry.index(raw.into()).unwrap();
            let (data, entry) = match self.test.from.done(ID, Job::ReadChunk(index)) {
                JobDone::ChunkRead { data, entry, .. } => (data, entry),
                other => return Err(failed(other)),
            };
            let by = if listed { ChunkProof::Page } else { ChunkProof::Entry(entry) };
            match self.test.to.done(ID, Job::StoreChunk { index, data, by }) {
                JobDone::ChunkStored(_) => self.stored.insert(raw),
                other => return Err(failed(other)),
            };
            moved += 1;
        }
        Ok(moved)
    }

    fn open(&mut self) -> Result<(), Failure> {
        while !self.opened {
            match self.test.to.done(ID, Job::OpenTree) {
                JobDone::TreeOpening { kept } => self.take(&kept),
                JobDone::TreeOpened { kept } => {
                    self.take(&kept);
                    self.opened = true;
                }
                other => return Err(failed(other)),
            }
        }
        Ok(())
    }
}

fn failed(done: JobDone) -> Failure {
    match done {
        JobDone::Failed(failure) => failure,
        other => panic!("it did not fail: {other:?}"),
    }
}

fn snapshot(dir: &Path) -> Snapshot {
    let mut found = Snapshot::new();
    let mut to_do = vec![PathBuf::new()];
    while let Some(below) = to_do.pop() {
        let path = dir.join(&below);
        let metadata = path.symlink_metadata().unwrap();
        let kind = metadata.file_type();
        let (letter, bytes) = if kind.is_symlink() {
            ('l', fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes())
        } else if kind.is_dir() {
            to_do.extend(fs::read_dir(&path).unwrap().map(|entry| below.join(entry.unwrap().file_name())));
            ('d', Vec::new())
        } else {
            ('f', fs::read(&path).unwrap())
        };
        let runs = letter == 'f' && metadata.mode() & 0o100 != 0;
        let times = (metadata.mtime(), metadata.mtime_nsec());
        found.insert(below.to_str().unwrap().to_owned(), (letter, runs, times, bytes));
    }
    found
}

#[test]
fn a_directory_arrives_with_all_that_is_in_it() {
    for listed in [false, true] {
        let test = TestTree::full();
        let arrived = test.send_all(listed);
        assert_eq!(arrived.path, test.downloads().join("dir"));
        assert!(snapshot(&arrived.path) == snapshot(&test.dir()), "listed: {listed}");
        assert_eq!(test.names_in(test.downloads()), ["dir"], "nothing else is left");
        assert!(!arrived.already);
    }
}

#[test]
fn directories_of_every_awkward_size_arrive() {
    for listed in [false, true] {
        for sizes in
            [&[][..], &[0], &[0, 0, 1], &[CHUNK - 100], &[CHUNK], &[3 * CHUNK, 0, 5], &[1, CHUNK - 1, 0]]
        {
            let test = TestTree::new();
            for (number, size) in sizes.iter().enumerate() {
                test.write(&format!("f{number}"), &content(*size, number as u64 + 1));
            }
            let arrived = test.send_all(listed);
            assert!(snapshot(&arrived.path) == snapshot(&test.dir()), "{sizes:?}, listed: {listed}");
        }
    }
    // The list ends exactly with a chunk, and with it all there is.
    let test = TestTree::new();
    let entry = |name: &str| 1 + 12 + 2 + name.len() + 8;
    let left = CHUNK - 27;
    let full = entry(&"x".repeat(200));
    for number in 0..left / full - 1 {
        test.write(&format!("{number:0200}"), b"");
    }
    let rest = left - (left / full - 1) * full;
    let (one, two) = (rest / 2, rest - rest / 2);
    test.write(&"y".repeat(one - entry("")), b"");
    test.write(&"z".repeat(two - entry("")), b"");
    assert_eq!(test.open_source().unwrap().1.list_bytes, CHUNK_SIZE);
    let arrived = test.send_all(false);
    assert!(snapshot(&arrived.path) == snapshot(&test.dir()));
    fs::remove_dir_all(&arrived.path).unwrap();
    test.write("more", &content(CHUNK, 3));
    fs::remove_file(test.dir().join(format!("{:0200}", 0))).unwrap();
    let arrived = test.send_all(true);
    assert!(snapshot(&arrived.path) == snapshot(&test.dir()));
}

#[test]
fn the_same_directory_in_place_is_not_received_again() {
    for listed in [false, true] {
        let test = TestTree::full();
        test.send_all(listed);
        let again = test.send_all(listed);
        assert!(again.already && again.moved == 0, "{again:?}");
        assert_eq!(test.names_in(test.downloads()), ["dir"]);
    }
}

#[test]
fn of_a_directory_that_changed_only_what_changed_is_received() {
    let test = TestTree::full();
    let all = test.send_all(true).moved;
    // The bytes behind this file all lie elsewhere than before.
    test.write("a new one", &content(1000, 9));
    test.write("many/5/12", &content(60, 99));
    let arrived = test.send_all(true);
    assert_eq!(arrived.path, test.downloads().join("dir (1)"));
    assert!(snapshot(&arrived.path) == snapshot(&test.dir()));
    // The list, and the chunks with the two files and what shares these with them.
    assert!(arrived.moved <= 3 && all >= 8, "{} of {all}", arrived.moved);
    assert_eq!(test.names_in(test.downloads()), ["dir", "dir (1)"]);
}

#[test]
fn a_similar_directory_that_lies_is_only_used_where_it_is_right() {
    let test = TestTree::full();
    // Same names and sizes, other bytes.
    test.write("large", &content(5 * CHUNK + 77, 50));
    test.send_all(true);
    test.write("large", &content(5 * CHUNK + 77, 2));
    for entry in ["many/1/8", "many/1/15"] {
        let _ = fs::remove_file(test.downloads().join("dir").join(entry));
        symlink("/etc/passwd", test.downloads().join("dir").join(entry)).unwrap();
    }
    let arrived = test.send_all(true);
    assert!(snapshot(&arrived.path) == snapshot(&test.dir()));
}

#[test]
fn a_killed_transfer_goes_on_where_it_was() {
    for listed in [false, true] {
        let all = TestTree::full().send_all(listed).moved;
        for killed_after in 0..all {
            let mut test = TestTree::full();
            assert!(test.send(listed, killed_after).unwrap().is_none());
            test.kill();
            let arrived = test.send_all(listed);
            assert!(
                snapshot(&arrived.path) == snapshot(&test.dir()),
                "listed: {listed}, after {killed_after}"
            );
            assert_eq!(arrived.moved, all - killed_after, "listed: {listed}, after {killed_after}");
            assert_eq!(test.names_in(test.downloads()), ["dir"]);
        }
    }
}

#[test]
fn after_a_broken_connection_the_beginning_is_compared_and_nothing_waits_for_a_list() {
    let all = TestTree::full().send_all(false).moved;
    for cut_after in 1..all {
        let mut test = TestTree::full();
        assert!(test.send(false, cut_after).unwrap().is_none());
        test.to.done(ID, Job::Release { keep: true });
        test.goes_on = true;
        let arrived = test.send_all(false);
        assert!(snapshot(&arrived.path) == snapshot(&test.dir()), "after {cut_after}");
        assert_eq!(arrived.moved, all - cut_after, "after {cut_after}");
    }
}

#[test]
fn what_a_killed_transfer_left_is_used_also_when_the_directory_has_changed() {
    let mut test = TestTree::full();
    assert!(test.send(false, 7).unwrap().is_none());
    test.kill();
    // One is only touched, one has another size.
    fs::File::open(test.dir().join("run")).unwrap().set_modified(std::time::SystemTime::now()).unwrap();
    test.write("large", &content(5 * CHUNK + 99, 2));
    test.write("zzz", b"at the end");
    let arrived = test.send_all(false);
    assert!(snapshot(&arrived.path) == snapshot(&test.dir()));
    assert!(arrived.moved <= 4, "{arrived:?}");
    assert_eq!(test.names_in(test.downloads()), ["dir"]);
}

#[test]
fn a_time_that_differs_costs_the_chunks_of_the_list_alone() {
    for listed in [false, true] {
        let test = TestTree::full();
        test.send_all(listed);
        let file = fs::File::open(test.dir().join("large")).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(5)).unwrap();
        let arrived = test.send_all(listed);
        assert!(snapshot(&arrived.path) == snapshot(&test.dir()));
        assert_eq!(arrived.moved, 1, "listed: {listed}");
    }
}

#[test]
fn one_who_is_killed_right_after_the_end_has_the_directory() {
    let mut test = TestTree::full();
    assert!(test.send(true, 5).unwrap().is_none());
    test.kill();
    let partials = test.downloads().join(PARTIALS);
    let kept: Vec<_> = test
        .names_in(partials.clone())
        .into_iter()
        .filter(|name| !name.ends_with(".tree"))
        .map(|name| (name.clone(), fs::read(partials.join(name)).unwrap()))
        .collect();
    test.send_all(true);
    // The rename was done, and what it leaves was not removed.
    fs::create_dir(&partials).unwrap();
    for (name, bytes) in kept {
        fs::write(partials.join(name), bytes).unwrap();
    }
    let again = test.send_all(true);
    assert!(again.already, "{again:?}");
    assert_eq!(test.names_in(test.downloads()), ["dir"]);
}

#[test]
fn nothing_is_written_to_a_file_that_has_another_name() {
    for victim in ["b", "empty"] {
        let test = TestTree::new();
        test.write("a", &content(2 * CHUNK, 1));
        test.write("b", &content(2 * CHUNK, 2));
        test.write("empty", b"");
        let outside = test.root.path().join("outside");
        fs::write(&outside, "mine").unwrap();
        assert!(test.send(false, 1).unwrap().is_none());
        let partials = test.downloads().join(PARTIALS);
        let stage = test.names_in(partials.clone()).into_iter().find(|name| name.ends_with(".tree")).unwrap();
        fs::hard_link(&outside, partials.join(stage).join(victim)).unwrap();
        let geometry = Geometry::new(5 * CHUNK as u64).unwrap();
        for index in geometry.indices().skip(1) {
            let JobDone::ChunkRead { data, entry, .. } = test.from.done(ID, Job::ReadChunk(index)) else {
                panic!("the source is whole");
            };
            let by = ChunkProof::Entry(entry);
            test.to.done(ID, Job::StoreChunk { index, data, by });
        }
        let seal = test.hash(5).unwrap().ok();
        let failure = failed(test.to.done(ID, Job::Finish { name: name("dir"), seal }));
        assert_eq!(failure.code, Code::DiskError);
        assert_eq!(fs::read_to_string(&outside).unwrap(), "mine", "{victim}");
    }
}

#[test]
fn what_another_program_does_to_it_meanwhile_is_no_whole_directory() {
    type Meddle = fn(&Path);
    let meddlings: [Meddle; 4] = [
        |file| fs::write(file, "shorter").unwrap(),
        |file| fs::remove_file(file).unwrap(),
        |file| {
            fs::remove_file(file).unwrap();
            fs::create_dir(file).unwrap();
        },
        |file| {
            fs::remove_file(file).unwrap();
            symlink("/etc/passwd", file).unwrap();
        },
    ];
    for meddle in meddlings {
        let test = TestTree::new();
        test.write("a", &content(CHUNK, 1));
        test.write("b", &content(CHUNK, 2));
        // All but the last chunk, which has the end of `b`.
        assert!(test.send(false, 2).unwrap().is_none());
        let partials = test.downloads().join(PARTIALS);
        let stage = test.names_in(partials.clone()).into_iter().find(|name| name.ends_with(".tree")).unwrap();
        meddle(&partials.join(stage).join("a"));
        let index = Geometry::new(3 * CHUNK as u64).unwrap().index(2).unwrap();
        let JobDone::ChunkRead { data, entry, .. } = test.from.done(ID, Job::ReadChunk(index)) else {
            panic!("the source is whole");
        };
        let stored = test.to.done(ID, Job::StoreChunk { index, data, by: ChunkProof::Entry(entry) });
        assert!(matches!(stored, JobDone::ChunkStored(_)), "{stored:?}");
        let seal = test.hash(3).unwrap().ok();
        let failure = failed(test.to.done(ID, Job::Finish { name: name("dir"), seal }));
        assert_eq!(failure.code, Code::DiskError, "{failure}");
        assert!(!test.downloads().join("dir").exists());
    }
}

#[test]
fn what_a_killed_transfer_left_is_not_believed() {
    for listed in [false, true] {
        let mut test = TestTree::full();
        assert!(test.send(listed, 5).unwrap().is_none());
        test.kill();
        let partials = test.downloads().join(PARTIALS);
        let stage = test.names_in(partials.clone()).into_iter().find(|name| name.ends_with(".tree")).unwrap();
        let stage = partials.join(stage);
        let mut bytes = fs::read(stage.join("large")).unwrap();
        bytes[CHUNK + 5] ^= 1;
        fs::write(stage.join("large"), bytes).unwrap();
        // What is not in the list does not arrive, nor what is of another kind.
        fs::write(stage.join("planted"), "x").unwrap();
        fs::create_dir(stage.join("run")).unwrap();
        fs::write(stage.join("run/below"), "x").unwrap();
        fs::remove_dir_all(stage.join("many")).unwrap();
        symlink(test.root.path(), stage.join("many")).unwrap();
        let arrived = test.send_all(listed);
        assert!(snapshot(&arrived.path) == snapshot(&test.dir()), "listed: {listed}");
        assert_eq!(test.names_in(test.root.path().to_owned()), ["dir", "downloads"]);
    }
}

#[test]
fn nothing_is_written_through_a_link_that_is_swapped_in() {
    let test = TestTree::new();
    for number in 0..9 {
        test.write(&format!("a/b/{number}"), &content(CHUNK, number + 1));
    }
    let outside = test.root.path().join("outside");
    fs::create_dir_all(outside.join("b")).unwrap();
    assert!(test.send(false, 3).unwrap().is_none());
    let partials = test.downloads().join(PARTIALS);
    let stage = test.names_in(partials.clone()).into_iter().find(|name| name.ends_with(".tree")).unwrap();
    let a = partials.join(stage).join("a");
    fs::rename(&a, test.root.path().join("moved")).unwrap();
    symlink(&outside, &a).unwrap();
    // A new transfer takes another partial file, as the old one is locked.
    let geometry = Geometry::new(10 * CHUNK as u64).unwrap();
    let mut results = Vec::new();
    for raw in 3..9 {
        let index = geometry.index(raw).unwrap();
        let JobDone::ChunkRead { data, entry, .. } = test.from.done(ID, Job::ReadChunk(index)) else {
            panic!("the source is whole");
        };
        let by = ChunkProof::Entry(entry);
        results.push(test.to.done(ID, Job::StoreChunk { index, data, by }));
    }
    assert!(listing_is_empty(&outside.join("b")), "{results:?}");
    let failure =
        failed(test.to.done(ID, Job::Finish { name: name("dir"), seal: test.hash(10).unwrap().ok() }));
    assert_eq!(failure.code, Code::DiskError);
    assert!(listing_is_empty(&outside.join("b")));
    assert!(!test.downloads().join("dir").exists());
}

fn listing_is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).unwrap().next().is_none()
}

/// A receiver that is offered these bytes as a directory.
fn offered(list: &[u8], said: TreeInfo, content_bytes: u64) -> Failure {
    let test = TestTree::new();
    let size = list.len() as u64 + content_bytes;
    let mut bytes = list.to_vec();
    bytes.resize(usize::try_from(size).unwrap(), 0);
    fs::write(test.root.path().join("file"), &bytes).unwrap();
    let opened = test.from.done(ID, Job::OpenSource(test.root.path().join("file")));
    assert!(matches!(opened, JobDone::SourceOpened { tree: None, .. }));
    let from = Some(NodeId([1; 32]));
    let incoming = Incoming { from, name: name("dir"), size, head: None, tree: Some(said), goes_on: false };
    test.to.done(ID, Job::OpenPartial(Arc::new(incoming)));
    let chunks = Geometry::new(size).unwrap().chunks();
    let mut receiver = Receiver { test: &test, chunks, tree: said, stored: BTreeSet::new(), opened: false };
    let failure = receiver.pull(false, u32::MAX).unwrap_err();
    assert!(!test.names_in(test.downloads().join(PARTIALS)).iter().any(|name| name.ends_with(".tree")));
    test.to.done(ID, Job::Release { keep: false });
    assert!(test.names_in(test.downloads()).is_empty(), "nothing of it is left");
    failure
}

#[test]
fn a_list_that_must_not_be_followed_is_refused_whole() {
    let mut items = vec![TreeItem {
        path: "f".to_owned(),
        modified: Modified::default(),
        kind: ItemKind::File { size: 10, is_executable: false },
    }];
    let (tree, _) = Tree::of(Modified::default(), &mut items).unwrap();
    let (list, said) = (tree.as_bytes(), tree.info());
    let mut leads_out = list.to_vec();
    let at = leads_out.iter().position(|byte| *byte == b'f').unwrap() + 15;
    leads_out[at] = b'/';
    assert_eq!(offered(&leads_out, said, 10).code, Code::BadTree);
    for said in [
        TreeInfo { list_bytes: said.list_bytes - 1, ..said },
        TreeInfo { list_bytes: said.list_bytes + 1, ..said },
        TreeInfo { list_bytes: 0, ..said },
        TreeInfo { files: 2, ..said },
    ] {
        let failure = offered(list, said, 10);
        assert_eq!(failure.code, Code::BadTree, "{said:?}");
        assert!(failure.message.contains("refused"), "{failure}");
    }
    assert_eq!(offered(list, said, 9).code, Code::BadTree, "less than the list says");
    assert_eq!(offered(list, said, 11).code, Code::BadTree, "more than the list says");
    assert_eq!(offered(&[0; 100], TreeInfo { list_bytes: 100, files: 0 }, 0).code, Code::BadTree);
}

#[test]
fn what_changes_while_it_is_sent_is_noticed() {
    type Change = fn(&TestTree);
    let changes: [Change; 5] = [
        |test| test.write("large", &content(5 * CHUNK + 77, 8)),
        |test| test.write("other/exact", b"shorter"),
        |test| fs::remove_file(test.dir().join("other/exact")).unwrap(),
        |test| {
            fs::rename(test.dir().join("other"), test.root.path().join("elsewhere")).unwrap();
            symlink("../elsewhere", test.dir().join("other")).unwrap();
        },
        |test| {
            fs::remove_file(test.dir().join("other/exact")).unwrap();
            symlink(test.dir().join("large"), test.dir().join("other/exact")).unwrap();
        },
    ];
    for (number, change) in changes.iter().enumerate() {
        for listed in [false, true] {
            let test = TestTree::full();
            // The first chunks have the list and a part of `large`.
            assert!(test.send(listed, 2).unwrap().is_none());
            change(&test);
            let geometry = Geometry::new(9 * CHUNK as u64).unwrap();
            let rest = geometry.indices().skip(2).map(|index| test.from.done(ID, Job::ReadChunk(index)));
            let failure = rest.map(|done| match done {
                JobDone::Failed(failure) => Some(failure),
                _ => None,
            });
            let failure = failure.flatten().next().expect("a change is noticed");
            assert_eq!(failure.code, Code::SourceChanged, "{number}: {failure}");
        }
    }
}

#[test]
fn what_cannot_be_sent_is_left_out_and_named_or_refused() {
    let test = TestTree::new();
    test.write("file", b"x");
    make_fifo(&test.dir().join("fifo"));
    symlink("/etc/passwd", test.dir().join("out")).unwrap();
    symlink("../dir/file", test.dir().join("out and in")).unwrap();
    let (_, tree, left_out) = test.open_source().unwrap();
    assert_eq!(tree.files, 1);
    let left_out = left_out.unwrap();
    for named in ["3 things", "`fifo`", "`out`", "`out and in`"] {
        assert!(left_out.contains(named), "{left_out}");
    }
    let arrived = test.send_all(false);
    assert_eq!(snapshot(&arrived.path).len(), 2);

    test.write("FILE", b"x");
    let failure = test.open_source().unwrap_err();
    assert_eq!(failure.code, Code::BadName, "{failure}");
    assert!(failure.message.contains("upper and lower case"), "{failure}");
    fs::remove_file(test.dir().join("FILE")).unwrap();
    test.write("bell\u{7}", b"x");
    assert_eq!(test.open_source().unwrap_err().code, Code::BadName);
    fs::remove_file(test.dir().join("bell\u{7}")).unwrap();
    let mut deep = test.dir();
    for _ in 0..140 {
        deep = deep.join("d");
        fs::create_dir(&deep).unwrap();
    }
    assert_eq!(test.open_source().unwrap_err().code, Code::TooLarge);
}

#[test]
fn what_is_given_up_leaves_nothing() {
    let mut test = TestTree::full();
    assert!(test.send(false, 6).unwrap().is_none());
    let JobDone::Released { left: Some(left) } = test.to.done(ID, Job::Release { keep: true }) else {
        panic!("a part of it stays");
    };
    assert!(left.is_directory && left.bytes > 5 * CHUNK as u64, "{left:?}");
    test.kill();
    let partials = Job::ListPartials { unused_for: std::time::Duration::from_secs(3600) };
    let JobDone::Partials(listed) = test.to.done(ID, partials.clone()) else { panic!("they are listed") };
    assert_eq!(listed.len(), 1);
    assert!(listed[0].is_directory && listed[0].bytes > 5 * CHUNK as u64, "{listed:?}");
    assert_eq!(test.to.done(ID, Job::DiscardPartial(listed[0].key.clone())), JobDone::Discarded);
    assert!(test.names_in(test.downloads()).is_empty());

    // One who is killed while that is removed leaves a stage without its file.
    assert!(test.send(false, 6).unwrap().is_none());
    test.kill();
    let dir = test.downloads().join(PARTIALS);
    for name in test.names_in(dir.clone()).iter().filter(|name| !name.ends_with(".tree")) {
        fs::remove_file(dir.join(name)).unwrap();
    }
    assert_eq!(test.to.done(ID, partials), JobDone::Partials(Vec::new()));
    assert!(test.names_in(test.downloads()).is_empty());
}
