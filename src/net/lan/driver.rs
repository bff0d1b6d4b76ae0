//! Sees to it that a node is on the local network as long as it runs.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::{Heard, Lan, Myself, Presence};
use crate::engine::{Input, LanNews};

/// What is passed on in one second; anybody there can say as much as it likes.
const MAX_A_SECOND: u32 = 64;

/// The first pause before it is joined anew, and the longest; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// How long it must have been joined for the pauses to begin anew.
const STEADY: Duration = Duration::from_secs(60);

/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// Stays on the network until `stop`, and says goodbye then; or until nobody hears any more what it tells.
pub(crate) async fn stay<L: Lan>(lan: L, me: Myself, told: mpsc::Sender<Input>, stop: CancellationToken) {
    let mut pause = FIRST_PAUSE;
    while let Some(joined) = stop.run_until_cancelled(lan.join(&me)).await {
        let began = Instant::now();
        let news = match joined {
            Ok(mut presence) => {
                let passing_on = pass_on(&mut presence, &told);
                if stop.run_until_cancelled(passing_on).await.is_none() {
                    // Who is not heard in time is missed all the same.
                    let _too_late = timeout(GOODBYE, presence.leave()).await;
                    return;
                }
                LanNews::Away { why: "somebody says too much there, or multicast DNS ended".to_owned() }
            }
            Err(why) => LanNews::Away { why: why.to_string() },
        };
        if told.send(Input::Lan(news)).await.is_err() {
            return;
        }
        if began.elapsed() >= STEADY {
            pause = FIRST_PAUSE;
        }
        if stop.run_until_cancelled(sleep(pause)).await.is_none() {
            return;
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Tells what is heard until the network is lost, or nobody listens.
async fn pass_on(presence: &mut impl Presence, told: &mpsc::Sender<Input>) {
    let mut news = LanNews::Joined;
    let mut second = Instant::now();
    let mut in_it = 0;
    while told.send(Input::Lan(news)).await.is_ok() {
        news = match presence.next().await {
            Some(Heard::Seen(sighting)) => LanNews::Seen(sighting),
            Some(Heard::Gone(name)) => LanNews::Gone { name },
            None => return,
        };
        in_it += 1;
        if in_it > MAX_A_SECOND {
            sleep_until(second + Duration::from_secs(1)).await;
        }
        if second.elapsed() >= Duration::from_secs(1) {
            (second, in_it) = (Instant::now(), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::{Memory, sighting};
    use super::*;
    use crate::wire::{Instance, NodeId};

    fn me(number: u8) -> Myself {
        Myself { node_id: NodeId([number; 32]), instance: Instance(number.into()), port: 8000 }
    }

    /// Somebody who is there; what it is told, and how to stop it.
    fn somebody(
        network: &Memory,
        number: u8,
    ) -> (mpsc::Receiver<Input>, CancellationToken, tokio::task::JoinHandle<()>) {
        let (told, heard) = mpsc::channel(8);
        let stop = CancellationToken::new();
        let staying = tokio::spawn(stay(network.clone(), me(number), told, stop.clone()));
        (heard, stop, staying)
    }

    async fn news(heard: &mut mpsc::Receiver<Input>) -> LanNews {
        match heard.recv().await {
            Some(Input::Lan(news)) => news,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_joins_is_seen_and_who_leaves_is_gone() {
        let network = Memory::default();
        let (mut heard, _stop, _) = somebody(&network, 1);
        assert_eq!(news(&mut heard).await, LanNews::Joined);
        let (_heard, stop, staying) = somebody(&network, 2);
        assert_eq!(news(&mut heard).await, LanNews::Seen(sighting(&me(2))));
        stop.cancel();
        staying.await.unwrap();
        assert_eq!(news(&mut heard).await, LanNews::Gone { name: Instance(2).to_string() });
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_joined_or_is_lost_is_tried_again_with_growing_pauses() {
        let network = Memory::default();
        network.with(|state| state.is_away = true);
        let (mut heard, _stop, _) = somebody(&network, 1);
        for _ in 0..10 {
            assert_eq!(news(&mut heard).await, LanNews::Away { why: "nobody answers".to_owned() });
        }
        let times = network.with(|state| state.joined.clone());
        let pauses: Vec<_> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
        assert_eq!(pauses[..7], [5, 10, 20, 40, 80, 160, 300]);
        network.with(|state| state.is_away = false);
        assert_eq!(news(&mut heard).await, LanNews::Joined);
        network.with(|state| state.present.clear());
        assert!(matches!(news(&mut heard).await, LanNews::Away { .. }));
        assert_eq!(news(&mut heard).await, LanNews::Joined);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_passed_on_slowly() {
        let network = Memory::default();
        let (mut heard, _stop, _) = somebody(&network, 1);
        assert_eq!(news(&mut heard).await, LanNews::Joined);
        let began = Instant::now();
        network.say(&Heard::Seen(sighting(&me(9))), 1000);
        for _ in 0..1000 {
            assert!(matches!(news(&mut heard).await, LanNews::Seen(_)));
        }
        assert!(began.elapsed() >= Duration::from_secs(14), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn stopping_waits_for_nobody() {
        let network = Memory::default();
        network.with(|state| state.is_stuck = true);
        let (mut heard, stop, staying) = somebody(&network, 1);
        assert_eq!(news(&mut heard).await, LanNews::Joined);
        let began = Instant::now();
        stop.cancel();
        staying.await.unwrap();
        assert!(began.elapsed() <= GOODBYE);
    }
}
