use super::*;
use crate::wire::CHUNK_SIZE;
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
fn a_first_chunk_begins_nowhere_but_at_the_beginning() {
    // A list for the tail of a file alone: it ends in the right hash from a state of its choice.
    let file = File::new(2 * CHUNK_SIZE as usize, 1);
    let cut = Geometry::new(u64::from(CHUNK_SIZE)).unwrap();
    let index = cut.index(0).unwrap();
    let last = file.digest(file.index(1));
    let expected = Expected::new(cut, index, last.previous(), last.entry(), None);
    assert_eq!(expected.check(&last), Err(ChunkFault::State));
    assert_eq!(expected.verify(file.chunk(file.index(1))), Err(ChunkFault::State));
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
fn bytes_of_the_wrong_length_are_refused() {
    let file = File::new(CHUNK_SIZE as usize + 100, 1);
    for index in file.geometry.indices() {
        let whole = file.chunk(index);
        for wrong in [&whole[..whole.len() - 1], &[whole, &[0]].concat(), &[]] {
            let error = ChunkFault::Length { expected: file.geometry.len_of(index), got: wrong.len() as u64 };
            assert_eq!(file.expected(&file.list, index).verify(wrong).as_ref(), Err(&error));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn true_chunks_in_any_order_prove_the_file(size in sizes(), order in Just([0, 1, 2, 3]).prop_shuffle()) {
        let file = File::new(size, 1);
        for raw in order.into_iter().filter(|&i| i < file.list.len()) {
            let index = file.index(raw);
            prop_assert_eq!(file.expected(&file.list, index).verify(file.chunk(index)), Ok(()));
        }
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
}
