//! The heaviest values of many groups, exactly: by total weight, then by value.
//!
//! Values are byte strings whose order is the values' order; each has a code. Rows are kept as pairs of group and code and put
//! together when there are many of them: where groups come one after the other, a group's rows are sorted while they are in a cache,
//! and nothing is looked up in a table of all pairs. Whole weights add up as 128-bit integers, doubles as [`ExactSum`]s, so the
//! totals depend on no order. Memory grows with the distinct pairs of group and value.

use std::cmp::Ordering;

use super::exact_sum::ExactSum;
use crate::kernels::intern::{Interner, ShortTexts};

/// Rows that are kept without looking for equal pairs among them.
const ROWS_MIN: usize = 1 << 19;
/// Fewer are sorted by comparison.
const RADIX_MIN: usize = 1 << 12;
const DIGIT_BITS: u32 = 11;
/// Entries of a table that sums are made in.
const TABLE_MAX: usize = 1 << 18;
/// Names of so many bytes stay for the groups to come.
const NAMES_KEPT: usize = 1 << 20;

/// What a row adds. One call has weights of one kind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Weight {
    /// Counts, integers and decimals of one scale.
    Whole(i128),
    /// Finite doubles.
    Double(f64),
}

/// A total of weights.
#[derive(Debug, Clone, PartialEq)]
pub enum Total {
    /// Of whole weights.
    Whole(i128),
    /// Of doubles.
    Double(ExactSum),
}

/// Weights of rows; of one kind.
#[derive(Debug, Clone, Default)]
enum Weights {
    /// One for each row.
    #[default]
    Ones,
    Whole(Vec<i128>),
    Doubles(Vec<f64>),
}

/// Totals by group and value.
#[derive(Debug, Clone)]
pub struct TopK {
    values: Interner,
    short: ShortTexts,
    /// By code the place among all values, where that was worth finding out.
    ranks: Vec<u32>,
    /// Group and code of each row.
    pairs: Vec<u64>,
    weights: Weights,
    /// As many rows are kept before equal pairs are put together.
    limit: usize,
    /// Whether so many pairs are equal that they are put together before more come.
    due: bool,
}

impl Default for TopK {
    fn default() -> Self {
        let (values, short) = (Interner::default(), ShortTexts::default());
        Self { values, short, ranks: vec![], pairs: vec![], weights: Weights::Ones, limit: ROWS_MIN, due: false }
    }
}

const fn pair(group: u32, code: u32) -> u64 {
    (group as u64) << 32 | code as u64
}

const fn group_of(pair: u64) -> u32 {
    (pair >> 32) as u32
}

#[allow(clippy::cast_possible_truncation, reason = "the low half is the code")]
const fn code_of(pair: u64) -> u32 {
    pair as u32
}

impl TopK {
    /// The code of a value, for [`add`](Self::add), until groups are forgotten. Amortised O(bytes of the value).
    pub fn code(&mut self, value: &[u8]) -> u32 {
        self.values.intern_bytes(value)
    }

