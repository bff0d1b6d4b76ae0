//! Offers from when they come until it is decided what becomes of them.
//!
//! The rules say what is to be taken; whether there is room, the disk says; and what is left, a person.
//! **Invariant**: nothing that would leave less than is to stay free is taken unless a person said so.

use std::fmt;

use super::bottleneck::Waits;
use super::downloads::{Download, Form, State};
use super::rules::{Offered, Treatment};
use super::{Code, ConnId, Deadline, Engine, Event, Failure, Job, TransferId};
use crate::size;
use crate::wire::{Geometry, SafeName};

/// Who said that it is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Assent {
    /// Nobody has.
    Missing,
    /// The rules, if there is room.
    OfRules,
    /// A person.
    OfPerson,
}

/// Why an offer is not considered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unwanted {
    /// Somebody would have to be asked.
    NobodyToAsk,
    /// The rule of this number says so.
    Rejected(usize),
}

impl Unwanted {
    /// What its sender is told, which are no rules.
    pub(super) fn to_peer(self) -> &'static str {
        match self {
            Self::NobodyToAsk => DECLINED,
            Self::Rejected(_) => "it declines offers like this one",
        }
    }
}

impl fmt::Display for Unwanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NobodyToAsk => f.write_str(DECLINED),
            Self::Rejected(rule) => write!(f, "accept rule {rule} rejects it; `p2p config` lists the rules"),
        }
    }
}

impl Engine {
    /// Takes an offer into consideration, unless the rules refuse it, or nobody can be asked.
    pub(super) fn consider(
        &mut self,
        conn: ConnId,
        name: &SafeName,
        geometry: Geometry,
        form: Form,
    ) -> Result<(), Unwanted> {
        let Some(peer) = self.peers.get_mut(conn) else { return Ok(()) };
        let (trusted, known) = match peer.node_id {
            Some(id) => {
                let trusted = self.book.is_trusted(id) || self.config.node_id == Some(id);
                (trusted, trusted || self.book.is_known(id))
            }
            // Nobody has an identity: who is on this machine is this machine's user.
            None => (peer.addr.ip().is_loopback(), peer.addr.ip().is_loopback()),
        };
        let offer = Offered {
            node_id: peer.node_id,
            alias: peer.node_id.and_then(|id| self.book.alias_of(id)),
            trusted,
            known,
            name,
            size: geometry.size(),
        };
        let assent = match self.config.accept.decide(&offer) {
            (Treatment::Accept, _) => Assent::OfRules,
            (Treatment::Ask, _) if self.can_ask => Assent::Missing,
            (Treatment::Ask, _) => return Err(Unwanted::NobodyToAsk),
            (Treatment::Reject, rule) => return Err(Unwanted::Rejected(rule.unwrap_or_default())),
        };
        self.last_transfer += 1;
        let id = TransferId(self.last_transfer);
        peer.downloads.insert(id);
        let download = Download::new(Some(conn), peer.addr, name.clone(), geometry, form, assent, self.now);
        self.manifest_bytes += download.manifest_bytes();
        self.downloads.insert(id, download);
        self.job(id, Job::FreeSpace);
        Ok(())
    }

    pub(super) fn on_free_space(&mut self, id: TransferId, bytes: u64) {
        let promised: u64 = self.downloads.values().map(Download::bytes_to_come).sum();
        let Some(download) = self.downloads.get_mut(&id) else { return };
        let size = download.geometry.size();
        let free = bytes.saturating_sub(promised);
        let needed = size.saturating_sub(self.left_bytes_of(id));
        let Some(download) = self.downloads.get_mut(&id) else { return };
        let (is_wanted, assent) = (download.is_wanted(), download.assent);
        if needed > free {
            let (needed, free) = (size::human(needed), size::human(free));
            let why = format!("it needs {needed}, and {free} are free where received files go");
            let failure = Failure::new(Code::NoSpace, why);
            return if is_wanted { self.has_no_room(id, failure) } else { self.refuse_offer(id, &failure) };
        }
        // What a person asked for is taken as long as there is room at all.
        let keep_free = self.config.limits.keep_free;
        let leaves = Some(free - needed).filter(|left| *left < keep_free && assent != Assent::OfPerson);
        if let (Some(_), false) = (leaves, self.can_ask) {
            let [needed, free, kept] = [needed, free, keep_free].map(size::human);
            let why = format!(
                "it needs {needed}, and of the {free} free where received files go, {kept} are to stay free"
            );
            return self.refuse_offer(id, &Failure::new(Code::NoSpace, why));
        }
        let wanted = assent != Assent::Missing && leaves.is_none();
        let asked = Event::Offer {
            id,
            peer: download.peer,
            name: download.name.clone(),
            size,
            sha256: download.file_hash(),
            files: download.files(),
            expires_in: (!wanted).then_some(self.config.limits.offer_expiry),
            leaves,
        };
        download.state = State::Asking;
        if is_wanted {
            self.accept_offer(id);
        } else if wanted {
            self.event(asked);
            self.accept_offer(id);
        } else if self.can_ask {
            self.event(asked);
            self.timers.set(Deadline::Offer(id), self.now + self.config.limits.offer_expiry);
        } else {
            self.refuse_offer(id, &Failure::new(Code::Declined, DECLINED));
        }
    }

    /// Refuses an offer of which nobody was told on this side, except in the log.
    fn refuse_offer(&mut self, id: TransferId, failure: &Failure) {
        let Some(download) = self.downloads.get(&id) else { return };
        let (conn, name) = (download.conn, download.name.clone());
        let what = format!("the offer of \"{name}\" was refused: {failure}");
        self.tell_refused(id, failure);
        self.forget_download(id);
        if let Some(conn) = conn {
            self.refuse(conn, &what);
        }
    }

    /// Takes an offer that waits for an answer, or will as soon as it is known whether it fits.
    pub(super) fn accept_offer(&mut self, id: TransferId) {
        let Some(download) = self.downloads.get_mut(&id) else { return };
        download.assent = Assent::OfPerson;
        if download.state != State::Asking {
            return;
        }
        if !self.charge_tree(id) {
            return;
        }
        let Some(download) = self.downloads.get_mut(&id) else { return };
        download.state = State::Creating;
        download.accepted_at = self.now;
        download.waits = Waits::new(self.now);
        download.note_wait(self.now);
        download.chunks.make_room();
        let listed = download.manifest().cloned();
        self.timers.clear(Deadline::Offer(id));
        match listed {
            Some(manifest) => self.job(id, Job::CreatePartial(manifest)),
            None => self.open_partial(id),
        }
    }
}

const DECLINED: &str = "there is nobody to ask about it; `--accept all` takes every offer unasked";
