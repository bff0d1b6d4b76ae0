use std::net::IpAddr;

use super::*;
use crate::node::Bootstrap;

fn parse(arguments: &[&str]) -> Result<Config, clap::Error> {
    let words = ["p2p", "--config=none"].iter().chain(arguments).map(OsString::from);
    Config::read(&words.collect::<Vec<_>>())
}

/// What becomes of a file that says this.
fn parse_with(text: &str, arguments: &[&str]) -> Result<Config, clap::Error> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    std::fs::write(&path, text).unwrap();
    let file = format!("--config={}", path.display());
    let words = ["p2p", &file].into_iter().chain(arguments.iter().copied()).map(OsString::from);
    Config::read(&words.collect::<Vec<_>>())
}

const HASH: &str = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
const HASH_FOR_KNOWN: &str = "p2p:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03/known=1";

#[test]
fn a_dht_is_entered_only_by_those_who_are_named_if_any_are() {
    let nodes = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
    for (arguments, port, bootstrap) in [
        (&["--dht"][..], None, Bootstrap::Public),
        (&["--dht", "--dht-port", "7000", "share", "x"], Some(7000), Bootstrap::Public),
        (&["get", "--dht", HASH, "--dht-bootstrap", "a:1,b:2"], None, Bootstrap::Own(nodes(&["a:1", "b:2"]))),
        (
            &["--dht", "--dht-bootstrap", "a:1", "--dht-bootstrap=b:2"],
            None,
            Bootstrap::Own(nodes(&["a:1", "b:2"])),
        ),
        (&["--dht", "--dht-bootstrap=none"], None, Bootstrap::First),
    ] {
        assert_eq!(parse(arguments).unwrap().node.dht, Some(DhtConfig { port, bootstrap }), "{arguments:?}");
    }
    for arguments in [&[][..], &["receive", "--dht"], &["send", "--dht", "a:1", "x"]] {
        assert_eq!(parse(arguments).unwrap().node.dht, None, "{arguments:?}");
    }
}

#[test]
fn a_bare_start_listens_on_port_8000() {
    let config = parse(&[]).unwrap();
    assert_eq!((config.node.port, config.node.bind), (8000, None));
    assert_eq!(config.node.downloads, PathBuf::from("./downloads"));
    assert_eq!(config.node.accept.policy(), AcceptPolicy::Ask);
    assert!(!config.node.plain && !config.json && !config.stay);
}

#[test]
fn options_may_stand_before_and_after_the_port() {
    let config = parse(&["--bind", "[::1]", "0", "--accept", "all", "--json", "--stay"]).unwrap();
    assert_eq!(config.node.bind, Some(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])));
    assert_eq!((config.node.port, config.node.accept.policy()), (0, AcceptPolicy::All));
    assert!(config.json && config.stay);
}

