//! The cache by itself, and as [`Disk`] uses it for files that are sent.

use std::os::unix::fs::symlink;
use std::thread::sleep;

use tempfile::TempDir;

use super::super::Disk;
use super::super::tests::{content, entries, failure, head, index};
use super::*;
use crate::engine::{Code, Job, JobDone, TransferId};
use crate::wire::CHUNK_SIZE;

const CHUNK: usize = CHUNK_SIZE as usize;
const ID: TransferId = TransferId(1);
const HASH: Job = Job::HashSource { until: u32::MAX };

/// A home, and a file to send.
struct TestCache {
    disk: Disk,
    path: PathBuf,
    content: Vec<u8>,
    root: TempDir,
}

impl TestCache {
    fn new(size: usize) -> Self {
        let root = tempfile::tempdir().unwrap();
        let (path, content) = (root.path().join("source"), content(size, 1));
        fs::write(&path, &content).unwrap();
        let mut test = Self { disk: Disk::new(root.path().join("d"), None), path, content, root };
        test.limit(|limits| limits.settled_after = Duration::ZERO);
        // The clock that stamps files runs in ticks, of at most ten milliseconds.
        sleep(Duration::from_millis(20));
        test
    }

    fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    /// Begins with a new process, whose cache is limited like this.
    fn limit(&mut self, change: impl FnOnce(&mut Limits)) {
        let limits = self.disk.cache.as_ref().map_or(LIMITS, |cache| cache.limits);
        self.disk = Disk::new(self.root.path().join("d"), Some(&self.home()));
        let cache = self.disk.cache.as_mut().unwrap();
        cache.limits = limits;
        change(&mut cache.limits);
    }

    fn run(&self, job: Job) -> JobDone {
        self.disk.done(ID, job)
    }

    /// Opens the source, and tells whether its hashes were known.
    #[track_caller]
    fn is_known(&self) -> bool {
        let opened = self.run(Job::OpenSource(self.path.clone()));
        let JobDone::SourceOpened { head: known, .. } = opened else { panic!("{opened:?}") };
        if let Some(known) = &known {
            assert_eq!(*known, head(&fs::read(&self.path).unwrap()), "what is known is right");
        }
        known.is_some()
    }

    /// Hashes the source, which was not known.
    #[track_caller]
    fn hash(&self) {
        assert!(!self.is_known());
        loop {
            match self.run(HASH) {
                JobDone::SourceHashing { .. } => {}
                JobDone::SourceHashed(_) => break,
                other => panic!("{other:?}"),
            }
        }
    }

    fn files(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.home().join("hashes")).into_iter().flatten();
        files.map(|file| file.unwrap().path()).collect()
    }

    /// The only file of the cache.
    #[track_caller]
    fn file(&self) -> PathBuf {
        let files = self.files();
        assert_eq!(files.len(), 1, "{files:?}");
        files[0].clone()
    }
}

#[test]
fn what_was_hashed_is_known_the_next_time_and_every_time() {
    for size in [0, 1, CHUNK, 3 * CHUNK + 7] {
        let mut test = TestCache::new(size);
        test.hash();
        for _ in 0..50 {
            assert!(test.is_known(), "{size}");
        }
        test.limit(|_| {});
        assert!(test.is_known(), "another process knows it too");
        let list = entries(&test.content);
        for (raw, bytes) in test.content.chunks(CHUNK).enumerate() {
            let at = index(u32::try_from(raw).unwrap());
            match test.run(Job::ReadChunk(at)) {
                JobDone::ChunkRead { data, entry, .. } => {
                    assert!(data.0 == bytes);
                    assert_eq!(entry, list[raw]);
                }
                other => panic!("{other:?}"),
            }
        }
        let page = list.iter().flat_map(|entry| entry.to_bytes()).collect();
        assert_eq!(test.run(Job::ReadPage(0)), JobDone::PageRead { page: 0, entries: page });
        assert_eq!(test.run(HASH), JobDone::SourceHashed(head(&test.content)));
        assert!(matches!(test.run(Job::ListChunks), JobDone::ChunkList(_)));
    }
}

