//! From a TCP connection to a peer: the handshake, and whether it is who it should be.
//!
//! Owns the connections that have not proven an identity: how many there may be, from how many
//! addresses, for how long. Nothing they say gets further than here. Under `--plain` there is
//! nothing to prove.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::engine::{
    Change, Code, Dialled, Failure, Origin, Purpose, Reading, Shared, Target, identity_changed,
};
use crate::net::{HandshakeError, Identity, configure, dial};
use crate::store::{Home, HomeError, Shown};
use crate::wire::{Binding, FileHash, NodeId, TextKey};

/// Connections by others that have not proven an identity.
const STRANGERS: usize = 512;

/// The same from one origin. Many people may be behind one address.
const STRANGERS_PER_ORIGIN: usize = 192;

/// The half of a stream that is read.
pub(super) type ReadHalf = Box<dyn AsyncRead + Send + Unpin>;

/// The half of a stream that is written.
pub(super) type WriteHalf = Box<dyn AsyncWrite + Send + Unpin>;

/// What a peer is greeted over.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for S {}

/// A connection that may be given to the engine.
pub(super) struct Greeted {
    pub(super) halves: (ReadHalf, WriteHalf),
    pub(super) addr: SocketAddr,
    /// Who is there; `None` under `--plain`.
    pub(super) node_id: Option<NodeId>,
    /// What both ends know of the connection and nobody else; `None` under `--plain`.
    pub(super) binding: Option<Binding>,
    /// Whether a dialled address was pinned to it just now.
    pub(super) first_contact: bool,
    /// Who is known, as other processes left it.
    pub(super) book: Option<Reading>,
    /// Texts that other processes showed since it was last looked.
    pub(super) shown: Vec<(NodeId, TextKey)>,
}

/// How peers are greeted. Cheap to clone.
#[derive(Clone)]
pub(super) enum Greeter {
    /// In plaintext, whoever they are.
    Plain,
    /// By TLS.
    Secure(Arc<Secure>),
}

/// What it takes to know who is there.
pub(super) struct Secure {
    pub(super) identity: Identity,
    pub(super) home: Home,
    /// The texts that this user has seen.
    pub(super) shown: Shown,
    /// Whether addresses never connected to are refused.
    pub(super) require_id: bool,
}

/// Why somebody who connected is not let in.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotGreeted {
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error(transparent)]
    Home(#[from] HomeError),
}

impl Greeter {
    /// Who this node is.
    pub(super) fn node_id(&self) -> Option<NodeId> {
        match self {
            Self::Plain => None,
            Self::Secure(secure) => Some(secure.identity.node_id()),
        }
    }

    /// Connects to what a user typed, or what was found.
    pub(super) async fn dial(&self, dialled: &Dialled) -> Result<Greeted, Failure> {
        let target = &dialled.target;
        match self {
            Self::Plain if target.id.is_some() => {
                let message =
                    "under --plain nobody has an identity that could be demanded; leave out the `#…`";
                Err(Failure::new(Code::Usage, message))
            }
            Self::Plain => {
                let (stream, addr) = dial(&target.address).await?;
                Ok(in_plaintext(stream, addr))
            }
            Self::Secure(secure) => {
                let (stream, addr) = dial(&target.address).await?;
                configure(&stream);
                secure.dialled(stream, addr, dialled).await
            }
        }
    }

    /// Notes something about others for good.
    pub(super) async fn change_book(&self, changes: Vec<Change>) -> Result<Reading, Failure> {
        match self {
            // The engine does not ask for it.
            Self::Plain => Err(Failure::new(Code::UnknownIdentity, "under --plain nobody has an identity")),
            Self::Secure(secure) => on_disk(&secure.home, move |home| home.change(&changes)).await,
        }
    }
}

impl Greeter {
    /// Shares something again when the program is started anew, or not any more.
    pub(super) async fn keep_share(&self, kept: Result<Shared, FileHash>) -> Result<(), Failure> {
        let Self::Secure(secure) = self else { return Ok(()) };
        let done = on_disk(&secure.home, move |home| match kept {
            Ok(shared) => home.add_share(&shared),
            Err(hash) => home.remove_share(&hash).map(|_| ()),
        });
        done.await.map_err(|error| Failure::new(Code::DiskError, error.to_string()))
    }
}

impl Secure {
    /// Greets somebody who connected. `spoke` is called when the first byte arrives.
    pub(super) async fn accept<S: Stream>(
        &self,
        stream: S,
        addr: SocketAddr,
        spoke: impl FnOnce(),
    ) -> Result<Greeted, NotGreeted> {
        let (stream, node_id, binding) = self.identity.accept(stream, spoke).await?;
        let book = on_disk(&self.home, Home::book).await?;
        let shown = self.news().await?;
        Ok(encrypted(stream, addr, (node_id, binding), false, (book, shown)))
    }

