//! Receiving, through [`Disk::run`], in a real directory. Two disks on one directory behave as two
//! processes do, because locks belong to open files and not to processes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::downloads::PARTIALS;
use super::*;
use crate::engine::{ChunkProof, Code};
use crate::wire::{CHUNK_SIZE, ChunkHash, Digested, FileHash, Geometry, ManifestBuilder, State};

impl Disk {
    /// Does a job, however long it takes.
    pub(super) fn done(&self, transfer: TransferId, job: Job) -> JobDone {
        self.run(transfer, job).0
    }
}

const CHUNK: usize = CHUNK_SIZE as usize;
const ONE: TransferId = TransferId(1);
const TWO: TransferId = TransferId(2);

/// A disk with a downloads directory that is not there yet, beside which nothing else stands.
struct TestDisk {
    disk: Disk,
    root: TempDir,
}

impl TestDisk {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        Self { disk: Disk::new(root.path().join("downloads"), None), root }
    }

    /// The same, with the directory there.
    fn with_downloads() -> Self {
        let test = Self::new();
        fs::create_dir(test.downloads()).unwrap();
        test
    }

    fn downloads(&self) -> PathBuf {
        self.root.path().join("downloads")
    }

    fn partial(&self, content: &[u8]) -> PathBuf {
        self.downloads().join(PARTIALS).join(manifest(content).file_hash().to_string())
    }

    fn create(&self, transfer: TransferId, content: &[u8]) {
        assert_eq!(self.disk.done(transfer, Job::CreatePartial(manifest(content))), JobDone::PartialCreated);
    }

    fn store(&self, transfer: TransferId, content: &[u8], raw: u32) {
        let (index, data) = chunk(content, raw);
        assert_eq!(
            self.disk.done(transfer, Job::StoreChunk { index, data, by: ChunkProof::Offer }),
            JobDone::ChunkStored(index)
        );
    }

    fn store_all(&self, transfer: TransferId, content: &[u8]) {
        for index in manifest(content).geometry().indices() {
            self.store(transfer, content, index.get());
        }
    }

    fn finish(&self, transfer: TransferId, called: &str) -> PathBuf {
        match self.disk.done(transfer, Job::Finish { name: name(called), seal: None }) {
            JobDone::Finished { path, file_hash, already: false } => {
                assert_eq!(file_hash.0[..], Sha256::digest(fs::read(&path).unwrap())[..]);
                path
            }
            other => panic!("{other:?}"),
        }
    }

    fn release(&self, transfer: TransferId) {
        assert_eq!(self.disk.done(transfer, Job::Release { keep: false }), JobDone::Released { left: None });
    }

    fn fail(&self, transfer: TransferId, job: Job) -> Failure {
        failure(self.disk.done(transfer, job))
    }

    /// A whole transfer.
    fn receive(&self, transfer: TransferId, content: &[u8], called: &str) -> PathBuf {
        self.create(transfer, content);
        self.store_all(transfer, content);
        self.finish(transfer, called)
    }

    /// Everything in the downloads directory.
    fn listing(&self) -> Vec<String> {
        listing(&self.downloads())
    }
}

