//! What lies above the rest: pop-ups, the help, and what could stand in the line.
//!
//! Invariant: the line that is typed is never covered, except by the help, which somebody asked for.

use std::time::Instant;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Clear, Widget as _};
use unicode_width::UnicodeWidthStr as _;

use crate::size;
use crate::ui::human::duration;
use crate::ui::render::thing;
use crate::ui::style::Paint;

use super::keys::HELP;
use super::model::Model;
use super::popups::Question;
use super::text::{folded, lines_of, style_of};
use super::view::put;

/// The widest box: an identity fits into a row.
const WIDEST: u16 = 72;

/// A box with a frame in the middle of an area; answers what is inside.
fn boxed(frame: &mut Frame<'_>, area: Rect, (columns, rows): (u16, u16), title: &str) -> Rect {
    let (width, height) = (columns.min(area.width), rows.min(area.height));
    let x = area.x + (area.width - width) / 2;
    let y = area.y + (area.height - height) / 2;
    let outer = Rect { x, y, width, height };
    let block = Block::bordered()
        .border_type(BorderType::Rounded)
        .title(Line::styled(format!(" {title} "), Style::new().add_modifier(Modifier::BOLD)));
    let inner = block.inner(outer);
    Clear.render(outer, frame.buffer_mut());
    block.render(outer, frame.buffer_mut());
    inner
}

fn put_all(frame: &mut Frame<'_>, area: Rect, lines: &[Line<'_>]) {
    for (y, line) in (area.y..area.bottom()).zip(lines) {
        put(frame, Rect { y, height: 1, ..area }, line);
    }
}

/// What somebody should look at.
pub(super) fn question(frame: &mut Frame<'_>, model: &Model, now: Instant, area: Rect) {
    let Some((question, waiting)) = model.popups.seen() else { return };
    let coloured = model.style.is_coloured();
    let (title, mut text, keys) = match question {
        Question::Offer { peer, name, size, files, expires_at, leaves, .. } => {
            let left = expires_at.saturating_duration_since(now);
            let room = leaves.map_or_else(String::new, |free| {
                format!("It would leave only {} free there.\n", size::human(free))
            });
            let text = format!(
                "{} offers\n{}, {}\n{room}(expires in {})",
                model.known.name_and_address_of(*peer),
                thing(name, *files),
                size::human(*size),
                duration(std::time::Duration::from_secs(left.as_secs())).replace(".0 s", " s"),
            );
            ("A file is offered", text, "Ctrl-Y take it   Ctrl-X refuse   Esc later")
        }
        Question::FirstContact { dialled, node_id, .. } => {
            let text = format!(
                "{dialled} was never connected to before. Its identity is\n{node_id}\nand is expected there from now on. To be sure, \
                 have them compare it with what their `whoami` shows."
            );
            ("First contact", text, "Ctrl-Y fine   Ctrl-X disconnect and forget   Esc later")
        }
    };
    let title = if waiting > 1 { format!("{title} (1 of {waiting})") } else { title.to_owned() };
    text += "\n";
    let columns = WIDEST.min(area.width.saturating_sub(2));
    let inside = usize::from(columns.saturating_sub(4));
    let mut lines: Vec<_> = lines_of(&text).iter().flat_map(|line| folded(line, inside)).collect();
    // A key that was meant for something else must not answer, so it is said when keys are heard.
    let heard = model.popups.takes_answer(now);
    let keys = if heard { Span::styled(keys, style_of(Paint::Asking, coloured)) } else { Span::raw("…") };
    // The keys stand where they are seen in any window.
    let most = usize::from(area.height.saturating_sub(2));
    lines.truncate(most.saturating_sub(1));
    lines.push(Line::from(keys));
    let rows = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX);
    let inner = boxed(frame, area, (columns, rows), &title);
    let inner = Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner };
    put_all(frame, inner, &lines);
}

/// The keys.
pub(super) fn help(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let Some(scroll) = model.help else { return };
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let widest = HELP.iter().map(|(keys, _)| keys.width()).max().unwrap_or(0);
    let columns = WIDEST.min(area.width);
    let inside = usize::from(columns.saturating_sub(4));
    let mut lines = Vec::new();
    for (keys, does) in HELP {
        let room = inside.saturating_sub(widest + 2);
        for (number, row) in folded(&Line::from(does), room).into_iter().enumerate() {
            let keys = if number == 0 { keys } else { "" };
            let mut spans = vec![Span::styled(format!("{keys:widest$}  "), bold)];
            spans.extend(row.spans);
            lines.push(Line::from(spans));
        }
    }
    let more =
        "In the tab of a peer what you type is a message to them, and what begins with / is a command.";
    lines.push(Line::default());
    lines.extend(folded(&Line::from(more), inside));
    let rows = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX);
    let fits = rows <= area.height;
    let title = if fits { "Keys (any key closes this)" } else { "Keys (Up and Down scroll, Esc closes)" };
    let inner = boxed(frame, area, (columns, rows), title);
    let most = lines.len().saturating_sub(inner.height.into());
    let inner = Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner };
    put_all(frame, inner, &lines[scroll.min(most)..]);
}

/// What could stand in the line, just above it.
pub(super) fn choices(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let Some(choices) = &model.choices else { return };
    let lines = lines_of(choices);
    let rows = u16::try_from(lines.len() + 1).unwrap_or(u16::MAX).min(area.height);
    let place = Rect { y: area.bottom() - rows, height: rows, ..area };
    Clear.render(place, frame.buffer_mut());
    let faint = style_of(Paint::Faint, model.style.is_coloured());
    let rule = "─".repeat(usize::from(area.width).saturating_sub(22));
    put(frame, place, &Line::styled(format!("─ what could be meant {rule}"), faint));
    let below = Rect { y: place.y + 1, height: place.height.saturating_sub(1), ..place };
    put_all(frame, below, &lines);
}
