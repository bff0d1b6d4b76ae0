//! What each key does.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::line::Edit;

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Edit(Edit),
    Enter,
    Complete,
    NextTab,
    PreviousTab,
    /// The tab with this number, from 0.
    Tab(usize),
    Older,
    Newer,
    Search,
    ScrollUp,
    ScrollDown,
    /// Yes to what a pop-up asks.
    Yes,
    /// No to it.
    No,
    /// Not now; and away with whatever lies above the screen.
    Later,
    /// Show the pop-ups again.
    Questions,
    Help,
    Redraw,
    Interrupt,
    /// The end of the input, unless there is something to delete.
    EndOrDelete,
    Suspend,
}

/// The keys as the help shows them.
pub(super) const HELP: [(&str, &str); 16] = [
    ("Enter", "do what the line says; `help` lists the commands"),
    ("Tab", "complete the line"),
    ("Up, Down", "lines typed before; Ctrl-R searches in them"),
    ("Shift-Tab", "the next tab; Ctrl-PageUp, Ctrl-PageDown"),
    ("Alt-1 … Alt-9", "the tab with that number"),
    ("PageUp, PageDown", "scroll"),
    ("Ctrl-Y", "yes to what a pop-up asks: take the file, fine"),
    ("Ctrl-X", "no to it: refuse the file, forget the address"),
    ("Esc", "answer later"),
    ("Ctrl-O", "show again what was not answered"),
    ("Ctrl-A, Ctrl-E", "to the beginning, the end of the line"),
    ("Ctrl-U, Ctrl-K", "delete what is before, behind the cursor"),
    ("Ctrl-W", "delete a word"),
    ("Ctrl-L", "draw everything anew"),
    ("Ctrl-Z", "suspend; `fg` comes back"),
    ("Ctrl-C, Ctrl-D", "leave"),
];

/// What a key asks for, if anything.
pub(super) fn action(key: KeyEvent) -> Option<Action> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    let held = key.modifiers;
    Some(match key.code {
        KeyCode::Char(c) if held.contains(KeyModifiers::CONTROL) => control(c.to_ascii_lowercase())?,
        KeyCode::Char(c) if held.contains(KeyModifiers::ALT) => match c {
            '1'..='9' => Action::Tab(c as usize - '1' as usize),
            'b' | 'B' => Action::Edit(Edit::WordLeft),
            'f' | 'F' => Action::Edit(Edit::WordRight),
            'd' | 'D' => Action::Edit(Edit::DeleteWordRight),
            _ => return None,
        },
        KeyCode::Char(c) => Action::Edit(Edit::Insert(c)),
        KeyCode::Enter => Action::Enter,
        KeyCode::Tab => Action::Complete,
        KeyCode::BackTab => Action::NextTab,
        KeyCode::PageUp if held.contains(KeyModifiers::CONTROL) => Action::PreviousTab,
        KeyCode::PageDown if held.contains(KeyModifiers::CONTROL) => Action::NextTab,
        KeyCode::PageUp => Action::ScrollUp,
        KeyCode::PageDown => Action::ScrollDown,
        KeyCode::Up => Action::Older,
        KeyCode::Down => Action::Newer,
        KeyCode::Left if held.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) => {
            Action::Edit(Edit::WordLeft)
        }
        KeyCode::Right if held.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) => {
            Action::Edit(Edit::WordRight)
        }
        KeyCode::Left => Action::Edit(Edit::Left),
        KeyCode::Right => Action::Edit(Edit::Right),
        KeyCode::Home => Action::Edit(Edit::Home),
        KeyCode::End => Action::Edit(Edit::End),
        KeyCode::Backspace if held.contains(KeyModifiers::ALT) => Action::Edit(Edit::DeleteWordLeft),
        KeyCode::Backspace => Action::Edit(Edit::Backspace),
        KeyCode::Delete => Action::Edit(Edit::Delete),
        KeyCode::Esc => Action::Later,
        KeyCode::F(1) => Action::Help,
        _ => return None,
    })
}

fn control(c: char) -> Option<Action> {
    Some(match c {
        'a' => Action::Edit(Edit::Home),
        'b' => Action::Edit(Edit::Left),
        'c' => Action::Interrupt,
        'd' => Action::EndOrDelete,
        'e' => Action::Edit(Edit::End),
        'f' => Action::Edit(Edit::Right),
        'h' => Action::Edit(Edit::Backspace),
        'i' => Action::Complete,
        'j' | 'm' => Action::Enter,
        'k' => Action::Edit(Edit::KillToEnd),
        'l' => Action::Redraw,
        'n' => Action::Newer,
        'o' => Action::Questions,
        'p' => Action::Older,
        'r' => Action::Search,
        't' => Action::Edit(Edit::Transpose),
        'u' => Action::Edit(Edit::KillToStart),
        'w' => Action::Edit(Edit::DeleteWordLeft),
        'x' => Action::No,
        'y' => Action::Yes,
        'z' => Action::Suspend,
        _ => return None,
    })
}