/// Bytes that look random, others for each seed.
pub(in crate::store) fn content(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

pub(in crate::store) fn manifest(content: &[u8]) -> Manifest {
    let chunks = content.chunks(CHUNK).map(|chunk| ChunkHash(Sha256::digest(chunk).into())).collect();
    Manifest::new(content.len() as u64, FileHash(Sha256::digest(content).into()), chunks).unwrap()
}

/// The list of a file's chunks.
pub(in crate::store) fn entries(content: &[u8]) -> Vec<Entry> {
    let mut state = State::INITIAL;
    let entry_of = |chunk: &[u8]| {
        let entry = Digested::of(state, chunk).entry();
        state = entry.state;
        entry
    };
    content.chunks(CHUNK).map(entry_of).collect()
}

pub(in crate::store) fn head(content: &[u8]) -> Arc<ManifestHead> {
    let mut builder = ManifestBuilder::new(content.len() as u64).unwrap();
    for entry in entries(content) {
        builder.push(entry).unwrap();
    }
    Arc::new(builder.finish(FileHash(Sha256::digest(content).into())).unwrap())
}

pub(in crate::store) fn index(raw: u32) -> ChunkIndex {
    Geometry::new(u64::from(u32::MAX) * CHUNK as u64).unwrap().index(raw.into()).unwrap()
}

pub(in crate::store) fn chunk(content: &[u8], raw: u32) -> (ChunkIndex, ChunkData) {
    let bytes = content.chunks(CHUNK).nth(raw as usize).unwrap();
    (index(raw), ChunkData(bytes.to_vec().into()))
}

pub(in crate::store) fn name(name: &str) -> SafeName {
    SafeName::new(name).unwrap()
}

pub(in crate::store) fn failure(done: JobDone) -> Failure {
    match done {
        JobDone::Failed(failure) => {
            assert!(!failure.message.contains('\n'), "one line: {failure}");
            failure
        }
        other => panic!("it did not fail: {other:?}"),
    }
}

/// All paths below `dir`, in order, and none where it is not there.
pub(in crate::store) fn listing(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() && !path.is_symlink() {
            found.extend(listing(&path).into_iter().map(|below| format!("{name}/{below}")));
        }
        found.push(name);
    }
    found.sort();
    found
}

pub(in crate::store) fn make_fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn files_of_every_awkward_size_arrive_whole_in_any_order() {
    for (seed, size) in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 7 * CHUNK + 5].into_iter().enumerate() {
        let test = TestDisk::new();
        let content = content(size, seed as u64);
        test.create(ONE, &content);
        let chunks = manifest(&content).geometry().chunks();
        for raw in (0..chunks).map(|raw| (raw * 5 + 3) % chunks.max(1)) {
            test.store(ONE, &content, raw);
        }
        let path = test.finish(ONE, "a file");
        assert_eq!(path, test.downloads().join("a file"));
        assert_eq!(fs::read(path).unwrap(), content, "{size}");
        assert_eq!(test.listing(), ["a file"], "{size}: nothing else is left");
    }
}

#[test]
fn a_long_gap_that_closes_last_is_hashed_to_the_end() {
    let test = TestDisk::new();
    let content = content(40 * CHUNK + 1, 1);
    test.create(ONE, &content);
    for raw in (0..41).rev() {
        test.store(ONE, &content, raw);
    }
    assert_eq!(fs::read(test.finish(ONE, "f")).unwrap(), content);
}

#[test]
fn nothing_is_made_before_it_is_needed() {
    let test = TestDisk::new();
    test.disk.done(ONE, Job::FreeSpace);
    test.release(ONE);
    assert!(!test.downloads().exists());
}

#[test]
fn a_wrong_chunk_is_not_written_and_comes_back_with_its_digest() {
    let test = TestDisk::new();
    let content = content(2 * CHUNK + 10, 1);
    test.create(ONE, &content);
    let mut spoilt = content.clone();
    spoilt[CHUNK + 5] ^= 1;
    let shown = |raw: u32, bytes: &[u8]| (index(raw), ChunkData(bytes.to_vec().into()));
    for (index, data) in [
        chunk(&spoilt, 1),
        shown(1, &content[CHUNK..2 * CHUNK - 1]),
        shown(1, &content[CHUNK..2 * CHUNK + 1]),
        shown(0, &content[CHUNK..2 * CHUNK]),
        shown(2, &[]),
        shown(3, &content[2 * CHUNK..]),
        shown(u32::MAX - 1, b"far outside"),
    ] {
        let actual = ChunkHash(Sha256::digest(&data.0).into());
        let done = test.disk.done(ONE, Job::StoreChunk { index, data: data.clone(), by: ChunkProof::Offer });
        assert_eq!(done, JobDone::ChunkReturned { index, data, actual });
    }
    assert_eq!(fs::read(test.partial(&content)).unwrap(), b"", "nothing was written");
    test.store_all(ONE, &content);
    assert_eq!(fs::read(test.finish(ONE, "f")).unwrap(), content);
}

