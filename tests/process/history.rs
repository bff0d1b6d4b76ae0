//! What a node keeps of what was said, sent and received, and what it does where that cannot be kept.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::files::sha256_of;
use crate::support::{NodeSetup, TestNode, eventually};

fn file_of(home: &Path) -> PathBuf {
    home.join("history.ndjson")
}

/// What a command tells of it.
fn history(node: &mut TestNode, command: &str) -> Vec<Value> {
    let result = node.result_of(command);
    result["history"].as_array().unwrap_or_else(|| panic!("{result}")).clone()
}

fn texts(node: &mut TestNode, command: &str) -> Vec<String> {
    let texts =
        history(node, command).into_iter().filter_map(|entry| Some(entry["text"].as_str()?.to_owned()));
    texts.collect()
}

/// Two nodes that know each other's name for each other.
fn two() -> (TestNode, TestNode, String, String) {
    let (mut a, b) = (TestNode::start(), TestNode::start());
    let a_at_b = a.connect_to(&b);
    let b_at_a = b.addr().to_owned();
    (a, b, b_at_a, a_at_b)
}

fn say(from: &mut TestNode, name: &str, to: &TestNode, text: &str) {
    from.type_line(&format!("send {name} {text}"));
    to.wait_for(&json!({ "event": "message", "text": text }));
}

fn give(from: &mut TestNode, name: &str, to: &TestNode, file: &str) {
    let path = from.dir().join(file);
    fs::write(&path, file.repeat(1000)).unwrap();
    from.sendfile(name, &path);
    from.wait_sent(file);
    to.wait_received(file);
}

#[test]
fn what_was_said_and_sent_is_there_after_both_were_killed_and_started_again() {
    let (mut a, mut b, b_at_a, a_at_b) = two();
    let (a_id, b_id) = (a.node_id(), b.node_id());
    say(&mut a, &b_at_a, &b, "hello, b");
    say(&mut b, &a_at_b, &a, "hello, a");
    give(&mut a, &b_at_a, &b, "from a.bin");
    give(&mut b, &a_at_b, &a, "from b.bin");
    for node in [&mut a, &mut b] {
        assert_eq!(history(node, "history").len(), 4);
        node.restart();
    }
    for (node, id, sent, received) in
        [(&mut a, &b_id, "from a.bin", "from b.bin"), (&mut b, &a_id, "from b.bin", "from a.bin")]
    {
        let entries = history(node, "history");
        assert_eq!(entries.len(), 4, "{entries:?}");
        assert!(entries.iter().all(|entry| entry["node_id"] == **id), "{entries:?}");
        let times: Vec<_> = entries.iter().map(|entry| entry["time"].as_str().unwrap()).collect();
        assert!(times.is_sorted() && times[0].ends_with('Z') && times[0].contains('T'), "{times:?}");
        let transfers = history(node, &format!("history {} --transfers 9", &id[..16]));
        let of = |outcome: &str| {
            let found = transfers.iter().find(|entry| entry["outcome"] == outcome);
            found.unwrap_or_else(|| panic!("{outcome}: {transfers:?}")).clone()
        };
        let (of_sent, of_received) = (of("sent"), of("received"));
        assert_eq!((&of_sent["name"], &of_received["name"]), (&json!(sent), &json!(received)));
        assert_eq!(of_sent["path"], json!(node.dir().join(sent)));
        let there = PathBuf::from(of_received["path"].as_str().unwrap());
        assert!(there.is_absolute());
        assert_eq!(of_received["sha256"], sha256_of(&there));
        assert_eq!(of_received["size"], fs::metadata(&there).unwrap().len());

        let file = file_of(&node.home());
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let lines = fs::read_to_string(&file).unwrap();
        let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines, entries, "the file has what the command tells");
    }
    assert_eq!(texts(&mut a, "history --messages"), ["hello, b", "hello, a"]);
    assert_eq!(history(&mut a, "history 1 --messages")[0]["direction"], "in");
    assert!(history(&mut a, "history nobody").is_empty());
    for (line, word) in [("history 0", "0"), ("history a b", "b"), ("history --mesages", "--messages")] {
        let error = a.error_of(line);
        assert_eq!(error["code"], "usage");
        assert!(error["message"].as_str().unwrap().contains(word), "{error}");
    }
}

