//! What somebody should look at: offers that wait for an answer, and who was met for the first time.
//!
//! Pop-ups take no key that belongs to typing, and none at all in the first moment: whoever types when one
//! appears answers nothing by accident. Invariant: no more than [`QUESTIONS`] are kept; of an offer that
//! is not kept the list of transfers tells.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::engine::{Event, HostPort, TransferId};
use crate::wire::{NodeId, SafeName};

/// Pop-ups that wait.
const QUESTIONS: usize = 64;

/// How long one is seen before it takes an answer.
const FIRST_MOMENT: Duration = Duration::from_millis(600);

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Question {
    /// Is this wanted?
    Offer {
        id: TransferId,
        peer: SocketAddr,
        name: SafeName,
        size: u64,
        files: Option<u32>,
        expires_at: Instant,
        /// How little would stay free of the disk, where that is why it is asked.
        leaves: Option<u64>,
    },
    /// Is it who was meant?
    FirstContact { peer: SocketAddr, dialled: HostPort, node_id: NodeId },
}

/// Those that wait; the first one is seen.
#[derive(Debug, Default)]
pub(super) struct Popups {
    questions: VecDeque<Question>,
    /// Since when the first one is seen; `None` where none is to be.
    seen_since: Option<Instant>,
}

impl Popups {
    /// Takes what happened.
    pub(super) fn event(&mut self, now: Instant, event: &Event) {
        match event {
            Event::Offer { id, peer, name, size, files, expires_in: Some(left), leaves, .. } => {
                let expires_at = now + *left;
                let (id, peer, name, size, files, leaves) =
                    (*id, *peer, name.clone(), *size, *files, *leaves);
                self.ask(now, Question::Offer { id, peer, name, size, files, expires_at, leaves });
            }
            Event::PeerConnected {
                peer,
                dialled: Some(dialled),
                first_contact: true,
                node_id: Some(node_id),
                ..
            }
            | Event::FirstContact { peer, dialled, node_id } => {
                let dialled = dialled.clone();
                self.ask(now, Question::FirstContact { peer: *peer, dialled, node_id: *node_id });
            }
            Event::Received { id, .. } | Event::TransferFailed { id, .. } => self.offers_over(now, &[*id]),
            _ => {}
        }
    }

    fn ask(&mut self, now: Instant, question: Question) {
        if self.questions.len() < QUESTIONS {
            self.questions.push_back(question);
            self.seen_since.get_or_insert(now);
        }
    }

    /// These offers were answered, or are over.
    pub(super) fn offers_over(&mut self, now: Instant, over: &[TransferId]) {
        let first = self.questions.front().cloned();
        self.questions
            .retain(|question| !matches!(question, Question::Offer { id, .. } if over.contains(id)));
        self.first_changed(now, first.as_ref());
    }

    /// The one that is seen, and how many wait in all.
    pub(super) fn seen(&self) -> Option<(&Question, usize)> {
        self.seen_since?;
        self.questions.front().map(|question| (question, self.questions.len()))
    }

    /// How many wait, seen or not.
    pub(super) fn waiting(&self) -> usize {
        self.questions.len()
    }

    /// Whether the one that is seen takes an answer.
    pub(super) fn takes_answer(&self, now: Instant) -> bool {
        self.seen_since.is_some_and(|since| now.saturating_duration_since(since) >= FIRST_MOMENT)
    }

    /// Takes the one that is seen away, because it is answered.
    pub(super) fn answered(&mut self, now: Instant) -> Option<Question> {
        if !self.takes_answer(now) {
            return None;
        }
        let question = self.questions.pop_front();
        self.first_changed(now, question.as_ref());
        question
    }

    /// Shows none of them until another one comes. What is only told needs no answer later.
    /// `false` where none was seen.
    pub(super) fn later(&mut self) -> bool {
        self.questions.retain(|question| matches!(question, Question::Offer { .. }));
        self.seen_since.take().is_some()
    }

    /// Shows them again.
    pub(super) fn again(&mut self, now: Instant) {
        if !self.questions.is_empty() {
            self.seen_since.get_or_insert(now);
        }
    }

    fn first_changed(&mut self, now: Instant, before: Option<&Question>) {
        if self.questions.is_empty() {
            self.seen_since = None;
        } else if self.seen_since.is_some() && self.questions.front() != before {
            self.seen_since = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Code, Direction};

    fn offer(id: u64) -> Event {
        Event::Offer {
            id: TransferId(id),
            peer: "192.0.2.5:1".parse().unwrap(),
            name: SafeName::new("x").unwrap(),
            size: 1,
            sha256: None,
            files: None,
            expires_in: Some(Duration::from_secs(600)),
            leaves: None,
        }
    }

    #[test]
    fn nothing_is_answered_in_the_first_moment() {
        let (mut popups, start) = (Popups::default(), Instant::now());
        popups.event(start, &offer(1));
        popups.event(start, &offer(2));
        assert_eq!(popups.answered(start + FIRST_MOMENT / 2), None);
        let now = start + FIRST_MOMENT;
        assert!(matches!(popups.answered(now), Some(Question::Offer { id: TransferId(1), .. })));
        assert_eq!(popups.answered(now), None, "the next one has just appeared");
        assert!(popups.answered(now + FIRST_MOMENT).is_some());
        assert_eq!(popups.seen(), None);
    }

    #[test]
    fn an_offer_that_is_over_is_not_asked_about() {
        let (mut popups, start) = (Popups::default(), Instant::now());
        popups.event(start, &offer(1));
        popups.event(start, &offer(2));
        let later = start + FIRST_MOMENT;
        popups.event(
            later,
            &Event::TransferFailed {
                id: TransferId(1),
                peer: None,
                name: SafeName::new("x").unwrap(),
                direction: Direction::In,
                code: Code::Withdrawn,
                reason: String::new(),
            },
        );
        assert_eq!(popups.waiting(), 1);
        assert!(!popups.takes_answer(later), "a key meant for the first is none for the second");
        popups.offers_over(later, &[TransferId(2)]);
        assert_eq!(popups.seen(), None);
    }

    #[test]
    fn later_is_until_another_one_comes_or_somebody_asks() {
        let (mut popups, now) = (Popups::default(), Instant::now());
        popups.event(now, &offer(1));
        assert!(popups.later() && popups.seen().is_none() && popups.waiting() == 1);
        assert!(!popups.later());
        popups.again(now);
        assert!(popups.seen().is_some());
        popups.later();
        popups.event(now, &offer(2));
        assert_eq!(popups.seen().unwrap().1, 2);
        (3..1000).for_each(|id| popups.event(now, &offer(id)));
        assert_eq!(popups.waiting(), QUESTIONS);
    }
}
