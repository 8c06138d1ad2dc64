//! Rare classes shown more often: rows of the training part repeated, or new ones made between neighbours (SMOTE, Chawla
//! et al., 2002; categories as in its variant SMOTE-NC). Validation and test rows are neither repeated nor neighbours.
//!
//! What a network then says about a class is too high by as much as the class was shown too often; calibration on the
//! validation rows, which are as nature made them, takes that back.

use super::fit::{Data, Targets};
use crate::error::{Code, Error, Result};
use crate::features::inputs::InputShape;
use crate::features::options::Oversample;
use crate::models::ops::Philox;

/// Neighbours that a new row may lie between; the paper's.
const NEIGHBOURS: usize = 5;
/// Rows of a class among which neighbours are looked for: a sample of a class is as dense as needed.
const POOL_ROWS_MAX: usize = 2000;
/// Extra rows at most, as a multiple of the training rows.
const EXTRA_MAX: usize = 4;
/// What two different categories add to a squared distance: two standard deviations of a scaled number apart.
const CATEGORY_DISTANCE: f32 = 4.0;

/// `data` with its rare classes as frequent as its most frequent one; the same seed gives the same rows.
///
/// # Errors
/// `InvalidParameter` when there are no classes, or SMOTE has no numbers to go between; `FeatureNotSupported` for SMOTE
/// between rows in files.
pub(super) fn resample<'a>(data: &Data<'a>, shape: &InputShape, how: Oversample, seed: u64) -> Result<Data<'a>> {
    if how == Oversample::None {
        return Ok(data.clone());
    }
    let Targets::Classes(labels) = &data.targets else {
        return Err(Error::invalid("oversample needs a target with classes").detail("The target is a number."));
    };
    if how == Oversample::Smote && (shape.numeric == 0 || shape.image.is_some()) {
        return Err(Error::invalid("oversample smote goes between rows of numbers")
            .detail("The model reads pictures, or no numbers at all.")
            .hint("Use oversample => 'random'."));
    }
    if how == Oversample::Smote && data.inputs.spilled.is_some() {
        return Err(Error::new(Code::FeatureNotSupported, "oversample smote needs its rows in memory")
            .detail("They did not fit and were spilled to temporary files; neighbours would be looked for all over them.")
            .hint("Use oversample => 'random', train on a sample (option sample), or raise memory_limit."));
    }
    let by_class = rows_by_class(labels, &data.train);
    let counts: Vec<usize> = by_class.iter().map(Vec::len).collect();
    let goal = goal(&counts);
    let mut out = data.clone();
    for (class, rows) in by_class.iter().enumerate().filter(|(_, rows)| !rows.is_empty()) {
        let random = Philox::named(seed, "oversample").fork(class as u32);
        let extra = goal.saturating_sub(rows.len());
        if how == Oversample::Smote && rows.len() > 1 {
            let first = out.inputs.rows as u32;
            Smote::new(data, shape, rows, random).append(&mut out, class as u32, extra);
            out.train.extend(first..out.inputs.rows as u32);
        } else {
            out.train.extend((0..extra as u64).map(|at| rows[random.below(at, rows.len() as u32) as usize]));
        }
    }
    let factor = |count: &usize| if *count == 0 { 1.0 } else { goal.max(*count) as f64 / *count as f64 };
    out.resampled = Some(counts.iter().map(factor).collect());
    Ok(out)
}

fn rows_by_class(labels: &[u32], train: &[u32]) -> Vec<Vec<u32>> {
    let classes = train.iter().map(|row| labels[*row as usize] as usize + 1).max().unwrap_or(0);
    let mut by_class = vec![Vec::new(); classes];
    for row in train {
        by_class[labels[*row as usize] as usize].push(*row);
    }
    by_class
}

/// Rows that each class should have: as many as the largest, unless that makes too many in all.
fn goal(counts: &[usize]) -> usize {
    let limit = EXTRA_MAX * counts.iter().sum::<usize>();
    let extra = |goal: usize| counts.iter().filter(|count| **count > 0).map(|count| goal.saturating_sub(*count)).sum::<usize>();
    let (mut low, mut high) = (0, counts.iter().copied().max().unwrap_or(0));
    while low < high {
        let middle = (low + high).div_ceil(2);
        if extra(middle) <= limit { low = middle } else { high = middle - 1 }
    }
    low
}

/// The rows of one class that new ones are made from.
struct Smote<'a> {
    data: &'a Data<'a>,
    numeric: usize,
    categorical: usize,
    pool: Vec<u32>,
    random: Philox,
}

