//! The outbox: what was said or is to be sent to somebody known who is not connected.
//!
//! An entry is *kept* once it is on disk, and only then told. The process that made it holds a lock on its file,
//! and alone delivers it; who is killed lets go, and others [take over](OutboxJob::TakeOver) what nobody holds:
//! at their start, when somebody known connects, and now and then. Whoever is waited for is dialled, after
//! pauses that grow. States of an entry that is held: `Keeping` → `Waiting` ⇄ `Said` or `Sending` → gone.
//!
//! A text has a key for ever. Killed before it is on disk, nobody was told of it; killed after that and before
//! the acknowledgement is noted, it is said again, and the receiver knows the key; its receiver killed before the
//! key is on its disk, it was not acknowledged, and is said again. Shown is before marked is before acknowledged:
//! so nothing is lost, and what is shown twice was shown in the very moment of a kill.
//! Of a file the path is kept. Where it had arrived before the entry went, the receiver says that it has it.
//!
//! Invariants: a text is said past the outbox only where none of the same receiver waits in it; no entry is
//! in two of those hands at a time. The files are `store`'s, connections and retries of moving files are
//! `reconnect`'s and `uploads`'.

mod delivery;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use delivery::Awaited;

use super::texts::Said;
use super::uploads::name_of;
use super::{
    Alias, Code, CommandId, ConnId, Deadline, Direction, Engine, Event, Failure, Output, Past, PeerRef,
    Reply, Selection, TransferId,
};
use crate::wire::{NodeId, SafeName, TextKey};

/// Entries that a process holds, those for one receiver, and bytes of their texts.
pub(super) const MAX_ENTRIES: usize = 512;
const MAX_OF_ONE: usize = 256;
const MAX_BYTES: usize = 16 << 20;

/// The first pause before somebody is looked for again.
const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// How often it is looked whether there is something that nobody holds.
const TAKE_OVER_EVERY: Duration = Duration::from_secs(60);

/// Something that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxEntry {
    /// What it is known by for ever.
    pub key: TextKey,
    /// Whom it is for.
    pub to: NodeId,
    /// What that was called when it was said.
    pub called: String,
    /// When it was said, in microseconds of Unix time; greater than that of what the same process said before.
    pub said_at: u64,
    /// What it is.
    pub what: OutboxItem,
}

/// What can be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutboxItem {
    /// A text.
    Text(String),
    /// A file or a directory, as it is when it is sent.
    File {
        /// Where it is; absolute, once it is kept.
        path: PathBuf,
        /// What it is to be called there.
        name: SafeName,
    },
}

impl OutboxItem {
    fn text_bytes(&self) -> usize {
        if let Self::Text(text) = self { text.len() } else { 0 }
    }

    fn is_text(&self) -> bool {
        matches!(self, Self::Text(_))
    }
}

/// What is to be done on disk. Done one after the other, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutboxJob {
    /// Keep it, and hold it; answered by [`OutboxNews::Kept`].
    Keep(OutboxEntry),
    /// It is delivered, or nobody wants that any more.
    Remove(TextKey),
    /// Hold what nobody holds; answered by [`OutboxNews::Found`].
    TakeOver,
}

/// What came of that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutboxNews {
    /// It is on disk, or it cannot be.
    Kept {
        /// Which.
        key: TextKey,
        /// As it is kept.
        result: Result<OutboxEntry, Failure>,
    },
    /// What is held from now on, and was not before.
    Found {
        /// These.
        entries: Vec<OutboxEntry>,
        /// How many others hold.
        elsewhere: usize,
        /// What could not be read, and what was done about it, in sentences; told once.
        damaged: Vec<String>,
    },
}

/// What is known about something that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxInfo {
    /// Its number.
    pub id: TransferId,
    /// Whom it is for.
    pub node_id: NodeId,
    /// What that is called.
    pub name: String,
    /// What it is.
    pub what: OutboxItem,
    /// How long ago it was said.
    pub age: Duration,
    /// Why it waits, in words.
    pub why: String,
}

