use proptest::prelude::*;

use super::*;

const NOON: Modified = Modified { seconds: 1_700_000_000, nanoseconds: 123_456_789 };

fn item(path: &str, kind: ItemKind) -> TreeItem {
    TreeItem { path: path.to_owned(), modified: NOON, kind }
}

fn dir(path: &str) -> TreeItem {
    item(path, ItemKind::Directory)
}

fn file(path: &str, size: u64) -> TreeItem {
    item(path, ItemKind::File { size, is_executable: false })
}

fn link(path: &str, target: &str) -> TreeItem {
    item(path, ItemKind::Link { target: target.to_owned() })
}

/// What becomes of a list that somebody wrote by hand, in this order.
fn said(items: &[TreeItem]) -> Result<Tree, BadTree> {
    Tree::decode(encode(NOON, items).unwrap())
}

#[test]
fn a_directory_becomes_one_list_whatever_the_order_it_was_read_in() {
    let executable = item("src/run", ItemKind::File { size: 7, is_executable: true });
    let items =
        [dir("src"), file("src/a", 5), dir("empty"), file("src.c", 1), executable, link("src/l", "../src.c")];
    let lists: Vec<_> = (0..items.len())
        .map(|turn| {
            let mut items = items.to_vec();
            items.rotate_left(turn);
            Tree::of(NOON, &mut items).unwrap().0
        })
        .collect();
    assert!(lists.windows(2).all(|pair| pair[0] == pair[1]));
    let tree = &lists[0];
    let paths: Vec<_> = tree.entries().map(|entry| entry.path).collect();
    assert_eq!(paths, ["empty", "src", "src/a", "src/l", "src/run", "src.c"]);
    assert_eq!((tree.files(), tree.modified()), (3, NOON));
    assert_eq!(tree.size(), tree.as_bytes().len() as u64 + 13);
    let run = tree.entry(4);
    assert_eq!(run.kind, TreeKind::File { size: 7, is_executable: true });
    assert_eq!((run.split(), tree.entry(0).split()), (("src", "run"), ("", "empty")));
    assert_eq!(tree.entry(3).kind, TreeKind::Link { target: "../src.c" });
    assert_eq!(Tree::decode(tree.as_bytes().to_vec()).as_ref(), Ok(tree));
}

#[test]
fn a_place_in_what_travels_is_found_in_its_file() {
    let tree =
        said(&[file("a", 0), file("b", 5), dir("c"), file("d", 0), file("e", 3), file("f", 0)]).unwrap();
    let list = tree.as_bytes().len() as u64;
    let at = |offset| tree.entry(tree.entry_at(list + offset)).path;
    assert_eq!([at(0), at(4), at(5), at(7)], ["b", "b", "e", "e"]);
    assert_eq!((tree.offset(1), tree.offset(4)), (list, list + 5));
}

#[test]
fn an_empty_directory_has_a_list() {
    let tree = said(&[]).unwrap();
    assert_eq!((tree.len(), tree.size()), (0, tree.as_bytes().len() as u64));
    assert!(tree.is_empty());
}

