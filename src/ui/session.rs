//! What all front ends have in common: lines in, things to show out, and how it all went.
//!
//! A state machine without I/O. Whoever drives it carries out what [`Session::line`] returns,
//! reports the answer, and takes what is to be shown with [`Session::take_said`].
//! Invariant: every line that is not blank leads to exactly one thing shown for it, unless it
//! worked and people see that otherwise.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use crate::engine::{Code, Command, Event, Failure, Reply, TransferId, TransferInfo};

use super::known::Known;
use super::parse::{Parsed, parse};
use super::progress::{Progress, Rates, Status};
use super::render::{Asked, Render, is_choice};

/// What is to be done about a line.
#[derive(Debug)]
pub(super) enum Step {
    /// Nothing more.
    Nothing,
    /// Give this to the node, and its answer to [`Session::answered`].
    Run(Asked),
    /// Leave at once.
    Quit,
}

/// Something to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    /// The lines of it, without the last one's end.
    pub(super) text: String,
    /// What it belongs to.
    pub(super) about: About,
}

/// What something that is shown belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    /// The node.
    Node,
    /// A line that was given: its number.
    Line(u64),
    /// A peer.
    Peer(SocketAddr),
}

/// One conversation with a node.
pub(super) struct Session {
    render: Box<dyn Render>,
    /// Whether lines that begin with `#` are comments.
    comments: bool,
    lines: u64,
    failed: bool,
    first_failure: Option<Code>,
    said: Vec<Said>,
    known: Known,
    progress: Progress,
}

impl Session {
    pub(super) fn new(render: Box<dyn Render>, comments: bool) -> Self {
        let (known, progress) = (Known::default(), Progress::default());
        Self {
            render,
            comments,
            lines: 0,
            failed: false,
            first_failure: None,
            said: Vec::new(),
            known,
            progress,
        }
    }

    /// What was heard of so far, and will be.
    pub(super) fn known(&self) -> &Known {
        &self.known
    }

    /// What there is to tell about running transfers.
    pub(super) fn status(&self, now: Instant) -> Option<Status> {
        self.progress.status(now)
    }

    /// How fast each transfer goes of which that can be said.
    pub(super) fn rates(&self, now: Instant) -> Rates {
        self.progress.rates(now)
    }

    /// Takes a list of all transfers that nobody asked for in words.
    pub(super) fn transfers(&mut self, now: Instant, transfers: &[TransferInfo]) {
        self.progress.transfers(now, transfers);
    }

    /// Takes the next line.
    pub(super) fn line(&mut self, text: &str) -> Step {
        self.lines += 1;
        if self.comments && text.trim_start().starts_with('#') {
            return Step::Nothing;
        }
        match parse(text) {
            Ok(Parsed::Nothing) => Step::Nothing,
            Ok(Parsed::Run(spec, command)) => Step::Run(Asked { line: self.lines, name: spec.name, command }),
            Ok(Parsed::Help(topic)) => {
                let help = self.render.help(self.lines, topic);
                self.say(About::Line(self.lines), help);
                Step::Nothing
            }
            Ok(Parsed::Quit) => {
                let last = self.render.quit(self.lines);
                self.say(About::Line(self.lines), last);
                Step::Quit
            }
            Err(failure) => {
                self.fail(self.lines, &failure);
                Step::Nothing
            }
        }
    }

    /// Counts a line that could not even be read.
    pub(super) fn unreadable_line(&mut self, failure: &Failure) {
        self.lines += 1;
        self.fail(self.lines, failure);
    }

    /// Takes note that not all lines could be read: who gave them believes they were heard.
    pub(super) fn input_broke(&mut self) {
        self.failed = true;
    }

    /// Takes the node's answer.
    pub(super) fn answered(&mut self, now: Instant, asked: &Asked, answer: &Result<Reply, Failure>) {
        match answer {
            Ok(reply) => {
                self.known.reply(reply);
                if let Reply::Transfers(transfers) = reply {
                    self.progress.transfers(now, transfers);
                }
                let text = self.render.reply(asked, reply, &self.known, &self.progress.rates(now));
                self.say(About::Line(asked.line), text);
            }
            Err(failure) => self.fail(asked.line, failure),
        }
    }

    /// Takes what happened. Warnings are for the log.
    pub(super) fn event(&mut self, now: Instant, event: &Event) {
        self.progress.event(now, event);
        match event {
            Event::Warning { peer: Some(peer), text } => {
                tracing::warn!("{}: {text}", self.known.name_and_address_of(*peer));
            }
            Event::Warning { peer: None, text } => tracing::warn!("{text}"),
            Event::TransferFailed { direction, code, .. } => {
                self.failed |= !is_choice(*direction, *code);
                self.first_failure.get_or_insert(*code);
            }
            Event::Undelivered { .. } => self.failed = true,
            _ => {}
        }
        let about = event.peer().map_or(About::Node, About::Peer);
        self.say(about, self.render.event(event, &self.known));
        // Last, so that whoever left is still known when that is told.
        self.known.event(event);
    }

