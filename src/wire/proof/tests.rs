use super::*;
use crate::wire::{CHUNK_SIZE, ChunkHash};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

/// A file and its true list.
struct File {
    bytes: Vec<u8>,
    geometry: Geometry,
    hash: FileHash,
    list: Vec<Entry>,
}

impl File {
    fn new(size: usize, seed: u8) -> Self {
        let bytes: Vec<u8> = (0..241_u8).cycle().take(size).map(|byte| byte ^ seed).collect();
        let geometry = Geometry::new(size as u64).unwrap();
        let hash = FileHash(Sha256::digest(&bytes).into());
        let mut file = Self { bytes, geometry, hash, list: Vec::new() };
        for index in geometry.indices() {
            let found = file.digest(index);
            file.list.push(found.entry());
        }
        file
    }

    fn chunk(&self, index: ChunkIndex) -> &[u8] {
        let start = usize::try_from(index.offset()).unwrap();
        &self.bytes[start..start + self.geometry.len_of(index) as usize]
    }

    fn index(&self, raw: usize) -> ChunkIndex {
        self.geometry.index(raw as u64).unwrap()
    }

    fn digest(&self, index: ChunkIndex) -> Digested {
        Digested::of(before(&self.list, index), self.chunk(index))
    }

    fn expected(&self, list: &[Entry], index: ChunkIndex) -> Expected {
        Expected::new(self.geometry, index, before(list, index), list[index.as_usize()], Some(self.hash))
    }

    fn dispute(&self, first: &[Entry], second: &[Entry]) -> Option<Dispute> {
        Dispute::between(self.geometry, self.hash, |i| first[i.as_usize()], |i| second[i.as_usize()])
    }
}

fn before(list: &[Entry], index: ChunkIndex) -> State {
    index.as_usize().checked_sub(1).map_or(State::INITIAL, |i| list[i].state)
}

/// Sizes of one to four chunks, mostly near a boundary.
fn sizes() -> impl Strategy<Value = usize> {
    let chunk = CHUNK_SIZE as usize;
    let near = (0..4_usize, prop::sample::select(vec![1_usize, 55, 56, 63, 64, 65, 120]));
    prop_oneof![
        near.clone().prop_map(move |(n, more)| n * chunk + more),
        near.prop_map(move |(n, less)| (n + 1) * chunk - less),
        (1..4_usize).prop_map(move |n| n * chunk),
        1..4 * chunk,
    ]
}

#[derive(Debug, Clone, Copy)]
enum Lie {
    Hash,
    State,
    Both,
}

fn lies() -> impl Strategy<Value = Lie> {
    prop::sample::select(vec![Lie::Hash, Lie::State, Lie::Both])
}

fn tell(lie: Lie, entry: &mut Entry, byte: usize, bit: u8) {
    if matches!(lie, Lie::Hash | Lie::Both) {
        entry.hash.0[byte] ^= 1 << bit;
    }
    if matches!(lie, Lie::State | Lie::Both) {
        entry.state.0[byte] ^= 1 << bit;
    }
}

#[test]
fn an_empty_file_is_complete_at_once_if_the_hash_is_that_of_nothing() {
    let chain = Chain::new(Geometry::new(0).unwrap());
    assert_eq!(chain.prefix(), (0, State::INITIAL));
    assert_eq!(chain.close(FileHash(Sha256::digest([]).into())), Ok(()));
    assert_eq!(chain.close(FileHash([7; 32])), Err(ChunkFault::FileHash));
}

#[test]
fn a_first_chunk_begins_nowhere_but_at_the_beginning() {
    // A list for the tail of a file alone: it ends in the right hash from a state of its choice.
    let file = File::new(2 * CHUNK_SIZE as usize, 1);
    let cut = Geometry::new(u64::from(CHUNK_SIZE)).unwrap();
    let index = cut.index(0).unwrap();
    let last = file.digest(file.index(1));
    let expected = Expected::new(cut, index, last.previous(), last.entry(), None);
    assert_eq!(expected.check(&last), Err(ChunkFault::State));
    assert_eq!(expected.verify(file.chunk(file.index(1))), Err(ChunkFault::State));
    assert_eq!(Chain::new(cut).insert(index, &last), Err(ChunkFault::Broken(0)));
}

