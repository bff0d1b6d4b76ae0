//! The outbox in virtual time: what waits for somebody arrives once and in order, whoever is killed when.
#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, reason = "other tests need more of it")]
mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use peer_to_peer::engine::{
    AcceptPolicy, Change, Code, Command, Direction, Event, LanNews, OutboxInfo, OutboxItem, Past, Reply,
    Selection, Sighting,
};
use peer_to_peer::wire::{Hello, Instance, Message, NodeId as Identity, TextKey};
use world::{NodeId, SECOND, World, addr_of};

/// Two that know each other, of whom the second is away. The first calls it bob.
fn alice_and_bob(seed: u64) -> (World, NodeId, NodeId) {
    let mut world = World::new(seed);
    world.outbox = true;
    let (alice, bob) = (world.secure_node(1, AcceptPolicy::All), world.secure_node(2, AcceptPolicy::All));
    let name = world.connect(alice, bob);
    world.note(alice, &Change::Alias(Identity([2; 32]), "bob".parse().unwrap()));
    world.note(alice, &Change::Pin(name.parse().unwrap(), Identity([2; 32])));
    world.kill(bob);
    world.run_for(Duration::from_secs(600));
    (world, alice, bob)
}

fn say(
    world: &mut World,
    from: NodeId,
    to: &str,
    text: &str,
) -> Result<Reply, peer_to_peer::engine::Failure> {
    world.run_command(from, Command::SendText(to.parse().unwrap(), text.into()))
}

fn send_file(
    world: &mut World,
    from: NodeId,
    to: &str,
    path: &str,
) -> Result<Reply, peer_to_peer::engine::Failure> {
    let command = Command::SendFile { to: to.parse().unwrap(), path: path.into(), name: None };
    world.run_command(from, command)
}

fn heard(world: &World, node: NodeId) -> Vec<String> {
    world
        .events(node, |event| if let Event::Message { text, .. } = event { Some(text.clone()) } else { None })
}

fn outbox(world: &mut World, node: NodeId) -> Vec<OutboxInfo> {
    match world.run_command(node, Command::Outbox) {
        Ok(Reply::Outbox { entries, .. }) => entries,
        other => panic!("{other:?}"),
    }
}

fn undelivered(world: &World, node: NodeId) -> usize {
    world
        .events(node, |e| if let Event::Undelivered { texts, .. } = e { Some(*texts) } else { None })
        .iter()
        .sum()
}

fn texts(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("text {number}")).collect()
}

#[test]
fn what_is_for_somebody_away_is_kept_told_and_delivered_once_and_in_order() {
    let (mut world, alice, bob) = alice_and_bob(1);
    let file = world.put(alice, "report.pdf", 3_000_000);
    for text in texts(3) {
        assert!(matches!(say(&mut world, alice, "bob", &text), Ok(Reply::Queued { .. })));
    }
    assert!(matches!(send_file(&mut world, alice, "bob", "report.pdf"), Ok(Reply::Queued { .. })));
    let told = world.events(alice, |event| match event {
        Event::Queued { name, file, is_connected, .. } => Some((name.clone(), file.is_some(), *is_connected)),
        _ => None,
    });
    let of = |is_file| ("bob".to_owned(), is_file, false);
    assert_eq!(told, [of(false), of(false), of(false), of(true)]);
    let listed = outbox(&mut world, alice);
    assert_eq!(listed.len(), 4);
    assert!(matches!(&listed[0].what, OutboxItem::Text(text) if text == "text 0"));
    assert!(listed.iter().all(|info| info.why.starts_with("not connected")), "{listed:?}");
    world.revive(bob);
    world.run_for(Duration::from_secs(400));
    assert_eq!(heard(&world, bob), texts(3));
    assert_eq!(world.nodes[bob.0].disk.downloads["report.pdf"], file);
    let delivered = world.events(alice, |e| matches!(e, Event::Delivered { .. }).then_some(()));
    let sent = world.events(alice, |e| matches!(e, Event::Sent { confirmed: true, .. }).then_some(()));
    assert_eq!((delivered.len(), sent.len(), undelivered(&world, alice)), (3, 1, 0));
    assert!(outbox(&mut world, alice).is_empty() && world.home(alice).outbox.is_empty());
}

