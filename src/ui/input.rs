//! Lines from a pipe, a file or a terminal without a prompt.
//!
//! A thread of its own reads them: a read that never returns must not keep the runtime from
//! shutting down. Invariant: no more than one line of bounded length is in memory, and the channel
//! bounds how many wait.

use std::io::{self, BufRead, Read as _};
use std::thread;

use tokio::sync::mpsc;

use crate::engine::Command;

/// Longest line in bytes; a longer one is skipped and reported.
const MAX_LINE_BYTES: usize = 1 << 20;

/// Lines that may wait while a command runs.
const LINES_QUEUED: usize = 16;

/// What the person or program in front of us gives. The end of the channel is the end of the input.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// A line, perhaps with its end.
    Line(String),
    /// What a line would have said, and the name of the command.
    Command(&'static str, Command),
    /// A line that is no line, and why.
    Unreadable(&'static str),
    /// The input is at its end because it could not be read on. That is in the log already.
    Broken,
    /// Ctrl-C at the prompt.
    Interrupt,
}

/// Starts to read the lines of stdin.
pub(super) fn from_stdin() -> io::Result<mpsc::Receiver<Input>> {
    let (sender, receiver) = mpsc::channel(LINES_QUEUED);
    thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        let mut stdin = io::stdin().lock();
        loop {
            match next_line(&mut stdin) {
                Ok(Some(input)) => {
                    if sender.blocking_send(input).is_err() {
                        return;
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::error!("cannot read the input: {error}");
                    let _ = sender.blocking_send(Input::Broken);
                    return;
                }
            }
        }
    })?;
    Ok(receiver)
}

/// The next line; `None` at the end.
fn next_line(reader: &mut impl BufRead) -> io::Result<Option<Input>> {
    let mut line = Vec::new();
    reader.by_ref().take(MAX_LINE_BYTES as u64 + 1).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.len() > MAX_LINE_BYTES && line.last() != Some(&b'\n') {
        reader.skip_until(b'\n')?;
        return Ok(Some(Input::Unreadable("the line is longer than 1 MiB")));
    }
    Ok(Some(match String::from_utf8(line) {
        Ok(line) => Input::Line(line),
        Err(_) => Input::Unreadable("the line is not valid UTF-8"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut bytes: &[u8]) -> Vec<Input> {
        std::iter::from_fn(|| next_line(&mut bytes).unwrap()).collect()
    }

    #[test]
    fn the_last_line_needs_no_end() {
        assert_eq!(all(b"a\n\nb"), ["a\n", "\n", "b"].map(|line| Input::Line(line.into())));
        assert_eq!(all(b""), []);
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped_and_the_next_one_read() {
        let mut bytes = vec![b'x'; 3 * MAX_LINE_BYTES];
        bytes.extend_from_slice(b"\npeers\n\xff\xfe\nquit");
        let inputs = all(&bytes);
        assert!(matches!(inputs[0], Input::Unreadable(why) if why.contains("1 MiB")));
        assert_eq!(inputs[1], Input::Line("peers\n".into()));
        assert!(matches!(inputs[2], Input::Unreadable(why) if why.contains("UTF-8")));
        assert_eq!(inputs[3], Input::Line("quit".into()));
    }

    #[test]
    fn a_line_of_the_greatest_length_is_read() {
        let mut bytes = vec![b'x'; MAX_LINE_BYTES];
        bytes.push(b'\n');
        assert!(matches!(all(&bytes).as_slice(), [Input::Line(line)] if line.len() == MAX_LINE_BYTES + 1));
    }
}
