//! The picture in the README: the real screen of the real program, as SVG.
//!
//! `docs/picture` has this test write it; at other times what it would write is only looked at.

use std::fmt::Write as _;
use std::fs;

use alacritty_terminal::term::cell::Flags;
use alacritty_terminal::vte::ansi::Color;

use crate::support::files::noise;
use crate::support::{NodeSetup, TestNode};
use crate::terminal::{Cell, Setup};

/// Where the picture goes, if it is wanted.
const WANTED: &str = "P2P_PICTURE";

const PICTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/tui.svg");

const COLUMNS: usize = 96;

/// The size of a character in the picture.
const WIDTH: f64 = 8.4;
const HEIGHT: f64 = 18.0;
const MARGIN: f64 = 14.0;

/// Colours on light and on dark backgrounds, as terminals usually have them.
const STYLE: &str = "
text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;white-space:pre}
.b{font-weight:bold}
rect.s{fill:#fff;stroke:#d0d7de}text,rect.f{fill:#24292f}text.i{fill:#fff}
.c1{fill:#cf222e}.c2{fill:#116329}.c4{fill:#0969da}.c5{fill:#8250df}.c6{fill:#1b7c83}.c8{fill:#6e7781}
@media (prefers-color-scheme:dark){
rect.s{fill:#0d1117;stroke:#30363d}text,rect.f{fill:#e6edf3}text.i{fill:#0d1117}
.c1{fill:#ff7b72}.c2{fill:#3fb950}.c4{fill:#58a6ff}.c5{fill:#bc8cff}.c6{fill:#39c5cf}.c8{fill:#848d97}
}";

fn node(rate: &str, file: &[u8]) -> TestNode {
    let mut node = NodeSetup::new().option("--limit-up").option(rate).start();
    fs::write(node.dir().join("debian.iso"), file).unwrap();
    let path = node.dir().join("debian.iso");
    node.result_of(&format!("share {}", path.display()));
    node
}

#[test]
fn the_picture_in_the_readme_is_the_real_screen() {
    let file = noise(12_000_000, 9);
    let hash = crate::support::Content::new("debian.iso", file.clone()).hash;
    let terminal = Setup::new().columns(COLUMNS).start_tui();
    let addr = terminal.addr();
    // What is only looked at must not be over before it was, on a machine however slow.
    let (rates, enough) = match std::env::var_os(WANTED) {
        Some(_) => (["1MB/s", "700kB/s"], 35),
        None => (["60kB/s", "40kB/s"], 1),
    };
    let mut nodes = [("bob", node(rates[0], &file)), ("carol", node(rates[1], &file))];
    for (name, node) in &mut nodes {
        let id = node.node_id();
        node.connect(&addr);
        terminal.wait_text(&format!("connected ({}", &id[..16]));
        terminal.enter(&format!("alias {} {name}", &id[..16]));
        terminal.wait(name, |screen| screen.contains(&format!("● {name} ")));
    }
    terminal.enter("trust bob");
    terminal.wait_text("● bob    ");
    let [(_, bob), (_, carol)] = &mut nodes;
    bob.type_line(&format!("send {addr} The image is ready. Carol has it too."));
    fs::write(carol.dir().join("notes.pdf"), noise(48_000, 1)).unwrap();
    let notes = carol.dir().join("notes.pdf");
    carol.sendfile(&addr, &notes);
    terminal.wait_text("Ctrl-Y take it");
    terminal.keys("\x1b");
    terminal.wait_text("Ctrl-O");
    terminal.enter(&format!("get {hash}"));
    terminal.keys("\x1b[Z");
    terminal.enter("Thanks! I fetch it from both of you.");
    terminal.wait_text("<you> Thanks!");
    bob.type_line(&format!("send {addr} Good. `sha256sum` prints the same hash, by the way."));
    terminal.keys("See you ton");
    let percent = |row: &String| -> Option<u32> { row.split_once(" %")?.0.rsplit(' ').next()?.parse().ok() };
    terminal.wait("some of it from both", |screen| {
        screen
            .rows
            .iter()
            .any(|row| row.contains(" debian.iso ") && percent(row).is_some_and(|done| done >= enough))
            && screen.contains("by the way")
            && screen.contains("bob> See you ton")
    });
    let picture = svg(&terminal.cells());
    if let Some(path) = std::env::var_os(WANTED) {
        fs::write(path, &picture).unwrap();
        return;
    }
    // How far it is differs from run to run; where everything stands does not.
    let headings = |picture: &str| {
        let texts = picture
            .split("</text>")
            .filter_map(|text| text.rsplit_once('>').map(|(_, text)| text.to_owned()));
        let told = ["Peers 2", "Transfers 2", "bob", "carol"];
        texts
            .map(|text| text.trim().to_owned())
            .filter(|text| told.contains(&text.as_str()))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        headings(&fs::read_to_string(PICTURE).unwrap()),
        headings(&picture),
        "`docs/picture` makes it anew"
    );
}

/// A screen as a picture.
fn svg(rows: &[Vec<Cell>]) -> String {
    let (width, height) = (COLUMNS as f64 * WIDTH + 2.0 * MARGIN, rows.len() as f64 * HEIGHT + 2.0 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         height=\"{height:.0}\" role=\"img\" xml:space=\"preserve\" aria-label=\"p2p tui\">\n<style>{STYLE}\n</style>\n\
         <rect class=\"s\" x=\"1\" y=\"1\" width=\"{:.0}\" height=\"{:.0}\" rx=\"8\"/>\n",
        width - 2.0,
        height - 2.0
    );
    for (number, row) in rows.iter().enumerate() {
        let top = MARGIN + number as f64 * HEIGHT;
        for run in row.chunk_by(|a, b| class(a) == class(b)) {
            let first = run.as_ptr_range().start;
            let column = row.iter().position(|cell| std::ptr::eq(cell, first)).unwrap();
            text(&mut svg, run, MARGIN + column as f64 * WIDTH, top);
        }
    }
    svg + "</svg>\n"
}

fn text(svg: &mut String, run: &[Cell], left: f64, top: f64) {
    let class = class(&run[0]);
    let shown: String =
        run.iter().filter(|cell| !cell.flags.contains(Flags::WIDE_CHAR_SPACER)).map(|cell| cell.c).collect();
    let width = run.len() as f64 * WIDTH;
    if run[0].flags.contains(Flags::INVERSE) {
        writeln!(
            svg,
            "<rect class=\"f\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{HEIGHT:.1}\"/>"
        )
        .unwrap();
    }
    if shown.trim().is_empty() {
        return;
    }
    let shown = shown.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let base = top + HEIGHT - 4.5;
    writeln!(
        svg,
        "<text class=\"{class}\" x=\"{left:.1}\" y=\"{base:.1}\" textLength=\"{width:.1}\">{shown}</text>"
    )
    .unwrap();
}

fn class(cell: &Cell) -> String {
    let colour = match cell.fg {
        Color::Indexed(index) => Some(index),
        Color::Named(name) => u8::try_from(name as usize).ok().filter(|index| *index < 16),
        Color::Spec(_) => None,
    };
    let mut class = colour.map(|index| format!("c{index}")).unwrap_or_default();
    if cell.flags.contains(Flags::BOLD) {
        class += " b";
    }
    if cell.flags.contains(Flags::INVERSE) {
        class += " i";
    }
    class.trim().to_owned()
}
