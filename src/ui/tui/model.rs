//! All that the screen shows, and what keys do to it.
//!
//! Pure: fed with events, answers, snapshots and keys, each with its time; reads no clock and draws
//! nothing. Whoever drives carries out what [`Model::key`] returns. Invariant: everything in it is
//! bounded, however much comes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use ratatui::crossterm::event::KeyEvent;

use crate::engine::{Command, Event, Failure, NodeInfo, PeerInfo, Reply, TransferInfo};
use crate::ui::complete::{self, Tab as Completed};
use crate::ui::escape::{escape, escape_lines};
use crate::ui::known::Known;
use crate::ui::parse::{Parsed, parse};
use crate::ui::progress::{Meter, Rates};
use crate::ui::render::Asked;
use crate::ui::session::{About, Said};
use crate::ui::style::{Paint, Style};

use super::keys::{Action, action};
use super::line::{Edit, InputLine};
use super::popups::{Popups, Question};
use super::tabs::{Peer, Presence, Tabs, Who};
use super::text::lines_of;

/// Lines of which it is known where they were typed. No more than some run at once.
const PLACES: usize = 256;

/// What stands before a command where a message is expected.
const COMMAND: char = '/';

/// What whoever drives has to do about a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Nothing,
    /// Give these lines to the node, and keep that one for another day.
    Lines(Vec<String>, Option<String>),
    /// Find out what fits, and give it to [`Model::completed`].
    Complete(String),
    Interrupt,
    End,
    Suspend,
    Redraw,
}

/// A connected peer and how fast it is.
#[derive(Debug)]
pub(super) struct PeerRow {
    pub(super) info: PeerInfo,
    pub(super) up: u64,
    pub(super) down: u64,
}

/// A transfer and how fast it goes.
#[derive(Debug)]
pub(super) struct TransferRow {
    pub(super) info: TransferInfo,
    pub(super) rate: Option<u64>,
}

/// How large the window is in which the conversation is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) columns: usize,
    pub(super) rows: usize,
}

/// The state of the screen.
pub(super) struct Model {
    pub(super) known: Known,
    pub(super) style: Style,
    pub(super) listening: Option<SocketAddr>,
    pub(super) node: Option<NodeInfo>,
    pub(super) peers: Vec<PeerRow>,
    meters: BTreeMap<SocketAddr, [Meter; 2]>,
    pub(super) transfers: Vec<TransferRow>,
    pub(super) tabs: Tabs,
    pub(super) line: InputLine,
    pub(super) popups: Popups,
    /// How far the help is scrolled, while it is seen.
    pub(super) help: Option<usize>,
    /// What could stand where the cursor is.
    pub(super) choices: Option<String>,
    seen: Seen,
    /// How many lines were given to the node, and in whose tab they were typed.
    lines: u64,
    places: BTreeMap<u64, Option<Who>>,
}

impl Model {
    pub(super) fn new(known: Known, style: Style, line: InputLine) -> Self {
        let seen = Seen { columns: 80, rows: 10 };
        Self {
            known,
            style,
            listening: None,
            node: None,
            peers: Vec::new(),
            meters: BTreeMap::new(),
            transfers: Vec::new(),
            tabs: Tabs::new(seen.columns),
            line,
            popups: Popups::default(),
            help: None,
            choices: None,
            seen,
            lines: 0,
            places: BTreeMap::new(),
        }
    }

    /// Takes what happened, before it is said.
    pub(super) fn event(&mut self, now: Instant, event: &Event) {
        self.popups.event(now, event);
        match event {
            Event::Listening { addr } => self.listening = Some(*addr),
            Event::PeerConnected { peer, dialled, node_id, alias, .. } => {
                let name = match (alias, dialled) {
                    (Some(alias), _) => alias.to_string(),
                    (None, Some(dialled)) => dialled.to_string(),
                    (None, None) => peer.to_string(),
                };
                self.tabs.connected(Who::of(*peer, *node_id), *peer, &name);
            }
            Event::PeerNamed { peer, alias } => {
                let name = alias.as_ref().map_or_else(|| peer.to_string(), ToString::to_string);
                self.tabs.named(*peer, &name);
            }
            Event::PeerDisconnected { peer, is_waited_for, .. } => {
                self.tabs.disconnected(*peer, *is_waited_for);
            }
            Event::Message { peer, .. } => self.talked(*peer, true),
            Event::Offer { peer, expires_in: Some(_), .. } => self.talked(*peer, true),
            _ => {}
        }
    }

    fn talked(&mut self, peer: SocketAddr, is_news: bool) {
        if let Some(who) = self.tabs.who(peer) {
            self.tabs.talked(who, is_news);
        }
    }

    /// Takes something to be shown.
    pub(super) fn said(&mut self, said: &Said) {
        let who = match said.about {
            About::Node => None,
            About::Line(line) => self.places.get(&line).copied().flatten(),
            About::Peer(addr) => self.tabs.who(addr),
        };
        self.tabs.push(lines_of(&said.text), who.as_slice());
    }