#[test]
fn what_could_write_elsewhere_is_refused() {
    use BadTree as Bad;
    let name = |result| matches!(result, Err(Bad::Name { .. }));
    for path in
        ["..", "../x", "a/../b", "/etc/passwd", "a//b", "a/", ".", "./a", "", "a\0b", "a/\u{202E}b", "a\nb"]
    {
        assert!(name(said(&[dir("a"), file(path, 1)])), "{path:?}");
        assert!(name(said(&[file(path, 1)])), "{path:?}");
        assert!(name(said(&[link(path, "x")])), "{path:?}");
    }
    assert!(name(said(&[file(&"x".repeat(256), 1)])));
    let no_directory = |items: &[TreeItem]| matches!(said(items), Err(Bad::NoDirectory(_)));
    assert!(no_directory(&[file("a/b", 1)]), "its directory is missing");
    assert!(no_directory(&[file("a", 1), file("a/b", 1)]), "it stands in a file");
    assert!(no_directory(&[link("a", "b"), file("a/b", 1)]), "a link, then a file through it");
    assert!(no_directory(&[dir("a"), link("a/b", "."), file("a/b/c", 1)]));
    assert!(no_directory(&[dir("a"), dir("a/b"), dir("c"), dir("c/d/e")]));
    let order = |items: &[TreeItem]| matches!(said(items), Err(Bad::OutOfOrder(_)));
    assert!(order(&[file("a", 1), file("a", 1)]), "twice");
    assert!(order(&[file("a", 1), link("a", "b")]), "twice, a link in place of the file");
    assert!(order(&[dir("a"), dir("b"), file("a/x", 1)]), "a directory that was left");
    let case = |items: &[TreeItem]| matches!(said(items), Err(Bad::CaseCollision(_)));
    assert!(case(&[file("A", 1), file("a", 1)]));
    assert!(case(&[dir("A"), file("A/x", 1), link("B", "A"), dir("a")]));
    assert!(case(&[file("ÄB", 1), file("äb", 1)]));
    assert!(case(&[file("aς", 1), file("aσ", 1)]) && case(&[file("S", 1), file("ſ", 1)]));
    assert!(case(&[file("SS", 1), file("ß", 1)]));
}

#[test]
fn links_lead_inside_all_the_way_or_are_refused() {
    let tree = |target: &str| {
        let items = [
            dir("a"),
            dir("a/b"),
            link("a/b/l", target),
            file("a/f", 1),
            link("a/up", ".."),
            link("here", "."),
            link("into", "a/b"),
        ];
        said(&items)
    };
    for inside in [
        "../f",
        "..",
        "../..",
        ".",
        "./",
        "x",
        "x/y",
        "../../a/b/../f",
        "../../here/a",
        "../up/into",
        "../../into/..",
        "../up/a/f",
    ] {
        assert!(tree(inside).is_ok(), "{inside}");
    }
    for outside in [
        "/etc/passwd",
        "",
        "/",
        "../../..",
        "../../../x",
        "../../here/..",
        "../up/..",
        "../../into/../../..",
        // What is not there may be anything one day.
        "x/..",
        "../f/..",
        "x/../../../..",
        "l",
        "../b/l",
        "./l/x",
        "a\0",
        "../\u{202E}",
    ] {
        assert_eq!(tree(outside), Err(BadTree::Link("a/b/l".to_owned())), "{outside}");
    }
    let round = said(&[link("a", "b"), link("b", "c"), link("c", "a")]);
    assert_eq!(round, Err(BadTree::Link("a".to_owned())), "a cycle");
}

#[test]
fn links_that_lead_out_are_left_out_of_a_list_of_our_own() {
    let mut items = vec![link("out", "/etc"), file("a", 1), link("in", "a"), link("through", "out/x")];
    let (tree, left_out) = Tree::of(NOON, &mut items).unwrap();
    assert_eq!(tree.entries().map(|entry| entry.path).collect::<Vec<_>>(), ["a", "in"]);
    assert_eq!(left_out.iter().map(|item| item.path.as_str()).collect::<Vec<_>>(), ["out", "through"]);
    assert_eq!(items.len(), 2);
}

#[test]
fn links_that_take_for_ever_to_follow_are_refused() {
    // Each leads through the one before twice.
    let mut items = vec![link("l000", ".")];
    items.extend((1..400).map(|n| {
        let before = format!("l{:03}/", n - 1);
        link(&format!("l{n:03}"), &before.repeat(2))
    }));
    assert!(said(&items[..3]).is_ok());
    assert!(said(&items).is_err());
    let far = vec!["."; 500].join("/");
    let items: Vec<_> = (0..3000).map(|n| link(&format!("{n:04}"), &far)).collect();
    assert!(said(&items[..100]).is_ok());
    assert_eq!(said(&items), Err(BadTree::TooManyLinks));
    // What cannot be is not looked for.
    let nowhere = vec!["a"; 400].join("/");
    let items: Vec<_> =
        (0..40).map(|n| link(&format!("{n:02}"), &format!("{:02}/{nowhere}", n + 1))).collect();
    assert!(matches!(said(&items), Err(BadTree::Link(_))));
    assert!(
        matches!(said(&[link("a", &"x/".repeat(600))]), Err(BadTree::Link(_))),
        "a target that is too long"
    );
}

