use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Barrier;
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;

use super::super::tests::{content, entries, failure, head, index};
use super::*;
use crate::engine::{Job, TransferId};
use crate::store::Disk;
use crate::store::downloads::PARTIALS;
use crate::wire::{ENTRIES_PER_PAGE, NodeId};

const CHUNK: usize = CHUNK_SIZE as usize;
const ID: TransferId = TransferId(1);

struct Test {
    dir: TempDir,
    disk: Disk,
}

impl Test {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { disk: Disk::new(dir.path().to_owned(), None), dir }
    }

    /// As if the process had been killed.
    fn restart(&mut self) {
        self.disk = Disk::new(self.dir.path().to_owned(), None);
    }

    fn run(&self, job: Job) -> JobDone {
        self.disk.done(ID, job)
    }

    /// Opens, and tells whether it goes on with something, and what must be checked.
    fn open(&self, incoming: Incoming) -> (Option<String>, bool) {
        match self.run(Job::OpenPartial(Arc::new(incoming))) {
            JobDone::PartialOpened { resumed, to_check } => (resumed.map(|key| key.0), to_check),
            other => panic!("{other:?}"),
        }
    }

    fn check(&self) -> Option<Kept> {
        loop {
            match self.run(Job::CheckKept) {
                JobDone::KeptChecking { .. } => {}
                JobDone::KeptChecked(kept) => return kept,
                other => panic!("{other:?}"),
            }
        }
    }

    /// Opens and checks; how many chunks are kept.
    fn kept(&self, content: &[u8]) -> u32 {
        assert!(self.open(late(content)).1);
        let kept = self.check().unwrap();
        if kept.chunks > 0 && (kept.chunks as usize) < entries(content).len() {
            assert_eq!(kept.state, entries(content)[kept.chunks as usize - 1].state);
        }
        kept.chunks
    }

    fn store_late(&self, content: &[u8], chunks: std::ops::Range<u32>) {
        for raw in chunks {
            let done = self.run(store(content, raw, Some(entries(content)[raw as usize])));
            assert_eq!(done, JobDone::ChunkStored(index(raw)));
        }
    }

    fn finish(&self, seal: Option<Arc<ManifestHead>>) -> JobDone {
        self.run(Job::Finish { name: SafeName::new("f").unwrap(), seal })
    }

    #[track_caller]
    fn finished(&self, content: &[u8], seal: Option<Arc<ManifestHead>>) -> bool {
        match self.finish(seal) {
            JobDone::Finished { path, file_hash, already } => {
                assert_eq!(fs::read(path).unwrap(), content);
                assert_eq!(file_hash, head(content).file_hash());
                assert_eq!(self.partials(), Vec::<PathBuf>::new(), "nothing else is left");
                already
            }
            other => panic!("{other:?}"),
        }
    }

    fn page(&self, content: &[u8]) -> Vec<ChunkIndex> {
        match self.run(Job::StorePage { page: 0, entries: page(content, 0) }) {
            JobDone::PageStored { page: 0, kept } => kept,
            other => panic!("{other:?}"),
        }
    }

    /// The partial files and journals, in order.
    fn partials(&self) -> Vec<PathBuf> {
        let dir = fs::read_dir(self.dir.path().join(PARTIALS)).into_iter().flatten();
        let mut found: Vec<_> = dir.map(|file| file.unwrap().path()).collect();
        found.sort();
        found
    }

    fn listed(&self, unused_for: Duration) -> Vec<Leftover> {
        match self.run(Job::ListPartials { unused_for }) {
            JobDone::Partials(left) => left,
            other => panic!("{other:?}"),
        }
    }

    /// Late, all but the last chunk, then killed.
    fn interrupted(content: &[u8]) -> Self {
        let mut test = Self::new();
        assert_eq!(test.open(late(content)), (None, false));
        test.store_late(content, 0..u32::try_from(entries(content).len()).unwrap() - 1);
        test.restart();
        test
    }
}

fn late(content: &[u8]) -> Incoming {
    let name = SafeName::new("f").unwrap();
    Incoming { from: Some(NodeId([1; 32])), name, size: content.len() as u64, head: None }
}

fn known(content: &[u8]) -> Incoming {
    Incoming { head: Some(head(content)), ..late(content) }
}