#[test]
fn processes_of_one_home_keep_one_history_and_commands_without_a_prompt_do_too() {
    let receiver = TestNode::start();
    let home = tempfile::tempdir().unwrap();
    let setup = || NodeSetup::new().home_at(home.path().join("home"));
    let sending = setup();
    let path = sending.dir().join("report.pdf");
    fs::write(&path, "content").unwrap();
    assert_eq!(sending.run(&["send", receiver.addr(), path.to_str().unwrap()], "").code, Some(0));
    let (mut first, mut second) = (setup().start(), setup().start());
    first.connect(receiver.addr());
    second.connect(receiver.addr());
    say(&mut first, receiver.addr(), &receiver, "by the first");
    say(&mut second, receiver.addr(), &receiver, "by the second");
    for node in [&mut first, &mut second] {
        let entries = history(node, "history");
        assert_eq!(entries[0]["outcome"], "sent", "{entries:?}");
    }
    assert_eq!(texts(&mut first, "history"), ["by the first", "by the second"]);
}

#[test]
fn hostile_texts_and_names_act_neither_on_the_screen_nor_on_the_file() {
    let home = tempfile::tempdir().unwrap();
    let setup = || NodeSetup::new().home_at(home.path().join("home"));
    let mut node = setup().start();
    let mut stranger = TestNode::start();
    stranger.connect(node.addr());
    let text = "\u{1b}[2J\u{202e}\u{9b}31m\r{\"time\":\"2026-01-01T00:00:00Z\",\"kind\":\"message\"}";
    let name = r#"'"; $(rm) `x` \n {"kind"}.txt"#;
    stranger.type_line(&format!("send {} {text}", node.addr()));
    node.wait_for(&json!({ "event": "message" }));
    let path = stranger.dir().join(name);
    fs::write(&path, "content").unwrap();
    stranger.sendfile(node.addr(), &path);
    node.wait_received(name);
    let entries = history(&mut node, "history");
    assert_eq!((entries.len(), &entries[0]["text"], &entries[1]["name"]), (2, &json!(text), &json!(name)));
    assert_eq!(fs::read_to_string(file_of(&node.home())).unwrap().lines().count(), 2);
    let shown = setup().run(&["0"], "history");
    assert_eq!(shown.code, Some(0), "{shown:?}");
    let is_harmless = |c: char| c == '\n' || !(c.is_control() || c == '\u{202e}');
    assert!(shown.stdout.chars().all(is_harmless), "{:?}", shown.stdout);
    let rows: Vec<_> = shown.stdout.lines().skip(1).collect();
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert!(rows[0].contains(r"> \x1b[2J\u{202e}\u{9b}31m\r{"), "{rows:?}");
    assert!(rows[1].contains(&format!("received {name}, 7 bytes, from ")), "{rows:?}");
}

#[test]
fn a_stranger_that_floods_pushes_out_its_own_only() {
    let (mut a, mut friend, friend_at_a, a_at_friend) = two();
    let mut stranger = TestNode::start();
    say(&mut a, &friend_at_a, &friend, "by us");
    say(&mut friend, &a_at_friend, &a, "by a friend");
    stranger.connect(a.addr());
    let a_at_stranger = a.addr().to_owned();
    let text = |number: usize| format!("{number} {}", "x".repeat(60_000));
    let sent = 150;
    for number in 1..=sent {
        say(&mut stranger, &a_at_stranger, &a, &text(number));
    }
    let kept = history(&mut a, "history 999");
    assert_eq!((&kept[0]["text"], &kept[1]["text"]), (&json!("by us"), &json!("by a friend")));
    assert_eq!(kept[1]["stranger"], Value::Null, "this side connected to it");
    assert_eq!((&kept[2]["kind"], &kept[2]["stranger"]), (&json!("left_out"), &json!(true)));
    let gone = usize::try_from(kept[2]["entries"].as_u64().unwrap()).unwrap();
    assert_eq!(gone + kept.len() - 3, sent);
    assert_eq!(kept[3]["text"], text(gone + 1));
    assert!(fs::metadata(file_of(&a.home())).unwrap().len() <= 8 << 20);
}

