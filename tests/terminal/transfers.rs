//! The status line above the prompt.

use std::fs;

use crate::support::files::{CHUNK, noise};
use crate::support::{BaselinePeer, Content, Gate, NodeSetup};
use crate::terminal::{Screen, Setup, Terminal, assert_filled};

/// A peer that sends a file as slowly as the test wants: so far only its first chunk.
fn half_way(terminal: &Terminal, name: &str) -> (BaselinePeer, Content) {
    let peer = BaselinePeer::connect(&terminal.addr());
    let file = Content::new(name, noise(4 * CHUNK, 1));
    peer.send("FILE_OFFER", &file.offer());
    peer.hear_accept(&file);
    peer.send_chunk(0, file.chunk(0));
    peer.hear_ack(0, true);
    (peer, file)
}

fn finish(peer: &BaselinePeer, file: &Content) {
    (1..4).for_each(|index| peer.send_chunk(index as u64, file.chunk(index)));
    peer.hear_complete(file);
}

/// How many rows look like a status line.
fn status_lines(screen: &Screen) -> usize {
    screen.rows.iter().filter(|row| row.contains('░') || row.contains('█')).count()
}

/// Whether the status line stands above the line being typed, and nowhere else.
fn status_stands(screen: &Screen, text: &str, line: &str) -> bool {
    let (typed, above) = screen.typed();
    let status = above.last().map_or("", String::as_str);
    typed.replace(' ', "") == format!(">{line}").replace(' ', "")
        && status.contains(text)
        && status.contains('░')
        && status_lines(screen) == 1
}

#[test]
fn the_status_line_comes_with_a_transfer_and_goes_with_it() {
    let terminal = Setup::plain().start();
    let (peer, file) = half_way(&terminal, "big one.iso");
    terminal.wait("the status", |screen| status_stands(screen, "[1] receiving big one.iso █", ""));
    terminal.keys("broadcast still 日本語");
    let line = "broadcast still 日本語";
    terminal.wait("the status above the line", |screen| status_stands(screen, " 25 %", line));
    peer.send_text("hello");
    let screen = terminal
        .wait("the message", |screen| screen.contains("> hello") && status_stands(screen, " 25 %", line));
    let rows: Vec<_> = screen.upwards().take(3).collect();
    assert!(rows[2].ends_with("> hello") && rows[1].contains("25 %"), "{}", terminal.report());

    // A line that was entered leaves no status behind.
    terminal.keys("\r");
    peer.hear_text("still 日本語");
    terminal.enter("transfers");
    terminal.wait_text("transferring  262 kB of 1.0 MB (25 %)");
    terminal.wait("one status", |screen| status_stands(screen, " 25 %", ""));

    terminal.keys("shares");
    finish(&peer, &file);
    let screen = terminal.wait("the end", |screen| {
        screen.contains("[1] received big one.iso, 1.0 MB in ")
            && status_lines(screen) == 0
            && screen.typed().0 == "> shares"
    });
    let above = screen.upwards().skip(1).take(2).any(|row| row.starts_with("[1] received"));
    assert!(above, "{}", terminal.report());
}

#[test]
fn several_transfers_are_summed_and_listed_with_their_rates() {
    let terminal = Setup::plain().columns(120).start();
    let [one, two, three] = ["one.bin", "two.bin", "three.bin"].map(|name| half_way(&terminal, name));
    terminal.wait("the sum", |screen| status_stands(screen, "3 transfers ███", ""));
    finish(&two.0, &two.1);
    terminal.wait("two", |screen| status_stands(screen, "2 transfers ███", ""));
    terminal.enter("transfers");
    terminal.wait("the list", |screen| {
        let row = "transferring  262 kB of 1.0 MB (25 %)";
        screen.rows.iter().filter(|shown| shown.contains(row)).count() == 2
    });
    finish(&one.0, &one.1);
    finish(&three.0, &three.1);
    terminal.wait("nothing to run any more", |screen| {
        status_lines(screen) == 0 && screen.contains("received three.bin")
    });
}