#[test]
fn what_is_kept_is_in_the_history_once_however_often_it_is_said() {
    let (mut world, alice, bob) = alice_and_bob(1);
    for text in ["kept", "withdrawn"] {
        say(&mut world, alice, "bob", text).unwrap();
    }
    let withdrawn = outbox(&mut world, alice)[1].id;
    world.run_command(alice, Command::Withdraw(Selection::One(withdrawn))).unwrap();
    world.revive(bob);
    world.run_for(Duration::from_secs(400));
    // Said and not heard: it waits in the outbox, and is said again.
    world.nodes[bob.0].slowness.disk = Duration::from_secs(1);
    say(&mut world, alice, "bob", "said twice").unwrap();
    world.kill(bob);
    world.run_for(Duration::from_secs(60));
    world.revive(bob);
    world.run_for(Duration::from_secs(400));
    assert_eq!(heard(&world, bob).last().map(String::as_str), Some("said twice"));
    let past = world.nodes[alice.0].history.iter().filter_map(|of| match &of.what {
        Past::Message { direction: Direction::Out, text } => Some(text.clone()),
        Past::Undelivered { texts } => Some(format!("{texts} undelivered")),
        _ => None,
    });
    assert_eq!(past.collect::<Vec<_>>(), ["kept", "withdrawn", "1 undelivered", "said twice"]);
}

#[test]
fn it_is_told_only_once_it_is_on_disk_and_a_full_disk_is_an_error() {
    let (mut world, alice, _) = alice_and_bob(2);
    let queued =
        |world: &World| world.events(alice, |e| matches!(e, Event::Queued { .. }).then_some(())).len();
    let command = world.command(alice, Command::SendText("bob".parse().unwrap(), "hi".into()));
    assert!(queued(&world) == 0 && !world.nodes[alice.0].replies.contains_key(&command));
    world.run_until(|world| world.nodes[alice.0].replies.contains_key(&command));
    assert!(queued(&world) == 1 && world.home(alice).outbox.len() == 1);
    world.home(alice).is_full = true;
    assert_eq!(say(&mut world, alice, "bob", "hi").unwrap_err().code, Code::DiskError);
    assert_eq!(send_file(&mut world, alice, "bob", "nothing").unwrap_err().code, Code::DiskError);
    assert_eq!(outbox(&mut world, alice).len(), 1);
}

#[test]
fn only_what_is_for_somebody_known_is_kept() {
    let (mut world, alice, _) = alice_and_bob(3);
    for stranger in ["carol", "11.0.0.9:8000", &Identity([9; 32]).to_string()] {
        assert_eq!(say(&mut world, alice, stranger, "hi").unwrap_err().code, Code::UnknownPeer, "{stranger}");
    }
    for bob in ["bob", &addr_of(NodeId(1)).to_string(), &Identity([2; 32]).to_string()[..8]] {
        assert!(say(&mut world, alice, bob, "hi").is_ok(), "{bob}");
    }
    assert_eq!(send_file(&mut world, alice, "bob", "nothing").unwrap_err().code, Code::SourceUnreadable);
    let own = world.secure_node(1, AcceptPolicy::All);
    world.connect(alice, own);
    world.kill(own);
    world.run_for(Duration::from_secs(600));
    let to_myself = say(&mut world, alice, &addr_of(own).to_string(), "hi").unwrap_err();
    assert_eq!(
        to_myself.code,
        Code::UnknownPeer,
        "an address of one's own is a process, and no other may have it"
    );
    world.run_command(alice, Command::Ban("bob".parse().unwrap())).unwrap();
    assert_eq!(say(&mut world, alice, "bob", "hi").unwrap_err().code, Code::Banned);
}

#[test]
fn without_an_outbox_nothing_is_kept() {
    let mut world = World::new(4);
    let (alice, bob) = (world.secure_node(1, AcceptPolicy::All), world.secure_node(2, AcceptPolicy::All));
    let name = world.connect(alice, bob);
    world.kill(bob);
    world.run_for(Duration::from_secs(600));
    assert_eq!(say(&mut world, alice, &name, "hi").unwrap_err().code, Code::UnknownPeer);
    assert_eq!(world.run_command(alice, Command::Outbox).unwrap_err().code, Code::Usage);
    let mut plain = World::new(5);
    plain.outbox = true;
    let (alice, bob) = (plain.node(AcceptPolicy::All), plain.node(AcceptPolicy::All));
    let name = plain.connect(alice, bob);
    plain.kill(bob);
    plain.run_for(SECOND);
    assert_eq!(say(&mut plain, alice, &name, "hi").unwrap_err().code, Code::UnknownPeer);
    assert_eq!(plain.run_command(alice, Command::Outbox).unwrap_err().code, Code::Usage);
}

