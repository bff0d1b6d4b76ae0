//! Where a front end shows what there is to tell: lines one after another, or a screen that is drawn anew.

use std::io;

use crate::engine::{Event, Failure, Reply};

use super::output::{Broken, Output};
use super::progress::Status;
use super::render::Asked;
use super::session::Said;
use super::tui::Screen;

/// One of the two.
#[derive(Clone)]
pub(super) enum Face {
    /// Lines.
    Lines(Output),
    /// A screen, which also shows lists that nobody asked for.
    Screen(Screen),
}

impl Face {
    /// Shows something, waiting for room where that is bounded. Cancel-safe: dropped before its end, it
    /// has shown nothing.
    pub(super) async fn put(&self, said: &Said) -> Result<(), Broken> {
        match self {
            Self::Lines(output) => output.put(&said.text).await,
            Self::Screen(screen) => {
                screen.said(said);
                Ok(())
            }
        }
    }

    /// The screen, where it is one.
    pub(super) fn screen(&self) -> Option<&Screen> {
        match self {
            Self::Lines(_) => None,
            Self::Screen(screen) => Some(screen),
        }
    }

    /// Takes what happened, before it is said.
    pub(super) fn event(&self, event: &Event) {
        if let Self::Screen(screen) = self {
            screen.event(event);
        }
    }

    /// Takes an answer to a line, before it is said.
    pub(super) fn answered(&self, asked: &Asked, answer: &Result<Reply, Failure>) {
        if let Self::Screen(screen) = self {
            screen.answered(asked, answer);
        }
    }

    /// Tells of running transfers in one line, or of none.
    pub(super) fn set_status(&self, status: Option<Status>) {
        if let Self::Lines(output) = self {
            output.set_status(status);
        }
    }

    /// Waits until everything was written that has to be before the end.
    pub(super) async fn flushed(&self) -> Result<(), Broken> {
        match self {
            Self::Lines(output) => output.flushed().await,
            Self::Screen(_) => Ok(()),
        }
    }

    /// Returns once nothing can be shown any more. Cancel-safe.
    pub(super) async fn broken(&self) {
        match self {
            Self::Lines(output) => output.broken().await,
            Self::Screen(screen) => screen.broken().await,
        }
    }

    /// Why nothing can be shown any more, once.
    pub(super) fn take_error(&self) -> Option<io::Error> {
        match self {
            Self::Lines(output) => output.take_error(),
            Self::Screen(screen) => screen.take_error(),
        }
    }
}

impl From<Output> for Face {
    fn from(output: Output) -> Self {
        Self::Lines(output)
    }
}

impl From<Screen> for Face {
    fn from(screen: Screen) -> Self {
        Self::Screen(screen)
    }
}
