//! What is said, as lines of a screen: with colours, and folded to a width.
//!
//! Invariant: nothing is drawn that was not escaped where it was worded; what still acts on a terminal
//! would be left out by the buffer that is drawn into.

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use unicode_segmentation::UnicodeSegmentation as _;
use unicode_width::UnicodeWidthStr as _;

use crate::ui::style::Paint;

/// How a piece of text looks. Only colours that can be read on black and on white, and never a background.
pub(super) fn style_of(paint: Paint, coloured: bool) -> Style {
    let style = match paint {
        Paint::Bad => Style::new().fg(Color::Red),
        Paint::Good => Style::new().fg(Color::Green),
        Paint::Asking => Style::new().fg(Color::Magenta).add_modifier(Modifier::BOLD),
        Paint::Speaker => Style::new().fg(Color::Cyan).add_modifier(Modifier::BOLD),
        Paint::Faint => Style::new().fg(Color::DarkGray),
    };
    if coloured { style } else { Style { fg: None, ..style } }
}

/// A text with the colours that [`crate::ui::style::Style::paint`] gave it.
pub(super) fn lines_of(text: &str) -> Vec<Line<'static>> {
    let mut style = Style::new();
    let line = |line: &str| {
        let mut spans = Vec::new();
        let mut parts = line.split("\x1b[");
        let mut rest = parts.next().unwrap_or_default();
        loop {
            if !rest.is_empty() {
                spans.push(Span::styled(rest.to_owned(), style));
            }
            let Some(part) = parts.next() else { break };
            let (code, after) = part.split_once('m').unwrap_or(("", part));
            style = Paint::ALL
                .into_iter()
                .find(|paint| paint.code() == code)
                .map_or(Style::new(), |paint| style_of(paint, true));
            rest = after;
        }
        Line::from(spans)
    };
    text.split('\n').map(line).collect()
}

/// A line cut into rows of at most that many columns, between words where that can be.
pub(super) fn folded(line: &Line<'static>, columns: usize) -> Vec<Line<'static>> {
    if line.width() <= columns {
        return vec![line.clone()];
    }
    let cells: Vec<(&str, Style)> = line
        .spans
        .iter()
        .flat_map(|span| span.content.graphemes(true).map(|cluster| (cluster, span.style)))
        .collect();
    let (mut rows, mut start) = (Vec::new(), 0);
    while start < cells.len() {
        let mut used = 0;
        let fits = |(cluster, _): &&(&str, Style)| {
            used += cluster.width();
            used <= columns
        };
        // Where not even one character fits, it is cut off by whoever draws.
        let most = start + cells[start..].iter().take_while(fits).count().max(1);
        // The blank between two rows is not seen. One that stands before all words of a row is none.
        let is_word = |(cluster, _): &(&str, Style)| *cluster != " ";
        let is_between = |at: &usize| !is_word(&cells[*at]) && cells[start..*at].iter().any(is_word);
        let blank = (start..=most.min(cells.len() - 1)).rev().find(is_between);
        let (end, next) = match blank {
            Some(blank) if most < cells.len() => (blank, blank + 1),
            _ => (most, most),
        };
        rows.push(joined(&cells[start..end]));
        start = next;
    }
    rows
}

fn joined(cells: &[(&str, Style)]) -> Line<'static> {
    let mut spans: Vec<Span<'static>> = Vec::new();
    for (cluster, style) in cells {
        match spans.last_mut() {
            Some(span) if span.style == *style => span.content.to_mut().push_str(cluster),
            _ => spans.push(Span::styled((*cluster).to_owned(), *style)),
        }
    }
    Line::from(spans)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str, columns: usize) -> Vec<String> {
        lines_of(text).iter().flat_map(|line| folded(line, columns)).map(|row| row.to_string()).collect()
    }

    #[test]
    fn long_lines_are_folded_between_words_and_long_words_anywhere() {
        assert_eq!(rows("one two three", 20), ["one two three"]);
        assert_eq!(rows("one two three", 8), ["one two", "three"]);
        assert_eq!(rows("one two three", 7), ["one two", "three"]);
        assert_eq!(rows("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(rows("日本語日本語", 5), ["日本", "語日", "本語"]);
        assert_eq!(rows("a\n\nb", 5), ["a", "", "b"]);
        for columns in 0..4 {
            assert!(!rows("日本 語", columns).is_empty(), "whatever the width");
        }
    }

    #[test]
    fn colours_are_those_that_were_painted_and_survive_folding() {
        let text = crate::ui::style::Style::COLOURED.paint(Paint::Bad, "red words") + " and others";
        let line = &lines_of(&text)[0];
        assert_eq!(line.to_string(), "red words and others");
        let rows = folded(line, 6);
        assert_eq!(
            rows.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["red", "words", "and", "others"]
        );
        assert_eq!(rows[1].spans[0].style.fg, Some(Color::Red));
        assert_eq!(rows[2].spans[0].style.fg, None);
    }

    #[test]
    fn no_colour_is_one_that_a_background_swallows() {
        for paint in Paint::ALL {
            let style = style_of(paint, true);
            assert_eq!(style.bg, None);
            assert!(!matches!(style.fg, Some(Color::White | Color::Black | Color::Yellow | Color::Gray)));
            assert_eq!(style_of(paint, false).fg, None);
        }
    }
}
