//! The full screen: `p2p tui`.

use std::fs;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use rustix::termios::LocalModes;

use crate::support::files::noise;
use crate::support::{BaselinePeer, NodeSetup, TestNode};
use crate::terminal::{Screen, Setup, Terminal};

/// The row in which a line is typed.
fn typed(screen: &Screen) -> &str {
    let hints = screen.rows.iter().rposition(|row| row.contains("? keys")).unwrap_or(0);
    screen.rows.get(hints.wrapping_sub(1)).map_or("", String::as_str)
}

/// A screen in plaintext with a peer that a test plays itself.
fn with_peer() -> (Terminal, BaselinePeer) {
    let terminal = Setup::plain().start_tui();
    let peer = BaselinePeer::connect(&terminal.addr());
    terminal.wait_text(&format!("{} connected [plain]", peer.addr()));
    (terminal, peer)
}

/// An encrypted screen, and another node that is connected to it.
fn with_node() -> (Terminal, TestNode, String) {
    let terminal = Setup::new().start_tui();
    let mut node = NodeSetup::new().start();
    let addr = terminal.addr();
    node.connect(&addr);
    terminal.wait_text(" connected (");
    (terminal, node, addr)
}

#[test]
fn a_message_while_typing_leaves_the_line_and_the_cursor_as_they_are() {
    let (terminal, peer) = with_peer();
    terminal.keys("broadcast half 日本語\x1b[D");
    let before = terminal.wait("the line", |screen| typed(screen) == "> broadcast half 日本語");
    let before =
        terminal.wait("the cursor", |screen| screen.cursor.1 + 2 == before.cursor.1 || screen.cursor.1 == 21);
    peer.send_text("hello there");
    let after = terminal.wait_text("> hello there");
    assert_eq!(
        (typed(&after), after.cursor),
        ("> broadcast half 日本語", before.cursor),
        "{}",
        terminal.report()
    );
    terminal.keys("!\r");
    peer.hear_text("half 日本!語");
    terminal.wait_text("<you → all> half 日本!語");
}

#[test]
fn a_window_of_sixty_columns_and_back_is_drawn_anew() {
    let (terminal, peer) = with_peer();
    terminal.keys("broadcast still here");
    for number in 0..20 {
        peer.send_text(&format!("number {number}"));
    }
    terminal.wait_text("> number 19");
    for (columns, rows) in [(60, 15), (100, 24), (60, 15), (130, 30), (100, 24)] {
        terminal.resize_to(columns, rows);
        let drawn = |screen: &Screen| {
            screen.rows.len() == rows
                && screen.rows[0].starts_with("p2p  127.0.0.1:")
                && screen.rows[0].ends_with("▼ -")
                && screen.rows[0].chars().count() == columns
                && typed(screen) == "> broadcast still here"
                && screen.contains("> number 19")
                && screen.contains("Peers 1")
        };
        let screen = terminal.wait("all of it in its place", drawn);
        let shown = |text: &str| screen.rows.iter().filter(|row| row.contains(text)).count();
        assert_eq!((shown("p2p  127"), shown("> number 19"), shown("? keys")), (1, 1, 1), "{screen:#?}");
    }
    terminal.keys("\r");
    peer.hear_text("still here");
}

#[test]
fn an_offer_is_accepted_from_a_pop_up() {
    let (terminal, mut node, addr) = with_node();
    let path = node.dir().join("report.pdf");
    fs::write(&path, noise(300_000, 3)).unwrap();
    node.sendfile(&addr, &path);
    let asked = terminal.wait_text("Ctrl-Y take it");
    assert!(asked.contains("A file is offered") && asked.contains("report.pdf, 300 kB"), "{asked:#?}");
    terminal.keys("in the middle of a line\x19");
    let screen = terminal.wait_text("received report.pdf, 300 kB");
    assert!(!screen.contains("A file is offered"), "{screen:#?}");
    assert_eq!(typed(&screen), "> in the middle of a line");
    node.wait_sent("report.pdf");
    assert!(fs::read(terminal.downloads().join("report.pdf")).unwrap() == noise(300_000, 3));
}

