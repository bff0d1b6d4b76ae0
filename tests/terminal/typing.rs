//! The line being typed, whatever happens around it.

use std::fs;

use crate::support::{BaselinePeer, NodeSetup};
use crate::terminal::{Screen, Setup, assert_filled};

#[test]
fn a_message_in_the_middle_of_typing_leaves_line_and_cursor_as_they_are() {
    let terminal = Setup::plain().start();
    let peer = BaselinePeer::connect(&terminal.addr());
    terminal.wait_row(&format!("{} connected [plain]", peer.addr()));
    // Wide characters, a line longer than the screen, and the cursor before its last two characters.
    for (line, last_two) in
        [("send x:1 hel", 2), ("send x:1 日本語", 4), (&format!("send x:1 {}", "ab日".repeat(40)), 3)]
    {
        terminal.keys(line);
        let shown = |screen: &Screen| screen.typed().0 == format!("> {line}");
        let end = terminal.wait("the line", shown).cursor;
        terminal.keys("\x1b[D\x1b[D");
        let before = terminal
            .wait("the cursor to move", |screen| shown(screen) && screen.cursor == (end.0, end.1 - last_two));
        let text = format!("hello, {} bytes", line.len());
        peer.send_text(&text);
        let after = terminal.wait("the message and the line", |screen| {
            screen.has(&format!("<{} [plain]> {text}", peer.addr())) && shown(screen)
        });
        assert_eq!(after.cursor.1, before.cursor.1, "{}", terminal.report());
        assert_eq!(after.typed().0, before.typed().0);
        let (_, above) = after.typed();
        assert_eq!(above.last().unwrap(), &format!("<{} [plain]> {text}", peer.addr()));
        // What is typed goes on where it was.
        terminal.keys("!");
        terminal.wait("the new character", |screen| {
            let typed = screen.typed().0;
            typed.contains('!') && !typed.ends_with('!') && typed.replace('!', "") == format!("> {line}")
        });
        terminal.keys("\x05\x15");
        terminal.wait("an empty line", |screen| screen.rows.last().is_some_and(|row| row == ">"));
    }
}

#[test]
fn two_thousand_messages_while_typing_all_arrive_in_order() {
    let terminal = Setup::plain().start();
    let peer = BaselinePeer::connect(&terminal.addr());
    terminal.wait_row(&format!("{} connected [plain]", peer.addr()));
    let line = "broadcast ich tippe währenddessen, 日本語 auch";
    std::thread::scope(|scope| {
        scope.spawn(|| (0..2000).for_each(|number| peer.send_text(&format!("number {number}"))));
        for key in line.chars() {
            terminal.keys(&key.to_string());
            // As fast as the program shows it: that is in the middle of the messages.
            terminal.wait("the key", |screen| screen.typed().0.contains(key));
        }
    });
    let screen = terminal.wait("all of it", |screen| {
        screen.contains("> number 1999") && screen.typed().0 == format!("> {line}")
    });
    let expected: Vec<_> =
        (0..2000).map(|number| format!("<{} [plain]> number {number}", peer.addr())).collect();
    let shown = &screen.rows[screen.rows.iter().position(|row| row.ends_with("> number 0")).unwrap()..];
    assert_eq!(&shown[..2000], expected, "nothing is lost, doubled, torn or out of order");
    assert_eq!(shown[2000..], [format!("> {line}")]);
    terminal.keys("\r");
    peer.hear_text("ich tippe währenddessen, 日本語 auch");
}

#[test]
fn a_long_line_survives_a_window_of_forty_columns_and_back() {
    let terminal = Setup::plain().start();
    let peer = BaselinePeer::connect(&terminal.addr());
    terminal.wait_row(&format!("{} connected [plain]", peer.addr()));
    terminal.fill(&peer);
    let line = format!("broadcast {}", "ein langer Satz mit 日本語 darin ".repeat(5));
    let line = line.trim_end();
    terminal.keys(line);
    let intact = |screen: &Screen| screen.typed().0.replace(' ', "") == format!(">{line}").replace(' ', "");
    terminal.wait("the line", intact);
    for (step, columns) in [40, 100, 57, 40, 120, 100].into_iter().enumerate() {
        terminal.resize(columns);
        peer.send_text(&format!("{step}: at {columns}"));
        let screen = terminal.wait("the message above the line", |screen| {
            screen.has(&format!("<{} [plain]> {step}: at {columns}", peer.addr())) && intact(screen)
        });
        let prompts = screen.rows.iter().filter(|row| row.starts_with("> ")).count();
        assert_eq!(prompts, 1, "no piece of an older line is left;\n{}", terminal.report());
        assert_filled(&screen);
        terminal.keys("\x7f?");
        terminal.wait("a key", |screen| screen.typed().0.ends_with('?'));
        terminal.keys(&format!("\x7f{}", line.chars().last().unwrap()));
        terminal.wait("the line as before", intact);
    }
    terminal.keys("\r");
    peer.hear_text(line.strip_prefix("broadcast ").unwrap());
}

