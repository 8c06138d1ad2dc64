//! Ranges of whole numbers that hold about as many rows each, and the rows range after range.
//!
//! A sample tells where ranges begin; a table of the high bits of a key tells its range, unless the keys crowd together (a few
//! ids far away from all others): then the ranges are searched. O(1) or O(log ranges) a row.

/// Ranges at most: a range is told by a byte.
const RANGES_MAX: usize = 256;
/// One key in so many is looked at.
const SAMPLE_EVERY: usize = 32;
/// The table's entries: they stay in the innermost cache.
const CELLS_BITS: u32 = 13;
/// A range of the table may hold so many times what it should before the ranges are searched.
const CROWDED: usize = 4;

/// Where ranges begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRanges {
    /// The first keys of all ranges but the first.
    begins: Vec<i64>,
    cells: Option<Cells>,
}

/// The range of a key by its distance from `least`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cells {
    least: i64,
    shift: u32,
    ranges: Vec<u8>,
}

impl Cells {
    /// `sample` is in order and not empty.
    fn new(sample: &[i64], begins: &[i64]) -> Self {
        let (least, most) = (sample[0], sample[sample.len() - 1]);
        let bits = u64::BITS - most.abs_diff(least).leading_zeros();
        let shift = bits.saturating_sub(CELLS_BITS);
        let cells = (most.abs_diff(least) >> shift) + 1;
        let first_key = |cell: u64| least.saturating_add_unsigned(cell << shift);
        let range = |cell: u64| begins.partition_point(|begin| *begin <= first_key(cell)) as u8;
        Self { least, shift, ranges: (0..cells).map(range).collect() }
    }

    #[inline]
    fn range(&self, key: i64) -> u8 {
        let cell = key.max(self.least).abs_diff(self.least) >> self.shift;
        self.ranges[(cell as usize).min(self.ranges.len() - 1)]
    }
}

impl KeyRanges {
    /// One range that holds everything.
    #[must_use]
    pub fn whole() -> Self {
        Self { begins: vec![], cells: None }
    }

    /// Ranges of about as many keys, as a sample of them says.
    #[must_use]
    pub fn of_sample(keys: impl Iterator<Item = i64>) -> Self {
        let mut sample: Vec<i64> = keys.step_by(SAMPLE_EVERY).collect();
        if sample.is_empty() {
            return Self::whole();
        }
        sample.sort_unstable();
        let mut begins: Vec<i64> = (1..RANGES_MAX).filter_map(|range| sample.get(range * sample.len() / RANGES_MAX).copied()).collect();
        begins.dedup();
        let cells = Cells::new(&sample, &begins);
        let mut counts = [0_usize; RANGES_MAX];
        sample.iter().for_each(|key| counts[usize::from(cells.range(*key))] += 1);
        // What a range of the search holds at least cannot be less than its most frequent key.
        let searched = sample.chunk_by(|a, b| begins.partition_point(|begin| begin <= a) == begins.partition_point(|begin| begin <= b));
        let fair = searched.map(<[i64]>::len).max().unwrap_or(0).max(sample.len() / RANGES_MAX);
        let crowded = counts.iter().any(|count| *count > CROWDED * fair + CROWDED);
        Self { begins, cells: (!crowded).then_some(cells) }
    }

    /// How many ranges there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.begins.len() + 1
    }

    /// Where the rows of some columns of keys go, one after the other, so that they lie range after range and in each as they came;
    /// where each range begins, and the end.
    #[must_use]
    pub fn places(&self, columns: &[&[i64]]) -> (Vec<u32>, Vec<usize>) {
        let mut ranges: Vec<u8> = Vec::with_capacity(columns.iter().map(|keys| keys.len()).sum());
        for keys in columns {
            match &self.cells {
                Some(cells) => ranges.extend(keys.iter().map(|key| cells.range(*key))),
                None => ranges.extend(keys.iter().map(|key| self.begins.partition_point(|begin| begin <= key) as u8)),
            }
        }
        let mut counts = [0_usize; RANGES_MAX];
        ranges.iter().for_each(|range| counts[usize::from(*range)] += 1);
        let mut begins = Vec::with_capacity(self.count() + 1);
        let mut begin = 0;
        for count in &counts[..self.count()] {
            begins.push(begin);
            begin += count;
        }
        begins.push(begin);
        let mut next = [0_u32; RANGES_MAX];
        next.iter_mut().zip(&begins).for_each(|(next, begin)| *next = *begin as u32);
        let place = |range: &u8| {
            let next = &mut next[usize::from(*range)];
            *next += 1;
            *next - 1
        };
        (ranges.iter().map(place).collect(), begins)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::splitmix;

    /// Keys of a range are below those of the next, equal keys are in one, and the rows of a range keep their order.
    fn check(ranges: &KeyRanges, keys: &[i64]) {
        let (front, back) = keys.split_at(keys.len() / 3);
        let (places, begins) = ranges.places(&[front, back]);
        assert_eq!((places.len(), begins.len(), begins.last()), (keys.len(), ranges.count() + 1, Some(&keys.len())));
        let mut order = vec![u32::MAX; keys.len()];
        places.iter().enumerate().for_each(|(row, place)| order[*place as usize] = row as u32);
        assert!(!order.contains(&u32::MAX));
        let mut before = None::<i64>;
        for range in begins.windows(2).map(|ends| &order[ends[0]..ends[1]]) {
            assert!(range.is_sorted());
            let least = range.iter().map(|row| keys[*row as usize]).min();
            assert!(least.is_none_or(|least| before.is_none_or(|before| before < least)));
            before = range.iter().map(|row| keys[*row as usize]).max().or(before);
        }
    }

    #[test]
    fn ranges_follow_each_other() {
        for seed in 0..400_u64 {
            let count = splitmix::at(seed, 0) % 20_000;
            let far = seed % 3 == 0;
            let key = |i: u64| match splitmix::at(seed, i + 1) {
                odd if far && odd % 500 == 0 => (odd >> 1).cast_signed().wrapping_neg(),
                odd => (odd % (1 << (seed % 40))).cast_signed() - 1000,
            };
            let keys: Vec<i64> = (0..count).map(key).collect();
            // The sample is of the first rows alone.
            check(&KeyRanges::of_sample(keys.iter().copied().take(keys.len() / 2)), &keys);
        }
        check(&KeyRanges::whole(), &[3, 1, 2]);
        check(&KeyRanges::of_sample([i64::MIN, 0, i64::MAX].into_iter().cycle().take(2000)), &[i64::MAX, i64::MIN, 7, 0]);
    }

    #[test]
    fn ranges_are_about_as_large() {
        for far in [false, true] {
            let keys: Vec<i64> = (0..100_000_u64)
                .map(|i| if far && i % 64 == 0 { i64::MAX - i as i64 } else { (splitmix::at(7, i) % 1_000_000).cast_signed() })
                .collect();
            let ranges = KeyRanges::of_sample(keys.iter().copied());
            assert_eq!(ranges.cells.is_none(), far);
            let (_, begins) = ranges.places(&[&keys]);
            let most = begins.windows(2).map(|ends| ends[1] - ends[0]).max().unwrap();
            assert!(most < 4 * keys.len() / 256, "{most}");
        }
    }
}
