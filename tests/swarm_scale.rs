//! A thousand engines that trade one content, in virtual time.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../examples/swarm/sim.rs"]
mod sim;

use sim::{Outcome, Plan, run};

/// How many times the ideal it took until everybody had it.
fn ratio(plan: &Plan, outcome: &Outcome) -> f64 {
    assert_eq!(outcome.starved, 0, "{outcome:?}");
    assert_eq!(outcome.bans.0, 0, "an honest peer was banned: {outcome:?}");
    outcome.done.last().unwrap().as_secs_f64() / plan.ideal().as_secs_f64()
}

#[test]
fn a_thousand_peers_have_it_within_twice_the_ideal_time() {
    let plan = Plan::default();
    assert_eq!((plan.peers, plan.degree, plan.chunks), (1000, 40, 256));
    let outcome = run(&plan);
    let ratio = ratio(&plan, &outcome);
    assert!(ratio <= 2.0, "{ratio}");
    assert!(outcome.waste < 0.1, "{} was sent more often than needed", outcome.waste);
}

#[test]
fn a_tenth_of_poisoners_makes_it_three_times_at_most_and_all_that_lied_are_banned() {
    let plan = Plan { poisoners: 0.1, ..Plan::default() };
    let outcome = run(&plan);
    let ratio = ratio(&plan, &outcome);
    assert!(ratio <= 3.0, "{ratio}");
    assert!(outcome.bans.1 >= 100, "{:?}", outcome.bans);
}

#[test]
fn who_leaves_takes_nothing_from_those_who_stay() {
    let plan = Plan { peers: 100, churn: 0.3, ..Plan::default() };
    let outcome = run(&plan);
    let ratio = ratio(&plan, &outcome);
    assert!(ratio <= 2.5, "{ratio}");
}
