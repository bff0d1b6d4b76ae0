//! What is for somebody away arrives once and in order, also where processes are killed.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;

use crate::support::files::noise;
use crate::support::gate::Gate;
use crate::support::{NodeSetup, TestNode, holds_in_time};

/// Alice, who calls the other bob; he is connected to her.
fn alice_who_knows(bob: &mut TestNode) -> TestNode {
    let mut alice = TestNode::start();
    alice.connect(bob.addr());
    assert_eq!(alice.result_of(&format!("alias {} bob", bob.addr()))["event"], "result");
    alice
}

/// How often each text was shown, by all runs together.
fn count(shown: &[Vec<String>]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for text in shown.iter().flatten() {
        *counts.entry(text.as_str()).or_insert(0) += 1;
    }
    counts
}

/// The same node once more, where it was. Its directories are the other's.
fn again(node: &mut TestNode) -> TestNode {
    if node.is_running() {
        node.kill();
    }
    let setup = NodeSetup::new().home_at(node.home()).downloads_at(node.downloads());
    setup.at_the_address_of(node).start()
}

fn messages(node: &TestNode) -> Vec<String> {
    let values =
        node.output().into_iter().filter_map(|line| serde_json::from_str::<serde_json::Value>(&line).ok());
    let texts = values.filter(|value| value["event"] == "message");
    texts.map(|value| value["text"].as_str().unwrap().to_owned()).collect()
}

fn entries(home: &Path) -> usize {
    std::fs::read_dir(home.join("outbox")).map_or(0, Iterator::count)
}

#[test]
fn a_full_outbox_outlives_a_killed_sender() {
    let mut bob = TestNode::start();
    let mut alice = alice_who_knows(&mut bob);
    bob.kill();
    alice.wait_for(&json!({ "event": "peer_disconnected" }));
    let texts: Vec<_> = (0..40).map(|number| format!("text {number}")).collect();
    for text in &texts {
        assert_eq!(alice.result_of(&format!("send bob {text}"))["queued"], true);
    }
    std::fs::write(alice.dir().join("report.pdf"), noise(3 << 20, 1)).unwrap();
    assert_eq!(alice.result_of("sendfile bob report.pdf")["queued"], true);
    assert_eq!(alice.error_of("sendfile bob no such file")["code"], "source_unreadable");
    assert_eq!(entries(&alice.home()), 41);
    let mut second = again(&mut alice);
    let listed = second.result_of("outbox");
    assert_eq!(listed["outbox"].as_array().unwrap().len(), 41, "{listed}");
    assert_eq!((&listed["outbox"][0]["text"], &listed["outbox"][0]["to"]), (&json!("text 0"), &json!("bob")));
    let bob = again(&mut bob);
    bob.wait_received("report.pdf");
    bob.wait_for(&json!({ "event": "message", "text": "text 39" }));
    assert_eq!(messages(&bob), texts);
    second.wait_for(&json!({ "event": "sent", "name": "report.pdf", "confirmed": true }));
    assert!(holds_in_time(|| entries(&alice.home()) == 0), "what is delivered leaves the outbox");
    // A third run has nothing to say.
    let mut third = again(&mut second);
    assert_eq!(third.result_of("outbox")["outbox"], json!([]));
    assert_eq!(messages(&bob).len(), 40);
}

#[test]
fn what_a_killed_receiver_had_shown_is_not_shown_again() {
    let mut bob = TestNode::start();
    let mut alice = alice_who_knows(&mut bob);
    // Bob is connected by a way on which his acknowledgements are held up.
    alice.result_of("disconnect bob");
    let gate = Gate::before(alice.addr(), usize::MAX / 2);
    bob.connect(gate.addr());
    alice.wait_for_peer();
    gate.hold_after(0);
    let texts: Vec<_> = (0..30).map(|number| format!("text {number}")).collect();
    for text in &texts {
        assert_eq!(alice.result_of(&format!("send bob {text}"))["event"], "result");
    }
    bob.wait_for(&json!({ "event": "message", "text": "text 29" }));
    let shown = bob.home().join("shown");
    let is_noted = || std::fs::read_to_string(&shown).is_ok_and(|text| text.lines().count() == 30);
    assert!(holds_in_time(is_noted), "what is shown is noted");
    let before = messages(&bob);
    bob.kill();
    alice.wait_where("all of them are kept", |event| {
        event["event"] == "queued" && event["id"].as_u64() >= Some(30)
    });
    let mut second = again(&mut alice);
    let bob = again(&mut bob);
    second.wait_for(&json!({ "event": "peer_connected" }));
    assert!(holds_in_time(|| entries(&alice.home()) == 0), "they are acknowledged");
    assert_eq!(second.result_of("send bob and this")["event"], "result");
    bob.wait_for(&json!({ "event": "message", "text": "and this" }));
    let counts_of = [before, messages(&bob)];
    let counts = count(&counts_of);
    assert_eq!(counts.len(), 31);
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
}

#[test]
fn a_script_leaves_what_cannot_be_delivered_to_the_next_run() {
    let mut bob = TestNode::start();
    let mut alice = alice_who_knows(&mut bob);
    let home = alice.home();
    bob.kill();
    alice.kill();
    let run = |input: &str| NodeSetup::new().home_at(&home).run(&["0", "--bind", "127.0.0.1"], input);
    let left = run("send bob one\nsend bob two\n");
    assert_eq!(left.code, Some(0), "{left:?}");
    assert!(
        left.stdout.contains("bob is not connected: [1] kept in the outbox, sent when bob is back"),
        "{left:?}"
    );
    let refused = NodeSetup::new().home_at(&home).option("--no-outbox").run(&["0"], "send bob three\n");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let bob = again(&mut bob);
    // Whoever is there is found without `connect`, and waited for.
    let done = run("send bob three\nwait\n");
    assert_eq!(done.code, Some(0), "{done:?}");
    bob.wait_for(&json!({ "event": "message", "text": "three" }));
    assert_eq!((messages(&bob), entries(&home)), (["one", "two", "three"].map(str::to_owned).to_vec(), 0));
}

#[test]
fn of_two_processes_of_a_user_one_delivers() {
    let mut bob = TestNode::start();
    let mut alice = alice_who_knows(&mut bob);
    bob.kill();
    alice.wait_for(&json!({ "event": "peer_disconnected" }));
    let mut other = NodeSetup::new().home_at(alice.home()).start();
    for text in ["one", "two"] {
        alice.result_of(&format!("send bob {text}"));
    }
    let listed = other.result_of("outbox");
    assert_eq!((&listed["outbox"], &listed["elsewhere"]), (&json!([]), &json!(2)));
    other.result_of("send bob three");
    let bob = again(&mut bob);
    for text in ["one", "two", "three"] {
        bob.wait_for(&json!({ "event": "message", "text": text }));
    }
    assert!(holds_in_time(|| entries(&alice.home()) == 0), "all are delivered");
    assert_eq!(messages(&bob).len(), 3);
}
