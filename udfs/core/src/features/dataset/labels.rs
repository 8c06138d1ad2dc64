//! Splitting labelled rows at random, class by class.

use crate::features::inputs::{Labels, Rows};
use crate::features::options::Options;
use crate::features::select::bins_of;
use crate::kernels::splitmix;

/// The stratum of each row: its class, or which sixteenth of the numbers it is in.
fn strata(labels: &Labels) -> Vec<u32> {
    match labels {
        Labels::Class(classes) => classes.clone(),
        Labels::Value(values) => bins_of(values),
    }
}

/// The rows of each stratum, shuffled; strata ascending.
fn shuffled_strata(labels: &Labels, seed: u64) -> Vec<Vec<u32>> {
    let strata = strata(labels);
    let count = strata.iter().max().map_or(0, |max| *max as usize + 1);
    let mut rows = vec![Vec::new(); count];
    for (row, stratum) in strata.iter().enumerate() {
        rows[*stratum as usize].push(row as u32);
    }
    for (stratum, rows) in rows.iter_mut().enumerate() {
        splitmix::shuffle(rows, splitmix::at(seed, stratum as u64));
    }
    rows
}

/// `folds` disjoint index sets over all rows, each with the label's distribution; the same for the same seed.
/// Indices ascend. Fewer rows than folds leave some folds empty.
#[must_use]
pub fn stratified_folds(labels: &Labels, folds: usize, seed: u64) -> Vec<Vec<u32>> {
    let mut sets = vec![Vec::new(); folds.max(1)];
    let mut next = 0;
    for rows in shuffled_strata(labels, seed) {
        // Dealing on from where the last stratum ended keeps the folds' sizes within one of each other.
        for row in rows {
            sets[next % folds.max(1)].push(row);
            next += 1;
        }
    }
    sets.iter_mut().for_each(|set| set.sort_unstable());
    sets
}

/// Which fractions of the rows do not train.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct HeldOut {
    pub(super) validation: f64,
    pub(super) test: f64,
}

impl HeldOut {
    const USUAL: Self = Self { validation: 0.15, test: 0.15 };

    pub(super) fn new(options: &Options) -> Self {
        Self {
            validation: options.valid_fraction.unwrap_or(Self::USUAL.validation),
            test: options.test_fraction.unwrap_or(Self::USUAL.test),
        }
    }

    /// The part of the row that is dealt after `dealt` others, so that every stretch of rows has its share of each part.
    fn part(self, dealt: u64) -> Rows {
        if self == Self::USUAL {
            // Of 20 rows in turn, 3 validate and 3 test.
            return match dealt % 20 {
                2 | 8 | 15 => Rows::Validation,
                5 | 12 | 18 => Rows::Test,
                _ => Rows::Train,
            };
        }
        // Multiples of the golden ratio fill the unit interval evenly.
        let place = (dealt + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) as f64 / 2f64.powi(64);
        match place {
            place if place < self.test => Rows::Test,
            place if place < self.test + self.validation => Rows::Validation,
            _ => Rows::Train,
        }
    }
}

/// Each stratum cut into the three parts.
pub(super) fn stratified_split(labels: &Labels, rows: usize, held_out: HeldOut, seed: u64) -> Vec<Rows> {
    let mut split = vec![Rows::Train; rows];
    for (dealt, row) in (0..).zip(shuffled_strata(labels, seed).into_iter().flatten()) {
        split[row as usize] = held_out.part(dealt);
    }
    split
}

/// Fold `fold` of `folds` is the test; of the others 15 % validate.
pub(super) fn fold_split(labels: &Labels, rows: usize, fold: usize, folds: usize, seed: u64) -> Vec<Rows> {
    let mut split = vec![Rows::Train; rows];
    for row in stratified_folds(labels, folds, seed).get(fold).into_iter().flatten() {
        split[*row as usize] = Rows::Test;
    }
    let mut dealt = 0;
    for stratum in shuffled_strata(labels, splitmix::at(seed, 1 + fold as u64)) {
        for row in stratum {
            if split[row as usize] == Rows::Train {
                if matches!(dealt % 20, 2 | 8 | 15) {
                    split[row as usize] = Rows::Validation;
                }
                dealt += 1;
            }
        }
    }
    split
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_its_share_of_each_part() {
        let labels = Labels::Class((0..10_000).map(|row| u32::from(row % 10 == 0)).collect());
        let Labels::Class(classes) = &labels else { unreachable!() };
        for (validation, test) in [(0.15, 0.15), (0.02, 0.01), (0.1, 0.25), (0.4, 0.4)] {
            let split = stratified_split(&labels, classes.len(), HeldOut { validation, test }, 42);
            for class in 0..2 {
                let of = |part| split.iter().zip(classes).filter(|(own, label)| **own == part && **label == class).count() as f64;
                let all = of(Rows::Train) + of(Rows::Validation) + of(Rows::Test);
                assert!((of(Rows::Validation) / all - validation).abs() < 0.005, "{validation} {test}");
                assert!((of(Rows::Test) / all - test).abs() < 0.005, "{validation} {test}");
            }
        }
    }
}
