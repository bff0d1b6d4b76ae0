//! Which offers are taken, asked about or refused, in virtual time.
#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, reason = "other tests need more of it")]
mod world;

use peer_to_peer::engine::{
    AcceptPolicy, AcceptRule, AcceptRules, Change, Code, Command, Event, Limits, Selection, Treatment,
};
use peer_to_peer::wire::NodeId as Identity;
use world::{NodeId, SECOND, World};

fn rule(from: &str, name: Option<&str>, max_size: Option<u64>, action: Treatment) -> AcceptRule {
    let name = name.map(|name| name.parse().unwrap());
    AcceptRule { from: from.parse().unwrap(), name, max_size, action }
}

/// What became of offers: whose were taken unasked, which were asked about, and what the senders were told.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    taken: Vec<String>,
    asked: Vec<String>,
    refused: Vec<(Code, String)>,
}

fn offer(world: &mut World, to: NodeId, from: NodeId, name: &str, size: usize) -> Outcome {
    let bytes = world.rng.bytes(size);
    world.nodes[from.0].disk.files.insert(name.into(), bytes);
    let peer = world.connect(from, to).parse().unwrap();
    let (offers, failures) = (all_offers(world, to).len(), failures(world, from).len());
    let command = Command::SendFile { to: peer, path: name.into(), name: None };
    world.run_command(from, command).unwrap();
    world.run_for(5 * SECOND);
    let mut outcome =
        Outcome { refused: self::failures(world, from).split_off(failures), ..Outcome::default() };
    for (name, is_taken) in all_offers(world, to).split_off(offers) {
        if is_taken { &mut outcome.taken } else { &mut outcome.asked }.push(name);
    }
    outcome
}

fn all_offers(world: &World, node: NodeId) -> Vec<(String, bool)> {
    world.events(node, |event| match event {
        Event::Offer { name, expires_in, .. } => Some((name.to_string(), expires_in.is_none())),
        _ => None,
    })
}

fn failures(world: &World, node: NodeId) -> Vec<(Code, String)> {
    world.events(node, |event| match event {
        Event::TransferFailed { code, reason, .. } => Some((*code, reason.clone())),
        _ => None,
    })
}

fn warnings(world: &World, node: NodeId) -> String {
    let warning = |event: &Event| match event {
        Event::Warning { text, .. } => Some(text.clone()),
        _ => None,
    };
    world.events(node, warning).join("\n")
}

fn taken(name: &str) -> Outcome {
    Outcome { taken: vec![name.into()], ..Outcome::default() }
}

fn asked(name: &str) -> Outcome {
    Outcome { asked: vec![name.into()], ..Outcome::default() }
}

#[test]
fn the_first_rule_that_fits_decides_and_the_policy_comes_last() {
    let mut world = World::new(1);
    let rules = vec![
        rule("anyone", Some("*.exe"), None, Treatment::Reject),
        rule("anna", None, Some(100), Treatment::Accept),
        rule(&Identity([3; 32]).to_string(), Some("*.pdf"), None, Treatment::Accept),
        rule("trusted", Some("ask *"), None, Treatment::Ask),
    ];
    let node = world.secure_node(1, AcceptRules::new(rules, AcceptPolicy::Ask));
    let [anna, bob, friend] = [2, 3, 4].map(|id| world.secure_node(id, AcceptPolicy::Ask));
    world.note(node, &Change::Alias(Identity([2; 32]), "anna".parse().unwrap()));
    world.note(node, &Change::Trust(Identity([4; 32])));

    let rejected = offer(&mut world, node, friend, "virus.EXE", 10);
    let [(code, reason)] = &rejected.refused[..] else { panic!("{rejected:?}") };
    assert_eq!(*code, Code::Declined);
    assert!(!reason.contains("rule"), "what the rules are is nobody's business: {reason}");
    assert!(warnings(&world, node).contains("accept rule 1 rejects it"), "{}", warnings(&world, node));
    assert_eq!((rejected.taken, rejected.asked), (vec![], vec![]), "nobody is bothered with it");

    assert_eq!(offer(&mut world, node, anna, "small", 100), taken("small"));
    assert_eq!(offer(&mut world, node, anna, "large", 101), asked("large"));
    assert_eq!(offer(&mut world, node, bob, "paper.pdf", 500), taken("paper.pdf"));
    assert_eq!(offer(&mut world, node, bob, "paper.txt", 500), asked("paper.txt"));
    assert_eq!(offer(&mut world, node, friend, "ask me", 10), asked("ask me"));
    assert_eq!(offer(&mut world, node, friend, "anything", 10), taken("anything"));
}

