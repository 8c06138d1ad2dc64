//! Preferences: a decaying weight per key, for many groups at once.
//!
//! Terms of all groups are appended to one list, 24 bytes each; when the groups are wanted they are permuted in place so that
//! each group's terms lie together, and are summed key by key. Where pairs of group and key repeat themselves the list is
//! folded into one exact sum per pair from time to time, so that memory grows with the pairs, not with the terms. Sums are
//! exact: neither the order of the terms nor when they are folded changes a bit.

use std::collections::HashSet;

use super::decay::{Decay, DecayedSum, Now};
use crate::kernels::intern::{Interner, ShortTexts};
use crate::kernels::splitmix;

/// Terms that are kept as they are in any case.
const TERMS_MIN: usize = 1 << 20;
/// Folding pays when a pair has so many terms: a sum takes 80 bytes.
const TERMS_PER_PAIR: usize = 8;
/// Bytes of names that are kept when no group has them.
const NAMES_MAX: usize = 1 << 20;
/// Terms of which a copy is small beside everything else.
const TERMS_COPIED: usize = 1 << 18;
/// One pair in so many is looked at to find that out.
const SAMPLE: u64 = 64;

#[derive(Debug, Clone, Copy)]
struct Term {
    group: u32,
    key: u32,
    weight: f64,
    time_us: i64,
}

/// A sum that was folded or came from elsewhere.
#[derive(Debug, Clone)]
struct Slot {
    group: u32,
    key: u32,
    sum: DecayedSum,
}

/// Weights per group and key.
#[derive(Debug, Clone)]
pub struct Preferences {
    decay: Decay,
    names: Interner,
    short: ShortTexts,
    terms: Vec<Term>,
    /// Whether the groups of the terms never step back.
    grouped: bool,
    sums: Vec<Slot>,
    /// Whether the sums are in order and each pair has one.
    ordered: bool,
    /// Heap of the sums.
    sum_bytes: usize,
    fold_at: usize,
}

/// Where the terms of each group begin, and where their end is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places(Vec<usize>);

impl Preferences {
    /// No terms yet.
    #[must_use]
    pub fn new(decay: Decay) -> Self {
        let (terms, sums) = (vec![], vec![]);
        Self {
            decay,
            names: Interner::default(),
            short: ShortTexts::default(),
            terms,
            grouped: true,
            sums,
            ordered: true,
            sum_bytes: 0,
            fold_at: TERMS_MIN,
        }
    }

    /// The half-life.
    #[must_use]
    pub const fn decay(&self) -> Decay {
        self.decay
    }

    /// The name of a key.
    #[must_use]
    pub fn name(&self, key: u32) -> &str {
        self.names.get(key)
    }

    /// Adds a term. Amortised O(1).
    pub fn add(&mut self, group: u32, key: &str, weight: f64, time_us: i64) {
        let key = self.names.intern(key);
        self.add_term(group, key, weight, time_us);
    }

