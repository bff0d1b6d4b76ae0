use super::*;
use crate::wire::Digested;
use proptest::prelude::*;

const CHUNK: u64 = CHUNK_SIZE as u64;

/// Entries that belong to no file; what a list says is checked apart from what it means.
fn entry(number: u32) -> Entry {
    let digest = |what: u8| Sha256::new().chain_update([what]).chain_update(number.to_be_bytes()).finalize();
    Entry { hash: ChunkHash(digest(0).into()), state: State(digest(1).into()) }
}

fn made(chunks: u32, file_hash: FileHash) -> (ManifestHead, Vec<Page>) {
    let mut builder = ManifestBuilder::new(u64::from(chunks) * CHUNK).unwrap();
    let mut pages = Vec::new();
    for number in 0..chunks {
        assert_eq!(builder.given(), number);
        pages.extend(builder.push(entry(number)).unwrap());
        assert_eq!(builder.state(), entry(number).state);
    }
    assert_eq!(
        builder.push(entry(chunks)),
        Err(BadManifest::EntryCount { expected: chunks, got: chunks + 1 })
    );
    (builder.finish(file_hash).unwrap(), pages)
}

fn again(head: &ManifestHead, digests: &[u8]) -> Result<ManifestHead, BadManifest> {
    ManifestHead::from_bytes(head.root(), head.geometry().size(), head.file_hash(), digests)
}

#[test]
fn the_numbers_in_protocol_md_are_right() {
    let size = CHUNK + 3;
    let file: Vec<u8> = (0..251_u8).cycle().take(CHUNK_SIZE as usize + 3).collect();
    let (first, second) = file.split_at(CHUNK_SIZE as usize);
    let first = Digested::of(State::INITIAL, first);
    let second = Digested::of(first.entry().state, second);
    let mut builder = ManifestBuilder::new(size).unwrap();
    assert_eq!(builder.push(first.entry()), Ok(None));
    let page = builder.push(second.entry()).unwrap().unwrap();
    let head = builder.finish(second.file_hash(size)).unwrap();
    assert_eq!(head.file_hash(), FileHash(Sha256::digest(&file).into()));

    let doc = include_str!("../../../docs/PROTOCOL.md");
    let (e0, e1) = (first.entry(), second.entry());
    for (name, value) in [
        ("file hash", head.file_hash().to_string()),
        ("hash of chunk 0", e0.hash.to_string()),
        ("state after chunk 0", e0.state.to_string()),
        ("hash of chunk 1", e1.hash.to_string()),
        ("state after chunk 1", e1.state.to_string()),
        ("digest of page 0", head.page_digests()[0].to_string()),
        ("root", head.root().to_string()),
    ] {
        assert!(doc.contains(&format!("| {name} | `{value}` |")), "{name}: {value}");
    }
    // And once more from the prose, with nothing of ours.
    let entries = [e0.hash.0, e0.state.0, e1.hash.0, e1.state.0].concat();
    assert_eq!(page.to_bytes(), entries);
    let page = Sha256::digest([b"p2p-page-v1\0\0\0\0\0".as_slice(), &[0; 8], &entries].concat());
    let root = [b"p2p-manifest-v1\0".as_slice(), &size.to_be_bytes(), &head.file_hash().0, &page].concat();
    assert_eq!(head.root(), Root(Sha256::digest(root).into()));
}

#[test]
fn an_empty_file_has_a_head_and_no_page() {
    let empty = FileHash(Sha256::digest([]).into());
    let (head, pages) = made(0, empty);
    assert_eq!((head.pages(), pages.len()), (0, 0));
    assert_eq!(again(&head, &[]).unwrap(), head);
    assert_eq!(head.check_page(0, &[]), Err(BadManifest::NoSuchPage { number: 0, pages: 0 }));
    let other = FileHash([7; 32]);
    assert_eq!(ManifestBuilder::new(0).unwrap().finish(other), Err(BadManifest::NotEmpty));
}

#[test]
fn a_manifest_is_the_same_after_a_journey() {
    for chunks in [1, 2, 1023, 1024, 1025, 2048, 2049] {
        let (head, pages) = made(chunks, FileHash([7; 32]));
        let arrived = again(&head, &head.to_bytes()).unwrap();
        assert_eq!(arrived, head);
        assert_eq!(arrived.pages() as usize, pages.len());
        for page in &pages {
            assert_eq!(arrived.check_page(page.number().into(), &page.to_bytes()).as_ref(), Ok(page));
        }
        for index in head.geometry().indices() {
            let page = &pages[ManifestHead::page_of(index) as usize];
            assert_eq!(page.entry(index), Some(entry(index.get())));
            let expected = match index.get() {
                0 => Some(State::INITIAL),
                number if number % ENTRIES_PER_PAGE == 0 => None,
                number => Some(entry(number - 1).state),
            };
            assert_eq!(page.state_before(index), expected);
            for other in pages.iter().filter(|other| other.number() != page.number()) {
                assert_eq!((other.entry(index), other.state_before(index)), (None, None));
            }
        }
    }
}

