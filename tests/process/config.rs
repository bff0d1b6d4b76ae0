//! The file of settings and `p2p config`: who wins, what is said of what is wrong, and that rules count.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::node::Finished;
use crate::support::{NodeSetup, TestNode};

/// A setup whose settings are these.
fn with_settings(text: &str) -> NodeSetup {
    let setup = NodeSetup::new();
    fs::write(setup.dir().join("config.toml"), text).unwrap();
    setup.option("--config").option("config.toml")
}

fn run(setup: NodeSetup, command: Command) -> Finished {
    let mut node = TestNode::spawn(setup, command);
    node.close_stdin();
    let code = node.exit_code();
    Finished { code, stdout: node.output().join("\n"), stderr: node.log().join("\n") }
}

fn settings(finished: &Finished) -> Value {
    assert_eq!(finished.code, Some(0), "{finished:?}");
    serde_json::from_str(&finished.stdout).unwrap()
}

fn option<'a>(settings: &'a Value, name: &str) -> &'a Value {
    let rows = settings["options"].as_array().unwrap();
    rows.iter().find(|row| row["option"] == name).unwrap_or_else(|| panic!("no {name} in {settings}"))
}

#[test]
fn a_flag_wins_over_a_variable_that_over_the_file_and_that_over_the_default() {
    let text = "reconnect = 1\nkeep_partials = 1\n\nlimit_up = \"1MB/s\"\nlan = true\nmap_port = true\n";
    let setup = with_settings(text);
    let mut command = setup.command(&["config", "--json", "--reconnect", "3", "--lan=false"]);
    command.env("P2P_RECONNECT", "2").env("P2P_KEEP_PARTIALS", "2").env("P2P_MAP_PORT", "0");
    let settings = settings(&run(setup, command));
    for row in [
        json!({ "option": "reconnect", "value": 3, "set_by": "flag" }),
        json!({ "option": "lan", "value": false, "set_by": "flag" }),
        json!({ "option": "keep_partials", "value": 2, "set_by": "variable", "variable": "P2P_KEEP_PARTIALS" }),
        json!({ "option": "map_port", "value": false, "set_by": "variable", "variable": "P2P_MAP_PORT" }),
        json!({ "option": "limit_up", "value": "1MB/s", "set_by": "file", "line": 4 }),
        json!({ "option": "port", "value": 8000, "set_by": "default" }),
        json!({ "option": "limit_down", "value": null, "set_by": "default" }),
    ] {
        assert_eq!(option(&settings, row["option"].as_str().unwrap()), &row);
    }
    assert_eq!((&settings["file"], &settings["exists"]), (&json!("config.toml"), &json!(true)));
}

#[test]
fn a_node_does_what_its_file_says() {
    let setup = with_settings("json = true\nport = 0\nbind = \"127.0.0.1\"\n");
    let command = setup.command(&[]);
    let mut node = TestNode::spawn(setup, command);
    let listening = node.wait_for(&json!({ "event": "listening" }));
    assert!(listening["addr"].as_str().unwrap().starts_with("127.0.0.1:"), "{listening}");
    node.close_stdin();
    assert_eq!(node.exit_code(), Some(0), "{}", node.report());
}

#[test]
fn rules_of_the_file_decide_before_accept_does() {
    let rules = "[[accept_rule]]\nfrom = \"anyone\"\nname = \"*.exe\"\naction = \"reject\"\n";
    let receiver = with_settings(rules).start();
    for (name, code) in [("setup.exe", Some(7)), ("setup.txt", Some(0))] {
        let setup = NodeSetup::new();
        fs::write(setup.dir().join(name), "content").unwrap();
        let finished = setup.run(&["send", receiver.addr(), name], "");
        assert_eq!(finished.code, code, "{name}: {finished:?}");
    }
    receiver.wait_for_log(&["setup.exe", "accept rule 1"]);
    receiver.wait_received("setup.txt");
}

