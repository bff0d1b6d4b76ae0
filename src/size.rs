//! Sizes as people read them.

/// A number of bytes with the unit that suits it, in powers of ten: `17 bytes`, `263 kB`, `3.2 MB`.
pub fn human(bytes: u64) -> String {
    if bytes == 1 {
        return "1 byte".to_owned();
    }
    if bytes < 1000 {
        return format!("{bytes} bytes");
    }
    let exact = u128::from(bytes);
    let mut scale = 1000;
    for unit in ["kB", "MB", "GB", "TB", "PB"] {
        // Rounding decides which unit it is: 999,999 bytes are 1.0 MB, not 1000 kB.
        let tenths = (exact * 10 + scale / 2) / scale;
        if tenths < 1000 {
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
        let whole = (exact + scale / 2) / scale;
        if whole < 1000 {
            return format!("{whole} {unit}");
        }
        scale *= 1000;
    }
    format!("{}.{} EB", exact * 10 / scale / 10, exact * 10 / scale % 10)
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn sizes_have_the_unit_that_suits_them() {
        for (bytes, shown) in [
            (0, "0 bytes"),
            (1, "1 byte"),
            (999, "999 bytes"),
            (1000, "1.0 kB"),
            (262_144, "262 kB"),
            (999_499, "999 kB"),
            (999_999, "1.0 MB"),
            (3_200_000, "3.2 MB"),
            (99_960_000, "100 MB"),
            (1 << 30, "1.1 GB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(human(bytes), shown, "{bytes}");
        }
    }
}
