//! The terminal that a front end borrows: how it was, and how wide it is.
//!
//! Invariant: however the program ends, [`Terminal::restore`] gives the terminal back as it was.

use std::io;
use std::sync::Arc;
use std::thread;

use rustix::termios::{OptionalActions, Termios, Winsize, tcgetattr, tcgetwinsize, tcsetattr};

/// The terminal as it was before.
#[derive(Clone)]
pub(super) struct Terminal {
    before: Arc<Termios>,
    /// What switches off what was switched on.
    undo: &'static str,
}

impl Terminal {
    /// Remembers how the terminal is. `undo` is to be written to it at the end.
    ///
    /// # Errors
    /// Where stdin is no terminal.
    pub(super) fn as_it_is(undo: &'static str) -> io::Result<Self> {
        Ok(Self { before: Arc::new(tcgetattr(rustix::stdio::stdin())?), undo })
    }

    /// Has every key come at once and unchanged, and nothing shown of it.
    pub(super) fn take_keys(&self) -> io::Result<()> {
        let mut raw = Termios::clone(&self.before);
        raw.make_raw();
        Ok(tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &raw)?)
    }

    /// Gives the terminal back. Harmless where that has happened already.
    pub(super) fn restore(&self) {
        // Nothing can be done about a terminal that does not listen.
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.before);
        // Not through `std`, whose lock a stalled painter may hold.
        let _ = rustix::io::write(rustix::stdio::stdout(), self.undo.as_bytes());
    }

    /// Restores the terminal before a panic is told of one of the threads without which there is
    /// nothing to see. That of a task goes to the log: the node lives on, and so does the screen.
    pub(super) fn restore_on_panic(&self, threads: &'static [&'static str]) {
        let terminal = self.clone();
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if thread::current().name().is_some_and(|name| threads.contains(&name)) {
                terminal.restore();
                tell(panic);
            } else {
                tracing::error!("this is a bug: {panic}");
            }
        }));
    }
}

/// The size of the window, as far as the terminal knows it.
pub(super) fn window() -> Winsize {
    let unknown = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    tcgetwinsize(rustix::stdio::stdout()).ok().filter(|size| size.ws_col > 0).unwrap_or(unknown)
}

/// How many columns the window has.
pub(super) fn columns() -> usize {
    window().ws_col.into()
}