    /// The same for a text whose view, as Arrow lays it out, is at hand.
    #[inline]
    pub fn code_of_view<'a>(&mut self, view: u128, text: impl FnOnce() -> &'a [u8]) -> u32 {
        let values = &mut self.values;
        self.short.code(view, || values.intern_bytes(text()))
    }

    /// Adds a row. Amortised O(log rows).
    #[inline]
    pub fn add(&mut self, group: u32, code: u32, weight: Weight) {
        if self.due || self.pairs.len() >= self.limit {
            self.settle();
        }
        match (&mut self.weights, weight) {
            (Weights::Ones, Weight::Whole(1)) => {}
            (Weights::Whole(weights), Weight::Whole(weight)) => weights.push(weight),
            (Weights::Doubles(weights), Weight::Double(weight)) => weights.push(weight),
            (_, weight) => self.weigh(weight),
        }
        self.pairs.push(pair(group, code));
    }

    /// Adds a weight of another kind than those before.
    fn weigh(&mut self, weight: Weight) {
        let count = self.pairs.len();
        self.weights = match (std::mem::take(&mut self.weights), weight) {
            (Weights::Ones, Weight::Whole(weight)) => Weights::Whole([vec![1; count], vec![weight]].concat()),
            (Weights::Ones, Weight::Double(weight)) => Weights::Doubles([vec![1.0; count], vec![weight]].concat()),
            (Weights::Whole(before), Weight::Double(weight)) => {
                Weights::Doubles(before.into_iter().map(|whole| whole as f64).chain([weight]).collect())
            }
            (Weights::Whole(before), Weight::Whole(weight)) => Weights::Whole([before, vec![weight]].concat()),
            (Weights::Doubles(before), Weight::Double(weight)) => Weights::Doubles([before, vec![weight]].concat()),
            (Weights::Doubles(before), Weight::Whole(weight)) => Weights::Doubles([before, vec![weight as f64]].concat()),
        };
    }

    /// Shows the totals of the groups below `count`: group by group the `most` heaviest, the heaviest first, ties by value.
    /// O(n log n).
    pub fn each(&mut self, count: usize, most: usize, show: &mut dyn FnMut(usize, &[u8], &Total)) {
        if !self.pairs.is_sorted_by_key(|pair| group_of(*pair)) {
            self.sort();
        }
        self.rank();
        let order = ValueOrder { values: &self.values, ranks: &self.ranks };
        let (mut wholes, mut sums, mut rows) = (vec![], vec![], vec![]);
        let (mut at, mut distinct) = (0, 0);
        for pairs in self.pairs.chunk_by(|one, next| group_of(*one) == group_of(*next)) {
            let group = group_of(pairs[0]) as usize;
            if group >= count {
                break;
            }
            let place = at..at + pairs.len();
            at = place.end;
            match &self.weights {
                Weights::Ones => {
                    counts(pairs, &mut rows, &mut wholes);
                    distinct += wholes.len();
                    order.heaviest(&mut wholes, most, Ord::cmp, |value, total| show(group, value, &Total::Whole(*total)));
                }
                Weights::Whole(weights) => {
                    totals(pairs, &weights[place], &mut wholes, |total, weight| *total = i128::saturating_add(*total, *weight));
                    distinct += wholes.len();
                    order.heaviest(&mut wholes, most, Ord::cmp, |value, total| show(group, value, &Total::Whole(*total)));
                }
                Weights::Doubles(weights) => {
                    totals(pairs, &weights[place], &mut sums, |total: &mut ExactSum, weight| total.add(*weight));
                    distinct += sums.len();
                    order.heaviest(&mut sums, most, ExactSum::compare, |value, total| show(group, value, &Total::Double(total.clone())));
                }
            }
        }
        self.due = distinct * 2 < at;
    }

    /// Forgets the groups below `count`; group `count` becomes group 0. O(n) when some stay. Codes end.
    pub fn forget(&mut self, count: usize) {
        let shift = u32::try_from(count).unwrap_or(u32::MAX);
        let stays: Vec<bool> = self.pairs.iter().map(|pair| group_of(*pair) as usize >= count).collect();
        let mut stay = stays.iter();
        match &mut self.weights {
            Weights::Ones => {}
            Weights::Whole(weights) => weights.retain(|_| stay.next() == Some(&true)),
            Weights::Doubles(weights) => weights.retain(|_| stay.next() == Some(&true)),
        }
        self.pairs.retain(|pair| group_of(*pair) as usize >= count);
        self.pairs.iter_mut().for_each(|pair| *pair -= u64::from(shift) << 32);
        self.due = false;
        if self.values.bytes() > NAMES_KEPT {
            self.rename();
        }
        if self.pairs.is_empty() {
            self.weights = Weights::Ones;
        }
        if self.pairs.len() < ROWS_MIN && self.pairs.capacity() > 2 * ROWS_MIN {
            self.pairs.shrink_to(ROWS_MIN);
        }
        self.limit = self.limit_for(self.pairs.len());
    }

    /// Keeps the names that are in use alone.
    fn rename(&mut self) {
        let old = std::mem::take(&mut self.values);
        (self.short, self.ranks) = (ShortTexts::default(), vec![]);
        for row in &mut self.pairs {
            *row = pair(group_of(*row), self.values.intern_bytes(old.bytes_of(code_of(*row))));
        }
    }

    /// Bytes on the heap, with those that bringing the rows in order takes.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let rows = self.pairs.len();
        let weights = match &self.weights {
            Weights::Ones => rows * size_of::<u64>(),
            Weights::Whole(weights) => weights.capacity() * size_of::<i128>() + rows * sorting_bytes::<i128>(),
            Weights::Doubles(weights) => weights.capacity() * size_of::<f64>() + rows * sorting_bytes::<f64>(),
        };
        let own = self.ranks.capacity() * size_of::<u32>() + self.pairs.capacity() * size_of::<u64>();
        self.values.bytes() + self.short.bytes() + own + weights
    }

    /// Rows are eight bytes where each weighs one; then more of them may wait.
    fn limit_for(&self, rows: usize) -> usize {
        let factor = if matches!(self.weights, Weights::Ones) { 4 } else { 2 };
        ROWS_MIN.max(factor * rows)
    }

    /// Puts equal pairs together, so that there is room for more.
    fn settle(&mut self) {
        self.due = false;
        if !self.sum_in_a_table() {
            self.sort();
            self.sum_neighbours();
        }
        self.limit = self.limit_for(self.pairs.len());
    }

    /// Adds whole weights up in a table of all groups and values; false where that would be larger than the rows.
    fn sum_in_a_table(&mut self) -> bool {
        let groups = self.pairs.iter().map(|pair| group_of(*pair)).max().map_or(0, |last| last as usize + 1);
        let width = self.values.len();
        if matches!(self.weights, Weights::Doubles(_)) || groups.saturating_mul(width) > TABLE_MAX.min(self.pairs.len() / 2) {
            return false;
        }
        let mut sums: Vec<Option<i128>> = vec![None; groups * width];
        for (at, pair) in self.pairs.iter().enumerate() {
            let sum = &mut sums[group_of(*pair) as usize * width + code_of(*pair) as usize];
            let weight = if let Weights::Whole(weights) = &self.weights { weights[at] } else { 1 };
            *sum = Some(sum.unwrap_or(0).saturating_add(weight));
        }
        let seen = || sums.iter().enumerate().filter_map(|(at, sum)| sum.map(|sum| (at, sum)));
        #[allow(clippy::cast_possible_truncation, reason = "groups and codes have 32 bits")]
        let pair_at = |(at, _): (usize, i128)| pair((at / width) as u32, (at % width) as u32);
        (self.pairs, self.weights) = (seen().map(pair_at).collect(), Weights::Whole(seen().map(|(_, sum)| sum).collect()));
        true
    }

    /// Adds the weights of equal neighbours up. Ones that have few equals stay as they are.
    fn sum_neighbours(&mut self) {
        let runs = || self.pairs.chunk_by(|one, next| one == next);
        let pairs: Vec<u64> = runs().map(|run| run[0]).collect();
        self.weights = match std::mem::take(&mut self.weights) {
            Weights::Ones if pairs.len() * 2 > self.pairs.len() => return,
            Weights::Ones => Weights::Whole(runs().map(|run| run.len() as i128).collect()),
            Weights::Whole(weights) => {
                let mut rest = weights.iter();
                let sum = |run: &[u64]| rest.by_ref().take(run.len()).fold(0, |sum, weight| i128::saturating_add(sum, *weight));
                Weights::Whole(runs().map(sum).collect())
            }
            Weights::Doubles(weights) => return self.sum_doubles(&weights),
        };
        self.pairs = pairs;
    }

    /// A sum stays as the parts that it has; zero has none, but the value has been seen.
    fn sum_doubles(&mut self, weights: &[f64]) {
        let (mut pairs, mut sums, mut at) = (vec![], vec![], 0);
        for run in self.pairs.chunk_by(|one, next| one == next) {
            let mut sum = ExactSum::default();
            weights[at..at + run.len()].iter().for_each(|weight| sum.add(*weight));
            at += run.len();
            sums.extend_from_slice(if sum.parts().is_empty() { &[0.0] } else { sum.parts() });
            pairs.resize(sums.len(), run[0]);
        }
        (self.pairs, self.weights) = (pairs, Weights::Doubles(sums));
    }

    /// Brings the pairs in order, with their weights.
    fn sort(&mut self) {
        match &mut self.weights {
            Weights::Ones if self.pairs.len() >= RADIX_MIN => radix_sort(&mut self.pairs),
            // Often a long part is in order already.
            Weights::Ones => self.pairs.sort(),
            Weights::Whole(weights) => sort_both(&mut self.pairs, weights),
            Weights::Doubles(weights) => sort_both(&mut self.pairs, weights),
        }
    }

    /// Finds the places of the values among each other, where they are few beside the rows.
    fn rank(&mut self) {
        let count = self.values.len();
        if self.ranks.len() == count {
            return;
        }
        self.ranks.clear();
        if count * 4 > self.pairs.len() {
            return;
        }
        #[allow(clippy::cast_possible_truncation, reason = "codes have 32 bits")]
        let mut codes: Vec<u32> = (0..count as u32).collect();
        codes.sort_unstable_by_key(|code| self.values.bytes_of(*code));
        self.ranks.resize(count, 0);
        #[allow(clippy::cast_possible_truncation, reason = "codes have 32 bits")]
        codes.iter().enumerate().for_each(|(rank, code)| self.ranks[*code as usize] = rank as u32);
    }
}

