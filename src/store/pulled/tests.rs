//! Pulling, through [`Disk::run`], in a real directory. A disk that is dropped leaves what a killed
//! process leaves; two disks on one directory behave as two processes do.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::super::Disk;
use super::super::downloads::PARTIALS;
use super::super::tests::{chunk, content, entries, failure, head, index, listing, make_fifo, name};
use super::*;
use crate::engine::{ChunkProof, Job, TransferId};
use crate::wire::{FileHash, ManifestBuilder, NodeId};

const CHUNK: usize = CHUNK_SIZE as usize;
const ONE: TransferId = TransferId(1);
const TWO: TransferId = TransferId(2);
const DAY: Duration = Duration::from_secs(86_400);

/// Four chunks and a short one, which ends neither a chunk nor a block.
const SIZE: usize = 4 * CHUNK + 100;
const CHUNKS: u32 = 5;

/// A disk with a downloads directory that is not there yet, beside which nothing else stands.
struct TestPull {
    disk: Disk,
    root: TempDir,
}

/// A late offer of a file called `f`.
fn late(content: &[u8]) -> Incoming {
    Incoming {
        from: Some(NodeId([1; 32])),
        name: name("f"),
        size: content.len() as u64,
        head: None,
        tree: None,
        goes_on: false,
    }
}

/// An offer of it that tells what it consists of.
fn known(content: &[u8]) -> Incoming {
    Incoming { head: Some(head(content)), ..late(content) }
}

fn page_of(content: &[u8]) -> bytes::Bytes {
    entries(content).iter().flat_map(|entry| entry.to_bytes()).collect()
}

/// What is kept of a late file.
fn kept(content: &[u8], chunks: u32) -> JobDone {
    let entries = entries(content);
    let state = match chunks.checked_sub(1) {
        // The whole file is named by its hash.
        Some(_) if chunks as usize == entries.len() => State(Sha256::digest(content).into()),
        Some(last) => entries[last as usize].state,
        None => State::INITIAL,
    };
    JobDone::KeptChecked(Some(Kept { chunks, state }))
}

