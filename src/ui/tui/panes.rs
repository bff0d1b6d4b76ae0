//! The lists: who is connected, and what is under way.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr as _;

use crate::engine::{Cell, Delivery, Direction, Stage, TransferInfo};
use crate::size;
use crate::ui::escape::escape;
use crate::ui::progress::{Status, shortened};
use crate::ui::render::{reputation, thing};
use crate::ui::style::Paint;

use super::model::{Model, PeerRow, TransferRow};
use super::tabs::{Peer, Presence};
use super::text::{lines_of, style_of};
use super::view::{heading, left, put, rate, right, split_rows};

/// Colours of those who send: any of them can be read on black and on white, and there is a letter with each.
const SENDERS: [Color; 5] = [Color::Cyan, Color::Magenta, Color::Green, Color::Blue, Color::Red];

/// Rows that both lists want above a conversation, and get of that many rows at most.
pub(super) fn height(model: &Model, body: u16) -> u16 {
    let (peers, transfers) = heights(model, body * 3 / 5);
    peers + transfers
}

/// Rows of the two lists with their headings.
fn heights(model: &Model, most: u16) -> (u16, u16) {
    let wanted = |rows: usize| u16::try_from(rows + 1).unwrap_or(u16::MAX);
    let peers = wanted((model.peers.len() + away(model).count()).max(1));
    let transfers = match model.transfers.len() {
        0 => 0,
        _ => wanted(model.transfers.iter().map(|row| 1 + details(&row.info)).sum()),
    };
    // Transfers get what peers leave, and peers a half in any case.
    let half = most.div_ceil(2);
    let peers_get = peers.min(half.max(most.saturating_sub(transfers)));
    (peers_get, transfers.min(most - peers_get))
}

/// Rows that a transfer could fill beside its own.
fn details(info: &TransferInfo) -> usize {
    let moves =
        matches!(info.stage, Stage::Checking | Stage::Transferring | Stage::Waiting | Stage::Finishing);
    if moves && !info.cells.is_empty() { 2 } else { 0 }
}

/// Peers whose tabs are there and who are not.
fn away(model: &Model) -> impl Iterator<Item = &Peer> {
    model.tabs.peers().filter(|peer| peer.presence != Presence::Connected)
}

pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let (peers, transfers) = heights(model, area.height);
    let (upper, rest) = split_rows(area, peers);
    let (lower, _) = split_rows(rest, transfers);
    list(frame, model, upper, &format!("Peers {}", model.peers.len()), &peer_lines(model, upper));
    list(
        frame,
        model,
        lower,
        &format!("Transfers {}", model.transfers.len()),
        &transfer_lines(model, lower.width.into(), lower.height.saturating_sub(1).into()),
    );
}

fn list(frame: &mut Frame<'_>, model: &Model, area: Rect, title: &str, lines: &[Line<'_>]) {
    put(frame, area, &heading(title, area.width, model));
    for (y, line) in (area.y + 1..area.bottom()).zip(lines) {
        put(frame, Rect { y, height: 1, ..area }, line);
    }
}

/// As many lines as fit, and in the last row how many do not.
fn cut(mut lines: Vec<Line<'static>>, rows: usize, more: &str) -> Vec<Line<'static>> {
    // Where there is one row only, the heading says how many there are.
    if lines.len() > rows && rows > 1 {
        let left_out = lines.len() - rows + 1;
        lines.truncate(rows - 1);
        lines.push(Line::from(format!("  … and {left_out} more: {more}")));
    }
    lines
}

fn peer_lines(model: &Model, area: Rect) -> Vec<Line<'static>> {
    let columns = usize::from(area.width);
    let mut lines: Vec<_> = model.peers.iter().map(|peer| peer_line(model, peer, columns)).collect();
    lines.extend(away(model).map(|peer| away_line(model, peer, columns)));
    if lines.is_empty() {
        let text = "  nobody is connected; `connect <host:port>` connects to somebody";
        lines.push(Line::styled(shortened(text, columns), style_of(Paint::Faint, model.style.is_coloured())));
    }
    cut(lines, area.height.saturating_sub(1).into(), "`peers` lists them")
}

