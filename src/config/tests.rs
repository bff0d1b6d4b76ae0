use std::net::IpAddr;

use super::*;
use crate::node::Bootstrap;

fn parse(arguments: &[&str]) -> Result<Config, clap::Error> {
    let words = std::iter::once(&"p2p").chain(arguments).map(OsString::from);
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
