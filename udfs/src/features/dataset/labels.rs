//! Splitting labelled rows at random, class by class.

use crate::features::inputs::{Labels, Rows};
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

/// 70 % train, 15 % validation, 15 % test of each stratum.
pub(super) fn stratified_split(labels: &Labels, rows: usize, seed: u64) -> Vec<Rows> {
    let mut split = vec![Rows::Train; rows];
    let mut dealt = 0;
    for stratum in shuffled_strata(labels, seed) {
        for row in stratum {
            // Of 20 rows in turn, 3 validate and 3 test.
            split[row as usize] = match dealt % 20 {
                2 | 8 | 15 => Rows::Validation,
                5 | 12 | 18 => Rows::Test,
                _ => Rows::Train,
            };
            dealt += 1;
        }
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
