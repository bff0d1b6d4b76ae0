//! Connections that broke: who dialled dials again, and both sides' transfers wait for that.
//!
//! Only what broke comes back. What was closed on purpose, by a person, by a rule or by a peer that
//! said `BYE`, stays closed, and so does everything in plaintext, where nobody can know who is back.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use super::texts::Said;
use super::{Code, ConnId, Deadline, Engine, Event, Failure, HostPort, Output, Peer, Target, TransferId};
use crate::wire::{Instance, NodeId};

/// Peers that are waited for at the same time.
const AWAY: usize = 256;

/// The first pause before dialling, and the longest; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// On purpose.
    Closed,
    /// Nobody wanted it to.
    Broken,
}

/// A peer whose connection broke.
#[derive(Debug)]
pub(super) struct Away {
    /// Which of its processes it was.
    instance: Instance,
    addr: SocketAddr,
    /// Where we dialled it, if we did.
    address: Option<HostPort>,
    pause: Duration,
    /// Texts that it did not acknowledge.
    unheard: VecDeque<Said>,
}

/// The peers that are waited for.
#[derive(Debug, Default)]
pub(super) struct Absent {
    by_id: BTreeMap<NodeId, Away>,
    /// The dials that nobody typed.
    redials: BTreeMap<Target, NodeId>,
}

impl Absent {
    /// Texts that wait for a peer to come back.
    pub(super) fn texts(&self) -> usize {
        self.by_id.values().map(|away| away.unheard.len()).sum()
    }
}

impl Engine {
    /// Whether somebody is waited for.
    pub(super) fn is_away(&self, node_id: Option<NodeId>) -> bool {
        node_id.is_some_and(|node_id| self.absent.by_id.contains_key(&node_id))
    }

    /// Waits for a peer whose connection broke, if it may come back: its transfers and texts stay.
    pub(super) fn wait_for(&mut self, conn: ConnId, peer: &mut Peer) {
        let wait = self.config.limits.reconnect;
        let (Some(node_id), Some(instance)) = (peer.node_id, peer.instance) else { return };
        let wanted = peer.dialled.is_some() || !peer.texts.unheard.is_empty() || self.has_transfers(conn);
        if !peer.features.transfer || wait.is_zero() || !wanted || self.absent.by_id.len() >= AWAY {
            return;
        }
        let address = peer.dialled.clone().filter(|_| peer.dialled_by_us);
        let unheard = std::mem::take(&mut peer.texts.unheard);
        let away = Away { instance, addr: peer.addr, address: address.clone(), pause: FIRST_PAUSE, unheard };
        self.leave_behind(conn);
        if let Some(before) = self.absent.by_id.insert(node_id, away) {
            self.give_up_texts(&before);
        }
        self.timers.set(Deadline::Away(node_id), self.now + wait);
        if address.is_some() {
            self.timers.set(Deadline::Redial(node_id), self.now + FIRST_PAUSE);
        }
        // It may be there already: it found out before us.
        let back = self.peers.iter().find(|(_, peer)| {
            peer.level.is_some() && peer.node_id == Some(node_id) && peer.instance == Some(instance)
        });
        if let Some((conn, _)) = back {
            self.come_back(conn);
        }
    }

    /// A connection ended before the peer said which of its processes it is: it is dialled again, if
    /// that was to be.
    pub(super) fn redial_after(&mut self, peer: &Peer) {
        let (None, Some(node_id)) = (peer.level, peer.node_id) else { return };
        if let Some(away) = self.absent.by_id.get(&node_id).filter(|away| away.address.is_some()) {
            self.timers.set(Deadline::Redial(node_id), self.now + away.pause);
        }
    }

    fn has_transfers(&self, conn: ConnId) -> bool {
        self.uploads.values().any(|upload| upload.conn == Some(conn))
            || self.downloads.values().any(|download| download.conn == Some(conn))
    }

    /// It is time to dial.
    pub(super) fn on_redial(&mut self, node_id: NodeId) {
        let Some(away) = self.absent.by_id.get_mut(&node_id) else { return };
        let Some(address) = away.address.clone() else { return };
        away.pause = (away.pause * 2).min(LONGEST_PAUSE);
        let target = Target { address, id: Some(node_id) };
        if !self.dials.contains_key(&target) {
            self.absent.redials.insert(target.clone(), node_id);
            self.outputs.push_back(Output::Dial { target });
        } else {
            // A person tries; where that leads nowhere, it is tried again.
            self.timers.set(Deadline::Redial(node_id), self.now + away.pause);
        }
    }

    /// Takes note of a dial that led nowhere.
    pub(super) fn on_redial_failed(&mut self, target: &Target, failure: &Failure) {
        let Some(node_id) = self.absent.redials.remove(target) else { return };
        let Some(away) = self.absent.by_id.get(&node_id) else { return };
        if matches!(failure.code, Code::IdentityChanged | Code::WrongIdentity) {
            self.give_up(node_id, "somebody else answers at its address");
        } else {
            self.timers.set(Deadline::Redial(node_id), self.now + away.pause);
        }
    }

    /// Takes note of a dial that led to a connection.
    pub(super) fn on_redialled(&mut self, target: &Target) {
        self.absent.redials.remove(target);
    }

    /// A connection is there to somebody who may have been away.
    pub(super) fn come_back(&mut self, conn: ConnId) {
        let Some(peer) = self.peers.get_mut(conn) else { return };
        let (Some(node_id), Some(instance)) = (peer.node_id, peer.instance) else { return };
        let speaks_the_same = peer.features.transfer;
        let Some(away) = self.absent.by_id.get_mut(&node_id) else { return };
        let same_process = away.instance == instance;
        // Another process of the same user is not who left, unless it answers where that one did.
        let answers_there = peer.dialled_by_us && away.address.is_some();
        if !(same_process || answers_there) {
            return;
        }
        if !speaks_the_same {
            return self.give_up(node_id, "it came back, and does not transfer files this way any more");
        }
        peer.dialled = peer.dialled.take().or_else(|| away.address.clone());
        let unheard = std::mem::take(&mut away.unheard);
        self.absent.by_id.remove(&node_id);
        self.timers.clear(Deadline::Redial(node_id));
        self.say_again(conn, unheard);
        self.offer_again(conn, node_id);
        if !same_process {
            self.fail_waiting_downloads(node_id, "its sender was started anew");
            self.timers.clear(Deadline::Away(node_id));
        }
    }

    pub(super) fn on_away_too_long(&mut self, node_id: NodeId) {
        self.give_up(node_id, "its connection broke, and it did not come back");
    }

    fn give_up(&mut self, node_id: NodeId, why: &str) {
        self.timers.clear(Deadline::Away(node_id));
        self.timers.clear(Deadline::Redial(node_id));
        if let Some(away) = self.absent.by_id.remove(&node_id) {
            self.give_up_texts(&away);
        }
        self.fail_waiting_downloads(node_id, why);
        self.fail_waiting_uploads(node_id, why);
    }

    fn give_up_texts(&mut self, away: &Away) {
        if !away.unheard.is_empty() {
            self.event(Event::Undelivered { peer: away.addr, texts: away.unheard.len() });
        }
    }

    /// Nobody is waited for any more, as this node ends or a person said so.
    pub(super) fn give_up_all(&mut self, why: &str) {
        for node_id in self.absent.by_id.keys().copied().collect::<Vec<_>>() {
            self.give_up(node_id, why);
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