    /// Takes a line of the log.
    pub(super) fn logged(&mut self, line: &str) {
        self.tabs.push(lines_of(line), &[]);
    }

    /// Takes the answer to a command, before it is said.
    pub(super) fn answered(&mut self, now: Instant, asked: &Asked, answer: &Result<Reply, Failure>) {
        match (answer, &asked.command) {
            (Ok(Reply::Accepted(ids) | Reply::Rejected(ids)), _) => self.popups.offers_over(now, ids),
            (Ok(Reply::TextQueued { peers }), Command::SendText(_, text)) => {
                let whom = peers.first().map_or_else(String::new, |peer| self.known.name_of(*peer));
                self.say_own(peers, &whom, text);
            }
            (Ok(Reply::TextQueued { peers }), Command::Broadcast(text)) => self.say_own(peers, "all", text),
            (Ok(_), Command::SendText(to, text)) => {
                let place = self.places.get(&asked.line).copied().flatten();
                let speaker = self.style.paint(Paint::Speaker, &format!("<you → {to}>"));
                let lines = lines_of(&format!("{speaker} {}", escape_lines(text)));
                self.tabs.push(lines, place.as_slice());
            }
            _ => {}
        }
    }

    /// What a peer is called, also one that is away.
    pub(super) fn name_of(&self, addr: SocketAddr) -> String {
        let away = self.tabs.peers().find(|peer| peer.addr == addr && peer.presence != Presence::Connected);
        away.map_or_else(|| self.known.name_of(addr), |peer| peer.name.clone())
    }

    /// Shows what this side said.
    fn say_own(&mut self, peers: &[SocketAddr], whom: &str, text: &str) {
        let text = escape_lines(text);
        let worded =
            |speaker: &str| lines_of(&format!("{} {text}", self.style.paint(Paint::Speaker, speaker)));
        let (everywhere, there) = (worded(&format!("<you → {whom}>")), worded("<you>"));
        self.tabs.push_to(everywhere, None);
        let who: Vec<_> = peers.iter().filter_map(|peer| self.tabs.who(*peer)).collect();
        for who in who {
            self.tabs.talked(who, false);
            self.tabs.push_to(there.clone(), Some(who));
        }
    }

    /// Takes the list of the peers.
    pub(super) fn peers(&mut self, now: Instant, peers: &[PeerInfo]) {
        self.meters.retain(|addr, _| peers.iter().any(|info| info.peer == *addr));
        let row = |info: &PeerInfo| {
            let [up, down] = self.meters.entry(info.peer).or_default();
            up.sample(now, info.bytes_sent);
            down.sample(now, info.bytes_received);
            PeerRow {
                up: up.rate(now, info.bytes_sent).unwrap_or(0),
                down: down.rate(now, info.bytes_received).unwrap_or(0),
                info: info.clone(),
            }
        };
        self.peers = peers.iter().map(row).collect();
    }

    /// Takes the list of the transfers.
    pub(super) fn transfers(&mut self, transfers: &[TransferInfo], rates: &Rates) {
        let row =
            |info: &TransferInfo| TransferRow { rate: rates.get(&info.id).copied(), info: info.clone() };
        self.transfers = transfers.iter().map(row).collect();
    }

    /// Takes what the node says of itself.
    pub(super) fn whoami(&mut self, node: &NodeInfo) {
        self.node = Some(node.clone());
    }

    /// Takes how large the window was that was drawn.
    pub(super) fn drawn(&mut self, seen: Seen) {
        self.seen = seen;
        self.tabs.resize(seen.columns);
    }

    /// What a pasted text does: it is put in at the cursor, and no line of it is taken for Enter.
    pub(super) fn paste(&mut self, text: &str) {
        self.choices = None;
        self.line.insert(&text.replace("\r\n", "\n").replace('\r', "\n"));
    }

    /// What a key does.
    pub(super) fn key(&mut self, now: Instant, key: KeyEvent) -> Effect {
        let Some(action) = action(key) else { return Effect::Nothing };
        if self.help.is_some() {
            return self.key_in_help(action);
        }
        let had_choices = self.choices.take().is_some();
        match action {
            Action::Edit(Edit::Insert('?')) if self.line.is_empty() => self.help = Some(0),
            Action::Edit(Edit::Right) if self.line.cursor() == self.line.text().len() => self.take_hint(),
            Action::Edit(edit) => self.line.edit(edit),
            Action::Enter => return self.enter(),
            Action::Complete => return self.command_typed().map_or(Effect::Nothing, Effect::Complete),
            Action::NextTab => self.tabs.turn(true),
            Action::PreviousTab => self.tabs.turn(false),
            Action::Tab(index) => self.tabs.show(index),
            Action::Older => self.line.older(),
            Action::Newer => self.line.newer(),
            Action::Search => self.line.search(),
            Action::ScrollUp => self.tabs.scroll(true, self.seen.rows),
            Action::ScrollDown => self.tabs.scroll(false, self.seen.rows),
            Action::Yes => return self.answer(now, true),
            Action::No => return self.answer(now, false),
            Action::Later => {
                if !had_choices && !self.popups.later() {
                    self.tabs.scroll_to_end();
                }
            }
            Action::Questions => self.popups.again(now),
            Action::Help => self.help = Some(0),
            Action::Redraw => return Effect::Redraw,
            Action::Interrupt => return Effect::Interrupt,
            Action::EndOrDelete if self.line.is_empty() => return Effect::End,
            Action::EndOrDelete => self.line.edit(Edit::Delete),
            Action::Suspend => return Effect::Suspend,
        }
        Effect::Nothing
    }

