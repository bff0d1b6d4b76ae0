//! Connections that broke: who dialled dials again, and both sides' transfers wait for that.
//!
//! Only what broke comes back. What was closed on purpose, by a person, by a rule or by a peer that
//! said `BYE`, stays closed, and so does everything in plaintext, where nobody can know who is back.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use super::texts::Said;
use super::{
    Code, ConnId, Deadline, Dialled, Engine, Event, Failure, HostPort, Output, Peer, Purpose, Target,
    TransferId,
};
use crate::wire::{Instance, NodeId};

/// Peers that are waited for at the same time.
const AWAY: usize = 256;

/// The first pause before dialling, and the longest; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// The shortest pause before the next, whatever is said on the local network.
const NEARBY_PAUSE: Duration = Duration::from_secs(2);

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// On purpose.
    Closed,
    /// Nobody wanted it to.
    Broken,
}

/// A process: who it is, and which run of its program. A user's terminals share an identity.
pub(super) type Process = (NodeId, Instance);

/// A peer whose connection broke.
#[derive(Debug)]
pub(super) struct Away {
    addr: SocketAddr,
    /// Where we dialled it, if we did, and whether that was typed.
    place: Option<(HostPort, Purpose)>,
    /// Through whom we connected to it, if we did.
    via: Option<NodeId>,
    pause: Duration,
    /// When it was dialled last.
    tried_at: Option<Duration>,
    /// Texts that it did not acknowledge.
    unheard: VecDeque<Said>,
}

impl Away {
    /// Whether it is on us to connect again.
    fn is_dialled(&self) -> bool {
        self.place.is_some() || self.via.is_some()
    }

    /// What was typed to reach it.
    fn typed(&self) -> Option<&HostPort> {
        self.place.as_ref().filter(|(_, why)| *why == Purpose::Typed).map(|(address, _)| address)
    }
}

/// The peers that are waited for.
#[derive(Debug, Default)]
pub(super) struct Absent {
    by_process: BTreeMap<Process, Away>,
    /// The dials that nobody typed.
    redials: BTreeMap<Target, Process>,
}

impl Absent {
    /// Texts that wait for a peer to come back.
    pub(super) fn texts(&self) -> usize {
        self.by_process.values().map(|away| away.unheard.len()).sum()
    }
}