    /// Greets who was dialled.
    pub(super) async fn dialled<S: Stream>(
        &self,
        stream: S,
        addr: SocketAddr,
        Dialled { target, why }: &Dialled,
    ) -> Result<Greeted, Failure> {
        let (stream, found, binding) = self.identity.connect(stream).await.map_err(|error| {
            Failure::new(Code::HandshakeFailed, format!("cannot talk to {}: {error}", target.address))
        })?;
        let damaged = |error: HomeError| Failure::new(Code::DiskError, error.to_string());
        let book = on_disk(&self.home, Home::book).await.map_err(damaged)?;
        let pinned = book.book.pins.get(&target.address).copied();
        let was_there = pinned.filter(|_| *why != Purpose::Named);
        check_identity(target, found, was_there, self.require_id)?;
        let book = match pinned {
            Some(_) => book,
            // Perhaps this very process, which is not pinned; the engine finds out.
            None if found == self.identity.node_id() => book,
            // Nobody said that it should be whoever is there.
            None if *why != Purpose::Typed => book,
            None => {
                // Another process may have pinned it meanwhile, to somebody else.
                let pin = Change::Pin(target.address.clone(), found);
                on_disk(&self.home, move |home| home.change(&[pin])).await?
            }
        };
        let first_contact = *why == Purpose::Typed && pinned.is_none() && target.id.is_none();
        let shown = self.news().await.map_err(damaged)?;
        Ok(encrypted(stream, addr, (found, binding), first_contact, (book, shown)))
    }

    /// Texts that other processes showed. They are read before anything is read from whoever may say them again.
    async fn news(&self) -> Result<Vec<(NodeId, TextKey)>, HomeError> {
        let shown = self.shown.clone();
        on_disk(&self.home, move |_| shown.news()).await
    }
}

/// Whether who was found at an address may be there.
fn check_identity(
    target: &Target,
    found: NodeId,
    pinned: Option<NodeId>,
    require_id: bool,
) -> Result<(), Failure> {
    let address = &target.address;
    match (target.id, pinned) {
        (Some(wanted), _) if wanted != found => {
            let message = format!("{address} is {found}, not {wanted} as you demand");
            Err(Failure::new(Code::WrongIdentity, message))
        }
        (_, Some(pinned)) if pinned != found => Err(identity_changed(address, pinned, found)),
        (None, None) if require_id => {
            let message = format!(
                "{address} was never connected to, and --require-id allows no first contact; \
                 if it should be {found}: connect {address}#{found}"
            );
            Err(Failure::new(Code::UnknownIdentity, message))
        }
        _ => Ok(()),
    }
}

/// Somebody who need not prove anything.
pub(super) fn in_plaintext(stream: TcpStream, addr: SocketAddr) -> Greeted {
    configure(&stream);
    let (read, write) = stream.into_split();
    Greeted {
        halves: (Box::new(read), Box::new(write)),
        addr,
        node_id: None,
        binding: None,
        first_contact: false,
        book: None,
        shown: Vec::new(),
    }
}

fn encrypted<S: Stream>(
    stream: S,
    addr: SocketAddr,
    (node_id, binding): (NodeId, Binding),
    first_contact: bool,
    (book, shown): (Reading, Vec<(NodeId, TextKey)>),
) -> Greeted {
    let (read, write) = tokio::io::split(stream);
    Greeted {
        halves: (Box::new(read), Box::new(write)),
        addr,
        node_id: Some(node_id),
        binding: Some(binding),
        first_contact,
        book: Some(book),
        shown,
    }
}

async fn on_disk<T: Send + 'static>(home: &Home, work: impl FnOnce(&Home) -> T + Send + 'static) -> T {
    let home = home.clone();
    tokio::task::spawn_blocking(move || work(&home)).await.expect("reading the home does not panic")
}

/// Who connected and has not proven an identity.
#[derive(Default)]
pub(super) struct Strangers {
    last: u64,
    by_arrival: BTreeMap<u64, Stranger>,
}

struct Stranger {
    origin: Origin,
    spoke: Arc<AtomicBool>,
    leave: CancellationToken,
}

/// A place among the strangers.
pub(super) struct Place {
    pub(super) number: u64,
    /// To be set at the first byte.
    pub(super) spoke: Arc<AtomicBool>,
    /// Cancelled when the place is given to another.
    pub(super) leave: CancellationToken,
}