#[test]
fn a_chunk_that_is_there_comes_back_and_is_not_written_again() {
    let test = TestDisk::new();
    let content = content(2 * CHUNK, 1);
    test.create(ONE, &content);
    test.store(ONE, &content, 1);
    fs::write(test.partial(&content), b"").unwrap();
    let (index, data) = chunk(&content, 1);
    let actual = ChunkHash(Sha256::digest(&data.0).into());
    let done = test.disk.done(ONE, Job::StoreChunk { index, data: data.clone(), by: ChunkProof::Offer });
    assert_eq!(done, JobDone::ChunkReturned { index, data, actual }, "another file may share it");
    assert_eq!(fs::read(test.partial(&content)).unwrap(), b"", "the second was not written");
}

#[test]
fn a_file_whose_own_hash_is_wrong_gets_no_name_though_all_chunks_are_right() {
    let test = TestDisk::with_downloads();
    let content = content(3 * CHUNK, 1);
    let chunks = content.chunks(CHUNK).map(|chunk| ChunkHash(Sha256::digest(chunk).into())).collect();
    let lying = Manifest::new(content.len() as u64, FileHash([7; 32]), chunks).unwrap();
    assert_eq!(test.disk.done(ONE, Job::CreatePartial(lying)), JobDone::PartialCreated);
    test.store_all(ONE, &content);
    for _ in 0..2 {
        let failure = test.fail(ONE, Job::Finish { name: name("f"), seal: None });
        assert_eq!(failure.code, Code::HashMismatch, "{failure}");
    }
    assert!(!test.downloads().join("f").exists());
    test.release(ONE);
    assert!(test.listing().is_empty());
}

#[test]
fn a_file_with_missing_chunks_gets_no_name() {
    let test = TestDisk::new();
    let content = content(2 * CHUNK, 1);
    test.create(ONE, &content);
    test.store(ONE, &content, 0);
    test.fail(ONE, Job::Finish { name: name("f"), seal: None });
    assert!(!test.downloads().join("f").exists());
    test.store(ONE, &content, 1);
    assert_eq!(fs::read(test.finish(ONE, "f")).unwrap(), content);
}

#[test]
fn whatever_has_the_name_already_is_left_alone() {
    let test = TestDisk::with_downloads();
    let (downloads, outside) = (test.downloads(), test.root.path().join("outside"));
    fs::write(&outside, "outside").unwrap();
    fs::write(downloads.join("file"), "mine").unwrap();
    fs::write(downloads.join("empty"), "").unwrap();
    symlink(&outside, downloads.join("symlink")).unwrap();
    symlink(test.root.path().join("nowhere"), downloads.join("dangling")).unwrap();
    fs::create_dir(downloads.join("directory")).unwrap();
    make_fifo(&downloads.join("fifo"));
    let before = listing(test.root.path());
    for (number, taken) in
        ["file", "empty", "symlink", "dangling", "directory", "fifo"].into_iter().enumerate()
    {
        let content = content(100, number as u64);
        let path = test.receive(ONE, &content, taken);
        assert_eq!(path, downloads.join(format!("{taken} (1)")));
        assert!(path.symlink_metadata().unwrap().is_file());
        assert_eq!(fs::read(&path).unwrap(), content);
        fs::remove_file(path).unwrap();
    }
    assert_eq!(listing(test.root.path()), before);
    assert_eq!(fs::read(&outside).unwrap(), b"outside");
    assert_eq!(fs::read(downloads.join("file")).unwrap(), b"mine");
    assert_eq!(fs::read(downloads.join("empty")).unwrap(), b"");
}

#[test]
fn a_file_that_is_called_like_the_directory_of_partial_files_arrives_beside_it() {
    let test = TestDisk::new();
    let path = test.receive(ONE, b"x", PARTIALS);
    assert_eq!(fs::read(path).unwrap(), b"x");
    assert_eq!(test.listing(), [format!("{PARTIALS} (1)")]);
}

