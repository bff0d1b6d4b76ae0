//! Keeps a port mapped as long as a node runs.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Granted, Router};
use crate::engine::{Input, Mapping, is_elsewhere};

/// What was granted is asked for again when half of it is over, within these bounds: whatever a router says.
const RENEW_SOONEST: Duration = Duration::from_secs(60);
const RENEW_LATEST: Duration = Duration::from_secs(20 * 60);

/// The first pause after a refusal, and the longest; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);

/// How long a router may take to answer in all the protocols that there are.
const TOO_LONG: Duration = Duration::from_secs(60);

/// How long taking it back may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// Keeps a port mapped until `stop`, and takes that back then.
pub(crate) async fn keep_mapped(
    mut router: impl Router,
    port: u16,
    told: mpsc::Sender<Input>,
    stop: CancellationToken,
) {
    let mut pause = FIRST_PAUSE;
    while let Some(answer) = stop.run_until_cancelled(timeout(TOO_LONG, router.map(port))).await {
        let (mapping, wait) = match answer {
            Ok(Ok(Granted { external, lifetime, by })) if is_elsewhere(external) => {
                pause = FIRST_PAUSE;
                (Mapping::Mapped { external, by }, (lifetime / 2).clamp(RENEW_SOONEST, RENEW_LATEST))
            }
            failed => {
                let why = match failed {
                    Ok(Err(why)) => why.to_string(),
                    // What routers say that have no connection, and those that lie.
                    Ok(Ok(Granted { external, by, .. })) => format!(
                        "the router says by {by} that others come in at {external}, where nobody can; it may have no \
                         connection to the internet"
                    ),
                    Err(_) => "the router takes too long to answer".to_owned(),
                };
                let wait = pause;
                pause = (pause * 2).min(LONGEST_PAUSE);
                (Mapping::Failed { why }, wait)
            }
        };
        if told.send(Input::Mapping(mapping)).await.is_err() {
            break;
        }
        if stop.run_until_cancelled(sleep(wait)).await.is_none() {
            break;
        }
    }
    // Where that is not heard, it lapses.
    let _too_late = timeout(GOODBYE, router.unmap()).await;
}

#[cfg(test)]
mod tests {
    use super::super::memory::Memory;
    use super::*;
    use tokio::task::JoinHandle;
    use tokio::time::Instant;

    fn keep(router: &Memory) -> (mpsc::Receiver<Input>, CancellationToken, JoinHandle<()>) {
        let (told, heard) = mpsc::channel(8);
        let stop = CancellationToken::new();
        let keeping = tokio::spawn(keep_mapped(router.clone(), 8000, told, stop.clone()));
        (heard, stop, keeping)
    }

    async fn mapping(heard: &mut mpsc::Receiver<Input>) -> Mapping {
        match heard.recv().await {
            Some(Input::Mapping(mapping)) => mapping,
            other => panic!("{other:?}"),
        }
    }

    /// The seconds between the questions that a router was asked.
    fn pauses(router: &Memory) -> Vec<u64> {
        let asked = router.with(|state| state.asked.clone());
        asked.windows(2).map(|pair| (pair[1].0 - pair[0].0).as_secs()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_granted_is_renewed_at_half_of_its_time_and_taken_back_at_the_end() {
        let router = Memory::granting(1000);
        let (mut heard, stop, keeping) = keep(&router);
        for _ in 0..4 {
            assert!(matches!(mapping(&mut heard).await, Mapping::Mapped { .. }));
        }
        assert_eq!(pauses(&router), [500, 500, 500]);
        assert_eq!(router.with(|state| state.taken_back), 0);
        stop.cancel();
        keeping.await.unwrap();
        assert_eq!(router.with(|state| state.taken_back), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn no_lifetime_makes_it_ask_all_the_time_or_never_again() {
        for (lifetime, pause) in [(0, 60), (1, 60), (u64::from(u32::MAX), 20 * 60)] {
            let router = Memory::granting(lifetime);
            let (mut heard, _stop, _) = keep(&router);
            for _ in 0..3 {
                mapping(&mut heard).await;
            }
            assert_eq!(pauses(&router), [pause; 2], "{lifetime}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_refusal_it_asks_again_with_growing_pauses_and_after_a_grant_they_begin_anew() {
        let router = Memory::granting(1000);
        router.with(|state| state.refuses = true);
        let (mut heard, _stop, _) = keep(&router);
        for _ in 0..8 {
            assert_eq!(mapping(&mut heard).await, Mapping::Failed { why: "not allowed".to_owned() });
        }
        assert_eq!(pauses(&router), [30, 60, 120, 240, 480, 900, 900]);
        router.with(|state| state.refuses = false);
        assert!(matches!(mapping(&mut heard).await, Mapping::Mapped { .. }));
        router.with(|state| state.refuses = true);
        mapping(&mut heard).await;
        mapping(&mut heard).await;
        assert_eq!(pauses(&router).last(), Some(&30));
    }

    #[tokio::test(start_paused = true)]
    async fn a_router_that_names_no_address_where_anybody_can_come_in_is_not_believed_and_asked_again() {
        for nowhere in
            ["0.0.0.0:8000", "127.0.0.1:8000", "224.0.0.1:8000", "11.0.0.1:0", "[::ffff:0.0.0.0]:8000"]
        {
            let router = Memory::granting(1000);
            router.with(|state| state.external = Some(nowhere.parse().unwrap()));
            let (mut heard, _stop, _) = keep(&router);
            let Mapping::Failed { why } = mapping(&mut heard).await else { panic!("{nowhere}") };
            assert!(why.contains(nowhere), "{why}");
            router.with(|state| state.external = None);
            assert!(matches!(mapping(&mut heard).await, Mapping::Mapped { .. }));
            assert_eq!(pauses(&router), [30]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_router_that_does_not_answer_holds_up_nobody() {
        let router = Memory::granting(1000);
        router.with(|state| state.is_stuck = true);
        let (mut heard, stop, keeping) = keep(&router);
        let failed = mapping(&mut heard).await;
        assert_eq!(failed, Mapping::Failed { why: "the router takes too long to answer".to_owned() });
        let began = Instant::now();
        stop.cancel();
        keeping.await.unwrap();
        assert!(began.elapsed() <= GOODBYE);
    }
}