#[test]
fn an_offer_is_refused_from_a_pop_up_or_answered_later() {
    let (terminal, mut node, addr) = with_node();
    let path = node.dir().join("report.pdf");
    fs::write(&path, noise(3000, 3)).unwrap();
    node.sendfile(&addr, &path);
    terminal.wait_text("Ctrl-Y take it");
    terminal.keys("\x1b");
    terminal.wait("no pop-up", |screen| {
        !screen.contains("A file is offered") && screen.contains("1 offer waits: Ctrl-O")
    });
    terminal.keys("\x0f");
    terminal.wait_text("Ctrl-Y take it");
    terminal.keys("\x18");
    terminal.wait_text("rejected [");
    assert_eq!(node.wait_failed("report.pdf"), "declined");
}

#[test]
fn a_first_contact_is_told_with_its_identity_and_can_be_taken_back() {
    let mut node = NodeSetup::new().start();
    let id = node.node_id();
    let terminal = Setup::new().start_tui();
    terminal.enter(&format!("connect {}", node.addr()));
    let asked = terminal.wait_text("Ctrl-X disconnect and forget");
    assert!(asked.contains(&id) && asked.contains("First contact"), "{asked:#?}");
    node.wait_for_peer();
    terminal.keys("\x18");
    terminal.wait_text("is forgotten");
    node.wait_for(&serde_json::json!({"event": "peer_disconnected"}));
    terminal.wait("nobody", |screen| screen.contains("Peers 0") && !screen.contains("First contact"));
}

#[test]
fn two_thousand_messages_in_a_burst_all_arrive_while_somebody_types() {
    let (terminal, peer) = with_peer();
    let line = "broadcast ich tippe währenddessen";
    std::thread::scope(|scope| {
        scope.spawn(|| (0..2000).for_each(|number| peer.send_text(&format!("number {number}."))));
        for (at, key) in line.char_indices() {
            terminal.keys(&key.to_string());
            let so_far = format!("> {}", &line[..at + key.len_utf8()]);
            // As fast as the program shows it: that is in the middle of the messages.
            terminal.wait("the key", |screen| typed(screen).starts_with(so_far.trim_end()));
        }
    });
    let seen = terminal
        .wait("the last one", |screen| screen.contains("> number 1999.") && screen.contains(" 2000 "));
    let rows: Vec<_> = seen.rows.iter().filter(|row| row.contains("> number ")).collect();
    for (row, number) in rows.iter().rev().zip((0..2000).rev()) {
        assert!(row.ends_with(&format!("> number {number}.")), "in order: {}", terminal.report());
    }
    // What is above is still there.
    terminal.keys("\x1b[5~\x1b[5~\x1b[5~");
    let back = terminal.wait("what was before", |screen| {
        !screen.contains("> number 1999.") && screen.contains("more below")
    });
    assert!(back.contains("> number 19"), "{back:#?}");
    assert_eq!(typed(&back), format!("> {line}"));
    terminal.keys("\r");
    peer.hear_text("ich tippe währenddessen");
    terminal.wait_text("<you → all> ich tippe währenddessen");
}

#[test]
fn nothing_that_a_peer_says_reaches_the_terminal_as_it_is() {
    let (terminal, peer) = with_peer();
    peer.send_text("\x1b]0;pwned\x07\x1b[5;5H\u{202e}drow\u{9b}31m\x08 end of text");
    terminal.wait("the text", |screen| {
        screen.rows.concat().contains("\\x1b]0;pwned\\x07\\x1b[5;5H\\u{202e}drow\\u{9b}31m\\x08 end of text")
    });
    let file = crate::support::Content::new("evil\u{202e}\x1b]0;pwned\x07.pdf", noise(10, 1));
    peer.send("FILE_OFFER", &file.offer());
    terminal.wait_text("warning: ");
    let raw = terminal.raw();
    for acts in ["\x1b]0", "\x07", "\u{202e}", "\u{9b}", "\x08", "\x1b[5;5H\\"] {
        assert!(!raw.contains(acts), "{acts:?} reached the terminal");
    }
}

#[test]
fn each_peer_has_a_tab_in_which_one_writes_to_it() {
    let (terminal, peer) = with_peer();
    let other = BaselinePeer::connect(&terminal.addr());
    terminal.wait_text(&format!("{} connected [plain]", other.addr()));
    peer.send_text("from the first");
    other.send_text("from the second");
    terminal
        .wait("both", |screen| screen.contains("> from the first") && screen.contains("> from the second"));
    terminal.keys("\x1b[Z");
    terminal.wait("its own only", |screen| {
        screen.contains("> from the first") && !screen.contains("> from the second")
    });
    terminal.enter("quit is what I say, and peers too");
    peer.hear_text("quit is what I say, and peers too");
    terminal.wait_text("<you> quit is what I say, and peers too");
    terminal.enter("/broadcast to both");
    peer.hear_text("to both");
    other.hear_text("to both");
    terminal.keys("\x1b1");
    terminal.wait("everything", |screen| {
        screen.contains("> from the second") && screen.contains("<you → all> to both")
    });
}