#[derive(Debug)]
struct Entry {
    kept: OutboxEntry,
    number: TransferId,
    state: State,
    /// Until then it is not tried again.
    not_before: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// It is being written.
    Keeping(Cause),
    Waiting,
    /// It was said on that connection, and is not acknowledged.
    Said(ConnId),
    /// The transfer of its number runs.
    Sending,
}

/// What something is kept for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// A person wanted it sent.
    Command(CommandId),
    /// It was said there and not acknowledged.
    Unheard(SocketAddr),
}

/// All that this process holds, by when it was said.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    entries: BTreeMap<(u64, TextKey), Entry>,
    awaited: BTreeMap<NodeId, Awaited>,
    last_said: u64,
    last_key: u128,
    elsewhere: usize,
    is_taking_over: bool,
    /// Commands that list it when it was looked what nobody holds.
    listing: Vec<CommandId>,
}

impl Outbox {
    fn of(&self, id: NodeId) -> impl Iterator<Item = &Entry> {
        self.entries.values().filter(move |entry| entry.kept.to == id)
    }

    fn get(&mut self, is_it: impl Fn(&Entry) -> bool) -> Option<&mut Entry> {
        self.entries.values_mut().find(|entry| is_it(entry))
    }

    fn remove(&mut self, key: TextKey) -> Option<Entry> {
        let at = *self.entries.iter().find(|(_, entry)| entry.kept.key == key)?.0;
        self.entries.remove(&at)
    }

    fn has(&self, key: TextKey) -> bool {
        self.entries.keys().any(|(_, held)| *held == key)
    }
}

impl Engine {
    /// Whether something is about to be kept, found or delivered, which takes no long time.
    pub(super) fn outbox_is_busy(&self) -> bool {
        // Whoever waits for the end waits for what was kept before too, where its receiver is just being greeted.
        let is_greeted =
            |id: NodeId| self.peers.iter().any(|(_, peer)| peer.node_id == Some(id) && peer.level.is_none());
        let is_busy = |entry: &Entry| match entry.state {
            State::Keeping(_) => true,
            State::Waiting => is_greeted(entry.kept.to),
            State::Said(_) | State::Sending => false,
        };
        self.outbox.is_taking_over || self.outbox.entries.values().any(is_busy)
    }

    /// Begins to look after what is kept.
    pub fn open_outbox(&mut self) {
        if self.config.outbox && self.is_secure() {
            self.take_over();
            self.timers.set(Deadline::TakeOver, self.now + TAKE_OVER_EVERY);
        }
    }

    /// A key that no text of this identity had or will have: runs differ in their instance, which is random.
    pub(super) fn next_key(&mut self) -> TextKey {
        self.outbox.last_key += 1;
        TextKey(self.config.instance.0.wrapping_add(self.outbox.last_key))
    }

    /// Who is meant, where what is for them can be kept: somebody known, and not this user. `failure` says that
    /// nobody who is connected is meant.
    fn who_is_waited_for(&self, peer: &PeerRef, failure: Failure) -> Result<NodeId, Failure> {
        let known = match self.config.outbox && self.is_secure() && failure.code == Code::UnknownPeer {
            true => self.who(peer)?,
            false => None,
        };
        // An address of this user's is another process of theirs, and no one else may have it.
        let known = known.filter(|id| self.book.is_known(*id) && self.config.node_id != Some(*id));
        let id = known.ok_or(failure)?;
        match self.is_banned(id) {
            true => Err(Failure::new(Code::Banned, format!("`{peer}` is banned; `unban {peer}` ends that"))),
            false => Ok(id),
        }
    }

    /// Keeps a text for somebody who is not connected; answered when it is kept.
    pub(super) fn keep_text(
        &mut self,
        command: CommandId,
        peer: &PeerRef,
        text: String,
        failure: Failure,
    ) -> Result<(), Failure> {
        let id = self.who_is_waited_for(peer, failure)?;
        self.keep(Cause::Command(command), id, peer.to_string(), OutboxItem::Text(text), None)
    }

