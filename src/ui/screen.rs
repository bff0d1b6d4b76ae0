//! Where things are on the screen around the prompt.
//!
//! From above: what was said, the status line if there is one, and the line being typed. rustyline
//! knows the last of them only, and where its first row was before the window changed its size.
//! This module knows the rest: it says how to get from there to where the status line begins, so
//! that everything from there on can be drawn anew.
//!
//! Terminals fold what has become too wide for them, and join what they folded when there is room
//! again. rustyline counts on neither, and would wipe away rows that are not its own. So the rows
//! of a long line are written as lines of their own, which no terminal joins.

use rustyline::GraphemeClusterMode;
use unicode_segmentation::UnicodeSegmentation as _;
use unicode_width::UnicodeWidthStr as _;

/// rustyline's default.
const TAB: usize = 8;

/// What was drawn last.
#[derive(Debug)]
pub(super) struct Screen {
    mode: GraphemeClusterMode,
    /// Whether the terminal folds lines when the window becomes narrower.
    folds: bool,
    /// How wide the rows of the line are at most.
    columns: usize,
    /// The width of the status line; 0 where there is none.
    status: usize,
    prompt: usize,
    line: String,
    /// Where the cursor is in the line, in bytes.
    cursor: usize,
}

impl Screen {
    pub(super) fn new(mode: GraphemeClusterMode, folds: bool) -> Self {
        Self { mode, folds, columns: 0, status: 0, prompt: 0, line: String::new(), cursor: 0 }
    }

    /// Whether the line was drawn like this last.
    pub(super) fn shows(&self, line: &str, cursor: usize) -> bool {
        (self.line.as_str(), self.cursor) == (line, cursor)
    }

    /// What to write where rustyline is about to write its prompt in a window of that many columns:
    /// the way up to the status line, the text with what was said, and the new status line.
    ///
    /// Where rustyline has not heard yet that the window has changed, it counts rows as before. When
    /// it hears of that it draws a line of several rows anew, as it is; at other times (not `anew`)
    /// such a line is as wide as before.
    pub(super) fn above(
        &mut self,
        text: &str,
        status: &str,
        prompt: &str,
        (window, anew): (usize, bool),
    ) -> String {
        // What was folded below the cursor. Not done always: cleared from its top, a screen of tmux
        // is kept in its history as it was.
        let below = if self.is_folded(window) { "\x1b[J" } else { "" };
        let up = self.folded_above(window) + self.status_rows(window);
        let drawn = below.to_owned() + &"\x1b[A\x1b[K".repeat(up) + text;
        let one_row = self.prompt + self.width(&self.line) < window.min(self.columns);
        if anew || one_row || self.columns == 0 {
            self.columns = window;
        }
        self.status = without_colours(status).width();
        self.prompt = prompt.width();
        if status.is_empty() { drawn } else { drawn + status + "\n" }
    }

    /// The line as it is to be written, with its rows on lines of their own.
    pub(super) fn line(&mut self, line: &str, cursor: usize) -> String {
        line.clone_into(&mut self.line);
        self.cursor = cursor;
        rows(self.mode, self.prompt, line, self.columns).join("\n")
    }

    /// What to write when rustyline has moved on to the row below its line: takes the status line
    /// away, which would otherwise stay above what was typed. Nothing is on the screen then.
    pub(super) fn leave(&mut self, screen_rows: usize) -> String {
        let below = self.input_rows() + usize::from(self.status > 0);
        let drawn = if self.status > 0 && below < screen_rows {
            format!("\x1b[{below}A\x1b[M\x1b[{}B\r", below - 1)
        } else {
            String::new()
        };
        self.status = 0;
        self.line.clear();
        self.cursor = 0;
        drawn
    }

    /// Rows that the line takes, with the empty one that rustyline adds behind a full one.
    fn input_rows(&self) -> usize {
        let rows = rows(self.mode, self.prompt, &self.line, self.columns);
        let last = rows.last().map_or(0, |row| self.width(row));
        let before = if rows.len() == 1 { self.prompt } else { 0 };
        rows.len() + usize::from(before + last == self.columns)
    }

    fn status_rows(&self, window: usize) -> usize {
        if self.status == 0 || !self.is_folded(window) {
            return usize::from(self.status > 0);
        }
        self.status.div_ceil(window)
    }

    fn is_folded(&self, window: usize) -> bool {
        self.folds && 0 < window && window < self.columns
    }

    /// By how many rows the cursor has moved down, and with it the place that rustyline believes to
    /// be its first row, because rows above it were folded.
    fn folded_above(&self, window: usize) -> usize {
        if !self.is_folded(window) {
            return 0;
        }
        let before = self.line.get(..self.cursor).unwrap_or(&self.line);
        let mut start = self.prompt;
        let mut more = 0;
        for row in rows(self.mode, self.prompt, before, self.columns) {
            more += rows(self.mode, start, row, window).len() - 1;
            start = 0;
        }
        more
    }