#[test]
fn wrong_arguments_are_told_apart() {
    for (arguments, said) in [
        (&["65536"][..], "65536"),
        (&["--bind", "localhost"], "127.0.0.1"),
        (&["--accept", "some"], "known"),
        (&["8000", "8001"], "8001"),
        (&["--plain", "--require-id"], "nobody has an identity"),
        (&["--plain", "--dht"], "--dht cannot be used with --plain"),
        (&["--plain", "--lan"], "--lan cannot be used with --plain"),
        (&["--bind", "::1", "--lan"], "only this computer can reach"),
        (&["--bind", "127.0.0.1", "--map-port"], "only this computer can reach"),
        (&["--bind", "2001:db8::1", "--map-port"], "it is for IPv4"),
        (&["--bind", "::1", "--dht"], "IPv4 only"),
        (&["--dht-port", "7000"], "--dht makes use of it"),
        (&["--dht", "--dht-bootstrap", "none,a:1"], "not both"),
        (&["--dht", "--dht-bootstrap", "a"], "the port is missing"),
        (&["get", HASH], "look for it with --dht"),
        (&["get", "--dht", HASH_FOR_KNOWN], "does not say where to ask"),
        (&["7111", "receive"], "a port comes after `receive`"),
        (&["--stay", "receive"], "--stay is for none"),
        (&["--quiet"], "--quiet is for the commands without a prompt"),
        (&["eight"], "`eight` is no port"),
        (&["--bind", "send"], "127.0.0.1"),
    ] {
        let error = parse(arguments).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn a_mistyped_command_is_told_from_a_wrong_port() {
    for (arguments, meant) in [
        (&["recieve"][..], "receive"),
        (&["--json", "recieve", "--once"], "receive"),
        (&["sned", "localhost:8000", "report.pdf"], "send"),
        (&["completion", "bash"], "completions"),
    ] {
        let error = parse(arguments).unwrap_err().to_string();
        assert!(error.contains(&format!("did you mean `{meant}`?")), "{error}");
    }
    for arguments in [&["port"][..], &["70000"], &["--home", "sned", "70000"]] {
        let error = parse(arguments).unwrap_err().to_string();
        assert!(!error.contains("did you mean"), "{error}");
    }
}

#[test]
fn quiet_may_stand_before_and_after_the_command() {
    for arguments in [["--quiet", "receive"], ["receive", "-q"]] {
        assert!(parse(&arguments).unwrap().quiet);
    }
    assert!(!parse(&["receive"]).unwrap().quiet);
}

#[test]
fn what_has_no_effect_is_not_in_the_help_of_a_command_and_yet_taken() {
    let help = |command: &str| parse(&[command, "--help"]).unwrap_err().to_string();
    for (command, there, not_there) in [
        (
            "send",
            &["--require-id", "--reconnect", "--quiet"][..],
            &["--bind", "--accept <", "--map-port"][..],
        ),
        ("receive", &["--bind", "--accept", "P2P_PORT"], &["--require-id"]),
        ("completions", &["bash"], &["--home", "--plain"]),
    ] {
        let help = help(command);
        assert!(there.iter().all(|option| help.contains(option)), "{help}");
        assert!(!not_there.iter().any(|option| help.contains(option)), "{help}");
    }
    let config = parse(&["send", "a:1", "x", "--downloads", "d"]).unwrap();
    assert_eq!(config.node.downloads, PathBuf::from("d"));
}

#[test]
fn usage_is_that_of_the_command_that_was_given() {
    let error = parse(&["send", "a:1", "-", "-"]).unwrap_err().to_string();
    assert!(error.contains("Usage: p2p send "), "{error}");
    let help = parse(&["--help"]).unwrap_err().to_string();
    assert!(help.contains("p2p [OPTIONS] <COMMAND>") && !help.contains("[PORT] <COMMAND>"), "{help}");
}

#[test]
fn help_lists_the_exit_codes_and_every_variable() {
    let help = parse(&["--help"]).unwrap_err().to_string();
    for said in ["  130  ended by Ctrl-C", "P2P_DOWNLOADS", "P2P_STAY", "P2P_PORT", "Examples:"] {
        assert!(help.contains(said), "{said} is missing in:\n{help}");
    }
}

#[test]
fn every_option_can_stand_in_the_file() {
    let text = r#"
        port = 9
        bind = "192.0.2.1"
        downloads = "in"
        home = "state"
        accept = "known"
        keep_free = "1GB"
        require_id = true
        reconnect = 1
        keep_partials = 2
        limit_up = "1MB/s"
        limit_down = 2000
        relay = "known"
        relay_limit = "3kB/s"
        no_seed = true
        no_history = true
        no_outbox = true
        dht = true
        dht_port = 7
        dht_bootstrap = ["a:1", "b:2"]
        lan = true
        map_port = true
        plain = false
        json = true
        stay = true
        quiet = true
    "#;
    let set: Vec<_> = text.lines().filter_map(|line| line.trim().split(' ').next()).collect();
    for option in command::options() {
        assert!(set.contains(&option.get_id().as_str()), "{} is not tried", option.get_id());
    }
    let Config { node, home, json, stay, quiet, .. } = parse_with(text, &[]).unwrap();
    assert!(
        json && stay && quiet && node.lan && node.maps_port && node.require_id && !node.plain && !node.seeds
    );
    assert!(!node.keeps_history && !node.outbox);
    assert_eq!((node.port, node.bind), (9, Some(IpAddr::from([192, 0, 2, 1]))));
    assert_eq!((node.downloads, home), (PathBuf::from("in"), PathBuf::from("state")));
    assert_eq!(node.accept, AcceptPolicy::Known.into());
    assert_eq!((node.limits.keep_free, node.limits.reconnect.as_secs()), (1_000_000_000, 1));
    assert_eq!(node.keep_partials.as_secs(), 2 * 24 * 3600);
    let rates = [node.limits.up, node.limits.down, node.limits.relay];
    assert_eq!(rates.map(|rate| rate.unwrap().bytes_per_sec()), [1_000_000, 2_000, 3_000]);
    let nodes = ["a:1", "b:2"].map(|node| node.parse().unwrap());
    assert_eq!(node.dht, Some(DhtConfig { port: Some(7), bootstrap: Bootstrap::Own(nodes.into()) }));
}

#[test]
fn the_command_line_wins_over_the_file_also_where_that_switches_on() {
    let text = "reconnect = 1\nlan = true\ndht_bootstrap = [\"a:1\", \"b:2\"]\ndht = true\n";
    let node = parse_with(text, &["--reconnect", "2", "--lan=false", "--dht-bootstrap", "c:3"]).unwrap().node;
    assert_eq!((node.limits.reconnect.as_secs(), node.lan), (2, false));
    let own = Bootstrap::Own(vec!["c:3".parse().unwrap()]);
    assert_eq!(node.dht, Some(DhtConfig { port: None, bootstrap: own }));
    assert!(parse_with(text, &["--lan", "7"]).unwrap().node.port == 7, "a switch takes no word after it");
}

#[test]
fn a_port_of_the_file_is_that_of_nodes_and_receivers() {
    for (arguments, port) in [
        (&[][..], 9),
        (&["receive"], 9),
        (&["receive", "7"], 7),
        (&["7"], 7),
        (&["share", "x"], 0),
        (&["send", "a:1", "x"], 0),
    ] {
        assert_eq!(parse_with("port = 9", arguments).unwrap().node.port, port, "{arguments:?}");
    }
}

#[test]
fn rules_stand_in_the_file_in_their_order_and_are_for_those_who_take_offers() {
    let text = r#"
        accept = "all"
        [[accept_rule]]
        action = "reject"
        from = "anyone"
        name = "*.exe"
        [[accept_rule]]
        from = "anna"
        max_size = "2 GB"
        action = "accept"
    "#;
    let accept = |arguments: &[&str]| parse_with(text, arguments).unwrap().node.accept;
    for arguments in [&[][..], &["receive"]] {
        let rules = accept(arguments);
        let shown: Vec<_> = rules.own().iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["reject from anyone, name *.exe", "accept from anna, up to 2.0 GB"]);
        assert_eq!(rules.policy(), AcceptPolicy::All);
    }
    assert_eq!(accept(&["send", "a:1", "x"]), AcceptPolicy::None.into());
}

#[test]
fn what_a_file_says_wrong_is_told_with_its_line_and_what_may_be_there() {
    for (text, line, said) in [
        ("limitup = \"5MB/s\"", 1, "no option `limitup`; did you mean `limit_up`?"),
        ("\n\nkeep-free = \"1GB\"", 3, "no option `keep-free`; did you mean `keep_free`?"),
        ("frobnicate = 1", 1, "no option `frobnicate`; `p2p config` lists them"),
        ("config = \"x\"", 1, "cannot name another one"),
        ("lan = \"yes\"", 1, "`lan` takes true or false, without quotes, not a string"),
        ("lan = 1", 1, "not an integer"),
        ("reconnect = \"1\"", 1, "`reconnect` takes a whole number (SECONDS), not a string"),
        ("reconnect = -1", 1, "`reconnect` cannot be \"-1\": -1 is not in 0..="),
        ("port = 70000", 1, "number from 0 to 65535"),
        ("downloads = 5", 1, "`downloads` takes text in quotes (DIR), not an integer"),
        ("accept = \"maybe\"", 1, "it is one of ask, known, all, none"),
        ("relay = \"all\"", 1, "it is one of known, none"),
        ("bind = \"localhost\"", 1, "127.0.0.1"),
        ("limit_up = \"fast\"", 1, "5MB/s"),
        ("keep_free = \"much\"", 1, "1GB"),
        ("dht_bootstrap = [\"a:1\", \"b\"]", 1, "the port is missing"),
        ("dht_bootstrap = [1]", 1, "a list of texts"),
        ("lan = true\nlan = false", 2, "duplicate key"),
        ("a = [", 1, ""),
        ("[accept_rule]\nfrom = \"anyone\"", 1, "`[[accept_rule]]`, in double brackets"),
        ("lan = true\n[[accept_rule]]\nform = \"anna\"", 3, "a rule has no `form`; did you mean `from`?"),
        ("[[accept_rule]]\nfrom = \"anna\"\naction = \"take\"", 3, "one of accept, ask, reject"),
        ("[[accept_rule]]\nfrom = \"anna\"", 1, "needs an `action`"),
        ("[[accept_rule]]\naction = \"ask\"", 1, "needs a `from`"),
        ("[[accept_rule]]\naction = \"ask\"\nfrom = \"not me\"", 3, "64 digits"),
        ("[[accept_rule]]\naction = \"ask\"\nfrom = \"a\"\nname = \"[ab]\"", 4, "`[` is not understood"),
        ("[[accept_rule]]\naction = \"ask\"\nfrom = \"a\"\nmax_size = true", 4, "a size like"),
    ] {
        let error = parse_with(text, &[]).unwrap_err().to_string();
        let place = format!("config.toml, line {line}: ");
        assert!(error.contains(&place) && error.contains(said), "{text}: {error}");
        assert!(!error.contains("Usage"), "the usage would hide it: {error}");
    }
}

#[test]
fn what_contradicts_the_file_says_that_it_is_in_the_file_and_how_to_do_without() {
    let error = parse_with("\nlan = true", &["--plain"]).unwrap_err().to_string();
    let said = "--lan cannot be used with --plain: there nobody has an identity to be found by; --lan is set by line 2 of ";
    assert!(error.contains(said) && error.contains("`--lan=false` switches it off"), "{error}");
    assert!(parse_with("lan = true", &["--plain", "--lan=false"]).is_ok());
}

#[test]
fn whoever_looks_for_the_file_or_for_help_is_not_held_up_by_it() {
    for arguments in [&["config", "--path"][..], &["man"], &["completions", "bash"]] {
        assert!(parse_with("what", arguments).is_ok(), "{arguments:?}");
    }
    assert!(parse_with("what", &["config"]).is_err());
    let help = parse_with("what", &["--help"]).unwrap_err();
    assert!(!help.use_stderr());
}

#[test]
fn a_stream_of_bytes_is_not_mixed_with_events_because_of_the_file() {
    let config = parse_with("json = true", &["get", "--stdout", "--from", "a:1", HASH]).unwrap();
    assert!(!config.json);
}