#[test]
fn a_full_outbox_survives_its_sender_and_whoever_connects_first() {
    for bob_dials in [false, true] {
        let (mut world, alice, bob) = alice_and_bob(6);
        let file = world.put(alice, "report.pdf", 2_000_000);
        for text in texts(200) {
            say(&mut world, alice, "bob", &text).unwrap();
        }
        send_file(&mut world, alice, "bob", "report.pdf").unwrap();
        world.restart(alice, false);
        if bob_dials {
            world.deserted.insert(addr_of(bob).to_string());
            world.restart(bob, false);
            let to_alice = addr_of(alice).to_string().parse().unwrap();
            world.run_command(bob, Command::Connect(to_alice)).unwrap();
            world.run_for(5 * SECOND);
        } else {
            world.revive(bob);
            world.run_for(Duration::from_secs(400));
        }
        assert_eq!(heard(&world, bob), texts(200), "bob dials: {bob_dials}");
        assert_eq!(world.nodes[bob.0].disk.downloads["report.pdf"], file);
        assert!(world.home(alice).outbox.is_empty());
    }
}

/// Whoever is killed at whatever moment: everything arrives, and nothing is shown twice but what was shown and not
/// noted yet.
#[test]
fn nothing_is_lost_or_repeated_whoever_is_killed_when() {
    for seed in 0..300 {
        let (mut world, alice, bob) = alice_and_bob(seed);
        world.line.latency = Duration::from_millis(1 + world.rng.below(40));
        let said = texts(12);
        let mut told = Vec::new();
        for (number, text) in said.iter().enumerate() {
            // Some are said while bob is away, others when he may be there.
            if number == 6 {
                world.revive(bob);
            }
            let command = world.command(alice, Command::SendText("bob".parse().unwrap(), text.clone()));
            world.run_for(Duration::from_millis(world.rng.clone().below(30)));
            told.push((command, text));
        }
        let mut in_doubt = 0;
        for _ in 0..4 {
            let pause = Duration::from_micros(world.rng.below(60_000));
            world.run_for(pause);
            match world.rng.below(3) {
                0 => {
                    // What is shown and not noted at that moment may be shown again.
                    let shown = heard(&world, bob).len();
                    in_doubt += shown - world.home(bob).shown.len().min(shown);
                    world.restart(bob, false);
                }
                1 => world.cut(bob),
                _ => world.restart(alice, false),
            }
        }
        world.run_for(Duration::from_secs(3600));
        let mut counts = BTreeMap::new();
        for text in heard(&world, bob) {
            *counts.entry(text).or_insert(0_usize) += 1;
        }
        // What was said on a connection is promised to nobody before it is acknowledged; what is kept is.
        let replies = &world.nodes[alice.0].replies;
        let is_kept = |command| matches!(replies.get(command), Some(Ok(Reply::Queued { .. })));
        for (_, text) in told.iter().filter(|(command, _)| is_kept(command)) {
            assert!(counts.contains_key(*text), "seed {seed}: {text} is lost: {world:?}");
        }
        let repeated: usize = counts.values().map(|count| count - 1).sum();
        assert!(repeated <= in_doubt, "seed {seed}: {repeated} are repeated, {in_doubt} in doubt: {world:?}");
        assert!(world.home(alice).outbox.is_empty(), "seed {seed}: {:?}", world.home(alice).outbox);
    }
}

#[test]
fn what_was_said_and_not_acknowledged_is_kept_under_its_key() {
    let (mut world, alice, bob) = alice_and_bob(7);
    world.revive(bob);
    world.run_for(Duration::from_secs(400));
    world.connect(alice, bob);
    // Bob shows it, and his acknowledgement is lost.
    let shown = heard(&world, bob).len();
    say(&mut world, alice, "bob", "hello").unwrap();
    world.run_until(|world| heard(world, bob).len() > shown);
    world.run_for(Duration::from_millis(4));
    world.kill(bob);
    world.run_for(SECOND);
    let why =
        world.events(alice, |e| if let Event::Queued { why, .. } = e { Some(why.clone()) } else { None });
    assert!(matches!(why.as_slice(), [Some(why)] if why.contains("ended before")), "{why:?}");
    assert!(say(&mut world, alice, "bob", "and this").is_ok());
    world.restart(alice, false);
    world.revive(bob);
    world.run_for(Duration::from_secs(400));
    assert_eq!(heard(&world, bob), ["hello", "and this"]);
    assert_eq!(undelivered(&world, alice), 0);
}