fn store(content: &[u8], raw: u32, entry: Option<Entry>) -> Job {
    let bytes = content.chunks(CHUNK).nth(raw as usize).unwrap().to_vec();
    Job::StoreChunk { index: index(raw), data: ChunkData(bytes.into()), entry }
}

fn page(content: &[u8], number: usize) -> Bytes {
    let page = entries(content);
    let page = page.chunks(ENTRIES_PER_PAGE as usize).nth(number).unwrap();
    page.iter().flat_map(|entry| entry.to_bytes()).collect()
}

/// Does something to a partial file and its journal.
type Damage = fn(&Path, &Path);

#[test]
fn a_late_file_killed_after_any_chunk_goes_on_from_there() {
    for size in [4 * CHUNK, 3 * CHUNK + 7] {
        let content = content(size, 1);
        for cut in 0..=4 {
            let mut test = Test::new();
            assert_eq!(test.open(late(&content)), (None, false));
            test.store_late(&content, 0..cut);
            test.restart();
            assert_eq!(test.kept(&content), cut);
            test.store_late(&content, cut..4);
            assert!(!test.finished(&content, Some(head(&content))));
        }
    }
}

#[test]
fn a_file_without_content_is_complete_at_once() {
    for (incoming, seal) in [(late(b""), Some(head(b""))), (known(b""), None)] {
        let test = Test::new();
        assert_eq!(test.open(incoming), (None, false));
        test.finished(b"", seal);
    }
}

#[test]
fn only_what_is_right_is_kept_of_a_damaged_partial_file() {
    let content = content(5 * CHUNK + 7, 1);
    let damages: [(u32, Damage); 7] = [
        (2, |partial, _| flip(partial, 2 * CHUNK as u64 + 9)),
        (1, |partial, _| cut(partial, 2 * CHUNK as u64 - 1)),
        (0, |partial, _| cut(partial, 0)),
        (3, |_, journal| cut(journal, HEADER_BYTES + 4 * 64 - 1)),
        (1, |_, journal| flip(journal, HEADER_BYTES + 64 + 3)),
        (2, |_, journal| flip(journal, HEADER_BYTES + 2 * 64 + 40)),
        (0, |_, journal| cut(journal, HEADER_BYTES)),
    ];
    for (number, (kept, damage)) in damages.into_iter().enumerate() {
        let test = Test::interrupted(&content);
        let [partial, journal] = &test.partials()[..] else { panic!() };
        damage(partial, journal);
        assert_eq!(test.kept(&content), kept, "damage {number}");
        test.store_late(&content, kept..6);
        test.finished(&content, Some(head(&content)));
    }
}

