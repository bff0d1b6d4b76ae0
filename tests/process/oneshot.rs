//! `p2p send` and `p2p receive`, as scripts use them: exit codes, and what is on stdout and stderr.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::files::{noise, sha256_of, snapshot, write_noise};
use crate::support::node::Finished;
use crate::support::{BaselinePeer, Gate, NodeSetup, TestNode, eventually};

/// Sends from a new directory, in which `write` puts what is to be sent.
fn send(arguments: &[&str], write: impl FnOnce(&Path)) -> Finished {
    send_from(NodeSetup::new(), arguments, write)
}

fn send_from(setup: NodeSetup, arguments: &[&str], write: impl FnOnce(&Path)) -> Finished {
    write(setup.dir());
    setup.run(&[&["send"], arguments].concat(), "")
}

fn write_report(dir: &Path) {
    fs::write(dir.join("report.pdf"), noise(700_000, 3)).unwrap();
}

/// A receiver that is a process of its own, and the address it prints.
struct Receiver {
    node: TestNode,
    addr: String,
}

impl Receiver {
    fn start(setup: NodeSetup, arguments: &[&str]) -> Self {
        let command = setup.command(&[&["receive", "0", "--bind", "127.0.0.1"], arguments].concat());
        let node = TestNode::spawn(setup, command);
        let addr = if arguments.contains(&"--json") {
            node.wait_for(&json!({ "event": "listening" }))["addr"].as_str().unwrap().to_owned()
        } else {
            node.wait_for_line(&["listening on "]).rsplit_once(' ').unwrap().1.to_owned()
        };
        Self { node, addr }
    }
}

#[test]
fn files_directories_and_the_input_are_sent_and_told_on_stdout() {
    let receiver = TestNode::start();
    let setup = NodeSetup::new();
    write_report(setup.dir());
    fs::create_dir_all(setup.dir().join("photos/old")).unwrap();
    fs::write(setup.dir().join("photos/old/1.jpg"), "picture").unwrap();
    let (photos, home) = (snapshot(&setup.dir().join("photos")), tempfile::tempdir().unwrap());
    let sha256 = sha256_of(&setup.dir().join("report.pdf"));
    let setup = setup.home_at(home.path());
    let finished = setup.run(&["send", receiver.addr(), "report.pdf", "photos"], "");
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""), "{finished:?}");
    let said: Vec<_> = finished.stdout.lines().collect();
    assert_eq!(said.len(), 2, "{finished:?}");
    for name in ["sent report.pdf to ", "sent photos/ (1 file) to "] {
        assert!(said.iter().any(|line| line.starts_with(name)), "{finished:?}");
    }
    assert!(!finished.stdout.contains('\u{1b}'));
    assert_eq!(sha256_of(&receiver.wait_received("report.pdf")), sha256);
    assert!(snapshot(&receiver.downloads().join("photos")) == photos);

    let setup = NodeSetup::new().home_at(home.path());
    let finished = setup.run(&["send", "--name", "notes.txt", receiver.addr(), "-"], "two\nlines\n");
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(fs::read_to_string(receiver.wait_received("notes.txt")).unwrap(), "two\nlines\n");
}

#[test]
fn the_exit_code_tells_why_something_was_not_sent() {
    let receiver = TestNode::start();
    let addr = receiver.addr();
    let refusing = NodeSetup::new().option("--accept").option("ask");
    let refusing = Receiver::start(refusing, &[]);
    let nobody = BaselinePeer::listen().addr();
    let somebody_else = format!("{addr}#{}", "5".repeat(64));
    for (arguments, code, word) in [
        (&[nobody.as_str(), "report.pdf"][..], 5, "nobody listens there"),
        (&[&somebody_else, "report.pdf"], 6, "as you demand"),
        (&[&refusing.addr, "report.pdf"], 7, "nobody to ask"),
        (&[addr, "missing"], 8, "there is no file `missing`"),
        (&[&nobody, "report.pdf", "missing"], 8, "there is no file `missing`"),
        (&[addr, "/"], 8, "--name"),
        (&[addr, "-", "-"], 2, "only once"),
        (&[addr, "report.pdf", "report.pdf", "--name", "x"], 2, "one path"),
        (&[addr, "report.pdf", "--name", "a/b"], 2, "path separator"),
        (&["localhost", "report.pdf"], 2, "an address is written host:port"),
        (&[addr], 2, "<PATH>"),
    ] {
        let finished = send(arguments, write_report);
        assert_eq!(finished.code, Some(code), "{arguments:?}: {finished:?}");
        assert!(finished.stderr.contains(word), "{arguments:?}: {finished:?}");
        assert_eq!(finished.stdout, "", "{arguments:?}: {finished:?}");
    }
    receiver.assert_alive();
}

