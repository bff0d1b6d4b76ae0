//! Commands, and their answers.

use std::path::PathBuf;

use super::downloads::{Download, State, leftover_info};
use super::reconnect::Ending;
use super::{
    Alias, Banned, Change, Code, Command, CommandId, ConnId, Delivery, Destination, Dialled, Direction,
    Engine, Event, Failure, Job, LimitsInfo, NodeInfo, Output, Peer, PeerInfo, PeerRef, Purpose, Rate, Reply,
    Selection, Target, TransferId,
};
use crate::wire::{NodeId, SafeName};

/// Sources that are listed of one transfer, beside those who delivered something.
const MOST_SOURCES: usize = 64;

impl Engine {
    pub(super) fn on_command(&mut self, id: CommandId, command: Command) {
        let result = match command {
            Command::Connect(Destination::Place(target)) => return self.connect(id, target),
            Command::Connect(Destination::Person(name)) => return self.connect_to(id, name),
            Command::ConnectVia { peer, via } => return self.connect_via(id, &peer, &via),
            Command::Wait => return self.waiting.push(id),
            Command::Trust(peer) => return self.trust(id, &peer),
            Command::Alias(peer, alias) => return self.name_peer(id, &peer, alias),
            Command::Forget(peer) => return self.forget(id, peer),
            Command::Share { path, known_only, is_kept } => return self.share(id, path, known_only, is_kept),
            Command::Ban(peer) => return self.ban(id, &peer),
            Command::Unban(peer) => return self.unban(id, &peer),
            Command::Bans => Ok(Reply::Bans(self.bans())),
            Command::Limit { direction, rate, peer } => self.limit_rate(direction, rate, peer.as_ref()),
            Command::Limits => Ok(Reply::Limits(self.limits_info())),
            Command::Unshare(what) => self.unshare(&what),
            Command::Shares => Ok(Reply::Shares(self.share_infos())),
            Command::Get(link) => self.get(*link),
            Command::Disconnect(peer) => self.disconnect(&peer),
            Command::SendText(peer, text) => return self.send_text(id, &peer, text),
            Command::SendFile { to, path, name } => return self.send_file(id, &to, path, name),
            Command::Outbox => return self.list_outbox(id),
            Command::Withdraw(which) => self.withdraw(which),
            Command::Broadcast(text) => self.broadcast(&text),
            Command::Peers => Ok(Reply::Peers(self.peer_infos())),
            Command::Nearby => self.nearby_infos(),
            Command::Transfers => Ok(Reply::Transfers(self.transfer_infos())),
            Command::History { peer, only, most } => {
                return self.read_history(id, peer.as_ref(), only, most);
            }
            Command::Whoami => Ok(Reply::Whoami(self.node_info())),
            Command::Book => Ok(Reply::Book(self.book.clone())),
            Command::Accept(which) => self.accept_offers(which),
            Command::Reject(which) => self.reject_offers(which),
            Command::Cancel { id, discard } => self.cancel(id, discard),
            Command::StopAsking => {
                self.can_ask = false;
                let declined = Failure::new(Code::Declined, "nobody can be asked about it any more");
                for id in self.offers_awaiting_answer() {
                    self.fail_download(id, declined.clone());
                }
                Ok(Reply::Done)
            }
        };
        self.reply(id, result);
    }

    /// Answers those who wait until nothing runs, if nothing does. Offers that wait for somebody's
    /// decision do not count as running, nor does a peer that merely does not read.
    pub(super) fn answer_waiting(&mut self) {
        let busy = self.waiting.is_empty()
            || self.uploads.values().any(|upload| upload.answers.is_none())
            || !self.gets.is_empty()
            || self.shares.is_busy()
            || !self.dials.is_empty()
            || !self.seeks.is_empty()
            || self.circuits.are_awaited()
            || self.downloads.values().any(|download| !download.awaits_answer())
            || self.absent.texts() > 0
            || self.outbox_is_busy()
            || self.peers.iter().any(|(_, peer)| peer.texts.pending() > 0);
        if !busy {
            for command in std::mem::take(&mut self.waiting) {
                self.reply(command, Ok(Reply::Idle));
            }
        }
    }

