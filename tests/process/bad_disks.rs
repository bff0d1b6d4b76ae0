//! What stands in the way on disk: things in the downloads that are never touched, places that
//! cannot be written, and sources that cannot be read.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::support::files::{CHUNK, listing, noise, write_noise};
use crate::support::{BaselinePeer, Content, Gate, NodeSetup, TestNode, eventually};

fn make_fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Sends a file to the node, which must arrive under that name.
fn assert_arrives_as(node: &TestNode, file: &Content, path: &Path) {
    let peer = BaselinePeer::connect(node.addr());
    peer.send_file(file);
    assert_eq!(node.wait_received(&file.name), path);
    assert!(fs::symlink_metadata(path).unwrap().is_file());
    assert!(fs::read(path).unwrap() == file.bytes);
}

/// A node that has begun to send the file to the other one.
fn sending(file: &Content, to: &TestNode) -> TestNode {
    let mut sender = TestNode::start_plain();
    let source = sender.dir().join(&file.name);
    fs::write(&source, &file.bytes).unwrap();
    sender.connect_to(to);
    sender.sendfile(to.addr(), &source);
    sender
}

#[test]
fn nothing_in_the_downloads_is_written_through_followed_or_replaced() {
    let setup = NodeSetup::plain();
    let downloads = setup.downloads();
    let outside = setup.dir().join("outside.txt");
    fs::create_dir_all(downloads.join("a directory")).unwrap();
    fs::write(&outside, "untouched").unwrap();
    fs::write(downloads.join("a file"), "untouched").unwrap();
    fs::write(downloads.join("read-only"), "untouched").unwrap();
    fs::set_permissions(downloads.join("read-only"), fs::Permissions::from_mode(0o444)).unwrap();
    symlink(&outside, downloads.join("a symlink")).unwrap();
    symlink(setup.dir().join("nowhere"), downloads.join("a dangling symlink")).unwrap();
    symlink(setup.dir(), downloads.join("a symlink to a directory")).unwrap();
    symlink("a symlink to itself", downloads.join("a symlink to itself")).unwrap();
    make_fifo(&downloads.join("a FIFO"));
    let before = listing(&downloads);
    let node = setup.start();

    for name in &before {
        let arrives = downloads.join(format!("{name} (1)"));
        assert_arrives_as(&node, &Content::new(name, format!("content of {name}")), &arrives);
        // Empty ones go another way on the wire and must not on disk.
        let arrives = downloads.join(format!("{name} (2)"));
        assert_arrives_as_empty(&node, name, &arrives);
    }
    for name in ["a file", "read-only"] {
        assert_eq!(fs::read_to_string(downloads.join(name)).unwrap(), "untouched");
    }
    assert_eq!(fs::read_to_string(&outside).unwrap(), "untouched");
    assert_eq!(fs::read_link(downloads.join("a symlink")).unwrap(), outside);
    assert!(fs::symlink_metadata(downloads.join("a FIFO")).is_ok_and(|it| !it.is_file() && !it.is_dir()));
    assert!(!node.dir().join("nowhere").exists());
    eventually("everything is there three times", || {
        let mut expected: Vec<String> = before
            .iter()
            .flat_map(|name| [name.clone(), format!("{name} (1)"), format!("{name} (2)")])
            .collect();
        expected.sort();
        listing(&downloads) == expected
    });
}

fn assert_arrives_as_empty(node: &TestNode, name: &str, path: &Path) {
    let peer = BaselinePeer::connect(node.addr());
    peer.send("FILE_OFFER", &Content::new(name, "").offer());
    assert_eq!(node.wait_received(name), path);
    assert_eq!(fs::symlink_metadata(path).unwrap().len(), 0);
}

/// Whoever can write to the downloads could have planted these before the file was offered.
#[test]
fn partial_files_are_never_written_through_a_link() {
    let file = Content::new("file.bin", noise(CHUNK + 1, 1));
    for planted in ["a symlink to a directory", "a symlink to a file", "a hard link"] {
        let setup = NodeSetup::plain();
        let downloads = setup.downloads();
        let elsewhere = setup.dir().join("elsewhere");
        fs::create_dir_all(&elsewhere).unwrap();
        fs::create_dir_all(&downloads).unwrap();
        fs::write(elsewhere.join(&file.hash), "untouched").unwrap();
        let (partials, victim) = (downloads.join(".p2p-partial"), elsewhere.join(&file.hash));
        if planted == "a symlink to a directory" {
            symlink(&elsewhere, &partials).unwrap();
        } else {
            fs::create_dir(&partials).unwrap();
            let link = if planted == "a hard link" { fs::hard_link } else { symlink };
            link(&victim, &partials.join(&file.hash)).unwrap();
        }
        let node = setup.start();
        let _sender = sending(&file, &node);
        // It may be received all the same, or fail.
        node.wait_where("an end of the transfer", |event| {
            event["name"] == "file.bin"
                && (event["event"] == "received" || event["event"] == "transfer_failed")
        });
        assert_eq!(listing(&elsewhere), [file.hash.as_str()], "{planted}");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched", "{planted}");
        node.assert_alive();
    }
}

#[test]
fn a_file_named_like_the_directory_of_partial_files_does_no_harm() {
    let node = TestNode::start_plain();
    for name in [".p2p-partial", ".P2P-PARTIAL"] {
        let _sender = sending(&Content::new(name, name), &node);
        node.wait_received(name);
    }
    let after = Content::new("after.bin", noise(2 * CHUNK, 1));
    assert_arrives_as(&node, &after, &node.downloads().join("after.bin"));
}