#[test]
fn what_failed_does_not_stop_what_can_be_sent_and_is_told_on_stderr() {
    let receiver = TestNode::start();
    let finished = send(&[receiver.addr(), "report.pdf", "fifo"], |dir| {
        write_report(dir);
        rustix::fs::mkfifoat(rustix::fs::CWD, dir.join("fifo"), rustix::fs::Mode::RUSR).unwrap();
    });
    assert_eq!(finished.code, Some(8), "{finished:?}");
    assert!(finished.stdout.starts_with("sent report.pdf to "), "{finished:?}");
    assert!(finished.stderr.starts_with("error: ") && finished.stderr.contains("named pipe"), "{finished:?}");
    receiver.wait_received("report.pdf");
}

#[test]
fn quiet_says_nothing_of_what_went_well() {
    let receiver = TestNode::start();
    let finished = send(&[receiver.addr(), "report.pdf", "--quiet"], write_report);
    assert_eq!((finished.code, finished.stdout.as_str(), finished.stderr.as_str()), (Some(0), "", ""));
    let finished = send(&["-q", "localhost:1", "report.pdf"], write_report);
    assert_eq!(finished.code, Some(5));
    assert!(finished.stderr.starts_with("error: "), "{finished:?}");
}

#[test]
fn json_tells_what_happens_line_by_line() {
    let receiver = TestNode::start();
    let finished = send(&[receiver.addr(), "report.pdf", "--json"], write_report);
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""), "{finished:?}");
    let events: Vec<Value> =
        finished.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let has = |event: &str| events.iter().any(|said| said["event"] == event);
    assert!(has("peer_connected") && has("result") && !has("listening"), "{finished:?}");
    let sent = events.iter().find(|said| said["event"] == "sent").unwrap();
    assert_eq!((&sent["name"], &sent["confirmed"]), (&json!("report.pdf"), &json!(true)));

    for (path, code, word) in [("missing", 8, "source_unreadable"), ("report.pdf", 5, "unreachable")] {
        let finished = send(&["--json", "localhost:1", path], write_report);
        assert_eq!((finished.code, finished.stderr.as_str()), (Some(code), ""), "{finished:?}");
        let error: Value = serde_json::from_str(finished.stdout.lines().last().unwrap()).unwrap();
        assert_eq!((&error["event"], &error["code"]), (&json!("error"), &json!(word)), "{finished:?}");
    }
}

#[test]
fn what_cannot_start_is_told_once_and_as_json_where_that_is_asked_for() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let damaged = tempfile::tempdir().unwrap();
    fs::write(damaged.path().join("known.toml"), "[prins]\n").unwrap();
    for (home, arguments, word) in [
        (None, &["receive", "--bind", "127.0.0.1", &port][..], port.as_str()),
        (Some(damaged.path()), &["send", "localhost:1", "report.pdf"], "known.toml"),
    ] {
        let run = |arguments: &[&str]| {
            let setup = NodeSetup::new();
            write_report(setup.dir());
            match home {
                Some(home) => setup.home_at(home).run(arguments, ""),
                None => setup.run(arguments, ""),
            }
        };
        let finished = run(arguments);
        assert_eq!((finished.code, finished.stdout.as_str()), (Some(3), ""), "{finished:?}");
        assert_eq!(finished.stderr.lines().count(), 1, "{finished:?}");
        assert!(!finished.stderr.contains("os error"), "the cause is told a second time: {finished:?}");
        let finished = run(&[arguments, &["--json"]].concat());
        assert_eq!((finished.code, finished.stderr.as_str()), (Some(3), ""), "{finished:?}");
        let error: Value = serde_json::from_str(&finished.stdout).unwrap();
        assert_eq!((&error["event"], &error["code"]), (&json!("error"), &json!("not_started")));
        assert!(error["message"].as_str().unwrap().contains(word), "{error}");
    }
}