    fn key_in_help(&mut self, action: Action) -> Effect {
        let scroll = self.help.unwrap_or(0);
        match action {
            Action::Older => self.help = Some(scroll.saturating_sub(1)),
            Action::ScrollUp => self.help = Some(scroll.saturating_sub(5)),
            Action::Newer => self.help = Some(scroll + 1),
            Action::ScrollDown => self.help = Some(scroll + 5),
            Action::Interrupt => return Effect::Interrupt,
            Action::Suspend => return Effect::Suspend,
            Action::Redraw => return Effect::Redraw,
            _ => self.help = None,
        }
        Effect::Nothing
    }

    fn enter(&mut self) -> Effect {
        self.tabs.scroll_to_end();
        let typed = self.line.take();
        let line = match self.tabs.current().peer.as_ref() {
            _ if typed.trim().is_empty() => return Effect::Nothing,
            Some(peer) if !typed.starts_with(COMMAND) => format!("send {} {typed}", command_name(peer)),
            _ => typed.strip_prefix(COMMAND).unwrap_or(&typed).to_owned(),
        };
        // What is said to somebody is shown when it is on its way.
        let is_said =
            matches!(parse(&line), Ok(Parsed::Run(_, Command::SendText(..) | Command::Broadcast(_))));
        if !is_said {
            let echo = self.style.paint(Paint::Faint, &format!("> {}", escape(&line)));
            self.tabs.push(lines_of(&echo), self.tabs.current_who().as_slice());
        }
        let kept = if typed.starts_with(' ') { None } else { Some(line.clone()) };
        self.give(vec![line], kept)
    }

    /// Says which lines are to be given to the node, remembering where they were typed.
    fn give(&mut self, lines: Vec<String>, kept: Option<String>) -> Effect {
        for _ in &lines {
            self.lines += 1;
            self.places.insert(self.lines, self.tabs.current_who());
        }
        while self.places.len() > PLACES {
            self.places.pop_first();
        }
        Effect::Lines(lines, kept)
    }

    fn answer(&mut self, now: Instant, yes: bool) -> Effect {
        let lines = match (self.popups.answered(now), yes) {
            (Some(Question::Offer { id, .. }), true) => vec![format!("accept {id}")],
            (Some(Question::Offer { id, .. }), false) => vec![format!("reject {id}")],
            (Some(Question::FirstContact { peer, dialled, .. }), false) => {
                vec![format!("disconnect {peer}"), format!("forget {dialled}")]
            }
            (Some(Question::FirstContact { .. }), true) | (None, _) => return Effect::Nothing,
        };
        self.give(lines, None)
    }

    /// The command as far as it is typed before the cursor, if it is to be one.
    fn command_typed(&self) -> Option<String> {
        let typed = &self.line.text()[..self.line.cursor()];
        match typed.strip_prefix(COMMAND) {
            Some(command) => Some(command.to_owned()),
            None => self.tabs.current().peer.is_none().then(|| typed.to_owned()),
        }
    }

    /// Takes what fits that command.
    pub(super) fn completed(&mut self, command: &str, completed: Completed) {
        // Whoever went on typing meanwhile does not want it any more.
        if self.command_typed().as_deref() != Some(command) {
            return;
        }
        match completed {
            Completed::Nothing => {}
            Completed::Insert(start, text) => {
                let skipped = self.line.cursor() - command.len();
                self.line.complete(start + skipped, &text);
            }
            Completed::List(list) => self.choices = Some(list),
        }
    }

    /// What could follow what is typed.
    pub(super) fn hint(&self) -> Option<complete::Hint> {
        let text = self.line.text();
        let command = self.command_typed().filter(|_| self.line.cursor() == text.len())?;
        if self.style.is_coloured() && !text.contains('\n') { complete::hint(&command) } else { None }
    }

    fn take_hint(&mut self) {
        if let Some(hint) = self.hint() {
            self.line.insert(&hint.shown[..hint.taken]);
        }
    }
}

/// What names a peer in commands and nobody else.
fn command_name(peer: &Peer) -> String {
    match (peer.presence, peer.who) {
        (Presence::Connected, _) | (_, Who::Somebody(_)) => peer.addr.to_string(),
        (Presence::Expected | Presence::Gone, Who::Known(id)) => id.to_string(),
    }
}

#[cfg(test)]
mod tests;