#[test]
fn a_path_with_spaces_is_completed() {
    let terminal = Setup::plain().start();
    let peer = BaselinePeer::connect(&terminal.addr());
    terminal.wait_row(&format!("{} connected [plain]", peer.addr()));
    let dir = terminal.dir().join("ein Ordner");
    fs::create_dir(&dir).unwrap();
    for name in ["the whole report.pdf", "the half report.pdf"] {
        fs::write(dir.join(name), "content").unwrap();
    }
    let prompt = format!("> sendfile {} ", peer.addr());
    terminal.keys("sendf\t127\tein\t");
    terminal.wait_row(&format!("{prompt}ein Ordner/"));
    terminal.keys("\t");
    terminal.wait("what they have in common", |screen| screen.typed().0 == format!("{prompt}ein Ordner/the"));
    terminal.keys("\t");
    let screen = terminal.wait_row("the half report.pdf   the whole report.pdf");
    assert_eq!(screen.typed().0, format!("{prompt}ein Ordner/the"), "the list stands above the line");
    terminal.keys("w\t\r");
    assert_eq!(peer.receive_file().name, "the whole report.pdf");
    terminal.wait_row(&format!("{prompt}ein Ordner/the whole report.pdf"));
}

#[test]
fn addresses_and_aliases_are_completed_that_were_connected_to_before() {
    let known = NodeSetup::new().start();
    let home = tempfile::tempdir().unwrap();
    let setup = || Setup::new().argument("--home").argument(home.path().to_str().unwrap());
    let mut terminal = setup().start();
    terminal.enter(&format!("connect {}", known.addr()));
    terminal.wait_text("first contact with ");
    terminal.enter(&format!("alias {} anna", known.addr()));
    terminal.wait("the alias", |screen| screen.rows.concat().contains("is called anna from now on"));
    terminal.enter("quit");
    assert_eq!(terminal.exit_code(), Some(0));

    let terminal = setup().start();
    // What is answered first is known then.
    terminal.enter("whoami");
    terminal.wait_text("instance ");
    terminal.keys("connect 127.0.0.1:\t");
    terminal.wait_row(&format!("> connect {}", known.addr()));
    // Ctrl-U clears the line.
    terminal.keys("\x15connect an\t");
    terminal.wait_row("> connect anna");
    terminal.keys("\r");
    terminal.wait_text("connected to ");
}

#[test]
fn what_is_listed_fits_the_window() {
    let terminal = Setup::plain().start();
    let peer = BaselinePeer::connect(&terminal.addr());
    terminal.wait_row(&format!("{} connected [plain]", peer.addr()));
    for (times, columns) in [40, 80].into_iter().enumerate() {
        terminal.resize(columns);
        terminal.enter("peers");
        let screen = terminal.wait("the list", |screen| {
            let rows = screen.rows.iter().filter(|row| row.starts_with(&peer.addr())).count();
            // The line that it connected, and a list each time.
            rows == 2 + times && screen.rows.last().is_some_and(|row| row == ">")
        });
        let from = screen.rows.iter().rposition(|row| row.starts_with("> peers")).unwrap();
        let list = &screen.rows[from + 1..screen.rows.len() - 1];
        let starts = |row: &String| ["PEER", "  ", &peer.addr()].iter().any(|start| row.starts_with(start));
        assert!(list.iter().all(starts), "no row was folded: {}", terminal.report());
    }
}

