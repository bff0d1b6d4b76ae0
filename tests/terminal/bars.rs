//! `p2p send` at a terminal: bars while something moves, and nothing of them afterwards.

use std::fs;

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

#[test]
fn no_color_means_no_colour() {
    let receiver = TestNode::start();
    let coloured = half_way(&receiver, Setup::new()).1.raw();
    assert!(coloured.contains("\u{1b}[3") || coloured.contains("\u{1b}[1;3"), "{coloured:?}");
    let plain = half_way(&receiver, Setup::new().variable("NO_COLOR", "1")).1.raw();
    assert!(!plain.contains("\u{1b}[3") && !plain.contains("\u{1b}[1;3"), "{plain:?}");
}