    fn width(&self, text: &str) -> usize {
        usize::from(self.mode.width(text))
    }
}

/// A text that begins at column `start`, cut into the rows that it takes, by the same rules by
/// which rustyline counts them.
fn rows(mode: GraphemeClusterMode, start: usize, text: &str, columns: usize) -> Vec<&str> {
    let mut rows = Vec::new();
    let (mut column, mut row_start) = (start, 0);
    for (at, cluster) in text.grapheme_indices(true) {
        if cluster == "\n" {
            rows.push(&text[row_start..at]);
            (column, row_start) = (0, at + 1);
            continue;
        }
        let width = if cluster == "\t" { TAB - column % TAB } else { usize::from(mode.width(cluster)) };
        column += width;
        if columns > 0 && column > columns {
            rows.push(&text[row_start..at]);
            (column, row_start) = (width, at);
        }
    }
    rows.push(&text[row_start..]);
    rows
}

/// The text without the sequences that change colours.
fn without_colours(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str(part.split_once('m').map_or("", |(_, text)| text));
    }
    plain
}

/// Whether this terminal folds lines when its window becomes narrower. Most do; those that are
/// known not to cut them off.
pub(super) fn terminal_folds() -> bool {
    let variable = |name| std::env::var(name).unwrap_or_default();
    let term = variable("TERM");
    let screen = term.starts_with("screen") && std::env::var_os("TMUX").is_none();
    !(screen || term == "linux" || term.starts_with("st-") || std::env::var_os("XTERM_VERSION").is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODE: GraphemeClusterMode = GraphemeClusterMode::WcWidth;

    #[test]
    fn rows_are_counted_as_rustyline_counts_them() {
        assert_eq!(rows(MODE, 2, "abcdefgh", 10), ["abcdefgh"]);
        assert_eq!(rows(MODE, 2, "abcdefghi", 10), ["abcdefgh", "i"]);
        assert_eq!(rows(MODE, 2, "日本語日本語", 9), ["日本語", "日本語"], "a wide character is not split");
        assert_eq!(rows(MODE, 0, "a\nb", 9), ["a", "b"]);
        assert_eq!(rows(MODE, 2, "", 9), [""]);
    }

    #[test]
    fn without_a_status_line_only_what_was_said_is_written() {
        let mut screen = Screen::new(MODE, true);
        assert_eq!(screen.above("hello\n", "", "> ", (80, true)), "hello\n");
        assert_eq!(screen.line("send", 4), "send");
        assert_eq!(screen.above("", "", "> ", (80, true)), "");
        assert_eq!(screen.leave(24), "");
    }

    #[test]
    fn the_status_line_is_replaced_and_goes_when_the_line_is_left() {
        let mut screen = Screen::new(MODE, true);
        assert_eq!(screen.above("", "\x1b[32m45\x1b[0m %", "> ", (80, true)), "\x1b[32m45\x1b[0m %\n");
        assert_eq!(screen.status, 4);
        screen.line("send", 4);
        assert_eq!(screen.above("hello\n", "46 %", "> ", (80, true)), "\x1b[A\x1b[Khello\n46 %\n");
        assert_eq!(screen.leave(24), "\x1b[2A\x1b[M\x1b[1B\r");
        assert_eq!(screen.above("", "", "> ", (80, true)), "");
        screen.above("", "46 %", "> ", (10, true));
        screen.line("12345678", 8);
        assert_eq!(screen.leave(24), "\x1b[3A\x1b[M\x1b[2B\r", "rustyline adds a row behind a full one");
    }

    #[test]
    fn rows_are_as_wide_as_rustyline_believes_the_window_to_be() {
        let mut screen = Screen::new(MODE, true);
        screen.above("", "", "> ", (60, false));
        screen.line("short", 5);
        screen.above("", "", "> ", (40, false));
        assert_eq!(screen.columns, 40, "a short line is the same in any window");
        let long = "x".repeat(50);
        screen.line(&long, 50);
        for (anew, columns) in [(false, 40), (true, 30)] {
            // Rows of 40 are folded also when they are written into a window of 30.
            assert_eq!(screen.above("", "", "> ", (30, anew)), "\x1b[J\x1b[A\x1b[K");
            assert_eq!(screen.columns, columns);
        }
        assert_eq!(screen.above("", "", "> ", (30, false)), "");
    }

    #[test]
    fn what_a_narrower_window_folds_is_found_again() {
        for (folds, ups) in [(true, 4), (false, 1)] {
            let mut screen = Screen::new(MODE, folds);
            screen.above("", &"s".repeat(60), "> ", (100, true));
            screen.line(&"x".repeat(118), 118);
            // The first row folds into three, the rest fits; the status line folds into two.
            let drawn = screen.above("", "short", "> ", (40, true));
            assert_eq!(drawn.matches("\x1b[A").count(), ups, "{drawn:?}");
            let drawn = screen.above("", "short", "> ", (100, true));
            assert_eq!(drawn, "\x1b[A\x1b[Kshort\n", "nothing is joined again");
        }
    }
}
