//! Where nodes can be reached, as their peers tell them, in virtual time.
#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, reason = "other tests need more of it")]
mod world;

use std::net::SocketAddr;

use peer_to_peer::engine::{
    AcceptPolicy, AddressInfo, AddressSource, Change, Command, Event, Input, Mapping, Reply, Target,
};
use peer_to_peer::wire::{Hello, Instance, Message, NodeId as Identity};
use world::people::pair;
use world::swarm::bare;
use world::{NodeId, SECOND, World, addr_of};

const STRANGER: Identity = Identity([9; 32]);

impl World {
    fn addresses(&mut self, node: NodeId) -> Vec<AddressInfo> {
        match self.run_command(node, Command::Whoami) {
            Ok(Reply::Whoami(node)) => node.addresses,
            other => panic!("{other:?}"),
        }
    }

    /// Somebody connects to a node and says where it sees that.
    fn comes_in_at(&mut self, node: NodeId, who: Identity, your_addr: &str) {
        let script = self.script_as(Some(who), node);
        let hello = Hello {
            version: 1,
            agent: "script".into(),
            node_id: None,
            instance: Instance(1000 + u128::from(who.0[0])),
            listen_port: 0,
            your_addr: Some(your_addr.parse().unwrap()),
            features: Vec::new(),
        };
        self.say(script, Message::Hello(hello));
        self.run_for(SECOND);
    }

    fn link_places(&mut self, node: NodeId) -> Vec<String> {
        self.nodes[node.0].disk.files.insert("file".into(), vec![1; 100]);
        let command = Command::Share { path: "file".into(), known_only: false, is_kept: false };
        match self.run_command(node, command) {
            Ok(Reply::Shared(share)) => share.link.from,
            other => panic!("{other:?}"),
        }
    }
}

fn is_listed(addresses: &[AddressInfo], addr: &str) -> bool {
    addresses.iter().any(|address| address.addr == addr.parse::<SocketAddr>().unwrap())
}

#[test]
fn who_comes_in_confirms_where_and_who_was_dialled_does_not() {
    let (mut world, a, b, _) = pair(1);
    world.run_for(SECOND);
    let [dialled] = world.addresses(b).try_into().unwrap();
    assert_eq!((dialled.addr, dialled.source), (addr_of(b), AddressSource::Interface));
    assert_eq!(dialled.confirmed.unwrap().node_id, Some(Identity([1; 32])));
    let [dialler] = world.addresses(a).try_into().unwrap();
    assert_eq!((dialler.addr, dialler.confirmed), (addr_of(a), None));
}

#[test]
fn an_address_that_a_router_passes_on_is_learnt_from_who_came_in_by_it() {
    let mut world = World::new(2);
    let node = world.secure_node(1, AcceptPolicy::Ask);
    world.comes_in_at(node, STRANGER, "12.7.7.7:18000");
    let addresses = world.addresses(node);
    let told = addresses.last().unwrap();
    assert_eq!(told.addr, "12.7.7.7:18000".parse().unwrap());
    assert_eq!(told.confirmed.as_ref().unwrap().node_id, Some(STRANGER));
    let own = format!("{}#{}", addr_of(node), Identity([1; 32]));
    assert_eq!(world.link_places(node), std::slice::from_ref(&own), "what a stranger says is in no link");
    world.note(node, &Change::Trust(STRANGER));
    let passed_on = format!("12.7.7.7:18000#{}", Identity([1; 32]));
    assert_eq!(world.link_places(node), [passed_on.clone(), own.clone()]);
    // Whoever else comes in by it, or says so, takes it out of no link.
    for number in 10..40 {
        world.comes_in_at(node, Identity([number; 32]), "12.7.7.7:18000");
        world.comes_in_at(node, Identity([number; 32]), &format!("12.0.0.{number}:8000"));
    }
    assert_eq!(world.link_places(node), [passed_on, own]);
}

#[test]
fn another_address_of_this_machine_takes_the_place_of_the_one_before() {
    let mut world = World::new(12);
    let node = world.secure_node(1, AcceptPolicy::Ask);
    world.comes_in_at(node, STRANGER, &addr_of(node).to_string());
    world.comes_in_at(node, STRANGER, "12.0.0.99:8000");
    let now = Target { address: "12.0.0.99:8000".parse().unwrap(), id: Some(Identity([1; 32])) };
    world.input(node, Input::Reachable(vec![now.clone()]));
    let [address] = world.addresses(node).try_into().unwrap();
    assert_eq!(
        (address.addr.to_string(), address.source),
        (now.address.to_string(), AddressSource::Interface)
    );
    assert_eq!(
        address.confirmed.unwrap().node_id,
        Some(STRANGER),
        "who came in there already has confirmed it"
    );
    assert_eq!(world.link_places(node), [now.to_string()]);
}

#[test]
fn a_lie_about_where_this_node_is_keeps_it_from_dialling_nobody() {
    let mut world = World::new(3);
    let (node, other) = (world.secure_node(1, AcceptPolicy::Ask), world.secure_node(2, AcceptPolicy::Ask));
    world.comes_in_at(node, STRANGER, &addr_of(other).to_string());
    assert!(is_listed(&world.addresses(node), &addr_of(other).to_string()));
    // What is found is dialled unless it is this node itself.
    let mut link = bare(b"anything");
    link.from = vec![addr_of(other).to_string()];
    world.run_command(node, Command::Get(Box::new(link))).unwrap();
    assert_eq!(world.dials.len(), 1);
}