impl Strangers {
    /// A place for one more. Where there is none left, one of the origin that has most of them gives
    /// way; where one origin has too many, one of its own: of those the oldest that said nothing,
    /// else the oldest.
    pub(super) fn admit(&mut self, ip: IpAddr) -> Place {
        let origin = Origin::of(ip);
        let mut of_each = BTreeMap::<Origin, usize>::new();
        for stranger in self.by_arrival.values() {
            *of_each.entry(stranger.origin).or_default() += 1;
        }
        if of_each.get(&origin).is_some_and(|count| *count >= STRANGERS_PER_ORIGIN) {
            self.turn_away(origin);
        } else if self.by_arrival.len() >= STRANGERS
            && let Some((most, _)) = of_each.into_iter().max_by_key(|(_, count)| *count)
        {
            self.turn_away(most);
        }
        self.last += 1;
        let place = Place { number: self.last, spoke: Arc::default(), leave: CancellationToken::new() };
        let stranger = Stranger { origin, spoke: place.spoke.clone(), leave: place.leave.clone() };
        self.by_arrival.insert(self.last, stranger);
        place
    }

    /// Its place is free again, however it ended.
    pub(super) fn left(&mut self, number: u64) {
        self.by_arrival.remove(&number);
    }

    fn turn_away(&mut self, origin: Origin) {
        let of_those = || self.by_arrival.iter().filter(|(_, stranger)| stranger.origin == origin);
        let silent = of_those().find(|(_, stranger)| !stranger.spoke.load(Ordering::Relaxed));
        let oldest = silent.or_else(|| of_those().next()).map(|(number, _)| *number);
        if let Some(stranger) = oldest.and_then(|number| self.by_arrival.remove(&number)) {
            stranger.leave.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_strangers_keep_nobody_out() {
        let mut strangers = Strangers::default();
        let ip = |last: u8| IpAddr::from([192, 0, 2, last]);
        let talker = strangers.admit(ip(1));
        talker.spoke.store(true, Ordering::Relaxed);
        let silent: Vec<_> = (1..STRANGERS_PER_ORIGIN).map(|_| strangers.admit(ip(1))).collect();
        let honest = strangers.admit(ip(1));
        assert!(silent[0].leave.is_cancelled() && !silent[1].leave.is_cancelled());
        assert!(!talker.leave.is_cancelled(), "who spoke goes last");
        assert_eq!(strangers.by_arrival.len(), STRANGERS_PER_ORIGIN);
        strangers.left(talker.number);
        strangers.left(talker.number);
        assert_eq!(strangers.by_arrival.len(), STRANGERS_PER_ORIGIN - 1);
        assert!(!honest.leave.is_cancelled());
    }

    #[test]
    fn a_crowd_gives_way_to_whoever_comes_from_elsewhere() {
        let mut strangers = Strangers::default();
        // A /64 is one origin, whatever its owner makes of it; and they all begin a handshake.
        let ip = |network: u16, host: usize| {
            IpAddr::from([0x2001, 0xdb8, 0, network, 0, 0, 0, u16::try_from(host).unwrap()])
        };
        let crowd: Vec<_> =
            (0..STRANGERS).map(|n| strangers.admit(ip(u16::try_from(n % 3).unwrap(), n))).collect();
        crowd.iter().for_each(|place| place.spoke.store(true, Ordering::Relaxed));
        assert_eq!(strangers.by_arrival.len(), STRANGERS);
        let honest = strangers.admit(ip(99, 1));
        for n in 0..2 * STRANGERS {
            strangers.admit(ip(u16::try_from(n % 3).unwrap(), n));
            assert!(strangers.by_arrival.len() <= STRANGERS);
        }
        assert!(!honest.leave.is_cancelled(), "it has said nothing yet, and stays");
        assert!(crowd.iter().any(|place| place.leave.is_cancelled()));
    }

    #[test]
    fn who_answers_must_be_who_was_demanded_and_who_was_there_before() {
        let (a, b) = (NodeId([0xa; 32]), NodeId([0xb; 32]));
        let target = |id| Target { address: "localhost:8000".parse().unwrap(), id };
        let code = |id, found, pinned, require| {
            check_identity(&target(id), found, pinned, require).err().map(|f| f.code)
        };
        assert_eq!(code(None, a, None, false), None);
        assert_eq!(code(None, a, Some(a), true), None);
        assert_eq!(code(Some(a), a, None, true), None);
        assert_eq!(code(Some(b), a, None, false), Some(Code::WrongIdentity));
        assert_eq!(code(None, a, Some(b), false), Some(Code::IdentityChanged));
        assert_eq!(code(Some(a), a, Some(b), false), Some(Code::IdentityChanged));
        assert_eq!(code(None, a, None, true), Some(Code::UnknownIdentity));
    }
}