    fn connect(&mut self, id: CommandId, target: Target) {
        let typed_addr = target.address.to_string().parse().ok();
        // Reached by another name it is there too, unless this name belongs to somebody else.
        let pinned = self.book.pins.get(&target.address).copied();
        let may_be_called_so = |peer: &Peer| pinned.is_none() || pinned == peer.node_id;
        let is_there = |peer: &Peer| {
            peer.dialled.as_ref().is_some_and(|typed| {
                *typed == target.address || (Some(peer.addr) == typed_addr && may_be_called_so(peer))
            })
        };
        let there = self.peers.iter().find(|(_, peer)| is_there(peer)).map(|(conn, _)| conn);
        if let Some(peer) = there.and_then(|conn| self.peers.get_mut(conn)) {
            if let (Some(wanted), Some(found)) = (target.id, peer.node_id)
                && wanted != found
            {
                let message =
                    format!("{} is connected already, and it is {found}, not {wanted}", target.address);
                self.reply(id, Err(Failure::new(Code::WrongIdentity, message)));
            } else if peer.is_usable() {
                let (peer, node_id) = (peer.addr, peer.node_id);
                self.reply(id, Ok(Reply::Connected { peer, node_id, already: true }));
            } else {
                peer.connecting.push(id);
            }
            return;
        }
        if let Some(waiting) = self.dials.get_mut(&target) {
            waiting.push(id);
        } else if self.dials.len() >= self.config.limits.dials {
            let message = format!("{} connections are being made already; try again soon", self.dials.len());
            self.reply(id, Err(Failure::new(Code::Busy, message)));
        } else {
            self.dials.insert(target.clone(), vec![id]);
            self.outputs.push_back(Output::Dial(Dialled { target, why: Purpose::Typed }));
        }
    }

    fn disconnect(&mut self, peer: &PeerRef) -> Result<Reply, Failure> {
        let conn = self.peers.resolve(peer, &self.book)?;
        let peer = self.peers.get(conn).expect("just resolved").addr;
        self.close_peer(conn, "disconnected by this side", Ending::Closed);
        Ok(Reply::Disconnected { peer })
    }

    fn send_text(&mut self, command: CommandId, peer: &PeerRef, text: String) {
        if let Err(failure) = self.check_text(&text) {
            return self.reply(command, Err(failure));
        }
        let result = match self.peers.resolve(peer, &self.book) {
            // What was said before is to be heard before.
            Ok(conn) if self.texts_wait_for(conn) => self.keep_behind(command, conn, text).map(|()| None),
            Ok(conn) => self.say_text(conn, text).map(Some),
            Err(failure) => self.keep_text(command, peer, text, failure).map(|()| None),
        };
        self.reply_if_known(command, result);
    }

    fn say_text(&mut self, conn: ConnId, text: String) -> Result<Reply, Failure> {
        self.is_meant(conn);
        let addr = self.peers.get(conn).expect("just resolved").addr;
        if !self.queue_text(conn, text) {
            let message = format!("{addr} does not read what is sent to it; try again later");
            return Err(Failure::new(Code::Busy, message));
        }
        Ok(Reply::TextQueued { peers: vec![addr] })
    }

    /// Answers a command unless that is done later.
    fn reply_if_known(&mut self, command: CommandId, result: Result<Option<Reply>, Failure>) {
        if let Some(result) = result.transpose() {
            self.reply(command, result);
        }
    }

