//! A local network in memory, for tests of what is made of one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Heard, Lan, Myself, NotJoined, Presence};
use crate::engine::Sighting;

/// Everybody on it shares one.
#[derive(Clone, Default)]
pub(super) struct Memory(Arc<Mutex<State>>);

#[derive(Default)]
pub(super) struct State {
    /// Nobody can join.
    pub(super) is_away: bool,
    /// Who leaves waits for ever.
    pub(super) is_stuck: bool,
    /// When it was joined, with or without success.
    pub(super) joined: Vec<Instant>,
    pub(super) present: BTreeMap<String, mpsc::Sender<Heard>>,
}

/// Somebody's.
pub(super) struct Present {
    network: Memory,
    name: String,
    heard: mpsc::Receiver<Heard>,
}

/// What somebody says of itself.
pub(super) fn sighting(me: &Myself) -> Sighting {
    Sighting {
        name: me.instance.to_string(),
        node_id: me.node_id,
        instance: Some(me.instance),
        addrs: vec![SocketAddr::from(([10, 0, 0, 1], me.port))],
    }
}

impl Memory {
    pub(super) fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Somebody says something that everybody hears, so often.
    pub(super) fn say(&self, heard: &Heard, times: usize) {
        self.with(|state| {
            for sender in state.present.values() {
                (0..times).for_each(|_| sender.try_send(heard.clone()).expect("there is room"));
            }
        });
    }
}

impl Lan for Memory {
    type Presence = Present;

    async fn join(&self, me: &Myself) -> Result<Present, NotJoined> {
        let name = me.instance.to_string();
        let (sender, heard) = mpsc::channel(1024);
        let is_away = self.with(|state| {
            state.joined.push(Instant::now());
            state.is_away
        });
        if is_away {
            return Err(NotJoined("nobody answers".to_owned()));
        }
        self.say(&Heard::Seen(sighting(me)), 1);
        self.with(|state| state.present.insert(name.clone(), sender));
        Ok(Present { network: self.clone(), name, heard })
    }
}

impl Presence for Present {
    async fn next(&mut self) -> Option<Heard> {
        self.heard.recv().await
    }

    async fn leave(self) {
        if self.network.with(|state| state.is_stuck) {
            std::future::pending::<()>().await;
        }
        self.network.with(|state| state.present.remove(&self.name));
        self.network.say(&Heard::Gone(self.name), 1);
    }
}