#[test]
fn two_files_of_one_name_both_arrive() {
    let test = TestDisk::new();
    let (a, b) = (content(CHUNK + 1, 1), content(CHUNK + 2, 2));
    test.create(ONE, &a);
    test.create(TWO, &b);
    test.store_all(TWO, &b);
    test.store_all(ONE, &a);
    assert_eq!(fs::read(test.finish(ONE, "r.pdf")).unwrap(), a);
    assert_eq!(fs::read(test.finish(TWO, "r.pdf")).unwrap(), b);
    assert_eq!(test.listing(), ["r (1).pdf", "r.pdf"]);
}

#[test]
fn two_transfers_of_one_content_share_no_partial_file() {
    let test = TestDisk::new();
    let other_process = Disk::new(test.downloads(), None);
    let content = content(2 * CHUNK, 1);
    test.create(ONE, &content);
    test.create(TWO, &content);
    assert_eq!(other_process.done(ONE, Job::CreatePartial(manifest(&content))), JobDone::PartialCreated);
    test.store(ONE, &content, 0);
    let files = fs::read_dir(test.downloads().join(PARTIALS)).unwrap();
    let mut lengths: Vec<_> = files.map(|file| file.unwrap().metadata().unwrap().len()).collect();
    lengths.sort_unstable();
    assert_eq!(lengths, [0, 0, CHUNK as u64], "each has its own");
    other_process.done(ONE, Job::Release { keep: false });
    test.store_all(TWO, &content);
    assert_eq!(fs::read(test.finish(TWO, "f")).unwrap(), content);
    test.store(ONE, &content, 1);
    assert_eq!(fs::read(test.finish(ONE, "f")).unwrap(), content);
    assert_eq!(test.listing(), ["f", "f (1)"]);
}

#[test]
fn what_a_killed_process_left_is_taken_over() {
    let test = TestDisk::new();
    let (long, content) = (content(5 * CHUNK, 1), content(2 * CHUNK, 2));
    fs::create_dir_all(test.downloads().join(PARTIALS)).unwrap();
    fs::write(test.partial(&content), long).unwrap();
    let path = test.receive(ONE, &content, "f");
    assert_eq!(fs::read(path).unwrap(), content);
    assert_eq!(test.listing(), ["f"]);
}

#[test]
fn partial_files_stay_when_the_disk_is_dropped_without_release() {
    let test = TestDisk::new();
    let content = content(CHUNK, 1);
    let quitting = Disk::new(test.downloads(), None);
    quitting.done(ONE, Job::CreatePartial(manifest(&content)));
    drop(quitting);
    assert!(test.partial(&content).is_file());
}

#[test]
fn what_stands_under_the_name_of_a_partial_file_is_not_written_through() {
    let content = content(2 * CHUNK, 1);
    let plants: [fn(&Path, &Path); 5] = [
        |victim, at| symlink(victim, at).unwrap(),
        |victim, at| symlink(victim.with_file_name("nowhere"), at).unwrap(),
        |victim, at| fs::hard_link(victim, at).unwrap(),
        |_, at| fs::create_dir(at).unwrap(),
        |_, at| make_fifo(at),
    ];
    for (number, plant) in plants.into_iter().enumerate() {
        let test = TestDisk::new();
        let victim = test.root.path().join("victim");
        fs::write(&victim, "untouched").unwrap();
        fs::create_dir_all(test.downloads().join(PARTIALS)).unwrap();
        plant(&victim, &test.partial(&content));
        let path = test.receive(ONE, &content, "f");
        assert_eq!(fs::read(&path).unwrap(), content, "plant {number}");
        assert!(path.symlink_metadata().unwrap().is_file(), "plant {number}");
        assert_eq!(fs::read(&victim).unwrap(), b"untouched", "plant {number}");
        assert!(!test.root.path().join("nowhere").exists(), "plant {number}");
    }
}