#[test]
fn many_that_ask_at_once_all_know_it() {
    let test = TestCache::new(CHUNK);
    test.hash();
    std::thread::scope(|scope| {
        for id in 0..8 {
            let test = &test;
            scope.spawn(move || {
                for _ in 0..50 {
                    let done = test.disk.done(TransferId(id), Job::OpenSource(test.path.clone()));
                    assert!(matches!(done, JobDone::SourceOpened { head: Some(_), .. }), "{done:?}");
                }
            });
        }
    });
}

#[test]
fn a_file_hashed_while_it_was_sent_is_known_too() {
    let test = TestCache::new(2 * CHUNK + 1);
    assert!(!test.is_known());
    for raw in 0..3 {
        test.run(Job::ReadChunk(index(raw)));
    }
    assert!(test.files().is_empty(), "not before it is sealed");
    test.run(HASH);
    assert!(test.is_known());
}

#[test]
fn another_path_to_the_file_is_the_same() {
    let mut test = TestCache::new(1);
    test.hash();
    let link = test.root.path().join("link");
    symlink(&test.path, &link).unwrap();
    test.path = link;
    assert!(test.is_known());
}

#[test]
fn any_change_makes_it_unknown() {
    type Change = fn(&mut TestCache);
    let changes: [Change; 6] = [
        |test| File::options().append(true).open(&test.path).unwrap().write_all(b"more").unwrap(),
        |test| {
            let earlier = SystemTime::now() - Duration::from_secs(9_999);
            File::options().write(true).open(&test.path).unwrap().set_modified(earlier).unwrap();
        },
        // Other content, with the time of the old: the time of the change cannot be set.
        |test| {
            let modified = test.path.metadata().unwrap().modified().unwrap();
            test.content[0] ^= 1;
            fs::write(&test.path, &test.content).unwrap();
            File::options().write(true).open(&test.path).unwrap().set_modified(modified).unwrap();
        },
        |test| {
            let copy = test.path.with_extension("copy");
            fs::copy(&test.path, &copy).unwrap();
            fs::rename(copy, &test.path).unwrap();
        },
        |test| {
            let moved = test.path.with_extension("moved");
            fs::rename(&test.path, &moved).unwrap();
            test.path = moved;
        },
        |test| fs::set_permissions(&test.path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap(),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut test = TestCache::new(CHUNK + 1);
        test.hash();
        sleep(Duration::from_millis(20));
        change(&mut test);
        sleep(Duration::from_millis(20));
        assert!(!test.is_known(), "{number}");
        test.hash();
        assert!(test.is_known(), "{number}: it is known anew");
    }
}

#[test]
fn each_mark_of_a_file_counts() {
    let dir = tempfile::tempdir().unwrap();
    let mut cache = Cache::new(dir.path());
    cache.limits.settled_after = Duration::ZERO;
    let content = content(2 * CHUNK, 1);
    let mut list = EntryList::new();
    list.extend(&entries(&content)).unwrap();
    let file = Identity {
        path: "ab".into(),
        size: content.len() as u64,
        modified: (1, 2),
        changed: (3, 4),
        inode: 5,
        device: 6,
        content: None,
    };
    cache.put(&file, SystemTime::now(), &head(&content), &list);
    let changes: [fn(&mut Identity); 9] = [
        |file| file.path = "ac".into(),
        |file| file.size += 1,
        |file| file.modified.0 += 1,
        |file| file.modified.1 += 1,
        |file| file.changed.0 += 1,
        |file| file.changed.1 += 1,
        |file| file.inode += 1,
        |file| file.device += 1,
        |file| file.content = Some(String::new()),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut other = file.clone();
        change(&mut other);
        assert!(cache.get(&other).is_none(), "{number}");
        let (found, found_list) = cache.get(&file).expect("the file itself is known");
        assert_eq!((found, found_list.page(0).unwrap()), ((*head(&content)).clone(), list.page(0).unwrap()));
        // What is put under the other's file name is not taken for it.
        let names = [&file, &other].map(|file| cache.dir.join(file.file_name()));
        if names[0] != names[1] {
            fs::copy(&names[0], &names[1]).unwrap();
            assert!(cache.get(&other).is_none(), "{number}");
        }
    }
}

#[test]
fn a_file_that_changed_just_before_it_was_opened_is_not_kept_however_long_hashing_took() {
    let mut test = TestCache::new(2 * CHUNK);
    test.limit(|limits| limits.settled_after = Duration::from_millis(300));
    fs::write(&test.path, &test.content).unwrap();
    assert!(!test.is_known());
    sleep(Duration::from_millis(400));
    test.run(HASH);
    assert!(test.files().is_empty(), "a write right after it was opened would not have shown");
    test.hash();
    assert!(test.is_known(), "this time it was left alone before");
}

#[test]
fn settled_is_longer_ago_than_the_steps_of_any_clock() {
    let at = |seconds, nanos| SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos);
    let file = |modified, changed| Identity {
        path: String::new(),
        size: 0,
        modified,
        changed,
        inode: 0,
        device: 0,
        content: None,
    };
    let is_settled = |file: Identity| file.is_settled(at(10, 500), LIMITS.settled_after);
    assert!(is_settled(file((8, 499), (8, 499))));
    assert!(!is_settled(file((8, 500), (0, 0))));
    assert!(!is_settled(file((0, 0), (8, 500))));
    assert!(!is_settled(file((11, 0), (0, 0))), "from the future");
    assert!(!is_settled(file((0, 0), (i64::MAX, 0))));
    assert!(is_settled(file((-5, 0), (-5, 0))), "from before 1970");
}

