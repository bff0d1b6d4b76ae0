//! Sizes as people read them.

const UNITS: [(u64, &str); 6] = [
    (1_000, "kB"),
    (1_000_000, "MB"),
    (1_000_000_000, "GB"),
    (1_000_000_000_000, "TB"),
    (1_000_000_000_000_000, "PB"),
    (1_000_000_000_000_000_000, "EB"),
];

/// A number of bytes in decimal units, to about three digits: `17 bytes`, `3.2 MB`, `263 kB`.
pub fn human(bytes: u64) -> String {
    match bytes {
        1 => return "1 byte".to_owned(),
        0..1000 => return format!("{bytes} bytes"),
        _ => {}
    }
    for (unit, name) in UNITS {
        // Rounded before it is judged: 999,960 bytes are 1.0 MB, not 1000 kB.
        let tenths = bytes.saturating_add(unit / 20) / (unit / 10);
        if tenths < 1000 {
            return format!("{}.{} {name}", tenths / 10, tenths % 10);
        }
        let whole = bytes.saturating_add(unit / 2) / unit;
        if whole < 1000 {
            return format!("{whole} {name}");
        }
    }
    format!("{bytes} bytes")
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn sizes_have_about_three_digits_and_a_decimal_unit() {
        for (bytes, shown) in [
            (0, "0 bytes"),
            (1, "1 byte"),
            (17, "17 bytes"),
            (999, "999 bytes"),
            (1_000, "1.0 kB"),
            (99_949, "99.9 kB"),
            (99_950, "100 kB"),
            (263_378, "263 kB"),
            (3_210_000, "3.2 MB"),
            (12_345_678, "12.3 MB"),
            (1_100_000_000, "1.1 GB"),
            (1 << 40, "1.1 TB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(human(bytes), shown, "{bytes}");
        }
    }

    #[test]
    fn rounding_up_to_a_thousand_takes_the_next_unit() {
        assert_eq!(human(999_499), "999 kB");
        assert_eq!(human(999_500), "1.0 MB");
        assert_eq!(human(999_999_999_999), "1.0 TB");
    }
}