    fn broadcast(&mut self, text: &str) -> Result<Reply, Failure> {
        self.check_text(text)?;
        let peers: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.is_usable())
            .map(|(conn, peer)| (conn, peer.addr))
            .collect();
        if peers.is_empty() {
            let message = "nobody is connected; `connect host:port` first";
            return Err(Failure::new(Code::UnknownPeer, message));
        }
        let mut reached = Vec::new();
        for (conn, peer) in peers {
            if self.queue_text(conn, text.to_owned()) {
                reached.push(peer);
            } else {
                self.event(Event::Undelivered { peer, texts: 1 });
            }
        }
        Ok(Reply::TextQueued { peers: reached })
    }

    fn check_text(&self, text: &str) -> Result<(), Failure> {
        let limit = self.config.limits.text_bytes;
        if text.len() <= limit {
            return Ok(());
        }
        let message =
            format!("a message has at most {limit} bytes, this one {}; send it as a file", text.len());
        Err(Failure::new(Code::TooLarge, message))
    }

    fn send_file(&mut self, command: CommandId, peer: &PeerRef, path: PathBuf, name: Option<SafeName>) {
        let result = match self.peers.resolve(peer, &self.book) {
            Ok(conn) => {
                self.is_meant(conn);
                self.start_upload(conn, path, name).map(Some)
            }
            Err(failure) => self.keep_file(command, peer, (path, name), failure).map(|()| None),
        };
        self.reply_if_known(command, result);
    }

    fn limit_rate(
        &mut self,
        direction: Direction,
        rate: Option<Rate>,
        peer: Option<&PeerRef>,
    ) -> Result<Reply, Failure> {
        let conn = peer.map(|peer| self.peers.resolve(peer, &self.book)).transpose()?;
        self.limit(direction, rate, conn);
        Ok(Reply::Limits(self.limits_info()))
    }

    fn limits_info(&self) -> LimitsInfo {
        let limited = self.peers.iter().map(|(_, peer)| (peer.addr, peer.up.rate(), peer.down.rate()));
        let limited = limited.filter(|(_, up, down)| up.is_some() || down.is_some());
        LimitsInfo { up: self.up.rate(), down: self.down.rate(), peers: limited.collect() }
    }

    fn trust(&mut self, command: CommandId, peer: &PeerRef) {
        let change = self.identity_of(peer).map(|id| (Change::Trust(id), Reply::Trusted(id)));
        self.change_book(command, change);
    }

    fn name_peer(&mut self, command: CommandId, peer: &PeerRef, alias: Alias) {
        let change =
            self.identity_of(peer).map(|id| (Change::Alias(id, alias.clone()), Reply::Named(id, alias)));
        self.change_book(command, change);
    }

    fn ban(&mut self, command: CommandId, peer: &PeerRef) {
        let now = self.unix_now();
        let found = self.identity_of(peer).and_then(|id| match self.config.node_id == Some(id) {
            true => Err(Failure::new(Code::Usage, "that is this node's own identity")),
            false => Ok(id),
        });
        if let Ok(id) = found {
            self.close_all_of(id, "banned by this side");
        }
        let change = found.map(|id| (Change::Ban(id, Banned::ForGood, now), Reply::Banned(id)));
        self.change_book(command, change);
    }

    fn unban(&mut self, command: CommandId, peer: &PeerRef) {
        // Somebody who is banned need not be known otherwise.
        let banned: Vec<_> = self.bans().into_iter().map(|ban| ban.node_id).collect();
        let text = peer.to_string().to_lowercase();
        let meant: Vec<_> = banned.into_iter().filter(|id| id.to_string().starts_with(&text)).collect();
        let found = match meant.as_slice() {
            [only] => Ok(*only),
            [] => self.identity_of(peer),
            _ => Err(Failure::new(
                Code::AmbiguousPeer,
                format!("`{peer}` is the beginning of several; write more"),
            )),
        };
        let change = found.map(|id| (Change::Unban(id), Reply::Unbanned(id)));
        self.change_book(command, change);
    }

    fn forget(&mut self, command: CommandId, peer: PeerRef) {
        let change = match &peer {
            PeerRef::Address(address) if self.book.pins.contains_key(address) => {
                Ok(Change::ForgetPin(address.clone()))
            }
            peer => self.identity_of(peer).map(Change::ForgetPeer),
        };
        self.change_book(command, change.map(|change| (change, Reply::Forgotten(peer))));
    }

    fn change_book(&mut self, command: CommandId, change: Result<(Change, Reply), Failure>) {
        match change {
            Ok((change, reply)) => self.outputs.push_back(Output::ChangeBook { command, change, reply }),
            Err(failure) => self.reply(command, Err(failure)),
        }
    }

    /// Whom a user means who need not be connected.
    pub(super) fn identity_of(&self, peer: &PeerRef) -> Result<NodeId, Failure> {
        if !self.is_secure() {
            let message = "under --plain nobody has an identity; start without it to know who is who";
            return Err(Failure::new(Code::UnknownIdentity, message));
        }
        self.who(peer)?.ok_or_else(|| {
            let message = format!(
                "`{peer}` is nobody known: name a peer that `peers` lists, an address once connected to, an alias, \
                 or a node id: 64 digits, or the first 16 of somebody connected or nearby"
            );
            Failure::new(Code::UnknownPeer, message)
        })
    }

    /// The same, `None` where that is nobody known.
    pub(super) fn who(&self, peer: &PeerRef) -> Result<Option<NodeId>, Failure> {
        self.peers.identity(peer, &self.book, self.nearby.ids())
    }

    fn accept_offers(&mut self, which: Selection) -> Result<Reply, Failure> {
        let ids = match which {
            Selection::One(id) => match self.downloads.get(&id) {
                // Accepted twice is accepted.
                Some(_) => vec![id],
                None => return Err(unknown_offer(id)),
            },
            Selection::All => self.offers_awaiting_answer(),
        };
        for &id in &ids {
            self.accept_offer(id);
        }
        Ok(Reply::Accepted(ids))
    }

    fn reject_offers(&mut self, which: Selection) -> Result<Reply, Failure> {
        let ids = match which {
            Selection::One(id) if self.downloads.get(&id).is_some_and(Download::awaits_answer) => vec![id],
            Selection::One(id) if self.downloads.contains_key(&id) => {
                let message = format!("[{id}] was accepted already; `cancel {id}` stops it");
                return Err(Failure::new(Code::UnknownTransfer, message));
            }
            Selection::One(id) => return Err(unknown_offer(id)),
            Selection::All => self.offers_awaiting_answer(),
        };
        let declined = Failure::new(Code::Declined, "a person did not want it");
        for &id in &ids {
            self.tell_refused(id, &declined);
            self.remember_unwanted(id, &declined);
            self.forget_download(id);
        }
        Ok(Reply::Rejected(ids))
    }

    fn offers_awaiting_answer(&self) -> Vec<TransferId> {
        self.downloads.iter().filter(|(_, download)| download.awaits_answer()).map(|(id, _)| *id).collect()
    }

    fn cancel(&mut self, id: TransferId, discard: bool) -> Result<Reply, Failure> {
        let cancelled = Failure::new(Code::Cancelled, "cancelled on this side");
        if self.fail_share(id, cancelled.clone()) {
            return Ok(Reply::Cancelled(id));
        }
        if self.uploads.contains_key(&id) {
            self.fail_upload(id, cancelled);
            return Ok(Reply::Cancelled(id));
        }
        if self.withdraw_one(id) {
            return Ok(Reply::Cancelled(id));
        }
        match self.downloads.get(&id).map(Download::state) {
            Some(State::Finishing) => {
                let message = format!("all of [{id}] has arrived; it is being put in place");
                Err(Failure::new(Code::UnknownTransfer, message))
            }
            Some(State::Asking) => {
                self.tell_refused(id, &cancelled);
                self.remember_unwanted(id, &cancelled);
                self.forget_download(id);
                Ok(Reply::Cancelled(id))
            }
            Some(State::CheckingSpace | State::Creating | State::Waiting | State::Receiving) => {
                if discard {
                    self.discard_download(id, cancelled);
                } else {
                    self.fail_download(id, cancelled);
                }
                Ok(Reply::Cancelled(id))
            }
            None if self.gets.contains_key(&id) => {
                self.fail_get(id, cancelled);
                Ok(Reply::Cancelled(id))
            }
            None => self.cancel_leftover(id, discard),
        }
    }

    fn cancel_leftover(&mut self, id: TransferId, discard: bool) -> Result<Reply, Failure> {
        if !self.leftovers.contains_key(&id) {
            let message = format!("no transfer has the number {id}; `transfers` lists them");
            return Err(Failure::new(Code::UnknownTransfer, message));
        }
        if !discard {
            let message = format!(
                "[{id}] is not running: it is what an earlier attempt left; `cancel {id} --discard` removes it"
            );
            return Err(Failure::new(Code::UnknownTransfer, message));
        }
        if let Some(left) = self.leftovers.remove(&id) {
            self.job(id, Job::DiscardPartial(left.key));
        }
        Ok(Reply::Cancelled(id))
    }

    fn peer_infos(&self) -> Vec<PeerInfo> {
        let info = |(_, peer): (ConnId, &Peer)| {
            Some(PeerInfo {
                peer: peer.addr,
                dialled: peer.dialled.clone(),
                node_id: peer.node_id,
                via: peer.via,
                alias: peer.node_id.and_then(|id| self.book.alias_of(id)).cloned(),
                trusted: peer.node_id.is_some_and(|id| self.book.is_trusted(id)),
                level: peer.level?,
                agent: peer.agent.clone(),
                connected_for: self.now.saturating_sub(peer.opened_at),
                bytes_sent: peer.bytes_sent,
                bytes_received: peer.bytes_received,
                record: peer.node_id.and_then(|id| self.book.record(id)).cloned(),
            })
        };
        self.peers.iter().filter(|(_, peer)| peer.is_usable()).filter_map(info).collect()
    }

    fn transfer_infos(&self) -> Vec<super::TransferInfo> {
        let uploads = self.uploads.iter().map(|(id, upload)| upload.info(*id));
        let downloads = self.downloads.iter().map(|(id, download)| self.download_info(*id, download));
        let leftovers = self.leftovers.iter().map(|(id, left)| leftover_info(*id, left));
        let searches = self.gets.iter().filter(|(id, _)| !self.downloads.contains_key(id));
        let searches = searches.map(|(id, get)| get.info(*id));
        let hashing = self.shares.hashing_infos();
        let mut all: Vec<_> =
            uploads.chain(downloads).chain(leftovers).chain(searches).chain(hashing).collect();
        all.sort_by_key(|info| info.id);
        all
    }

    /// A download with all who send it, also those who have not begun to.
    fn download_info(&self, id: TransferId, download: &Download) -> super::TransferInfo {
        let mut info = download.info(id);
        let conns = download.source_conns();
        let conns = if conns.is_empty() { download.conn.into_iter().collect() } else { conns };
        for peer in conns.into_iter().filter_map(|conn| self.peers.get(conn)).take(MOST_SOURCES) {
            let is_listed = info.sources.iter().any(|source| source.is_of(peer.addr, peer.node_id));
            if !is_listed && !info.cells.is_empty() {
                info.sources.push(Delivery::nothing(peer.addr, peer.node_id));
            }
        }
        let told = self.gets.get(&id).map(super::gets::Get::deliveries).unwrap_or_default();
        for source in &mut info.sources {
            if let Some(told) = told.iter().find(|told| told.is_of(source.peer, source.node_id)) {
                (source.wasted_bytes, source.bad_chunks) = (told.wasted_bytes, told.bad_chunks);
            }
        }
        info
    }

    fn node_info(&self) -> NodeInfo {
        NodeInfo {
            listening: self.config.listening,
            addresses: self.address_infos(),
            node_id: self.config.node_id,
            instance: self.config.instance,
            agent: self.config.agent.clone(),
            downloads: self.config.downloads.clone(),
            dht: self.dht_info(),
        }
    }
}

fn unknown_offer(id: TransferId) -> Failure {
    Failure::new(Code::UnknownTransfer, format!("no offer has the number {id}; `transfers` lists them"))
}
