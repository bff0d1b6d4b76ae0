//! Connecting to somebody whom a person names by who that is: an alias, or an identity.
//!
//! Where that may be, say the addresses under which it was reached before and the local network. A few places
//! are dialled at a time until one leads to that identity; what others claim costs a dial each and no more. Of each who
//! says where it is one place comes first, and then the next of each: no record with many addresses puts off the others.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::nearby::MAX_OF_ONE_ID;
use super::{
    Code, CommandId, Deadline, Dialled, Engine, Failure, HostPort, Output, Peer, PeerRef, Purpose, Reply,
    Target,
};
use crate::wire::NodeId;

/// Places that are dialled at the same time for one who is sought: one of each record that may name it, and some that
/// were typed, so that no place that swallows packets makes the true one wait.
const AT_ONCE: usize = MAX_OF_ONE_ID + 2;

/// Places that are tried in all.
const MAX_PLACES: usize = 16;

/// How long the local network has to tell where somebody is.
const NEARBY_WAIT: Duration = Duration::from_secs(5);

/// Somebody who is sought.
#[derive(Debug)]
pub(super) struct Seek {
    /// What was typed.
    name: String,
    commands: Vec<CommandId>,
    untried: VecDeque<HostPort>,
    dialling: BTreeSet<HostPort>,
    /// All of them, tried and untried.
    places: BTreeSet<HostPort>,
    failures: Vec<Failure>,
    /// Until then the local network may tell of more.
    waits_until: Duration,
}

impl Seek {
    fn add(&mut self, place: HostPort) {
        if self.places.len() < MAX_PLACES && self.places.insert(place.clone()) {
            self.untried.push_back(place);
        }
    }
}

/// The first of each list, then the second of each, and so on.
fn in_turn<T>(lists: Vec<Vec<T>>) -> Vec<T> {
    let mut lists: Vec<_> = lists.into_iter().map(Vec::into_iter).collect();
    let mut all = Vec::new();
    loop {
        let before = all.len();
        all.extend(lists.iter_mut().filter_map(Iterator::next));
        if all.len() == before {
            return all;
        }
    }
}

impl Engine {
    /// Connects to somebody, wherever that is.
    pub(super) fn connect_to(&mut self, command: CommandId, name: String) {
        match self.seek(command, name) {
            Ok(None) => {}
            Ok(Some(there)) => self.reply(command, Ok(there)),
            Err(failure) => self.reply(command, Err(failure)),
        }
    }

    /// The answer, where there is one at once.
    fn seek(&mut self, command: CommandId, name: String) -> Result<Option<Reply>, Failure> {
        if !self.is_secure() {
            let message =
                format!("`{name}`: under --plain nobody is known by name; an address is written host:port");
            return Err(Failure::new(Code::Usage, message));
        }
        let id = self.who(&PeerRef::Name(name.clone()))?.ok_or_else(|| {
            let message = format!(
                "`{name}` is no alias, and nobody known or nearby has an identity that begins so; an address is \
                 written host:port, like localhost:8000"
            );
            Failure::new(Code::Usage, message)
        })?;
        if self.config.node_id == Some(id) {
            return Err(Failure::new(Code::SelfConnection, format!("`{name}` is this node's own identity")));
        }
        let there = self.peers.iter().find(|(_, peer)| peer.is_usable() && peer.node_id == Some(id));
        if let Some((conn, peer)) = there {
            let (peer, node_id) = (peer.addr, peer.node_id);
            self.is_meant(conn);
            return Ok(Some(Reply::Connected { peer, node_id, already: true }));
        }
        if let Some(seek) = self.seeks.get_mut(&id) {
            seek.commands.push(command);
            return Ok(None);
        }
        if self.dials.len() + self.seeks.len() >= self.config.limits.dials {
            let message = format!("{} connections are being made already; try again soon", self.dials.len());
            return Err(Failure::new(Code::Busy, message));
        }
        self.begin_seek(id, name, vec![command]);
        Ok(None)
    }

    /// Looks for somebody for whom something waits. Whether there is room for that.
    pub(super) fn seek_kept(&mut self, id: NodeId) -> bool {
        let has_room = self.dials.len() + self.seeks.len() < self.config.limits.dials;
        if has_room {
            let alias = self.book.alias_of(id).map(ToString::to_string);
            self.begin_seek(id, alias.unwrap_or_else(|| id.to_string()), Vec::new());
        }
        has_room
    }

