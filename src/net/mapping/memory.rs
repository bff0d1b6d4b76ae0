//! A router in memory, for tests of what is made of one.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{Granted, NotMapped, Router};

#[derive(Clone, Default)]
pub(super) struct Memory(Arc<Mutex<State>>);

#[derive(Default)]
pub(super) struct State {
    /// Seconds for which it grants anything.
    pub(super) lifetime: u64,
    /// Where it says that others come in, where that is not an address of the internet.
    pub(super) external: Option<SocketAddr>,
    pub(super) refuses: bool,
    /// It never answers.
    pub(super) is_stuck: bool,
    /// When it was asked, and for which port.
    pub(super) asked: Vec<(Instant, u16)>,
    pub(super) taken_back: usize,
}

impl Memory {
    pub(super) fn granting(lifetime: u64) -> Self {
        let router = Self::default();
        router.with(|state| state.lifetime = lifetime);
        router
    }

    pub(super) fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Router for Memory {
    async fn map(&mut self, port: u16) -> Result<Granted, NotMapped> {
        let (lifetime, external, refuses, is_stuck) = self.with(|state| {
            state.asked.push((Instant::now(), port));
            (Duration::from_secs(state.lifetime), state.external, state.refuses, state.is_stuck)
        });
        if is_stuck {
            std::future::pending::<()>().await;
        }
        if refuses {
            return Err(NotMapped("not allowed".to_owned()));
        }
        let external = external.unwrap_or(SocketAddr::from(([11, 0, 0, 1], port)));
        Ok(Granted { external, lifetime, by: "memory" })
    }

    async fn unmap(&mut self) {
        if self.with(|state| state.is_stuck) {
            std::future::pending::<()>().await;
        }
        self.with(|state| state.taken_back += 1);
    }
}