#[test]
fn a_rule_for_an_alias_follows_the_alias() {
    let mut world = World::new(2);
    let rules = vec![rule("anna", None, None, Treatment::Accept)];
    let node = world.secure_node(1, AcceptRules::new(rules, AcceptPolicy::None));
    let [first, second] = [2, 3].map(|id| world.secure_node(id, AcceptPolicy::Ask));
    assert_eq!(offer(&mut world, node, first, "a", 10), asked("a"), "nobody is called so yet");
    world.note(node, &Change::Alias(Identity([2; 32]), "anna".parse().unwrap()));
    assert_eq!(offer(&mut world, node, first, "b", 10), taken("b"));
    assert_eq!(offer(&mut world, node, second, "c", 10), asked("c"));
}

#[test]
fn what_is_to_be_asked_about_is_declined_where_nobody_can_be_asked() {
    let mut world = World::new(3);
    let rules = vec![rule("anyone", Some("*.pdf"), None, Treatment::Ask)];
    let node = world.secure_node(1, AcceptRules::new(rules, AcceptPolicy::All));
    let sender = world.secure_node(2, AcceptPolicy::Ask);
    world.run_command(node, Command::StopAsking).unwrap();
    let outcome = offer(&mut world, node, sender, "a.pdf", 10);
    assert_eq!((outcome.taken.len(), outcome.asked.len()), (0, 0));
    assert_eq!(outcome.refused[0].0, Code::Declined);
    assert_eq!(offer(&mut world, node, sender, "a.txt", 10), taken("a.txt"));
}

/// A node that takes everything as long as so much stays free.
fn keeping_free(world: &mut World, free_bytes: u64) -> NodeId {
    let limits = Limits { keep_free: 1_000, ..Limits::default() };
    let node = world.secure_node_with(1, AcceptPolicy::All, limits);
    world.nodes[node.0].disk.free_bytes = free_bytes;
    node
}

fn left(world: &World, node: NodeId) -> Vec<Option<u64>> {
    world.events(node, |event| if let Event::Offer { leaves, .. } = event { Some(*leaves) } else { None })
}

#[test]
fn what_would_leave_too_little_free_is_asked_about_and_taken_if_a_person_says_so() {
    let mut world = World::new(4);
    let node = keeping_free(&mut world, 1_500);
    let sender = world.secure_node(2, AcceptPolicy::Ask);
    assert_eq!(offer(&mut world, node, sender, "leaves enough", 500), taken("leaves enough"));
    assert_eq!(offer(&mut world, node, sender, "one more", 501), asked("one more"));
    assert_eq!(left(&world, node), [None, Some(999)]);
    world.run_command(node, Command::Accept(Selection::All)).unwrap();
    world.run_for(5 * SECOND);
    assert!(world.nodes[node.0].disk.downloads.contains_key("one more"));
}

#[test]
fn what_would_leave_too_little_free_is_refused_where_nobody_can_be_asked() {
    let mut world = World::new(5);
    let node = keeping_free(&mut world, 1_500);
    let sender = world.secure_node(2, AcceptPolicy::Ask);
    world.run_command(node, Command::StopAsking).unwrap();
    let outcome = offer(&mut world, node, sender, "too much", 501);
    let [(code, reason)] = &outcome.refused[..] else { panic!("{outcome:?}") };
    assert_eq!(*code, Code::NoSpace);
    assert!(reason.contains("1.5 kB free") && reason.contains("1.0 kB are to stay free"), "{reason}");
    assert!(world.nodes[node.0].disk.downloads.is_empty());
    assert_eq!(offer(&mut world, node, sender, "enough", 500), taken("enough"));
}

#[test]
fn what_would_not_fit_at_all_is_refused_as_ever() {
    let mut world = World::new(6);
    let node = keeping_free(&mut world, 400);
    let sender = world.secure_node(2, AcceptPolicy::Ask);
    let outcome = offer(&mut world, node, sender, "too large", 500);
    assert_eq!(outcome.refused[0].0, Code::NoSpace);
    assert_eq!((outcome.taken.len(), outcome.asked.len()), (0, 0));
}