#[test]
fn a_directory_of_partial_files_that_is_none_is_refused_and_not_followed() {
    for kind in ["symlink", "dangling", "file", "fifo"] {
        let test = TestDisk::with_downloads();
        let (at, elsewhere) = (test.downloads().join(PARTIALS), test.root.path().join("elsewhere"));
        fs::create_dir(&elsewhere).unwrap();
        match kind {
            "symlink" => symlink(&elsewhere, &at).unwrap(),
            "dangling" => symlink(elsewhere.join("nowhere"), &at).unwrap(),
            "file" => fs::write(&at, "mine").unwrap(),
            _ => make_fifo(&at),
        }
        let failure = test.fail(ONE, Job::CreatePartial(manifest(b"x")));
        assert_eq!(failure.code, Code::DiskError, "{kind}");
        assert!(failure.message.contains(PARTIALS), "{failure}");
        test.release(ONE);
        assert!(at.symlink_metadata().is_ok(), "{kind} was removed");
        assert!(listing(&elsewhere).is_empty(), "{kind} was followed");
    }
}

#[test]
fn a_downloads_directory_that_cannot_be_one_is_named_in_a_clear_error() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    fs::write(at("file"), "mine").unwrap();
    symlink(at("nowhere"), at("dangling")).unwrap();
    symlink(at("loop"), at("loop")).unwrap();
    make_fifo(&at("fifo"));
    let before = listing(root.path());
    for (downloads, reason) in [
        (at("file"), "is not a directory"),
        (at("file").join("below"), "is not a directory"),
        (at("dangling"), "is a symlink to nothing"),
        (at("dangling").join("below"), "is a symlink to nothing"),
        (at("loop"), "is a symlink that cannot be followed"),
        (at("fifo"), "is not a directory"),
    ] {
        let disk = Disk::new(downloads.clone(), None);
        for job in [Job::FreeSpace, Job::CreatePartial(manifest(b"x"))] {
            let failure = failure(disk.done(ONE, job));
            assert_eq!(failure.code, Code::DiskError, "{failure}");
            assert!(failure.message.contains(reason), "{failure}");
            assert!(failure.message.contains("--downloads"), "it says what to do: {failure}");
        }
        assert_eq!(disk.done(ONE, Job::Release { keep: false }), JobDone::Released { left: None });
    }
    assert_eq!(listing(root.path()), before);
}

/// Nobody, not even root, can make anything in /proc.
#[test]
#[cfg(target_os = "linux")]
fn a_directory_that_cannot_be_written_fails_with_a_sentence() {
    for downloads in ["/proc/downloads", "/proc/self/fdinfo"] {
        let disk = Disk::new(downloads.into(), None);
        let failure = failure(disk.done(ONE, Job::CreatePartial(manifest(b"x"))));
        assert_eq!(failure.code, Code::DiskError, "{failure}");
        assert!(failure.message.contains(downloads), "{failure}");
    }
}

#[test]
fn the_downloads_directory_may_be_a_symlink() {
    let test = TestDisk::new();
    let real = test.root.path().join("real");
    fs::create_dir(&real).unwrap();
    symlink(&real, test.downloads()).unwrap();
    assert_eq!(test.receive(ONE, b"x", "f"), test.downloads().join("f"));
    assert_eq!(listing(&real), ["f"]);
}

#[test]
fn free_space_is_that_of_the_nearest_directory_there_is() {
    let test = TestDisk::new();
    let disk = Disk::new(test.downloads().join("not/yet/there"), None);
    let JobDone::FreeSpace { bytes } = disk.done(ONE, Job::FreeSpace) else { panic!() };
    assert!(bytes > 0);
    assert!(matches!(
        Disk::new("not/there".into(), None).done(ONE, Job::FreeSpace),
        JobDone::FreeSpace { .. }
    ));
}

#[test]
#[cfg(target_os = "linux")]
fn a_file_system_that_does_not_tell_its_free_space_has_enough() {
    assert_eq!(downloads::free_space(Path::new("/proc")), Ok(u64::MAX));
}