#[test]
fn a_list_that_is_true_in_itself_but_of_another_file_is_noticed_at_its_end() {
    let (file, other) = (File::new(CHUNK_SIZE as usize + 10, 1), File::new(CHUNK_SIZE as usize + 10, 2));
    let index = file.index(1);
    assert_eq!(file.expected(&other.list, index).verify(other.chunk(index)), Err(ChunkFault::FileHash));
    let open = Expected::new(file.geometry, index, before(&other.list, index), other.list[1], None);
    assert_eq!(open.verify(other.chunk(index)), Ok(()));
}

#[test]
fn chunks_of_two_files_never_make_a_chain() {
    let (a, b) = (File::new(3 * CHUNK_SIZE as usize, 1), File::new(3 * CHUNK_SIZE as usize, 2));
    let (zero, one, two) = (a.index(0), a.index(1), a.index(2));
    let mut chain = Chain::new(a.geometry);
    assert_eq!(chain.insert(zero, &a.digest(zero)), Ok(true));
    assert_eq!(chain.insert(one, &b.digest(one)), Err(ChunkFault::Broken(1)));
    assert_eq!(chain.insert(two, &b.digest(two)), Ok(true));
    assert_eq!(chain.insert(one, &a.digest(one)), Err(ChunkFault::Broken(2)));
    assert_eq!(chain.prefix(), (1, a.list[0].state));
    assert_eq!(chain.close(a.hash), Err(ChunkFault::Incomplete));
    // The bytes of one file from the state of the other.
    let grafted = Digested::of(a.list[0].state, b.chunk(one));
    assert_eq!(chain.insert(one, &grafted), Err(ChunkFault::Broken(2)));
}