impl TestPull {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        Self { disk: Disk::new(root.path().join("downloads"), None), root }
    }

    /// The process is killed, and another begins.
    fn kill(&mut self) {
        self.disk = Disk::new(self.downloads(), None);
    }

    fn downloads(&self) -> PathBuf {
        self.root.path().join("downloads")
    }

    fn partials(&self) -> PathBuf {
        self.downloads().join(PARTIALS)
    }

    fn listing(&self) -> Vec<String> {
        listing(&self.downloads())
    }

    /// The only partial file there is.
    fn partial(&self) -> PathBuf {
        let names = listing(&self.partials());
        let names: Vec<_> = names.iter().filter(|name| !name.ends_with(".journal")).collect();
        assert_eq!(names.len(), 1, "{names:?}");
        self.partials().join(names[0])
    }

    fn journal(&self) -> PathBuf {
        let partial = self.partial();
        partial.with_file_name(format!("{}.journal", partial.file_name().unwrap().to_str().unwrap()))
    }

    fn done(&self, job: Job) -> JobDone {
        self.disk.done(ONE, job)
    }

    fn open(&self, incoming: &Incoming) -> (Option<PartialKey>, bool) {
        match self.done(Job::OpenPartial(Arc::new(incoming.clone()))) {
            JobDone::PartialOpened { resumed, to_check, .. } => (resumed, to_check),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn open_new(&self, incoming: &Incoming) {
        assert_eq!(self.open(incoming), (None, false));
    }

    fn page(&self, content: &[u8]) -> Vec<u32> {
        match self.done(Job::StorePage { page: 0, entries: page_of(content) }) {
            JobDone::PageStored { page: 0, kept } => kept.into_iter().map(ChunkIndex::get).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn store_job(content: &[u8], raw: u32, is_late: bool) -> Job {
        let (index, data) = chunk(content, raw);
        let by = match is_late {
            true => ChunkProof::Entry(entries(content)[raw as usize]),
            false => ChunkProof::Page,
        };
        Job::StoreChunk { index, data, by }
    }

    #[track_caller]
    fn store(&self, content: &[u8], raw: u32, is_late: bool) {
        assert_eq!(self.done(Self::store_job(content, raw, is_late)), JobDone::ChunkStored(index(raw)));
    }

    fn finish_job(seal: Option<Arc<ManifestHead>>) -> Job {
        Job::Finish { name: name("f"), seal }
    }

    #[track_caller]
    fn finish(&self, content: &[u8], is_late: bool) -> PathBuf {
        match self.done(Self::finish_job(is_late.then(|| head(content)))) {
            JobDone::Finished { path, file_hash, already: false } => {
                assert_eq!(file_hash, head(content).file_hash());
                assert!(fs::read(&path).unwrap() == content, "the file is right");
                path
            }
            other => panic!("{other:?}"),
        }
    }

    fn check(&self) -> JobDone {
        loop {
            match self.done(Job::CheckKept) {
                JobDone::KeptChecking { .. } => {}
                other => return other,
            }
        }
    }

    fn release(&self, keep: bool) -> Option<Leftover> {
        match self.done(Job::Release { keep }) {
            JobDone::Released { left } => left,
            other => panic!("{other:?}"),
        }
    }

    fn partials_list(&self, unused_for: Duration) -> Vec<Leftover> {
        match self.disk.done(TWO, Job::ListPartials { unused_for }) {
            JobDone::Partials(list) => list,
            other => panic!("{other:?}"),
        }
    }

    /// Begins a file and is killed after so many chunks of it, which are its first ones.
    fn begun(content: &[u8], incoming: &Incoming, chunks: u32) -> Self {
        let mut test = Self::new();
        test.open_new(incoming);
        let is_late = incoming.head.is_none();
        if !is_late {
            assert!(test.page(content).is_empty());
        }
        for raw in 0..chunks {
            test.store(content, raw, is_late);
        }
        test.kill();
        test
    }

    /// Fetches what is missing, and finds the file in place and nothing else.
    #[track_caller]
    fn complete(&self, content: &[u8], is_late: bool, there: &[u32]) {
        let chunks = u32::try_from(content.chunks(CHUNK).len()).unwrap();
        for raw in (0..chunks).filter(|raw| !there.contains(raw)) {
            self.store(content, raw, is_late);
        }
        self.finish(content, is_late);
        assert_eq!(self.listing(), ["f"]);
    }

    /// Goes on with a late file, of which so much is there.
    #[track_caller]
    fn go_on_late(&self, content: &[u8], chunks: u32) {
        let (resumed, to_check) = self.open(&late(content));
        assert!(resumed.is_some() && to_check);
        assert_eq!(self.check(), kept(content, chunks));
        let length = (chunks as usize * CHUNK).min(content.len());
        assert_eq!(self.partial().metadata().unwrap().len(), length as u64, "the rest is of no use");
        self.complete(content, true, &(0..chunks).collect::<Vec<_>>());
    }

    /// Goes on with a known file, of which so much is there.
    #[track_caller]
    fn go_on_known(&self, content: &[u8], there: &[u32]) {
        let (resumed, to_check) = self.open(&known(content));
        assert!(resumed.is_some() && !to_check);
        assert_eq!(self.page(content), there);
        self.complete(content, false, there);
    }
}

fn flip(path: &Path, at: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

fn cut(path: &Path, length: u64) {
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(length).unwrap();
}

/// Says that it was last written to some time from now, or before.
fn touch(path: &Path, time: SystemTime) {
    fs::OpenOptions::new().write(true).open(path).unwrap().set_modified(time).unwrap();
}

#[track_caller]
fn assert_returned(done: &JobDone) {
    assert!(matches!(done, JobDone::ChunkReturned { .. }), "{done:?}");
}

#[test]
fn files_of_every_awkward_size_arrive_late_and_known() {
    for size in [0, 1, 63, 64, CHUNK - 1, CHUNK, CHUNK + 1, SIZE] {
        let content = content(size, size as u64);
        for is_late in [true, false] {
            let test = TestPull::new();
            test.open_new(&if is_late { late(&content) } else { known(&content) });
            if !is_late && size > 0 {
                assert!(test.page(&content).is_empty());
            }
            test.complete(&content, is_late, &[]);
            assert_eq!(test.release(true), None);
        }
    }
}

#[test]
fn a_late_chunk_that_is_not_the_next_or_not_what_is_said_of_it_comes_back() {
    let content = content(SIZE, 1);
    let test = TestPull::new();
    test.open_new(&late(&content));
    let job = |raw: u32, by: ChunkProof| {
        let (index, data) = chunk(&content, raw);
        Job::StoreChunk { index, data, by }
    };
    let list = entries(&content);
    for raw in 0..CHUNKS {
        let right = list[raw as usize];
        let wrong_state = Entry { state: State([9; 32]), ..right };
        let wrong_hash = Entry { hash: ChunkHash([9; 32]), ..right };
        assert_returned(&test.done(job(raw, ChunkProof::Entry(wrong_state))));
        assert_returned(&test.done(job(raw, ChunkProof::Entry(wrong_hash))));
        assert_returned(&test.done(job(raw, ChunkProof::Page)));
        if raw + 1 < CHUNKS {
            assert_returned(&test.done(job(raw + 1, ChunkProof::Entry(list[raw as usize + 1]))));
            assert_returned(&test.done(job(raw + 1, ChunkProof::Entry(right))));
        }
        assert_eq!(test.partial().metadata().unwrap().len(), u64::from(raw) * CHUNK as u64);
        test.store(&content, raw, true);
        assert_returned(&test.done(job(raw, ChunkProof::Entry(right))));
    }
    test.finish(&content, true);
}

#[test]
fn a_seal_of_another_file_is_refused_and_nothing_gets_a_name() {
    for size in [0, SIZE, 4 * CHUNK] {
        let (ours, mut near) = (content(size, 1), content(size, 1));
        if let Some(last) = near.last_mut() {
            *last ^= 1;
        }
        let longer = content(SIZE + 1, 1);
        let false_list = |hash: FileHash| {
            let mut builder = ManifestBuilder::new(size as u64).unwrap();
            entries(&content(size, 2)).into_iter().for_each(|entry| drop(builder.push(entry).unwrap()));
            builder.finish(hash).unwrap()
        };
        let mut others = vec![head(&longer), Arc::new(false_list(head(&ours).file_hash()))];
        others.push(head(&near));
        for other in others.into_iter().filter(|other| *other != head(&ours)) {
            let test = TestPull::new();
            test.open_new(&late(&ours));
            for raw in 0..u32::try_from(ours.chunks(CHUNK).len()).unwrap() {
                test.store(&ours, raw, true);
            }
            let failure = failure(test.done(TestPull::finish_job(Some(other))));
            assert_eq!(failure.code, Code::HashMismatch, "{failure}");
            assert!(!test.downloads().join("f").exists());
            test.release(false);
            assert!(test.listing().is_empty());
        }
    }
}

#[test]
fn a_file_that_is_not_whole_or_not_sealed_gets_no_name() {
    let content = content(SIZE, 1);
    let test = TestPull::new();
    test.open_new(&late(&content));
    for raw in 0..CHUNKS {
        failure(test.done(TestPull::finish_job(Some(head(&content)))));
        test.store(&content, raw, true);
    }
    failure(test.done(TestPull::finish_job(None)));
    cut(&test.partial(), SIZE as u64 - 1);
    failure(test.done(TestPull::finish_job(Some(head(&content)))));
    assert!(!test.downloads().join("f").exists());
}

#[test]
fn a_partial_file_whose_length_another_program_changed_gets_no_name() {
    let content = content(SIZE, 1);
    for incoming in [late(&content), known(&content)] {
        let is_late = incoming.head.is_none();
        for length in [0, SIZE - 1, SIZE + 1] {
            let test = TestPull::new();
            test.open_new(&incoming);
            if !is_late {
                test.page(&content);
            }
            (0..CHUNKS).for_each(|raw| test.store(&content, raw, is_late));
            cut(&test.partial(), length as u64);
            let seal = is_late.then(|| head(&content));
            assert_eq!(failure(test.done(TestPull::finish_job(seal))).code, Code::DiskError);
            assert!(!test.downloads().join("f").exists());
        }
    }
}

#[test]
fn four_threads_store_a_known_file_in_any_order() {
    let content = content(64 * CHUNK + 5, 1);
    let test = TestPull::new();
    test.open_new(&known(&content));
    assert!(test.page(&content).is_empty());
    let (next, list) = (AtomicUsize::new(0), (0..65).map(|raw| raw * 37 % 65).collect::<Vec<u32>>());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(raw) = list.get(next.fetch_add(1, Ordering::Relaxed)) {
                    test.store(&content, *raw, false);
                    assert_returned(&test.done(TestPull::store_job(&content, *raw, false)));
                }
            });
        }
    });
    test.finish(&content, false);
    assert_eq!(test.listing(), ["f"]);
}

