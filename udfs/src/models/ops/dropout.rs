//! Dropout (Srivastava et al., 2014) with a mask that is a function of (seed, step, operator, element).

use super::parallel::{self, Shared};
use super::philox::{LANES, Philox};
use super::real::Real;
use super::storage::{dispatch, read, tensor};
use super::tape::{Sink, Tape, Var};
use super::vectorise::vectorise;
use crate::error::Result;

/// 16 random bits decide one element, so a group of 16 blocks of 128 bits decides 128.
const GROUP: usize = LANES * 8;
/// Elements of one unit of work.
const CHUNK: usize = 128 * GROUP;

vectorise! {
    /// Masks elements whose first one belongs to group `group`.
    fn mask_chunk<T>(values: &[T], out: &mut [T], group: u32, random: Philox, threshold: u32, scale: T) {
        for (at, (out, values)) in out.chunks_mut(GROUP).zip(values.chunks(GROUP)).enumerate() {
            let words = random.group(group + at as u32);
            let mut factors = [T::ZERO; GROUP];
            for (half, factors) in factors.chunks_exact_mut(LANES).enumerate() {
                for (factor, word) in factors.iter_mut().zip(words[half >> 1]) {
                    let draw = (word >> ((half & 1) * 16)) & 0xFFFF;
                    *factor = if draw >= threshold { scale } else { T::ZERO };
                }
            }
            for ((out, value), factor) in out.iter_mut().zip(values).zip(factors) {
                *out = *value * factor;
            }
        }
    }
}

/// `values · keep / (1 - rate)`, an element kept when its 16 bits are not below `rate · 2¹⁶`.
fn mask<T: Real>(values: &[T], rate: f64, random: Philox) -> Vec<T> {
    let threshold = (rate * 65_536.0) as u32;
    let scale = T::of(65_536.0 / f64::from(65_536 - threshold));
    let mut out = vec![T::ZERO; values.len()];
    let shared = Shared::new(&mut out);
    parallel::for_each(values.len().div_ceil(CHUNK), |chunk| {
        let first = chunk * CHUNK;
        let count = CHUNK.min(values.len() - first);
        // SAFETY: chunks are disjoint.
        let out = unsafe { shared.slice(first, count) };
        mask_chunk(&values[first..first + count], out, (first / GROUP) as u32, random, threshold, scale);
    });
    out
}

/// Silences a share `rate` of the elements while the tape records, and scales the others up; else nothing.
///
/// # Errors
/// `Internal` for an element type without kernels.
pub fn dropout(tape: &Tape, x: &Var, rate: f32) -> Result<Var> {
    let rate = f64::from(rate).clamp(0.0, 0.99);
    if !tape.is_recording() || rate <= 0.0 {
        return Ok(x.clone());
    }
    let random = tape.random();
    dispatch!(x.value(), T => {
        let value = tensor::<T>(mask(read(x.value())?.slice::<T>()?, rate, random), x.dims())?;
        Ok(tape.record(value, &[x], move |gradient, sink: &mut Sink<'_>| {
            let own = mask(read(&gradient)?.slice::<T>()?, rate, random);
            sink.add(0, tensor(own, gradient.dims())?)
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, normal};
    use super::super::storage::to_vec;
    use super::*;

    #[test]
    fn gradients() {
        check(&[normal(&[5, 7], 1)], |tape, vars| dropout(tape, &vars[0], 0.4));
    }

    #[test]
    fn share_and_mean_are_kept_and_scoring_is_untouched() {
        let tape = Tape::recording(Philox::new(1, 1));
        let ones = tape.constant(&tensor(vec![1f32; 100_000], &[1000, 100]).unwrap()).unwrap();
        let out = to_vec::<f32>(dropout(&tape, &ones, 0.25).unwrap().value()).unwrap();
        let dropped = out.iter().filter(|value| **value == 0.0).count() as f64 / 1e5;
        assert!((dropped - 0.25).abs() < 0.01, "{dropped}");
        assert!((out.iter().sum::<f32>() / 1e5 - 1.0).abs() < 0.01);
        let again = to_vec::<f32>(dropout(&tape, &ones, 0.25).unwrap().value()).unwrap();
        assert_eq!(out, again, "a constant records no node, so the same place on the tape");
        let silent = Tape::silent();
        assert_eq!(to_vec::<f32>(dropout(&silent, &ones, 0.25).unwrap().value()).unwrap(), vec![1f32; 100_000]);
    }
}