#[test]
fn bytes_of_the_wrong_length_are_refused() {
    let file = File::new(CHUNK_SIZE as usize + 100, 1);
    for index in file.geometry.indices() {
        let whole = file.chunk(index);
        for wrong in [&whole[..whole.len() - 1], &[whole, &[0]].concat(), &[]] {
            let error = ChunkFault::Length { expected: file.geometry.len_of(index), got: wrong.len() as u64 };
            assert_eq!(file.expected(&file.list, index).verify(wrong).as_ref(), Err(&error));
            let found = Digested::of(before(&file.list, index), wrong);
            assert_eq!(Chain::new(file.geometry).insert(index, &found).as_ref(), Err(&error));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn true_chunks_in_any_order_prove_the_file(size in sizes(), order in Just([0, 1, 2, 3]).prop_shuffle()) {
        let file = File::new(size, 1);
        let mut chain = Chain::new(file.geometry);
        let order: Vec<usize> = order.into_iter().filter(|&i| i < file.list.len()).collect();
        for (done, &raw) in order.iter().enumerate() {
            let index = file.index(raw);
            prop_assert_eq!(file.expected(&file.list, index).verify(file.chunk(index)), Ok(()));
            prop_assert_eq!(chain.close(file.hash), Err(ChunkFault::Incomplete));
            prop_assert_eq!(chain.insert(index, &file.digest(index)), Ok(true));
            prop_assert_eq!(chain.insert(index, &file.digest(index)), Ok(false));
            let prefix = (0..).take_while(|i| order[..=done].contains(i)).count();
            let state = prefix.checked_sub(1).map_or(State::INITIAL, |i| file.list[i].state);
            prop_assert_eq!(chain.prefix(), (u32::try_from(prefix).unwrap(), state));
        }
        prop_assert_eq!(chain.close(file.hash), Ok(()));
        prop_assert_eq!(chain.close(FileHash([7; 32])), Err(ChunkFault::FileHash));
    }

    #[test]
    fn a_changed_byte_is_noticed(
        size in sizes(), which in any::<prop::sample::Index>(), place in any::<prop::sample::Index>(), bit in 0_u8..8,
    ) {
        let file = File::new(size, 1);
        let index = file.index(which.index(file.list.len()));
        let mut chunk = file.chunk(index).to_vec();
        let place = place.index(chunk.len());
        chunk[place] ^= 1 << bit;
        prop_assert_eq!(file.expected(&file.list, index).verify(&chunk), Err(ChunkFault::Hash));

        // Without a list, by the time the chain closes.
        let mut chain = Chain::new(file.geometry);
        let mut outcome = Ok(());
        for i in file.geometry.indices() {
            let bytes = if i == index { &chunk } else { file.chunk(i) };
            let found = Digested::of(before(&file.list, i), bytes);
            outcome = outcome.and(chain.insert(i, &found).map(|_| ()));
        }
        prop_assert!(outcome.and_then(|()| chain.close(file.hash)).is_err());
    }

    #[test]
    fn a_false_list_is_noticed_though_all_bytes_are_right(
        size in sizes(), which in any::<prop::sample::Index>(), lie in lies(), byte in 0_usize..32, bit in 0_u8..8,
    ) {
        let file = File::new(size, 1);
        let mut list = file.list.clone();
        let number = which.index(list.len());
        tell(lie, &mut list[number], byte, bit);
        let index = file.index(number);
        let fault = if matches!(lie, Lie::State) { ChunkFault::State } else { ChunkFault::Hash };
        prop_assert_eq!(file.expected(&list, index).verify(file.chunk(index)), Err(fault));
        if !matches!(lie, Lie::Hash) && number + 1 < list.len() {
            let next = file.index(number + 1);
            let fault = file.expected(&list, next).verify(file.chunk(next));
            prop_assert_eq!(fault, Err(ChunkFault::State));
        }
    }

    #[test]
    fn the_chunk_behind_the_last_difference_convicts_the_liar(
        size in sizes(),
        told in prop::collection::vec((any::<prop::sample::Index>(), lies(), 0_usize..32, 0_u8..8), 1..3),
        place in any::<prop::sample::Index>(),
    ) {
        let file = File::new(size, 1);
        let mut list = file.list.clone();
        for (which, lie, byte, bit) in told {
            let number = which.index(list.len());
            tell(lie, &mut list[number], byte, bit);
        }
        prop_assume!(list != file.list);
        prop_assert_eq!(file.dispute(&file.list, &file.list), None);
        for (first, second, liar) in
            [(&list, &file.list, Verdict::FirstLied), (&file.list, &list, Verdict::SecondLied)]
        {
            let dispute = file.dispute(first, second).unwrap();
            let bytes = file.chunk(dispute.index());
            prop_assert_eq!(dispute.judge(bytes), liar);
            let mut wrong = bytes.to_vec();
            wrong[place.index(bytes.len())] ^= 1;
            for wrong in [wrong.as_slice(), &bytes[1..], &[]] {
                prop_assert_eq!(dispute.judge(wrong), Verdict::Unproven);
            }
        }
    }
}

#[test]
fn two_liars_are_both_convicted() {
    let file = File::new(3 * CHUNK_SIZE as usize, 1);
    let (mut first, mut second) = (file.list.clone(), file.list.clone());
    first[0].state = State([1; 32]);
    second[0].state = State([2; 32]);
    // Neither leads anywhere with these bytes, so who sent them might as well be the liar.
    let dispute = file.dispute(&first, &second).unwrap();
    assert_eq!(dispute.judge(file.chunk(dispute.index())), Verdict::Unproven);

    let (mut first, mut second) = (file.list.clone(), file.list.clone());
    first[1].hash = ChunkHash([1; 32]);
    second[1].hash = ChunkHash([2; 32]);
    let dispute = file.dispute(&first, &second).unwrap();
    assert_eq!(dispute.index(), file.index(1));
    assert_eq!(dispute.judge(file.chunk(dispute.index())), Verdict::BothLied);
}