#[test]
fn a_known_chunk_needs_its_page_and_its_own_bytes() {
    let ours = content(SIZE, 1);
    let test = TestPull::new();
    test.open_new(&known(&ours));
    assert_returned(&test.done(TestPull::store_job(&ours, 0, false)));
    test.page(&ours);
    let other = content(SIZE, 2);
    assert_returned(&test.done(TestPull::store_job(&other, 1, false)));
    assert_returned(&test.done(TestPull::store_job(&ours, 1, true)));
    let (index, data) = chunk(&ours, 1);
    let short = ChunkData(data.0.slice(..CHUNK - 1));
    assert_returned(&test.done(Job::StoreChunk { index, data: short, by: ChunkProof::Page }));
    let (_, data) = chunk(&ours, 2);
    assert_returned(&test.done(Job::StoreChunk { index, data, by: ChunkProof::Page }));
    assert_eq!(test.partial().metadata().unwrap().len(), 0, "nothing was written");
    let (_, data) = chunk(&ours, 0);
    let outside = Job::StoreChunk { index: super::super::tests::index(5), data, by: ChunkProof::Page };
    failure(test.done(outside));
    test.complete(&ours, false, &[]);
}

#[test]
fn a_chunk_with_the_listed_hash_that_does_not_continue_the_file_convicts_the_list() {
    let ours = content(SIZE, 1);
    // The list is false in one state, and says the truth about every hash.
    for lie in 0..CHUNKS {
        let mut list = entries(&ours);
        list[lie as usize].state.0[0] ^= 1;
        let mut builder = ManifestBuilder::new(SIZE as u64).unwrap();
        list.iter().for_each(|entry| drop(builder.push(*entry).unwrap()));
        let false_head = Arc::new(builder.finish(head(&ours).file_hash()).unwrap());
        let test = TestPull::new();
        test.open_new(&Incoming { head: Some(false_head), ..late(&ours) });
        let page = list.iter().flat_map(|entry| entry.to_bytes()).collect();
        assert!(matches!(test.done(Job::StorePage { page: 0, entries: page }), JobDone::PageStored { .. }));
        let mut convicted = 0;
        for raw in 0..CHUNKS {
            let done = test.done(TestPull::store_job(&ours, raw, false));
            convicted += u32::from(matches!(done, JobDone::ListFalse(_)));
        }
        assert!(convicted > 0, "{lie}");
        failure(test.done(TestPull::finish_job(None)));
        assert!(!test.downloads().join("f").exists());
    }
}

#[test]
fn a_list_that_ends_in_another_file_than_it_names_is_found_out() {
    let ours = content(SIZE, 1);
    let mut builder = ManifestBuilder::new(SIZE as u64).unwrap();
    entries(&ours).into_iter().for_each(|entry| drop(builder.push(entry).unwrap()));
    let lying = Arc::new(builder.finish(FileHash([7; 32])).unwrap());
    let test = TestPull::new();
    test.open_new(&Incoming { head: Some(lying), ..late(&ours) });
    test.page(&ours);
    for raw in 0..CHUNKS - 1 {
        test.store(&ours, raw, false);
    }
    let last = test.done(TestPull::store_job(&ours, CHUNKS - 1, false));
    assert!(matches!(last, JobDone::ListFalse(index) if index.get() == CHUNKS - 1), "{last:?}");
    failure(test.done(TestPull::finish_job(None)));
}