#[test]
fn a_text_is_not_said_before_those_that_wait() {
    let (mut world, alice, bob) = alice_and_bob(8);
    let long = "x".repeat(60_000);
    for number in 0..60 {
        say(&mut world, alice, "bob", &format!("{number:02}{long}")).unwrap();
    }
    // They do not all fit into the connection at once.
    world.line.bytes_per_sec = 1_000_000;
    world.revive(bob);
    world.run_until(|world| heard(world, bob).len() > 3);
    assert!(matches!(say(&mut world, alice, "bob", "last"), Ok(Reply::Queued { .. })));
    world.run_for(Duration::from_secs(60));
    let firsts: Vec<_> = heard(&world, bob).iter().map(|text| text[..2].to_owned()).collect();
    let expected: Vec<_> = (0..60).map(|n| format!("{n:02}")).chain(["la".to_owned()]).collect();
    assert_eq!(firsts, expected);
    assert!(matches!(say(&mut world, alice, "bob", "direct"), Ok(Reply::TextQueued { .. })));
}

#[test]
fn another_process_delivers_what_nobody_holds_and_no_other() {
    let (mut world, alice, bob) = alice_and_bob(9);
    let other = world.secure_node(1, AcceptPolicy::All);
    world.share_home(other, alice);
    say(&mut world, alice, "bob", "one").unwrap();
    say(&mut world, alice, "bob", "two").unwrap();
    let listed = world.run_command(other, Command::Outbox);
    assert!(matches!(listed, Ok(Reply::Outbox { entries, elsewhere: 2 }) if entries.is_empty()));
    // The other process meets bob, who can reach nobody: what is held is not its business.
    world.deserted.insert(addr_of(bob).to_string());
    world.restart(bob, false);
    world.run_command(bob, Command::Connect(addr_of(other).to_string().parse().unwrap())).unwrap();
    world.note(other, &Change::Pin(addr_of(bob).to_string().parse().unwrap(), Identity([2; 32])));
    world.run_for(10 * SECOND);
    assert!(heard(&world, bob).is_empty());
    world.kill(alice);
    world.run_for(Duration::from_secs(61));
    assert_eq!(heard(&world, bob), ["one", "two"]);
}

#[test]
fn what_a_process_of_the_same_user_showed_no_other_shows() {
    let (mut world, alice, bob) = alice_and_bob(10);
    say(&mut world, alice, "bob", "once").unwrap();
    world.revive(bob);
    world.run_until(|world| heard(world, bob).len() == 1 && !world.homes[&bob.0].shown.is_empty());
    // It is noted, and not acknowledged.
    world.kill(bob);
    assert_eq!(world.home(alice).outbox.len(), 1);
    let second = world.secure_node(2, AcceptPolicy::All);
    world.share_home(second, bob);
    world.run_command(second, Command::Connect(addr_of(alice).to_string().parse().unwrap())).unwrap();
    world.run_for(5 * SECOND);
    assert!(heard(&world, second).is_empty() && world.home(alice).outbox.is_empty());
}

#[test]
fn the_search_for_somebody_goes_on_ever_more_rarely_and_never_ends() {
    let (mut world, alice, bob) = alice_and_bob(11);
    let before = world.dials.len();
    let start = world.now;
    say(&mut world, alice, "bob", "hi").unwrap();
    world.run_for(Duration::from_secs(3600));
    let dials: Vec<_> =
        world.dials[before..].iter().map(|(at, ..)| at.saturating_sub(start).as_secs()).collect();
    assert!((15..25).contains(&dials.len()), "{dials:?}");
    assert!(dials[0] == 0 && dials[1] == 5, "{dials:?}");
    let pauses: Vec<_> = dials.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.iter().all(|pause| (5..=300).contains(pause)) && pauses.is_sorted(), "{pauses:?}");
    assert_eq!(
        dials.len(),
        world.dials[before..].iter().filter(|(_, _, to)| *to == addr_of(bob).to_string()).count()
    );
    // A wait in a script does not last until then.
    assert!(world.run_command(alice, Command::Wait).is_ok());
    assert!(heard(&world, bob).is_empty());
    // Nobody is looked for in vain when nothing waits.
    world.run_command(alice, Command::Withdraw(Selection::All)).unwrap();
    let before = world.dials.len();
    world.run_for(Duration::from_secs(3600));
    assert!(world.dials.len() <= before + 1);
}

