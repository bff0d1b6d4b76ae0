//! Colours, where they are wanted.
//!
//! Invariant: without colours nothing is added to a text. Whoever paints has escaped before.

/// Whether there are colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Style {
    coloured: bool,
}

/// What a piece of text is, as far as its colour goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paint {
    /// Something went wrong.
    Bad,
    /// Something was achieved.
    Good,
    /// Somebody has to answer.
    Asking,
    /// Who is speaking.
    Speaker,
    /// What is only a suggestion.
    Faint,
}

impl Style {
    /// No colours.
    pub(super) const PLAIN: Self = Self { coloured: false };

    /// Colours, whatever the terminal.
    #[cfg(test)]
    pub(super) const COLOURED: Self = Self { coloured: true };

    /// What fits the terminal that this process writes to, going by its environment
    /// (<https://no-color.org>).
    pub(super) fn of_terminal() -> Self {
        let variable = |name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        Self::of(variable("NO_COLOR").as_deref(), variable("TERM").as_deref())
    }

    fn of(no_color: Option<&str>, term: Option<&str>) -> Self {
        let refused = no_color.is_some_and(|value| !value.is_empty());
        let able = term.is_some_and(|term| {
            let monochrome = term.starts_with("vt") || term.ends_with("-m") || term.ends_with("-mono");
            !term.is_empty() && term != "dumb" && !monochrome
        });
        Self { coloured: able && !refused }
    }

    /// Whether there are colours.
    pub(super) fn is_coloured(self) -> bool {
        self.coloured
    }

    /// The text in its colour.
    pub(super) fn paint(self, paint: Paint, text: &str) -> String {
        if !self.coloured {
            return text.to_owned();
        }
        format!("\x1b[{}m{text}\x1b[0m", paint.code())
    }
}

impl Paint {
    /// All of them.
    pub(super) const ALL: [Self; 5] = [Self::Bad, Self::Good, Self::Asking, Self::Speaker, Self::Faint];

    /// The number by which a terminal knows its colour.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Bad => "31",
            Self::Good => "32",
            Self::Asking => "33",
            Self::Speaker => "36",
            Self::Faint => "90",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_that_have_them_and_people_who_want_them() {
        for (no_color, term, coloured) in [
            (None, Some("xterm-256color"), true),
            (Some(""), Some("tmux"), true),
            (Some("1"), Some("xterm-256color"), false),
            (None, Some("dumb"), false),
            (None, Some("vt100"), false),
            (None, Some("xterm-mono"), false),
            (None, None, false),
        ] {
            assert_eq!(Style::of(no_color, term).is_coloured(), coloured, "{no_color:?} {term:?}");
        }
        assert_eq!(Style::PLAIN.paint(Paint::Bad, "error"), "error");
        assert_eq!(Style { coloured: true }.paint(Paint::Bad, "error"), "\x1b[31merror\x1b[0m");
    }
}