#[test]
fn commands_are_completed_explained_and_brought_back_as_at_the_prompt() {
    let (terminal, _peer) = with_peer();
    terminal.keys("broadc\t");
    terminal.wait("the command", |screen| typed(screen).starts_with("> broadcast <message>"));
    terminal.keys("\x15un\t");
    terminal.wait("what could be meant", |screen| {
        screen.contains("what could be meant") && screen.contains("unshare") && screen.contains("unban")
    });
    terminal.keys("\x15");
    terminal.enter("whoami");
    terminal.wait_text("program       p2p/");
    terminal.keys("?");
    terminal.wait_text("Keys (any key closes this)");
    terminal.keys("\x1b");
    terminal.wait("no help", |screen| !screen.contains("Keys ("));
    terminal.keys("\x1b[A");
    terminal.wait("the line of before", |screen| typed(screen) == "> whoami");
    let kept = fs::read_to_string(terminal.dir().join(".local/state/p2p/history")).unwrap();
    assert_eq!(kept, "whoami\n");
}

#[test]
fn ctrl_c_a_signal_and_quit_give_the_terminal_back() {
    let (mut terminal, peer) = with_peer();
    terminal.keys("half a li\x03");
    assert_eq!(terminal.exit_code(), Some(130));
    peer.hear_the_end();
    assert!(!terminal.screen().contains("Peers"), "{}", terminal.report());

    let (mut terminal, _peer) = with_peer();
    terminal.signal(Signal::TERM);
    assert_eq!(terminal.exit_code(), Some(143));

    let (mut terminal, _peer) = with_peer();
    terminal.enter("quit");
    assert_eq!(terminal.exit_code(), Some(0));

    let (mut terminal, _peer) = with_peer();
    terminal.keys("\x04");
    assert_eq!(terminal.exit_code(), Some(0));
}

#[test]
fn ctrl_z_gives_the_terminal_to_the_shell_and_fg_draws_everything_anew() {
    let setup = Setup::plain().in_shell("set -m; \"$@\"; echo \"stopped: $?\"; read -r _; fg > /dev/null");
    let mut terminal = setup.start_tui();
    let peer = BaselinePeer::connect(&terminal.addr());
    terminal.wait_text(" connected [plain]");
    terminal.keys("broadcast half a li\x1a");
    let shell = terminal.wait_text("stopped: ");
    assert!(!shell.contains("Peers"), "{shell:#?}");
    terminal.assert_restored();
    peer.send_text("said meanwhile");
    terminal.keys("\r");
    terminal.wait("everything as it was", |screen| {
        screen.contains("Peers 1")
            && screen.contains("> said meanwhile")
            && typed(screen) == "> broadcast half a li"
    });
    assert!(!terminal.local_modes().contains(LocalModes::ICANON), "keys come one by one again");
    terminal.keys("ne\r");
    peer.hear_text("half a line");
    terminal.enter("quit");
    assert_eq!(terminal.exit_code(), Some(0));
}

#[test]
fn without_colours_nothing_is_coloured() {
    for (value, coloured) in [("1", false), ("", true)] {
        let terminal = Setup::plain().variable("NO_COLOR", value).start_tui();
        let peer = BaselinePeer::connect(&terminal.addr());
        peer.send_text("hello");
        terminal.wait_text("> hello");
        let raw = terminal.raw();
        let colours = (1..=7).flat_map(|n| [format!("[3{n}"), format!("[9{n}"), format!("[38;5;{n}")]);
        assert_eq!(colours.into_iter().any(|code| raw.contains(&code)), coloured, "NO_COLOR={value:?}");
        assert!(!raw.contains("48;5;"), "no background is set");
    }
}

#[test]
fn where_there_is_no_terminal_that_is_said() {
    let program = env!("CARGO_BIN_EXE_p2p");
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(program);
    command.args(["tui", "0", "--bind", "127.0.0.1", "--home"]).arg(home.path()).stdin(Stdio::null());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("draws on a terminal") && output.stdout.is_empty(), "{told}");
}
