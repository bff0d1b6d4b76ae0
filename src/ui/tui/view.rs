//! The model as it is drawn: where everything goes.
//!
//! Pure: the same model in the same window is the same picture. The window may have any size; what has no
//! room is left out, the conversation and the line last. Colours are those of `text`, which can be read on
//! black and on white.

use std::time::Instant;

use ratatui::Frame;
use ratatui::layout::{Position, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use unicode_segmentation::UnicodeSegmentation as _;
use unicode_width::UnicodeWidthStr as _;

use crate::size;
use crate::ui::escape::escape;
use crate::ui::progress::shortened;
use crate::ui::style::Paint;

use super::model::{Model, Seen};
use super::tabs::{Presence, Tab};
use super::text::style_of;
use super::{overlays, panes};

/// A window of that many columns has the lists beside the conversation; a narrower one has them above.
const WIDE: u16 = 120;

/// Columns of the lists beside the conversation, at least.
const LISTS: u16 = 60;

/// How wide the conversation is in a window of that many columns.
pub(super) fn conversation_columns(window: u16) -> u16 {
    if window < WIDE { window } else { window - lists_columns(window) - 1 }
}

fn lists_columns(window: u16) -> u16 {
    (window * 9 / 20).max(LISTS)
}

/// Draws the model, and tells how large the conversation was.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, now: Instant) -> Seen {
    let area = frame.area();
    let [top, body, input, hints] = rows(area);
    let (lists, conversation) = if area.width < WIDE {
        let height = panes::height(model, body.height);
        split_rows(body, height)
    } else {
        let columns = lists_columns(area.width);
        let lists = Rect { width: columns, ..body };
        let rest = Rect { x: body.x + columns + 1, width: body.width - columns - 1, ..body };
        (lists, rest)
    };
    header(frame, model, top);
    panes::draw(frame, model, lists);
    let (tabs, text) = split_rows(conversation, 1);
    tab_bar(frame, model, tabs);
    let (shown, _) = model.tabs.current().rows(text.width.into(), text.height.into());
    // The latest stands just above the line.
    let blank = text.height.saturating_sub(u16::try_from(shown.len()).unwrap_or(u16::MAX));
    for (row, line) in (text.y + blank..text.bottom()).zip(&shown) {
        put(frame, Rect { y: row, height: 1, ..text }, line);
    }
    input_line(frame, model, input);
    hint_line(frame, model, hints);
    overlays::choices(frame, model, text);
    overlays::question(frame, model, now, Rect { height: input.y - area.y, ..area });
    overlays::help(frame, model, area);
    Seen { columns: text.width.into(), rows: text.height.into() }
}

/// The top, what is below it, the line and the hints. The line stays longest where there is no room.
fn rows(area: Rect) -> [Rect; 4] {
    let row = |y: u16, height: u16| Rect { y: area.y + y, height, ..area };
    let hints = u16::from(area.height >= 8);
    let top = u16::from(area.height >= 6);
    let line = u16::from(area.height >= 1);
    let body = area.height - hints - top - line;
    [row(0, top), row(top, body), row(top + body, line), row(top + body + line, hints)]
}

/// The upper rows of an area, and the rest.
pub(super) fn split_rows(area: Rect, upper: u16) -> (Rect, Rect) {
    let upper = upper.min(area.height);
    (Rect { height: upper, ..area }, Rect { y: area.y + upper, height: area.height - upper, ..area })
}

/// Writes a line into the first row of an area, as much of it as fits.
pub(super) fn put(frame: &mut Frame<'_>, area: Rect, line: &Line<'_>) {
    if area.height > 0 && area.width > 0 {
        frame.buffer_mut().set_line(area.x, area.y, line, area.width);
    }
}

/// A heading across a list.
pub(super) fn heading(text: &str, columns: u16, model: &Model) -> Line<'static> {
    let rule = "─".repeat(usize::from(columns).saturating_sub(text.width() + 4));
    let faint = style_of(Paint::Faint, model.style.is_coloured());
    Line::from(vec![
        Span::styled("─ ", faint),
        Span::styled(text.to_owned(), Style::new().add_modifier(Modifier::BOLD)),
        Span::styled(format!(" {rule}─"), faint),
    ])
}

/// `4.0 MB/s`, or a dash where nothing moves.
pub(super) fn rate(bytes_per_sec: u64) -> String {
    if bytes_per_sec == 0 { "-".to_owned() } else { format!("{}/s", size::human(bytes_per_sec)) }
}

/// A text that ends at the right edge of that many columns.
pub(super) fn right(text: &str, columns: usize) -> String {
    format!("{}{text}", " ".repeat(columns.saturating_sub(text.width())))
}

/// A text cut or filled to that many columns.
pub(super) fn left(text: &str, columns: usize) -> String {
    let text = shortened(text, columns);
    let missing = columns.saturating_sub(text.width());
    text + &" ".repeat(missing)
}

fn header(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let sum =
        |part: fn(&super::model::PeerRow) -> u64| model.peers.iter().map(part).fold(0, u64::saturating_add);
    let rates = format!("▲ {}  ▼ {}", rate(sum(|peer| peer.up)), rate(sum(|peer| peer.down)));
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let mut spans = vec![Span::styled("p2p", bold)];
    if let Some(addr) = model.listening {
        spans.push(Span::raw(format!("  {addr}")));
    }
    match model.node.as_ref().map(|node| node.node_id) {
        Some(Some(id)) => {
            let id = format!("  {}…", &id.to_string()[..16]);
            spans.push(Span::styled(id, style_of(Paint::Faint, model.style.is_coloured())));
        }
        Some(None) => {
            let bad = style_of(Paint::Bad, model.style.is_coloured());
            spans.push(Span::styled("  [plain] not encrypted", bad));
        }
        None => {}
    }
    put(frame, area, &Line::from(spans));
    let columns = u16::try_from(rates.width()).unwrap_or(area.width).min(area.width);
    put(frame, Rect { x: area.right() - columns, width: columns, ..area }, &Line::from(rates));
}

