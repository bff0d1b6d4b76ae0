use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::super::tests::{content, entries, failure, head, index, make_fifo, manifest};
use crate::engine::{Code, Failure, Job, JobDone, Kept, TransferId};
use crate::store::Disk;
use crate::wire::{CHUNK_SIZE, ChunkData, MAX_MANIFEST_SIZE, Manifest, State};

const CHUNK: usize = CHUNK_SIZE as usize;
const ID: TransferId = TransferId(1);

/// Hashes on, to the end of the file if it is not too large for one part.
const HASH: Job = Job::HashSource { until: u32::MAX };

fn hashed_chunks(done: &JobDone) -> u32 {
    match done {
        JobDone::SourceHashing { hashed } => hashed.chunks,
        other => panic!("{other:?}"),
    }
}

/// A file and a disk that sends it.
struct TestSource {
    disk: Disk,
    path: PathBuf,
    _dir: TempDir,
}

impl TestSource {
    fn new(content: &[u8]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("source");
        fs::write(&path, content).unwrap();
        Self { disk: Disk::new(dir.path().join("downloads"), None), path, _dir: dir }
    }

    /// The same, opened.
    fn opened(content: &[u8]) -> Self {
        let test = Self::new(content);
        let size = content.len() as u64;
        let opened = test.run(Job::OpenSource(test.path.clone()));
        let JobDone::SourceOpened { look, .. } = opened else { panic!("{opened:?}") };
        assert_eq!(opened, JobDone::SourceOpened { size, head: None, tree: None, left_out: None, look });
        test
    }

    /// The same, hashed.
    fn hashed(content: &[u8]) -> Self {
        let test = Self::opened(content);
        assert_eq!(test.run(HASH), JobDone::SourceHashed(head(content)));
        test
    }

    fn run(&self, job: Job) -> JobDone {
        self.disk.done(ID, job)
    }

    fn append(&self, bytes: &[u8]) {
        File::options().append(true).open(&self.path).unwrap().write_all(bytes).unwrap();
    }

    fn cut(&self, length: u64) {
        File::options().write(true).open(&self.path).unwrap().set_len(length).unwrap();
    }
}

#[track_caller]
fn assert_changed(done: JobDone, path: &Path) {
    let failure = failure(done);
    assert_eq!(failure.code, Code::SourceChanged, "{failure}");
    assert!(failure.message.contains(path.to_str().unwrap()), "{failure}");
}

/// Opens on a thread, because a fault here would be to wait for ever.
fn open_failure(path: PathBuf) -> Failure {
    let (done, answer) = sync_channel(1);
    std::thread::spawn(move || {
        let disk = Disk::new("downloads".into(), None);
        done.send(disk.done(ID, Job::OpenSource(path))).unwrap();
    });
    let failure = failure(answer.recv_timeout(Duration::from_secs(10)).expect("it answers at once"));
    assert_eq!(failure.code, Code::SourceUnreadable, "{failure}");
    failure
}

