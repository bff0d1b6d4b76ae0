//! Real processes that find each other in a DHT of their own, on loopback alone.

use std::net::{Ipv4Addr, UdpSocket};

use mainline::Testnet;
use serde_json::json;

use crate::support::files::{sha256_of, write_noise};
use crate::support::{NodeSetup, TestNode};

const SIZE: u64 = 20 << 20;

fn testnet() -> Testnet {
    Testnet::builder(4).bind_address(Ipv4Addr::LOCALHOST).build().unwrap()
}

/// A node that knows nobody but one node of the DHT.
fn member(net: &Testnet) -> NodeSetup {
    NodeSetup::new().option("--dht").option(&format!("--dht-bootstrap={}", net.bootstrap[0]))
}

/// Waits until a node has come into the DHT.
#[track_caller]
fn wait_joined(node: &mut TestNode) {
    let joined = crate::support::holds_in_time(|| {
        let dht = &node.result_of("whoami")["dht"];
        dht["nodes"].as_u64().is_some_and(|nodes| nodes > 0)
    });
    assert!(joined, "{}", node.report());
}

#[test]
fn three_who_know_nothing_but_a_bootstrap_node_need_no_more_than_a_hash() {
    let net = testnet();
    let mut hash = String::new();
    let mut sharers = Vec::new();
    for _ in 0..2 {
        let mut node = member(&net).start();
        write_noise(&node.dir().join("big.iso"), SIZE, 1);
        let path = node.dir().join("big.iso");
        let shared = node.result_of(&format!("share {}", path.display()));
        shared["sha256"].as_str().unwrap().clone_into(&mut hash);
        // So slow that the second is found long before the first has sent everything.
        node.result_of("limit up 200kB/s");
        sharers.push(node);
    }
    let mut getter = member(&net).start();
    let answer = getter.result_of(&format!("get {hash}"));
    assert_eq!(answer["hash"], hash, "{answer}");
    for sharer in &mut sharers {
        let sends = crate::support::holds_in_time(|| {
            let transfers = sharer.result_of("transfers");
            transfers["transfers"][0]["bytes"].as_u64().is_some_and(|bytes| bytes > 0)
        });
        assert!(sends, "{}", sharer.report());
    }
    for sharer in &mut sharers {
        sharer.result_of("limit up off");
    }
    let received = getter.wait_for(&json!({ "event": "received", "name": "big.iso" }));
    let sources = received["sources"].as_array().unwrap();
    let delivered: Vec<_> = sources.iter().map(|source| source["bytes"].as_u64().unwrap()).collect();
    assert_eq!((sources.len(), delivered.iter().sum::<u64>()), (2, SIZE), "{received}");
    assert!(delivered.iter().all(|bytes| *bytes > 0), "{received}");
    assert_eq!(sha256_of(&getter.downloads().join("big.iso")), hash);
    assert_eq!(getter.result_of("whoami")["dht"]["announced"], 1, "it serves it on");
    // Who was found is neither pinned nor known.
    let known = std::fs::read_to_string(getter.home().join("known.toml")).unwrap_or_default();
    assert!(!known.contains("127.0.0.1"), "{known}");
    let kept = std::fs::read_to_string(getter.home().join("dht-nodes")).unwrap();
    assert!(
        kept.lines().skip(1).all(|line| line.starts_with("127.0.0.1:")) && kept.lines().count() > 1,
        "{kept}"
    );
}

#[test]
fn a_script_fetches_by_a_bare_hash() {
    let net = testnet();
    let sharer = NodeSetup::new();
    std::fs::write(sharer.dir().join("report.pdf"), b"a report").unwrap();
    let bootstrap = format!("--dht-bootstrap={}", net.bootstrap[0]);
    let command = sharer.command(&["share", "--bind", "127.0.0.1", "--dht", &bootstrap, "report.pdf"]);
    let sharer = TestNode::spawn(sharer, command);
    let link = sharer.wait_for_line(&["p2p:"]);
    let got = member(&net).run(&["get", "--bind", "127.0.0.1", &link[4..68]], "");
    assert_eq!(got.code, Some(0), "{got:?}");
    assert!(got.stdout.starts_with("received report.pdf"), "{got:?}");
}

#[test]
fn it_is_told_where_nobody_is_there_and_where_nobody_has_it() {
    let net = testnet();
    let hash = "0".repeat(64);
    let mut node = member(&net).start();
    wait_joined(&mut node);
    node.result_of(&format!("get {hash}"));
    node.wait_for_log(&["the DHT knows nobody who has it yet; still looking"]);

    // A port at which nobody answers, and nobody else can.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let bootstrap = format!("--dht-bootstrap={}", silent.local_addr().unwrap());
    let setup = NodeSetup::new().option("--dht").option(&bootstrap);
    std::fs::create_dir_all(setup.home()).unwrap();
    std::fs::write(setup.home().join("dht-nodes"), "rubbish").unwrap();
    let alone = setup.start();
    alone.wait_for_log(&["dht-nodes", "damaged"]);
    alone.wait_for_log(&["the DHT cannot be reached", "none of the 1 nodes"]);
}

#[test]
fn what_cannot_be_is_refused_at_the_start() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = format!("--dht-port={}", taken.local_addr().unwrap().port());
    for (arguments, code, said) in [
        (&["--plain", "--dht", "0"][..], 2, "--dht cannot be used with --plain"),
        (&["--bind", "::1", "--dht", "0"], 2, "IPv4"),
        (&["--dht-bootstrap", "none", "0"], 2, "--dht makes use of it"),
        (&["--bind", "127.0.0.1", "--dht", "--dht-bootstrap=none", &port, "0"], 3, "UDP port"),
    ] {
        let ended = NodeSetup::new().run(arguments, "");
        assert!(ended.stderr.contains(said), "{ended:?}");
        assert_eq!(ended.code, Some(code), "{ended:?}");
    }
}
