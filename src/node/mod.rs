//! The node: the one task that owns the engine and turns what it decides into I/O.

mod actor;
#[cfg(test)]
pub(crate) mod fake;
mod handle;
mod jobs;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use handle::event_queue;
pub use handle::{Events, Gone, NodeHandle, Ticket, Told};

use crate::engine::{AcceptPolicy, Engine, EngineConfig, Event, Limits};
use crate::net::{ReceiveBudget, accept_loop, bind};
use crate::store::Disk;
use crate::wire::Instance;
use actor::{Actor, Inbox, Outlets};
use jobs::Jobs;

/// Commands, connections and dials that may wait for the actor, which is never long.
const SMALL_QUEUE: usize = 64;

/// Messages of all peers that may wait for the actor.
const PEER_QUEUE: usize = 256;

/// Results of jobs that may wait for the actor.
const DISK_QUEUE: usize = 256;

/// What a node is started with.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// The address to listen on; `None` for all interfaces, IPv6 and IPv4.
    pub bind: Option<IpAddr>,
    /// The port to listen on; 0 for any free one.
    pub port: u16,
    /// Where received files go; made when the first one arrives.
    pub downloads: PathBuf,
    /// Which offers are taken without asking.
    pub accept: AcceptPolicy,
    /// Whether the baseline protocol is spoken unencrypted.
    pub plain: bool,
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

/// Starts a node on the current tokio runtime.
///
/// # Errors
/// Where it cannot listen.
pub async fn start(config: NodeConfig) -> Result<(NodeHandle, Events), StartError> {
    let (listener, listening) = bind(config.bind, config.port).map_err(|error| StartError::Listen {
        addr: match config.bind {
            Some(address) => SocketAddr::new(address, config.port).to_string(),
            None => format!("port {}", config.port),
        },
        error,
    })?;
    let mut instance = [0; 16];
    getrandom::fill(&mut instance).map_err(StartError::Random)?;
    let engine = Engine::new(EngineConfig {
        instance: Instance(u128::from_be_bytes(instance)),
        agent: concat!("p2p/", env!("CARGO_PKG_VERSION")).to_owned(),
        listening,
        downloads: config.downloads.clone(),
        accept: config.accept,
        plain: config.plain,
        limits: config.limits,
    });

    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    let (mut events, watcher) = event_queue();
    let (requests, requests_queue) = mpsc::channel(SMALL_QUEUE);
    let (accepted, accepted_queue) = mpsc::channel(SMALL_QUEUE);
    let (dialled, dialled_queue) = mpsc::channel(SMALL_QUEUE);
    let (from_peers, from_peers_queue) = mpsc::channel(PEER_QUEUE);
    let (from_disk, from_disk_queue) = mpsc::channel(DISK_QUEUE);
    events.send(Told::Event(Event::Listening { addr: listening }), None);
    let actor = Actor {
        engine,
        started: Instant::now(),
        connections: HashMap::new(),
        last_connection: 0,
        tickets: HashMap::new(),
        last_command: 0,
        jobs: Jobs::new(Disk::new(config.downloads), from_disk, tasks.clone()),
        events,
        charge: None,
        budget: ReceiveBudget::new(),
        outlets: Outlets { dialled, from_peers },
        tasks: tasks.clone(),
        stop: stop.clone(),
    };
    let inbox = Inbox {
        requests: requests_queue,
        accepted: accepted_queue,
        dialled: dialled_queue,
        from_peers: from_peers_queue,
        from_disk: from_disk_queue,
    };
    tasks.spawn(stop.clone().run_until_cancelled_owned(accept_loop(listener, accepted)));
    tasks.spawn(actor.run(inbox));
    tasks.close();
    Ok((NodeHandle { requests, stop, tasks, listening }, watcher))
}
