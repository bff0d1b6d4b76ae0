//! A network in memory, for tests of what is made of one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_lite::{Stream, stream};
use tokio::time::{Instant, sleep};

use super::{Finder, Joined, Network, NotAnnounced, NotJoined};
use crate::wire::DhtKey;

/// Everybody in it shares one.
#[derive(Clone, Default)]
pub(super) struct Memory(Arc<Mutex<State>>);

#[derive(Default)]
pub(super) struct State {
    /// Nobody answers.
    pub(super) is_away: bool,
    /// Who asks for anything panics.
    pub(super) is_broken: bool,
    /// How long an announcement takes.
    pub(super) takes: Duration,
    /// Every announcement that was ever made, and when.
    pub(super) announcements: Vec<(Instant, DhtKey)>,
    /// How many go on, and the most that ever did.
    pub(super) announcing: (usize, usize),
    pub(super) known: BTreeMap<DhtKey, BTreeSet<SocketAddr>>,
    /// How often it was entered, with or without success, and when.
    pub(super) entered: Vec<Instant>,
    pub(super) remembered: Vec<SocketAddrV4>,
}

impl Memory {
    pub(super) fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub(super) const NODE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 6881);

impl Network for Memory {
    type Finder = Self;

    async fn join(&self) -> Result<Joined<Self>, NotJoined> {
        let is_away = self.with(|state| {
            state.entered.push(Instant::now());
            state.is_away
        });
        match is_away {
            true => Err(NotJoined("nobody answers".to_owned())),
            false => {
                let entry = IpAddr::from(*NODE.ip());
                Ok(Joined { finder: self.clone(), entry, is_first: false })
            }
        }
    }

    async fn remember(&self, nodes: Vec<SocketAddrV4>) {
        self.with(|state| state.remembered = nodes);
    }
}

impl Finder for Memory {
    async fn announce(&self, key: DhtKey, port: u16) -> Result<(), NotAnnounced> {
        let takes = self.with(|state| {
            assert!(!state.is_broken, "the thread behind it has died");
            state.announcements.push((Instant::now(), key));
            state.announcing.0 += 1;
            state.announcing.1 = state.announcing.1.max(state.announcing.0);
            state.takes
        });
        sleep(takes).await;
        self.with(|state| {
            state.announcing.0 -= 1;
            if state.is_away {
                return Err(NotAnnounced);
            }
            state.known.entry(key).or_default().insert((Ipv4Addr::LOCALHOST, port).into());
            Ok(())
        })
    }

    fn look_up(&self, key: DhtKey) -> impl Stream<Item = Vec<SocketAddr>> + Send + Unpin {
        let known = self.with(|state| {
            assert!(!state.is_broken, "the thread behind it has died");
            state.known.get(&key).cloned()
        });
        stream::iter(known.map(|addrs| addrs.into_iter().collect()))
    }

    async fn nodes(&self) -> Vec<SocketAddrV4> {
        self.with(|state| if state.is_away { Vec::new() } else { vec![NODE] })
    }
}
