//! Sees to what is wanted of a DHT.
//!
//! Bounds what goes on at once and how often, so that thousands of shares make no flood. What the network
//! does to it, ending its tasks included, makes it enter anew after a pause.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::pin::pin;
use std::time::Duration;

use futures_lite::StreamExt as _;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{Desk, Finder, Joined, Network, NotAnnounced};
use crate::engine::{DhtState, Input, TransferId};
use crate::wire::DhtKey;

/// How often what is here is announced again; most nodes forget it after half an hour.
const REFRESH: Duration = Duration::from_secs(20 * 60);

/// When it is tried again where nobody took it.
const RETRY: Duration = Duration::from_secs(60);

/// Announcements at the same time, and the time between two of them. Whoever shares so much that it takes
/// longer than [`REFRESH`] announces less often.
const ANNOUNCING: usize = 8;
const ANNOUNCE_GAP: Duration = Duration::from_millis(250);

/// Look-ups at the same time.
const LOOKING: usize = 8;

/// How long one of either may take.
const TOO_LONG: Duration = Duration::from_secs(60);

/// Answers taken from one look-up, which are those of so many nodes, and addresses of one answer; of more
/// than fit into one packet as the crate reads them none is honest.
const ANSWERS: usize = 256;
const ADDRS_OF_ONE_ANSWER: usize = 256;

/// How often it is looked at whether anybody is there, and how often that is kept in mind.
const CHECK_EVERY: Duration = Duration::from_secs(60);
const REMEMBER_EVERY: Duration = Duration::from_secs(15 * 60);

/// The first pause before a network is entered anew, and the longest; each is twice the one before. What is
/// wanted meanwhile waits no longer than the first.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// The network is to be entered anew, or nobody needs it any more.
struct Lost;

/// What came of a task.
enum Done {
    Announced(DhtKey, u16, Result<(), NotAnnounced>),
    LookedUp(TransferId),
    Nodes(Vec<SocketAddrV4>),
}

