//! Finding others in a distributed hash table: where contents are announced, and looked up.
//!
//! A [`Network`] is entered, and who is in it is a [`Finder`]. The real one is the BitTorrent DHT
//! ([`Mainline`]), the other one is in memory. [`Desk`] says what is wanted, and [`attend`] sees to it: when
//! something is announced again, how much goes on at once, and what is done when nobody answers.
//! What is found is a hint and nothing more; who it is, and whether it is dialled, is decided elsewhere.

mod desk;
mod driver;
mod mainline;
#[cfg(test)]
mod memory;

use std::net::{IpAddr, SocketAddr, SocketAddrV4};

use futures_lite::Stream;

pub(crate) use desk::Desk;
pub(crate) use driver::attend;
pub use mainline::Bootstrap;
pub(crate) use mainline::{Mainline, free_port};

use crate::wire::DhtKey;

/// A distributed hash table that may be entered.
pub(crate) trait Network: Send + Sync + 'static {
    /// Who is in it.
    type Finder: Finder;

    /// Enters it, as somebody who was never there. Takes as long as it takes to know whether anybody is there.
    fn join(&self) -> impl Future<Output = Result<Joined<Self::Finder>, NotJoined>> + Send;

    /// Keeps in mind who is there, for the next time.
    fn remember(&self, nodes: Vec<SocketAddrV4>) -> impl Future<Output = ()> + Send;
}

/// Who has entered.
pub(crate) struct Joined<F> {
    pub(crate) finder: F,
    /// Of those by whom it came in, the address that can be reached from farthest away.
    pub(crate) entry: IpAddr,
    /// It is the first, and nobody else need be there.
    pub(crate) is_first: bool,
}

/// Why a network cannot be entered, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the DHT cannot be reached: {0}")]
pub(crate) struct NotJoined(pub(crate) String);

/// Nobody took what was announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotAnnounced;

/// Takes part in a distributed hash table until it is dropped.
///
/// There is no taking back: what is not announced again lapses (BEP 5), within half an hour where most
/// programs are concerned.
pub(crate) trait Finder: Clone + Send + Sync + 'static {
    /// Tells those who keep the key that it can be had from this machine at a TCP port.
    fn announce(&self, key: DhtKey, port: u16) -> impl Future<Output = Result<(), NotAnnounced>> + Send;

    /// Asks for addresses under the key. They come as they are found, one answer of one node at a time.
    fn look_up(&self, key: DhtKey) -> impl Stream<Item = Vec<SocketAddr>> + Send + Unpin;

    /// Who is known there.
    fn nodes(&self) -> impl Future<Output = Vec<SocketAddrV4>> + Send;
}