#[test]
fn pages_come_in_order_and_are_those_of_the_root() {
    // Only the list is looked at, so no file needs to have it.
    let list: Vec<_> = (0..1025u32)
        .map(|number| {
            let mut bytes = [3; 32];
            bytes[..4].copy_from_slice(&number.to_be_bytes());
            Entry { hash: ChunkHash(bytes), state: State(bytes) }
        })
        .collect();
    let mut builder = ManifestBuilder::new(1025 * CHUNK as u64).unwrap();
    list.iter().for_each(|entry| drop(builder.push(*entry).unwrap()));
    let head = Arc::new(builder.finish(FileHash([7; 32])).unwrap());
    let test = TestPull::new();
    let size = head.geometry().size();
    test.open_new(&Incoming { head: Some(head), size, ..late(b"") });
    let pages: Vec<bytes::Bytes> =
        list.chunks(1024).map(|page| page.iter().flat_map(|entry| entry.to_bytes()).collect()).collect();
    let page =
        |page: u32, entries: &bytes::Bytes| test.done(Job::StorePage { page, entries: entries.clone() });
    failure(page(1, &pages[1]));
    assert_eq!(page(0, &pages[1]), JobDone::PageWrong(0));
    assert_eq!(page(0, &pages[0].slice(64..)), JobDone::PageWrong(0));
    let mut spoilt = pages[0].to_vec();
    spoilt[5] ^= 1;
    assert_eq!(page(0, &spoilt.into()), JobDone::PageWrong(0));
    assert_eq!(page(0, &pages[0]), JobDone::PageStored { page: 0, kept: Vec::new() });
    failure(page(0, &pages[0]));
    assert_eq!(page(1, &pages[1]), JobDone::PageStored { page: 1, kept: Vec::new() });
    failure(page(2, &pages[1]));
    failure(TestPull::begun(b"x", &late(b"x"), 0).done(Job::StorePage { page: 0, entries: page_of(b"x") }));
}

#[test]
fn a_page_of_a_late_file_is_refused() {
    let test = TestPull::new();
    test.open_new(&late(b"x"));
    failure(test.done(Job::StorePage { page: 0, entries: page_of(b"x") }));
}

#[test]
fn what_was_stored_before_a_kill_is_kept_at_every_count() {
    let content = content(SIZE, 1);
    for chunks in 0..=CHUNKS {
        let there: Vec<_> = (0..chunks).collect();
        TestPull::begun(&content, &late(&content), chunks).go_on_late(&content, chunks);
        TestPull::begun(&content, &known(&content), chunks).go_on_known(&content, &there);
        // It became known meanwhile, or is known no more.
        TestPull::begun(&content, &late(&content), chunks).go_on_known(&content, &there);
        TestPull::begun(&content, &known(&content), chunks).go_on_late(&content, chunks);
    }
}

#[test]
fn known_chunks_are_kept_wherever_they_are() {
    let content = content(SIZE, 1);
    for set in 0..1 << CHUNKS {
        let there: Vec<_> = (0..CHUNKS).filter(|raw| set >> raw & 1 == 1).collect();
        let mut test = TestPull::new();
        test.open_new(&known(&content));
        test.page(&content);
        there.iter().for_each(|raw| test.store(&content, *raw, false));
        test.kill();
        test.go_on_known(&content, &there);
    }
}

#[test]
fn a_kill_during_each_attempt_loses_nothing() {
    let content = content(SIZE, 1);
    let mut test = TestPull::new();
    test.open_new(&late(&content));
    for raw in 0..CHUNKS {
        test.store(&content, raw, true);
        test.kill();
        test.open(&late(&content));
        assert_eq!(test.check(), kept(&content, raw + 1));
    }
    test.finish(&content, true);
}

#[test]
fn a_long_beginning_is_checked_in_parts() {
    let content = content(130 * CHUNK, 1);
    let test = TestPull::begun(&content, &late(&content), 130);
    test.open(&late(&content));
    assert_eq!(test.done(Job::CheckKept), JobDone::KeptChecking { bytes: 32 << 20 });
    assert_eq!(test.done(Job::CheckKept), kept(&content, 130));
    test.finish(&content, true);
}

#[test]
fn a_flipped_byte_costs_its_chunk_and_late_what_is_behind() {
    let content = content(SIZE, 1);
    for at in [0, 5, CHUNK - 1, CHUNK, 3 * CHUNK + 7, 4 * CHUNK, SIZE - 1] {
        let spoilt = u32::try_from(at / CHUNK).unwrap();
        let test = TestPull::begun(&content, &late(&content), CHUNKS);
        flip(&test.partial(), at as u64);
        test.go_on_late(&content, spoilt);
        let test = TestPull::begun(&content, &known(&content), CHUNKS);
        flip(&test.partial(), at as u64);
        test.go_on_known(&content, &(0..CHUNKS).filter(|raw| *raw != spoilt).collect::<Vec<_>>());
    }
}

#[test]
fn a_partial_file_of_another_length_is_taken_for_what_it_is() {
    let content = content(SIZE, 1);
    for length in [0, 1, CHUNK - 1, CHUNK, 2 * CHUNK + 1, SIZE - 1, SIZE + 1, 9 * CHUNK] {
        let whole = if length >= SIZE { CHUNKS } else { u32::try_from(length / CHUNK).unwrap() };
        let test = TestPull::begun(&content, &late(&content), CHUNKS);
        cut(&test.partial(), length as u64);
        test.go_on_late(&content, whole);
        let test = TestPull::begun(&content, &known(&content), CHUNKS);
        cut(&test.partial(), length as u64);
        test.go_on_known(&content, &(0..whole).collect::<Vec<_>>());
    }
}

#[test]
fn a_list_that_was_cut_or_spoilt_is_believed_as_far_as_the_bytes_bear_it_out() {
    let content = content(SIZE, 1);
    for (length, whole) in [(4096, 0), (4096 + 63, 0), (4096 + 64, 1), (4096 + 64 * 3 + 1, 3)] {
        let test = TestPull::begun(&content, &late(&content), CHUNKS);
        cut(&test.journal(), length);
        test.go_on_late(&content, whole);
        // A page says all of it anew.
        let test = TestPull::begun(&content, &known(&content), CHUNKS);
        cut(&test.journal(), length);
        test.go_on_known(&content, &[0, 1, 2, 3, 4]);
    }
    for (at, whole) in [(0, 0), (40, 0), (64 * 2 + 3, 2), (64 * 4 + 33, 4)] {
        let test = TestPull::begun(&content, &late(&content), CHUNKS);
        flip(&test.journal(), 4096 + at);
        test.go_on_late(&content, whole);
    }
}