#[test]
fn what_is_too_much_is_refused() {
    let mut deep: Vec<_> = (1..=MAX_DEPTH).map(|depth| dir(&vec!["d"; depth].join("/"))).collect();
    assert!(said(&deep).is_ok());
    deep.push(dir(&vec!["d"; MAX_DEPTH + 1].join("/")));
    assert!(matches!(said(&deep), Err(BadTree::TooDeep(_))));
    let long: Vec<_> = (1..=5).map(|depth| dir(&vec!["d".repeat(250); depth].join("/"))).collect();
    assert!(matches!(said(&long), Err(BadTree::TooDeep(_))));
    assert_eq!(said(&[file("a", u64::MAX), file("b", 1)]), Err(BadTree::TooLarge));
    assert_eq!(said(&[file("a", MAX_MANIFEST_SIZE)]), Err(BadTree::TooLarge));
    let many: Vec<_> = (0..1_000_000).map(|n| file(&format!("{n:07}"), 0)).collect();
    assert_eq!(encode(NOON, &many).and_then(Tree::decode), Err(BadTree::TooLong));
    let mut counted = encode(NOON, &[]).unwrap();
    counted[23..27].copy_from_slice(&u32::MAX.to_be_bytes());
    assert_eq!(Tree::decode(counted), Err(BadTree::TooLong));
}

#[test]
fn damage_is_refused() {
    let whole = encode(NOON, &[dir("a"), link("a/b", "."), file("a/c", 9)]).unwrap();
    for end in 0..whole.len() {
        assert!(matches!(Tree::decode(whole[..end].to_vec()), Err(BadTree::Malformed(_))), "{end}");
    }
    assert!(matches!(Tree::decode([whole.as_slice(), b"x"].concat()), Err(BadTree::Malformed(_))));
    let mut of_another_kind = whole.clone();
    of_another_kind[27] = b'q';
    assert!(matches!(Tree::decode(of_another_kind), Err(BadTree::Malformed(_))));
    let mut no_time = whole;
    no_time[19..23].copy_from_slice(&1_000_000_000_u32.to_be_bytes());
    assert!(matches!(Tree::decode(no_time), Err(BadTree::Malformed(_))));
}

proptest! {
    #[test]
    fn whatever_is_taken_is_said_again_in_the_same_bytes(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        bytes.splice(0..0, MAGIC.iter().copied());
        if let Ok(tree) = Tree::decode(bytes.clone()) {
            let items: Vec<_> = tree.entries().map(|entry| item(entry.path, match entry.kind {
                TreeKind::Directory => ItemKind::Directory,
                TreeKind::File { size, is_executable } => ItemKind::File { size, is_executable },
                TreeKind::Link { target } => ItemKind::Link { target: target.to_owned() },
            })).map(|item| TreeItem { modified: tree.entries().find(|entry| entry.path == item.path).unwrap().modified, ..item }).collect();
            prop_assert_eq!(encode(tree.modified(), &items), Ok(bytes));
        }
    }

    #[test]
    fn flipped_bytes_never_make_a_list_that_leads_out(
        at in 27_usize..140,
        byte in any::<u8>(),
    ) {
        let mut bytes = encode(NOON, &[dir("a"), link("a/b", "../c"), file("a/c", 9), file("c", 1)]).unwrap();
        let at = at.min(bytes.len() - 1);
        bytes[at] = byte;
        if let Ok(tree) = Tree::decode(bytes) {
            for entry in tree.entries() {
                prop_assert!(entry.path.split('/').all(|name| SafeName::new(name).is_ok()));
            }
        }
    }
}
