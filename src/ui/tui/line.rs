//! The line being typed: the buffer of the prompt's own editor, and the lines of before.
//!
//! Pure; keeping lines on disk is for whoever drives.

use rustyline::At;
use rustyline::Word;
use rustyline::line_buffer::{ChangeListener, DeleteListener, Direction, LineBuffer};

/// Bytes that a line may have; more than a message.
const MAX_BYTES: usize = 256 << 10;

/// Nobody who has to hear of changes.
struct Nobody;

impl DeleteListener for Nobody {
    fn delete(&mut self, _at: usize, _text: &str, _direction: Direction) {}
}

impl ChangeListener for Nobody {
    fn insert_char(&mut self, _at: usize, _c: char) {}
    fn insert_str(&mut self, _at: usize, _text: &str) {}
    fn replace(&mut self, _at: usize, _old: &str, _new: &str) {}
}

/// What a key does to the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edit {
    Insert(char),
    Left,
    Right,
    WordLeft,
    WordRight,
    Home,
    End,
    Backspace,
    Delete,
    DeleteWordLeft,
    DeleteWordRight,
    KillToEnd,
    KillToStart,
    Transpose,
}

/// A line and those before it.
pub(super) struct InputLine {
    buffer: LineBuffer,
    history: Vec<String>,
    most: usize,
    /// Which line of before is shown, and what was typed in its place.
    recalled: Option<(usize, String)>,
    /// What was searched for last, while that goes on.
    searched: Option<String>,
}

impl InputLine {
    /// An empty line; of the lines before it at most so many are kept.
    pub(super) fn new(mut history: Vec<String>, most: usize) -> Self {
        history.drain(..history.len().saturating_sub(most));
        Self { buffer: LineBuffer::with_capacity(MAX_BYTES), history, most, recalled: None, searched: None }
    }

    pub(super) fn text(&self) -> &str {
        self.buffer.as_str()
    }

    /// Where the cursor is, in bytes.
    pub(super) fn cursor(&self) -> usize {
        self.buffer.pos()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    pub(super) fn edit(&mut self, edit: Edit) {
        self.searched = None;
        let buffer = &mut self.buffer;
        match edit {
            Edit::Insert(c) => {
                let _ = buffer.insert(c, 1, &mut Nobody);
            }
            Edit::Left => _ = buffer.move_backward(1),
            Edit::Right => _ = buffer.move_forward(1),
            Edit::WordLeft => _ = buffer.move_to_prev_word(Word::Emacs, 1),
            Edit::WordRight => _ = buffer.move_to_next_word(At::AfterEnd, Word::Emacs, 1),
            Edit::Home => _ = buffer.move_buffer_start(),
            Edit::End => _ = buffer.move_buffer_end(),
            Edit::Backspace => _ = buffer.backspace(1, &mut Nobody),
            Edit::Delete => _ = buffer.delete(1, &mut Nobody),
            Edit::DeleteWordLeft => _ = buffer.delete_prev_word(Word::Big, 1, &mut Nobody),
            Edit::DeleteWordRight => _ = buffer.delete_word(At::AfterEnd, Word::Emacs, 1, &mut Nobody),
            Edit::KillToEnd => _ = buffer.kill_buffer(&mut Nobody),
            Edit::KillToStart => _ = buffer.discard_buffer(&mut Nobody),
            Edit::Transpose => _ = buffer.transpose_chars(&mut Nobody),
        }
    }

    /// Puts a text in at the cursor. What does not fit is left out.
    pub(super) fn insert(&mut self, text: &str) {
        self.searched = None;
        let room = MAX_BYTES.saturating_sub(self.buffer.len());
        let fits = text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= room).last();
        let _ = self.buffer.yank(&text[..fits.unwrap_or(0)], 1, &mut Nobody);
    }

    /// Replaces what stands between `start` and the cursor.
    pub(super) fn complete(&mut self, start: usize, text: &str) {
        let end = self.buffer.pos();
        let grows = self.buffer.len() + text.len() <= MAX_BYTES;
        if start <= end && grows && self.buffer.as_str().is_char_boundary(start) {
            self.buffer.replace(start..end, text, &mut Nobody);
        }
    }