    /// What is to be shown since the last call, in order.
    pub(super) fn take_said(&mut self) -> Vec<Said> {
        std::mem::take(&mut self.said)
    }

    /// Whether a command or a transfer failed so far.
    pub(super) fn failed(&self) -> bool {
        self.failed
    }

    /// Why the first thing did not come about that did not, whoever wanted that.
    pub(super) fn first_failure(&self) -> Option<Code> {
        self.first_failure
    }

    /// What there is to tell about each running transfer.
    pub(super) fn each_status(&self, now: Instant) -> BTreeMap<TransferId, Status> {
        self.progress.each(now)
    }

    /// Takes a command that nobody typed.
    pub(super) fn command(&mut self, name: &'static str, command: Command) -> Asked {
        self.lines += 1;
        Asked { line: self.lines, name, command }
    }

    fn fail(&mut self, line: u64, failure: &Failure) {
        self.failed = true;
        self.first_failure.get_or_insert(failure.code);
        self.say(About::Line(line), self.render.failure(line, failure));
    }

    fn say(&mut self, about: About, text: impl Into<Option<String>>) {
        self.said.extend(text.into().map(|text| Said { text, about }));
    }
}

/// What a front end asks for of its own accord when its input has ended, in this order.
pub(super) const AT_THE_END: [Command; 2] = [Command::StopAsking, Command::Wait];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Direction;
    use crate::ui::json::Json;
    use crate::ui::render::Human;
    use crate::ui::style::Style;
    use crate::wire::SafeName;

    fn piped() -> Session {
        Session::new(Box::new(Json), true)
    }

    fn ended(direction: Direction, code: Code) -> Event {
        Event::TransferFailed {
            id: TransferId(1),
            peer: "192.0.2.5:1".parse().ok(),
            name: SafeName::new("x").unwrap(),
            direction,
            code,
            reason: "because".into(),
        }
    }

    #[test]
    fn every_line_counts_also_blank_ones_and_comments() {
        let mut session = piped();
        for blank in ["", "  # a comment", "\r\n"] {
            assert!(matches!(session.line(blank), Step::Nothing));
        }
        assert!(session.take_said().is_empty() && !session.failed());
        let Step::Run(asked) = session.line("peers") else { panic!() };
        assert_eq!((asked.line, asked.name), (4, "peers"));
        session.unreadable_line(&Failure::new(Code::TooLarge, "too long"));
        assert!(session.take_said()[0].text.contains(r#""cmd":5"#));
    }

    #[test]
    fn at_a_prompt_a_number_sign_is_a_mistake() {
        let mut session = Session::new(
            Box::new(Human { at_prompt: true, style: Style::PLAIN, columns: || usize::MAX }),
            false,
        );
        assert!(matches!(session.line("# hm"), Step::Nothing));
        assert!(session.take_said()[0].text.starts_with("error: unknown command `#`"));
    }

    #[test]
    fn commands_and_transfers_that_fail_are_remembered() {
        let mut session = piped();
        session.line("conect a:1");
        assert!(session.failed());

        let mut session = piped();
        let Step::Run(asked) = session.line("connect a:1") else { panic!() };
        session.answered(Instant::now(), &asked, &Ok(Reply::Done));
        assert!(!session.failed());
        session.answered(Instant::now(), &asked, &Err(Failure::new(Code::Unreachable, "nobody there")));
        assert!(session.failed() && session.take_said().len() == 2);

        for direction in [Direction::In, Direction::Out] {
            let mut session = piped();
            session.event(Instant::now(), &ended(direction, Code::Disconnected));
            assert!(session.failed());
        }
        let mut session = piped();
        session.event(Instant::now(), &Event::Undelivered { peer: "192.0.2.5:1".parse().unwrap(), texts: 1 });
        assert!(session.failed());
    }

    #[test]
    fn what_nobody_wanted_did_not_fail() {
        let mut session = piped();
        session.event(Instant::now(), &ended(Direction::In, Code::Declined));
        session.event(Instant::now(), &ended(Direction::In, Code::Expired));
        session.event(Instant::now(), &ended(Direction::Out, Code::Cancelled));
        assert!(!session.failed());
        session.event(Instant::now(), &ended(Direction::Out, Code::Expired));
        assert!(session.failed(), "a send that nobody took is a failure");
    }
}
