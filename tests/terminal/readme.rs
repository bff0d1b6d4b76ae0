//! The README shows what the program really prints.
//!
//! The tests type what the README says was typed, and compare what is on the screen then with what
//! the README shows. Ports, identities, times and rates differ from run to run and count as equal;
//! words, numbers, sizes, names and order do not.

use std::fs;
use std::path::Path;

use crate::support::files::noise;
use crate::support::{NodeSetup, TestNode};
use crate::terminal::{Setup, Terminal};

const README: &str = include_str!("../../README.md");

/// So wide that nothing is folded.
const WIDE: usize = 250;

/// What the README shows under a name.
fn shown(kind: &str, name: &str) -> Vec<&'static str> {
    let (_, after) = README.split_once(&format!("<!-- {kind}: {name} -->\n```text\n")).expect(name);
    after.split_once("```").unwrap().0.lines().collect()
}

/// What the README says was typed there, with this run's addresses in place of its own.
fn typed(name: &str, port: &str, peer: &str) -> std::vec::IntoIter<String> {
    let here = |word: &str| match word {
        "localhost:8000" => format!("localhost:{port}"),
        word if word.starts_with("127.0.0.1:") => peer.to_owned(),
        word => word.to_owned(),
    };
    let line = |line: &str| line.split(' ').map(here).collect::<Vec<_>>().join(" ");
    let lines: Vec<_> =
        shown("terminal", name).into_iter().filter_map(|row| row.strip_prefix("> ")).map(line).collect();
    lines.into_iter()
}

/// A line without what differs from run to run, and without the widths of columns.
fn normal(line: &str) -> String {
    // The day and time of day at which something was.
    let is_digit_or = |with: &str, c: char| c.is_ascii_digit() || with.contains(c);
    let line = match line.split_once("  ") {
        Some((time, after)) if time.len() == 16 && time.chars().all(|c| is_digit_or("-: ", c)) => after,
        _ => line,
    };
    let mut line = line.replace("[::]", "127.0.0.1").replace("192.168.1.7", "127.0.0.1");
    // `(162 MB/s, limited by our disk)`
    if let Some((before, after)) = line.split_once("/s")
        && let Some((before, _)) = before.rsplit_once('(')
        && let Some((_, after)) = after.split_once(')')
    {
        line = format!("{before}(RATE){after}");
    }
    // What this computer is called by others depends on where the test runs.
    let without_host = |word: &str| match word.split_once('#') {
        Some((_, id)) => format!("HOST#{}", without_digits(id)),
        None => without_digits(word),
    };
    let words: Vec<_> = line.split_whitespace().map(without_host).collect();
    let mut normal: Vec<String> = Vec::new();
    for word in words {
        let is_time = ["ms", "s", "min"].contains(&word.trim_end_matches(','));
        match normal.last_mut() {
            Some(last) if is_time && last.parse::<f64>().is_ok() => "TIME".clone_into(last),
            _ => normal.push(word),
        }
    }
    normal.dedup_by(|a, b| a == "TIME" && a == b);
    normal.join(" ")
}

/// A word with its port and what looks like an identity made equal.
fn without_digits(word: &str) -> String {
    let mut without = String::new();
    let mut rest = word;
    while let Some(c) = rest.chars().next() {
        let hex = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_hexdigit()).len();
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let taken = if hex >= 16 {
            without += &format!("HEX{hex}");
            hex
        } else if digits >= 4 && without.ends_with(':') {
            without += "PORT";
            digits
        } else {
            let taken = hex.max(c.len_utf8());
            without += &rest[..taken];
            taken
        };
        rest = &rest[taken..];
    }
    without
}

/// Checks that these rows are what the README shows.
#[track_caller]
fn assert_shown<'a>(kind: &str, name: &str, rows: impl IntoIterator<Item = &'a str>) {
    let shown: Vec<_> = shown(kind, name).into_iter().map(normal).collect();
    let rows: Vec<_> = rows.into_iter().map(normal).collect();
    assert_eq!(rows, shown, "left: what is printed; right: what the README shows under `{name}`");
}

/// The rows on the screen since that one, without the empty prompt at the end.
#[track_caller]
fn rows_since(terminal: &Terminal, first: &str) -> Vec<String> {
    let rows = terminal.screen().rows;
    let start = rows.iter().position(|row| row.contains(first)).unwrap_or_else(|| {
        panic!("no row has {first:?};\n{}", terminal.report());
    });
    let mut rows = rows[start..].to_vec();
    while rows.last().is_some_and(|row| row == ">" || row.is_empty()) {
        rows.pop();
    }
    rows
}

