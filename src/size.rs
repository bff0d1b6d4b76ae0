//! Sizes as people read and write them.

use thiserror::Error;

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

/// Why a text is no number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadSize {
    /// There is no number in front.
    #[error("it does not begin with a number")]
    NoNumber,
    /// It cannot be read.
    #[error("its number is none")]
    BadNumber,
    /// Bits were written.
    #[error("those are bits, and bytes are counted here: an eighth as many")]
    Bits,
    /// What follows the number means nothing.
    #[error("its unit is not known")]
    Unit,
    /// No disk and no line has that many.
    #[error("it is too large")]
    TooLarge,
}

/// Reads a number of bytes as people write it: `1GB`, `1.5 MiB`, `500k`, `17`. kB, MB, GB and TB are
/// powers of 1000, KiB, MiB, GiB and TiB of 1024, in upper or lower case.
///
/// # Errors
/// Why it is none.
pub fn parse(text: &str) -> Result<u64, BadSize> {
    let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_lowercase();
    let digits = compact.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(compact.len());
    let (number, unit) = compact.split_at(digits);
    if number.is_empty() {
        return Err(BadSize::NoNumber);
    }
    let factor: u128 = match unit {
        "" | "b" => 1,
        "k" | "kb" => 1_000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "t" | "tb" => 1_000_000_000_000,
        "ki" | "kib" => 1 << 10,
        "mi" | "mib" => 1 << 20,
        "gi" | "gib" => 1 << 30,
        "ti" | "tib" => 1 << 40,
        _ if unit.contains("bit") => return Err(BadSize::Bits),
        _ => return Err(BadSize::Unit),
    };
    if number.len() > 18 {
        return Err(BadSize::TooLarge);
    }
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let decimals = u32::try_from(part.len()).map_err(|_| BadSize::BadNumber)?;
    let digits: u128 = format!("{whole}{part}").parse().map_err(|_| BadSize::BadNumber)?;
    u64::try_from(digits * factor / 10_u128.pow(decimals)).map_err(|_| BadSize::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::{BadSize, human, parse};

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("17", 17),
            ("1GB", 1_000_000_000),
            ("1.5 MiB", 1_572_864),
            ("2tb", 2_000_000_000_000),
            ("1 TiB", 1 << 40),
            ("500k", 500_000),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for (text, why) in [
            ("", BadSize::NoNumber),
            ("-1", BadSize::NoNumber),
            ("1..2M", BadSize::BadNumber),
            ("5Mbit", BadSize::Bits),
            ("5 parsec", BadSize::Unit),
            ("99999999999TB", BadSize::TooLarge),
            ("99999999999999999999", BadSize::TooLarge),
        ] {
            assert_eq!(parse(text), Err(why), "{text}");
        }
    }

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