impl<'a> Smote<'a> {
    fn new(data: &'a Data<'a>, shape: &InputShape, rows: &[u32], random: Philox) -> Self {
        let mut pool = rows.to_vec();
        if pool.len() > POOL_ROWS_MAX {
            random.fork(1).shuffle(&mut pool);
            pool.truncate(POOL_ROWS_MAX);
        }
        Self { data, numeric: shape.numeric, categorical: shape.categorical.len(), pool, random }
    }

    fn numbers(&self, row: u32) -> &[f32] {
        &self.data.inputs.numeric[row as usize * self.numeric..][..self.numeric]
    }

    fn categories(&self, row: u32) -> &[u32] {
        &self.data.inputs.categorical[row as usize * self.categorical..][..self.categorical]
    }

    fn distance(&self, a: u32, b: u32) -> f32 {
        let numbers: f32 = self.numbers(a).iter().zip(self.numbers(b)).map(|(x, y)| (x - y) * (x - y)).sum();
        let differ = self.categories(a).iter().zip(self.categories(b)).filter(|(x, y)| x != y).count();
        numbers + CATEGORY_DISTANCE * differ as f32
    }

    /// The nearest rows of the pool, nearest first, ties by row.
    fn neighbours(&self, row: u32) -> Vec<u32> {
        let mut near: Vec<(f32, u32)> =
            self.pool.iter().filter(|other| **other != row).map(|other| (self.distance(row, *other), *other)).collect();
        let order = |a: &(f32, u32), b: &(f32, u32)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
        if near.len() > NEIGHBOURS {
            near.select_nth_unstable_by(NEIGHBOURS, order);
            near.truncate(NEIGHBOURS);
        }
        near.sort_unstable_by(order);
        near.into_iter().map(|(_, row)| row).collect()
    }

    /// Appends `extra` new rows of class `class`.
    fn append(&self, out: &mut Data<'_>, class: u32, extra: usize) {
        let mut known: Vec<Option<Vec<u32>>> = vec![None; self.pool.len()];
        let Targets::Classes(labels) = &mut out.targets else { return };
        let (labels, inputs) = (labels.to_mut(), out.inputs.to_mut());
        for at in 0..extra as u64 {
            let place = self.random.fork(2).below(at, self.pool.len() as u32) as usize;
            let base = self.pool[place];
            let near = known[place].get_or_insert_with(|| self.neighbours(base));
            let Some(other) = near.get(self.random.fork(3).below(at, near.len().max(1) as u32) as usize).copied() else { continue };
            let share = self.random.fork(4).uniform(at) as f32;
            let between = self.numbers(base).iter().zip(self.numbers(other)).map(|(x, y)| x + share * (y - x));
            inputs.numeric.extend(between);
            inputs.categorical.extend((0..self.categorical).map(|field| self.common(field, base, near)));
            // A history or a text between two others does not exist: the row keeps its base's.
            if let Some(sequence) = &mut inputs.sequence {
                sequence.spans.push(sequence.spans[base as usize]);
            }
            for texts in &mut inputs.texts {
                texts.spans.push(texts.spans[base as usize]);
            }
            if !inputs.pictured.is_empty() {
                inputs.pictured.push(inputs.pictured[base as usize]);
            }
            inputs.rows += 1;
            labels.push(class);
        }
    }

