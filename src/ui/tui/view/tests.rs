use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::KeyCode;
use ratatui::style::Color;

use super::*;
use crate::engine::{Event, HostPort, Level};
use crate::ui::complete::Tab as Completed;
use crate::ui::style::Style as Colours;
use crate::ui::tui::scene::{BOB, CAROL, STRANGER, Scene, addr, id};
use crate::wire::is_deceptive;

const WINDOWS: [(u16, u16); 3] = [(80, 24), (60, 15), (120, 40)];

fn painted(scene: &mut Scene, (columns, rows): (u16, u16)) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    // What is seen depends on how large the window was before.
    for _ in 0..2 {
        let mut seen = None;
        terminal.draw(|frame| seen = Some(draw(frame, &scene.model, scene.now))).unwrap();
        scene.model.drawn(seen.unwrap());
    }
    terminal.backend().buffer().clone()
}

fn rows_of(buffer: &Buffer) -> Vec<String> {
    let row = |y| {
        let cells = (0..buffer.area.width).map(|x| buffer[(x, y)].symbol());
        let mut row = String::new();
        let mut skip = 0;
        for symbol in cells {
            if skip == 0 {
                row += symbol;
                skip = symbol.width().max(1);
            }
            skip -= 1;
        }
        row.trim_end().to_owned()
    };
    (0..buffer.area.height).map(row).collect()
}

fn picture(scene: &mut Scene, window: (u16, u16)) -> String {
    rows_of(&painted(scene, window)).join("\n")
}

/// Compares pictures with those in `snapshots`, in each window.
fn assert_looks(name: &str, scene: &mut Scene) {
    for (columns, rows) in WINDOWS {
        let settings = insta::Settings::clone_current();
        settings.bind(|| {
            insta::assert_snapshot!(format!("{name}_{columns}x{rows}"), picture(scene, (columns, rows)));
        });
    }
}

fn first_contact(scene: &mut Scene) {
    scene.event(&Event::PeerConnected {
        peer: addr(BOB),
        dialled: Some("bob.example:8000".parse::<HostPort>().unwrap()),
        node_id: Some(id(BOB)),
        alias: None,
        via: None,
        first_contact: true,
        again: false,
        level: Level::Extended,
    });
    scene.wait();
}

#[test]
fn nobody_is_there_yet() {
    assert_looks("empty", &mut Scene::new(Colours::COLOURED));
}

#[test]
fn peers_transfers_and_a_conversation() {
    let mut scene = Scene::busy(Colours::COLOURED);
    scene.keys("sendfi");
    assert_looks("busy", &mut scene);
}

#[test]
fn the_tab_of_a_peer() {
    let mut scene = Scene::busy(Colours::COLOURED);
    scene.press(KeyCode::BackTab);
    scene.enter("Yes, all of them. Thank you! 日本語");
    scene.message(BOB, "Good.");
    scene.keys("and the next line, which is so long that it does not fit into the window, ends here");
    scene.event(&Event::PeerDisconnected {
        peer: addr(CAROL),
        reason: "the connection broke".into(),
        is_waited_for: true,
    });
    assert_looks("tab", &mut scene);
}

#[test]
fn an_offer_is_asked_about() {
    let mut scene = Scene::busy(Colours::COLOURED);
    scene.offer(2, STRANGER, "report.pdf");
    let heard = |scene: &mut Scene| picture(scene, (80, 24)).contains("Ctrl-Y take it");
    assert!(!heard(&mut scene), "keys are told when they are heard");
    scene.wait();
    scene.offer(6, CAROL, "other.pdf");
    assert!(heard(&mut scene));
    assert_looks("offer", &mut scene);
}

#[test]
fn a_first_contact_is_told() {
    let mut scene = Scene::new(Colours::COLOURED);
    first_contact(&mut scene);
    assert_looks("first_contact", &mut scene);
}

#[test]
fn the_help_lists_the_keys() {
    let mut scene = Scene::busy(Colours::COLOURED);
    scene.keys("?");
    assert_looks("help", &mut scene);
    let window = (60, 15);
    let before = picture(&mut scene, window);
    (0..99).for_each(|_| _ = scene.press(KeyCode::PageDown));
    let after = picture(&mut scene, window);
    assert!(after != before && after.contains("begins with /"), "all of it can be read:\n{after}");
}

#[test]
fn what_could_be_meant_stands_above_the_line() {
    let mut scene = Scene::busy(Colours::COLOURED);
    scene.keys("send ");
    scene.model.completed("send ", Completed::List("bob   carol\n192.0.2.5:4713".into()));
    assert_looks("choices", &mut scene);
}

#[test]
fn what_peers_say_cannot_act_on_the_screen() {
    let mut scene = Scene::new(Colours::COLOURED);
    scene.connected(BOB, None);
    scene.message(BOB, "\x1b[2J\x1b[31mred\x1b]0;title\x07 \u{202e}drow\u{9b}5m\rover\nsecond\tline");
    scene.offer(1, BOB, "evil [31m name");
    scene.event(&Event::PeerDisconnected {
        peer: addr(BOB),
        reason: "because \x1b[2J".into(),
        is_waited_for: false,
    });
    scene.model.paste("pasted\x1b[2J\u{202e}\r\nsecond");
    scene.wait();
    assert_looks("hostile", &mut scene);
    for window in WINDOWS {
        let buffer = painted(&mut scene, window);
        let acts = buffer.content.iter().any(|cell| cell.symbol().contains(is_deceptive));
        assert!(!acts, "{:#?}", rows_of(&buffer));
    }
}

fn scenes(colours: Colours) -> [Scene; 5] {
    let mut tab = Scene::busy(colours);
    tab.press(KeyCode::BackTab);
    let mut asked = Scene::busy(colours);
    asked.offer(2, STRANGER, "report.pdf");
    asked.wait();
    let mut contact = Scene::busy(colours);
    first_contact(&mut contact);
    let mut help = Scene::busy(colours);
    help.keys("?");
    [Scene::busy(colours), tab, asked, contact, help]
}

#[test]
fn colours_can_be_read_on_any_background_and_are_left_out_where_nobody_wants_them() {
    for window in WINDOWS {
        for mut scene in scenes(Colours::COLOURED) {
            for cell in &painted(&mut scene, window).content {
                assert_eq!(cell.bg, Color::Reset);
                let vanishing = [Color::White, Color::Black, Color::Gray, Color::Yellow, Color::LightYellow];
                assert!(
                    !vanishing.contains(&cell.fg) && !matches!(cell.fg, Color::Rgb(..) | Color::Indexed(_))
                );
            }
        }
        for mut scene in scenes(Colours::PLAIN) {
            let buffer = painted(&mut scene, window);
            let plain = buffer.content.iter().all(|cell| (cell.fg, cell.bg) == (Color::Reset, Color::Reset));
            assert!(plain, "{:#?}", rows_of(&buffer));
        }
    }
}

#[test]
fn any_window_is_drawn() {
    for colours in [Colours::COLOURED, Colours::PLAIN] {
        for mut scene in scenes(colours) {
            for columns in (1..=20).chain([59, 60, 119, 120, 121, 300]) {
                for rows in (1..=12).chain([15, 100]) {
                    let shown = rows_of(&painted(&mut scene, (columns, rows)));
                    assert!(shown.last().is_some());
                }
            }
        }
    }
}
