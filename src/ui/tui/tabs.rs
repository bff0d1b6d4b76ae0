//! The conversations: a tab for each peer, and one in which everything stands.
//!
//! Invariants: everything that is shown is in the first tab; how much is kept of each tab, and how many
//! there are, is bounded; who scrolled back goes on seeing what they see, whatever comes.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use ratatui::text::Line;

use crate::wire::NodeId;

use super::text::folded;

/// Things that are kept of one tab, and their bytes.
const ITEMS: usize = 4096;
const BYTES: usize = 2 << 20;

/// Tabs at most.
const TABS: usize = 64;

/// Whom a tab is about. A peer that connects anew is the same, where it can be known who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Who {
    Known(NodeId),
    Somebody(SocketAddr),
}

impl Who {
    pub(super) fn of(addr: SocketAddr, node_id: Option<NodeId>) -> Self {
        node_id.map_or(Self::Somebody(addr), Self::Known)
    }
}

/// Whether a peer is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    Connected,
    /// Its connection broke, and it is expected back.
    Expected,
    Gone,
}

/// The tab of a peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) who: Who,
    /// The address of its last connection.
    pub(super) addr: SocketAddr,
    pub(super) name: String,
    pub(super) presence: Presence,
    /// Whether it said something, or something was said to it.
    has_talked: bool,
}

/// A conversation.
#[derive(Debug)]
pub(super) struct Tab {
    /// `None` for the tab in which everything stands.
    pub(super) peer: Option<Peer>,
    items: VecDeque<Item>,
    bytes: usize,
    /// What came that was not seen.
    pub(super) unread: usize,
    /// How many rows the last one that is seen is above the last one there is.
    scroll: usize,
}

/// Something that was shown: lines, which the tabs that have it share.
type Item = Arc<[Line<'static>]>;

impl Tab {
    fn new(peer: Option<Peer>) -> Self {
        Self { peer, items: VecDeque::new(), bytes: 0, unread: 0, scroll: 0 }
    }

    fn push(&mut self, item: Item, columns: usize) {
        if self.scroll > 0 {
            self.scroll += item.iter().map(|line| folded(line, columns).len()).sum::<usize>();
        }
        self.bytes += cost(&item);
        self.items.push_back(item);
        while self.items.len() > ITEMS || self.bytes > BYTES && self.items.len() > 1 {
            let Some(first) = self.items.pop_front() else { break };
            self.bytes -= cost(&first);
        }
    }

    /// The rows that a window of that size shows, from above, and how far it could be scrolled.
    pub(super) fn rows(&self, columns: usize, rows: usize) -> (Vec<Line<'static>>, usize) {
        let wanted = self.scroll + rows;
        let mut upwards = Vec::new();
        'items: for item in self.items.iter().rev() {
            for line in item.iter().rev() {
                upwards.extend(folded(line, columns).into_iter().rev());
                if upwards.len() >= wanted {
                    break 'items;
                }
            }
        }
        let scroll = self.scroll.min(upwards.len().saturating_sub(rows));
        let seen = upwards.into_iter().skip(scroll).take(rows);
        let mut seen: Vec<_> = seen.collect();
        seen.reverse();
        (seen, scroll)
    }

    /// Whether what came last is out of sight.
    pub(super) fn is_scrolled(&self) -> bool {
        self.scroll > 0
    }
}

fn cost(item: &Item) -> usize {
    let line = |line: &Line<'_>| 64 + line.spans.iter().map(|span| span.content.len() + 64).sum::<usize>();
    item.iter().map(line).sum()
}

/// All tabs.
#[derive(Debug)]
pub(super) struct Tabs {
    tabs: Vec<Tab>,
    current: usize,
    /// How wide the window is in which they are seen.
    columns: usize,
}

impl Tabs {
    pub(super) fn new(columns: usize) -> Self {
        Self { tabs: vec![Tab::new(None)], current: 0, columns }
    }

    pub(super) fn all(&self) -> &[Tab] {
        &self.tabs
    }

    pub(super) fn current(&self) -> &Tab {
        &self.tabs[self.current]
    }

    pub(super) fn current_index(&self) -> usize {
        self.current
    }

    /// Whom the tab is about that is seen.
    pub(super) fn current_who(&self) -> Option<Who> {
        self.current().peer.as_ref().map(|peer| peer.who)
    }