#[test]
fn a_journal_that_is_none_or_of_another_file_is_not_gone_on_with() {
    let content = content(SIZE, 1);
    let of_another = |change: fn(&mut Incoming)| {
        move |journal: &Path| {
            let mut incoming = late(&vec![0; SIZE]);
            change(&mut incoming);
            let file = fs::OpenOptions::new().write(true).open(journal).unwrap();
            Header::of(&incoming).write(&file).unwrap();
        }
    };
    type Spoil = Box<dyn Fn(&Path)>;
    let spoils: [Spoil; 8] = [
        Box::new(|journal| cut(journal, 0)),
        Box::new(|journal| cut(journal, 4095)),
        Box::new(|journal| fs::write(journal, [7; 8192]).unwrap()),
        Box::new(|journal| fs::write(journal, vec![b' '; 8192]).unwrap()),
        Box::new(|journal| fs::remove_file(journal).unwrap()),
        Box::new(of_another(|incoming| incoming.name = name("g"))),
        Box::new(of_another(|incoming| incoming.size += 1)),
        Box::new(of_another(|incoming| incoming.from = None)),
    ];
    for (number, spoil) in spoils.iter().enumerate() {
        for incoming in [late(&content), known(&content)] {
            let test = TestPull::begun(&content, &late(&content), CHUNKS);
            spoil(&test.journal());
            assert_eq!(test.open(&incoming), (None, false), "{number}");
            if incoming.head.is_some() {
                assert!(test.page(&content).is_empty());
            }
            let is_late = incoming.head.is_none();
            (0..CHUNKS).for_each(|raw| test.store(&content, raw, is_late));
            test.finish(&content, is_late);
        }
    }
}

#[test]
fn what_cannot_be_gone_on_with_makes_room_for_the_next_attempt() {
    let content = content(SIZE, 1);
    let test = TestPull::begun(&content, &late(&content), 2);
    cut(&test.journal(), 0);
    test.open_new(&late(&content));
    assert_eq!(listing(&test.partials()).len(), 2, "the new one and its journal");
    test.complete(&content, true, &[]);
}

#[test]
fn what_can_be_gone_on_with_makes_room_for_nobody() {
    let content = content(SIZE, 1);
    let test = TestPull::begun(&content, &known(&content), 3);
    let manifest = super::super::tests::manifest(&content);
    assert_eq!(test.disk.done(TWO, Job::CreatePartial(manifest)), JobDone::PartialCreated);
    test.disk.done(TWO, Job::Release { keep: false });
    test.go_on_known(&content, &[0, 1, 2]);
}

#[test]
fn the_same_content_is_gone_on_with_whoever_sends_it() {
    let content = content(SIZE, 1);
    let test = TestPull::begun(&content, &known(&content), 3);
    let other = Incoming { from: Some(NodeId([2; 32])), name: name("other"), ..known(&content) };
    assert!(test.open(&other).0.is_some());
    assert_eq!(test.page(&content), [0, 1, 2]);
    test.complete(&content, false, &[0, 1, 2]);
}

#[test]
fn a_late_file_that_became_another_is_begun_anew() {
    let (old, new) = (content(SIZE, 1), content(SIZE, 2));
    let test = TestPull::begun(&old, &late(&old), 3);
    test.open(&late(&new));
    assert_eq!(test.check(), kept(&old, 3), "which the sender does not have");
    assert_eq!(
        test.done(Job::StartOver),
        JobDone::PartialOpened { resumed: None, to_check: false, similar: false }
    );
    assert_eq!(test.partial().metadata().unwrap().len(), 0);
    test.complete(&new, true, &[]);
}

#[test]
fn a_known_file_that_became_another_keeps_only_the_chunks_they_share() {
    let old = content(SIZE, 1);
    let mut new = old.clone();
    new[2 * CHUNK + 9] ^= 1;
    // From there on the states differ too, but the bytes continue the new file.
    for begun in [late(&old), known(&old)] {
        TestPull::begun(&old, &begun, CHUNKS).go_on_known(&new, &[0, 1, 3, 4]);
    }
    let new = content(SIZE, 2);
    TestPull::begun(&old, &known(&old), CHUNKS).go_on_known(&new, &[]);
}

#[test]
fn an_identical_file_in_place_is_not_fetched_nor_touched() {
    let content = content(SIZE, 1);
    let test = TestPull::new();
    fs::create_dir(test.downloads()).unwrap();
    let path = test.downloads().join("f");
    fs::write(&path, &content).unwrap();
    let before = path.metadata().unwrap();
    assert_eq!(test.open(&known(&content)), (None, true));
    assert_eq!(test.check(), JobDone::AlreadyHere { path: path.clone() });
    assert_eq!(test.release(true), None);
    assert_eq!(test.open(&late(&content)), (None, true));
    assert_eq!(test.check(), kept(&content, CHUNKS));
    let file_hash = head(&content).file_hash();
    let done = test.done(TestPull::finish_job(Some(head(&content))));
    assert_eq!(done, JobDone::Finished { path: path.clone(), file_hash, already: true });
    assert_eq!(test.release(false), None);
    let after = path.metadata().unwrap();
    assert_eq!((before.ino(), before.mtime_nsec()), (after.ino(), after.mtime_nsec()));
    assert_eq!(test.listing(), ["f"]);
}

