//! The node: the one task that owns the engine and turns what it decides into I/O.

mod actor;
mod circuits;
mod dht;
#[cfg(test)]
pub(crate) mod fake;
mod greet;
mod handle;
mod history;
mod interfaces;
mod jobs;
mod post;

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use handle::event_queue;
pub use handle::{Events, Gone, NodeHandle, Ticket, Told};

use crate::engine::{AcceptRules, Engine, EngineConfig, Event, FIRST_FOUND_PORT, Input, Limits, Reading};
use crate::net::{
    Desk, HomeRouter, Identity, Mdns, Myself, ReceiveBudget, accept_loop, attend, bind, generate_key,
    keep_mapped, stay,
};
use crate::store::{Disk, Home, HomeError, Outbox, Shown};
use crate::wire::Instance;
use actor::{Actor, Inbox, Outlets};
use circuits::Circuits;
pub use dht::{Bootstrap, DhtConfig};
use greet::{Greeter, Secure, Strangers};
use history::History;
use interfaces::reachable;
use jobs::Jobs;
use post::{InOrder, Post};

/// Commands, connections and dials that may wait for the actor, which is never long.
const SMALL_QUEUE: usize = 64;

/// Messages of all peers that may wait for the actor.
const PEER_QUEUE: usize = 256;

/// Receipts of texts that may wait for the actor: more than there can be texts.
const RECEIPTS: usize = 8192;

/// Results of jobs that may wait for the actor.
const DISK_QUEUE: usize = 256;

/// What a node is started with.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Whether others can connect.
    pub listens: bool,
    /// The address to listen on; `None` for all interfaces, IPv6 and IPv4.
    pub bind: Option<IpAddr>,
    /// The port to listen on; 0 for any free one.
    pub port: u16,
    /// Where received files go; made when the first one arrives.
    pub downloads: PathBuf,
    /// Which offers are taken without asking, and which are refused.
    pub accept: AcceptRules,
    /// Whether the baseline protocol is spoken unencrypted.
    pub plain: bool,
    /// Where the identity and the known peers are kept; untouched under `plain`.
    pub home: PathBuf,
    /// Whether addresses never connected to are refused.
    pub require_id: bool,
    /// Whether what was shared when it last ran is shared again.
    pub keeps_shares: bool,
    /// Whether what is said, sent and received is kept in the home, for a person to look up.
    pub keeps_history: bool,
    /// Whether what was fetched by its hash is served on.
    pub seeds: bool,
    /// How long partial files are kept that nobody goes on with.
    pub keep_partials: Duration,
    /// Whether what is for somebody known who is not connected is kept until they are.
    pub outbox: bool,
    /// The DHT to take part in, if any.
    pub dht: Option<DhtConfig>,
    /// Whether others on the local network are looked for, and told of this node where it listens.
    pub lan: bool,
    /// Whether a router is asked to pass the port on, where the node listens.
    pub maps_port: bool,
    /// The bounds.
    pub limits: Limits,
}

/// Why a node could not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}: {}", listen_hint(.error))]
    Listen {
        /// What was asked for.
        addr: String,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// The user's state cannot be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The key in it is none.
    #[error("the key in `{}` is {why}; put back the right one, or move it away to get a new identity", .home.display())]
    Key {
        /// The home.
        home: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The DHT's port cannot be had.
    #[error("cannot use UDP port {port} for the DHT: {}", udp_hint(.error))]
    Dht {
        /// Which.
        port: u16,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
}

fn listen_hint(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program uses that port; give another one, or 0 for any free one".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "not permitted; ports below 1024 are reserved, give a higher one".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => "this machine does not have that address".to_owned(),
        _ => error.to_string(),
    }
}

fn udp_hint(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another program uses it; give another one with --dht-port".to_owned(),
        _ => error.to_string(),
    }
}

/// What a user should know about who can listen in.
fn exposure(plain: bool, listening: IpAddr) -> Option<&'static str> {
    let warning = "--plain: anyone on the network can read and change what is sent; use --bind 127.0.0.1 for this \
                   computer alone, or leave out --plain";
    (plain && !listening.is_loopback()).then_some(warning)
}

fn greeter(config: &NodeConfig) -> Result<(Greeter, Option<Reading>), StartError> {
    if config.plain {
        return Ok((Greeter::Plain, None));
    }
    let home = Home::open(config.home.clone())?;
    let key = home.key(generate_key)?;
    let identity = Identity::from_pem(&key)
        .map_err(|error| StartError::Key { home: config.home.clone(), why: error.to_string() })?;
    let book = home.book()?;
    let shown = Shown::of(&home);
    Ok((
        Greeter::Secure(Arc::new(Secure { identity, home, shown, require_id: config.require_id })),
        Some(book),
    ))
}

/// The socket to listen on, and its address; the unspecified address and port 0 where there is none.
fn listen(config: &NodeConfig) -> Result<(Option<TcpListener>, SocketAddr), StartError> {
    if !config.listens {
        return Ok((None, (Ipv6Addr::UNSPECIFIED, 0).into()));
    }
    let (listener, listening) = bind(config.bind, config.port).map_err(|error| StartError::Listen {
        addr: match config.bind {
            Some(address) => SocketAddr::new(address, config.port).to_string(),
            None => format!("port {}", config.port),
        },
        error,
    })?;
    Ok((Some(listener), listening))
}

