//! How the program leaves a terminal.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::files::{CHUNK, listing, noise};
use crate::support::{BaselinePeer, Content};
use crate::terminal::{Setup, Terminal};

/// A node in the middle of a transfer, with something typed and a status line above it.
fn busy() -> (Terminal, BaselinePeer) {
    let terminal = Setup::plain().start();
    let peer = BaselinePeer::connect(&terminal.addr());
    let file = Content::new("big.iso", noise(4 * CHUNK, 1));
    peer.send("FILE_OFFER", &file.offer());
    peer.hear_accept(&file);
    peer.send_chunk(0, file.chunk(0));
    peer.hear_ack(0, true);
    terminal.keys("broadcast half a li");
    terminal.wait("the status", |screen| {
        let (typed, above) = screen.typed();
        typed == "> broadcast half a li" && above.last().unwrap().contains(" 25 %")
    });
    (terminal, peer)
}

fn assert_left_clean(terminal: &Terminal) {
    let screen = terminal.screen();
    assert!(!screen.contains("░"), "the status line is gone: {}", terminal.report());
    assert_eq!(screen.cursor.1, 0, "the shell begins on a row of its own: {}", terminal.report());
    assert!(!screen.contains("received big.iso"), "{}", terminal.report());
}

#[test]
fn ctrl_c_during_a_transfer_leaves_with_130_and_a_clean_terminal() {
    let (mut terminal, peer) = busy();
    let begun = Instant::now();
    terminal.keys("\x03");
    assert_eq!(terminal.exit_code(), Some(130));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_left_clean(&terminal);
    peer.hear_the_end();
    // What had arrived is kept, and is not taken for the file.
    let left = listing(&terminal.downloads());
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left.iter().all(|path| path.starts_with(".p2p-partial")), "{left:?}");
    let partial = terminal.downloads().join(&left[1]);
    assert!(fs::metadata(&partial).unwrap().len() >= CHUNK as u64, "{left:?}");
}

#[test]
fn sigterm_during_a_transfer_leaves_with_143_and_a_clean_terminal() {
    let (mut terminal, peer) = busy();
    terminal.signal(Signal::TERM);
    assert_eq!(terminal.exit_code(), Some(143));
    assert_left_clean(&terminal);
    peer.hear_the_end();
}

#[test]
fn quit_and_ctrl_d_leave_with_0_and_a_clean_terminal() {
    let (mut terminal, _peer) = busy();
    terminal.enter("\x15quit");
    assert_eq!(terminal.exit_code(), Some(0));
    assert_left_clean(&terminal);

    let mut terminal = Setup::plain().start();
    terminal.keys("\x04");
    assert_eq!(terminal.exit_code(), Some(0));
    assert_eq!(terminal.screen().cursor.1, 0, "{}", terminal.report());
}