fn flip(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

fn cut(path: &Path, length: u64) {
    File::options().write(true).open(path).unwrap().set_len(length).unwrap();
}

#[test]
fn a_journal_without_a_header_is_nothing_to_go_on_with() {
    let content = content(3 * CHUNK, 1);
    for garbage in [&b""[..], b"garbage", &[b' '; 5000]] {
        let test = Test::interrupted(&content);
        fs::write(&test.partials()[1], garbage).unwrap();
        assert_eq!(test.open(late(&content)), (None, false));
        test.store_late(&content, 0..3);
        // It may be of use to a person as long as it is not old.
        assert_eq!(test.listed(Duration::from_secs(60)), []);
        assert_eq!(test.partials().len(), 4);
        assert_eq!(test.listed(Duration::ZERO), []);
        test.finished(&content, Some(head(&content)));
    }
}

#[test]
fn a_partial_file_of_something_else_is_left_alone() {
    let content = content(3 * CHUNK, 1);
    let others: [fn(&mut Incoming); 4] = [
        |offer| offer.from = Some(NodeId([2; 32])),
        |offer| offer.from = None,
        |offer| offer.name = SafeName::new("g").unwrap(),
        |offer| offer.size += 1,
    ];
    for change in others {
        let test = Test::interrupted(&content);
        let before = fs::read(&test.partials()[0]).unwrap();
        let mut other = late(&content);
        change(&mut other);
        assert_eq!(test.open(other), (None, false));
        test.run(Job::Release { keep: false });
        assert_eq!(fs::read(&test.partials()[0]).unwrap(), before);
    }
}

#[test]
fn content_is_what_is_resumed_whoever_sends_it_under_whatever_name() {
    let content = content(3 * CHUNK + 5, 1);
    let mut test = Test::new();
    test.open(known(&content));
    test.page(&content);
    assert_eq!(test.run(store(&content, 2, None)), JobDone::ChunkStored(index(2)));
    test.restart();
    let name = SafeName::new("other").unwrap();
    assert!(test.open(Incoming { from: None, name, ..known(&content) }).0.is_some());
    assert_eq!(test.page(&content), [index(2)]);
}

#[test]
fn what_came_late_is_kept_once_the_hash_is_known() {
    let content = content(4 * CHUNK, 1);
    let test = Test::interrupted(&content);
    let (resumed, to_check) = test.open(known(&content));
    assert!(resumed.is_some() && !to_check);
    assert_eq!(test.page(&content), [index(0), index(1), index(2)]);
    test.run(store(&content, 3, None));
    test.finished(&content, None);
}

#[test]
fn chunks_that_are_damaged_missing_or_holes_are_not_kept() {
    let content = content(6 * CHUNK + 5, 1);
    let mut test = Test::new();
    test.open(known(&content));
    assert!(test.page(&content).is_empty(), "a fresh file has none");
    for raw in [6, 0, 3, 4] {
        assert_eq!(test.run(store(&content, raw, None)), JobDone::ChunkStored(index(raw)));
    }
    test.restart();
    flip(&test.partials()[0], 4 * CHUNK as u64);
    assert!(test.open(known(&content)).0.is_some());
    assert_eq!(test.page(&content), [index(0), index(3), index(6)]);
    for raw in [1, 2, 4, 5] {
        assert_eq!(test.run(store(&content, raw, None)), JobDone::ChunkStored(index(raw)));
    }
    test.finished(&content, None);
}

#[test]
fn a_late_chunk_is_taken_only_next_and_only_as_it_was_told() {
    let content = content(3 * CHUNK, 1);
    let list = entries(&content);
    let test = Test::new();
    test.open(late(&content));
    let mut lies = [list[0]; 2];
    lies[0].hash.0[0] ^= 1;
    lies[1].state.0[0] ^= 1;
    for job in [
        store(&content, 0, Some(lies[0])),
        store(&content, 0, Some(lies[1])),
        store(&content, 1, Some(list[1])),
        store(&content, 0, None),
    ] {
        assert!(matches!(test.run(job), JobDone::ChunkReturned { .. }));
    }
    assert_eq!(fs::read(&test.partials()[0]).unwrap(), b"", "nothing was written");
    test.store_late(&content, 0..3);
    test.finished(&content, Some(head(&content)));
}

#[test]
fn a_seal_of_another_file_gives_no_name() {
    let (content, other) = (content(2 * CHUNK + 5, 1), content(2 * CHUNK + 5, 2));
    let mut tail = content.clone();
    *tail.last_mut().unwrap() ^= 1;
    for seal in [head(&other), head(&tail)] {
        let test = Test::new();
        test.open(late(&content));
        test.store_late(&content, 0..3);
        assert_eq!(failure(test.finish(Some(seal))).code, Code::HashMismatch);
        assert!(!test.dir.path().join("f").exists());
    }
    let test = Test::new();
    test.open(late(&content));
    test.store_late(&content, 0..3);
    failure(test.finish(None));
}

#[test]
fn pages_that_are_wrong_or_out_of_order_are_refused() {
    // Two pages, of which only the list matters.
    let content = vec![7; (ENTRIES_PER_PAGE as usize + 1) * CHUNK];
    let test = Test::new();
    test.open(known(&content));
    failure(test.run(Job::StorePage { page: 1, entries: page(&content, 1) }));
    let mut wrong = page(&content, 0).to_vec();
    wrong[40] ^= 1;
    assert_eq!(test.run(Job::StorePage { page: 0, entries: wrong.into() }), JobDone::PageWrong(0));
    assert!(matches!(test.run(store(&content, 0, None)), JobDone::ChunkReturned { .. }), "not listed yet");
    assert!(test.page(&content).is_empty());
    failure(test.run(Job::StorePage { page: 0, entries: page(&content, 0) }));
    let second = Job::StorePage { page: 1, entries: page(&content, 1) };
    assert_eq!(test.run(second), JobDone::PageStored { page: 1, kept: vec![] });
    let last = ENTRIES_PER_PAGE;
    assert_eq!(test.run(store(&content, last, None)), JobDone::ChunkStored(index(last)));
    failure(test.finish(None));
}

#[test]
fn chunks_are_stored_by_many_threads_in_any_order() {
    let content = content(40 * CHUNK + 1, 1);
    let test = Test::new();
    test.open(known(&content));
    test.page(&content);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (test, content) = (&test, &content);
            scope.spawn(move || {
                for raw in (0..41).map(|raw| raw * 17 % 41).filter(|raw| raw % 4 == thread) {
                    let mut spoilt = content.clone();
                    spoilt[raw as usize * CHUNK] ^= 1;
                    let done = test.run(store(&spoilt, raw, None));
                    assert!(matches!(done, JobDone::ChunkReturned { .. }));
                    assert_eq!(test.run(store(content, raw, None)), JobDone::ChunkStored(index(raw)));
                }
            });
        }
    });
    test.finished(&content, None);
}