    /// The peers that have tabs.
    pub(super) fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.tabs.iter().filter_map(|tab| tab.peer.as_ref())
    }

    /// Whom a connection belongs to.
    pub(super) fn who(&self, addr: SocketAddr) -> Option<Who> {
        let is_there = |peer: &&Peer| peer.addr == addr && peer.presence == Presence::Connected;
        let mut any = self.peers().filter(|peer| peer.addr == addr);
        self.peers().find(is_there).or_else(|| any.next()).map(|peer| peer.who)
    }

    /// A peer is there.
    pub(super) fn connected(&mut self, who: Who, addr: SocketAddr, name: &str) {
        if let Some(peer) = self.peer_mut(who) {
            (peer.addr, peer.presence) = (addr, Presence::Connected);
            name.clone_into(&mut peer.name);
            return;
        }
        if self.tabs.len() >= TABS && !self.make_room() {
            return;
        }
        let peer =
            Peer { who, addr, name: name.to_owned(), presence: Presence::Connected, has_talked: false };
        self.tabs.push(Tab::new(Some(peer)));
    }

    /// A connection is gone. A tab in which nobody said anything goes with it.
    pub(super) fn disconnected(&mut self, addr: SocketAddr, is_expected: bool) {
        let current = self.current;
        let found = self.tabs.iter().position(|tab| tab.peer.as_ref().is_some_and(|peer| peer.addr == addr));
        let Some(index) = found else { return };
        let Some(peer) = &mut self.tabs[index].peer else { return };
        peer.presence = if is_expected { Presence::Expected } else { Presence::Gone };
        if !is_expected && !peer.has_talked && index != current {
            self.remove(index);
        }
    }

    /// A peer is called something else.
    pub(super) fn named(&mut self, addr: SocketAddr, name: &str) {
        if let Some(peer) = self.who(addr).and_then(|who| self.peer_mut(who)) {
            name.clone_into(&mut peer.name);
        }
    }

    /// Shows something: in the first tab, and in those of these peers.
    pub(super) fn push(&mut self, lines: Vec<Line<'static>>, whose: &[Who]) {
        let item: Item = lines.into();
        for tab in &mut self.tabs {
            if tab.peer.as_ref().is_none_or(|peer| whose.contains(&peer.who)) {
                tab.push(Arc::clone(&item), self.columns);
            }
        }
    }

    /// Shows something in the tab of one peer and nowhere else, because it is worded for there.
    pub(super) fn push_to(&mut self, lines: Vec<Line<'static>>, whose: Option<Who>) {
        let item: Item = lines.into();
        let tab = self.tabs.iter_mut().find(|tab| tab.peer.as_ref().map(|peer| peer.who) == whose);
        if let Some(tab) = tab {
            tab.push(item, self.columns);
        }
    }

    /// Somebody said something to this side, or the other way.
    pub(super) fn talked(&mut self, who: Who, is_news: bool) {
        let is_seen = self.current_who() == Some(who);
        let tab = self.tabs.iter_mut().find(|tab| tab.peer.as_ref().is_some_and(|peer| peer.who == who));
        if let Some((tab, peer)) = tab.and_then(|tab| Some((&mut tab.unread, tab.peer.as_mut()?))) {
            peer.has_talked = true;
            *tab += usize::from(is_news && !is_seen);
        }
    }

    /// Goes some tabs to the right, or to the left, round and round.
    pub(super) fn turn(&mut self, forwards: bool) {
        let tabs = self.tabs.len();
        self.show(if forwards { (self.current + 1) % tabs } else { (self.current + tabs - 1) % tabs });
    }

    /// Shows one of them, if there are so many.
    pub(super) fn show(&mut self, index: usize) {
        if let Some(tab) = self.tabs.get_mut(index) {
            tab.unread = 0;
            self.current = index;
        }
    }

    /// Scrolls up or down by half of a window.
    pub(super) fn scroll(&mut self, up: bool, rows: usize) {
        let (by, columns) = ((rows / 2).max(1), self.columns);
        let tab = &mut self.tabs[self.current];
        let scroll = if up { tab.scroll + by } else { tab.scroll.saturating_sub(by) };
        tab.scroll = scroll;
        tab.scroll = tab.rows(columns, rows).1;
    }

    /// Forgets how far it was scrolled.
    pub(super) fn scroll_to_end(&mut self) {
        self.tabs[self.current].scroll = 0;
    }

    /// The window has other columns.
    pub(super) fn resize(&mut self, columns: usize) {
        if self.columns != columns {
            self.columns = columns;
            // Which row was seen has no meaning any more.
            self.tabs.iter_mut().for_each(|tab| tab.scroll = 0);
        }
    }

    fn peer_mut(&mut self, who: Who) -> Option<&mut Peer> {
        self.tabs.iter_mut().filter_map(|tab| tab.peer.as_mut()).find(|peer| peer.who == who)
    }

    /// The oldest tab of somebody who is gone gives way.
    fn make_room(&mut self) -> bool {
        let current = self.current;
        let is_over = |(index, tab): &(usize, &Tab)| {
            *index != current && tab.peer.as_ref().is_some_and(|peer| peer.presence == Presence::Gone)
        };
        let Some((index, _)) = self.tabs.iter().enumerate().find(is_over) else { return false };
        self.remove(index);
        true
    }

    fn remove(&mut self, index: usize) {
        self.tabs.remove(index);
        self.current -= usize::from(index < self.current);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::tui::text::lines_of;

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 5], port))
    }

    fn shown(tabs: &Tabs, rows: usize) -> Vec<String> {
        tabs.current().rows(20, rows).0.iter().map(ToString::to_string).collect()
    }

    fn say(tabs: &mut Tabs, text: &str, who: &[Who]) {
        tabs.push(lines_of(text), who);
    }

    #[test]
    fn everything_is_in_the_first_tab_and_what_a_peer_said_in_its_own() {
        let (bob, carol) = (Who::Known(NodeId([7; 32])), Who::Somebody(addr(2)));
        let mut tabs = Tabs::new(20);
        tabs.connected(bob, addr(1), "bob");
        tabs.connected(carol, addr(2), "carol");
        say(&mut tabs, "from bob", &[bob]);
        say(&mut tabs, "from the node", &[]);
        tabs.talked(bob, true);
        assert_eq!(shown(&tabs, 9), ["from bob", "from the node"]);
        assert_eq!(tabs.all()[1].unread, 1);
        tabs.turn(true);
        assert_eq!((shown(&tabs, 9), tabs.all()[1].unread), (vec!["from bob".to_owned()], 0));
        tabs.turn(true);
        assert!(shown(&tabs, 9).is_empty());
        tabs.turn(true);
        tabs.turn(false);
        assert_eq!(tabs.current_who(), Some(carol));
        tabs.show(99);
        assert_eq!(tabs.current_who(), Some(carol));
    }

    #[test]
    fn who_comes_back_goes_on_in_the_same_tab_and_who_said_nothing_leaves_none() {
        let (bob, carol) = (Who::Known(NodeId([7; 32])), Who::Somebody(addr(2)));
        let mut tabs = Tabs::new(20);
        tabs.connected(bob, addr(1), "bob");
        tabs.connected(carol, addr(2), "carol");
        tabs.talked(bob, true);
        tabs.disconnected(addr(1), false);
        tabs.disconnected(addr(2), false);
        assert_eq!(tabs.peers().map(|peer| peer.presence).collect::<Vec<_>>(), [Presence::Gone]);
        tabs.connected(bob, addr(9), "bob");
        assert_eq!(tabs.who(addr(9)), Some(bob));
        assert_eq!(tabs.all().len(), 2);
    }

    #[test]
    fn who_scrolled_back_goes_on_seeing_what_they_see() {
        let mut tabs = Tabs::new(20);
        for number in 0..50 {
            say(&mut tabs, &number.to_string(), &[]);
        }
        assert_eq!(shown(&tabs, 4), ["46", "47", "48", "49"]);
        tabs.scroll(true, 4);
        assert_eq!(shown(&tabs, 4), ["44", "45", "46", "47"]);
        say(&mut tabs, "one that takes two rows", &[]);
        assert_eq!(shown(&tabs, 4), ["44", "45", "46", "47"]);
        for _ in 0..99 {
            tabs.scroll(true, 4);
        }
        assert_eq!(shown(&tabs, 4), ["0", "1", "2", "3"]);
        tabs.scroll(false, 4);
        assert_eq!(shown(&tabs, 4), ["2", "3", "4", "5"]);
        tabs.scroll_to_end();
        assert_eq!(shown(&tabs, 2), ["one that takes two", "rows"]);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut tabs = Tabs::new(20);
        for number in 0..2 * ITEMS {
            say(&mut tabs, &number.to_string(), &[]);
        }
        assert!(tabs.current().items.len() <= ITEMS);
        let long = "x".repeat(BYTES / 4);
        (0..10).for_each(|_| say(&mut tabs, &long, &[]));
        assert!(tabs.current().bytes <= BYTES);
        say(&mut tabs, &"x".repeat(2 * BYTES), &[]);
        assert_eq!(tabs.current().items.len(), 1, "what came last is kept in any case");
        for port in 1..200 {
            tabs.connected(Who::Somebody(addr(port)), addr(port), "x");
            tabs.talked(Who::Somebody(addr(port)), true);
            tabs.disconnected(addr(port), false);
        }
        assert!(tabs.all().len() <= TABS && tabs.who(addr(199)).is_some());
    }
}