#[test]
fn a_damaged_file_is_no_use_and_goes() {
    let spoils: [fn(&Path); 8] = [
        |file| fs::write(file, "").unwrap(),
        |file| fs::write(file, "garbage").unwrap(),
        |file| fs::write(file, [b'['; 100_000]).unwrap(),
        |file| fs::write(file, b"{}\n").unwrap(),
        |file| File::options().write(true).open(file).unwrap().set_len(9).unwrap(),
        |file| {
            let file = File::options().write(true).open(file).unwrap();
            file.set_len(file.metadata().unwrap().len() - 1).unwrap();
        },
        |file| {
            let mut bytes = fs::read(file).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(file, bytes).unwrap();
        },
        |file| {
            let text = fs::read(file).unwrap();
            let end = text.iter().position(|&byte| byte == b'\n').unwrap();
            let mut header: Header = serde_json::from_slice(&text[..end]).unwrap();
            header.file_hash = FileHash([9; 32]);
            let mut bytes = serde_json::to_vec(&header).unwrap();
            bytes.extend_from_slice(&text[end..]);
            fs::write(file, bytes).unwrap();
        },
    ];
    for (number, spoil) in spoils.into_iter().enumerate() {
        let test = TestCache::new(3 * CHUNK);
        test.hash();
        spoil(&test.file());
        assert!(!test.is_known(), "{number}");
        assert!(test.files().is_empty(), "{number}");
        test.hash();
        assert!(test.is_known(), "{number}");
    }
}

#[test]
fn of_another_version_it_is_no_use() {
    let test = TestCache::new(1);
    test.hash();
    let text = String::from_utf8_lossy(&fs::read(test.file()).unwrap()).into_owned();
    assert!(text.contains("\"version\":1"));
    let mut bytes = fs::read(test.file()).unwrap();
    let at = text.find("\"version\":1").unwrap() + 10;
    bytes[at] = b'2';
    fs::write(test.file(), bytes).unwrap();
    assert!(!test.is_known());
}

#[test]
fn what_another_put_in_its_place_stays() {
    let test = TestCache::new(1);
    test.hash();
    let (file, elsewhere) = (test.file(), test.root.path().join("elsewhere"));
    let opened = File::open(&file).unwrap();
    assert!(is_at(&opened, &file));
    fs::copy(&file, &elsewhere).unwrap();
    fs::rename(&elsewhere, &file).unwrap();
    assert!(!is_at(&opened, &file));
}

