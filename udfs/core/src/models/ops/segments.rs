//! Stretches of rows as one vector each: the mean and a learned attention over them, or a weighted sum.
//!
//! Row `r` of the result comes from the steps `ends[r − 1]..ends[r]`; a row without steps is zero.

use std::ops::Range;
use std::sync::Arc;

use super::real::Real;
use super::storage::{dispatch, read, tensor};
use super::tape::{Sink, Tape, Var};
use crate::error::{Error, Result};

/// The steps of each row.
fn ranges(ends: &[u32]) -> impl Iterator<Item = Range<usize>> + '_ {
    ends.iter().scan(0, |start, end| Some(std::mem::replace(start, *end as usize)..*end as usize))
}

fn check(steps: usize, ends: &[u32]) -> Result<()> {
    if ends.last().copied().unwrap_or(0) as usize != steps || !ends.is_sorted() {
        return Err(Error::internal("segments: the ends do not fit the steps"));
    }
    Ok(())
}

fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    a.iter().zip(b).map(|(a, b)| *a * *b).sum()
}

fn add_scaled<T: Real>(to: &mut [T], share: T, from: &[T]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += share * *from);
}

/// `x [steps, width]`, `query [width]` → `[rows, 2 · width]`: the mean of a row's steps, and beside it their mean under
/// the weights `softmax(x · query)` (attention with one learned query; Yang et al., "Hierarchical attention networks",
/// 2016).
///
/// # Errors
/// `Internal` when shapes disagree.
pub fn pool_segments(tape: &Tape, x: &Var, query: &Var, ends: &Arc<[u32]>) -> Result<Var> {
    let (steps, width) = x.dims2()?;
    check(steps, ends)?;
    if query.dims() != [width] {
        return Err(Error::internal("pool_segments: the query does not fit the input"));
    }
    dispatch!(x.value(), T => {
        let (value, shares) = {
            let (x, query) = (read(x.value())?, read(query.value())?);
            pool(x.slice::<T>()?, query.slice::<T>()?, ends)
        };
        let value = tensor::<T>(value, &[ends.len(), 2 * width])?;
        let (saved_x, saved_query, ends) = (x.value().clone(), query.value().clone(), Arc::clone(ends));
        Ok(tape.record(value, &[x, query], move |gradient, sink: &mut Sink<'_>| {
            let (x, query, gradient) = (read(&saved_x)?, read(&saved_query)?, read(&gradient)?);
            let (d_x, d_query) = pool_back(x.slice::<T>()?, query.slice::<T>()?, &ends, &shares, gradient.slice::<T>()?);
            sink.add(0, tensor(d_x, &[steps, width])?)?;
            sink.add(1, tensor(d_query, &[width])?)
        }))
    })
}

/// The pooled rows, and each step's weight in its row's attention.
fn pool<T: Real>(x: &[T], query: &[T], ends: &[u32]) -> (Vec<T>, Vec<T>) {
    let width = query.len();
    let mut value = vec![T::ZERO; ends.len() * 2 * width];
    let mut shares: Vec<T> = x.chunks_exact(width.max(1)).map(|step| dot(step, query)).collect();
    for (own, out) in ranges(ends).zip(value.chunks_exact_mut(2 * width.max(1))) {
        let (mean, heard) = out.split_at_mut(width);
        let shares = &mut shares[own.clone()];
        let Some(largest) = shares.iter().copied().reduce(Real::larger) else { continue };
        shares.iter_mut().for_each(|share| *share = (*share - largest).exp());
        let total: T = shares.iter().copied().sum();
        let each = T::of(1.0 / shares.len() as f64);
        for (share, step) in shares.iter_mut().zip(x[own.start * width..own.end * width].chunks_exact(width)) {
            *share /= total;
            add_scaled(heard, *share, step);
            add_scaled(mean, each, step);
        }
    }
    (value, shares)
}