/// Waits for that text and an empty prompt below it: then everything of it is on the screen.
#[track_caller]
fn wait_above_prompt(terminal: &Terminal, text: &str) {
    terminal.wait(text, |screen| screen.contains(text) && screen.rows.last().is_some_and(|row| row == ">"));
}

fn write_report(dir: &Path) {
    fs::write(dir.join("report.pdf"), noise(3_200_000, 3)).unwrap();
}

fn port_of(addr: &str) -> &str {
    addr.rsplit_once(':').unwrap().1
}

#[test]
fn two_terminals_talk_as_the_readme_shows() {
    let home = tempfile::tempdir().unwrap();
    let start =
        || Setup::new().columns(WIDE).argument("--home").argument(home.path().to_str().unwrap()).start();
    let (mut first, mut second) = (start(), start());
    write_report(second.dir());
    let (addr, mut lines) = (first.addr(), typed("second", port_of(&first.addr()), ""));
    let mut next = || lines.next().unwrap();

    second.enter(&next());
    second.wait_text("first contact with ");
    second.wait_text("connected to ");
    let screen = first.wait_text(" connected (");
    let row = screen.rows.iter().find(|row| row.contains(" connected (")).unwrap();
    let peer = row.split(' ').next().unwrap().to_owned();
    let mut answers = typed("first", port_of(&addr), &peer);
    let mut answer = || answers.next().unwrap();

    second.enter(&next());
    first.wait_text("> hello, are you there?");
    first.enter(&answer());
    second.wait_text("> yes. What is it?");
    second.enter(&next());
    second.wait_text("[1] sent report.pdf");
    first.wait_text("[1] received report.pdf");
    first.enter(&answer());
    first.wait_text("RECEIVED");
    first.enter(&answer());
    first.wait_row("sent to 1 peer");
    second.wait_text("> thank you");
    second.enter(&next());
    assert_eq!(second.exit_code(), Some(0));
    first.wait_text(" disconnected: ");
    first.enter(&answer());
    assert_eq!(first.exit_code(), Some(0));
    for (terminal, name) in [(&first, "first"), (&second, "second")] {
        let rows = rows_since(terminal, " listening on ");
        assert_shown("terminal", name, rows.iter().map(String::as_str));
    }
}

#[test]
fn strangers_are_asked_about_named_and_trusted_as_the_readme_shows() {
    let terminal = Setup::new().columns(WIDE).start();
    let mut stranger = NodeSetup::new().start();
    write_report(stranger.dir());
    let peer = stranger_connects(&mut stranger, &terminal);
    let send = |stranger: &mut TestNode| {
        let path = stranger.dir().join("report.pdf");
        stranger.sendfile(&terminal.addr(), &path);
    };
    send(&mut stranger);
    terminal.wait_text("[1] ");
    let mut lines = typed("asked", "", &peer).chain(typed("trust", "", &peer));
    let mut next = || lines.next().unwrap();
    terminal.enter(&next());
    terminal.wait_text("offered");
    terminal.enter(&next());
    wait_above_prompt(&terminal, "[1] received report.pdf");
    stranger.wait_sent("report.pdf");
    let asked = rows_since(&terminal, " connected (");
    assert_shown("terminal", "asked", asked.iter().map(String::as_str));

    terminal.enter(&next());
    terminal.wait_text(" is called anna ");
    terminal.enter(&next());
    terminal.wait_text(" are taken without asking ");
    send(&mut stranger);
    terminal.wait_text("[2] report.pdf was here already");
    stranger.type_line(&format!("send {} did you get it?", terminal.addr()));
    terminal.wait_text("<anna> did you get it?");
    terminal.enter(&next());
    stranger.wait_where("an answer", |event| event["text"] == "yes, thank you");
    wait_above_prompt(&terminal, "> send anna yes");
    let rows = rows_since(&terminal, " connected (");
    assert_shown("terminal", "trust", rows[asked.len()..].iter().map(String::as_str));

    terminal.enter(&typed("history", "", "").next().unwrap());
    wait_above_prompt(&terminal, "  to anna: yes, thank you");
    let dir = std::path::absolute(terminal.dir()).unwrap();
    let rows = rows_since(&terminal, "> history");
    let rows: Vec<_> = rows.iter().map(|row| row.replace(dir.to_str().unwrap(), "/home/bob")).collect();
    assert_shown("terminal", "history", rows.iter().map(String::as_str));
}