#[test]
fn why_it_failed_is_told_whatever_is_logged() {
    for log in ["off", "error"] {
        let setup = NodeSetup::new();
        write_report(setup.dir());
        let mut command = setup.command(&["send", "localhost:1", "report.pdf"]);
        command.env("RUST_LOG", log);
        let mut sender = TestNode::spawn(setup, command);
        assert_eq!(sender.exit_code(), Some(5));
        let said = sender.log();
        assert!(said.len() == 1 && said[0].starts_with("error: cannot connect to "), "{said:?}");
    }
}

#[test]
fn a_script_can_do_what_is_advised_where_somebody_else_answers() {
    let home = tempfile::tempdir().unwrap();
    let send =
        |addr: &str| send_from(NodeSetup::new().home_at(home.path()), &[addr, "report.pdf"], write_report);
    let mut receiver = TestNode::start();
    let addr = receiver.addr().to_owned();
    assert_eq!(send(&addr).code, Some(0));
    receiver.kill();
    let _somebody_else = NodeSetup::new().at_the_address_of(&receiver).start();
    let refused = send(&addr);
    assert_eq!(refused.code, Some(6), "{refused:?}");
    let (_, advice) = refused.stderr.split_once("a script does it with: ").expect(&refused.stderr);
    let program = Path::new(env!("CARGO_BIN_EXE_p2p")).parent().unwrap();
    let path = std::env::join_paths([program, Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
    let done = Command::new("sh")
        .args(["-c", advice])
        .env("PATH", path)
        .env("P2P_BIND", "127.0.0.1")
        .env("P2P_CONFIG", "none")
        .current_dir(home.path())
        .stdout(Stdio::null())
        .status();
    assert!(done.unwrap().success(), "{advice}");
    assert_eq!(send(&addr).code, Some(0));
}

#[test]
fn a_receiver_says_who_may_send_and_how_and_leaves_after_one() {
    let mut receiver = Receiver::start(NodeSetup::new(), &["--once"]);
    let line = receiver.node.wait_for_line(&["everybody may send: p2p send "]);
    let peer = line.split(' ').nth(5).unwrap();
    assert!(peer.starts_with(&format!("{}#", receiver.addr)), "{line}");
    let finished = send(&[peer, "report.pdf"], write_report);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(receiver.node.exit_code(), Some(0));
    let said = receiver.node.output();
    let received = said.iter().find(|line| line.starts_with("received report.pdf, 700 kB ")).unwrap();
    assert!(received.ends_with("downloads/report.pdf"), "{said:?}");
    assert_eq!(fs::read(receiver.node.downloads().join("report.pdf")).unwrap(), noise(700_000, 3));
}

#[test]
fn a_receiver_leaves_after_as_many_as_it_was_told_whatever_failed_in_between() {
    let mut receiver = Receiver::start(NodeSetup::new(), &["--count", "2", "--json"]);
    // One that never arrives.
    let setup = NodeSetup::new();
    write_noise(&setup.dir().join("never"), 30_000_000, 1);
    let gate = Gate::before(&receiver.addr, 1 << 20);
    let command = setup.command(&["send", "--reconnect", "1", gate.addr(), "never"]);
    let mut cut_off = TestNode::spawn(setup, command);
    gate.wait_until_held();
    gate.cut(0);
    assert_eq!(cut_off.exit_code(), Some(9), "{}", cut_off.report());
    let why = |line: &String| line.contains("disconnected: ") && line.ends_with("; it is dialled again");
    assert!(cut_off.log().iter().any(why), "{}", cut_off.report());
    for name in ["one", "two"] {
        assert!(receiver.node.is_running());
        let finished = send(&[&receiver.addr, "report.pdf", "--name", name], write_report);
        assert_eq!(finished.code, Some(0), "{finished:?}");
    }
    assert_eq!(receiver.node.exit_code(), Some(0));
}

#[test]
fn a_receiver_takes_no_more_than_it_was_told_and_whoever_fails_hears_why() {
    let mut receiver = Receiver::start(NodeSetup::new(), &["--once"]);
    let setup = NodeSetup::new();
    write_noise(&setup.dir().join("first"), 9_000_000, 1);
    let gate = Gate::before(&receiver.addr, 1 << 20);
    let command = setup.command(&["send", gate.addr(), "first"]);
    let mut first = TestNode::spawn(setup, command);
    gate.wait_until_held();
    let second = send(&[&receiver.addr, "report.pdf"], write_report);
    assert_eq!(second.code, Some(7), "{second:?}");
    assert!(second.stderr.contains("takes no more"), "{second:?}");
    gate.open();
    assert_eq!((first.exit_code(), receiver.node.exit_code()), (Some(0), Some(0)));
    let names: Vec<_> =
        fs::read_dir(receiver.node.downloads()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["first"]);
    let said = receiver.node.output();
    assert_eq!(said.iter().filter(|line| line.starts_with("received ")).count(), 1, "{said:?}");

    // One that ends in the middle says so, and whoever sends to it says it too.
    let mut receiver = Receiver::start(NodeSetup::new(), &[]);
    let setup = NodeSetup::new();
    write_noise(&setup.dir().join("first"), 9_000_000, 1);
    let gate = Gate::before(&receiver.addr, 1 << 20);
    // Its last words can be lost with what the gate holds; it is then waited for, but not for long.
    let command = setup.command(&["send", "--reconnect", "1", gate.addr(), "first"]);
    let mut sender = TestNode::spawn(setup, command);
    gate.wait_until_held();
    gate.open();
    receiver.node.terminate();
    receiver.node.exit_code();
    let code = sender.exit_code();
    if code != Some(0) {
        assert_eq!(code, Some(9), "{}", sender.report());
        assert!(sender.log().iter().any(|line| line.starts_with("error: ")), "{}", sender.report());
    }
}

#[test]
fn several_of_one_home_send_at_once_to_one_of_the_same_home() {
    let home = tempfile::tempdir().unwrap();
    let receiver =
        Receiver::start(NodeSetup::new().home_at(home.path()).option("--accept").option("ask"), &[]);
    let mut senders: Vec<_> = (0..5)
        .map(|number| {
            let setup = NodeSetup::new().home_at(home.path());
            fs::write(setup.dir().join(format!("file {number}")), noise(900_000, number)).unwrap();
            let command = setup.command(&["send", &receiver.addr, &format!("file {number}")]);
            TestNode::spawn(setup, command)
        })
        .collect();
    for sender in &mut senders {
        assert_eq!(sender.exit_code(), Some(0), "{}", sender.report());
    }
    for number in 0..5 {
        let arrived = receiver.node.downloads().join(format!("file {number}"));
        assert_eq!(fs::read(arrived).unwrap(), noise(900_000, number));
    }
}

#[test]
fn whoever_only_sends_does_not_listen() {
    let listener = BaselinePeer::listen();
    let setup = NodeSetup::plain();
    write_report(setup.dir());
    let mut command = setup.command(&["send", &listener.addr(), "report.pdf"]);
    command.stdin(Stdio::null());
    let sender = TestNode::spawn(setup, command);
    let peer = listener.accept();
    assert_eq!(peer.hear(&json!({ "type": "HELLO" }))["payload"]["listen_port"], 0);
    #[cfg(target_os = "linux")]
    {
        let listening: Vec<String> = ["tcp", "tcp6"]
            .iter()
            .flat_map(|table| {
                let table = fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
                let rows: Vec<Vec<String>> =
                    table.lines().map(|row| row.split_whitespace().map(str::to_owned).collect()).collect();
                rows.into_iter().filter(|row| row.get(3).is_some_and(|state| state == "0A"))
            })
            .map(|row| format!("socket:[{}]", row[9]))
            .collect();
        assert!(!listening.is_empty(), "this test listens itself");
        for open in fs::read_dir(format!("/proc/{}/fd", sender.pid())).unwrap() {
            let leads_to = fs::read_link(open.unwrap().path()).unwrap_or_default();
            assert!(!listening.iter().any(|socket| leads_to.as_os_str() == socket.as_str()));
        }
    }
    drop(sender);
}

#[test]
fn a_killed_send_goes_on_where_it_was() {
    let receiver = TestNode::start();
    let home = tempfile::tempdir().unwrap();
    let files = tempfile::tempdir().unwrap();
    let source = files.path().join("large");
    let sha256 = write_noise(&source, 40_000_000, 5);
    let gate = Gate::before(receiver.addr(), 20 << 20);
    let path = source.to_str().unwrap().to_owned();
    let start = |addr: &str| {
        let setup = NodeSetup::new().home_at(home.path());
        let command = setup.command(&["send", addr, &path]);
        TestNode::spawn(setup, command)
    };
    let mut first = start(gate.addr());
    gate.wait_until_held();
    first.kill();
    gate.cut(usize::MAX);
    receiver.wait_for(&json!({ "event": "peer_disconnected" }));
    let mut second = start(gate.addr());
    assert_eq!(second.exit_code(), Some(0), "{}", second.report());
    assert_eq!(sha256_of(&receiver.wait_received("large")), sha256);
    let passed = gate.passed();
    assert!(passed < 40_000_000 + (17 << 20), "{passed} bytes passed");
}

#[test]
fn a_signal_ends_a_send_and_a_receive() {
    let receiver = TestNode::start();
    let setup = NodeSetup::new();
    write_noise(&setup.dir().join("large"), 30_000_000, 1);
    let gate = Gate::before(receiver.addr(), 1 << 20);
    let command = setup.command(&["send", gate.addr(), "large"]);
    let mut sender = TestNode::spawn(setup, command);
    gate.wait_until_held();
    sender.terminate();
    assert_eq!(sender.exit_code(), Some(143), "{}", sender.report());
    let mut idle = Receiver::start(NodeSetup::new(), &[]);
    idle.node.terminate();
    assert_eq!(idle.node.exit_code(), Some(143));
    eventually("the receiver has heard of it", || {
        receiver.count(&json!({ "event": "peer_disconnected" })) > 0
    });
}

#[test]
fn ctrl_c_is_what_the_shell_sees_a_send_and_a_receive_die_of() {
    let interrupted = |setup: &NodeSetup, arguments: &[&str], wait: &dyn Fn(&mut Child)| {
        let mut command = setup.command(arguments);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        wait(&mut child);
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        child.wait().unwrap().signal()
    };
    let sigint = Some(Signal::INT.as_raw());
    let mut receiver = TestNode::start();
    // So slow that there is a middle on any machine. A gate would not do: while it holds back more than fits
    // the buffers of the line, whoever leaves cannot say so.
    receiver.result_of("limit down 500kB/s");
    let setup = NodeSetup::new();
    write_noise(&setup.dir().join("large"), 30_000_000, 1);
    let ended = interrupted(&setup, &["send", receiver.addr(), "large"], &|_| {
        receiver.wait_where("some of it to arrive", |event| {
            event["event"] == "progress" && event["bytes"].as_u64().is_some_and(|bytes| bytes > 0)
        });
    });
    assert_eq!(ended, sigint);
    // What it had to clean up is cleaned up: the receiver hears the end and not nothing.
    receiver.wait_for(&json!({ "event": "transfer_failed" }));

    let setup = NodeSetup::new();
    let ended = interrupted(&setup, &["receive", "0", "--bind", "127.0.0.1"], &|child| {
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("listening on "), "{line}");
    });
    assert_eq!(ended, sigint);
}

#[test]
fn shells_are_told_what_can_be_completed() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let finished = NodeSetup::new().run(&["completions", shell], "");
        assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""), "{finished:?}");
        for word in ["receive", "downloads", "once"] {
            assert!(finished.stdout.contains(word), "{word} is missing for {shell}");
        }
    }
    assert_eq!(NodeSetup::new().run(&["completions", "tcsh"], "").code, Some(2));
}

#[test]
fn help_of_each_command_has_examples() {
    for (arguments, words) in [
        (&["send", "--help"][..], &["tar c . | p2p send", "--name", "--json"][..]),
        (&["receive", "--help"], &["p2p receive --once", "--count", "--accept"]),
        (
            &["--help"],
            &[
                "p2p send localhost:8000",
                "  7  `send`: the receiver did not take it",
                "  9  `send`: the connection was lost",
                "completions",
            ],
        ),
    ] {
        let finished = NodeSetup::new().run(arguments, "");
        assert_eq!(finished.code, Some(0), "{finished:?}");
        for word in words {
            assert!(finished.stdout.contains(word), "{word} is missing in\n{}", finished.stdout);
        }
    }
}
