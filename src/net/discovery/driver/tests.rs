use std::net::{Ipv4Addr, SocketAddr};

use super::super::memory::{Memory, NODE};
use super::*;

const PORT: u16 = 8000;

fn key(number: u16) -> DhtKey {
    let mut key = [0; 20];
    key[..2].copy_from_slice(&number.to_be_bytes());
    DhtKey(key)
}

/// Attends to the network, as a node does.
fn attended(network: &Memory) -> (Desk, mpsc::Receiver<Input>) {
    let desk = Desk::new(PORT);
    let (told, heard) = mpsc::channel(64);
    tokio::spawn(attend(network.clone(), desk.clone(), told));
    (desk, heard)
}

fn announced(network: &Memory, key: DhtKey) -> usize {
    network.with(|state| state.announcements.iter().filter(|(_, other)| *other == key).count())
}

/// The next look-up that ends, which takes no more than an hour of virtual time.
async fn looked_up(heard: &mut mpsc::Receiver<Input>) -> TransferId {
    let ended = async {
        loop {
            if let Input::LookedUp { id } = heard.recv().await.expect("somebody attends to it") {
                return id;
            }
        }
    };
    timeout(Duration::from_secs(3600), ended).await.expect("a look-up ends")
}

#[tokio::test(start_paused = true)]
async fn what_is_shared_is_announced_with_its_port_again_and_again_until_it_is_withdrawn() {
    let network = Memory::default();
    let (desk, _heard) = attended(&network);
    desk.announce(key(1));
    desk.announce(key(2));
    sleep(REFRESH * 3 + REFRESH / 2).await;
    assert_eq!((announced(&network, key(1)), announced(&network, key(2))), (4, 4));
    let known = network.with(|state| state.known[&key(1)].clone());
    assert_eq!(known.into_iter().collect::<Vec<_>>(), [SocketAddr::from((Ipv4Addr::LOCALHOST, PORT))]);
    desk.withdraw(key(1));
    sleep(REFRESH * 3).await;
    assert_eq!((announced(&network, key(1)), announced(&network, key(2))), (4, 7));
}

#[tokio::test(start_paused = true)]
async fn where_others_come_in_by_another_port_everything_is_announced_anew_with_that() {
    let network = Memory::default();
    network.with(|state| state.takes = Duration::from_secs(3));
    let (desk, _heard) = attended(&network);
    desk.announce(key(1));
    sleep(Duration::from_secs(10)).await;
    // One is there, and one is under way.
    desk.announce(key(2));
    sleep(Duration::from_secs(1)).await;
    desk.announce_with(9000);
    sleep(Duration::from_secs(10)).await;
    for key in [key(1), key(2)] {
        let known = network.with(|state| state.known[&key].clone());
        assert!(known.contains(&SocketAddr::from((Ipv4Addr::LOCALHOST, 9000))), "{known:?}");
        assert_eq!(announced(&network, key), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn thousands_of_shares_make_no_flood() {
    let network = Memory::default();
    network.with(|state| state.takes = Duration::from_secs(3));
    let (desk, _heard) = attended(&network);
    for number in 0..3000 {
        desk.announce(key(number));
    }
    sleep(Duration::from_secs(10)).await;
    network.with(|state| {
        assert_eq!(state.announcing.1, ANNOUNCING);
        let gaps = state.announcements.windows(2).map(|pair| pair[1].0 - pair[0].0);
        assert!(gaps.min().unwrap() >= ANNOUNCE_GAP);
    });
    sleep(REFRESH).await;
    assert!((0..3000).all(|number| announced(&network, key(number)) >= 1));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_took_is_announced_again_sooner() {
    let network = Memory::default();
    network.with(|state| state.takes = Duration::from_secs(120));
    let (desk, _heard) = attended(&network);
    desk.announce(key(1));
    sleep(TOO_LONG + RETRY + Duration::from_secs(1)).await;
    assert_eq!(announced(&network, key(1)), 2);
}

#[tokio::test(start_paused = true)]
async fn who_has_something_is_told_as_it_is_found_and_then_that_there_is_no_more() {
    let network = Memory::default();
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 9000));
    network.with(|state| state.known.entry(key(1)).or_default().insert(addr));
    let (desk, mut heard) = attended(&network);
    desk.look_up(TransferId(7), key(1));
    desk.look_up(TransferId(8), key(2));
    let mut told = Vec::new();
    while told.len() < 3 {
        match heard.recv().await.unwrap() {
            Input::Dht(DhtState::Joined { nodes, entry }) => {
                assert_eq!((nodes, entry), (1, Ipv4Addr::LOCALHOST.into()));
            }
            Input::Found { id, addrs } => told.push((id.0, Some(addrs))),
            Input::LookedUp { id } => told.push((id.0, None)),
            other => panic!("{other:?}"),
        }
    }
    told.sort_unstable();
    assert_eq!(told, [(7, None), (7, Some(vec![addr])), (8, None)]);
    assert_eq!(network.with(|state| state.remembered.clone()), [NODE]);
}

#[tokio::test(start_paused = true)]
async fn a_network_that_nobody_answers_in_is_entered_anew_with_growing_pauses() {
    let network = Memory::default();
    network.with(|state| state.is_away = true);
    let (desk, mut heard) = attended(&network);
    desk.look_up(TransferId(1), key(1));
    for _ in 0..9 {
        assert!(matches!(heard.recv().await, Some(Input::Dht(DhtState::Away { .. }))));
    }
    let entered = network.with(|state| state.entered.clone());
    let pauses: Vec<_> = entered.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
    assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300]);
    network.with(|state| state.is_away = false);
    assert_eq!(looked_up(&mut heard).await, TransferId(1), "what was wanted before is not forgotten");
}