#[test]
fn another_file_of_that_name_and_size_stays_and_the_new_one_gets_a_number() {
    let (mine, theirs) = (content(SIZE, 1), content(SIZE, 2));
    for is_late in [true, false] {
        let test = TestPull::new();
        fs::create_dir(test.downloads()).unwrap();
        fs::write(test.downloads().join("f"), &mine).unwrap();
        if is_late {
            assert_eq!(test.open(&late(&theirs)), (None, true));
            assert_eq!(test.check(), kept(&mine, CHUNKS));
            let failure = failure(test.done(TestPull::finish_job(Some(head(&theirs)))));
            assert_eq!(failure.code, Code::HashMismatch, "a false seal is no way to say that it is here");
            assert_eq!(
                test.done(Job::StartOver),
                JobDone::PartialOpened { resumed: None, to_check: false, similar: false }
            );
        } else {
            assert_eq!(test.open(&known(&theirs)), (None, true));
            assert_eq!(test.check(), JobDone::KeptChecked(None));
            assert!(test.page(&theirs).is_empty());
        }
        (0..CHUNKS).for_each(|raw| test.store(&theirs, raw, is_late));
        assert_eq!(test.finish(&theirs, is_late), test.downloads().join("f (1)"));
        assert!(fs::read(test.downloads().join("f")).unwrap() == mine);
        assert_eq!(test.listing(), ["f", "f (1)"]);
    }
}

#[test]
fn a_file_that_changes_while_it_is_compared_is_not_the_one() {
    let content = content(SIZE, 1);
    for is_late in [true, false] {
        let test = TestPull::new();
        fs::create_dir(test.downloads()).unwrap();
        let path = test.downloads().join("f");
        fs::write(&path, &content).unwrap();
        let later = SystemTime::now() + DAY;
        if is_late {
            assert_eq!(test.open(&late(&content)), (None, true));
            assert_eq!(test.check(), kept(&content, CHUNKS));
            touch(&path, later);
            failure(test.done(TestPull::finish_job(Some(head(&content)))));
        } else {
            assert_eq!(test.open(&known(&content)), (None, true));
            touch(&path, later);
            assert_eq!(test.check(), JobDone::KeptChecked(None));
            test.page(&content);
            (0..CHUNKS).for_each(|raw| test.store(&content, raw, false));
            assert_eq!(test.finish(&content, false), test.downloads().join("f (1)"));
        }
    }
}

#[test]
fn a_file_in_place_that_shrinks_is_not_the_one() {
    let content = content(SIZE, 1);
    let test = TestPull::new();
    fs::create_dir(test.downloads()).unwrap();
    fs::write(test.downloads().join("f"), &content).unwrap();
    assert_eq!(test.open(&late(&content)), (None, true));
    cut(&test.downloads().join("f"), 10);
    assert_eq!(test.check(), JobDone::KeptChecked(None));
    (0..CHUNKS).for_each(|raw| test.store(&content, raw, true));
    test.finish(&content, true);
}

#[test]
fn only_a_regular_file_in_place_is_compared() {
    let content = content(SIZE, 1);
    for plant in [
        (|victim, at| symlink(victim, at).unwrap()) as fn(&Path, &Path),
        |_, at| make_fifo(at),
        |_, at| fs::create_dir(at).unwrap(),
        |_, at| fs::write(at, "of another size").unwrap(),
    ] {
        let test = TestPull::new();
        fs::create_dir(test.downloads()).unwrap();
        let victim = test.root.path().join("victim");
        fs::write(&victim, &content).unwrap();
        plant(&victim, &test.downloads().join("f"));
        test.open_new(&known(&content));
    }
}

#[test]
fn what_is_planted_under_the_name_of_a_partial_file_is_not_used() {
    let content = content(SIZE, 1);
    let plants: [fn(&Path, &Path); 4] = [
        |victim, at| symlink(victim, at).unwrap(),
        |victim, at| fs::hard_link(victim, at).unwrap(),
        |_, at| make_fifo(at),
        |_, at| fs::create_dir(at).unwrap(),
    ];
    for (number, plant) in plants.into_iter().enumerate() {
        for (planted_journal, aged) in [(false, false), (true, false), (false, true), (true, true)] {
            for incoming in [late(&content), known(&content)] {
                let test = TestPull::begun(&content, &incoming, 3);
                let at = if planted_journal { test.journal() } else { test.partial() };
                // Elsewhere stands the very thing that would be believed here.
                let victim = test.root.path().join("victim");
                fs::rename(&at, &victim).unwrap();
                let before = fs::read(&victim).unwrap();
                plant(&victim, &at);
                assert!(test.partials_list(DAY).is_empty(), "plant {number}");
                if aged {
                    assert!(test.partials_list(Duration::ZERO).is_empty(), "plant {number}");
                }
                assert!(at.symlink_metadata().is_ok(), "plant {number} was removed");
                assert_eq!(test.open(&incoming), (None, false), "plant {number} {planted_journal}");
                let is_late = incoming.head.is_none();
                if !is_late {
                    test.page(&content);
                }
                (0..CHUNKS).for_each(|raw| test.store(&content, raw, is_late));
                test.finish(&content, is_late);
                assert!(fs::read(&victim).unwrap() == before, "plant {number} {planted_journal}");
            }
        }
    }
}

#[test]
fn a_journal_that_is_a_directory_is_passed_over() {
    let content = content(SIZE, 1);
    let test = TestPull::new();
    fs::create_dir_all(test.partials().join(format!("{}.journal", head(&content).file_hash()))).unwrap();
    test.open_new(&known(&content));
    test.page(&content);
    test.store(&content, 0, false);
    assert!(test.release(true).is_some());
    assert!(test.open(&known(&content)).0.is_some());
}