#[test]
fn a_file_that_does_not_fit_is_refused_with_both_sizes_and_leaves_nothing() {
    let mut test = TestDisk::with_downloads();
    test.disk.free_space = |_| Ok(1_100);
    let failure = test.fail(ONE, Job::CreatePartial(manifest(&[0; 3_200])));
    assert_eq!(failure.code, Code::NoSpace);
    assert!(failure.message.contains("needs 3.2 kB, 1.1 kB are free"), "{failure}");
    assert!(test.listing().is_empty());

    let failure = test.fail(ONE, Job::CreatePartial(manifest(&[0; 1_101])));
    assert!(failure.message.contains("needs 1101 bytes, 1100 bytes are free"), "{failure}");

    test.create(ONE, &[0; 1_100]);
}

#[test]
fn free_space_that_cannot_be_told_leaves_nothing_either() {
    let mut test = TestDisk::with_downloads();
    test.disk.free_space = |_| Err(Failure::new(Code::DiskError, "no idea"));
    assert_eq!(test.fail(ONE, Job::CreatePartial(manifest(b"x"))).message, "no idea");
    assert!(test.listing().is_empty());
}

#[test]
fn an_abandoned_partial_file_of_this_content_does_not_count_as_used_space() {
    let mut test = TestDisk::new();
    let content = content(CHUNK, 1);
    fs::create_dir_all(test.downloads().join(PARTIALS)).unwrap();
    fs::write(test.partial(&content), &content).unwrap();
    test.disk.free_space = |downloads| {
        let files = fs::read_dir(downloads.join(PARTIALS)).unwrap();
        let used: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
        Ok(CHUNK as u64 + 100 - used)
    };
    test.create(ONE, &content);
}

#[test]
fn a_full_disk_and_a_used_up_quota_are_no_space() {
    for errno in [rustix::io::Errno::NOSPC, rustix::io::Errno::DQUOT] {
        assert_eq!(failure::cannot("write", errno).code, Code::NoSpace);
    }
    assert_eq!(failure::cannot("write", rustix::io::Errno::IO).code, Code::DiskError);
}

#[test]
fn release_leaves_nothing_and_is_always_right() {
    let test = TestDisk::with_downloads();
    let content = content(2 * CHUNK, 1);
    test.release(ONE);
    test.create(ONE, &content);
    test.create(TWO, b"another");
    test.store(ONE, &content, 1);
    test.release(ONE);
    test.release(ONE);
    assert!(!test.partial(&content).exists());
    assert!(test.partial(b"another").exists(), "it is another's");
    test.release(TWO);
    assert!(test.listing().is_empty());
}

#[test]
fn release_after_finish_keeps_the_file() {
    let test = TestDisk::new();
    let path = test.receive(ONE, b"x", "f");
    test.release(ONE);
    assert_eq!(fs::read(path).unwrap(), b"x");
}

#[test]
fn release_removes_only_the_transfers_own_file() {
    let test = TestDisk::new();
    test.create(ONE, b"x");
    fs::remove_file(test.partial(b"x")).unwrap();
    fs::write(test.partial(b"x"), "somebody else's").unwrap();
    test.release(ONE);
    assert_eq!(fs::read(test.partial(b"x")).unwrap(), b"somebody else's");
}

#[test]
fn jobs_out_of_order_fail_and_do_not_panic() {
    let test = TestDisk::with_downloads();
    let (index, data) = chunk(b"x", 0);
    let store = Job::StoreChunk { index, data, by: ChunkProof::Offer };
    for job in [
        Job::HashSource { until: 1 },
        Job::ReadChunk(index),
        store,
        Job::Finish { name: name("f"), seal: None },
    ] {
        assert_eq!(test.fail(ONE, job).code, Code::DiskError);
    }
    test.create(ONE, b"x");
    test.fail(ONE, Job::CreatePartial(manifest(b"y")));
    test.release(ONE);
    assert!(test.listing().is_empty());
}

#[test]
fn a_panic_during_a_job_ends_nothing_else() {
    let test = TestDisk::new();
    test.create(ONE, b"x");
    let partial = test.disk.partials.get(ONE).unwrap();
    std::thread::scope(|scope| {
        let panics = scope.spawn(|| {
            let _held = partial.lock();
            panic!("on purpose");
        });
        assert!(panics.join().is_err());
    });
    test.store(ONE, b"x", 0);
    assert_eq!(fs::read(test.finish(ONE, "f")).unwrap(), b"x");
}

