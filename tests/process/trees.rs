//! Whole directories between real processes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::files::{digest_of, listing, noise, snapshot};
use crate::support::{BaselinePeer, Gate, TestNode, eventually};

/// Copies this project's own sources so many times: a real tree of thousands of files.
fn write_sources(dir: &Path, times: u32) {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
            let (from, to) = (entry.path(), to.join(entry.file_name()));
            if entry.file_type().unwrap().is_dir() {
                copy(&from, &to);
            } else {
                fs::copy(from, to).unwrap();
            }
        }
    }
    for number in 0..times {
        for part in ["src", "tests", "docs"] {
            copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join(part), &dir.join(format!("{number}/{part}")));
        }
        symlink("../src/lib.rs", dir.join(format!("{number}/docs/map"))).unwrap();
        symlink("src", dir.join(format!("{number}/sources"))).unwrap();
        fs::create_dir(dir.join(format!("{number}/empty"))).unwrap();
    }
}

fn wait_for_directory(node: &TestNode, name: &str) -> (PathBuf, Value) {
    let received = node.wait_for(&json!({ "event": "received", "name": name }));
    assert_eq!(received.get("sha256"), None, "{received}");
    (node.dir().join(received["path"].as_str().unwrap()), received)
}

#[test]
fn a_source_tree_of_thousands_of_files_arrives_identical() {
    let (mut a, b) = (TestNode::start(), TestNode::start());
    let source = a.dir().join("tree");
    write_sources(&source, 12);
    let files = snapshot(&source).values().filter(|entry| entry.0 == 'f').count();
    assert!(files > 1500, "{files}");
    a.connect(b.addr());
    a.sendfile(b.addr(), &source);
    let (path, received) = wait_for_directory(&b, "tree");
    let sent = a.wait_for(&json!({ "event": "sent", "name": "tree", "confirmed": true }));
    assert_eq!((&received["files"], &sent["files"]), (&json!(files), &json!(files)));
    assert!(snapshot(&path) == snapshot(&source));

    // Again: nothing is sent. And what has changed is sent beside it.
    a.sendfile(b.addr(), &source);
    b.wait_for(&json!({ "event": "received", "already": true, "name": "tree" }));
    fs::write(source.join("3/src/new.rs"), "// new\n").unwrap();
    a.sendfile(b.addr(), &source);
    let (path, _) = wait_for_directory(&b, "tree");
    assert_eq!(path, b.downloads().join("tree (1)"));
    assert!(snapshot(&path) == snapshot(&source));
    eventually("nothing else is left", || {
        fs::read_dir(b.downloads()).unwrap().count() == 2 && b.downloads().join("tree").is_dir()
    });
}

#[test]
fn a_killed_receiver_goes_on_in_the_middle_of_a_tree() {
    const FIRST: usize = 24 << 20;
    let (mut a, mut b) = (TestNode::start(), TestNode::start());
    let source = a.dir().join("tree");
    for number in 0..600 {
        let path = source.join(format!("{}/{number}", number % 20));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, noise(80_000, number)).unwrap();
    }
    let size = 600 * 80_000;
    let gate = Gate::before(b.addr(), FIRST);
    a.connect(gate.addr());
    a.sendfile(gate.addr(), &source);
    gate.wait_until_held();
    let staged = |b: &TestNode| listing(&b.downloads()).iter().filter(|path| path.contains(".tree/")).count();
    eventually("much of it was written", || staged(&b) > 200);
    b.restart();
    eventually("the part is listed", || {
        let transfers = b.result_of("transfers");
        transfers["transfers"].get(0).is_some_and(|left| left["stage"] == "partial")
    });
    let second = Gate::before(b.addr(), usize::MAX);
    a.connect(second.addr());
    let (path, _) = wait_for_directory(&b, "tree");
    assert!(snapshot(&path) == snapshot(&source));
    let passed = gate.passed() + second.passed();
    // What was under way, and what TLS and the protocol add.
    assert!(passed < size + (17 << 20), "{passed} bytes passed");
    eventually("only the directory is left", || {
        fs::read_dir(b.downloads()).unwrap().all(|entry| entry.unwrap().file_name() == "tree")
    });
}

/// An entry of a list: its kind, its path, and what follows that.
type Entry<'a> = (u8, &'a str, &'a [u8]);

/// The list of a directory, written by hand.
fn list(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut list = b"p2p-tree-1\n".to_vec();
    list.extend([0; 12]);
    list.extend(u32::try_from(entries.len()).unwrap().to_be_bytes());
    for (kind, path, rest) in entries {
        list.push(*kind);
        list.extend([0; 12]);
        list.extend(u16::try_from(path.len()).unwrap().to_be_bytes());
        list.extend(path.as_bytes());
        list.extend(*rest);
    }
    list
}