    fn begin_seek(&mut self, id: NodeId, name: String, commands: Vec<CommandId>) {
        let waits_until = if self.config.lan { self.now + NEARBY_WAIT } else { self.now };
        let mut seek = Seek {
            name,
            commands,
            untried: VecDeque::new(),
            dialling: BTreeSet::new(),
            places: BTreeSet::new(),
            failures: Vec::new(),
            waits_until,
        };
        let typed = self.book.pins.iter().filter(|(_, pinned)| **pinned == id);
        let typed: Vec<_> = typed.map(|(address, _)| address.clone()).collect();
        let mut sources = self.nearby.places_of(id);
        sources.push(typed);
        in_turn(sources).into_iter().for_each(|place| seek.add(place));
        self.seeks.insert(id, seek);
        self.go_on_seeking(id);
    }

    /// Dials the next places, or gives up where there are none left.
    fn go_on_seeking(&mut self, id: NodeId) {
        let Some(seek) = self.seeks.get_mut(&id) else { return };
        while seek.dialling.len() < AT_ONCE
            && let Some(address) = seek.untried.pop_front()
        {
            seek.dialling.insert(address.clone());
            let target = Target { address, id: Some(id) };
            self.outputs.push_back(Output::Dial(Dialled { target, why: Purpose::Named }));
        }
        if !seek.dialling.is_empty() {
            return;
        }
        if self.now < seek.waits_until {
            return self.timers.set(Deadline::Seek(id), seek.waits_until);
        }
        let failure = self.not_found(id);
        for command in self.end_seek(id) {
            self.reply(command, Err(failure.clone()));
        }
        self.on_sought_in_vain(id, &failure);
    }

    /// The local network has had its time.
    pub(super) fn on_seek_due(&mut self, id: NodeId) {
        self.go_on_seeking(id);
    }

    /// It may be there too.
    pub(super) fn seek_at(&mut self, id: NodeId, places: impl Iterator<Item = HostPort>) {
        if let Some(seek) = self.seeks.get_mut(&id) {
            places.for_each(|place| seek.add(place));
            self.go_on_seeking(id);
        }
    }

    /// A place led to whoever was sought, who is not sought any more. Answers for whom.
    pub(super) fn end_seek(&mut self, id: NodeId) -> Vec<CommandId> {
        self.timers.clear(Deadline::Seek(id));
        self.seeks.remove(&id).map(|seek| seek.commands).unwrap_or_default()
    }

    /// A place led to whoever was meant. Answers whether anybody still wants that.
    pub(super) fn on_place_reached(&mut self, peer: &mut Peer, target: &Target) -> bool {
        let is_redial = self.on_redialled(target);
        let Some(id) = target.id else { return false };
        let is_sought = self.seeks.contains_key(&id);
        peer.connecting = self.end_seek(id);
        peer.is_named = true;
        let is_typed = self.book.pins.get(&target.address) == Some(&id);
        peer.dialled = is_typed.then(|| target.address.clone());
        is_redial || is_sought
    }

    /// A place led nowhere, or to somebody else.
    pub(super) fn on_place_failed(&mut self, target: &Target, failure: Failure) {
        let Some((id, seek)) = target.id.and_then(|id| Some((id, self.seeks.get_mut(&id)?))) else { return };
        if seek.dialling.remove(&target.address) {
            seek.failures.push(failure);
            self.go_on_seeking(id);
        }
    }

    /// Why somebody cannot be connected to.
    fn not_found(&self, id: NodeId) -> Failure {
        let Some(Seek { name, failures, .. }) = self.seeks.get(&id) else {
            return Failure::new(Code::Unreachable, "nobody was found");
        };
        if let Some(first) = failures.first() {
            let more = match failures.len() - 1 {
                0 => String::new(),
                more => format!(" (and {more} more places in vain)"),
            };
            return Failure::new(first.code, format!("`{name}`: {}{more}", first.message));
        }
        let near = match self.config.lan {
            true => "and nobody on this network says that it is there",
            false => "and without --lan nobody is looked for on this network",
        };
        let message = format!(
            "it is not known where `{name}` is: no address was ever typed to reach it, {near}; `connect \
             host:port` says where"
        );
        Failure::new(Code::Unreachable, message)
    }
}
