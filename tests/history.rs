//! What is kept for a person to look up, in virtual time.
#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, reason = "other tests need more of it")]
mod world;

use std::time::Duration;

use peer_to_peer::engine::{
    AcceptPolicy, Code, Command, Direction, Event, HistoryEntry, HistoryKind, Outcome, Past, PastTransfer,
    Remembered, Reply, Selection, TransferId,
};
use peer_to_peer::wire::NodeId as Identity;
use world::disk_model::file_hash;
use world::people::pair;
use world::{NodeId, SECOND, World, addr_of};

impl World {
    fn say_to(&mut self, node: NodeId, peer: &str, text: &str) {
        let command = Command::SendText(peer.parse().unwrap(), text.to_owned());
        assert!(matches!(self.run_command(node, command), Ok(Reply::TextQueued { .. })));
    }

    /// What a node had kept of texts: which way, with whom, and what.
    fn said(&self, node: NodeId) -> Vec<(Direction, Option<Identity>, String)> {
        let text = |of: &Remembered| match &of.what {
            Past::Message { direction, text } => Some((*direction, of.node_id, text.clone())),
            _ => None,
        };
        self.nodes[node.0].history.iter().filter_map(text).collect()
    }

    /// What it had kept of transfers, and with whom.
    fn transferred(&self, node: NodeId) -> Vec<(Option<Identity>, PastTransfer)> {
        let transfer = |of: &Remembered| match &of.what {
            Past::Transfer(transfer) => Some((of.node_id, PastTransfer::clone(transfer))),
            _ => None,
        };
        self.nodes[node.0].history.iter().filter_map(transfer).collect()
    }

    fn history(&mut self, node: NodeId, peer: Option<&str>, only: Option<HistoryKind>) -> Vec<HistoryEntry> {
        let command = Command::History { peer: peer.map(|peer| peer.parse().unwrap()), only, most: 99 };
        match self.run_command(node, command) {
            Ok(Reply::History(entries)) => entries,
            other => panic!("{other:?}"),
        }
    }
}

fn identity(of: u8) -> Option<Identity> {
    Some(Identity([of; 32]))
}

#[test]
fn both_sides_keep_what_was_said_once_and_with_whom() {
    let (mut world, a, b, b_name) = pair(1);
    world.say_to(a, &b_name, "hello");
    world.run_to_end();
    world.run_command(b, Command::Broadcast("to all".into())).unwrap();
    world.run_to_end();
    assert_eq!(
        world.said(a),
        [(Direction::Out, identity(2), "hello".into()), (Direction::In, identity(2), "to all".into())]
    );
    assert_eq!(
        world.said(b),
        [(Direction::In, identity(1), "hello".into()), (Direction::Out, identity(1), "to all".into())]
    );
    let kept = &world.nodes[a.0].history[0];
    assert_eq!((kept.peer, kept.alias.as_deref()), (Some(addr_of(b)), None));
}

#[test]
fn both_sides_keep_what_became_of_a_file_and_where_it_lies() {
    let (mut world, a, b, b_name) = pair(2);
    let bytes = world.put(a, "/home/a/file.bin", 300_000);
    world.send_file(a, &b_name, "/home/a/file.bin");
    world.run_to_end();
    world.send_file(a, &b_name, "/home/a/nothing.bin");
    world.run_to_end();

    let of_a = world.transferred(a);
    assert_eq!(of_a.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [identity(2); 2]);
    let [(_, sent), (_, failed)] = of_a.as_slice() else { panic!("{of_a:?}") };
    assert_eq!((sent.direction, sent.outcome, sent.unconfirmed), (Direction::Out, Outcome::Sent, false));
    assert_eq!((sent.name.as_str(), sent.path.as_deref()), ("file.bin", Some("/home/a/file.bin")));
    assert_eq!((sent.size, sent.sha256), (Some(300_000), Some(file_hash(&bytes))));
    assert_eq!((failed.outcome, failed.code), (Outcome::Failed, Some(Code::SourceUnreadable)));
    assert_eq!((failed.path.as_deref(), failed.size), (Some("/home/a/nothing.bin"), None));
    assert!(failed.reason.as_ref().is_some_and(|reason| !reason.is_empty()));

    let of_b = world.transferred(b);
    let [(from, received)] = of_b.as_slice() else { panic!("{of_b:?}") };
    assert_eq!(
        (*from, received.outcome, received.direction),
        (identity(1), Outcome::Received, Direction::In)
    );
    assert_eq!((received.size, received.sha256), (Some(300_000), Some(file_hash(&bytes))));
    assert!(received.path.as_ref().is_some_and(|path| path.ends_with("file.bin")), "{received:?}");
}