/// `● bob                ✓ 90ad9948e289db94  ▲ 1.2 MB/s  ▼ 4.0 MB/s   98 %`
fn peer_line(model: &Model, PeerRow { info, up, down }: &PeerRow, columns: usize) -> Line<'static> {
    const RATE: usize = 10;
    let coloured = model.style.is_coloured();
    let id = info.node_id.map(|id| id.to_string());
    let id_columns = if columns >= 78 { 16 } else { 8 };
    let id = id.map_or_else(|| left("[plain]", id_columns), |id| id[..id_columns].to_owned());
    let record = info.record.as_ref().map(reputation).unwrap_or_default();
    let record = right(&shortened(&record, 5), 5);
    let trust = if info.trusted { "✓" } else { " " };
    let fixed = 2 + 1 + 2 + id_columns + 2 * (RATE + 3) + 1 + record.width();
    let name = left(&escape(&model.known.name_of(info.peer)), columns.saturating_sub(fixed).max(4));
    let (mark, paint) = if info.via.is_some() { ("◐ ", Paint::Asking) } else { ("● ", Paint::Good) };
    let moves = |rate: u64| {
        if rate > 0 { Style::new() } else { style_of(Paint::Faint, coloured) }
    };
    Line::from(vec![
        Span::styled(mark, style_of(paint, coloured)),
        Span::raw(name),
        Span::styled(format!(" {trust}"), style_of(Paint::Good, coloured)),
        Span::styled(format!(" {id}"), style_of(Paint::Faint, coloured)),
        Span::styled(format!(" ▲{}", right(&rate(*up), RATE + 1)), moves(*up)),
        Span::styled(format!(" ▼{}", right(&rate(*down), RATE + 1)), moves(*down)),
        Span::raw(format!(" {record}")),
    ])
}

fn away_line(model: &Model, peer: &Peer, columns: usize) -> Line<'static> {
    let why = match peer.presence {
        Presence::Expected => "away, expected back",
        Presence::Gone | Presence::Connected => "gone",
    };
    let text = format!("○ {} ({why})", escape(&peer.name));
    Line::styled(shortened(&text, columns), style_of(Paint::Faint, model.style.is_coloured()))
}

fn transfer_lines(model: &Model, columns: usize, rows: usize) -> Vec<Line<'static>> {
    let mut spare = rows.saturating_sub(model.transfers.len());
    let mut blocks = Vec::new();
    // What runs comes before what only waits.
    let (running, waiting): (Vec<_>, Vec<_>) =
        model.transfers.iter().partition(|row| details(&row.info) > 0 || row.rate.is_some());
    for row in running.into_iter().chain(waiting) {
        blocks.push(transfer_line(model, row, columns));
        if details(&row.info) > 0 && spare > 0 {
            blocks.push(map_line(model, &row.info.cells, columns));
            spare -= 1;
            if spare > 0 && !row.info.sources.is_empty() {
                blocks.push(legend(model, &row.info, columns));
                spare -= 1;
            }
        }
    }
    cut(blocks, rows, "`transfers` lists them")
}

