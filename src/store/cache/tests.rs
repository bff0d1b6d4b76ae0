use super::*;
use crate::store::tests::{content, entries, head};
use crate::wire::CHUNK_SIZE;

/// A file that was written long ago, and a cache.
struct TestCache {
    cache: Cache,
    path: PathBuf,
    content: Vec<u8>,
    dir: tempfile::TempDir,
}

impl TestCache {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let content = content(3 * CHUNK_SIZE as usize + 5, 1);
        let path = dir.path().join("file");
        fs::write(&path, &content).unwrap();
        Self { cache: Cache::new(&dir.path().join("home")), path, content, dir }
    }

    /// What the file is known by, had it last been written to an hour ago.
    fn identity(&self) -> Identity {
        let mut identity = Identity::of(&self.path, &fs::metadata(&self.path).unwrap());
        identity.modified.0 -= 3600;
        identity.changed.0 -= 3600;
        identity
    }

    fn put(&self, identity: &Identity) {
        let mut list = EntryList::new();
        list.extend(&entries(&self.content)).unwrap();
        self.cache.put(identity, SystemTime::now(), &head(&self.content), &list);
    }

    fn has(&self, identity: &Identity) -> bool {
        let Some((found, list)) = self.cache.get(identity) else { return false };
        assert_eq!(found, *head(&self.content));
        assert_eq!(list.page(0).unwrap().len(), 4 * Entry::BYTES);
        true
    }

    fn files(&self) -> Vec<PathBuf> {
        let dir = fs::read_dir(self.dir.path().join("home/hashes")).into_iter().flatten();
        dir.map(|file| file.unwrap().path()).collect()
    }
}

#[test]
fn only_the_very_file_is_found() {
    let test = TestCache::new();
    let identity = test.identity();
    assert!(!test.has(&identity));
    test.put(&identity);
    assert!(test.has(&identity));
    let changes: [fn(&mut Identity); 8] = [
        |file| file.path.push_str("00"),
        |file| file.size += 1,
        |file| file.modified.0 += 1,
        |file| file.modified.1 ^= 1,
        |file| file.changed.0 += 1,
        |file| file.changed.1 ^= 1,
        |file| file.inode += 1,
        |file| file.device += 1,
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut other = identity.clone();
        change(&mut other);
        assert!(!test.has(&other), "change {number}");
    }
    assert!(test.has(&identity), "asking for others does no harm");
}

#[test]
fn what_is_cut_or_garbled_anywhere_is_a_miss_and_goes() {
    let test = TestCache::new();
    let identity = test.identity();
    test.put(&identity);
    let [path] = &test.files()[..] else { panic!() };
    let whole = fs::read(path).unwrap();
    for at in (0..whole.len()).step_by(7).chain([whole.len() - 1]) {
        fs::write(path, &whole[..at]).unwrap();
        assert!(!test.has(&identity), "cut at {at}");
        let mut garbled = whole.clone();
        garbled[at] ^= 1;
        fs::write(path, garbled).unwrap();
        assert!(!test.has(&identity), "garbled at {at}");
    }
    fs::write(path, &whole[..whole.len() - 1]).unwrap();
    assert!(!test.has(&identity));
    assert!(!path.exists(), "it is removed");
    test.put(&identity);
    assert!(test.has(&identity));
}

#[test]
fn a_file_that_was_just_written_is_not_kept_however_long_hashing_took() {
    let test = TestCache::new();
    let fresh = Identity::of(&test.path, &fs::metadata(&test.path).unwrap());
    test.put(&fresh);
    assert!(!test.has(&fresh), "a write in the same tick of the clock would not show");
    assert!(test.files().is_empty());
}

#[test]
fn only_the_user_can_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let test = TestCache::new();
    test.put(&test.identity());
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&test.dir.path().join("home/hashes")), 0o700);
    assert_eq!(mode(&test.files()[0]), 0o600);
}

#[test]
fn a_home_that_cannot_be_written_means_no_cache() {
    let test = TestCache::new();
    fs::write(test.dir.path().join("home"), "a file").unwrap();
    test.put(&test.identity());
    assert!(!test.has(&test.identity()));
}

#[test]
fn what_was_not_used_for_longest_goes_first() {
    let test = TestCache::new();
    let identities: Vec<_> = (0..3)
        .map(|number| {
            let mut identity = test.identity();
            identity.inode += number;
            test.put(&identity);
            identity
        })
        .collect();
    for file in test.files() {
        let long_ago = SystemTime::now() - Duration::from_secs(1000);
        File::options().write(true).open(file).unwrap().set_modified(long_ago).unwrap();
    }
    assert!(test.has(&identities[1]), "used");
    // A sparse file that takes nearly all of the room, older than what was used.
    let large = test.dir.path().join("home/hashes/large");
    let file = File::create(&large).unwrap();
    file.set_len(MAX_BYTES - 1000).unwrap();
    file.set_modified(SystemTime::now()).unwrap();
    test.cache.make_room().unwrap();
    assert!(test.has(&identities[1]));
    assert!(!test.has(&identities[0]) && !test.has(&identities[2]));
}
