//! The BitTorrent DHT (BEP 5), or one of one's own that speaks the same. IPv4 only, as that DHT is.
//!
//! The `mainline` crate runs it on a thread of its own, which ends some 50 ms after its last handle is
//! dropped. Where that thread has died, every call panics: whoever calls does so in a task.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use futures_lite::{Stream, StreamExt as _};
use mainline::async_dht::AsyncDht;
use mainline::{DEFAULT_BOOTSTRAP_NODES, Dht, Id};
use tokio::net::lookup_host;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};

use super::{Finder, Joined, Network, NotAnnounced, NotJoined};
use crate::engine::{HostPort, farthest, is_public};
use crate::store::Home;
use crate::wire::DhtKey;

/// How long a name has to be resolved.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long it may take until anybody has answered. Of those asked first, each has two seconds.
const JOIN_TIMEOUT: Duration = Duration::from_secs(20);

/// Nodes to come in by. The crate asks all of them in every look-up as long as it knows fewer.
const ENTRIES: usize = 16;

/// How many of them may be nodes from the last time.
const REMEMBERED_ENTRIES: usize = 8;

/// How often, and how many times, it is tried to bind a port that the thread of an earlier visit has yet to
/// let go of.
const BIND_PAUSE: Duration = Duration::from_millis(100);
const BIND_TRIES: u32 = 20;

/// By whom to come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bootstrap {
    /// Those who are there for everybody.
    Public,
    /// Those of a network of one's own, and nobody else.
    Own(Vec<HostPort>),
    /// Nobody: this node is the first of a network.
    First,
}

/// The network, as this node can enter it.
#[derive(Debug, Clone)]
pub(crate) struct Mainline {
    /// Where to take part.
    pub(crate) socket: SocketAddrV4,
    /// Where others may reach this machine.
    pub(crate) here: IpAddr,
    pub(crate) bootstrap: Bootstrap,
    /// Where the nodes of the last time are kept.
    pub(crate) home: Home,
}

/// A free UDP port at an address: the one that is asked for, or where `or_any` another.
///
/// # Errors
/// Where it is taken, or may not be had.
pub(crate) fn free_port(address: Ipv4Addr, port: u16, or_any: bool) -> io::Result<u16> {
    let socket = match UdpSocket::bind((address, port)) {
        Err(_) if or_any => UdpSocket::bind((address, 0)),
        bound => bound,
    };
    Ok(socket?.local_addr()?.port())
}

impl Mainline {
    /// What tells this network from others.
    fn name(&self) -> String {
        match &self.bootstrap {
            Bootstrap::Public => "public".to_owned(),
            Bootstrap::First => "first".to_owned(),
            Bootstrap::Own(names) => {
                let mut names: Vec<_> = names.iter().map(ToString::to_string).collect();
                names.sort_unstable();
                names.join(" ")
            }
        }
    }

    fn bootstrap_names(&self) -> Vec<String> {
        match &self.bootstrap {
            Bootstrap::Public => DEFAULT_BOOTSTRAP_NODES.map(str::to_owned).to_vec(),
            Bootstrap::Own(names) => names.iter().map(ToString::to_string).collect(),
            Bootstrap::First => Vec::new(),
        }
    }

    /// The nodes of the last time, a few of them.
    async fn remembered(&self) -> Vec<SocketAddrV4> {
        let (home, name) = (self.home.clone(), self.name());
        let mut nodes = match spawn_blocking(move || home.dht_nodes(&name)).await {
            Ok(Ok(nodes)) => nodes,
            Ok(Err(error)) => {
                tracing::warn!("the nodes of the DHT that were known last time are not used: {error}");
                Vec::new()
            }
            Err(_) => Vec::new(),
        };
        // Others each time: some of them will have gone.
        let mut turn = [0; 2];
        if getrandom::fill(&mut turn).is_ok() && !nodes.is_empty() {
            let turn = usize::from(u16::from_be_bytes(turn)) % nodes.len();
            nodes.rotate_left(turn);
        }
        nodes.truncate(REMEMBERED_ENTRIES);
        nodes
    }

