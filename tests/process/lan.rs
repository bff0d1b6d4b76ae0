//! Real processes that find each other on a local network: that of two network namespaces, which nothing else is
//! connected to. Nothing of it ever reaches the network of the machine that runs the tests.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::support::files::{sha256_of, write_noise};
use crate::support::netns::{Cable, End};
use crate::support::{NodeSetup, TestNode, holds_in_time};

const PORT: u16 = 8000;

/// A node that can be found on the network of the cable.
fn neighbour(cable: &Cable, end: End) -> NodeSetup {
    NodeSetup::new().on(cable, end).port(PORT).option("--lan")
}

/// Waits until a node sees a record of that identity, and answers what it says.
#[track_caller]
fn wait_near(node: &mut TestNode, id: &str) -> Value {
    let mut found = Value::Null;
    let is_near = holds_in_time(|| {
        let nearby = node.result_of("peers --nearby");
        let records = nearby["nearby"].as_array().unwrap();
        found = records.iter().find(|near| near["node_id"] == id).cloned().unwrap_or_default();
        !found.is_null()
    });
    assert!(is_near, "{}", node.report());
    found
}

/// The message of multicast DNS (RFC 1035, RFC 6762) that says where an identity is.
fn record(id: &str, ip: Ipv4Addr, port: u16) -> Vec<u8> {
    const PTR: u16 = 12;
    const TXT: u16 = 16;
    const SRV: u16 = 33;
    const A: u16 = 1;
    let name = |labels: &[&str]| {
        let mut bytes: Vec<u8> = Vec::new();
        for label in labels {
            bytes.push(u8::try_from(label.len()).unwrap());
            bytes.extend_from_slice(label.as_bytes());
        }
        bytes.push(0);
        bytes
    };
    let service = name(&["_p2p-file", "_tcp", "local"]);
    let instance = name(&["lie", "_p2p-file", "_tcp", "local"]);
    let host = name(&["liar", "local"]);
    let txt = name(&[&format!("id={id}")]);
    let srv = [&[0; 4][..], &port.to_be_bytes(), &host].concat();
    let answers: [(&[u8], u16, &[u8]); 4] = [
        (&service, PTR, &instance),
        (&instance, SRV, &srv),
        (&instance, TXT, &txt[..txt.len() - 1]),
        (&host, A, &ip.octets()),
    ];
    // An authoritative answer to no question.
    let mut message = vec![0, 0, 0x84, 0, 0, 0, 0, 4, 0, 0, 0, 0];
    for (owner, kind, data) in answers {
        message.extend_from_slice(owner);
        message.extend_from_slice(&kind.to_be_bytes());
        message.extend_from_slice(&[0, 1, 0, 0, 0, 120]);
        message.extend_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
        message.extend_from_slice(data);
    }
    message
}

/// Says something to everybody on the network of one end.
fn say_to_all(cable: &Cable, from: End, message: Vec<u8>) {
    let ip = cable.address(from, 1).parse().unwrap();
    let saying = cable.run_at(from, move || {
        // As every program that speaks it does.
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.set_multicast_if_v4(&ip).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 5353)).into()).unwrap();
        socket.send_to(&message, &SocketAddr::from(([224, 0, 0, 251], 5353)).into()).unwrap();
    });
    saying.join().unwrap();
}

#[test]
fn who_is_on_the_same_network_is_seen_connected_to_by_alias_and_sent_a_file() {
    let Some(cable) = Cable::lay("finding each other on a local network") else { return };
    let mut bob = neighbour(&cable, End::Right).start();
    let mut anna = neighbour(&cable, End::Left).start();
    let id = bob.node_id();
    let near = wait_near(&mut anna, &id);
    assert_eq!(near["addrs"][0], format!("{}:{PORT}", cable.address(End::Right, 1)), "{near}");
    anna.result_of(&format!("alias {id} bob"));
    assert_eq!(anna.result_of("connect bob")["node_id"], id);
    assert_eq!(wait_near(&mut anna, &id)["peer"], format!("{}:{PORT}", cable.address(End::Right, 1)));
    let path = anna.dir().join("report.pdf");
    write_noise(&path, 3_000_000, 1);
    anna.sendfile("bob", &path);
    assert_eq!(sha256_of(&bob.wait_received("report.pdf")), sha256_of(&path));
    // Whoever leaves says goodbye.
    let anna_id = anna.node_id();
    wait_near(&mut bob, &anna_id);
    anna.type_line("quit");
    anna.exit_code();
    let is_gone = holds_in_time(|| bob.result_of("peers --nearby")["nearby"] == json!([]));
    assert!(is_gone, "{}", bob.report());
}