    /// Takes the line, leaving an empty one, and keeps it for [`InputLine::older`].
    pub(super) fn take(&mut self) -> String {
        let line = self.text().to_owned();
        self.set("");
        (self.recalled, self.searched) = (None, None);
        if !line.trim().is_empty() && self.history.last() != Some(&line) {
            self.history.push(line.clone());
            let over = self.history.len().saturating_sub(self.most);
            self.history.drain(..over);
        }
        line
    }

    /// Shows the line before.
    pub(super) fn older(&mut self) {
        let at = self.recalled.as_ref().map_or(self.history.len(), |(at, _)| *at);
        if let Some(at) = at.checked_sub(1) {
            self.recall(at);
        }
    }

    /// Shows the line after, in the end what was typed.
    pub(super) fn newer(&mut self) {
        let Some((at, typed)) = self.recalled.take() else { return };
        if at + 1 < self.history.len() {
            self.recalled = Some((at, typed));
            self.recall(at + 1);
        } else {
            self.set(&typed);
        }
    }

    /// Shows the line before that contains what was typed; again, one before that.
    pub(super) fn search(&mut self) {
        let wanted = self.searched.take().unwrap_or_else(|| self.text().to_owned());
        let before = self.recalled.as_ref().map_or(self.history.len(), |(at, _)| *at);
        let found = self.history[..before].iter().rposition(|line| line.contains(&wanted));
        if let Some(at) = found {
            self.recall(at);
        }
        self.searched = Some(wanted);
    }

    fn recall(&mut self, at: usize) {
        let typed = match self.recalled.take() {
            Some((_, typed)) => typed,
            None => self.text().to_owned(),
        };
        self.searched = None;
        let line = self.history[at].clone();
        self.set(&line);
        self.recalled = Some((at, typed));
    }

    fn set(&mut self, text: &str) {
        self.buffer.update(text, text.len(), &mut Nobody);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(line: &mut InputLine, text: &str) {
        text.chars().for_each(|c| line.edit(Edit::Insert(c)));
    }

    #[test]
    fn the_arrow_keys_bring_lines_back_and_lose_nothing() {
        let mut line = InputLine::new(vec!["one".into(), "two".into()], 3);
        typed(&mut line, "thr");
        line.older();
        line.older();
        line.older();
        assert_eq!(line.text(), "one");
        line.newer();
        assert_eq!(line.text(), "two");
        line.newer();
        line.newer();
        assert_eq!(line.text(), "thr", "what was typed comes back");
        typed(&mut line, "ee");
        assert_eq!(line.take(), "three");
        assert!(line.is_empty());
        for again in ["three", "four", " "] {
            typed(&mut line, again);
            line.take();
        }
        assert_eq!(line.history, ["two", "three", "four"], "bounded, without doubles and blanks");
    }

    #[test]
    fn a_search_goes_back_through_what_contains_the_text() {
        let mut line = InputLine::new(["send a x", "peers", "send b y"].map(String::from).to_vec(), 9);
        typed(&mut line, "send");
        line.search();
        assert_eq!(line.text(), "send b y");
        line.search();
        assert_eq!(line.text(), "send a x");
        line.search();
        assert_eq!(line.text(), "send a x", "there is nothing before");
        line.newer();
        assert_eq!(line.text(), "peers");
    }

    #[test]
    fn a_line_is_bounded_and_its_editing_knows_characters() {
        let mut line = InputLine::new(Vec::new(), 9);
        line.insert(&"日".repeat(MAX_BYTES));
        assert!(line.text().len() <= MAX_BYTES && line.text().ends_with('日'));
        line.edit(Edit::KillToStart);
        typed(&mut line, "sendfile bob e\u{301}");
        line.edit(Edit::Backspace);
        assert_eq!(line.text(), "sendfile bob ", "a letter and its accent are one");
        line.edit(Edit::DeleteWordLeft);
        assert_eq!(line.text(), "sendfile ");
        line.complete(0, "send ");
        assert_eq!((line.text(), line.cursor()), ("send ", 5));
    }
}