    /// The same of a file or a directory.
    pub(super) fn keep_file(
        &mut self,
        command: CommandId,
        peer: &PeerRef,
        (path, name): (PathBuf, Option<SafeName>),
        failure: Failure,
    ) -> Result<(), Failure> {
        let id = self.who_is_waited_for(peer, failure)?;
        let name = name.map_or_else(|| name_of(&path), Ok)?;
        self.keep(Cause::Command(command), id, peer.to_string(), OutboxItem::File { path, name }, None)
    }

    /// Whether a text to a peer must wait for others that are kept for it.
    pub(super) fn texts_wait_for(&self, conn: ConnId) -> bool {
        let id = self.peers.get(conn).and_then(|peer| peer.node_id);
        let waits = |entry: &Entry| {
            entry.kept.what.is_text() && matches!(entry.state, State::Keeping(_) | State::Waiting)
        };
        id.is_some_and(|id| self.outbox.of(id).any(waits))
    }

    /// Keeps a text behind those that are kept for a connected peer.
    pub(super) fn keep_behind(
        &mut self,
        command: CommandId,
        conn: ConnId,
        text: String,
    ) -> Result<(), Failure> {
        let peer = self.peers.get(conn).expect("the caller resolved it");
        let id = peer.node_id.expect("something is kept for it");
        let called = peer.addr.to_string();
        self.keep(Cause::Command(command), id, called, OutboxItem::Text(text), None)
    }

    fn keep(
        &mut self,
        cause: Cause,
        to: NodeId,
        called: String,
        what: OutboxItem,
        key: Option<TextKey>,
    ) -> Result<(), Failure> {
        let bytes: usize = self.outbox.entries.values().map(|entry| entry.kept.what.text_bytes()).sum();
        let (all, theirs) = (self.outbox.entries.len(), self.outbox.of(to).count());
        if all >= MAX_ENTRIES || theirs >= MAX_OF_ONE || bytes + what.text_bytes() > MAX_BYTES {
            let message = format!(
                "the outbox is full: it holds {theirs} for `{called}` and {all} in all; `outbox` lists them, `outbox \
                 cancel` withdraws some"
            );
            return Err(Failure::new(Code::Busy, message));
        }
        let unix_micros = self.config.unix_time.saturating_add(self.now).as_micros();
        let said_at =
            u64::try_from(unix_micros).unwrap_or(u64::MAX).max(self.outbox.last_said.saturating_add(1));
        self.outbox.last_said = said_at;
        let key = key.unwrap_or_else(|| self.next_key());
        let kept = OutboxEntry { key, to, called, said_at, what };
        self.hold(kept.clone(), State::Keeping(cause));
        self.outputs.push_back(Output::Outbox(OutboxJob::Keep(kept)));
        Ok(())
    }

    fn hold(&mut self, kept: OutboxEntry, state: State) {
        let number = self.next_transfer_id();
        let at = (kept.said_at, kept.key);
        self.outbox.entries.insert(at, Entry { kept, number, state, not_before: Duration::ZERO });
    }

    pub(super) fn on_outbox(&mut self, news: OutboxNews) {
        match news {
            OutboxNews::Kept { key, result } => self.on_kept(key, result),
            OutboxNews::Found { entries, elsewhere, damaged } => {
                self.outbox.is_taking_over = false;
                self.outbox.elsewhere = elsewhere;
                for text in damaged {
                    self.event(Event::Warning { peer: None, text });
                }
                let mut receivers = BTreeSet::new();
                for kept in entries {
                    if !self.outbox.has(kept.key) {
                        receivers.insert(kept.to);
                        self.outbox.last_said = self.outbox.last_said.max(kept.said_at);
                        self.hold(kept, State::Waiting);
                    }
                }
                for command in std::mem::take(&mut self.outbox.listing) {
                    let reply = self.outbox_reply();
                    self.reply(command, Ok(reply));
                }
                receivers.into_iter().for_each(|id| self.deliver_to(id));
            }
        }
    }