#[test]
fn the_local_network_tells_where_somebody_is_now() {
    let mut world = World::new(12);
    (world.outbox, world.lan) = (true, true);
    let (alice, bob) = (world.secure_node(1, AcceptPolicy::All), world.secure_node(2, AcceptPolicy::All));
    world.note(alice, &Change::Alias(Identity([2; 32]), "bob".parse().unwrap()));
    say(&mut world, alice, "bob", "hi").unwrap();
    world.run_for(Duration::from_secs(1000));
    assert!(world.dials.is_empty() && outbox(&mut world, alice)[0].why.contains("it is not known where"));
    let sighting = Sighting {
        name: "bob".into(),
        node_id: Identity([2; 32]),
        instance: None,
        addrs: vec![addr_of(bob)],
    };
    world.input(alice, peer_to_peer::engine::Input::Lan(LanNews::Seen(sighting)));
    world.run_for(SECOND);
    assert_eq!(heard(&world, bob), ["hi"]);
}

#[test]
fn what_is_withdrawn_is_not_delivered() {
    let (mut world, alice, bob) = alice_and_bob(13);
    world.put(alice, "a", 100);
    say(&mut world, alice, "bob", "no").unwrap();
    say(&mut world, alice, "bob", "yes").unwrap();
    send_file(&mut world, alice, "bob", "a").unwrap();
    let ids: Vec<_> = outbox(&mut world, alice).iter().map(|info| info.id).collect();
    let withdraw = |which| Command::Withdraw(Selection::One(which));
    assert_eq!(world.run_command(alice, withdraw(ids[0])), Ok(Reply::Withdrawn(vec![ids[0]])));
    assert_eq!(world.run_command(alice, withdraw(ids[0])).unwrap_err().code, Code::UnknownTransfer);
    let cancel = Command::Cancel { id: ids[2], discard: false };
    assert_eq!(world.run_command(alice, cancel), Ok(Reply::Cancelled(ids[2])));
    world.run_for(SECOND);
    world.restart(alice, false);
    world.revive(bob);
    world.run_for(Duration::from_secs(400));
    assert_eq!(heard(&world, bob), ["yes"]);
    assert!(world.nodes[bob.0].disk.downloads.is_empty());
}

#[test]
fn a_text_that_is_withdrawn_while_it_is_said_is_not_kept_again() {
    let (mut world, alice, bob) = alice_and_bob(14);
    say(&mut world, alice, "bob", "hm").unwrap();
    world.line.latency = SECOND;
    world.revive(bob);
    world.run_until(|world| world.scripts.is_empty() && world.events(alice, connected).len() == 2);
    assert_eq!(outbox(&mut world, alice)[0].why, "said, not acknowledged yet");
    world.run_command(alice, Command::Withdraw(Selection::All)).unwrap();
    world.cut(bob);
    world.run_for(Duration::from_secs(60));
    assert!(world.home(alice).outbox.is_empty() && heard(&world, bob).is_empty());
}

fn connected(event: &Event) -> Option<()> {
    matches!(event, Event::PeerConnected { .. }).then_some(())
}

#[test]
fn a_file_that_is_refused_or_gone_ends_and_is_told() {
    let (mut world, alice, bob) = alice_and_bob(15);
    world.put(alice, "gone", 100);
    world.put(alice, "here", 100);
    send_file(&mut world, alice, "bob", "gone").unwrap();
    send_file(&mut world, alice, "bob", "here").unwrap();
    world.nodes[alice.0].disk.files.remove(std::path::Path::new("gone"));
    world.nodes[bob.0].disk.free_bytes = 10;
    world.revive(bob);
    world.run_for(Duration::from_secs(400));
    let mut codes = world.failure_codes(alice);
    codes.sort();
    assert_eq!(codes, [Code::SourceUnreadable, Code::NoSpace]);
    assert!(world.home(alice).outbox.is_empty());
}