fn tab_bar(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let coloured = model.style.is_coloured();
    let faint = style_of(Paint::Faint, coloured);
    let titles: Vec<_> = model.tabs.all().iter().map(title).collect();
    let current = model.tabs.current_index();
    // So many of those before as leave room for the one that is seen.
    let columns = usize::from(area.width);
    let mut first = current;
    let mut used = titles[current].width() + 6;
    while first > 0 && used + titles[first - 1].width() + 3 <= columns {
        first -= 1;
        used += titles[first].width() + 3;
    }
    let mut spans = vec![Span::styled(if first > 0 { "◂─" } else { "──" }, faint)];
    for (index, title) in titles.iter().enumerate().skip(first) {
        let tab = &model.tabs.all()[index];
        let style = match &tab.peer {
            _ if index == current => Style::new().add_modifier(Modifier::BOLD | Modifier::REVERSED),
            _ if tab.unread > 0 => style_of(Paint::Asking, coloured),
            Some(peer) if peer.presence != Presence::Connected => faint,
            _ => Style::new(),
        };
        spans.push(Span::styled(format!(" {title} "), style));
        spans.push(Span::styled("─", faint));
    }
    spans.push(Span::styled("─".repeat(columns), faint));
    put(frame, area, &Line::from(spans));
    if model.tabs.current().is_scrolled() {
        let more = " ▼ more below ";
        let columns = u16::try_from(more.width()).unwrap_or(0).min(area.width);
        let asking = style_of(Paint::Asking, coloured);
        put(frame, Rect { x: area.right() - columns, width: columns, ..area }, &Line::styled(more, asking));
    }
}

fn title(tab: &Tab) -> String {
    const COLUMNS: usize = 22;
    let name = tab.peer.as_ref().map_or("all".to_owned(), |peer| shortened(&escape(&peer.name), COLUMNS));
    if tab.unread > 0 { format!("{name} {}", tab.unread) } else { name }
}

fn input_line(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    if area.height == 0 {
        return;
    }
    let coloured = model.style.is_coloured();
    let prompt = match &model.tabs.current().peer {
        Some(peer) => format!("{}> ", shortened(&escape(&peer.name), usize::from(area.width) / 3)),
        None => "> ".to_owned(),
    };
    put(frame, area, &Line::styled(prompt.clone(), style_of(Paint::Speaker, coloured)));
    let start = u16::try_from(prompt.width()).unwrap_or(area.width).min(area.width);
    let area = Rect { x: area.x + start, width: area.width - start, ..area };
    let columns = usize::from(area.width);
    let (text, cursor) = (visible(model.line.text()), visible(&model.line.text()[..model.line.cursor()]));
    // The cursor, and a little of what is behind it, is always seen.
    let before = cursor.width();
    let skipped = (before + 2).saturating_sub(columns);
    let (skipped, seen) = without_beginning(&text, skipped);
    let mut spans = vec![Span::raw(seen.to_owned())];
    let faint = style_of(Paint::Faint, coloured);
    if let Some(hint) = model.hint().filter(|hint| text.width() + hint.shown.width() < columns) {
        spans.push(Span::styled(hint.shown, faint));
    } else if let (true, Some(_)) = (text.is_empty(), &model.tabs.current().peer) {
        spans.push(Span::styled("a message; /help for commands", faint));
    }
    put(frame, area, &Line::from(spans));
    let column = u16::try_from(before.saturating_sub(skipped)).unwrap_or(0).min(area.width.saturating_sub(1));
    frame.set_cursor_position(Position { x: area.x + column, y: area.y });
}

/// A typed text on one row: the ends of its lines are seen, and nothing acts on what stands around it.
fn visible(text: &str) -> String {
    escape(&text.replace('\n', "⏎").replace('\t', " ")).into_owned()
}

/// A text without so many columns at its beginning; more where a wide character stands there.
fn without_beginning(text: &str, columns: usize) -> (usize, &str) {
    let mut skipped = 0;
    for (at, cluster) in text.grapheme_indices(true) {
        if skipped >= columns {
            return (skipped, &text[at..]);
        }
        skipped += cluster.width();
    }
    (skipped, "")
}

fn hint_line(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let coloured = model.style.is_coloured();
    let waiting = model.popups.waiting();
    let mut spans = Vec::new();
    if waiting > 0 && model.popups.seen().is_none() {
        let question = if waiting == 1 { "1 offer waits" } else { &format!("{waiting} offers wait") };
        spans.push(Span::styled(format!("{question}: Ctrl-O  "), style_of(Paint::Asking, coloured)));
    }
    let keys = [
        "? keys",
        "Tab complete",
        "Shift-Tab next tab",
        "PageUp scroll",
        "Ctrl-C leave",
        "Ctrl-Z suspend",
        "help: commands",
    ];
    let mut used = spans.iter().map(Span::width).sum::<usize>();
    let mut text = String::new();
    for key in keys {
        used += key.width() + 3;
        if used > usize::from(area.width) + 3 {
            break;
        }
        text += if text.is_empty() { "" } else { " · " };
        text += key;
    }
    spans.push(Span::styled(text, style_of(Paint::Faint, coloured)));
    put(frame, area, &Line::from(spans));
}

#[cfg(test)]
mod tests;