    fn on_kept(&mut self, key: TextKey, result: Result<OutboxEntry, Failure>) {
        let Some(entry) = self.outbox.get(|entry| entry.kept.key == key) else { return };
        let State::Keeping(cause) = entry.state else { return };
        match result {
            Ok(kept) => {
                entry.kept = kept;
                entry.state = State::Waiting;
                let (number, to) = (entry.number, entry.kept.to);
                if let Cause::Command(command) = cause {
                    let OutboxEntry { what, .. } = &entry.kept;
                    if let OutboxItem::Text(text) = what.clone() {
                        self.remember(None, Some(to), Past::Message { direction: Direction::Out, text });
                    }
                    self.reply(command, Ok(Reply::Queued { id: number, node_id: to }));
                }
                let why = match cause {
                    Cause::Command(_) => None,
                    Cause::Unheard(_) => Some("its connection ended before it had that".to_owned()),
                };
                self.tell_kept(number, None, why);
                // A person wants it now, however long it is that nobody was there.
                if matches!(cause, Cause::Command(_))
                    && self.outbox.awaited.get(&to).is_some_and(|awaited| awaited.pause > 2 * FIRST_PAUSE)
                {
                    self.outbox.awaited.remove(&to);
                    self.timers.set(Deadline::Outbox(to), self.now + FIRST_PAUSE);
                }
                self.deliver_to(to);
            }
            Err(failure) => {
                self.outbox.remove(key);
                match cause {
                    Cause::Command(command) => self.reply(command, Err(failure)),
                    Cause::Unheard(peer) => {
                        let text = format!("a message could not be kept in the outbox: {failure}");
                        self.event(Event::Warning { peer: Some(peer), text });
                        self.event(Event::Undelivered { peer, texts: 1 });
                    }
                }
            }
        }
    }

    fn tell_kept(&mut self, number: TransferId, was: Option<TransferId>, why: Option<String>) {
        let Some(entry) = self.outbox.get(|entry| entry.number == number) else { return };
        let (to, what) = (entry.kept.to, entry.kept.what.clone());
        let called = entry.kept.called.clone();
        let file = if let OutboxItem::File { name, .. } = what { Some(name) } else { None };
        let is_connected = self.conn_to(to).is_some();
        let name = self.called(to, called);
        self.event(Event::Queued { id: number, was, node_id: to, name, file, why, is_connected });
    }

    /// What somebody is called now, else what they were called.
    fn called(&self, id: NodeId, before: String) -> String {
        self.book.alias_of(id).map_or(before, Alias::to_string)
    }

    /// A connection ended, or its peer acknowledges nothing: what it did not acknowledge waits for another, also
    /// what was not kept before. Answers what cannot be kept.
    pub(super) fn keep_unheard(
        &mut self,
        conn: ConnId,
        addr: SocketAddr,
        to: Option<NodeId>,
        unheard: VecDeque<Said>,
    ) -> VecDeque<Said> {
        let Some(to) = to.filter(|_| self.config.outbox && self.is_secure()) else { return unheard };
        let is_wanted = self.config.node_id != Some(to) && self.book.is_known(to) && !self.is_stopping;
        let mut left = VecDeque::new();
        for said in unheard {
            let entry = self.outbox.get(|entry| Some(entry.kept.key) == said.key);
            if let Some(entry) = entry {
                if entry.state == State::Said(conn) {
                    entry.state = State::Waiting;
                }
                continue;
            }
            let (cause, item) = (Cause::Unheard(addr), OutboxItem::Text(said.text.clone()));
            if !is_wanted
                || said.key.is_none()
                || self.keep(cause, to, addr.to_string(), item, said.key).is_err()
            {
                left.push_back(said);
            }
        }
        left
    }

    fn take_over(&mut self) {
        if !std::mem::replace(&mut self.outbox.is_taking_over, true) {
            self.outputs.push_back(Output::Outbox(OutboxJob::TakeOver));
        }
    }

    pub(super) fn on_take_over_due(&mut self) {
        self.take_over();
        self.timers.set(Deadline::TakeOver, self.now + TAKE_OVER_EVERY);
    }

    /// Lists it, after a look at what nobody holds.
    pub(super) fn list_outbox(&mut self, command: CommandId) {
        if let Err(failure) = self.check_outbox() {
            return self.reply(command, Err(failure));
        }
        self.outbox.listing.push(command);
        self.take_over();
    }