#[test]
fn another_users_file_is_not_gone_on_with() {
    let content = content(SIZE, 1);
    let test = TestPull::begun(&content, &late(&content), 3);
    // Only root can give a file away; others have nothing to show here.
    let at = test.partial();
    if std::os::unix::fs::chown(&at, Some(12_345), None).is_ok() {
        assert!(test.partials_list(DAY).is_empty());
        assert!(test.partials_list(Duration::ZERO).is_empty());
        assert!(at.exists());
        assert_eq!(test.open(&late(&content)), (None, false));
    }
}

#[test]
fn files_that_differ_behind_the_last_whole_block_alone_are_told_apart() {
    for size in [5, CHUNK + 5] {
        let content = content(size, 1);
        let mut mine = content.clone();
        *mine.last_mut().unwrap() ^= 1;
        let test = TestPull::new();
        fs::create_dir(test.downloads()).unwrap();
        fs::write(test.downloads().join("f"), &mine).unwrap();
        assert_eq!(test.open(&late(&content)), (None, true));
        let chunks = u32::try_from(entries(&content).len()).unwrap();
        assert_eq!(test.check(), kept(&mine, chunks));
        assert_ne!(kept(&mine, chunks), kept(&content, chunks));
    }
}

#[test]
fn two_processes_share_no_partial_file() {
    let content = content(SIZE, 1);
    for incoming in [late(&content), known(&content)] {
        let is_late = incoming.head.is_none();
        let test = TestPull::begun(&content, &incoming, 2);
        let other = TestPull { disk: Disk::new(test.downloads(), None), root: tempfile::tempdir().unwrap() };
        let (resumed, _) = test.open(&incoming);
        let key = resumed.unwrap();
        // The second process neither goes on with it, nor lists, ages or discards it.
        assert!(other.partials_list(DAY).is_empty());
        assert!(other.partials_list(Duration::ZERO).is_empty());
        assert_eq!(other.done(Job::DiscardPartial(key.clone())), JobDone::Discarded);
        assert!(test.partials().join(&key.0).exists());
        assert_eq!(other.open(&incoming), (None, false));
        for disk in [&test, &other] {
            if is_late {
                let there = if std::ptr::eq(disk, &test) { disk.check() } else { kept(&content, 0) };
                let JobDone::KeptChecked(Some(kept)) = there else { panic!() };
                (kept.chunks..CHUNKS).for_each(|raw| disk.store(&content, raw, true));
            } else {
                let there = disk.page(&content);
                (0..CHUNKS)
                    .filter(|raw| !there.contains(raw))
                    .for_each(|raw| disk.store(&content, raw, false));
            }
        }
        other.finish(&content, is_late);
        test.finish(&content, is_late);
        assert_eq!(test.listing(), ["f", "f (1)"]);
    }
}

#[test]
fn many_that_go_on_at_once_find_what_is_theirs() {
    let mut test = TestPull::new();
    let contents: Vec<_> = (0..8).map(|seed| content(2 * CHUNK, seed)).collect();
    let offers: Vec<_> = contents
        .iter()
        .zip('a'..)
        .map(|(content, called)| Arc::new(Incoming { name: name(&called.to_string()), ..late(content) }))
        .collect();
    for (id, (offer, content)) in offers.iter().zip(&contents).enumerate() {
        let id = TransferId(id as u64);
        test.disk.done(id, Job::OpenPartial(offer.clone()));
        test.disk.done(id, TestPull::store_job(content, 0, true));
    }
    for round in 0..50 {
        test.kill();
        std::thread::scope(|scope| {
            for (id, offer) in offers.iter().enumerate() {
                let disk = &test.disk;
                scope.spawn(move || {
                    let done = disk.done(TransferId(id as u64), Job::OpenPartial(offer.clone()));
                    assert!(
                        matches!(done, JobDone::PartialOpened { resumed: Some(_), .. }),
                        "{round} {done:?}"
                    );
                });
            }
            scope.spawn(|| test.partials_list(DAY));
        });
    }
}

#[test]
fn partial_files_are_listed_and_removed_when_nobody_wanted_them_for_long() {
    let (a, b) = (content(SIZE, 1), content(3 * CHUNK, 2));
    let mut test = TestPull::begun(&a, &late(&a), 2);
    let b_offer = Incoming { from: None, name: name("b"), ..known(&b) };
    test.open_new(&b_offer);
    test.page(&b);
    test.store(&b, 2, false);
    assert_eq!(test.partials_list(DAY).len(), 1, "one is in use");
    let left = test.release(true).unwrap();
    test.kill();
    assert_eq!((left.bytes, left.from), (CHUNK as u64, None));
    let list = test.partials_list(DAY);
    assert_eq!(list.len(), 2);
    let listed = |called: &str| list.iter().find(|left| left.name.as_str() == called).unwrap();
    assert_eq!(*listed("b"), left);
    let first = listed("f");
    assert_eq!((first.size, first.bytes), (SIZE as u64, 2 * CHUNK as u64));
    assert_eq!((first.from, first.file_hash), (Some(NodeId([1; 32])), None));
    assert_eq!(left.file_hash, Some(head(&b).file_hash()));

    // Strangers' files stay, however old.
    for stranger in ["note.txt", &"a".repeat(63), &format!("{}.x", "a".repeat(64)), &"A".repeat(64)] {
        fs::write(test.partials().join(stranger), "mine").unwrap();
        touch(&test.partials().join(stranger), SystemTime::UNIX_EPOCH);
    }
    touch(&test.partials().join(&first.key.0), SystemTime::now() - 2 * DAY);
    assert_eq!(test.partials_list(DAY), std::slice::from_ref(&left));
    assert!(!test.partials().join(&first.key.0).exists());
    assert!(!test.partials().join(format!("{}.journal", first.key.0)).exists());
    assert_eq!(listing(&test.partials()).len(), 2 + 4);
    assert!(test.partials_list(Duration::ZERO).is_empty());
    assert_eq!(listing(&test.partials()).len(), 4);
}