#[test]
fn the_status_line_survives_a_window_of_forty_columns_and_back() {
    let terminal = Setup::plain().start();
    let (peer, file) = half_way(&terminal, "ein sehr langer Name, 日本語 und noch mehr davon.iso");
    terminal.fill(&peer);
    for line in ["", "broadcast kurz", &format!("broadcast {}", "lang 日本語 ".repeat(12))] {
        let line = line.trim_end();
        terminal.keys(line);
        terminal.wait("the line", |screen| status_stands(screen, "[1] receiving ein sehr langer Name", line));
        for (step, columns) in [40, 100, 60, 40, 130, 100].into_iter().enumerate() {
            terminal.resize(columns);
            peer.send_text(&format!("{} {step}: at {columns}", line.len()));
            let screen = terminal.wait("everything in its place", |screen| {
                screen.contains(&format!("> {} {step}: at {columns}", line.len()))
                    && status_stands(screen, " 25 %", line)
            });
            assert_filled(&screen);
            let prompts = screen.rows.iter().filter(|row| row.starts_with('>')).count();
            assert_eq!(prompts, 1, "{}", terminal.report());
        }
        terminal.keys("\x15");
        terminal.wait("an empty line", |screen| status_stands(screen, " 25 %", ""));
    }
    finish(&peer, &file);
    terminal.wait("the end", |screen| screen.contains("[1] received ein sehr") && status_lines(screen) == 0);
}

#[test]
fn an_offer_asks_and_is_answered() {
    let terminal = Setup::plain().argument("--accept").argument("none").start();
    let peer = BaselinePeer::connect(&terminal.addr());
    let files = ["a.txt", "b.txt", "c.txt"].map(|name| Content::new(name, format!("the content of {name}")));
    for (number, file) in (1..).zip(&files) {
        peer.send("FILE_OFFER", &file.offer());
        terminal.wait_row(&format!(
            "[{number}] {} [plain] offers {}, 20 bytes: accept {number} / reject {number} (expires in 10 min)",
            peer.addr(),
            file.name
        ));
    }
    terminal.enter("reject 2");
    terminal.wait_text("rejected [2]");
    terminal.keys("acc\tal\t\r");
    terminal.wait_row("accepted [1] [3]");
    for file in [&files[0], &files[2]] {
        peer.hear_accept(file);
        peer.send_chunk(0, &file.bytes);
        peer.hear_complete(file);
    }
    terminal.wait_text("received c.txt, 20 bytes in ");
    assert!(terminal.downloads().join("a.txt").exists() && !terminal.downloads().join("b.txt").exists());
}

#[test]
fn a_strangers_offers_are_asked_about_and_taken_one_by_one_or_all() {
    let terminal = Setup::new().start();
    let mut stranger = NodeSetup::new().start();
    stranger.connect(&terminal.addr());
    terminal.wait_text(" connected (");
    for (number, name) in ["a.txt", "b.txt", "c.txt"].into_iter().enumerate() {
        let path = stranger.dir().join(name);
        fs::write(&path, format!("the content of {name}")).unwrap();
        stranger.sendfile(&terminal.addr(), &path);
        let id = number + 1;
        terminal
            .wait_text(&format!(" offers {name}, 20 bytes: accept {id} / reject {id} (expires in 10 min)"));
    }
    terminal.enter("accept 2");
    terminal.wait_row("accepted [2]");
    terminal.wait_text("[2] received b.txt, 20 bytes in ");
    assert!(!terminal.downloads().join("a.txt").exists() && !terminal.downloads().join("c.txt").exists());
    terminal.enter("accept all");
    terminal.wait_row("accepted [1] [3]");
    for name in ["a.txt", "b.txt", "c.txt"] {
        terminal.wait_text(&format!(" received {name}, 20 bytes in "));
        stranger.wait_sent(name);
        assert_eq!(
            fs::read_to_string(terminal.downloads().join(name)).unwrap(),
            format!("the content of {name}")
        );
    }
}

#[test]
fn the_status_line_tells_how_far_a_real_transfer_is() {
    let terminal = Setup::new().argument("--accept").argument("all").start();
    // The side that receives: what a sender has sent may wait in the system's buffers.
    let gate = Gate::before(&terminal.addr(), 6 * CHUNK);
    let mut sender = NodeSetup::new().start();
    let path = sender.dir().join("holiday film.bin");
    fs::write(&path, noise(16 * CHUNK, 7)).unwrap();
    sender.connect(gate.addr());
    sender.sendfile(gate.addr(), &path);
    gate.wait_until_held();
    let line = "broadcast typed meanwhile";
    terminal.keys(line);
    terminal.wait("the status", |screen| {
        status_stands(screen, "[1] receiving holiday film.bin █", line)
            && (1..100).any(|percent| screen.contains(&format!(" {percent} %")))
    });
    gate.open();
    terminal.wait("the end", |screen| {
        screen.contains("[1] received holiday film.bin, 4.2 MB in ")
            && status_lines(screen) == 0
            && screen.typed().0 == format!("> {line}")
    });
    assert!(fs::read(terminal.downloads().join("holiday film.bin")).unwrap() == fs::read(&path).unwrap());
    terminal.keys("\r");
    sender.wait_where("the message", |event| event["text"] == "typed meanwhile");
}