impl Engine {
    /// What is done about somebody whose connection broke, as a person is told.
    pub(super) fn what_is_done_about(&self, peer: &Peer) -> Option<&'static str> {
        let process = peer.process()?;
        let away = self.absent.by_process.get(&process)?;
        if self.peers.iter().any(|(_, other)| other.process() == Some(process)) {
            // It is back by another connection, of which this is not to say anything.
            return None;
        }
        Some(match (&away.place, away.via) {
            (Some(_), _) => "it is dialled again",
            (None, Some(_)) => "it is connected to again through the same peer, once that is connected",
            (None, None) => "it is waited for",
        })
    }

    /// Waits for a peer whose connection broke, if it may come back: its transfers and texts stay.
    pub(super) fn wait_for(&mut self, conn: ConnId, peer: &mut Peer) {
        let wait = self.config.limits.reconnect;
        let Some(process) = peer.process() else { return };
        let via = peer.via.and_then(|via| via.node_id).filter(|_| peer.dialled_by_us);
        let wanted = peer.dialled.is_some()
            || peer.is_named
            || via.is_some()
            || !peer.texts.unheard.is_empty()
            || self.has_transfers(conn);
        if !peer.features.transfer || wait.is_zero() || !wanted || self.absent.by_process.len() >= AWAY {
            return;
        }
        let typed = peer.dialled.clone().map(|address| (address, Purpose::Typed));
        let is_named = peer.is_named && peer.via.is_none();
        let named = is_named.then(|| (HostPort::from(peer.addr), Purpose::Named));
        let place = typed.or(named).filter(|_| peer.dialled_by_us);
        let unheard = std::mem::take(&mut peer.texts.unheard);
        let away = Away { addr: peer.addr, place, via, pause: FIRST_PAUSE, tried_at: None, unheard };
        let is_dialled = away.is_dialled();
        self.leave_behind(conn);
        if let Some(before) = self.absent.by_process.insert(process, away) {
            self.give_up_texts(process, &before);
        }
        self.timers.set(Deadline::Away(process), self.now + wait);
        if is_dialled {
            self.timers.set(Deadline::Redial(process), self.now + FIRST_PAUSE);
        }
        // It may be there already: it found out before us.
        let back =
            self.peers.iter().find(|(_, peer)| peer.level.is_some() && peer.process() == Some(process));
        if let Some((conn, _)) = back {
            self.come_back(conn);
        }
    }

    /// A connection ended before the peer said which of its processes it is: it is dialled again, if
    /// that was to be.
    pub(super) fn redial_after(&mut self, peer: &Peer) {
        let (None, Some(node_id)) = (peer.level, peer.node_id) else { return };
        let was_there = |(process, away): &(&Process, &Away)| {
            process.0 == node_id && away.is_dialled() && away.typed() == peer.dialled.as_ref()
        };
        for (process, away) in self.absent.by_process.iter().filter(was_there) {
            self.timers.set(Deadline::Redial(*process), self.now + away.pause);
        }
    }

    fn has_transfers(&self, conn: ConnId) -> bool {
        self.uploads.values().any(|upload| upload.conn == Some(conn) && upload.answers.is_none())
            || self.downloads.values().any(|download| download.conn == Some(conn))
    }

    /// It is time to dial: where it was, where the local network says that it is, and through whom it was connected.
    pub(super) fn on_redial(&mut self, process: Process) {
        let Some(away) = self.absent.by_process.get_mut(&process) else { return };
        if !away.is_dialled() {
            return;
        }
        let (place, via) = (away.place.clone(), away.via);
        away.pause = (away.pause * 2).min(LONGEST_PAUSE);
        away.tried_at = Some(self.now);
        let pause = away.pause;
        let is_here =
            |instance| self.peers.iter().any(|(_, peer)| peer.process() == Some((process.0, instance)));
        let nearby = self.nearby.places_of_process(process, is_here).into_iter().map(HostPort::from);
        let is_place = |nearby: &HostPort| place.as_ref().is_some_and(|(address, _)| address == nearby);
        let nearby = nearby.filter(|nearby| !is_place(nearby)).map(|nearby| (nearby, Purpose::Named));
        let places: Vec<_> = place.clone().into_iter().chain(nearby).collect();
        let mut is_dialled = false;
        for (address, why) in places {
            let target = Target { address, id: Some(process.0) };
            // A person may be trying the same.
            if !self.dials.contains_key(&target) && !self.absent.redials.contains_key(&target) {
                self.absent.redials.insert(target.clone(), process);
                self.outputs.push_back(Output::Dial(Dialled { target, why }));
                is_dialled = true;
            }
        }
        if let Some(via) = via {
            self.connect_again_via(process.0, via);
        }
        // That a dial failed is told. That a circuit did is not, so it is looked at again.
        if !is_dialled {
            self.timers.set(Deadline::Redial(process), self.now + pause);
        }
    }

    /// The local network says where somebody is: if that is waited for, it is dialled there now, or soon where that was
    /// just done. Anybody can say so, as often as they like.
    pub(super) fn redial_nearby(&mut self, id: NodeId) {
        let dialled =
            self.absent.by_process.iter().filter(|(process, away)| process.0 == id && away.is_dialled());
        for (process, away) in dialled {
            let soonest = away.tried_at.map_or(self.now, |before| before + NEARBY_PAUSE);
            self.timers.set(Deadline::Redial(*process), soonest.max(self.now));
        }
    }

    /// Takes note of a dial that led nowhere.
    pub(super) fn on_redial_failed(&mut self, target: &Target, why: Purpose, failure: &Failure) {
        let Some(process) = self.absent.redials.remove(target) else { return };
        let Some(away) = self.absent.by_process.get(&process) else { return };
        let is_somebody_else = matches!(failure.code, Code::IdentityChanged | Code::WrongIdentity);
        // Who has moved is found on the local network, whoever has its address now.
        if is_somebody_else && why == Purpose::Typed && !self.config.lan {
            self.give_up(process, "somebody else answers at its address");
        } else {
            self.timers.set(Deadline::Redial(process), self.now + away.pause);
        }
    }

    /// Takes note of a dial that led to a connection. Answers whether it was one of these.
    pub(super) fn on_redialled(&mut self, target: &Target) -> bool {
        self.absent.redials.remove(target).is_some()
    }

    /// A connection is there to somebody who may have been away.
    pub(super) fn come_back(&mut self, conn: ConnId) {
        let Some(peer) = self.peers.get(conn) else { return };
        let Some(now) = peer.process() else { return };
        let speaks_the_same = peer.features.transfer;
        let Some(before) = self.who_came_back(peer, now) else { return };
        if !speaks_the_same {
            return self.give_up(before, "it came back, and does not transfer files this way any more");
        }
        let Some(away) = self.absent.by_process.remove(&before) else { return };
        if let Some(peer) = self.peers.get_mut(conn) {
            peer.is_named |= away.place.is_some() && away.typed().is_none();
            peer.dialled = peer.dialled.take().or(away.typed().cloned());
        }
        self.timers.clear(Deadline::Redial(before));
        self.say_again(conn, away.unheard);
        self.offer_again(conn, before);
        if before != now {
            self.fail_waiting_downloads(before, "its sender was started anew");
            self.timers.clear(Deadline::Away(before));
        }
    }

    /// Which of those who are away a peer is. Another process of the same user is not who left,
    /// unless we dialled it as we had dialled that one, and it answers in its place, or it can be
    /// nobody else.
    fn who_came_back(&self, peer: &Peer, now: Process) -> Option<Process> {
        if self.absent.by_process.contains_key(&now) {
            return Some(now);
        }
        let of_user = |(process, away): &(&Process, &Away)| process.0 == now.0 && away.is_dialled();
        let away: Vec<_> = self.absent.by_process.iter().filter(of_user).collect();
        let in_its_place =
            away.iter().find(|(_, away)| away.typed().is_some() && away.typed() == peer.dialled.as_ref());
        let found = in_its_place.or(if let [only] = away.as_slice() { Some(only) } else { None });
        found.filter(|_| peer.dialled_by_us).map(|(process, _)| **process)
    }

    pub(super) fn on_away_too_long(&mut self, process: Process) {
        self.give_up(process, "its connection broke, and it did not come back");
    }

    fn give_up(&mut self, process: Process, why: &str) {
        self.timers.clear(Deadline::Away(process));
        self.timers.clear(Deadline::Redial(process));
        if let Some(away) = self.absent.by_process.remove(&process) {
            self.give_up_texts(process, &away);
        }
        self.fail_waiting_downloads(process, why);
        self.fail_waiting_uploads(process, why);
    }

    fn give_up_texts(&mut self, (node_id, _): Process, away: &Away) {
        if !away.unheard.is_empty() {
            let undelivered = Event::Undelivered { peer: away.addr, texts: away.unheard.len() };
            self.event_with(Some(node_id), undelivered);
        }
    }

    /// Nobody is waited for any more, as this node ends or a person said so.
    pub(super) fn give_up_all(&mut self, why: &str) {
        for process in self.absent.by_process.keys().copied().collect::<Vec<_>>() {
            self.give_up(process, why);
        }
    }

    fn leave_behind(&mut self, conn: ConnId) {
        let uploads: Vec<TransferId> = self.uploads_with(conn);
        for id in uploads {
            self.suspend_upload(id);
        }
        for id in self.downloads_with(conn) {
            self.suspend_download(id);
        }
    }
}
