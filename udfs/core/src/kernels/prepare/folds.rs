//! Hashes that are the same for ever and on every machine, and the fold a row belongs to.

/// A 64-bit hash of bytes under a seed: eight bytes at a time, multiplied and folded, with a final mix.
#[must_use]
pub fn hash(bytes: &[u8], seed: u64) -> u64 {
    const K: u64 = 0x9E37_79B9_7F4A_7C15;
    let fold = |a: u64, b: u64| {
        let wide = u128::from(a) * u128::from(b);
        (wide as u64) ^ ((wide >> 64) as u64)
    };
    let mut state = mixed(seed ^ K ^ bytes.len() as u64);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        state = fold(state ^ u64::from_le_bytes(*word), 0xD6E8_FEB8_6659_FD93).wrapping_add(K);
    }
    let mut tail = [0_u8; 8];
    tail.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    mixed(fold(state ^ u64::from_le_bytes(tail), 0xA076_1D64_78BD_642F) ^ state)
}

/// The finaliser of SplitMix64.
const fn mixed(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The fold of the row with this key: rows of one key share it.
#[must_use]
pub fn fold(key: &str, folds: u32) -> u32 {
    ((u128::from(hash(key.as_bytes(), 0x00F0_1D00)) * u128::from(folds.max(1))) >> 64) as u32
}

/// The running sums of a target within one category, by fold: what out-of-fold means are made of.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FoldSums {
    /// Rows with a target, by fold.
    pub counts: Vec<u64>,
    /// Sums of the target, by fold.
    pub sums: Vec<super::moments::Sum>,
}

impl FoldSums {
    /// Sums of `folds` folds.
    #[must_use]
    pub fn new(folds: u32) -> Self {
        Self { counts: vec![0; folds as usize], sums: vec![super::moments::Sum::default(); folds as usize] }
    }

    /// Adds a row.
    pub fn add(&mut self, fold: u32, target: f64) {
        if let (Some(count), Some(sum)) = (self.counts.get_mut(fold as usize), self.sums.get_mut(fold as usize)) {
            *count += 1;
            sum.add(target);
        }
    }

    /// Rows and sum over all folds but `without`.
    #[must_use]
    pub fn outside(&self, without: Option<u32>) -> (u64, f64) {
        let mut sum = super::moments::Sum::default();
        let mut count = 0;
        for (fold, (rows, part)) in self.counts.iter().zip(&self.sums).enumerate() {
            if without != Some(fold as u32) {
                count += rows;
                sum.merge(*part);
            }
        }
        (count, sum.value())
    }
}

/// The mean of a category drawn towards the overall `mean` as if that had been seen `smooth` times (scikit-learn's
/// `TargetEncoder(smooth=…)`); the overall mean for a category that was not seen.
#[must_use]
pub fn smoothed_mean(count: u64, sum: f64, mean: f64, smooth: f64) -> f64 {
    let weight = count as f64 + smooth;
    if count == 0 || weight <= 0.0 { mean } else { (sum + smooth * mean) / weight }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_pinned() {
        // A stored fold or feature must mean the same after an upgrade.
        assert_eq!(hash(b"", 0), PINNED[0]);
        assert_eq!(hash(b"portrait", 0), PINNED[1]);
        assert_eq!(hash(b"portrait", 1), PINNED[2]);
    }

    const PINNED: [u64; 3] = [2_929_377_295_799_939_518, 10_398_165_570_899_604_894, 3_079_452_058_731_632_988];

    #[test]
    fn folds_are_even_and_hashes_differ() {
        let mut counts = [0_u32; 5];
        (0..50_000).for_each(|i| counts[fold(&i.to_string(), 5) as usize] += 1);
        assert!(counts.iter().all(|n| (9_500..10_500).contains(n)), "{counts:?}");
        let mut all: Vec<u64> = (0..100_000_u64).map(|i| hash(&i.to_le_bytes(), 7)).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 100_000);
        assert_ne!(hash(b"a", 0), hash(b"a\0", 0));
    }

    #[test]
    fn a_fold_is_left_out() {
        let mut sums = FoldSums::new(2);
        for (fold, target) in [(0, 1.0), (0, 0.0), (1, 1.0)] {
            sums.add(fold, target);
        }
        assert_eq!((sums.outside(Some(0)), sums.outside(None)), ((1, 1.0), (3, 2.0)));
        assert_eq!((smoothed_mean(1, 1.0, 0.5, 1.0), smoothed_mean(0, 0.0, 0.5, 0.0)), (0.75, 0.5));
    }
}