    async fn build(&self, entries: Vec<SocketAddrV4>, is_own: bool) -> Result<AsyncDht, NotJoined> {
        for _ in 0..BIND_TRIES {
            if free_port(*self.socket.ip(), self.socket.port(), false).is_ok() {
                break;
            }
            sleep(BIND_PAUSE).await;
        }
        let mut builder = Dht::builder();
        // Addresses, not names: the default nodes are asked only if they were asked for.
        builder.bootstrap(&entries).bind_address(*self.socket.ip()).port(self.socket.port());
        if is_own {
            // There may be nobody else to keep what is announced. In the public one the crate finds out
            // whether others can reach this node.
            builder.server_mode();
        }
        let built = spawn_blocking(move || builder.build()).await;
        let failed = |why: String| NotJoined(format!("UDP port {}: {why}", self.socket.port()));
        match built {
            Ok(Ok(dht)) => Ok(dht.as_async()),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed("it cannot be used".to_owned())),
        }
    }
}

impl Network for Mainline {
    type Finder = AsyncDht;

    async fn join(&self) -> Result<Joined<AsyncDht>, NotJoined> {
        let names = self.bootstrap_names();
        let is_first = names.is_empty();
        let mut entries = resolve(names).await;
        entries.retain(|entry| *entry != self.socket);
        entries.truncate(ENTRIES - REMEMBERED_ENTRIES);
        // What the names stand for says what kind of network it is; of those remembered nobody knows.
        let entry =
            if is_first { Some(self.here) } else { farthest(entries.iter().map(|e| (*e.ip()).into())) };
        let remembered = self.remembered().await;
        let (entry, is_own) = match entry {
            Some(entry) => (entry, is_first || !is_public(entry)),
            // No name can be resolved, but those remembered have addresses.
            None => match farthest(remembered.iter().map(|node| (*node.ip()).into())) {
                Some(entry) => (entry, !is_public(entry)),
                None => {
                    let why = "no bootstrap node has an IPv4 address that can be found; is there a network?";
                    return Err(NotJoined(why.to_owned()));
                }
            },
        };
        entries.extend(remembered);
        let asked = entries.len();
        let finder = self.build(entries, is_own).await?;
        let is_there = timeout(JOIN_TIMEOUT, enter(finder.clone())).await.unwrap_or(false);
        if !is_there && !is_first {
            return Err(NotJoined(format!("none of the {asked} nodes that were asked answers over UDP")));
        }
        Ok(Joined { finder, entry, is_first })
    }

    async fn remember(&self, nodes: Vec<SocketAddrV4>) {
        let (home, name) = (self.home.clone(), self.name());
        if let Ok(Err(error)) = spawn_blocking(move || home.keep_dht_nodes(&name, &nodes)).await {
            tracing::warn!("{error}");
        }
    }
}

/// Whether anybody answers.
async fn enter(finder: AsyncDht) -> bool {
    // In a task, as it panics where the thread has died; one that ends with whoever waits for it.
    let mut task = JoinSet::new();
    task.spawn(async move { finder.bootstrapped().await });
    matches!(task.join_next().await, Some(Ok(true)))
}

/// The IPv4 addresses of all names that can be resolved.
async fn resolve(names: Vec<String>) -> Vec<SocketAddrV4> {
    let mut asking = JoinSet::new();
    for name in names {
        asking.spawn(async move {
            let found = timeout(RESOLVE_TIMEOUT, lookup_host(name)).await;
            found.into_iter().flatten().flatten().collect::<Vec<_>>()
        });
    }
    let mut addrs = Vec::new();
    while let Some(found) = asking.join_next().await {
        addrs.extend(found.into_iter().flatten().filter_map(|addr| match addr {
            SocketAddr::V4(addr) => Some(addr),
            SocketAddr::V6(_) => None,
        }));
    }
    addrs
}

impl Finder for AsyncDht {
    async fn announce(&self, key: DhtKey, port: u16) -> Result<(), NotAnnounced> {
        let id = Id::from(key.0);
        // Whoever answers this gives the token that an announcement needs. Left to itself the crate asks
        // for a value instead, which only some nodes know how to answer.
        let mut closer = self.get_peers(id);
        while closer.next().await.is_some() {}
        match self.announce_peer(id, Some(port)).await {
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::debug!("{key} could not be announced: {error}");
                Err(NotAnnounced)
            }
        }
    }

    fn look_up(&self, key: DhtKey) -> impl Stream<Item = Vec<SocketAddr>> + Send + Unpin {
        let answers = self.get_peers(Id::from(key.0));
        answers.map(|addrs| addrs.into_iter().map(SocketAddr::V4).collect())
    }

    async fn nodes(&self) -> Vec<SocketAddrV4> {
        self.to_bootstrap().await.iter().filter_map(|node| node.parse().ok()).collect()
    }
}

#[cfg(test)]
mod tests;
