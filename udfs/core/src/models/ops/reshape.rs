//! The same numbers under other dimensions, and sums of scalars.

use super::real::Real;
use super::storage::{dispatch, read, tensor};
use super::tape::{Sink, Tape, Var};
use crate::error::{Error, Result};

/// `x` with dimensions `dims`; numbers keep their row-major order.
///
/// # Errors
/// `Internal` when the number of elements differs.
pub fn reshape(tape: &Tape, x: &Var, dims: &[usize]) -> Result<Var> {
    if dims.iter().product::<usize>() != x.value().elem_count() {
        return Err(Error::internal(format!("reshape: {:?} does not become {dims:?}", x.dims())));
    }
    let before = x.dims().to_vec();
    let value = x.value().reshape(dims)?;
    Ok(tape.record(value, &[x], move |gradient, sink: &mut Sink<'_>| sink.add(0, gradient.reshape(before)?)))
}

/// `factor · x`.
///
/// # Errors
/// `Internal` for an element type without kernels.
pub fn scale(tape: &Tape, x: &Var, factor: f64) -> Result<Var> {
    dispatch!(x.value(), T => {
        let times = move |from: &candle_core::Tensor| {
            let guard = read(from)?;
            tensor::<T>(guard.slice::<T>()?.iter().map(|value| *value * T::of(factor)).collect(), from.dims())
        };
        let value = times(x.value())?;
        Ok(tape.record(value, &[x], move |gradient, sink: &mut Sink<'_>| sink.add(0, times(&gradient)?)))
    })
}

/// `Σ factor · part` of scalars: the parts of one loss.
///
/// # Errors
/// `Internal` when a part is no scalar, or there is none.
pub fn weighted_sum(tape: &Tape, parts: &[(&Var, f64)]) -> Result<Var> {
    let Some(((first, _), true)) = parts.first().map(|first| (first, parts.iter().all(|(part, _)| part.dims() == [1]))) else {
        return Err(Error::internal("weighted_sum: parts are not scalars"));
    };
    let parents: Vec<&Var> = parts.iter().map(|(part, _)| *part).collect();
    let factors: Vec<f64> = parts.iter().map(|(_, factor)| *factor).collect();
    dispatch!(first.value(), T => {
        let mut total = 0.0;
        for (part, factor) in parts {
            total += part.scalar()? * factor;
        }
        Ok(tape.record(tensor(vec![T::of(total)], &[1])?, &parents, move |gradient, sink: &mut Sink<'_>| {
            let scale = read(&gradient)?.slice::<T>()?.first().copied().unwrap_or(T::ZERO);
            for (input, factor) in factors.iter().enumerate() {
                sink.add(input, tensor(vec![scale * T::of(*factor)], &[1])?)?;
            }
            Ok(())
        }))
    })
}

/// The mean of all numbers of `x`: `[1]`.
///
/// # Errors
/// `Internal` when there is none.
pub fn mean(tape: &Tape, x: &Var) -> Result<Var> {
    let (count, dims) = (x.value().elem_count(), x.dims().to_vec());
    if count == 0 {
        return Err(Error::internal("mean: of nothing"));
    }
    dispatch!(x.value(), T => {
        let share = 1.0 / count as f64;
        let total = read(x.value())?.slice::<T>()?.iter().map(|value| value.wide()).sum::<f64>();
        Ok(tape.record(tensor(vec![T::of(total * share)], &[1])?, &[x], move |gradient, sink: &mut Sink<'_>| {
            let scale = read(&gradient)?.slice::<T>()?.first().copied().unwrap_or(T::ZERO) * T::of(share);
            sink.add(0, tensor(vec![scale; count], &dims)?)
        }))
    })
}

/// Mean of `max(0, 1 − sign · x)`: the hinge of a critic, which wants `x ≥ 1` of the real (`sign` 1) and `x ≤ −1` of the
/// synthetic (`sign` −1); Lim & Ye, "Geometric GAN", 2017.
///
/// # Errors
/// `Internal` when there is no number.
pub fn hinge(tape: &Tape, x: &Var, sign: f64) -> Result<Var> {
    let (count, dims) = (x.value().elem_count(), x.dims().to_vec());
    if count == 0 {
        return Err(Error::internal("hinge: of nothing"));
    }
    dispatch!(x.value(), T => {
        let share = 1.0 / count as f64;
        let (mut loss, mut own) = (0.0, Vec::with_capacity(count));
        for value in read(x.value())?.slice::<T>()? {
            let missing = 1.0 - sign * value.wide();
            loss += missing.max(0.0);
            own.push(if missing > 0.0 { T::of(-sign * share) } else { T::ZERO });
        }
        Ok(tape.record(tensor(vec![T::of(loss * share)], &[1])?, &[x], move |gradient, sink: &mut Sink<'_>| {
            let scale = read(&gradient)?.slice::<T>()?.first().copied().unwrap_or(T::ZERO);
            sink.add(0, tensor(own.iter().map(|value| *value * scale).collect(), &dims)?)
        }))
    })
}

/// The inner product of each pair of rows: `a [rows, width]`, `b [rows, width]` → `[rows, 1]`.
///
/// # Errors
/// `Internal` when shapes differ.
pub fn row_products(tape: &Tape, a: &Var, b: &Var) -> Result<Var> {
    let (rows, width) = a.dims2()?;
    if b.dims() != [rows, width] {
        return Err(Error::internal("row_products: shapes differ"));
    }
    dispatch!(a.value(), T => {
        let value = {
            let (a, b) = (read(a.value())?, read(b.value())?);
            let (a, b) = (a.slice::<T>()?.chunks_exact(width.max(1)), b.slice::<T>()?.chunks_exact(width.max(1)));
            a.zip(b).map(|(a, b)| a.iter().zip(b).map(|(a, b)| *a * *b).sum::<T>()).collect()
        };
        let saved = [a.value().clone(), b.value().clone()];
        Ok(tape.record(tensor::<T>(value, &[rows, 1])?, &[a, b], move |gradient, sink: &mut Sink<'_>| {
            let guard = read(&gradient)?;
            let gradient = guard.slice::<T>()?;
            for (input, other) in [(0, &saved[1]), (1, &saved[0])] {
                if sink.wants(input) {
                    let other = read(other)?;
                    let rows_of = other.slice::<T>()?.chunks_exact(width.max(1)).zip(gradient);
                    let own = rows_of.flat_map(|(row, g)| row.iter().map(|value| *value * *g)).collect();
                    sink.add(input, tensor::<T>(own, &[rows, width])?)?;
                }
            }
            Ok(())
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, normal};
    use super::*;

    #[test]
    fn gradients() {
        check(&[normal(&[3, 4], 1)], |tape, v| reshape(tape, &v[0], &[2, 3, 2]));
        check(&[normal(&[3, 4], 1)], |tape, v| scale(tape, &v[0], -2.5));
        check(&[normal(&[3, 4], 1)], |tape, v| mean(tape, &v[0]));
        check(&[normal(&[1], 1), normal(&[1], 2)], |tape, v| weighted_sum(tape, &[(&v[0], 2.0), (&v[1], -0.5), (&v[0], 1.0)]));
        check(&[normal(&[5, 3], 1), normal(&[5, 3], 2)], |tape, v| row_products(tape, &v[0], &v[1]));
        for sign in [1.0, -1.0] {
            check(&[normal(&[9, 1], 1)], |tape, v| hinge(tape, &v[0], sign));
        }
    }

    #[test]
    fn a_critic_is_content_beyond_the_margin() {
        let tape = Tape::silent();
        let x = tape.constant(&tensor(vec![1.5f64, 0.0, -2.0], &[3, 1]).unwrap()).unwrap();
        for (sign, expected) in [(1.0, 4.0 / 3.0), (-1.0, 3.5 / 3.0)] {
            assert!((hinge(&tape, &x, sign).unwrap().scalar().unwrap() - expected).abs() < 1e-12);
        }
        assert!(reshape(&tape, &x, &[2]).is_err() && weighted_sum(&tape, &[]).is_err());
    }
}