    /// The same for a key of which Arrow's view is at hand; its text is asked for when the view is not known.
    #[inline]
    pub fn add_viewed<'t>(&mut self, group: u32, (view, text): (u128, impl FnOnce() -> &'t str), weight: f64, time_us: i64) {
        let key = self.short.code(view, || self.names.intern(text()));
        self.add_term(group, key, weight, time_us);
    }

    #[inline]
    fn add_term(&mut self, group: u32, key: u32, weight: f64, time_us: i64) {
        self.grouped &= self.terms.last().is_none_or(|last| last.group <= group);
        self.terms.push(Term { group, key, weight, time_us });
        if self.terms.len() >= self.fold_at {
            self.fold_if_it_pays();
        }
    }

    /// Adds a sum that was made elsewhere.
    pub fn add_sum(&mut self, group: u32, key: &str, sum: DecayedSum) {
        let key = self.names.intern(key);
        self.ordered = false;
        self.sum_bytes += sum.heap_bytes();
        self.sums.push(Slot { group, key, sum });
    }

    fn fold_if_it_pays(&mut self) {
        let (mut seen, mut pairs) = (0_usize, HashSet::new());
        for term in &self.terms {
            let pair = u64::from(term.group) << 32 | u64::from(term.key);
            if splitmix::at(pair, 0).is_multiple_of(SAMPLE) {
                seen += 1;
                pairs.insert(pair);
            }
        }
        // An empty sample says that there are few pairs.
        let pays = seen >= pairs.len() * TERMS_PER_PAIR;
        if pays {
            self.fold();
        }
        self.fold_at = if pays { TERMS_MIN } else { 2 * self.terms.len() };
    }

    /// Sums the terms.
    fn fold(&mut self) {
        let highest = self.terms.iter().map(|term| term.group as usize + 1).max().unwrap_or(0);
        let places = self.arrange(highest);
        let (mut folded, mut scratch) = (vec![], Scratch::default());
        for group in 0..highest {
            self.each(&places, group, &mut scratch, &mut |key, sum| folded.push(Slot { group: group as u32, key, sum: sum.clone() }));
        }
        // The sums of these groups are in `folded` now; those of later groups stay.
        folded.extend(self.sums.drain(..).filter(|slot| slot.group as usize >= highest));
        self.sums = folded;
        self.sum_bytes = self.sums.iter().map(|slot| slot.sum.heap_bytes()).sum();
        self.terms = vec![];
        self.grouped = true;
    }

    /// Brings the terms of each group together and says where those of the first `count` groups begin. In place,
    /// O(terms + groups).
    pub fn arrange(&mut self, count: usize) -> Places {
        self.order_sums();
        let highest = self.terms.iter().map(|term| term.group as usize + 1).max().unwrap_or(0).max(count);
        let mut begins = vec![0_usize; highest + 1];
        for term in &self.terms {
            begins[term.group as usize + 1] += 1;
        }
        for at in 1..begins.len() {
            begins[at] += begins[at - 1];
        }
        if !self.grouped {
            self.permute(&begins);
        }
        begins.truncate(count + 1);
        Places(begins)
    }

    /// Few terms are copied to where they belong; of many each swap puts one there.
    fn permute(&mut self, begins: &[usize]) {
        let mut next = begins.to_vec();
        self.grouped = true;
        if let Some(first) = self.terms.first().copied().filter(|_| self.terms.len() <= TERMS_COPIED) {
            let mut moved = vec![first; self.terms.len()];
            for term in &self.terms {
                let at = &mut next[term.group as usize];
                moved[*at] = *term;
                *at += 1;
            }
            self.terms = moved;
            return;
        }
        for (group, end) in begins.iter().skip(1).enumerate() {
            while next[group] < *end {
                let at = next[group];
                let owner = self.terms[at].group as usize;
                if owner != group {
                    self.terms.swap(at, next[owner]);
                }
                next[owner] += 1;
            }
        }
    }

    fn order_sums(&mut self) {
        if std::mem::replace(&mut self.ordered, true) {
            return;
        }
        self.sums.sort_unstable_by_key(|slot| (slot.group, slot.key));
        self.sums.dedup_by(|next, first| {
            let same = (next.group, next.key) == (first.group, first.key);
            if same {
                first.sum.merge(&next.sum);
            }
            same
        });
        self.sum_bytes = self.sums.iter().map(|slot| slot.sum.heap_bytes()).sum();
    }

    /// Shows the sum of each key of a group, in no order. Call after [`arrange`](Self::arrange).
    pub fn each(&self, places: &Places, group: usize, scratch: &mut Scratch, show: &mut dyn FnMut(u32, &DecayedSum)) {
        self.runs(places, group, scratch, |key, before, run| match (before, run) {
            (Some(sum), []) => show(key, sum),
            _ => show(key, &self.sum(before, run)),
        });
    }

    /// Shows the weight of each key of a group as of a time, in no order. Call after [`arrange`](Self::arrange).
    pub fn weights(&self, places: &Places, group: usize, now: Now, scratch: &mut Scratch, mut show: impl FnMut(u32, f64)) {
        self.runs(places, group, scratch, |key, before, run| match (before, run) {
            (None, [term]) => show(key, DecayedSum::of_one(self.decay, term.weight, term.time_us, now)),
            (Some(sum), []) => show(key, sum.as_of(now)),
            _ => show(key, self.sum(before, run).as_of(now)),
        });
    }

    fn sum(&self, before: Option<&DecayedSum>, run: &[Term]) -> DecayedSum {
        let mut sum = before.cloned().unwrap_or_default();
        run.iter().for_each(|term| sum.add(self.decay, term.weight, term.time_us));
        sum
    }

    /// Shows the sum that there was before and the terms of each key of a group; one of them at least is there.
    fn runs(&self, places: &Places, group: usize, scratch: &mut Scratch, mut show: impl FnMut(u32, Option<&DecayedSum>, &[Term])) {
        let (Some(begin), Some(end)) = (places.0.get(group), places.0.get(group + 1)) else { return };
        scratch.terms.clear();
        scratch.terms.extend_from_slice(&self.terms[*begin..*end]);
        scratch.terms.sort_unstable_by_key(|term| term.key);
        let of = |group: usize| self.sums.partition_point(|slot| (slot.group as usize) < group);
        let sums = if self.sums.is_empty() { &[] } else { &self.sums[of(group)..of(group + 1)] };
        let (mut terms, mut sums) = (scratch.terms.chunk_by(|a, b| a.key == b.key).peekable(), sums.iter().peekable());
        loop {
            let of_terms = terms.peek().and_then(|run| run.first()).map(|term| term.key);
            let of_sums = sums.peek().map(|slot| slot.key);
            let Some(key) = of_terms.into_iter().chain(of_sums).min() else { return };
            let run = terms.next_if(|_| of_terms == Some(key)).unwrap_or_default();
            show(key, sums.next_if(|slot| slot.key == key).map(|slot| &slot.sum), run);
        }
    }

    /// Forgets the first `count` groups; group `count` becomes group 0. Call after [`arrange`](Self::arrange) with the places
    /// it gave.
    pub fn forget(&mut self, count: usize, places: &Places) {
        let end = places.0.get(count).copied().unwrap_or(self.terms.len());
        self.sums.drain(..self.sums.partition_point(|slot| (slot.group as usize) < count));
        if end == self.terms.len() && self.sums.is_empty() {
            if self.names.bytes() > NAMES_MAX || self.terms.capacity() > TERMS_COPIED {
                *self = Self::new(self.decay);
            }
            self.terms.clear();
            (self.grouped, self.fold_at) = (true, TERMS_MIN);
            return;
        }
        self.terms.drain(..end);
        let shift = u32::try_from(count).unwrap_or(u32::MAX);
        self.terms.iter_mut().for_each(|term| term.group = term.group.saturating_sub(shift));
        self.sums.iter_mut().for_each(|slot| slot.group = slot.group.saturating_sub(shift));
        self.sum_bytes = self.sums.iter().map(|slot| slot.sum.heap_bytes()).sum();
    }

    /// Bytes on the heap.
    #[must_use]
    pub const fn heap_bytes(&self) -> usize {
        self.names.bytes()
            + self.short.bytes()
            + self.terms.capacity() * size_of::<Term>()
            + self.sums.capacity() * size_of::<Slot>()
            + self.sum_bytes
    }
}

