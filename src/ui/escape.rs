//! How text that others wrote becomes safe to show.
//!
//! Invariant: what comes out of [`escape`] cannot move the cursor, change colours or titles, turn
//! the direction of the text around it, or start a new line. Everything a person sees goes
//! through here, logs included.

use std::borrow::Cow;

use crate::wire::is_deceptive;

/// The text on one line, with everything invisible that acts on what stands around it written out:
/// `\n`, `\x1b`, `\u{202e}`. Applying it twice changes nothing more.
pub(super) fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(is_deceptive) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            c if !is_deceptive(c) => shown.push(c),
            c if c.is_ascii() => shown += &format!("\\x{:02x}", u32::from(c)),
            c => shown += &format!("\\u{{{:x}}}", u32::from(c)),
        }
    }
    Cow::Owned(shown)
}

/// A chat text: escaped as by [`escape`], except that its lines stay lines. Those after the first
/// are indented, so that none can pass for something that the program says.
pub(super) fn escape_lines(text: &str) -> String {
    let mut lines = text.trim_end_matches(['\r', '\n']).split('\n').map(|line| {
        // A tab is wide but harmless, and code is full of them.
        let line = line.strip_suffix('\r').unwrap_or(line).replace('\t', "    ");
        escape(&line).into_owned()
    });
    let mut shown = lines.next().unwrap_or_default();
    for line in lines {
        shown.push_str("\n    ");
        shown.push_str(&line);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_invisible_becomes_visible() {
        assert_eq!(escape("\x1b[2J\u{202e}fdp\u{9b}\r\n\t\x07"), "\\x1b[2J\\u{202e}fdp\\u{9b}\\r\\n\\t\\x07");
        assert_eq!(escape("ein Bär, 日本語 👋🏽"), "ein Bär, 日本語 👋🏽");
    }

    #[test]
    fn the_lines_of_a_message_stay_apart_from_what_the_program_says() {
        assert_eq!(escape_lines("one\r\n[1] received\n\tthree\n\n"), "one\n    [1] received\n        three");
        assert_eq!(escape_lines("a\rb"), "a\\rb");
        assert_eq!(escape_lines(""), "");
    }

    /// Written down apart from what `escape` asks: controls (Cc), the marks and overrides of the
    /// bidirectional algorithm (UAX 9), and the separators that break lines.
    fn acts_on_a_terminal(c: char) -> bool {
        matches!(c, '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{61c}' | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    }

    proptest! {
        #[test]
        fn nothing_that_acts_on_a_terminal_survives(
            text in proptest::collection::vec(
                prop_oneof![any::<char>(), proptest::char::range('\0', '\u{a0}'), proptest::char::range('\u{2020}', '\u{2070}')],
                0..64,
            )
        ) {
            let text: String = text.into_iter().collect();
            let shown = escape(&text);
            prop_assert!(!shown.contains(acts_on_a_terminal), "{shown:?}");
            prop_assert_eq!(escape(&shown), shown.clone());
            for line in escape_lines(&text).split('\n') {
                prop_assert!(!line.contains(acts_on_a_terminal), "{line:?}");
            }
        }
    }
}