#[test]
fn a_file_is_sent_by_alias_from_a_shell_to_who_is_near() {
    let Some(cable) = Cable::lay("`p2p send --lan <alias>`") else { return };
    let mut bob = neighbour(&cable, End::Right).start();
    let id = bob.node_id();
    let mut at_the_prompt = neighbour(&cable, End::Left).start();
    at_the_prompt.result_of(&format!("alias {id} bob"));
    // Both have found out by then that there is a network.
    wait_near(&mut at_the_prompt, &id);
    let anna = NodeSetup::new().on(&cable, End::Left).home_at(at_the_prompt.home());
    write_noise(&anna.dir().join("x"), 100_000, 1);
    let sent = anna.run(&["send", "--lan", "bob", "x"], "");
    assert_eq!(sent.code, Some(0), "{sent:?}");
    bob.wait_received("x");
}

#[test]
fn a_record_that_claims_anothers_identity_lets_nobody_in_and_hides_nobody() {
    let Some(cable) = Cable::lay("a record that lies on a local network") else { return };
    let mut bob = NodeSetup::new().on(&cable, End::Right).port(PORT).start();
    let id = bob.node_id();
    let mut liar = NodeSetup::new().on(&cable, End::Right).port(PORT + 1).start();
    let mut anna = neighbour(&cable, End::Left).start();
    let lie = record(&id, cable.address(End::Right, 1).parse().unwrap(), PORT + 1);
    let is_believed_to_be_there = holds_in_time(|| {
        say_to_all(&cable, End::Right, lie.clone());
        anna.result_of("peers --nearby")["nearby"][0]["node_id"] == id.as_str()
    });
    assert!(is_believed_to_be_there, "{}", anna.report());
    let refused = anna.error_of(&format!("connect {id}"));
    assert_eq!(refused["code"], "wrong_identity", "{refused}");
    assert_eq!(anna.count(&json!({ "event": "peer_connected" })), 0);
    assert!(liar.is_running());
    // The honest one comes, and the lie stays.
    drop(bob);
    let mut bob = neighbour(&cable, End::Right).start();
    let id = bob.node_id();
    let lie = record(&id, cable.address(End::Right, 1).parse().unwrap(), PORT + 1);
    wait_near(&mut anna, &id);
    say_to_all(&cable, End::Right, lie);
    assert_eq!(anna.result_of(&format!("connect {id}"))["node_id"], id);
}

#[test]
fn whoami_tells_the_address_of_a_network_without_internet_and_the_next_one() {
    let Some(cable) = Cable::lay("telling where this computer is") else { return };
    let mut anna = NodeSetup::new().on(&cable, End::Left).port(PORT).start();
    for number in [1, 2] {
        cable.set_address(End::Left, number).unwrap();
        let addr = format!("{}:{PORT}", cable.address(End::Left, number));
        let is_told = holds_in_time(|| {
            let addresses = anna.result_of("whoami")["addresses"].clone();
            addresses.as_array().unwrap().iter().map(|row| &row["addr"]).eq([addr.as_str()])
        });
        assert!(is_told, "{}", anna.report());
    }
}

#[test]
fn a_peer_that_comes_back_at_another_address_is_found_and_gets_the_rest() {
    let Some(cable) = Cable::lay("finding a peer that has moved") else { return };
    let mut bob = neighbour(&cable, End::Right).start();
    let mut anna = neighbour(&cable, End::Left).start();
    let path = anna.dir().join("big.iso");
    write_noise(&path, 20 << 20, 1);
    anna.result_of("limit up 2MB/s");
    anna.connect(&format!("{}:{PORT}", cable.address(End::Right, 1)));
    anna.sendfile(&format!("{}:{PORT}", cable.address(End::Right, 1)), &path);
    let has_begun = holds_in_time(|| {
        anna.result_of("transfers")["transfers"][0]["bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20)
    });
    assert!(has_begun, "{}", anna.report());
    bob.kill();
    cable.set_address(End::Right, 2).unwrap();
    anna.result_of("limit up off");
    bob.restart();
    assert_eq!(sha256_of(&bob.wait_received("big.iso")), sha256_of(&path));
    let sent = anna.wait_sent("big.iso");
    assert!(sent["peer"].as_str().unwrap().starts_with(&cable.address(End::Right, 2)), "{sent}");
}
