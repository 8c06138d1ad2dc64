//! A counter-based random stream: SplitMix64 (Steele, Lea & Flood, 2014). Equal seeds give equal numbers on
//! every machine and for every thread count, because a number depends on its index only.

/// The number at `index` of the stream `seed`; uniform over all 64-bit values.
#[must_use]
pub const fn at(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The number at `index` as a fraction in `[0, 1)`.
#[must_use]
#[allow(clippy::cast_precision_loss)] // 53 bits are all a double holds
pub fn fraction(seed: u64, index: u64) -> f64 {
    (at(seed, index) >> 11) as f64 / (1_u64 << 53) as f64
}

/// Shuffles `items` in place (Fisher–Yates) with the stream `seed`. O(n).
pub fn shuffle<T>(items: &mut [T], seed: u64) {
    for last in (1..items.len()).rev() {
        // Multiply-shift instead of a remainder: no bias worth naming, and no division.
        let pick = ((u128::from(at(seed, last as u64)) * (last as u128 + 1)) >> 64) as usize;
        items.swap(last, pick);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_numbers() {
        // SplitMix64 with seed 0, as in the reference implementation.
        assert_eq!(at(0, 0), 0xE220_A839_7B1D_CDAF);
        assert_eq!(at(0, 1), 0x6E78_9E6A_A1B9_65F4);
    }

    #[test]
    fn shuffle_is_a_permutation_and_repeats() {
        let mut a: Vec<u32> = (0..1000).collect();
        let mut b = a.clone();
        shuffle(&mut a, 7);
        shuffle(&mut b, 7);
        assert_eq!(a, b);
        assert_ne!(a, (0..1000).collect::<Vec<_>>());
        a.sort_unstable();
        assert_eq!(a, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn fractions_stay_below_one() {
        let mean = (0..10_000).map(|i| fraction(3, i)).sum::<f64>() / 10_000.0;
        assert!((0..10_000).all(|i| (0.0..1.0).contains(&fraction(3, i))));
        assert!((mean - 0.5).abs() < 0.02);
    }
}