fn link_to(target: &str) -> Vec<u8> {
    [&u16::try_from(target.len()).unwrap().to_be_bytes(), target.as_bytes()].concat()
}

/// A peer that says that it knows directories.
fn hostile_peer(node: &TestNode) -> BaselinePeer {
    let peer = BaselinePeer::connect(node.addr());
    let hello = json!({
        "version": 1, "agent": "hostile", "instance": "0123456789abcdef0123456789abcdef",
        "listen_port": 0, "features": ["transfer", "tree"],
    });
    peer.send("HELLO", &hello);
    peer.hear(&json!({ "type": "HELLO" }));
    peer
}

/// Offers one chunk as a directory and sends it when it is asked for. Answers why it was refused.
fn refusal(peer: &BaselinePeer, id: u64, content: &[u8], list_bytes: usize, files: u32) -> Value {
    let tree = json!({ "bytes": list_bytes, "files": files });
    peer.send("OFFER", &json!({ "id": id, "name": "dir", "size": content.len(), "tree": tree }));
    let answer = peer.hear_next();
    if answer["type"] == "REFUSE" {
        return answer;
    }
    assert_eq!(answer["type"], "ACCEPT", "{answer}");
    peer.hear(&json!({ "type": "PULL" }));
    // The state after one chunk, and its hash; nobody looks at them before the list is read.
    let digested = peer_to_peer::wire::Digested::of(peer_to_peer::wire::State::INITIAL, content).entry();
    let data = json!({
        "type": "DATA",
        "payload": {
            "id": id, "chunk": 0, "length": content.len(), "offset": 0,
            "hash": digest_of(content), "state": digested.state.to_string(),
        },
        "size": content.len(),
    });
    peer.send_line(&data.to_string());
    peer.send_raw(content);
    peer.hear(&json!({ "type": "REFUSE" }))
}

#[test]
fn hostile_lists_are_refused_whole_with_a_reason() {
    let node = TestNode::start_plain();
    let peer = hostile_peer(&node);
    let five = 5_u64.to_be_bytes();
    let file = |path| (b'f', path, five.as_slice());
    let (up, out, round) = (link_to(".."), link_to("/etc"), link_to("b"));
    let back = link_to("a");
    let deep = vec!["d"; 300].join("/");
    let cases: [(&str, &[Entry<'_>]); 11] = [
        ("`..`", &[file("..")]),
        ("`../x`", &[file("../x")]),
        ("`/etc/passwd`", &[file("/etc/passwd")]),
        ("`a`", &[file("a"), file("a")]),
        ("`a`", &[file("A"), file("a")]),
        ("`a/b`", &[(b'l', "a", &up), file("a/b")]),
        ("`a/b`", &[file("a/b")]),
        ("`a`", &[(b'l', "a", &up)]),
        ("`a`", &[(b'l', "a", &out)]),
        ("`a`", &[(b'l', "a", &round), (b'l', "b", &back)]),
        (&deep, &[(b'd', &deep, &[])]),
    ];
    for (number, (named, entries)) in cases.iter().enumerate() {
        let list = list(entries);
        let files = entries.iter().filter(|entry| entry.0 == b'f').count();
        let content = [list.as_slice(), &vec![b'x'; 5 * files]].concat();
        let refused = refusal(&peer, number as u64 + 1, &content, list.len(), u32::try_from(files).unwrap());
        let payload = &refused["payload"];
        assert_eq!(payload["code"], "bad_tree", "{named}: {refused}");
        let why = payload["message"].as_str().unwrap();
        let cut: String = named.chars().take(150).collect();
        assert!(why.contains(&cut), "{named} is not in {why}");
    }
    // Too much to even begin with.
    let entries = refusal(&peer, 100, &[0; 100], 100, 1_000_000);
    assert_eq!(entries["payload"]["code"], "too_large", "{entries}");
    peer.send(
        "OFFER",
        &json!({ "id": 101, "name": "dir", "size": 1_u64 << 40, "tree": { "bytes": 1 << 30, "files": 1 } }),
    );
    assert_eq!(peer.hear(&json!({ "type": "REFUSE" }))["payload"]["code"], "too_large");
    node.assert_alive();
    eventually("nothing is left", || listing(&node.downloads()).is_empty());
    let around: Vec<_> = listing(node.dir()).into_iter().filter(|path| path.ends_with("/x")).collect();
    assert!(around.is_empty(), "{around:?}");
}

#[test]
fn a_peer_that_knows_no_directories_is_offered_none() {
    let mut node = TestNode::start_plain();
    let peer = BaselinePeer::connect(node.addr());
    let name = node.wait_for_peer();
    let source = node.dir().join("tree");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "x").unwrap();
    node.sendfile(&name, &source);
    assert_eq!(node.wait_failed("tree"), "unsupported");
    assert!(peer.is_connected());
}