#[test]
fn commands_are_hinted_at_in_another_colour_only() {
    let terminal = Setup::plain().start();
    terminal.keys("conn");
    terminal.wait_row("> connect <host:port|peer>");
    terminal.keys("\x1b[C");
    terminal.wait("the cursor behind the command", |screen| screen.cursor.1 == "> connect".len());
    terminal.keys(" localhost:1\r");
    terminal.wait_text("error: cannot connect to localhost:1");
    assert!(terminal.screen().has("> connect localhost:1"), "no hint stays: {}", terminal.report());
    assert!(terminal.raw().contains("\x1b[90m") && terminal.raw().contains("\x1b[31merror:"));

    for (name, value) in [("NO_COLOR", "1"), ("TERM", "vt100")] {
        let terminal = Setup::plain().variable(name, value).start();
        terminal.keys("connect");
        terminal.wait_row("> connect");
        terminal.enter(" localhost:1");
        terminal.wait_text("error: cannot connect to localhost:1");
        let raw = terminal.raw();
        assert!(!raw.contains("<host:port>"), "{name}: {raw:?}");
        assert!(
            !raw.split("\x1b[").any(|part| part.split_once('m').is_some_and(|(code, _)| {
                !code.is_empty() && code.chars().all(|c| c.is_ascii_digit() || c == ';')
            })),
            "{name}: {raw:?}"
        );
    }
}

#[test]
fn lines_come_back_in_the_next_run() {
    let home = tempfile::tempdir().unwrap();
    let place = home.path().join("of/mine");
    let setup = || Setup::plain().argument("--home").argument(place.to_str().unwrap());
    let mut terminal = setup().start();
    terminal.enter("whoami");
    terminal.wait_text("listening on  127.0.0.1:");
    terminal.enter("quit");
    assert_eq!(terminal.exit_code(), Some(0));
    assert!(!terminal.screen().contains("warning"), "{}", terminal.report());

    let terminal = setup().start();
    terminal.keys("\x1b[A\x1b[A");
    terminal.wait_row("> whoami");

    // Without a directory of its own the program says so, once, and works.
    fs::write(home.path().join("file"), "").unwrap();
    let nowhere = home.path().join("file/home");
    let terminal = Setup::plain().argument("--home").argument(nowhere.to_str().unwrap()).start();
    terminal.enter("peers");
    terminal.wait_text("warning: what you type is not kept in");
    terminal.enter("whoami");
    terminal.wait_text("listening on  127.0.0.1:");
    let warnings = terminal.screen().rows.iter().filter(|row| row.contains("warning")).count();
    assert_eq!(warnings, 1, "{}", terminal.report());
}

#[test]
fn a_mistyped_command_gets_a_suggestion_and_help_explains() {
    let terminal = Setup::plain().columns(40).start();
    terminal.enter("conect localhost:1");
    let advice = "unknown command `conect`; did you mean `connect`?";
    terminal.wait(advice, |screen| screen.rows.concat().contains(advice));
    terminal.enter("help accept");
    terminal.wait_row("  accept all");
    terminal.enter("help");
    terminal.wait_text("says more about one");
}

#[test]
fn what_is_typed_ahead_is_not_lost() {
    let terminal = Setup::plain().start();
    terminal.keys("help wait\rhelp peers\rhelp quit\rbroadc");
    for row in ["  wait", "  peers", "  quit", "> broadcast <message>"] {
        terminal.wait_row(row);
    }
}

#[test]
fn with_no_history_neither_lines_nor_messages_are_kept() {
    for keeps in [true, false] {
        let setup = if keeps { Setup::new() } else { Setup::new().argument("--no-history") };
        let mut terminal = setup.start();
        terminal.enter("shares");
        terminal.wait_text("nothing is shared");
        // While it runs the line comes back.
        terminal.keys("\x1b[A");
        terminal.wait("the line before", |screen| screen.typed().0 == "> shares");
        terminal.keys("\x15");
        terminal.enter("history");
        let told = if keeps { "nothing is in the history" } else { "with --no-history none is kept" };
        terminal.wait_text(told);
        terminal.enter("quit");
        assert_eq!(terminal.exit_code(), Some(0));
        let home = terminal.dir().join(".local/state/p2p");
        assert!(home.join("identity.pem").exists());
        assert_eq!(home.join("history").exists(), keeps);
    }
}