fn transfer_line(model: &Model, TransferRow { info, rate }: &TransferRow, columns: usize) -> Line<'static> {
    let way = match info.direction {
        Direction::Out => ("▲", "to"),
        Direction::In => ("▼", "from"),
    };
    let whom = match (info.peer, info.sources.len()) {
        (Some(peer), _) => format!(" {} {}", way.1, model.name_of(peer)),
        (None, 2..) => format!(" from {} peers", info.sources.len()),
        (None, _) => String::new(),
    };
    let what = format!("[{}] {} {}{whom}", info.id, way.0, thing(&info.name, info.files));
    let runs = matches!(
        info.stage,
        Stage::Hashing | Stage::Checking | Stage::Transferring | Stage::Finishing | Stage::Partial
    );
    let text = match (runs, info.stage) {
        (true, Stage::Transferring) => {
            Status::new(what, info.bytes, info.size, *rate).line(columns, model.style)
        }
        (true, stage) => {
            let what = format!("{what}, {}", stage.as_str());
            Status::new(what, info.bytes, info.size, *rate).line(columns, model.style)
        }
        (false, Stage::Offered) if info.direction == Direction::In => {
            let answer = format!("accept {} / reject {}", info.id, info.id);
            let answer = model.style.paint(Paint::Asking, &answer);
            let room = columns.saturating_sub(19 + 2 * info.id.to_string().len());
            format!("{}: {answer}", shortened(&format!("{what}, {}", size::human(info.size)), room))
        }
        (false, stage) => shortened(&format!("{what}, {}", stage.as_str()), columns),
    };
    lines_of(&text).swap_remove(0)
}

/// The letter of a source; there are more sources than letters only in a crowd.
fn letter(source: usize) -> char {
    char::from(b'A' + u8::try_from(source % 26).unwrap_or(0))
}

fn colour(model: &Model, source: usize) -> Style {
    let style = Style::new().add_modifier(Modifier::BOLD);
    if model.style.is_coloured() { style.fg(SENDERS[source % SENDERS.len()]) } else { style }
}

/// Which part of it is here, and from whom: a capital letter where all of a part is here, a small one where
/// some is; `#` and `+` where it was here before.
fn map_line(model: &Model, cells: &[Cell], columns: usize) -> Line<'static> {
    let columns = columns.saturating_sub(6).min(96);
    let mut spans = vec![Span::raw("    ")];
    let faint = style_of(Paint::Faint, model.style.is_coloured());
    for column in 0..columns {
        let (first, last) = (column * cells.len() / columns, (column + 1) * cells.len() / columns);
        let part = &cells[first..last.max(first + 1)];
        let percent = part.iter().map(|cell| usize::from(cell.percent)).sum::<usize>() / part.len();
        let source = part.iter().max_by_key(|cell| cell.percent).and_then(|cell| cell.source);
        let (shown, style) = match (source.map(usize::from), percent) {
            (_, 0) => ('·', faint),
            (Some(source), 100) => (letter(source), colour(model, source)),
            (Some(source), _) => (letter(source).to_ascii_lowercase(), colour(model, source)),
            (None, 100) => ('#', Style::new()),
            (None, _) => ('+', Style::new()),
        };
        match spans.last_mut() {
            Some(span) if span.style == style => span.content.to_mut().push(shown),
            _ => spans.push(Span::styled(shown.to_string(), style)),
        }
    }
    Line::from(spans)
}

/// `    A bob 12.0 MB  B carol 3.0 MB`
fn legend(model: &Model, info: &TransferInfo, columns: usize) -> Line<'static> {
    let mut spans = vec![Span::raw("    ")];
    let mut used = 4;
    for (number, source) in info.sources.iter().enumerate() {
        let text = format!(" {}  ", delivered(model, source));
        let is_last = number + 1 == info.sources.len();
        let room = columns.saturating_sub(used + if is_last { 0 } else { 12 });
        if text.trim_end().width() + 1 > room {
            spans.push(Span::raw(format!("… and {} more", info.sources.len() - number)));
            break;
        }
        used += text.width() + 1;
        spans.push(Span::styled(letter(number).to_string(), colour(model, number)));
        spans.push(Span::raw(text));
    }
    Line::from(spans)
}

fn delivered(model: &Model, source: &Delivery) -> String {
    let mut text = format!("{} {}", escape(&model.name_of(source.peer)), size::human(source.bytes));
    if source.bad_chunks > 0 {
        text += &format!(", {} bad", source.bad_chunks);
    }
    text
}