/// Sees to what the desk says, until nobody hears what it tells any more. Cancel-safe: what was under way is
/// dropped.
pub(crate) async fn attend<N: Network>(network: N, desk: Desk, told: mpsc::Sender<Input>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let searched = desk.searched();
        match network.join().await {
            Ok(joined) => {
                pause = FIRST_PAUSE;
                let visit = Visit::new(&network, joined, desk.clone(), told.clone());
                let Lost = visit.stay().await;
                desk.begin_again();
            }
            Err(why) => {
                tracing::debug!("{why}");
                let away = DhtState::Away { why: why.to_string() };
                if told.send(Input::Dht(away)).await.is_err() {
                    return;
                }
            }
        }
        if told.is_closed() {
            return;
        }
        sleep(FIRST_PAUSE).await;
        // Whoever searches now is not to wait until a long pause is over: the search might be by then.
        let _searched = timeout(pause - FIRST_PAUSE, desk.is_searched_after(searched)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// From when a network is entered until it is lost.
struct Visit<'a, N: Network> {
    network: &'a N,
    joined: Joined<N::Finder>,
    desk: Desk,
    told: mpsc::Sender<Input>,
    /// Ended with the visit.
    tasks: JoinSet<Done>,
    announcing: usize,
    looking: BTreeMap<TransferId, AbortHandle>,
    next_announcement: Instant,
    next_check: Instant,
    next_remembering: Instant,
    nodes: Option<usize>,
}

impl<'a, N: Network> Visit<'a, N> {
    fn new(network: &'a N, joined: Joined<N::Finder>, desk: Desk, told: mpsc::Sender<Input>) -> Self {
        let now = Instant::now();
        Self {
            network,
            joined,
            desk,
            told,
            tasks: JoinSet::new(),
            announcing: 0,
            looking: BTreeMap::new(),
            next_announcement: now,
            next_check: now,
            next_remembering: now,
            nodes: None,
        }
    }

    /// Every branch is cancel-safe: a notification, a `JoinSet`, a sleep.
    async fn stay(mut self) -> Lost {
        let desk = self.desk.clone();
        loop {
            let wake = self.begin_what_is_due();
            let step = tokio::select! {
                () = desk.changed.notified() => Ok(()),
                Some(done) = self.tasks.join_next() => self.on_done(done).await,
                () = sleep_until(wake) => Ok(()),
                () = self.told.closed() => Err(Lost),
            };
            if let Err(lost) = step {
                return lost;
            }
        }
    }

    /// Answers when to look again.
    fn begin_what_is_due(&mut self) -> Instant {
        let now = Instant::now();
        if now >= self.next_check {
            self.next_check = now + CHECK_EVERY;
            let finder = self.joined.finder.clone();
            self.tasks.spawn(async move { Done::Nodes(finder.nodes().await) });
        }
        if self.nodes.is_none() {
            // What kind of network it is must be known before anything is that comes from there.
            return self.next_check;
        }
        self.looking.retain(|id, task| self.desk.is_wanted(*id) || !abort(task));
        while self.looking.len() < LOOKING
            && let Some((id, key)) = self.desk.take_search()
        {
            let search = look_up(self.joined.finder.clone(), id, key, self.told.clone());
            self.looking.insert(id, self.tasks.spawn(search));
        }
        if self.announcing < ANNOUNCING
            && now >= self.next_announcement
            && let Some(key) = self.desk.take_due(now)
        {
            self.announcing += 1;
            self.next_announcement = now + ANNOUNCE_GAP;
            self.tasks.spawn(announce(self.joined.finder.clone(), key, self.desk.port()));
        }
        let due = self.desk.next_due().filter(|_| self.announcing < ANNOUNCING);
        let due = due.map(|due| due.max(self.next_announcement));
        due.map_or(self.next_check, |due| due.min(self.next_check))
    }

    async fn on_done(&mut self, done: Result<Done, JoinError>) -> Result<(), Lost> {
        match done {
            Ok(Done::Announced(key, port, result)) => {
                self.announcing -= 1;
                let again = match result {
                    // It is another by now.
                    _ if port != self.desk.port() => Duration::ZERO,
                    Ok(()) => REFRESH,
                    Err(NotAnnounced) => RETRY,
                };
                self.desk.announce_at(key, Instant::now() + again);
                Ok(())
            }
            Ok(Done::LookedUp(id)) => {
                self.looking.remove(&id);
                if self.desk.end_search(id) { self.tell(Input::LookedUp { id }).await } else { Ok(()) }
            }
            Ok(Done::Nodes(nodes)) => self.on_nodes(nodes).await,
            Err(error) if error.is_cancelled() => Ok(()),
            // The thread behind it has ended, and others cannot use it either.
            Err(_) => Err(Lost),
        }
    }

    async fn on_nodes(&mut self, nodes: Vec<SocketAddrV4>) -> Result<(), Lost> {
        let (count, now) = (nodes.len(), Instant::now());
        if count == 0 && !self.joined.is_first {
            let why = "the DHT cannot be reached: none of those who were there answers any more".to_owned();
            self.tell(Input::Dht(DhtState::Away { why })).await?;
            return Err(Lost);
        }
        if self.nodes.replace(count) != Some(count) {
            self.tell(Input::Dht(DhtState::Joined { nodes: count, entry: self.joined.entry })).await?;
        }
        // Nobody is no help the next time, and those of the last time may be.
        if count > 0 && now >= self.next_remembering {
            self.next_remembering = now + REMEMBER_EVERY;
            self.network.remember(nodes).await;
        }
        Ok(())
    }

    async fn tell(&self, input: Input) -> Result<(), Lost> {
        self.told.send(input).await.map_err(|_| Lost)
    }
}

fn abort(task: &AbortHandle) -> bool {
    task.abort();
    true
}

async fn announce(finder: impl Finder, key: DhtKey, port: u16) -> Done {
    let result = timeout(TOO_LONG, finder.announce(key, port)).await;
    Done::Announced(key, port, result.unwrap_or(Err(NotAnnounced)))
}

async fn look_up(finder: impl Finder, id: TransferId, key: DhtKey, told: mpsc::Sender<Input>) -> Done {
    let telling = async {
        let mut answers = pin!(finder.look_up(key).take(ANSWERS));
        while let Some(mut addrs) = answers.next().await {
            addrs.truncate(ADDRS_OF_ONE_ANSWER);
            if told.send(Input::Found { id, addrs }).await.is_err() {
                break;
            }
        }
    };
    let _too_long = timeout(TOO_LONG, telling).await;
    Done::LookedUp(id)
}

#[cfg(test)]
mod tests;