#[test]
fn a_file_that_is_in_place_is_not_received_again() {
    for size in [5, CHUNK, 2 * CHUNK + 5] {
        let content = content(size, 1);
        let test = Test::new();
        let path = test.dir.path().join("f");
        fs::write(&path, &content).unwrap();
        assert_eq!(test.open(known(&content)), (None, true));
        assert_eq!(test.run(Job::CheckKept), JobDone::AlreadyHere { path });
        test.run(Job::Release { keep: true });
        assert_eq!(test.kept(&content) as usize, entries(&content).len());
        assert!(test.finished(&content, Some(head(&content))));
    }
}

#[test]
fn another_file_of_the_name_and_size_stays_and_differs_to_the_last_byte() {
    for size in [5, CHUNK, 2 * CHUNK + 5] {
        let content = content(size, 1);
        let mut mine = content.clone();
        *mine.last_mut().unwrap() ^= 1;
        for is_late in [true, false] {
            let test = Test::new();
            fs::write(test.dir.path().join("f"), &mine).unwrap();
            let chunks = u32::try_from(entries(&content).len()).unwrap();
            if is_late {
                assert!(test.open(late(&content)).1);
                let kept = test.check().unwrap();
                assert_eq!(
                    kept,
                    Kept { chunks, state: State(head(&mine).file_hash().0) },
                    "not to be confused"
                );
                let opened = JobDone::PartialOpened { resumed: None, to_check: false };
                assert_eq!(test.run(Job::StartOver), opened);
                test.store_late(&content, 0..chunks);
            } else {
                assert!(test.open(known(&content)).1);
                assert_eq!(test.check(), None);
                test.page(&content);
                for raw in 0..chunks {
                    assert_eq!(test.run(store(&content, raw, None)), JobDone::ChunkStored(index(raw)));
                }
            }
            assert!(!test.finished(&content, is_late.then(|| head(&content))));
            assert_eq!(fs::read(test.dir.path().join("f")).unwrap(), mine);
        }
    }
}

#[test]
fn what_changed_under_the_same_name_is_begun_anew() {
    let (old, new) = (content(3 * CHUNK, 1), content(3 * CHUNK, 2));
    let test = Test::interrupted(&old);
    assert!(test.open(late(&new)).1);
    assert_eq!(test.check().unwrap().chunks, 2);
    test.run(Job::StartOver);
    test.store_late(&new, 0..3);
    test.finished(&new, Some(head(&new)));

    let test = Test::interrupted(&old);
    assert!(test.open(known(&new)).0.is_some());
    assert!(test.page(&new).is_empty(), "none of it is right");
}

#[test]
fn what_is_planted_as_a_partial_file_or_journal_is_not_gone_on_with() {
    let content = content(3 * CHUNK, 1);
    let plants: [fn(&Path, &Path); 2] =
        [|victim, at| symlink(victim, at).unwrap(), |victim, at| fs::hard_link(victim, at).unwrap()];
    for plant in plants {
        for which in 0..2 {
            let test = Test::interrupted(&content);
            let at = &test.partials()[which];
            let victim = test.dir.path().join("victim");
            fs::rename(at, &victim).unwrap();
            let before = fs::read(&victim).unwrap();
            plant(&victim, at);
            assert_eq!(test.open(late(&content)).0, None);
            test.store_late(&content, 0..3);
            assert!(matches!(test.finish(Some(head(&content))), JobDone::Finished { .. }));
            assert_eq!(fs::read(&victim).unwrap(), before);
        }
    }
}