#[test]
fn a_file_whose_receiver_leaves_waits_again_and_goes_on() {
    let (mut world, alice, bob) = alice_and_bob(16);
    let file = world.put(alice, "big", 40_000_000);
    world.line.bytes_per_sec = 10_000_000;
    send_file(&mut world, alice, "bob", "big").unwrap();
    world.revive(bob);
    world.run_until(|world| world.data_bytes > 20_000_000);
    world.kill(bob);
    world.run_for(Duration::from_secs(300));
    let put_off =
        world.events(alice, |e| if let Event::Queued { was: Some(_), .. } = e { Some(()) } else { None });
    assert_eq!((put_off.len(), world.failure_codes(alice)), (1, vec![]));
    assert_eq!(outbox(&mut world, alice).len(), 1);
    world.revive(bob);
    world.run_for(Duration::from_secs(600));
    assert_eq!(world.nodes[bob.0].disk.downloads["big"], file);
    assert!(world.data_bytes < 45_000_000, "what had arrived is not sent again: {}", world.data_bytes);
    assert!(world.home(alice).outbox.is_empty());
}

#[test]
fn a_file_that_had_arrived_before_its_sender_was_killed_is_not_sent_twice() {
    let (mut world, alice, bob) = alice_and_bob(17);
    world.put(alice, "a", 2_000_000);
    send_file(&mut world, alice, "bob", "a").unwrap();
    world.revive(bob);
    world.run_until(|world| !world.nodes[bob.0].disk.downloads.is_empty());
    world.restart(alice, false);
    assert_eq!(world.home(alice).outbox.len(), 1);
    world.run_for(Duration::from_secs(400));
    let already =
        world.events(alice, |e| if let Event::Sent { already, .. } = e { Some(*already) } else { None });
    assert_eq!((already, world.nodes[bob.0].disk.downloads.len()), (vec![true], 1));
}

#[test]
fn the_outbox_has_bounds_and_says_so() {
    let (mut world, alice, _) = alice_and_bob(18);
    for number in 0..256 {
        say(&mut world, alice, "bob", &number.to_string()).unwrap();
    }
    let failure = say(&mut world, alice, "bob", "too much").unwrap_err();
    assert_eq!(failure.code, Code::Busy);
    assert!(failure.message.contains("`outbox cancel`"), "{failure}");
}

fn hello(instance: u128) -> Message {
    Message::Hello(Hello {
        version: 1,
        agent: "script".into(),
        node_id: None,
        instance: Instance(instance),
        listen_port: 0,
        your_addr: None,
        features: vec!["text-ack".into(), "transfer".into()],
    })
}

#[test]
fn a_text_is_acknowledged_only_once_it_is_noted_also_on_another_connection() {
    let mut world = World::new(19);
    let node = world.secure_node(1, AcceptPolicy::All);
    let (one, other) =
        (world.script_as(Some(Identity([2; 32])), node), world.script_as(Some(Identity([2; 32])), node));
    let text = |id, key| Message::NumberedText { id, text: "hi".into(), key: Some(TextKey(key)) };
    world.say(one, hello(7));
    world.say(other, hello(8));
    world.run_for(SECOND);
    let acks = |world: &World, script: world::ScriptId| {
        let heard = world.scripts[script.0].heard.iter();
        heard.filter(|message| matches!(message, Message::TextAck(_))).count()
    };
    world.say(one, text(1, 5));
    world.run_until(|world| heard(world, node).len() == 1);
    world.say(other, text(1, 5));
    world.run_for(Duration::from_millis(1));
    assert!(world.home(node).shown.is_empty() && acks(&world, one) + acks(&world, other) == 0);
    world.run_for(SECOND);
    assert_eq!((acks(&world, one), acks(&world, other), heard(&world, node).len()), (1, 1, 1));
    // Another sender may have the same key, and a disk that is full loses no text.
    let third = world.script_as(Some(Identity([3; 32])), node);
    world.say(third, hello(9));
    world.home(node).is_full = true;
    world.say(third, text(1, 5));
    world.say(third, text(2, 6));
    world.run_for(SECOND);
    assert_eq!((acks(&world, third), heard(&world, node).len()), (2, 3));
    let warned = world.events(node, |e| matches!(e, Event::Warning { .. }).then_some(()));
    assert_eq!(warned.len(), 1, "it is told once");
}