#[test]
fn a_journal_without_its_file_goes_when_it_is_old() {
    let content = content(SIZE, 1);
    let test = TestPull::begun(&content, &known(&content), 2);
    let journal = test.journal();
    // Killed between giving the file its name and removing what was noted of it.
    fs::rename(test.partial(), test.downloads().join("f")).unwrap();
    test.partials_list(DAY);
    assert!(journal.exists(), "somebody may be about to remove it");
    touch(&journal, SystemTime::now() - 2 * DAY);
    test.partials_list(DAY);
    assert_eq!(test.listing(), ["f"]);
}

#[test]
fn a_list_of_nothing_makes_nothing() {
    let test = TestPull::new();
    assert!(test.partials_list(DAY).is_empty());
    assert_eq!(test.done(Job::DiscardPartial(PartialKey("a".repeat(64)))), JobDone::Discarded);
    assert!(!test.downloads().exists());
}

#[test]
fn discarding_removes_the_file_and_its_journal_and_the_directory() {
    let content = content(SIZE, 1);
    for incoming in [late(&content), known(&content)] {
        let test = TestPull::begun(&content, &incoming, 2);
        let key = test.partials_list(DAY).remove(0).key;
        assert_eq!(test.disk.done(TWO, Job::DiscardPartial(key)), JobDone::Discarded);
        assert!(test.listing().is_empty());
    }
}

#[test]
fn a_key_that_is_no_partial_files_name_touches_nothing() {
    let content = content(SIZE, 1);
    let test = TestPull::begun(&content, &late(&content), 2);
    let journal = test.journal().file_name().unwrap().to_str().unwrap().to_owned();
    let outside = "b".repeat(64);
    fs::write(test.downloads().join(&outside), "mine").unwrap();
    fs::create_dir(test.partials().join("a")).unwrap();
    fs::write(test.partials().join("a").join(&outside), "mine").unwrap();
    let before = listing(test.root.path());
    let absolute = test.downloads().join(&outside).to_str().unwrap().to_owned();
    for key in [
        &format!("../{outside}"),
        &absolute,
        &format!("a/{outside}"),
        "",
        ".",
        "..",
        &journal,
        &format!("{outside}.."),
        &format!("late-{outside}"),
        "a\0b",
        &"c".repeat(64),
    ] {
        assert_eq!(test.disk.done(TWO, Job::DiscardPartial(PartialKey(key.into()))), JobDone::Discarded);
        assert_eq!(listing(test.root.path()), before, "{key}");
    }
}

#[test]
fn release_leaves_what_was_stored_and_only_if_it_is_to_be_kept() {
    let content = content(SIZE, 1);
    for incoming in [late(&content), known(&content)] {
        let is_late = incoming.head.is_none();
        for (keep, stored) in [(true, false), (false, false), (false, true), (true, true)] {
            let test = TestPull::new();
            test.open_new(&incoming);
            if !is_late {
                test.page(&content);
            }
            if stored {
                test.store(&content, 0, is_late);
            }
            let left = test.release(keep);
            assert_eq!(left.is_some(), keep && stored);
            assert_eq!(test.listing().is_empty(), !(keep && stored), "the directory goes too");
            assert_eq!(test.release(true), None);
            if let Some(left) = left {
                assert_eq!(left.bytes, CHUNK as u64);
                assert_eq!(test.open(&incoming).0, Some(left.key));
                // Before it was looked at, nobody knows that it is of no use.
                assert!(test.release(true).is_some());
                test.open(&incoming);
                assert_eq!(test.release(false), None);
                assert!(test.listing().is_empty());
            }
        }
    }
}

#[test]
fn what_was_found_to_be_of_no_use_is_not_kept() {
    let (old, new) = (content(SIZE, 1), content(SIZE, 2));
    let test = TestPull::begun(&old, &known(&old), 2);
    test.open(&known(&new));
    assert!(test.page(&new).is_empty());
    assert_eq!(test.release(true), None);
    assert!(test.listing().is_empty());

    let test = TestPull::begun(&old, &late(&old), 2);
    flip(&test.partial(), 0);
    test.open(&late(&old));
    assert_eq!(test.check(), kept(&old, 0));
    assert_eq!(test.release(true), None);
    assert!(test.listing().is_empty());
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing() {
    let content = content(SIZE, 1);
    let mut test = TestPull::new();
    fs::create_dir(test.downloads()).unwrap();
    test.disk.free_space = |_| Ok(SIZE as u64 - 1);
    for incoming in [late(&content), known(&content)] {
        let failure = failure(test.done(Job::OpenPartial(Arc::new(incoming))));
        assert_eq!(failure.code, Code::NoSpace);
        assert!(test.listing().is_empty());
    }
    // A file in place that is not the one: room is needed only then.
    fs::write(test.downloads().join("f"), super::super::tests::content(SIZE, 2)).unwrap();
    for incoming in [late(&content), known(&content)] {
        let is_late = incoming.head.is_none();
        assert_eq!(test.open(&incoming), (None, true));
        let done = if is_late {
            test.check();
            test.done(Job::StartOver)
        } else {
            test.check()
        };
        assert_eq!(failure(done).code, Code::NoSpace);
        test.release(true);
        assert_eq!(test.listing(), ["f"]);
    }
    test.disk.free_space = |_| Ok(SIZE as u64);
    test.open(&late(&content));
}

#[test]
fn a_second_partial_file_for_one_transfer_is_refused() {
    let test = TestPull::new();
    test.open_new(&late(b"x"));
    failure(test.done(Job::OpenPartial(Arc::new(late(b"y")))));
    failure(test.done(Job::CreatePartial(super::super::tests::manifest(b"y"))));
    test.complete(b"x", true, &[]);
}