fn pool_back<T: Real>(x: &[T], query: &[T], ends: &[u32], shares: &[T], gradient: &[T]) -> (Vec<T>, Vec<T>) {
    let width = query.len();
    let (mut d_x, mut d_query) = (vec![T::ZERO; x.len()], vec![T::ZERO; width]);
    for (own, gradient) in ranges(ends).zip(gradient.chunks_exact(2 * width.max(1))).filter(|(own, _)| !own.is_empty()) {
        let (d_mean, d_heard) = gradient.split_at(width);
        let each = T::of(1.0 / own.len() as f64);
        let steps = &x[own.start * width..own.end * width];
        let d_shares: Vec<T> = steps.chunks_exact(width).map(|step| dot(d_heard, step)).collect();
        let shares = &shares[own.clone()];
        let mean = dot(&d_shares, shares);
        let out = d_x[own.start * width..own.end * width].chunks_exact_mut(width);
        for (((share, d_share), step), out) in shares.iter().zip(&d_shares).zip(steps.chunks_exact(width)).zip(out) {
            let d_score = *share * (*d_share - mean);
            add_scaled(out, each, d_mean);
            add_scaled(out, *share, d_heard);
            add_scaled(out, d_score, query);
            add_scaled(&mut d_query, d_score, step);
        }
    }
    (d_x, d_query)
}

/// `x [steps, width]`, `weights [steps]` → `[rows, width]`: `Σ weight · step` of each row. No gradient flows to the weights.
///
/// # Errors
/// `Internal` when shapes disagree.
pub fn sum_segments(tape: &Tape, x: &Var, weights: &[f32], ends: &Arc<[u32]>) -> Result<Var> {
    let (steps, width) = x.dims2()?;
    check(steps, ends)?;
    if weights.len() != steps {
        return Err(Error::internal("sum_segments: the weights do not fit the input"));
    }
    dispatch!(x.value(), T => {
        let weights: Vec<T> = weights.iter().map(|weight| T::of(f64::from(*weight))).collect();
        let mut value = vec![T::ZERO; ends.len() * width];
        {
            let guard = read(x.value())?;
            let x = guard.slice::<T>()?;
            for (own, out) in ranges(ends).zip(value.chunks_exact_mut(width.max(1))) {
                own.for_each(|step| add_scaled(out, weights[step], &x[step * width..(step + 1) * width]));
            }
        }
        let ends = Arc::clone(ends);
        Ok(tape.record(tensor::<T>(value, &[ends.len(), width])?, &[x], move |gradient, sink: &mut Sink<'_>| {
            let guard = read(&gradient)?;
            let mut d_x = vec![T::ZERO; steps * width];
            for (own, gradient) in ranges(&ends).zip(guard.slice::<T>()?.chunks_exact(width.max(1))) {
                own.for_each(|step| add_scaled(&mut d_x[step * width..(step + 1) * width], weights[step], gradient));
            }
            sink.add(0, tensor(d_x, &[steps, width])?)
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, normal};
    use super::super::storage::to_vec;
    use super::*;

    fn ends(lengths: &[u32]) -> Arc<[u32]> {
        lengths
            .iter()
            .scan(0, |end, length| {
                *end += length;
                Some(*end)
            })
            .collect()
    }

    #[test]
    fn gradients() {
        for lengths in [vec![1], vec![3, 1, 4], vec![2, 0, 5, 0]] {
            let (ends, steps) = (ends(&lengths), lengths.iter().sum::<u32>() as usize);
            check(&[normal(&[steps, 3], 1), normal(&[3], 2)], |tape, v| pool_segments(tape, &v[0], &v[1], &ends));
            let weights: Vec<f32> = (0..steps).map(|step| 0.5 + step as f32).collect();
            check(&[normal(&[steps, 3], 1)], |tape, v| sum_segments(tape, &v[0], &weights, &ends));
        }
    }

    #[test]
    fn means_and_the_step_that_is_asked_for() {
        let tape = Tape::silent();
        let constant = |values: Vec<f64>, shape: &[usize]| tape.constant(&tensor(values, shape).unwrap()).unwrap();
        let x = constant(vec![1.0, 0.0, 3.0, 2.0, 5.0, 7.0], &[3, 2]);
        // The query of the first column looks at the largest there.
        let pooled = pool_segments(&tape, &x, &constant(vec![100.0, 0.0], &[2]), &ends(&[2, 0, 1])).unwrap();
        assert_eq!(to_vec::<f64>(pooled.value()).unwrap(), [2.0, 1.0, 3.0, 2.0, 0.0, 0.0, 0.0, 0.0, 5.0, 7.0, 5.0, 7.0]);
        let sums = sum_segments(&tape, &x, &[1.0, 2.0, 3.0], &ends(&[2, 1])).unwrap();
        assert_eq!(to_vec::<f64>(sums.value()).unwrap(), [7.0, 4.0, 15.0, 21.0]);
        assert!(sum_segments(&tape, &x, &[1.0, 2.0, 3.0], &ends(&[2, 2])).is_err());
    }
}