#[tokio::test(start_paused = true)]
async fn who_searches_does_not_wait_until_a_long_pause_is_over() {
    let network = Memory::default();
    network.with(|state| state.is_away = true);
    let (desk, mut heard) = attended(&network);
    while network.with(|state| state.entered.len()) < 9 {
        assert!(matches!(heard.recv().await, Some(Input::Dht(DhtState::Away { .. }))));
    }
    network.with(|state| state.is_away = false);
    sleep(FIRST_PAUSE).await;
    let begun = Instant::now();
    desk.announce(key(1));
    sleep(FIRST_PAUSE).await;
    assert_eq!(network.with(|state| state.entered.len()), 9, "what is shared may wait");
    desk.look_up(TransferId(1), key(1));
    assert_eq!(looked_up(&mut heard).await, TransferId(1));
    assert!(begun.elapsed() <= 2 * FIRST_PAUSE, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_network_whose_thread_has_died_is_entered_anew() {
    let network = Memory::default();
    let (desk, mut heard) = attended(&network);
    assert!(matches!(heard.recv().await, Some(Input::Dht(DhtState::Joined { .. }))));
    network.with(|state| state.is_broken = true);
    desk.announce(key(1));
    desk.look_up(TransferId(1), key(1));
    while network.with(|state| state.entered.len()) < 2 {
        sleep(Duration::from_secs(1)).await;
    }
    network.with(|state| state.is_broken = false);
    assert_eq!(looked_up(&mut heard).await, TransferId(1));
    sleep(Duration::from_secs(10)).await;
    assert_eq!(announced(&network, key(1)), 1);
}

#[tokio::test(start_paused = true)]
async fn a_look_up_that_nobody_needs_any_more_is_not_answered() {
    let network = Memory::default();
    network.with(|state| state.is_away = true);
    let (desk, mut heard) = attended(&network);
    assert!(matches!(heard.recv().await, Some(Input::Dht(DhtState::Away { .. }))));
    desk.look_up(TransferId(1), key(1));
    desk.look_up(TransferId(2), key(1));
    desk.stop_looking(TransferId(1));
    network.with(|state| state.is_away = false);
    assert_eq!(looked_up(&mut heard).await, TransferId(2));
}

#[tokio::test(start_paused = true)]
async fn every_look_up_has_its_turn_and_what_kind_of_network_it_is_is_told_first() {
    let network = Memory::default();
    let (desk, mut heard) = attended(&network);
    let ids: Vec<_> = (0..100).map(TransferId).collect();
    ids.iter().for_each(|id| desk.look_up(*id, key(1)));
    assert!(matches!(heard.recv().await, Some(Input::Dht(DhtState::Joined { .. }))));
    let mut done = Vec::new();
    while done.len() < 2 * ids.len() {
        let id = looked_up(&mut heard).await;
        done.push(id);
        // Who was answered asks again.
        desk.look_up(id, key(1));
    }
    done.truncate(ids.len());
    done.sort_unstable();
    assert_eq!(done, ids);
}