#[test]
fn a_partial_file_in_use_is_not_gone_on_with() {
    let content = content(3 * CHUNK, 1);
    let test = Test::interrupted(&content);
    assert_eq!(test.kept(&content), 2);
    let other = Disk::new(test.dir.path().to_owned(), None);
    let done = other.done(ID, Job::OpenPartial(Arc::new(late(&content))));
    assert_eq!(done, JobDone::PartialOpened { resumed: None, to_check: false });
    assert_eq!(test.listed(Duration::ZERO), [], "neither is listed nor removed");
    test.store_late(&content, 2..3);
    assert!(matches!(test.finish(Some(head(&content))), JobDone::Finished { .. }));
}

#[test]
fn many_that_look_for_theirs_at_once_all_find_it() {
    const FILES: u64 = 8;
    let mut test = Test::new();
    let content = content(CHUNK + 1, 1);
    let named =
        |number: u64| Incoming { name: SafeName::new(&format!("f{number}")).unwrap(), ..late(&content) };
    for _ in 0..20 {
        for number in 0..FILES {
            let id = TransferId(number);
            test.disk.done(id, Job::OpenPartial(Arc::new(named(number))));
            test.disk.done(id, store(&content, 0, Some(entries(&content)[0])));
        }
        test.restart();
        let barrier = Barrier::new(usize::try_from(FILES).unwrap());
        std::thread::scope(|scope| {
            for number in 0..FILES {
                let (test, barrier, named) = (&test, &barrier, &named);
                scope.spawn(move || {
                    barrier.wait();
                    let done = test.disk.done(TransferId(number), Job::OpenPartial(Arc::new(named(number))));
                    assert!(matches!(done, JobDone::PartialOpened { resumed: Some(_), .. }), "{done:?}");
                });
            }
        });
        for number in 0..FILES {
            test.disk.done(TransferId(number), Job::Release { keep: false });
        }
    }
    assert!(test.partials().is_empty());
}

#[test]
fn release_keeps_what_is_worth_it_and_it_can_be_listed_and_discarded() {
    let content = content(3 * CHUNK, 1);
    let test = Test::new();
    test.open(late(&content));
    assert_eq!(test.run(Job::Release { keep: true }), JobDone::Released { left: None }, "it is empty");
    assert!(test.partials().is_empty());

    test.open(late(&content));
    test.store_late(&content, 0..2);
    let JobDone::Released { left: Some(left) } = test.run(Job::Release { keep: true }) else { panic!() };
    assert_eq!((left.size, left.bytes, left.file_hash), (3 * CHUNK as u64, 2 * CHUNK as u64, None));
    assert_eq!(test.listed(Duration::from_secs(60)), std::slice::from_ref(&left));
    assert_eq!(test.run(Job::DiscardPartial(left.key)), JobDone::Discarded);
    assert!(test.partials().is_empty());
}

#[test]
fn partial_files_that_nobody_touched_for_long_go() {
    let content = content(3 * CHUNK, 1);
    let test = Test::interrupted(&content);
    let hour = Duration::from_secs(3600);
    let file = File::options().write(true).open(&test.partials()[0]).unwrap();
    file.set_modified(std::time::SystemTime::now() - hour).unwrap();
    assert_eq!(test.listed(2 * hour).len(), 1);
    assert_eq!(test.listed(hour / 2), []);
    assert!(!test.dir.path().join(PARTIALS).exists());
}

#[test]
fn only_a_partial_file_can_be_discarded() {
    let test = Test::new();
    let content = content(3 * CHUNK, 1);
    test.open(late(&content));
    test.store_late(&content, 0..1);
    let outside = test.dir.path().join("a".repeat(64));
    fs::write(&outside, "mine").unwrap();
    fs::write(test.dir.path().join(PARTIALS).join("mine"), "mine").unwrap();
    let before = test.partials();
    let in_use = before[0].file_name().unwrap().to_str().unwrap();
    let hostile = [format!("../{}", "a".repeat(64)), "../x".into(), "mine".into(), ".".into(), String::new()];
    for key in hostile.into_iter().chain([in_use.to_owned(), format!("{in_use}.journal")]) {
        test.run(Job::DiscardPartial(PartialKey(key)));
        assert_eq!(test.partials(), before);
    }
    assert!(outside.exists());
}