#[test]
fn space_that_is_to_stay_free_is_not_filled_without_asking() {
    let setup = NodeSetup::new();
    let receiver = with_settings("keep_free = \"1000000TB\"\n").option("--stay").start();
    fs::write(setup.dir().join("file"), "content").unwrap();
    let mut sender = setup.start();
    sender.connect(receiver.addr());
    sender.sendfile(receiver.addr(), "file".as_ref());
    let offer = receiver.wait_for(&json!({ "event": "offer", "name": "file", "accepted": false }));
    assert!(offer["leaves"].is_u64(), "{offer}");
}

#[test]
fn the_usual_file_is_read_where_nobody_names_another_and_is_not_missed() {
    let setup = NodeSetup::new();
    let usual = setup.dir().join("xdg/p2p/config.toml");
    let at_home = |setup: &NodeSetup, arguments: &[&str]| {
        let mut command = setup.command(arguments);
        command.env_remove("P2P_CONFIG").env("XDG_CONFIG_HOME", setup.dir().join("xdg"));
        command
    };
    let path = usual.to_str().unwrap().to_owned();
    let command = at_home(&setup, &["config", "--path"]);
    assert_eq!(run(setup, command).stdout, path, "also where there is none");

    let setup = NodeSetup::new();
    let command = at_home(&setup, &["config", "--json"]);
    assert_eq!(settings(&run(setup, command))["exists"], false);

    let setup = NodeSetup::new();
    let usual = setup.dir().join("xdg/p2p/config.toml");
    fs::create_dir_all(usual.parent().unwrap()).unwrap();
    fs::write(&usual, "reconnect = 7\n").unwrap();
    let command = at_home(&setup, &["config", "--json"]);
    let shown = settings(&run(setup, command));
    assert_eq!(option(&shown, "reconnect")["value"], 7);

    let setup = NodeSetup::new();
    fs::create_dir_all(setup.dir().join("xdg/p2p")).unwrap();
    fs::write(setup.dir().join("xdg/p2p/config.toml"), "no settings").unwrap();
    let command = at_home(&setup, &["--config", "none", "config", "--json"]);
    assert_eq!(settings(&run(setup, command))["file"], Value::Null);
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_line_and_the_program_does_not_start() {
    for (text, said) in [
        (
            "\nlimit_upp = \"1MB/s\"",
            "config.toml, line 2: there is no option `limit_upp`; did you mean `limit_up`?",
        ),
        ("limit-up = \"1MB/s\"", "line 1: there is no option `limit-up`; did you mean `limit_up`?"),
        ("reconnect = \"soon\"", "`reconnect` takes a whole number (SECONDS), not a string"),
        ("[[accept_rule]]\nfrom = \"anyone\"", "line 1: a rule needs an `action`"),
    ] {
        let finished = with_settings(text).run(&["0"], "");
        assert_eq!(finished.code, Some(2), "{finished:?}");
        assert!(finished.stderr.contains(said) && finished.stdout.is_empty(), "{said}: {finished:?}");
    }
    let finished = NodeSetup::new().run(&["--config", "missing.toml", "0"], "");
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert!(finished.stderr.contains("no file of settings `missing.toml`"), "{finished:?}");
}

#[test]
fn a_file_that_others_may_change_is_refused() {
    for (mode, code) in [(0o600, 0), (0o644, 0), (0o664, 2), (0o646, 2)] {
        let setup = with_settings("reconnect = 1\n");
        fs::set_permissions(setup.dir().join("config.toml"), fs::Permissions::from_mode(mode)).unwrap();
        let finished = setup.run(&["config"], "");
        assert_eq!(finished.code, Some(code), "{mode:o}: {finished:?}");
        assert_eq!(finished.stderr.contains("chmod go-w 'config.toml'"), code == 2, "{finished:?}");
    }
}

#[test]
fn a_variable_that_is_wrong_is_named() {
    let setup = NodeSetup::new();
    let mut command = setup.command(&["config"]);
    command.env("P2P_RECONNECT", "soon");
    let finished = run(setup, command);
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert!(finished.stderr.contains("the variable P2P_RECONNECT cannot be \"soon\""), "{finished:?}");
}

#[test]
fn the_manual_page_is_printed_and_reads_no_file() {
    let finished = with_settings("no settings").run(&["man"], "");
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.stdout.contains(".TH p2p 1") && finished.stdout.contains(".SH \"EXIT STATUS\""));
}