#[test]
fn directories_are_sent_as_the_readme_shows() {
    let home = tempfile::tempdir().unwrap();
    let node = NodeSetup::new().home_at(home.path()).start();
    let terminal =
        Setup::new().columns(WIDE).argument("--home").argument(home.path().to_str().unwrap()).start();
    let photos = terminal.dir().join("photos");
    fs::create_dir(&photos).unwrap();
    for number in 0..120 {
        fs::write(photos.join(format!("{number}.jpg")), noise(26_600, number)).unwrap();
    }
    terminal.enter(&format!("connect localhost:{}", node.port()));
    terminal.wait_text("connected to ");
    terminal.enter(&typed("directory", node.port(), "").next().unwrap());
    wait_above_prompt(&terminal, "[1] sent photos/");
    let rows = rows_since(&terminal, "> sendfile");
    assert_shown("terminal", "directory", rows.iter().map(String::as_str));
    assert_eq!(fs::read_dir(node.downloads().join("photos")).unwrap().count(), 120);
}

#[test]
fn what_is_for_somebody_away_waits_as_the_readme_shows() {
    let (terminal, mut bob) = (Setup::new().columns(WIDE).start(), NodeSetup::new().start());
    write_report(terminal.dir());
    let address = format!("localhost:{}", bob.port());
    terminal.enter(&format!("connect {address}"));
    terminal.wait_text("connected to ");
    terminal.enter(&format!("alias {address} bob"));
    terminal.wait_text(" is called bob ");
    bob.kill();
    terminal.wait_text(" disconnected: ");
    let mut lines = typed("outbox", "", "");
    let mut next = || lines.next().unwrap();
    terminal.enter(&next());
    wait_above_prompt(&terminal, "[1] kept in the outbox");
    terminal.enter(&next());
    wait_above_prompt(&terminal, "[2] report.pdf kept in the outbox");
    let kept = rows_since(&terminal, "> send bob");
    let outbox = next();
    // Until they were looked for in vain, it is not known why they are not there.
    let listed = loop {
        let before = rows_since(&terminal, "> send bob").len();
        terminal.enter(&outbox);
        wait_above_prompt(&terminal, "[2]  bob ");
        let listed = rows_since(&terminal, "> send bob")[before..].to_vec();
        if listed.iter().filter(|row| row.contains("nobody listens there")).count() == 2 {
            break listed;
        }
    };
    assert_shown("terminal", "outbox", kept.iter().chain(&listed).map(String::as_str));
    let again = NodeSetup::new().home_at(bob.home()).at_the_address_of(&bob).start();
    terminal.wait_text("[1] delivered to bob");
    again.wait_where("the message", |event| event["text"] == "are you there?");
    again.wait_received("report.pdf");
}

/// Connects and tells as whom the terminal knows the stranger.
fn stranger_connects(stranger: &mut TestNode, terminal: &Terminal) -> String {
    stranger.connect(&terminal.addr());
    let screen = terminal.wait_text(" connected (");
    let row = screen.rows.iter().find(|row| row.contains(" connected (")).unwrap();
    row.split(' ').next().unwrap().to_owned()
}

#[test]
fn whoami_and_help_say_what_the_readme_says() {
    let terminal = Setup::new().columns(WIDE).start();
    terminal.enter("whoami");
    wait_above_prompt(&terminal, "instance ");
    let rows = rows_since(&terminal, "> whoami");
    assert_shown("terminal", "whoami", rows.iter().map(String::as_str));

    terminal.enter("help");
    wait_above_prompt(&terminal, "says more about one");
    let help = rows_since(&terminal, "> help");
    let help: Vec<_> = help.iter().filter(|row| row.starts_with("  ")).map(|row| normal(row)).collect();
    let (_, table) = README.split_once("| command | what it does |\n|---|---|\n").unwrap();
    let (table, _) = table.split_once("\n\n").unwrap();
    let table = table.replace("\\|", "\u{1}");
    let cells = |row: &str| row.replace(['|', '`'], " ").replace('\u{1}', "|");
    let table: Vec<_> = table.lines().map(|row| normal(&cells(row))).collect();
    assert_eq!(help, table);
}