/// How often each code occurs among the pairs of a group.
fn counts(pairs: &[u64], codes: &mut Vec<u32>, found: &mut Vec<(i128, u32)>) {
    codes.clear();
    codes.extend(pairs.iter().map(|pair| code_of(*pair)));
    codes.sort_unstable();
    found.clear();
    found.extend(codes.chunk_by(|one, next| one == next).map(|run| (run.len() as i128, run[0])));
}

/// The sum of the weights of each code among the pairs of a group.
fn totals<W: Copy, T: Default>(pairs: &[u64], weights: &[W], found: &mut Vec<(T, u32)>, add: impl Fn(&mut T, &W)) {
    let mut rows: Vec<(u32, W)> = pairs.iter().map(|pair| code_of(*pair)).zip(weights.iter().copied()).collect();
    rows.sort_by_key(|(code, _)| *code);
    found.clear();
    found.extend(rows.chunk_by(|one, next| one.0 == next.0).map(|run| {
        let mut total = T::default();
        run.iter().for_each(|(_, weight)| add(&mut total, weight));
        (total, run[0].0)
    }));
}

/// The order of the values.
struct ValueOrder<'a> {
    values: &'a Interner,
    /// Empty where it was not found out.
    ranks: &'a [u32],
}

impl ValueOrder<'_> {
    fn compare(&self, one: u32, other: u32) -> Ordering {
        match (self.ranks.get(one as usize), self.ranks.get(other as usize)) {
            (Some(one), Some(other)) => one.cmp(other),
            _ => self.values.bytes_of(one).cmp(self.values.bytes_of(other)),
        }
    }

    /// Shows the `most` heaviest of a group, the heaviest first.
    fn heaviest<T>(&self, totals: &mut Vec<(T, u32)>, most: usize, compare: impl Fn(&T, &T) -> Ordering, mut show: impl FnMut(&[u8], &T)) {
        let before = |one: &(T, u32), other: &(T, u32)| compare(&other.0, &one.0).then_with(|| self.compare(one.1, other.1));
        if let Some(last) = most.checked_sub(1).filter(|last| *last < totals.len()) {
            totals.select_nth_unstable_by(last, before);
        }
        totals.truncate(most);
        totals.sort_unstable_by(before);
        totals.iter().for_each(|(total, code)| show(self.values.bytes_of(*code), total));
    }
}

