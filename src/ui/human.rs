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

/// Rows below a heading, each column as wide as its widest cell. Cells are one line each and
/// escaped already.
pub(super) fn table<const COLUMNS: usize>(heading: [&str; COLUMNS], rows: &[[String; COLUMNS]]) -> String {
    let mut widths = heading.map(UnicodeWidthStr::width);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.width());
        }
    }
    let lines = std::iter::once(heading.map(str::to_owned)).chain(rows.iter().cloned()).map(|row| {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
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
            table(["NAME", "SIZE"], &[row("日本語", "1 byte"), row("a", "")]),
            "NAME    SIZE\n日本語  1 byte\na"
        );
    }
}