#[test]
fn one_file_is_sent_and_received_as_the_readme_shows() {
    let home = tempfile::tempdir().unwrap();
    let arguments = |name| -> Vec<&str> { shown("script", name)[0].split(' ').skip(2).collect() };
    let setup = NodeSetup::new().home_at(home.path()).downloads_at("./downloads");
    let receiving = [&arguments("receive")[..1], &["0"], &arguments("receive")[1..]].concat();
    let command = setup.command(&receiving);
    let mut receiver = TestNode::spawn(setup, command);
    let line = receiver.wait_for_line(&["listening on "]);
    let address = format!("localhost:{}", port_of(&line));
    receiver.wait_for_line(&["everybody may send"]);

    let setup = NodeSetup::new().home_at(home.path());
    write_report(setup.dir());
    let sending: Vec<_> = arguments("send")
        .into_iter()
        .map(|word| if word == "localhost:8000" { &address } else { word })
        .collect();
    let finished = setup.run(&sending, "");
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""), "{finished:?}");
    assert_shown(
        "script",
        "send",
        std::iter::once(shown("script", "send")[0]).chain(finished.stdout.lines()),
    );
    assert_eq!(receiver.exit_code(), Some(0));
    let said = receiver.output();
    let rows = std::iter::once(shown("script", "receive")[0]).chain(said.iter().map(String::as_str));
    assert_shown("script", "receive", rows);
}

#[test]
fn scripts_print_what_the_readme_shows() {
    let home = tempfile::tempdir().unwrap();
    let node = NodeSetup::new().home_at(home.path()).start();
    let setup = || NodeSetup::new().home_at(home.path()).option("--bind").option("127.0.0.1");
    let address = format!("localhost:{}", node.port());
    // The README's script is not the first to connect there.
    assert_eq!(setup().run(&["0"], &format!("connect {address}")).code, Some(0));
    for (name, code) in [("piped", 0), ("json", 1)] {
        let shown = shown("script", name);
        let (input, program) = shown[0].split_once(" | p2p ").expect("a line of a shell");
        let input: Vec<_> = input.split('\'').skip(3).step_by(2).collect();
        let setup = setup();
        write_report(setup.dir());
        let arguments: Vec<_> = program.split(' ').collect();
        let finished = setup.run(&arguments, &input.join("\n").replace("localhost:8000", &address));
        assert_eq!(finished.code, Some(code), "{finished:?}");
        assert_shown("script", name, std::iter::once(shown[0]).chain(finished.stdout.lines()));
    }
}

#[test]
fn settings_are_shown_as_the_readme_shows_them() {
    let (_, rules) = README.split_once("```toml\n[[accept_rule]]").unwrap();
    let (rules, _) = rules.split_once("```").unwrap();
    let setup = NodeSetup::new();
    let text =
        format!("# mine\nkeep_free = \"10GB\"\nlimit_up = \"5MB/s\"\nlan = true\n[[accept_rule]]{rules}");
    fs::write(setup.dir().join("my.toml"), text).unwrap();
    let shown = shown("script", "config");
    let arguments: Vec<_> = shown[0].split(' ').skip(2).collect();
    let finished = setup.run(&arguments, "");
    assert_eq!(finished.code, Some(0), "{finished:?}");
    // The README leaves some out.
    let mut printed = finished.stdout.lines().map(normal);
    for row in shown[1..].iter().filter(|row| **row != "…" && !row.is_empty()) {
        let row = normal(row);
        assert!(printed.any(|line| line == row), "{row} is not there, or not in its place: {finished:?}");
    }
    let options: Vec<String> = finished
        .stdout
        .lines()
        .filter_map(|row| row.split(' ').next())
        .map(|key| format!("--{}", key.replace('_', "-")))
        .collect();
    let (_, table) = README.split_once("| option | environment | meaning | default |").unwrap();
    let (table, _) = table.split_once("\n\n").unwrap();
    for row in table.lines().filter(|row| row.starts_with("| `--") && !row.starts_with("| `--config")) {
        let option = row.split(['`', ' ']).find(|word| word.starts_with("--")).unwrap();
        assert!(options.iter().any(|known| known == option), "there is no {option}: {options:?}");
    }
}

#[test]
fn the_settings_in_the_readme_are_understood() {
    for (example, heading) in README.split("```toml\n").skip(1).zip(["rules", "settings"]) {
        let (example, _) = example.split_once("```").unwrap();
        let setup = NodeSetup::new();
        fs::write(setup.dir().join("example.toml"), example).unwrap();
        let finished = setup.run(&["--config", "example.toml", "config"], "");
        assert_eq!(finished.code, Some(0), "{heading}: {finished:?}");
    }
}