/// Room for the terms of one group.
#[derive(Debug, Clone, Default)]
pub struct Scratch {
    terms: Vec<Term>,
}

/// Keys with their weights as of a time, the heaviest first, ties by the keys' bytes; at most `most` of them.
#[must_use]
pub fn top(mut weights: Vec<(&str, f64)>, most: usize) -> Vec<(&str, f64)> {
    weights.sort_unstable_by(|(a, a_weight), (b, b_weight)| b_weight.total_cmp(a_weight).then_with(|| a.cmp(b)));
    weights.truncate(most);
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000_000;

    fn sums(preferences: &mut Preferences, groups: usize) -> Vec<(usize, String, u64)> {
        let places = preferences.arrange(groups);
        let (mut found, mut scratch) = (vec![], Scratch::default());
        for group in 0..groups {
            preferences.each(&places, group, &mut scratch, &mut |key, sum| {
                found.push((group, preferences.name(key).to_owned(), sum.at(preferences.decay(), NOW).to_bits()));
            });
        }
        found.sort();
        found
    }

    /// (group, key, weight, time) of a random term.
    fn term(seed: u64, i: u64) -> (u32, String, f64, i64) {
        let at = |salt: u64| splitmix::at(seed, 4 * i + salt);
        ((at(0) % 4) as u32, format!("k{}", at(1) % 3), splitmix::fraction(seed, 4 * i + 2) * 9.0, NOW - (at(3) % 90_000_000_000) as i64)
    }

    #[test]
    fn splits_and_folds_do_not_matter() {
        let day = Decay::new(86_400e6).unwrap();
        for seed in 0..10_000 {
            let terms: Vec<_> = (0..1 + splitmix::at(seed, 1_000) % 25).map(|i| term(seed, i)).collect();
            let (mut whole, mut folded, mut parts) = (Preferences::new(day), Preferences::new(day), vec![Preferences::new(day); 3]);
            for (at, (group, key, weight, time)) in terms.iter().enumerate() {
                whole.add(*group, key, *weight, *time);
                parts[splitmix::at(seed, 2_000 + at as u64) as usize % 3].add(*group, key, *weight, *time);
            }
            for (at, (group, key, weight, time)) in terms.iter().rev().enumerate() {
                folded.add(*group, key, *weight, *time);
                if at % 4 == 3 {
                    folded.fold();
                }
            }
            let mut merged = Preferences::new(day);
            for part in parts.iter_mut().rev() {
                let places = part.arrange(4);
                let mut scratch = Scratch::default();
                for group in 0..4 {
                    part.each(&places, group, &mut scratch, &mut |key, sum| merged.add_sum(group as u32, part.name(key), sum.clone()));
                }
            }
            let expected = sums(&mut whole, 4);
            assert_eq!(sums(&mut folded, 4), expected, "seed {seed}");
            assert_eq!(sums(&mut merged, 4), expected, "seed {seed}");
        }
    }

    #[test]
    fn the_first_groups_can_be_forgotten() {
        let mut preferences = Preferences::new(Decay::new(1e9).unwrap());
        for (group, key) in [(2, "c"), (0, "a"), (1, "b"), (2, "d")] {
            preferences.add(group, key, 1.0, NOW);
        }
        preferences.add_sum(1, "e", DecayedSum::default());
        let places = preferences.arrange(1);
        preferences.forget(1, &places);
        let found = sums(&mut preferences, 2);
        assert_eq!(
            found.iter().map(|(group, key, _)| (*group, key.as_str())).collect::<Vec<_>>(),
            [(0, "b"), (0, "e"), (1, "c"), (1, "d")]
        );
        let places = preferences.arrange(2);
        preferences.forget(2, &places);
        assert!(preferences.heap_bytes() < 2000, "{}", preferences.heap_bytes());
        // Many names go with the groups that had them.
        for i in 0..200_000_u32 {
            preferences.add(0, &format!("a name of its own {i}"), 1.0, 0);
        }
        let places = preferences.arrange(1);
        preferences.forget(1, &places);
        assert_eq!(preferences.heap_bytes(), 0);
        preferences.add(0, "again", 1.0, 0);
        let places = preferences.arrange(1);
        let mut found = vec![];
        preferences.each(&places, 0, &mut Scratch::default(), &mut |key, _| found.push(key));
        assert_eq!((found.len(), preferences.name(found[0])), (1, "again"));
    }

    #[test]
    fn one_group_of_many_terms_is_folded() {
        let mut preferences = Preferences::new(Decay::new(86_400e6).unwrap());
        for i in 0..3 * TERMS_MIN as i64 {
            preferences.add(0, ["a", "b", "c"][(i % 3) as usize], 1.0, NOW - i);
        }
        assert!(preferences.terms.len() < TERMS_MIN && preferences.heap_bytes() < 25 * 2 * TERMS_MIN, "{}", preferences.heap_bytes());
        assert_eq!(sums(&mut preferences, 1).len(), 3);
    }
}