#[test]
fn a_downloads_directory_that_vanished_or_was_replaced_is_told() {
    for replaced in [false, true] {
        let test = TestDisk::new();
        test.create(ONE, b"x");
        test.store_all(ONE, b"x");
        fs::rename(test.downloads(), test.root.path().join("moved")).unwrap();
        if replaced {
            fs::create_dir_all(test.downloads().join(PARTIALS)).unwrap();
            fs::write(test.partial(b"x"), "not verified").unwrap();
        }
        let failure = test.fail(ONE, Job::Finish { name: name("f"), seal: None });
        assert_eq!(failure.code, Code::DiskError);
        assert!(failure.message.contains(test.downloads().to_str().unwrap()), "{failure}");
        test.release(ONE);
        assert!(!test.downloads().join("f").exists());
    }
}

#[test]
fn a_partial_file_that_another_program_cut_gets_no_name() {
    let test = TestDisk::new();
    let content = content(2 * CHUNK, 1);
    for order in [[0, 1], [1, 0]] {
        test.create(ONE, &content);
        test.store(ONE, &content, order[0]);
        test.store(ONE, &content, order[1]);
        let file = fs::File::options().write(true).open(test.partial(&content)).unwrap();
        file.set_len(10).unwrap();
        assert_eq!(test.fail(ONE, Job::Finish { name: name("f"), seal: None }).code, Code::DiskError);
        test.release(ONE);
    }
    assert!(test.listing().is_empty());
}

#[test]
fn a_received_file_has_the_permissions_of_any_new_file() {
    let test = TestDisk::new();
    let path = test.receive(ONE, b"x", "f");
    let usual = test.downloads().join("usual");
    fs::write(&usual, "").unwrap();
    assert_eq!(path.metadata().unwrap().mode(), usual.metadata().unwrap().mode());
}

/// Threads of two "processes" create, finish and release transfers of few contents under few
/// names, so that they meet in every step.
#[test]
fn many_at_once_lose_nothing_and_leave_nothing() {
    const THREADS: u64 = 8;
    const ROUNDS: u64 = 40;
    let test = TestDisk::new();
    let disks = [Disk::new(test.downloads(), None), Disk::new(test.downloads(), None)];
    let contents: Vec<Vec<u8>> = (0..3).map(|seed| content(1000, seed)).collect();
    let finished: Vec<AtomicU64> = contents.iter().map(|_| AtomicU64::new(0)).collect();
    std::thread::scope(|scope| {
        for (thread, disk) in (0..THREADS).zip(disks.iter().cycle()) {
            let (contents, finished) = (&contents, &finished);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let transfer = TransferId(thread * ROUNDS + round);
                    let which = usize::try_from((thread + round) % 3).unwrap();
                    let done = disk.done(transfer, Job::CreatePartial(manifest(&contents[which])));
                    assert_eq!(done, JobDone::PartialCreated);
                    if round % 2 == 0 {
                        let (index, data) = chunk(&contents[which], 0);
                        let done =
                            disk.done(transfer, Job::StoreChunk { index, data, by: ChunkProof::Offer });
                        assert_eq!(done, JobDone::ChunkStored(index));
                        let done = disk.done(transfer, Job::Finish { name: name("same"), seal: None });
                        assert!(matches!(done, JobDone::Finished { .. }), "{done:?}");
                        finished[which].fetch_add(1, Ordering::Relaxed);
                    }
                    assert_eq!(
                        disk.done(transfer, Job::Release { keep: false }),
                        JobDone::Released { left: None }
                    );
                }
            });
        }
    });
    let mut arrived: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    for name in test.listing() {
        assert!(name.starts_with("same"), "stray: {name}");
        *arrived.entry(fs::read(test.downloads().join(name)).unwrap()).or_default() += 1;
    }
    let expected: BTreeMap<Vec<u8>, u64> =
        contents.into_iter().zip(finished.into_iter().map(AtomicU64::into_inner)).collect();
    assert_eq!(arrived, expected);
}
