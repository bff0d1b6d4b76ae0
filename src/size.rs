//! Sizes as people read them.

/// A number of bytes in decimal units, with two significant digits or more: `17 bytes`, `3.2 MB`.
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return if bytes == 1 { "1 byte".to_owned() } else { format!("{bytes} bytes") };
    }
    let mut unit = 0;
    let mut whole = u128::from(bytes);
    // In tenths of the unit, rounded; 999.45 and more is the next unit's 1.0.
    let tenths = |bytes: u128, unit: usize| {
        let size = 1000_u128.pow(u32::try_from(unit).expect("six units") + 1);
        (bytes * 10 + size / 2) / size
    };
    while unit + 1 < UNITS.len() && tenths(whole, unit) >= 9_995 {
        unit += 1;
    }
    whole = tenths(whole, unit);
    if whole < 1000 {
        format!("{}.{} {}", whole / 10, whole % 10, UNITS[unit])
    } else {
        format!("{} {}", (whole + 5) / 10, UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn sizes_read_like_a_file_manager_writes_them() {
        for (bytes, shown) in [
            (0, "0 bytes"),
            (1, "1 byte"),
            (999, "999 bytes"),
            (1000, "1.0 kB"),
            (262_144, "262 kB"),
            (3_200_000, "3.2 MB"),
            (999_449, "999 kB"),
            (999_450, "1.0 MB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(human(bytes), shown);
        }
    }
}