#[test]
fn files_of_every_awkward_size_are_hashed_and_read_exactly() {
    for size in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 7] {
        let content = content(size, size as u64);
        let test = TestSource::hashed(&content);
        for (raw, bytes) in content.chunks(CHUNK).enumerate().rev() {
            match test.run(Job::ReadChunk(index(u32::try_from(raw).unwrap()))) {
                JobDone::ChunkRead { index, data, .. } => {
                    assert_eq!((index.as_usize(), &data.0[..]), (raw, bytes), "{size}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn a_large_file_is_hashed_in_parts() {
    let content = content((65 << 20) + 3, 1);
    let test = TestSource::opened(&content);
    let list = entries(&content);
    for chunks in [128, 256] {
        let hashed = Kept { chunks, state: list[chunks as usize - 1].state };
        assert_eq!(test.run(HASH), JobDone::SourceHashing { hashed });
    }
    let whole = JobDone::SourceHashed(head(&content));
    assert_eq!(test.run(HASH), whole);
    assert_eq!(test.run(HASH), whole, "it is not hashed again");
}

#[test]
fn what_is_no_regular_file_is_refused_at_once_and_called_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    make_fifo(&at("fifo"));
    let _listener = UnixListener::bind(at("socket")).unwrap();
    symlink(at("fifo"), at("symlink")).unwrap();
    symlink(at("nowhere"), at("dangling")).unwrap();
    fs::write(at("file"), "x").unwrap();
    for (path, word) in [
        (at("fifo"), "is a named pipe"),
        (at("symlink"), "is a named pipe"),
        (at("socket"), "is a socket"),
        (at("missing"), "there is no file"),
        (at("dangling"), "there is no file"),
        (at("file").join("below"), "there is no file"),
        (PathBuf::from("/dev/null"), "is a device"),
        (PathBuf::new(), "there is no file"),
        (PathBuf::from("a\0b"), "cannot read"),
    ] {
        let failure = open_failure(path.clone());
        assert!(failure.message.contains(word), "{failure}");
        assert!(failure.message.contains(path.to_str().unwrap()), "{failure}");
    }
}

#[test]
fn a_symlink_to_a_regular_file_is_sent() {
    let test = TestSource::new(b"x");
    let link = test.path.with_file_name("link");
    symlink(&test.path, &link).unwrap();
    let opened = test.run(Job::OpenSource(link));
    assert!(
        matches!(opened, JobDone::SourceOpened { size: 1, head: None, tree: None, left_out: None, .. }),
        "{opened:?}"
    );
    assert_eq!(test.run(HASH), JobDone::SourceHashed(head(b"x")));
}

#[test]
fn growth_and_truncation_before_the_end_of_hashing_are_noticed() {
    for size in [0, 10, CHUNK] {
        let test = TestSource::opened(&vec![1; size]);
        test.append(b"more");
        assert_changed(test.run(HASH), &test.path);
    }
    for length in [0, CHUNK as u64] {
        let test = TestSource::opened(&vec![1; CHUNK + 1]);
        test.cut(length);
        assert_changed(test.run(HASH), &test.path);
    }
}

#[test]
fn a_write_between_two_parts_is_noticed_though_the_size_stays() {
    let size = 40 << 20;
    let test = TestSource::opened(b"");
    test.cut(size);
    test.run(Job::OpenSource(test.path.clone()));
    assert_eq!(hashed_chunks(&test.run(HASH)), 128);
    let later = SystemTime::now() + Duration::from_secs(1);
    File::options().write(true).open(&test.path).unwrap().set_modified(later).unwrap();
    assert_changed(test.run(HASH), &test.path);
}

#[test]
fn a_chunk_that_changed_after_hashing_is_not_sent() {
    let mut content = content(2 * CHUNK, 1);
    let test = TestSource::hashed(&content);
    let modified = test.path.metadata().unwrap().modified().unwrap();
    content[CHUNK + 1] ^= 1;
    fs::write(&test.path, &content).unwrap();
    // Not even where the time of the change is hidden.
    File::options().write(true).open(&test.path).unwrap().set_modified(modified).unwrap();
    assert_changed(test.run(Job::ReadChunk(index(1))), &test.path);
    assert!(matches!(test.run(Job::ReadChunk(index(0))), JobDone::ChunkRead { .. }), "that one is right");
    test.cut(CHUNK as u64 + 1);
    assert_changed(test.run(Job::ReadChunk(index(1))), &test.path);
    test.cut(0);
    assert_changed(test.run(Job::ReadChunk(index(0))), &test.path);
}

#[test]
fn a_new_file_under_the_name_does_not_disturb_the_old_one() {
    let test = TestSource::hashed(b"old");
    let new = test.path.with_file_name("new");
    fs::write(&new, "new").unwrap();
    fs::rename(new, &test.path).unwrap();
    match test.run(Job::ReadChunk(index(0))) {
        JobDone::ChunkRead { data, .. } => assert_eq!(&data.0[..], b"old"),
        other => panic!("{other:?}"),
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_file_that_does_not_tell_its_size_is_not_sent_as_an_empty_one() {
    let disk = Disk::new("downloads".into(), None);
    let path = PathBuf::from("/proc/self/status");
    let opened = disk.done(ID, Job::OpenSource(path.clone()));
    assert!(
        matches!(opened, JobDone::SourceOpened { size: 0, head: None, tree: None, left_out: None, .. }),
        "{opened:?}"
    );
    assert_changed(disk.done(ID, HASH), &path);
}

#[test]
fn what_is_larger_than_anything_with_a_list_is_too_large_and_the_most_is_said() {
    let test = TestSource::new(b"");
    // Not every file system can hold one, even a sparse one.
    let file = File::options().write(true).open(&test.path).unwrap();
    for size in [MAX_MANIFEST_SIZE + 1, 1 << 51] {
        if file.set_len(size).is_ok() {
            let Failure { code, message } = failure(test.run(Job::OpenSource(test.path.clone())));
            assert_eq!(code, Code::TooLarge);
            assert!(message.contains("8.8 TB"), "{message}");
        }
    }
}

#[test]
fn release_closes_the_source() {
    let test = TestSource::hashed(b"x");
    assert_eq!(test.run(Job::Release { keep: false }), JobDone::Released { left: None });
    failure(test.run(Job::ReadChunk(index(0))));
}

#[test]
fn chunks_out_of_order_or_of_another_file_fail_and_do_not_panic() {
    let test = TestSource::opened(&content(2 * CHUNK, 1));
    failure(test.run(Job::ReadChunk(index(1))));
    let test = TestSource::hashed(b"x");
    failure(test.run(Job::ReadChunk(index(1))));
    let test = TestSource::hashed(b"");
    failure(test.run(Job::ReadChunk(index(0))));
}

#[test]
fn a_file_is_hashed_while_it_is_sent_and_then_sealed() {
    for size in [1, CHUNK, 3 * CHUNK + 7] {
        let content = content(size, 1);
        let (list, test) = (entries(&content), TestSource::opened(&content));
        for (raw, bytes) in content.chunks(CHUNK).enumerate() {
            let raw = u32::try_from(raw).unwrap();
            // Again what was hashed, and nothing that was not.
            for (at, chunk) in
                content.chunks(CHUNK).enumerate().take(raw as usize).chain([(raw as usize, bytes)])
            {
                let at = index(u32::try_from(at).unwrap());
                let data = ChunkData(chunk.to_vec().into());
                let entry = list[at.as_usize()];
                assert_eq!(test.run(Job::ReadChunk(at)), JobDone::ChunkRead { index: at, data, entry });
            }
            failure(test.run(Job::ReadChunk(index(raw + 2))));
        }
        assert_eq!(test.run(HASH), JobDone::SourceHashed(head(&content)), "{size}");
        let page: Vec<u8> = list.iter().flat_map(|entry| entry.to_bytes()).collect();
        assert_eq!(test.run(Job::ReadPage(0)), JobDone::PageRead { page: 0, entries: page.into() });
    }
}

#[test]
fn hashing_stops_where_it_is_told_to_and_tells_the_state_there() {
    let content = content(3 * CHUNK + 7, 1);
    let (list, test) = (entries(&content), TestSource::opened(&content));
    for until in [2, 1, 3] {
        let hashed = Kept { chunks: until, state: list[until as usize - 1].state };
        assert_eq!(test.run(Job::HashSource { until }), JobDone::SourceHashing { hashed });
    }
    failure(test.run(Job::ReadPage(0)));
    failure(test.run(Job::ListChunks));
    assert_eq!(test.run(Job::HashSource { until: 4 }), JobDone::SourceHashed(head(&content)));
}

#[test]
fn a_chunk_that_changed_between_two_readings_of_a_file_that_is_not_sealed_is_not_sent() {
    let mut content = content(3 * CHUNK, 1);
    let test = TestSource::opened(&content);
    assert!(matches!(test.run(Job::ReadChunk(index(0))), JobDone::ChunkRead { .. }));
    content[3] ^= 1;
    let later = SystemTime::now() + Duration::from_secs(1);
    fs::write(&test.path, &content).unwrap();
    File::options().write(true).open(&test.path).unwrap().set_modified(later).unwrap();
    assert_changed(test.run(Job::ReadChunk(index(0))), &test.path);
    assert_changed(test.run(HASH), &test.path);
}

#[test]
fn a_manifest_of_ours_is_one_that_others_take() {
    let content = content(3 * CHUNK, 1);
    let test = TestSource::opened(&content);
    test.run(HASH);
    let JobDone::ChunkList(ours) = test.run(Job::ListChunks) else { panic!() };
    assert_eq!(ours, manifest(&content));
    let chunks = ours.geometry().indices().map(|index| ours.chunk_hash(index)).collect();
    assert_eq!(Manifest::new(ours.size(), ours.file_hash(), chunks).unwrap(), ours);
}

#[test]
fn no_chunk_further_on_than_what_is_hashed_is_read_and_hashing_goes_on_behind_what_was_read() {
    let content = content(4 * CHUNK + 7, 1);
    let (list, test) = (entries(&content), TestSource::opened(&content));
    let read = |raw: u32| test.run(Job::ReadChunk(index(raw)));
    failure(read(1));
    assert!(matches!(read(0), JobDone::ChunkRead { .. }));
    failure(read(2));
    let hashed = Kept { chunks: 3, state: list[2].state };
    assert_eq!(test.run(Job::HashSource { until: 3 }), JobDone::SourceHashing { hashed });
    failure(read(4));
    assert!(matches!(read(3), JobDone::ChunkRead { entry, .. } if entry == list[3]));
    let nothing = Kept { chunks: 0, state: State::INITIAL };
    assert_eq!(test.run(Job::HashSource { until: 0 }), JobDone::SourceHashing { hashed: nothing });
    assert!(matches!(read(4), JobDone::ChunkRead { entry, .. } if entry == list[4]));
    // All of it is read now, but asked is what it was like before.
    assert_eq!(test.run(Job::HashSource { until: 3 }), JobDone::SourceHashing { hashed });
    failure(test.run(Job::ReadPage(0)));
    assert_eq!(test.run(Job::HashSource { until: 5 }), JobDone::SourceHashed(head(&content)));
    assert_eq!(test.run(Job::HashSource { until: 3 }), JobDone::SourceHashing { hashed });
}

#[test]
fn a_file_that_changed_while_it_was_sent_is_not_sealed() {
    type Change = fn(&TestSource);
    let changes: [Change; 3] = [
        |test| test.append(b"more"),
        |test| test.cut(CHUNK as u64),
        |test| {
            let later = SystemTime::now() + Duration::from_secs(1);
            File::options().write(true).open(&test.path).unwrap().set_modified(later).unwrap();
        },
    ];
    for change in changes {
        for read in 0..=3 {
            let test = TestSource::opened(&content(3 * CHUNK, 1));
            for raw in 0..read {
                assert!(matches!(test.run(Job::ReadChunk(index(raw))), JobDone::ChunkRead { .. }));
            }
            change(&test);
            for _ in 0..2 {
                assert_changed(test.run(HASH), &test.path);
            }
            failure(test.run(Job::ReadPage(0)));
        }
    }
}

#[test]
fn a_page_that_the_list_does_not_have_is_empty() {
    let test = TestSource::hashed(b"x");
    for page in [1, u32::MAX] {
        assert_eq!(test.run(Job::ReadPage(page)), JobDone::PageRead { page, entries: [].as_slice().into() });
    }
}