    /// The most frequent category among the neighbours; the base's own wins a tie.
    fn common(&self, field: usize, base: u32, near: &[u32]) -> u32 {
        let votes = |id: u32| near.iter().filter(|row| self.categories(**row)[field] == id).count();
        let own = self.categories(base)[field];
        near.iter().map(|row| self.categories(*row)[field]).fold(own, |best, id| if votes(id) > votes(best) { id } else { best })
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::features::inputs::{Inputs, Sequences};

    const ROWS: u32 = 300;

    /// Every third row validates or tests. One row in ten is of class 1; validation and test rows have numbers of their own.
    fn data() -> (Data<'static>, InputShape) {
        let random = Philox::new(4, 4);
        let part = |row: u32| row % 3;
        let mut inputs = Inputs { rows: ROWS as usize, ..Inputs::default() };
        let mut spans = Vec::new();
        for row in 0..ROWS {
            let away = if part(row) == 0 { 0.0 } else { 1000.0 };
            inputs.numeric.extend([random.normal(u64::from(row) * 2) as f32 + away, row as f32 / 300.0 + away]);
            inputs.categorical.push(2 + row % 2);
            spans.push((row, 1));
        }
        inputs.sequence = Some(Sequences { tokens: vec![2; ROWS as usize], numeric: vec![], spans });
        let rows = |wanted: u32| (0..ROWS).filter(|row| part(*row) == wanted).collect::<Vec<u32>>();
        let labels = (0..ROWS).map(|row| u32::from(row % 10 == 0)).collect();
        let data = Data {
            inputs: Cow::Owned(inputs),
            targets: Targets::Classes(Cow::Owned(labels)),
            train: rows(0),
            validation: rows(1),
            test: rows(2),
            class_weights: None,
            resampled: None,
            users: &[],
            teacher: None,
            catalogue: None,
        };
        (data, InputShape { numeric: 2, categorical: vec![4], ..InputShape::default() })
    }

    fn labels<'a>(data: &'a Data<'_>) -> &'a [u32] {
        let Targets::Classes(labels) = &data.targets else { panic!("classes") };
        labels
    }

    #[test]
    fn training_rows_are_balanced_and_the_others_left_alone() {
        let (data, shape) = data();
        for how in [Oversample::Random, Oversample::Smote] {
            let out = resample(&data, &shape, how, 7).unwrap();
            let by_class = rows_by_class(labels(&out), &out.train);
            assert_eq!((by_class[0].len(), by_class[1].len()), (90, 90), "{how:?}");
            assert_eq!((&out.validation, &out.test), (&data.validation, &data.test));
            assert!(out.train.iter().all(|row| !data.validation.contains(row) && !data.test.contains(row)));
            // What was there is as it was; what is new has nothing of validation and test, whose numbers are far away.
            assert_eq!(out.inputs.numeric[..ROWS as usize * 2], data.inputs.numeric[..]);
            assert_eq!(labels(&out)[..ROWS as usize], *labels(&data));
            assert!(out.inputs.numeric[ROWS as usize * 2..].iter().all(|value| value.abs() < 100.0), "{how:?}");
            assert_eq!(out.resampled, Some(vec![1.0, 9.0]));
            assert_eq!(out.inputs.numeric.len(), out.inputs.rows * 2);
            assert_eq!(out.inputs.sequence.as_ref().unwrap().spans.len(), out.inputs.rows);
        }
    }

    #[test]
    fn smote_rows_lie_between_rows_of_their_class() {
        let (data, shape) = data();
        let out = resample(&data, &shape, Oversample::Smote, 7).unwrap();
        let rare: Vec<u32> = data.train.iter().copied().filter(|row| labels(&data)[*row as usize] == 1).collect();
        assert_eq!(out.inputs.rows, ROWS as usize + 80);
        for row in ROWS as usize..out.inputs.rows {
            let x = &out.inputs.numeric[row * 2..][..2];
            let on_a_line = rare.iter().any(|a| {
                rare.iter().any(|b| {
                    let end = |row: &u32| [out.inputs.numeric[*row as usize * 2], out.inputs.numeric[*row as usize * 2 + 1]];
                    let (a, b) = (end(a), end(b));
                    let cross = (b[0] - a[0]) * (x[1] - a[1]) - (b[1] - a[1]) * (x[0] - a[0]);
                    let inside = (0..2).all(|i| x[i] >= a[i].min(b[i]) - 1e-5 && x[i] <= a[i].max(b[i]) + 1e-5);
                    cross.abs() < 1e-4 && inside
                })
            });
            assert!(on_a_line, "{x:?}");
            assert!((2..4).contains(&out.inputs.categorical[row]) && labels(&out)[row] == 1);
        }
        let again = resample(&data, &shape, Oversample::Smote, 7).unwrap();
        assert_eq!(again.inputs.numeric, out.inputs.numeric);
        assert_ne!(resample(&data, &shape, Oversample::Smote, 8).unwrap().inputs.numeric, out.inputs.numeric);
    }

    #[test]
    fn many_rare_classes_do_not_make_endless_rows() {
        let mut counts = vec![1; 1000];
        counts[0] = 100_000;
        let goal = goal(&counts);
        assert!(goal < 100_000 && 999 * (goal - 1) <= EXTRA_MAX * 100_999);
        assert_eq!(super::goal(&[5, 0, 3]), 5);
        assert_eq!(super::goal(&[]), 0);
    }

    #[test]
    fn what_cannot_be_resampled_is_refused() {
        let (data, shape) = data();
        let numbers = Data { targets: Targets::Values(vec![0.0; ROWS as usize]), ..data.clone() };
        assert!(resample(&numbers, &shape, Oversample::Random, 1).is_err());
        assert!(resample(&data, &InputShape { numeric: 0, ..shape.clone() }, Oversample::Smote, 1).is_err());
        assert!(resample(&numbers, &shape, Oversample::None, 1).is_ok());
    }
}