#[test]
fn it_holds_so_many_files_and_bytes_and_those_used_last() {
    let mut test = TestCache::new(CHUNK);
    let paths: Vec<_> = (0..5).map(|number| test.root.path().join(number.to_string())).collect();
    for path in &paths {
        fs::write(path, &test.content).unwrap();
    }
    sleep(Duration::from_millis(20));
    test.hash();
    let each = test.file().metadata().unwrap().len();
    for (limit_files, limit_bytes) in [(3, u64::MAX), (usize::MAX, 3 * each + each / 2)] {
        let _ = fs::remove_dir_all(test.home());
        test.limit(|limits| (limits.files, limits.bytes) = (limit_files, limit_bytes));
        for path in &paths[..3] {
            test.path.clone_from(path);
            test.hash();
            sleep(Duration::from_millis(20));
        }
        assert_eq!(test.files().len(), 3);
        // A directory in it, the oldest thing there, is no reason to hold more.
        fs::create_dir(test.home().join("hashes/dir")).unwrap();
        let used = File::open(test.home().join("hashes/dir")).unwrap();
        used.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        test.path.clone_from(&paths[0]);
        assert!(test.is_known(), "which is used now");
        sleep(Duration::from_millis(20));
        for path in &paths[3..] {
            test.path.clone_from(path);
            test.hash();
            sleep(Duration::from_millis(20));
        }
        let known = paths.iter().map(|path| {
            test.path.clone_from(path);
            test.is_known()
        });
        assert_eq!(known.collect::<Vec<_>>(), [true, false, false, true, true], "{limit_files}");
    }
}

#[test]
fn a_list_that_would_fill_it_is_not_kept() {
    let mut test = TestCache::new(3 * CHUNK);
    test.limit(|limits| limits.bytes = 3 * 64 * 2 - 1);
    test.hash();
    assert!(test.files().is_empty());
}

#[test]
fn without_a_home_or_with_one_that_cannot_be_written_files_are_sent_all_the_same() {
    let mut test = TestCache::new(CHUNK);
    test.disk = Disk::new(test.root.path().join("d"), None);
    test.hash();
    test.hash();
    // Not even root can make a directory there.
    for home in [test.path.join("below"), PathBuf::from("/proc/nowhere")] {
        test.disk = Disk::new(test.root.path().join("d"), Some(&home));
        test.disk.cache.as_mut().unwrap().limits.settled_after = Duration::ZERO;
        test.hash();
        test.hash();
    }
}

#[test]
fn nobody_else_may_read_it() {
    let test = TestCache::new(1);
    test.hash();
    assert_eq!(test.home().join("hashes").metadata().unwrap().mode() & 0o077, 0);
    assert_eq!(test.file().metadata().unwrap().mode() & 0o077, 0);
}

#[test]
fn what_is_known_is_no_proof_of_what_is_read() {
    let mut test = TestCache::new(2 * CHUNK);
    test.hash();
    assert!(test.is_known());
    let modified = test.path.metadata().unwrap().modified().unwrap();
    test.content[CHUNK] ^= 1;
    fs::write(&test.path, &test.content).unwrap();
    File::options().write(true).open(&test.path).unwrap().set_modified(modified).unwrap();
    let failure = failure(test.run(Job::ReadChunk(index(1))));
    assert_eq!(failure.code, Code::SourceChanged, "{failure}");
}

#[test]
fn a_file_says_what_it_looks_like_and_how_long_its_hashes_cannot_be_kept() {
    let opened = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
    let file = |changed| Identity {
        path: "00".to_owned(),
        size: 1,
        modified: (100, 0),
        changed: (changed, 0),
        inode: 1,
        device: 1,
        content: None,
    };
    let after = LIMITS.settled_after;
    let left = file(999).settles_in(opened, after).unwrap();
    assert!(left > Duration::from_secs(1) && left < Duration::from_millis(1010), "{left:?}");
    assert!(!file(999).is_settled(opened, after) && file(999).is_settled(opened + left, after));
    assert!(file(997).is_settled(opened, after));
    // Where they can be, and where waiting would not help.
    for changed in [997, 5000] {
        assert_eq!(file(changed).settles_in(opened, after), None, "{changed}");
    }
    assert_eq!(file(1).stamp(), file(1).stamp());
    assert_ne!(file(1).stamp(), file(2).stamp());
    assert_ne!(file(1).stamp(), Identity { size: 2, ..file(1) }.stamp());
}
