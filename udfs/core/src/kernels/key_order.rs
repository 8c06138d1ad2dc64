//! The order of rows by a whole number and then a time, without comparing rows.
//!
//! A log comes in about the order of time and is wanted by user: a stable radix sort by user leaves each user's rows nearly
//! sorted, and only stretches that are not are sorted by time. O(rows) but for those; 16 bytes a row beside the keys.

const DIGIT_BITS: u32 = 11;
/// Wider ranges of users are sorted by comparison.
const RADIX_BITS: u32 = 32;

/// The places of the rows in ascending order of `(first, second)`; rows whose keys are equal keep their order. `second`, when
/// there is one, is as long as `first`, which has at most 2^32 rows.
#[must_use]
pub fn key_order(first: &[i64], second: Option<&[i64]>) -> Vec<u32> {
    let mut order = by_first(first);
    if let Some(second) = second {
        let time = |row: &u32| second.get(*row as usize).copied().unwrap_or(i64::MAX);
        for rows in order.chunk_by_mut(|a, b| first[*a as usize] == first[*b as usize]) {
            if !rows.is_sorted_by_key(time) {
                rows.sort_by_key(time);
            }
        }
    }
    order
}

#[allow(clippy::cast_possible_truncation, reason = "rows are counted in 32 bits, digits are masked")]
fn by_first(keys: &[i64]) -> Vec<u32> {
    let (Some(least), Some(most)) = (keys.iter().min(), keys.iter().max()) else { return vec![] };
    let bits = u64::BITS - most.abs_diff(*least).leading_zeros();
    if bits > RADIX_BITS {
        let mut order: Vec<u32> = (0..keys.len() as u32).collect();
        order.sort_by_key(|row| keys[*row as usize]);
        return order;
    }
    // The key above its row, so that a pass moves eight bytes.
    let mut rows: Vec<u64> = keys.iter().enumerate().map(|(row, key)| key.abs_diff(*least) << 32 | row as u64).collect();
    let mut moved = vec![0_u64; if bits == 0 { 0 } else { rows.len() }];
    for pass in 0..bits.div_ceil(DIGIT_BITS) {
        let digit = |row: u64| (row >> (32 + pass * DIGIT_BITS)) as usize & ((1 << DIGIT_BITS) - 1);
        let mut next = [0_usize; 1 << DIGIT_BITS];
        rows.iter().for_each(|row| next[digit(*row)] += 1);
        let mut begin = 0;
        for count in &mut next {
            begin += std::mem::replace(count, begin);
        }
        for row in &rows {
            let at = &mut next[digit(*row)];
            moved[*at] = *row;
            *at += 1;
        }
        std::mem::swap(&mut rows, &mut moved);
    }
    drop(moved);
    rows.into_iter().map(|row| row as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::splitmix;

    #[test]
    fn the_order_is_that_of_a_stable_sort() {
        for seed in 0..2_000_u64 {
            let count = splitmix::at(seed, 0) % 200;
            let width = [0, 3, 11, 12, 31, 32, 40, 63][seed as usize % 8];
            let key = |i: u64, salt: u64, bits: u32| {
                (splitmix::at(seed, 2 * i + salt) >> (63 - bits)).cast_signed().wrapping_sub(5 << bits.min(40))
            };
            let first: Vec<i64> = (0..count).map(|i| key(i, 1, width)).collect();
            let second: Vec<i64> = (0..count).map(|i| if seed % 3 == 0 { i as i64 } else { key(i, 500, 4) }).collect();
            let mut expected: Vec<u32> = (0..count as u32).collect();
            expected.sort_by_key(|row| (first[*row as usize], second[*row as usize]));
            assert_eq!(key_order(&first, Some(&second)), expected, "seed {seed}");
            expected.sort_unstable();
            expected.sort_by_key(|row| first[*row as usize]);
            assert_eq!(key_order(&first, None), expected, "seed {seed}");
        }
        assert_eq!(key_order(&[i64::MAX, 0, i64::MIN], None), [2, 1, 0]);
    }
}
