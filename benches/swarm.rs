//! How fast a file comes from several nodes at once, and to several: real processes over loopback.
//! `cargo bench --bench swarm`. What the simulation shows for a thousand (`examples/swarm`) is shown here for a few.
//!
//! `P2P_BENCH_MIB` sets the file's size (256).

// This prints its figures, and a benchmark that cannot run may as well panic.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

#[allow(dead_code, unused_imports, reason = "the tests need more of it than the benchmark")]
#[path = "../tests/support/mod.rs"]
mod support;

use std::time::Instant;

use serde_json::json;
use support::TestNode;
use support::files::write_noise;

/// What each seeder may send, in bytes a second, where that is limited.
const LIMIT: u64 = 10_000_000;

fn main() {
    // `cargo test --benches` runs this too, and there is nothing here to test.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let size = std::env::var("P2P_BENCH_MIB").map_or(256, |text| text.parse().expect("a number")) << 20;
    let mb = |rate: f64| format!("{:.1} MB/s", rate / 1e6);
    let single = rate(size, 1, 1, None);
    println!("one seeder, as fast as it goes:           {}", mb(single));
    let three = rate(size, 3, 1, None);
    println!("three seeders, as fast as they go:        {} ({:.2} of one)", mb(three), three / single);
    let limited = rate(size / 4, 3, 1, Some(LIMIT));
    let wanted = 3.0 * LIMIT as f64;
    println!(
        "three seeders of {} each:          {} ({:.2})",
        mb(LIMIT as f64),
        mb(limited),
        limited / wanted
    );
    let one = rate(size / 4, 1, 1, Some(2 * LIMIT));
    let five = rate(size / 4, 1, 5, Some(2 * LIMIT));
    println!(
        "one seeder of {}, the last of five: {} ({:.2} of the time of one)",
        mb(2.0 * LIMIT as f64),
        mb(five),
        one / five
    );
}

/// Bytes a second from the command until the last of those who fetch has it.
fn rate(size: u64, seeders: u64, getters: usize, limit: Option<u64>) -> f64 {
    let limited = |mut node: TestNode| {
        if let Some(limit) = limit {
            node.result_of(&format!("limit up {limit}"));
        }
        node
    };
    let mut link = String::new();
    let seeders: Vec<_> = (0..seeders)
        .map(|_| {
            let mut node = limited(TestNode::start());
            let path = node.dir().join("source.bin");
            write_noise(&path, size, 1);
            let shared = node.result_of(&format!("share {}", path.display()));
            shared["link"].as_str().unwrap().clone_into(&mut link);
            node
        })
        .collect();
    let mut getters: Vec<_> = (0..getters)
        .map(|_| {
            let mut node = limited(TestNode::start());
            for seeder in &seeders {
                node.connect(seeder.addr());
            }
            node
        })
        .collect();
    let begun = Instant::now();
    for getter in &mut getters {
        getter.type_line(&format!("get {link}"));
    }
    for getter in &getters {
        getter.wait_for(&json!({ "event": "received" }));
    }
    size as f64 / begun.elapsed().as_secs_f64()
}
