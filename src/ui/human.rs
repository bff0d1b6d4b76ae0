//! Times as people read them, and columns that line up.

use std::time::Duration;

use unicode_width::UnicodeWidthStr;

use crate::size;

/// A length of time: `40 ms`, `4.2 s`, `12 s`, `3 min 5 s`, `2 h 7 min`, `3 days 4 h`.
pub(super) fn duration(time: Duration) -> String {
    let tenths = (time.as_millis() + 50) / 100;
    let seconds = (tenths + 5) / 10;
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match seconds {
        _ if time.as_millis() < 1000 => format!("{} ms", time.as_millis()),
        _ if tenths < 100 => format!("{}.{} s", tenths / 10, tenths % 10),
        0..60 => format!("{seconds} s"),
        60..3600 if seconds.is_multiple_of(60) => format!("{minutes} min"),
        60..3600 => format!("{minutes} min {} s", seconds % 60),
        3600..86_400 => format!("{hours} h {} min", minutes % 60),
        _ if hours < 48 => format!("1 day {} h", hours % 24),
        _ => format!("{} days {} h", hours / 24, hours % 24),
    }
}

/// How fast that many bytes went: `120 MB/s`. `None` where there is nothing to divide.
pub(super) fn rate(bytes: u64, time: Duration) -> Option<String> {
    let nanos = time.as_nanos();
    if bytes == 0 || nanos == 0 {
        return None;
    }
    let per_second = u128::from(bytes) * 1_000_000_000 / nanos;
    Some(format!("{}/s", size::human(u64::try_from(per_second).unwrap_or(u64::MAX))))
}

/// What a cell says that says nothing.
pub(super) const NOTHING: &str = "-";

/// Rows below a heading, each column as wide as its widest cell. Cells are one line each and
/// escaped already.
///
/// Where that is wider than the screen, columns in which nothing is said are left out; where that
/// does not help, each row becomes a paragraph, whose first line has its first `lead` cells.
pub(super) fn table<const COLUMNS: usize>(
    heading: [&str; COLUMNS],
    rows: &[[String; COLUMNS]],
    (lead, screen): (usize, usize),
) -> String {
    let says = |cell: &str| !cell.is_empty() && cell != NOTHING;
    let said: Vec<_> = (0..COLUMNS).filter(|index| rows.iter().any(|row| says(&row[*index]))).collect();
    let pick = |indices: &[usize]| {
        let heading: Vec<_> = indices.iter().map(|index| heading[*index]).collect();
        let rows: Vec<Vec<_>> =
            rows.iter().map(|row| indices.iter().map(|index| row[*index].as_str()).collect()).collect();
        in_columns(&heading, &rows)
    };
    let fits = |table: &String| table.lines().all(|line| line.width() <= screen);
    let all: Vec<_> = (0..COLUMNS).collect();
    Some(pick(&all)).filter(fits).or_else(|| Some(pick(&said)).filter(fits)).unwrap_or_else(|| {
        let paragraphs = rows.iter().map(|row| {
            let named = heading.iter().zip(row).skip(lead).filter(|(_, cell)| says(cell));
            let details: Vec<_> =
                named.map(|(name, cell)| format!("{} {cell}", name.to_lowercase())).collect();
            row[..lead].join("  ") + &filled(&details, screen)
        });
        paragraphs.collect::<Vec<_>>().join("\n")
    })
}

/// Pieces on lines of their own below something, as many on each as fit.
fn filled(pieces: &[String], screen: usize) -> String {
    let (mut text, mut used) = (String::new(), screen);
    for piece in pieces {
        if used.saturating_add(piece.width() + 2) <= screen {
            text += &format!(", {piece}");
            used += piece.width() + 2;
        } else {
            text += &format!("\n  {piece}");
            used = piece.width() + 2;
        }
    }
    text
}

fn in_columns(heading: &[&str], rows: &[Vec<&str>]) -> String {
    let mut widths: Vec<_> = heading.iter().map(|name| name.width()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.width());
        }
    }
    let lines = std::iter::once(heading).chain(rows.iter().map(Vec::as_slice)).map(|row| {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line += cell;
            // `format!` counts characters; a terminal counts columns.
            line.extend(std::iter::repeat_n(' ', width - cell.width() + 2));
        }
        line.truncate(line.trim_end().len());
        line
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_unit_that_suits_them() {
        for (millis, shown) in [
            (0, "0 ms"),
            (42, "42 ms"),
            (999, "999 ms"),
            (1_040, "1.0 s"),
            (9_940, "9.9 s"),
            (9_990, "10 s"),
            (59_440, "59 s"),
            (59_500, "1 min"),
            (185_000, "3 min 5 s"),
            (7_620_000, "2 h 7 min"),
            (90_000_000, "1 day 1 h"),
            (273_600_000, "3 days 4 h"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), shown, "{millis}");
        }
    }

    #[test]
    fn rates_are_sizes_in_a_second() {
        assert_eq!(rate(3_210_000, Duration::from_millis(20)).unwrap(), "161 MB/s");
        assert_eq!(rate(1, Duration::from_secs(1)).unwrap(), "1 byte/s");
        assert_eq!(rate(u64::MAX, Duration::from_nanos(1)).unwrap(), "18.4 EB/s");
        assert_eq!(rate(0, Duration::from_secs(1)), None);
        assert_eq!(rate(1, Duration::ZERO), None);
    }

    #[test]
    fn columns_line_up_also_under_wide_characters() {
        let row = |name: &str, size: &str| [name.to_owned(), size.to_owned()];
        assert_eq!(
            table(["NAME", "SIZE"], &[row("日本語", "1 byte"), row("a", "")], (1, 80)),
            "NAME    SIZE\n日本語  1 byte\na"
        );
    }

    #[test]
    fn a_table_that_is_too_wide_loses_what_says_nothing_and_then_its_columns() {
        let row = |cells: [&str; 4]| cells.map(str::to_owned);
        let rows = [row(["a:1", "-", "five bytes", "x"]), row(["b:2", "-", "-", "y"])];
        let shown = |screen| table(["PEER", "ALIAS", "SENT", "WAY"], &rows, (1, screen));
        assert!(shown(30).starts_with("PEER  ALIAS  SENT        WAY\na:1   -      five bytes  x\n"));
        assert_eq!(shown(24), "PEER  SENT        WAY\na:1   five bytes  x\nb:2   -           y");
        assert_eq!(shown(20), "a:1\n  sent five bytes\n  way x\nb:2\n  way y");
        assert_eq!(table(["A", "B", "C"], &[["1", "2", "3"].map(str::to_owned)], (1, 8)), "A  B  C\n1  2  3");
        let long = ["1".to_owned(), "two".repeat(9), "3".to_owned()];
        assert_eq!(table(["A", "B", "C"], &[long], (1, 20)), format!("1\n  b {}\n  c 3", "two".repeat(9)));
    }
}