/// Starts a node on the current tokio runtime.
///
/// Reads the identity from the home before it listens, which takes a moment's disk access.
///
/// # Errors
/// Where it cannot listen, or the identity cannot be used.
pub async fn start(config: NodeConfig) -> Result<(NodeHandle, Events), StartError> {
    let (greeter, book) = greeter(&config)?;
    let (listener, listening) = listen(&config)?;
    let dht = dht::network(&config, &greeter, listening)?;
    let mut instance = [0; 16];
    getrandom::fill(&mut instance).map_err(StartError::Random)?;
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).map_err(StartError::Random)?;
    let instance = Instance(u128::from_be_bytes(instance));
    let here = (listening, greeter.node_id());
    let reachable = if config.listens { reachable(here.0, here.1) } else { Vec::new() };
    let mut engine = Engine::new(EngineConfig {
        instance,
        node_id: greeter.node_id(),
        agent: concat!("p2p/", env!("CARGO_PKG_VERSION")).to_owned(),
        listening,
        reachable: reachable.clone(),
        seeds: config.seeds,
        dht: dht.is_some(),
        lan: config.lan && greeter.node_id().is_some(),
        outbox: config.outbox && greeter.node_id().is_some(),
        unix_time: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
        seed: u64::from_be_bytes(seed),
        downloads: config.downloads.clone(),
        accept: config.accept,
        limits: config.limits,
    });
    if let Some(book) = book {
        engine.handle(Duration::ZERO, Input::BookRead(book));
    }
    if let (Greeter::Secure(secure), true) = (&greeter, config.keeps_shares) {
        engine.handle(Duration::ZERO, Input::SharesRead(secure.home.shares()?));
    }
    let mut post_of = None;
    if let Greeter::Secure(secure) = &greeter {
        engine.handle(Duration::ZERO, Input::KeysRead(secure.shown.news()?));
        post_of = Some((Outbox::of(&secure.home), secure.shown.clone()));
    }
    engine.open_outbox();
    engine.find_leftovers(config.keep_partials);

    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    let (mut events, watcher) = event_queue();
    let (requests, requests_queue) = mpsc::channel(SMALL_QUEUE);
    let (accepted, accepted_queue) = mpsc::channel(SMALL_QUEUE);
    let (greeted, greeted_queue) = mpsc::channel(SMALL_QUEUE);
    let (from_peers, from_peers_queue) = mpsc::channel(PEER_QUEUE);
    let (from_disk, from_disk_queue) = mpsc::channel(DISK_QUEUE);
    let (shown, shown_queue) = mpsc::channel(RECEIPTS);
    let (from_around, from_around_queue) = mpsc::channel(SMALL_QUEUE);
    let desk = Desk::new(listening.port());
    if listener.is_some() {
        events.send(Told::Event(Event::Listening { addr: listening }), None, None);
    }
    if listener.is_some()
        && let Some(text) = exposure(config.plain, listening.ip())
    {
        events.send(Told::Event(Event::Warning { peer: None, text: text.to_owned() }), None, None);
    }
    if dht.is_some() && listening.port() < FIRST_FOUND_PORT {
        let text = "--dht: nobody dials a port below 1024 that was found there; listen on a higher one";
        events.send(Told::Event(Event::Warning { peer: None, text: text.to_owned() }), None, None);
    }
    let myself = greeter.node_id().filter(|_| config.lan);
    let myself = myself.map(|node_id| Myself { node_id, instance, port: listening.port() });
    let history = History::new(&greeter, config.keeps_history, tasks.clone());
    let actor = Actor {
        engine,
        started: Instant::now(),
        connections: HashMap::new(),
        over_circuits: HashSet::new(),
        last_connection: 0,
        tickets: HashMap::new(),
        last_command: 0,
        jobs: Jobs::new(Disk::new(config.downloads, Some(&config.home)), from_disk, tasks.clone()),
        events,
        charge: None,
        budget: ReceiveBudget::new(),
        greeter,
        strangers: Strangers::default(),
        history,
        keeping: InOrder::default(),
        post: Post::new(post_of, greeted.clone(), tasks.clone()),
        circuits: Circuits::default(),
        outlets: Outlets { greeted, from_peers, shown },
        dht: desk.clone(),
        tasks: tasks.clone(),
        stop: stop.clone(),
    };
    let inbox = Inbox {
        requests: requests_queue,
        accepted: accepted_queue,
        greeted: greeted_queue,
        from_peers: from_peers_queue,
        from_disk: from_disk_queue,
        shown: shown_queue,
        from_around: from_around_queue,
    };
    if let Some(listener) = listener {
        tasks.spawn(stop.clone().run_until_cancelled_owned(accept_loop(listener, accepted)));
    }
    if config.listens && listening.ip().is_unspecified() {
        let watching = interfaces::watch(here, reachable, from_around.clone());
        tasks.spawn(stop.clone().run_until_cancelled_owned(watching));
    }
    if let Some(network) = dht {
        let attending = attend(network, desk, from_around.clone());
        tasks.spawn(stop.clone().run_until_cancelled_owned(attending));
    }
    if let Some(myself) = myself {
        tasks.spawn(stay(Mdns { bind: config.bind }, myself, from_around.clone(), stop.clone()));
    }
    if config.maps_port && config.listens {
        let bind = match listening.ip() {
            IpAddr::V4(ip) if !ip.is_unspecified() => Some(ip),
            _ => None,
        };
        tasks.spawn(keep_mapped(HomeRouter::new(bind), listening.port(), from_around, stop.clone()));
    }
    tasks.spawn(actor.run(inbox));
    tasks.close();
    Ok((NodeHandle { requests, stop, tasks, listening }, watcher))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plaintext_beyond_this_computer_is_warned_about() {
        let warned = |plain, ip: &str| exposure(plain, ip.parse().unwrap()).is_some();
        for everywhere in ["::", "0.0.0.0", "192.0.2.1"] {
            assert!(warned(true, everywhere) && !warned(false, everywhere), "{everywhere}");
        }
        for here in ["127.0.0.1", "127.0.0.2", "::1"] {
            assert!(!warned(true, here), "{here}");
        }
    }
}