#[test]
fn a_source_that_is_no_readable_file_is_refused_with_a_reason() {
    let receiver = TestNode::start();
    let setup = NodeSetup::new();
    let dir = setup.dir().to_owned();
    fs::create_dir(dir.join("a directory")).unwrap();
    make_fifo(&dir.join("a FIFO"));
    symlink(dir.join("nowhere"), dir.join("a dangling symlink")).unwrap();
    fs::create_dir(dir.join("a directory/of another")).unwrap();
    fs::set_permissions(dir.join("a directory/of another"), fs::Permissions::from_mode(0o000)).unwrap();
    let unreadable = dir.join("unreadable");
    fs::write(&unreadable, "secret").unwrap();
    fs::set_permissions(&unreadable, fs::Permissions::from_mode(0o000)).unwrap();
    let mut node = setup.unprivileged().start();
    node.connect(receiver.addr());

    for source in [
        "a directory",
        "a FIFO",
        "a dangling symlink",
        "unreadable",
        "missing",
        "missing/too",
        "/dev/zero",
        "/",
    ] {
        let cmd = node.sendfile(receiver.addr(), Path::new(source));
        let failure = node.wait_where(&format!("`{source}` to be refused"), |event| {
            event["event"] == "transfer_failed" || (event["event"] == "error" && event["cmd"] == cmd)
        });
        assert_eq!(failure["code"], "source_unreadable", "{source}: {failure}");
    }
    // A symlink to a file is the file, for whoever sends it.
    fs::write(dir.join("a file"), "content").unwrap();
    symlink("a file", dir.join("a symlink")).unwrap();
    node.sendfile(receiver.addr(), Path::new("a symlink"));
    assert_eq!(fs::read_to_string(receiver.wait_received("a symlink")).unwrap(), "content");
}

#[test]
fn a_name_that_would_lie_is_not_sent() {
    let (mut node, receiver) = (TestNode::start(), TestNode::start());
    node.connect(receiver.addr());
    let source = node.dir().join("annexe\u{202e}fdp.exe");
    fs::write(&source, "content").unwrap();
    let cmd = node.sendfile(receiver.addr(), &source);
    let failure = node.wait_where("a refusal", |event| event["code"] == "bad_name");
    assert!(failure["event"] == "transfer_failed" || failure["cmd"] == cmd, "{failure}");
    node.assert_alive();
}

#[test]
fn a_source_that_changes_while_it_is_sent_fails_the_transfer() {
    let shorten = |file: &fs::File| file.set_len(1 << 20).unwrap();
    let overwrite = |file: &fs::File| (0..64).for_each(|mib| file.write_all_at(b"new", mib << 20).unwrap());
    for change in [&shorten as &dyn Fn(&fs::File), &overwrite] {
        let (mut node, receiver) = (TestNode::start(), TestNode::start());
        let gate = Gate::before(receiver.addr(), 4 << 20);
        node.connect(gate.addr());
        let source = node.dir().join("log.bin");
        write_noise(&source, 64 << 20, 1);
        node.sendfile(gate.addr(), &source);
        gate.wait_until_held();
        change(&fs::File::options().write(true).open(&source).unwrap());
        gate.open();
        assert_eq!(node.wait_failed("log.bin"), "source_changed");
        // The connection is still of use.
        node.type_line(&format!("send {} sorry", gate.addr()));
        receiver.wait_for(&json!({ "event": "message", "text": "sorry" }));
        assert_eq!(receiver.count(&json!({ "event": "received" })), 0);
    }
}

/// The node takes the offer of an honest peer, cannot write, says so, and lives on.
fn assert_disk_error(node: &TestNode, file: &Content) {
    let sender = sending(file, node);
    let failure = node.wait_for(&json!({ "event": "transfer_failed", "name": file.name }));
    assert_eq!(failure["code"], "disk_error");
    assert!(!failure["reason"].as_str().unwrap().contains('\n'));
    node.assert_alive();
    assert_eq!(sender.count(&json!({ "event": "sent" })), 0);
}

#[test]
fn downloads_that_are_a_file_fail_the_transfer_and_not_the_node() {
    let setup = NodeSetup::plain();
    fs::write(setup.downloads(), "untouched").unwrap();
    let node = setup.start();
    assert_disk_error(&node, &Content::new("file.txt", "content"));
    assert_eq!(fs::read_to_string(node.downloads()).unwrap(), "untouched");
}

#[test]
fn downloads_that_cannot_be_written_fail_the_transfer_and_not_the_node() {
    let setup = NodeSetup::plain();
    fs::create_dir(setup.downloads()).unwrap();
    fs::set_permissions(setup.downloads(), fs::Permissions::from_mode(0o555)).unwrap();
    let node = setup.unprivileged().start();
    assert_disk_error(&node, &Content::new("file.txt", "content"));
    assert!(listing(&node.downloads()).is_empty());
    // As soon as they can be written, files arrive.
    fs::set_permissions(node.downloads(), fs::Permissions::from_mode(0o755)).unwrap();
    assert_arrives_as(&node, &Content::new("file.txt", "content"), &node.downloads().join("file.txt"));
}

/// A disk that is full when the file is half written, played by a limit on the size of files.
#[test]
fn a_disk_that_takes_no_more_fails_the_transfer_and_keeps_what_has_arrived() {
    let node = NodeSetup::plain().after_shell("trap '' XFSZ; ulimit -f 1024").start();
    assert_disk_error(&node, &Content::new("too large.bin", noise(2 << 20, 1)));
    let left = listing(&node.downloads());
    assert!(left.iter().all(|entry| entry.starts_with(".p2p-partial")), "{left:?}");
    assert_arrives_as(&node, &Content::new("fits.bin", noise(CHUNK, 2)), &node.downloads().join("fits.bin"));
}