    fn check_outbox(&self) -> Result<(), Failure> {
        let message = match (self.is_secure(), self.config.outbox) {
            (true, true) => return Ok(()),
            (true, false) => "there is no outbox here: it was started with --no-outbox",
            (false, _) => "under --plain nobody is known, and there is no outbox",
        };
        Err(Failure::new(Code::Usage, message))
    }

    fn outbox_reply(&self) -> Reply {
        let told = self.outbox.entries.values().filter(|e| !matches!(e.state, State::Keeping(_)));
        Reply::Outbox {
            entries: told.map(|entry| self.kept_info(entry)).collect(),
            elsewhere: self.outbox.elsewhere,
        }
    }

    fn kept_info(&self, entry: &Entry) -> OutboxInfo {
        let OutboxEntry { to, called, said_at, what, .. } = &entry.kept;
        let unix_now = self.config.unix_time.saturating_add(self.now);
        OutboxInfo {
            id: entry.number,
            node_id: *to,
            name: self.called(*to, called.clone()),
            what: what.clone(),
            age: unix_now.saturating_sub(Duration::from_micros(*said_at)),
            why: self.why_it_waits(entry),
        }
    }

    fn why_it_waits(&self, entry: &Entry) -> String {
        let to = entry.kept.to;
        match entry.state {
            State::Keeping(_) => "being kept".to_owned(),
            State::Said(_) => "said, not acknowledged yet".to_owned(),
            State::Sending => "being sent".to_owned(),
            State::Waiting if self.conn_to(to).is_some() => "waits for its turn".to_owned(),
            State::Waiting if self.is_banned(to) => "banned".to_owned(),
            State::Waiting if self.seeks.contains_key(&to) => "not connected; being dialled".to_owned(),
            State::Waiting => match self.outbox.awaited.get(&to).and_then(|awaited| awaited.why.as_ref()) {
                Some(why) => format!("not connected: {why}"),
                None => "not connected".to_owned(),
            },
        }
    }

    /// Nobody wants these delivered any more.
    pub(super) fn withdraw(&mut self, which: Selection) -> Result<Reply, Failure> {
        self.check_outbox()?;
        let is_meant = |entry: &&Entry| match which {
            Selection::One(id) => entry.number == id,
            Selection::All => true,
        };
        // Nobody was told of what is not on disk yet, and its command waits for that.
        let is_meant = |entry: &&Entry| is_meant(entry) && !matches!(entry.state, State::Keeping(_));
        let numbers: Vec<_> = self.outbox.entries.values().filter(is_meant).map(|e| e.number).collect();
        if let (Selection::One(id), []) = (which, numbers.as_slice()) {
            let message = format!("nothing in the outbox has the number {id}; `outbox` lists what is in it");
            return Err(Failure::new(Code::UnknownTransfer, message));
        }
        for number in &numbers {
            self.withdraw_one(*number);
        }
        Ok(Reply::Withdrawn(numbers))
    }

    /// Whether there was one.
    pub(super) fn withdraw_one(&mut self, number: TransferId) -> bool {
        let is_told = |entry: &Entry| !matches!(entry.state, State::Keeping(_));
        let Some(entry) = self.outbox.get(|entry| entry.number == number && is_told(entry)) else {
            return false;
        };
        if entry.state == State::Sending {
            self.fail_upload(number, Failure::new(Code::Cancelled, "cancelled on this side"));
            return true;
        }
        let (key, to, state) = (entry.kept.key, entry.kept.to, entry.state.clone());
        let is_text = entry.kept.what.is_text();
        if let State::Said(conn) = state
            && let Some(peer) = self.peers.get_mut(conn)
        {
            peer.texts.withdraw(key);
        }
        self.outbox.remove(key);
        self.outputs.push_back(Output::Outbox(OutboxJob::Remove(key)));
        if is_text {
            self.remember(None, Some(to), Past::Undelivered { texts: 1 });
        }
        true
    }
}
