//! `p2p send` at a terminal: bars while something moves, and nothing of them afterwards.

use std::fs;
use std::io::Read as _;
use std::net::TcpListener;

use pty_process::blocking::Command;

use crate::support::files::noise;
use crate::support::{Gate, TestNode};
use crate::terminal::{Screen, Setup, Terminal};

/// A sender at a terminal, half-way through a file.
fn half_way(receiver: &TestNode, setup: Setup) -> (Gate, Terminal) {
    let gate = Gate::before(receiver.addr(), 4 << 20);
    let path = receiver.dir().join("large.bin");
    fs::write(&path, noise(9 << 20, 1)).unwrap();
    let setup = ["send", gate.addr(), path.to_str().unwrap()].into_iter().fold(setup, Setup::argument);
    let terminal = setup.columns(80).start_as_it_is();
    gate.wait_until_held();
    terminal.wait("a bar", has_bar);
    (gate, terminal)
}

fn has_bar(screen: &Screen) -> bool {
    screen.rows.iter().any(|row| row.starts_with("sending large.bin ") && row.contains(" %"))
}

fn assert_no_bar_is_left(terminal: &Terminal) {
    let rows = terminal.screen().rows;
    let bars = rows.iter().filter(|row| row.contains('█') || row.contains('░') || row.contains(" %"));
    assert_eq!(bars.count(), 0, "{}", terminal.report());
    terminal.assert_restored();
}

#[test]
fn a_bar_stands_below_what_is_told_and_goes_at_the_end() {
    let receiver = TestNode::start();
    let (gate, mut terminal) = half_way(&receiver, Setup::new());
    let rows = terminal.screen().rows;
    assert!(rows[0].starts_with("first contact with "), "{rows:?}");
    gate.open();
    assert_eq!(terminal.exit_code(), Some(0), "{}", terminal.report());
    let rows = terminal.screen().rows.concat();
    assert!(rows.contains("sent large.bin to 127.0.0.1:"), "{rows:?}");
    assert_no_bar_is_left(&terminal);
    receiver.wait_received("large.bin");
}

#[test]
fn ctrl_c_leaves_the_bar_as_a_record_and_the_cursor_below_it() {
    let receiver = TestNode::start();
    let (_gate, mut terminal) = half_way(&receiver, Setup::new());
    terminal.keys("\u{3}");
    assert_eq!(terminal.exit_code(), None, "a signal ended it: {}", terminal.report());
    let screen = terminal.screen();
    let bar = screen.rows.iter().position(|row| row.starts_with("sending large.bin ")).unwrap();
    assert!(screen.cursor.0 > bar && screen.cursor.1 == 0, "{}", terminal.report());
    assert_eq!(screen.rows.iter().filter(|row| row.contains(" %")).count(), 1);
    terminal.assert_restored();
}

/// A sender that connects to somebody who never says a word.
fn connecting(silent: &TcpListener, setup: Setup) -> Terminal {
    let addr = silent.local_addr().unwrap().to_string();
    let setup = setup.argument("send").argument(&addr).argument(env!("CARGO_MANIFEST_DIR"));
    setup.start_as_it_is()
}

#[test]
fn whom_it_connects_to_is_told_meanwhile_unless_it_is_to_be_quiet() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let said = format!("connecting to {}", silent.local_addr().unwrap());
    let mut quiet = connecting(&silent, Setup::new().argument("--quiet"));
    let mut dumb = connecting(&silent, Setup::new().variable("TERM", "dumb"));
    let _streams = (silent.accept().unwrap(), silent.accept().unwrap());
    let mut terminal = connecting(&silent, Setup::new());
    terminal.wait_text(&said);
    dumb.wait_text(&said);
    terminal.keys("\u{3}");
    assert_eq!(terminal.exit_code(), None);
    assert_eq!(terminal.screen().cursor.1, 0, "{}", terminal.report());
    for other in [&mut quiet, &mut dumb] {
        other.keys("\u{3}");
        assert_eq!(other.exit_code(), None);
    }
    assert!(!quiet.raw().contains("connecting"), "{}", quiet.report());
    assert!(!dumb.raw().contains('\u{1b}'), "{:?}", dumb.raw());
}

#[test]
fn what_it_connects_to_is_gone_when_that_failed() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut terminal = connecting(&silent, Setup::new());
    terminal.wait_text("connecting to ");
    drop(silent.accept().unwrap());
    assert_eq!(terminal.exit_code(), Some(5));
    let screen = terminal.screen();
    assert!(screen.rows[0].starts_with("error: ") && !screen.contains("connecting to "), "{screen:?}");
}

#[test]
fn a_job_in_the_background_draws_nothing() {
    let receiver = TestNode::start();
    let gate = Gate::before(receiver.addr(), 4 << 20);
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("large.bin"), noise(9 << 20, 1)).unwrap();
    let (mut pty, pts) = pty_process::blocking::open().unwrap();
    let script = r#"set -m; "$0" send "$1" large.bin & wait"#;
    let command = Command::new("sh").args(["-c", script, env!("CARGO_BIN_EXE_p2p"), gate.addr()]);
    let command = command.env("TERM", "xterm-256color").env("HOME", dir.path()).current_dir(dir.path());
    let command = command.env("P2P_CONFIG", "none");
    let mut shell = command.spawn(pts).unwrap();
    gate.wait_until_held();
    // Whoever has a terminal has drawn by the time that somebody who came later has.
    let other = TestNode::start();
    let _later = half_way(&other, Setup::new());
    gate.open();
    let mut written = Vec::new();
    // Where nobody has the other side open any more this is an error.
    let _end = pty.read_to_end(&mut written);
    shell.wait().unwrap();
    let written = String::from_utf8_lossy(&written);
    assert!(written.contains("sent large.bin to "), "{written}");
    assert!(!written.contains('█') && !written.contains(" %") && !written.contains("\u{1b}["), "{written}");
}

#[test]
fn no_color_means_no_colour() {
    let receiver = TestNode::start();
    let coloured = half_way(&receiver, Setup::new()).1.raw();
    assert!(coloured.contains("\u{1b}[3") || coloured.contains("\u{1b}[1;3"), "{coloured:?}");
    let plain = half_way(&receiver, Setup::new().variable("NO_COLOR", "1")).1.raw();
    assert!(!plain.contains("\u{1b}[3") && !plain.contains("\u{1b}[1;3"), "{plain:?}");
}
