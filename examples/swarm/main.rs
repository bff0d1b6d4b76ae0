//! How long a swarm takes until everybody has what one of them had, in simulation.
//!
//! `cargo run --release --example swarm -- [--peers N] [--degree N] [--chunks N] [--poisoners 0.1]
//! [--churn 0.1] [--seed N] [--svg FILE]`. Without `--peers` it goes through numbers up to 1,000 and draws
//! the times beside the ideal ones.
#![allow(clippy::print_stdout, reason = "its output is what it is for")]

mod sim;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use sim::{Outcome, Plan};

fn main() -> Result<(), String> {
    let mut plan = Plan::default();
    let (mut svg, mut peers) = (None, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        let bad = |_| format!("{name} {value}: not a number");
        match name.as_str() {
            "--peers" => peers = Some(value.parse().map_err(bad)?),
            "--degree" => plan.degree = value.parse().map_err(bad)?,
            "--chunks" => plan.chunks = value.parse().map_err(bad)?,
            "--seed" => plan.seed = value.parse().map_err(bad)?,
            "--poisoners" => plan.poisoners = value.parse().map_err(|_| format!("{value}: no share"))?,
            "--churn" => plan.churn = value.parse().map_err(|_| format!("{value}: no share"))?,
            "--svg" => svg = Some(value),
            _ => return Err(format!("{name} is not known; the file says what is")),
        }
    }
    let sizes = peers.map_or_else(|| vec![1, 3, 10, 30, 100, 300, 1000], |peers| vec![peers]);
    println!(
        "{:>6} {:>9} {:>9} {:>9} {:>7} {:>7} {:>8}",
        "peers", "ideal", "half", "all", "ratio", "waste", "bans"
    );
    let mut points = Vec::new();
    for peers in sizes {
        let plan = Plan { peers, ..plan.clone() };
        let begun = Instant::now();
        let Outcome { done, starved, waste, bans } = sim::run(&plan);
        let (ideal, last) = (plan.ideal(), done.last().copied().unwrap_or_default());
        let half = done.get(done.len() / 2).copied().unwrap_or_default();
        let ratio = last.as_secs_f64() / ideal.as_secs_f64();
        println!(
            "{peers:>6} {:>8.2}s {:>8.2}s {:>8.2}s {ratio:>7.2} {:>6.1}% {:>3}/{:<4} {}({:.1} s)",
            ideal.as_secs_f64(),
            half.as_secs_f64(),
            last.as_secs_f64(),
            waste * 100.0,
            bans.0,
            bans.1,
            if starved > 0 { format!("{starved} starved ") } else { String::new() },
            begun.elapsed().as_secs_f64(),
        );
        points.push((peers, ideal, half, last));
    }
    match svg {
        Some(path) => std::fs::write(&path, draw(&points, &plan)).map_err(|error| format!("{path}: {error}")),
        None => Ok(()),
    }
}

/// Time against the number of peers, which is logarithmic.
fn draw(points: &[(usize, Duration, Duration, Duration)], plan: &Plan) -> String {
    const WIDTH: f64 = 640.0;
    const HEIGHT: f64 = 400.0;
    const MARGIN: f64 = 56.0;
    let most_peers = points.iter().map(|point| point.0).max().unwrap_or(1).max(2) as f64;
    let longest = points.iter().map(|point| point.3.as_secs_f64()).fold(0.1, f64::max) * 1.1;
    let x = |peers: usize| MARGIN + (WIDTH - 2.0 * MARGIN) * (peers as f64).log2() / most_peers.log2();
    let y = |time: f64| HEIGHT - MARGIN - (HEIGHT - 2.0 * MARGIN) * time / longest;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{}\" y=\"24\" text-anchor=\"middle\" font-size=\"14\">{} chunks from one seeder, {} MB/s up each, {} neighbours</text>\n",
        WIDTH / 2.0,
        plan.chunks,
        plan.up / 1_000_000,
        plan.degree
    );
    let mut put = |text: String| writeln!(svg, "{text}").expect("a string takes all");
    let (left, bottom) = (MARGIN, HEIGHT - MARGIN);
    put(format!("<path d=\"M{left} {MARGIN}V{bottom}H{}\" fill=\"none\" stroke=\"black\"/>", WIDTH - MARGIN));
    for (peers, ..) in points {
        put(format!(
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{peers}</text>",
            x(*peers),
            bottom + 18.0
        ));
    }
    put(format!("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">peers</text>", WIDTH / 2.0, bottom + 38.0));
    for step in 0..=4 {
        let time = longest * f64::from(step) / 4.0;
        put(format!(
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{time:.1} s</text>",
            left - 6.0,
            y(time) + 4.0
        ));
    }
    type Pick = fn(&(usize, Duration, Duration, Duration)) -> Duration;
    let lines: [(&str, &str, Pick); 3] = [
        ("ideal", "#888888", |p| p.1),
        ("half have it", "#2a7fb8", |p| p.2),
        ("all have it", "#c0392b", |p| p.3),
    ];
    for (row, (name, colour, pick)) in lines.into_iter().enumerate() {
        let path: Vec<_> = points
            .iter()
            .map(|point| format!("{:.1},{:.1}", x(point.0), y(pick(point).as_secs_f64())))
            .collect();
        put(format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            path.join(" ")
        ));
        let at = MARGIN + 16.0 * row as f64;
        put(format!("<text x=\"{}\" y=\"{at}\" fill=\"{colour}\">{name}</text>", left + 12.0));
    }
    svg + "</svg>\n"
}