#[test]
fn pages_in_each_others_place_are_refused() {
    let (head, pages) = made(3 * ENTRIES_PER_PAGE, FileHash([7; 32]));
    for page in &pages {
        for number in (0..3).filter(|&number| number != page.number()) {
            assert_eq!(head.check_page(number.into(), &page.to_bytes()), Err(BadManifest::WrongPage(number)));
        }
    }
    for number in [3, u64::from(u32::MAX) + 1] {
        let bytes = pages[0].to_bytes();
        assert_eq!(head.check_page(number, &bytes), Err(BadManifest::NoSuchPage { number, pages: 3 }));
    }
    let mut swapped = head.to_bytes();
    swapped[..64].rotate_left(32);
    assert_eq!(again(&head, &swapped), Err(BadManifest::WrongRoot));
}

#[test]
fn equal_pages_have_different_digests() {
    let mut builder = ManifestBuilder::new(2 * u64::from(ENTRIES_PER_PAGE) * CHUNK).unwrap();
    for _ in 0..2 * ENTRIES_PER_PAGE {
        builder.push(entry(0)).unwrap();
    }
    let head = builder.finish(FileHash([7; 32])).unwrap();
    assert_ne!(head.page_digests()[0], head.page_digests()[1]);
}

#[test]
fn lists_of_the_wrong_length_are_refused() {
    let (head, pages) = made(ENTRIES_PER_PAGE + 2, FileHash([7; 32]));
    let digests = head.to_bytes();
    let longer = [digests.as_slice(), &[0; 32]].concat();
    for wrong in [&digests[..32], &digests[..63], &longer, &[]] {
        assert_eq!(again(&head, wrong), Err(BadManifest::HeadLength { expected: 64, got: wrong.len() }));
    }
    let page = pages[1].to_bytes();
    let longer = [page.as_slice(), &[0; 64]].concat();
    for wrong in [&page[..64], &page[..127], &longer, &[]] {
        let error = BadManifest::PageLength { number: 1, expected: 128, got: wrong.len() };
        assert_eq!(head.check_page(1, wrong), Err(error));
    }
    let mut short = ManifestBuilder::new(3 * CHUNK).unwrap();
    short.push(entry(0)).unwrap();
    let error = BadManifest::EntryCount { expected: 3, got: 1 };
    assert_eq!(short.finish(FileHash([7; 32])), Err(error));
}

#[test]
fn the_largest_head_fits_one_body() {
    let digests = vec![0; 1 << 20];
    let wrong = |size| ManifestHead::from_bytes(Root([0; 32]), size, FileHash([7; 32]), &digests);
    assert_eq!(wrong(MAX_MANIFEST_SIZE), Err(BadManifest::WrongRoot));
    for size in [MAX_MANIFEST_SIZE + 1, u64::MAX] {
        assert_eq!(wrong(size), Err(BadManifest::TooLarge(size)));
        assert_eq!(ManifestBuilder::new(size).map(|_| ()), Err(BadManifest::TooLarge(size)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_changed_bit_is_noticed(chunks in 1_u32..1100, place in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let (head, pages) = made(chunks, FileHash([7; 32]));
        let flip = |bytes: &mut [u8]| bytes[place.index(bytes.len())] ^= 1 << bit;
        let mut digests = head.to_bytes();
        flip(&mut digests);
        prop_assert_eq!(again(&head, &digests), Err(BadManifest::WrongRoot));
        for page in &pages {
            let mut bytes = page.to_bytes();
            flip(&mut bytes);
            let number = page.number();
            prop_assert_eq!(head.check_page(number.into(), &bytes), Err(BadManifest::WrongPage(number)));
        }
        let (size, mut hash, mut root) = (head.geometry().size(), head.file_hash(), head.root());
        flip(&mut hash.0);
        flip(&mut root.0);
        let wrong = Err(BadManifest::WrongRoot);
        let digests = head.to_bytes();
        prop_assert_eq!(&ManifestHead::from_bytes(head.root(), size, hash, &digests), &wrong);
        prop_assert_eq!(&ManifestHead::from_bytes(root, size, head.file_hash(), &digests), &wrong);
        // A size that asks for as many pages, and even for as many chunks.
        prop_assert_eq!(&ManifestHead::from_bytes(head.root(), size - 1, head.file_hash(), &digests), &wrong);
    }

    #[test]
    fn entries_are_the_same_after_a_journey(bytes in any::<[u8; 32]>(), other in any::<[u8; 32]>()) {
        let entry = Entry { hash: ChunkHash(bytes), state: State(other) };
        prop_assert_eq!(&entry.to_bytes()[..32], &bytes);
        prop_assert_eq!(Entry::from_bytes(&entry.to_bytes()), entry);
    }
}