#[test]
fn what_ends_after_the_peer_has_left_is_kept_with_whom_it_was() {
    let mut world = World::new(3);
    let (a, b) = (world.secure_node(1, AcceptPolicy::All), world.secure_node(2, AcceptPolicy::All));
    world.connect(b, a);
    world.run_for(SECOND);
    let b_name = &identity(2).unwrap().to_string()[..16];
    world.put(a, "large.bin", 20 << 20);
    world.send_file(a, b_name, "large.bin");
    world.run_until(|world| world.data_bytes > 0);
    world.say_to(a, b_name, "are you there?");
    // It is killed, and nobody there connects again.
    world.restart(b, false);
    world.run_for(Duration::from_secs(600));
    let failed = world.transferred(a);
    let [(with, failed)] = failed.as_slice() else { panic!("{failed:?}") };
    assert_eq!(
        (*with, failed.outcome, failed.code),
        (identity(2), Outcome::Failed, Some(Code::Disconnected))
    );
    assert_eq!(failed.size, Some(20 << 20));
    let undelivered = world.nodes[a.0].history.iter().find(|of| matches!(of.what, Past::Undelivered { .. }));
    assert_eq!(undelivered.unwrap().node_id, identity(2));
}

#[test]
fn what_a_node_breaks_off_when_it_stops_is_kept() {
    let (mut world, a, b, b_name) = pair(4);
    world.put(a, "large.bin", 20 << 20);
    world.send_file(a, &b_name, "large.bin");
    world.run_until(|world| world.data_bytes > 0);
    for node in [a, b] {
        world.stop(node);
        let kept = world.transferred(node);
        let [(with, failed)] = kept.as_slice() else { panic!("{kept:?}") };
        assert!(with.is_some() && failed.outcome == Outcome::Failed, "{failed:?}");
    }
}

#[test]
fn what_a_person_did_not_want_is_kept_once_and_with_whom() {
    let mut world = World::new(6);
    let (a, b) = (world.secure_node(1, AcceptPolicy::All), world.secure_node(2, AcceptPolicy::Ask));
    let b_name = world.connect(a, b);
    for (round, code) in [Code::Declined, Code::Cancelled].into_iter().enumerate() {
        world.put(a, "large.bin", 300_000);
        world.send_file(a, &b_name, "large.bin");
        world.run_until(|world| world.events(b, is_offer).len() > round);
        let id = world.events(b, is_offer)[round];
        let command = match code {
            Code::Declined => Command::Reject(Selection::One(id)),
            _ => Command::Cancel { id, discard: false },
        };
        world.run_command(b, command).unwrap();
        world.run_to_end();
        let kept = world.transferred(b);
        assert_eq!(kept.len(), round + 1, "{kept:?}");
        let (from, unwanted) = &kept[round];
        assert_eq!((*from, unwanted.outcome, unwanted.code), (identity(1), Outcome::Failed, Some(code)));
        assert_eq!((unwanted.direction, unwanted.size), (Direction::In, Some(300_000)));
        assert_eq!(unwanted.name, "large.bin");
    }
}

fn is_offer(event: &Event) -> Option<TransferId> {
    match event {
        Event::Offer { id, .. } => Some(*id),
        _ => None,
    }
}

#[test]
fn whom_this_side_has_noted_is_no_stranger_from_then_on() {
    let (mut world, a, _, b_name) = pair(7);
    world.say_to(a, &b_name, "first");
    world.run_to_end();
    let trust = Command::Trust(identity(2).unwrap().to_string().parse().unwrap());
    world.run_command(a, trust).unwrap();
    world.run_to_end();
    world.say_to(a, &b_name, "second");
    world.run_to_end();
    let strangers: Vec<_> = world.nodes[a.0].history.iter().map(|of| of.stranger).collect();
    assert_eq!(strangers, [true, false]);
}

#[test]
fn who_is_asked_about_is_found_under_every_name_and_told_by_that_of_now() {
    let (mut world, a, _, b_name) = pair(5);
    let c = world.secure_node(3, AcceptPolicy::All);
    let c_name = world.connect(a, c);
    world.say_to(a, &b_name, "to b");
    world.say_to(a, &c_name, "to c");
    world.run_to_end();
    assert_eq!(world.history(a, None, None).len(), 2);
    assert!(world.history(a, None, Some(HistoryKind::Transfers)).is_empty());
    let alias = Command::Alias(b_name.parse().unwrap(), "bob".parse().unwrap());
    world.run_command(a, alias).unwrap();
    world.run_to_end();
    for name in [b_name.as_str(), "bob", &identity(2).unwrap().to_string()[..16]] {
        let found = world.history(a, Some(name), Some(HistoryKind::Messages));
        assert_eq!(found.len(), 1, "{name}");
        assert_eq!((found[0].of.node_id, found[0].of.alias.as_deref()), (identity(2), Some("bob")), "{name}");
    }
    assert!(world.history(a, Some("nobody"), None).is_empty());
}