#[test]
fn what_cannot_be_an_address_of_this_node_is_not_listed() {
    let mut world = World::new(4);
    let node = world.secure_node(1, AcceptPolicy::Ask);
    // Said by somebody who comes from far away.
    for (who, lie) in
        ["10.0.0.1:8000", "127.0.0.1:8000", "0.0.0.0:8000", "224.0.0.1:8000", "12.0.0.1:0"].iter().enumerate()
    {
        world.comes_in_at(node, Identity([u8::try_from(who).unwrap() + 10; 32]), lie);
        assert!(!is_listed(&world.addresses(node), lie), "{lie}");
    }
}

#[test]
fn a_crowd_that_tells_of_addresses_fills_a_short_list() {
    let mut world = World::new(5);
    let node = world.secure_node(1, AcceptPolicy::Ask);
    for number in 10..90 {
        world.comes_in_at(node, Identity([number; 32]), &format!("12.0.0.{number}:8000"));
    }
    assert!(world.addresses(node).len() <= 9);
}

const MAPPED: &str = "12.7.7.7:18000";

fn mapped(external: &str) -> Mapping {
    Mapping::Mapped { external: external.parse().unwrap(), by: "PCP" }
}

fn failed() -> Mapping {
    Mapping::Failed { why: "not allowed".to_owned() }
}

impl World {
    /// What a node says when a router has answered.
    fn router_says(&mut self, node: NodeId, mapping: Mapping) -> Vec<Event> {
        let before = self.nodes[node.0].events.len();
        self.input(node, Input::Mapping(mapping));
        self.nodes[node.0].events[before..].iter().map(|(_, event)| event.clone()).collect()
    }
}

#[test]
fn where_a_router_passes_on_is_in_links_and_stays_unconfirmed_until_somebody_comes_in() {
    let mut world = World::new(6);
    let node = world.secure_node(1, AcceptPolicy::Ask);
    let events = world.router_says(node, mapped(MAPPED));
    assert!(matches!(events[..], [Event::Mapped { is_public: true, .. }]), "{events:?}");
    let entry = world.addresses(node).pop().unwrap();
    assert_eq!((entry.addr.to_string(), entry.source), (MAPPED.to_owned(), AddressSource::Router("PCP")));
    assert_eq!(entry.confirmed, None);
    assert_eq!(world.link_places(node)[0], format!("{MAPPED}#{}", Identity([1; 32])));
    world.comes_in_at(node, STRANGER, MAPPED);
    let addresses = world.addresses(node);
    assert_eq!(addresses.len(), 2, "{addresses:?}");
    assert_eq!(addresses[1].confirmed.as_ref().unwrap().node_id, Some(STRANGER));
}

#[test]
fn who_came_in_before_the_router_said_so_has_confirmed_it_too() {
    let mut world = World::new(7);
    let node = world.secure_node(1, AcceptPolicy::Ask);
    world.comes_in_at(node, STRANGER, MAPPED);
    world.router_says(node, mapped(MAPPED));
    let addresses = world.addresses(node);
    assert_eq!(addresses.len(), 2, "{addresses:?}");
    assert_eq!(addresses[1].source, AddressSource::Router("PCP"));
    assert_eq!(addresses[1].confirmed.as_ref().unwrap().node_id, Some(STRANGER));
}

#[test]
fn what_a_router_says_is_told_when_it_changes_and_only_then() {
    let mut world = World::new(8);
    let node = world.secure_node(1, AcceptPolicy::Ask);
    let is_warning = |events: &[Event]| matches!(events, [Event::Warning { peer: None, .. }]);
    assert!(is_warning(&world.router_says(node, failed())));
    assert!(world.router_says(node, failed()).is_empty());
    let granted = world.router_says(node, mapped(MAPPED));
    assert!(matches!(granted[..], [Event::Mapped { .. }]), "{granted:?}");
    assert!(world.router_says(node, mapped(MAPPED)).is_empty());
    let moved = world.router_says(node, mapped("12.7.7.8:18000"));
    assert!(matches!(moved[..], [Event::Mapped { .. }]), "{moved:?}");
    assert!(!is_listed(&world.addresses(node), MAPPED));
    assert!(is_warning(&world.router_says(node, failed())));
    assert!(!is_listed(&world.addresses(node), "12.7.7.8:18000"));
    assert!(world.router_says(node, failed()).is_empty());
}

#[test]
fn a_router_behind_another_router_is_told_from_one_that_is_on_the_internet() {
    for (number, inside) in ["192.168.1.2:8000", "100.64.3.4:8000", "10.0.0.7:8000"].iter().enumerate() {
        let mut world = World::new(9);
        let node = world.secure_node(u8::try_from(number).unwrap() + 1, AcceptPolicy::Ask);
        let events = world.router_says(node, mapped(inside));
        assert!(matches!(events[..], [Event::Mapped { is_public: false, .. }]), "{events:?}");
    }
}

#[test]
fn nobody_is_dialled_where_a_router_passes_on_to_this_node_itself() {
    let mut world = World::new(10);
    let node = world.secure_node(1, AcceptPolicy::Ask);
    world.router_says(node, mapped(MAPPED));
    let mut link = bare(b"anything");
    link.from = vec![MAPPED.to_owned()];
    let _fails = world.run_command(node, Command::Get(Box::new(link)));
    assert_eq!(world.dials.len(), 0);
}