#[test]
fn what_is_damaged_is_left_out_with_a_warning_and_what_comes_is_kept() {
    let (mut a, b, b_at_a, _) = two();
    say(&mut a, &b_at_a, &b, "before");
    assert_eq!(texts(&mut a, "history"), ["before"]);
    let mut file = File::options().append(true).open(file_of(&a.home())).unwrap();
    file.write_all(b"rubbish\n\xff\xfe\x00\n{\"time\":\"2026-01-01T00:00:00Z\",\"kind\":\"mess").unwrap();
    say(&mut a, &b_at_a, &b, "behind it");
    assert_eq!(texts(&mut a, "history"), ["before", "behind it"]);
    a.wait_for_log(&["history.ndjson", "damaged", "3 of its lines"]);
    a.assert_alive();
}

#[test]
fn where_it_cannot_be_written_that_is_told_once_and_stops_nothing() {
    let setup = NodeSetup::new();
    let file = file_of(&setup.home());
    fs::create_dir_all(&file).unwrap();
    fs::set_permissions(setup.home(), fs::Permissions::from_mode(0o700)).unwrap();
    let (mut a, b) = (setup.start(), TestNode::start());
    a.connect(b.addr());
    for number in 0..20 {
        say(&mut a, b.addr(), &b, &format!("number {number}"));
    }
    let path = a.dir().join("file.bin");
    fs::write(&path, "content").unwrap();
    a.sendfile(b.addr(), &path);
    a.wait_sent("file.bin");
    a.wait_for_log(&["the history is not kept", "history.ndjson"]);
    assert_eq!(a.error_of("history")["code"], "disk_error");
    let told =
        |node: &TestNode| node.log().iter().filter(|line| line.contains("history is not kept")).count();
    assert_eq!(told(&a), 1, "{}", a.report());
    // As soon as it can be written, nothing is missing.
    fs::remove_dir(&file).unwrap();
    assert_eq!(texts(&mut a, "history 99").len(), 20);
    assert_eq!(history(&mut a, "history 1")[0]["name"], "file.bin");
    assert_eq!(told(&a), 1);
}

/// A disk that is full, played by a limit on the size of files.
#[test]
fn a_disk_that_takes_no_more_leaves_whole_lines_and_is_told_of_once() {
    let setup = NodeSetup::new().after_shell("trap '' XFSZ; ulimit -f 64");
    let (mut a, b) = (setup.start(), TestNode::start());
    a.connect(b.addr());
    let text = |number: usize| format!("{number} {}", "x".repeat(999));
    for number in 0..99 {
        say(&mut a, b.addr(), &b, &text(number));
    }
    eventually("it is told", || a.log().iter().any(|line| line.contains("the history is not kept")));
    let kept = texts(&mut a, "history 200");
    assert!((1..99).contains(&kept.len()), "{}", kept.len());
    assert!(kept.iter().enumerate().all(|(number, kept)| *kept == text(number)));
    a.assert_alive();
    a.close_stdin();
    assert_eq!(a.exit_code(), Some(0), "{}", a.report());
    let told = a.log().iter().filter(|line| line.contains("the history is not kept")).count();
    assert_eq!(told, 1, "{}", a.report());
    // And in the end how much of it is missing.
    a.wait_for_log(&["are missing in the history"]);
}

#[test]
fn nothing_is_kept_where_nobody_wants_it_or_nobody_has_an_identity() {
    let (mut a, mut b) = (NodeSetup::new().option("--no-history").start(), TestNode::start());
    a.connect(b.addr());
    say(&mut a, b.addr(), &b, "in confidence");
    let error = a.error_of("history");
    assert_eq!(error["code"], "unsupported");
    assert!(error["message"].as_str().unwrap().contains("--no-history"), "{error}");
    assert!(!file_of(&a.home()).exists());
    assert_eq!(texts(&mut b, "history"), ["in confidence"], "that is the other one's business");

    let (mut a, b) = (TestNode::start_plain(), TestNode::start_plain());
    a.connect(b.addr());
    say(&mut a, b.addr(), &b, "in plaintext");
    assert!(a.error_of("history")["message"].as_str().unwrap().contains("--plain"));
    assert!(!a.home().exists() && !b.home().exists());
}
