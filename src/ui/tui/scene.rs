//! A screen for tests, fed as the front end feeds it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::engine::{
    Alias, Cell, Delivery, Direction, Event, Level, PeerInfo, Record, Reply, Stage, TransferId, TransferInfo,
};
use crate::ui::render::Human;
use crate::ui::session::{Session, Step};
use crate::ui::style::Style;
use crate::wire::{NodeId, SafeName};

use super::line::InputLine;
use super::model::{Effect, Model};

pub(super) const BOB: u16 = 4711;
pub(super) const CAROL: u16 = 4712;
pub(super) const STRANGER: u16 = 4713;

pub(super) fn addr(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 5], port))
}

/// Whoever connects from a port has an identity of its own.
pub(super) fn id(port: u16) -> NodeId {
    NodeId([u8::try_from(port % 256).unwrap(); 32])
}

pub(super) struct Scene {
    pub(super) model: Model,
    session: Session,
    pub(super) now: Instant,
}

impl Scene {
    pub(super) fn new(style: Style) -> Self {
        let human = Human { at_prompt: true, style, columns: || 80 };
        let session = Session::new(Box::new(human), false);
        let model = Model::new(session.known().clone(), style, InputLine::new(Vec::new(), 100));
        let mut scene = Self { model, session, now: Instant::now() };
        scene.event(&Event::Listening { addr: "[::]:8000".parse().unwrap() });
        scene
    }

    pub(super) fn event(&mut self, event: &Event) {
        self.model.event(self.now, event);
        self.session.event(self.now, event);
        self.show();
    }

    fn show(&mut self) {
        for said in self.session.take_said() {
            self.model.said(&said);
        }
    }

    pub(super) fn connected(&mut self, port: u16, alias: Option<&str>) {
        self.event(&Event::PeerConnected {
            peer: addr(port),
            dialled: None,
            node_id: Some(id(port)),
            alias: alias.map(|alias| alias.parse::<Alias>().unwrap()),
            via: None,
            first_contact: false,
            again: false,
            level: Level::Extended,
        });
    }

    pub(super) fn message(&mut self, port: u16, text: &str) {
        self.event(&Event::Message { peer: addr(port), text: text.to_owned() });
    }

    pub(super) fn offer(&mut self, number: u64, port: u16, name: &str) {
        self.event(&Event::Offer {
            id: TransferId(number),
            peer: addr(port),
            name: SafeName::new(name).unwrap(),
            size: 3_200_000,
            sha256: None,
            files: None,
            expires_in: Some(Duration::from_secs(600)),
            leaves: None,
        });
    }

    /// Presses a key, and has the session parse what comes of it; what it is to run is answered.
    pub(super) fn key(&mut self, code: KeyCode, held: KeyModifiers) -> Effect {
        let effect = self.model.key(self.now, KeyEvent::new(code, held));
        if let Effect::Lines(lines, _) = &effect {
            for line in lines {
                let Step::Run(asked) = self.session.line(line) else { continue };
                let reply = match &asked.command {
                    crate::engine::Command::SendText(..) => Reply::TextQueued { peers: vec![addr(BOB)] },
                    crate::engine::Command::Peers => Reply::Peers(Vec::new()),
                    _ => Reply::Done,
                };
                self.model.answered(self.now, &asked, &Ok(reply.clone()));
                self.session.answered(self.now, &asked, &Ok(reply));
            }
            self.show();
        }
        effect
    }

    pub(super) fn press(&mut self, code: KeyCode) -> Effect {
        self.key(code, KeyModifiers::NONE)
    }

    pub(super) fn control(&mut self, c: char) -> Effect {
        self.key(KeyCode::Char(c), KeyModifiers::CONTROL)
    }

    pub(super) fn keys(&mut self, text: &str) {
        for c in text.chars() {
            self.press(KeyCode::Char(c));
        }
    }

    pub(super) fn enter(&mut self, text: &str) -> Effect {
        self.keys(text);
        self.press(KeyCode::Enter)
    }

    /// What comes takes a moment, so that pop-ups take answers.
    pub(super) fn wait(&mut self) {
        self.now += Duration::from_secs(1);
    }

    /// Three peers, of which two send something, and what else can be under way.
    pub(super) fn busy(style: Style) -> Self {
        let mut scene = Self::new(style);
        scene.connected(BOB, Some("bob"));
        scene.connected(CAROL, Some("carol"));
        scene.connected(STRANGER, None);
        scene.message(BOB, "did you get the holiday pictures?\nAll of them?");
        scene.message(CAROL, "The image is ready: it is shared.");
        let peers = |step: u64| -> Vec<PeerInfo> {
            let row = |port: u16, alias: Option<&str>, up: u64, down: u64| PeerInfo {
                peer: addr(port),
                dialled: None,
                node_id: Some(id(port)),
                via: None,
                alias: alias.map(|alias| alias.parse().unwrap()),
                trusted: alias == Some("bob"),
                level: Level::Extended,
                agent: None,
                connected_for: Duration::from_secs(60),
                bytes_sent: up * step,
                bytes_received: down * step,
                record: alias.map(|_| Record { taken_bytes: 1 << 30, ..Record::default() }),
            };
            vec![
                row(BOB, Some("bob"), 0, 3_000_000),
                row(CAROL, Some("carol"), 1_200_000, 2_000_000),
                row(STRANGER, None, 0, 0),
            ]
        };
        scene.model.peers(scene.now, &peers(1));
        scene.now += Duration::from_secs(1);
        scene.model.peers(scene.now, &peers(2));
        let rates = [(TransferId(3), 5_000_000), (TransferId(4), 1_200_000)].into();
        scene.model.transfers(&Self::transfers(), &rates);
        scene
    }

    fn transfers() -> Vec<TransferInfo> {
        let of = |number: u64, name: &str, direction, stage, bytes: u64, size: u64| TransferInfo {
            id: TransferId(number),
            peer: None,
            direction,
            name: SafeName::new(name).unwrap(),
            size,
            sha256: None,
            files: None,
            bytes,
            stage,
            sources: Vec::new(),
            cells: Vec::new(),
        };
        let source = |port: u16, bytes: u64| Delivery {
            peer: addr(port),
            node_id: Some(id(port)),
            bytes,
            wasted_bytes: 0,
            bad_chunks: 0,
        };
        let cell = |number: u8| Cell {
            percent: if number < 40 { 100 } else { 100_u8.saturating_sub((number - 40) * 3) },
            source: if number < 8 { None } else { Some(u8::from(number % 7 < 3)) },
        };
        let (incoming, outgoing) = (Direction::In, Direction::Out);
        vec![
            TransferInfo {
                peer: Some(addr(STRANGER)),
                ..of(2, "report.pdf", incoming, Stage::Offered, 0, 3_200_000)
            },
            TransferInfo {
                sources: vec![source(BOB, 60_000_000), source(CAROL, 40_000_000)],
                cells: (0..96).map(cell).collect(),
                ..of(3, "debian.iso", incoming, Stage::Transferring, 120_000_000, 200_000_000)
            },
            TransferInfo {
                peer: Some(addr(CAROL)),
                files: Some(120),
                ..of(4, "photos", outgoing, Stage::Transferring, 10_000_000, 90_000_000)
            },
            of(5, "old.tar", incoming, Stage::Partial, 1_000_000, 9_000_000),
        ]
    }
}