/// What [`sort_both`] takes for each row: a copy, and half of one to merge into.
const fn sorting_bytes<W>() -> usize {
    size_of::<(u64, W)>() * 3 / 2
}

fn sort_both<W: Copy>(pairs: &mut [u64], weights: &mut [W]) {
    let mut rows: Vec<(u64, W)> = pairs.iter().copied().zip(weights.iter().copied()).collect();
    rows.sort_by_key(|(pair, _)| *pair);
    for (at, (pair, weight)) in rows.into_iter().enumerate() {
        (pairs[at], weights[at]) = (pair, weight);
    }
}

/// Sorts by the digits of the codes, then by those of the groups.
fn radix_sort(pairs: &mut Vec<u64>) {
    let (codes, groups) = pairs.iter().fold((0, 0), |(codes, groups), pair| (codes | code_of(*pair), groups | group_of(*pair)));
    let digits =
        |bits: u32, from: u32| (0..(u32::BITS - bits.leading_zeros()).div_ceil(DIGIT_BITS)).map(move |digit| from + digit * DIGIT_BITS);
    let mut moved = vec![0; pairs.len()];
    for shift in digits(codes, 0).chain(digits(groups, 32)) {
        let digit = |pair: u64| (pair >> shift) as usize & ((1 << DIGIT_BITS) - 1);
        let mut next = [0_usize; 1 << DIGIT_BITS];
        pairs.iter().for_each(|pair| next[digit(*pair)] += 1);
        let mut begin = 0;
        for place in &mut next {
            begin += std::mem::replace(place, begin);
        }
        for pair in pairs.iter() {
            let place = &mut next[digit(*pair)];
            moved[*place] = *pair;
            *place += 1;
        }
        std::mem::swap(pairs, &mut moved);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::kernels::splitmix;

    fn add(counts: &mut TopK, group: u32, value: &str, weight: Weight) {
        let code = counts.code(value.as_bytes());
        counts.add(group, code, weight);
    }

    fn top(counts: &mut TopK, group: usize) -> Vec<(String, i128)> {
        let mut found = vec![];
        counts.each(usize::MAX, usize::MAX, &mut |of, value, weight| {
            if let (true, Total::Whole(weight)) = (of == group, weight) {
                found.push((String::from_utf8_lossy(value).into_owned(), *weight));
            }
        });
        found
    }

    #[test]
    fn ties_are_broken_by_value() {
        let mut counts = TopK::default();
        for (group, value) in [(0, "b"), (0, "a"), (1, "z"), (0, "c"), (0, "c")] {
            add(&mut counts, group, value, Weight::Whole(1));
        }
        let pairs = |list: &[(&str, i128)]| list.iter().map(|(value, weight)| ((*value).to_owned(), *weight)).collect::<Vec<_>>();
        assert_eq!(top(&mut counts, 0), pairs(&[("c", 2), ("a", 1), ("b", 1)]));
        counts.forget(1);
        assert_eq!(top(&mut counts, 0), pairs(&[("z", 1)]));
        counts.forget(1);
        assert_eq!(counts.pairs.len(), 0);
    }

    #[test]
    fn splits_do_not_matter() {
        for seed in 0..10_000 {
            let rows: Vec<(String, i128)> =
                (0..12).map(|i| (format!("{}", splitmix::at(seed, i) % 5), (splitmix::at(seed, 50 + i) % 4) as i128 - 1)).collect();
            let (mut whole, mut parts) = (TopK::default(), [TopK::default(), TopK::default()]);
            for (row, (value, weight)) in rows.iter().enumerate() {
                add(&mut whole, 0, value, Weight::Whole(*weight));
                add(&mut parts[(splitmix::at(seed, 99 + row as u64) % 2) as usize], 0, value, Weight::Whole(*weight));
            }
            let mut merged = TopK::default();
            for part in parts.iter_mut().rev() {
                part.each(1, usize::MAX, &mut |_, value, total| {
                    if let Total::Whole(total) = total {
                        let code = merged.code(value);
                        merged.add(0, code, Weight::Whole(*total));
                    }
                });
            }
            assert_eq!(top(&mut merged, 0), top(&mut whole, 0));
        }
    }

    /// What each group has by a table of all pairs.
    fn expected(rows: &[(u32, String, f64)], most: usize) -> Vec<(usize, String, f64)> {
        let mut sums = BTreeMap::<(u32, String), f64>::new();
        rows.iter().for_each(|(group, value, weight)| *sums.entry((*group, value.clone())).or_default() += weight);
        let mut found: Vec<_> = sums.into_iter().map(|((group, value), sum)| (group as usize, value, sum)).collect();
        found.sort_by(|a, b| a.0.cmp(&b.0).then(b.2.total_cmp(&a.2)).then(a.1.cmp(&b.1)));
        let mut kept = vec![];
        for group in found.chunk_by(|a, b| a.0 == b.0) {
            kept.extend_from_slice(&group[..most.min(group.len())]);
        }
        kept
    }

    /// Groups in order and not, few values and many, ones, whole weights and doubles; settled at any time.
    #[test]
    fn pairs_add_up_however_they_are_kept() {
        for seed in 0..400_u64 {
            let at = |i: u64| splitmix::at(seed, i);
            let count = if seed % 40 == 0 { 9000 } else { 1 + at(0) % 300 };
            let (groups, values, kind) = (1 + at(1) % 40, 1 + at(2) % [3, 2000][(seed % 2) as usize], seed % 3);
            let group = |i: u64| if seed % 5 < 2 { i * groups / count } else { at(3 * i + 3) % groups };
            let weight = |i: u64| if kind == 0 { 1.0 } else { (at(3 * i + 5) % 9) as f64 - 4.0 };
            let rows: Vec<(u32, String, f64)> =
                (0..count).map(|i| (group(i) as u32, format!("a value {}", at(3 * i + 4) % values), weight(i))).collect();
            let mut counts = TopK::default();
            for (row, (group, value, weight)) in rows.iter().enumerate() {
                let weight = if kind == 2 { Weight::Double(*weight) } else { Weight::Whole(*weight as i128) };
                add(&mut counts, *group, value, weight);
                if seed % 4 == 3 && row % 90 == 50 {
                    counts.settle();
                }
            }
            for most in [1, 3, usize::MAX] {
                let mut found = vec![];
                counts.each(usize::MAX, most, &mut |group, value, total| {
                    let total = match total {
                        Total::Whole(total) => *total as f64,
                        Total::Double(total) => total.value(),
                    };
                    found.push((group, String::from_utf8_lossy(value).into_owned(), total));
                });
                assert_eq!(found, expected(&rows, most), "seed {seed}");
            }
            let cut = (at(6) % groups) as u32;
            counts.forget(cut as usize);
            let rest: Vec<_> = rows.iter().filter(|row| row.0 >= cut).map(|row| (row.0 - cut, row.1.clone(), row.2)).collect();
            let mut found = vec![];
            counts.each(2, usize::MAX, &mut |group, value, _| found.push((group, String::from_utf8_lossy(value).into_owned())));
            let left: Vec<_> = expected(&rest, usize::MAX).into_iter().filter(|row| row.0 < 2).map(|row| (row.0, row.1)).collect();
            assert_eq!(found, left, "seed {seed}, without the first {cut}");
        }
    }

    /// Memory grows with the pairs, not with the rows.
    #[test]
    fn equal_pairs_take_no_room() {
        let mut counts = TopK::default();
        for row in 0..4_000_000_u64 {
            add(&mut counts, (row % 7) as u32, if row % 3 == 0 { "a" } else { "b" }, Weight::Whole(1));
        }
        assert!(counts.heap_bytes() < 32 << 20, "{}", counts.heap_bytes());
        assert_eq!(top(&mut counts, 0).iter().map(|(_, count)| *count).sum::<i128>(), 571_429);
    }

    /// Names that nobody uses any more are dropped.
    #[test]
    fn names_go_with_their_groups() {
        let mut counts = TopK::default();
        for row in 0..60_000_u32 {
            add(&mut counts, row, &format!("a long name of its own, number {row}"), Weight::Whole(1));
        }
        counts.forget(59_999);
        assert!(counts.values.bytes() < 4096, "{}", counts.values.bytes());
        assert_eq!(top(&mut counts, 0), [("a long name of its own, number 59999".to_owned(), 1)]);
    }
}
