//! How fast a file goes from one node to another, beside a bare copy of the same bytes through a
//! TCP socket: `cargo bench`. Both go over loopback, by turns, in the same run.
//!
//! `P2P_BENCH_MIB` sets the file's size (1024), `P2P_BENCH_ROUNDS` how often (3).

// This prints its figures, and a benchmark that cannot run may as well panic.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

#[allow(dead_code, unused_imports, reason = "the tests need more of it than the benchmark")]
#[path = "../tests/support/mod.rs"]
mod support;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use support::files::{sha256_of, write_noise};
use support::{NodeSetup, TestNode};

fn main() {
    // `cargo test --benches` runs this too, and there is nothing here to test.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let size = number_from("P2P_BENCH_MIB", 1024) << 20;
    let place = roomy_place(3 * size);
    let dir = tempfile::Builder::new().prefix("p2p-bench-").tempdir_in(&place).unwrap();
    let source = dir.path().join("source.bin");
    let sha256 = write_noise(&source, size, 1);
    println!("{} MiB over loopback, files in {}", size >> 20, place.display());
    println!("{HEADING}");
    // The first copy would also pay for the memory that the system has to find.
    let copy = dir.path().join("copy.bin");
    bare_copy(&source, &copy);
    let mut rounds: Vec<Round> = (1..=number_from("P2P_BENCH_ROUNDS", 3))
        .map(|number| {
            let round =
                Round { bare: bare_copy(&source, &copy), nodes: between_nodes(&source, &sha256, dir.path()) };
            println!("{}", round.row(&number.to_string(), size));
            round
        })
        .collect();
    rounds.sort_by(|a, b| a.ratio().total_cmp(&b.ratio()));
    println!("{}", rounds[rounds.len() / 2].row("median", size));
}

const HEADING: &str =
    "         bare MiB/s  p2p MiB/s  p2p/bare   CPU s sender  receiver   peak MiB sender  receiver";

/// One file sent both ways.
struct Round {
    bare: Duration,
    nodes: Measured,
}

/// What the transfer between two nodes took.
struct Measured {
    elapsed: Duration,
    sender: Used,
    receiver: Used,
}

/// What one node used; nothing where the system does not tell.
#[derive(Default)]
struct Used {
    cpu_seconds: Option<f64>,
    peak_mib: Option<f64>,
}

impl Round {
    fn ratio(&self) -> f64 {
        self.bare.as_secs_f64() / self.nodes.elapsed.as_secs_f64()
    }

    fn row(&self, label: &str, size: u64) -> String {
        let rate = |elapsed: Duration| {
            let mib = u32::try_from(size >> 20).unwrap();
            f64::from(mib) / elapsed.as_secs_f64()
        };
        let (sender, receiver) = (&self.nodes.sender, &self.nodes.receiver);
        let figure = |value: Option<f64>, decimals| match value {
            Some(value) => format!("{value:.decimals$}"),
            None => "-".to_owned(),
        };
        format!(
            "{label:<8} {:>10.0} {:>10.0} {:>9.3} {:>14} {:>9} {:>17} {:>9}",
            rate(self.bare),
            rate(self.nodes.elapsed),
            self.ratio(),
            figure(sender.cpu_seconds, 2),
            figure(receiver.cpu_seconds, 2),
            figure(sender.peak_mib, 1),
            figure(receiver.peak_mib, 1),
        )
    }
}

/// From the command that sends the file until both sides have said that it is done. The nodes are
/// new each time, so that none remembers the file.
fn between_nodes(source: &Path, sha256: &str, place: &Path) -> Measured {
    let mut sender = NodeSetup::under(place).start();
    let receiver = NodeSetup::under(place).start();
    sender.connect(receiver.addr());
    let cpu_before = [&sender, &receiver].map(cpu_seconds);
    let started = Instant::now();
    sender.sendfile(receiver.addr(), source);
    let received = receiver.wait_for(&json!({ "event": "received" }));
    sender.wait_for(&json!({ "event": "sent", "confirmed": true }));
    let elapsed = started.elapsed();
    let used = |node: &TestNode, cpu_before: Option<f64>| Used {
        cpu_seconds: cpu_seconds(node).zip(cpu_before).map(|(after, before)| after - before),
        peak_mib: peak_mib(node),
    };
    let used = (used(&sender, cpu_before[0]), used(&receiver, cpu_before[1]));
    assert_eq!(sha256_of(Path::new(received["path"].as_str().unwrap())), sha256);
    Measured { elapsed, sender: used.0, receiver: used.1 }
}

/// The same bytes from a file through a socket into a file, and nothing else.
fn bare_copy(source: &Path, target: &Path) -> Duration {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut to = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut from, _) = listener.accept().unwrap();
    let started = Instant::now();
    thread::scope(|scope| {
        scope.spawn(move || copy(&mut File::open(source).unwrap(), &mut to));
        let mut copy_of_it = File::create(target).unwrap();
        copy(&mut from, &mut copy_of_it);
        // As the node does before it says that a file is there.
        copy_of_it.sync_all().unwrap();
    });
    let elapsed = started.elapsed();
    fs::remove_file(target).unwrap();
    elapsed
}

/// Not `io::copy`, which on Linux would leave the bytes in the kernel, where no node could look at
/// them.
fn copy(from: &mut impl Read, to: &mut impl Write) {
    let mut buffer = vec![0; 256 << 10];
    loop {
        match from.read(&mut buffer).unwrap() {
            0 => return,
            read => to.write_all(&buffer[..read]).unwrap(),
        }
    }
}

/// The memory file system where there is one with room: this measures the program, not a disk.
fn roomy_place(bytes: u64) -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    match rustix::fs::statvfs(&memory) {
        Ok(stat) if stat.f_bavail * stat.f_frsize > bytes => memory,
        _ => std::env::temp_dir(),
    }
}

fn number_from(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

/// User and system time of the process so far.
fn cpu_seconds(node: &TestNode) -> Option<f64> {
    // Linux counts it in units that are a hundredth of a second on every platform of ours.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{}/stat", node.pid())).ok()?;
    // The name in parentheses may contain spaces; behind it user time is the 12th field.
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks = fields.split_whitespace().skip(11).take(2);
    Some(ticks.map(|field| field.parse::<f64>().unwrap()).sum::<f64>() / TICKS_PER_SECOND)
}

fn peak_mib(node: &TestNode) -> Option<f64> {
    Some(f64::from(node.peak_memory_kib()?) / 1024.0)
}
