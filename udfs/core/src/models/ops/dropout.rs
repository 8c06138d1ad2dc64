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
    /// Masks elements whose first one is at position `first` of the whole.
    fn mask_chunk<T>(values: &mut [T], first: usize, random: Philox, threshold: u32, scale: T) {
        let mut at = 0;
        while at < values.len() {
            let (group, skip) = ((first + at) / GROUP, (first + at) % GROUP);
            let words = random.group(group as u32);
            let mut factors = [T::ZERO; GROUP];
            for (half, factors) in factors.chunks_exact_mut(LANES).enumerate() {
                for (factor, word) in factors.iter_mut().zip(words[half >> 1]) {
                    let draw = (word >> ((half & 1) * 16)) & 0xFFFF;
                    *factor = if draw >= threshold { scale } else { T::ZERO };
                }
            }
            let count = (GROUP - skip).min(values.len() - at);
            for (value, factor) in values[at..at + count].iter_mut().zip(&factors[skip..skip + count]) {
                *value *= *factor;
            }
            at += count;
        }
    }
}

/// Which elements of an operator's result are silenced, as a function of their position.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mask {
    random: Philox,
    threshold: u32,
}

impl Mask {
    /// `None` when nothing is silenced: at scoring, or at rate 0.
    pub(super) fn new(tape: &Tape, rate: f32) -> Option<Self> {
        let threshold = (f64::from(rate).clamp(0.0, 0.99) * 65_536.0) as u32;
        (tape.is_recording() && threshold > 0).then(|| Self { random: tape.random(), threshold })
    }

    /// What the survivors are multiplied with.
    pub(super) fn scale<T: Real>(self) -> T {
        T::of(65_536.0 / f64::from(65_536 - self.threshold))
    }

    /// Masks the elements from position `first` on, in place.
    pub(super) fn apply<T: Real>(self, first: usize, values: &mut [T]) {
        mask_chunk(values, first, self.random, self.threshold, self.scale());
    }

    fn of<T: Real>(self, values: &[T]) -> Vec<T> {
        let mut out = values.to_vec();
        let shared = Shared::new(&mut out);
        parallel::for_each(values.len().div_ceil(CHUNK), |chunk| {
            let first = chunk * CHUNK;
            // SAFETY: chunks are disjoint.
            self.apply(first, unsafe { shared.slice(first, CHUNK.min(values.len() - first)) });
        });
        out
    }
}

/// Silences a share `rate` of the elements while the tape records, and scales the others up; else nothing.
///
/// # Errors
/// `Internal` for an element type without kernels.
pub fn dropout(tape: &Tape, x: &Var, rate: f32) -> Result<Var> {
    if let Some(device) = tape.device() {
        return device.dropout(x, rate);
    }
    let Some(mask) = Mask::new(tape, rate) else { return Ok(x.clone()) };
    dispatch!(x.value(), T => {
        let value = tensor::<T>(mask.of(read(x.value())?.slice::<T>()?), x.dims())?;
        Ok(tape.record(value, &[x], move |gradient, sink: &mut Sink<'_>| {
            let own = mask.of(read(&gradient)?.slice::<T>()?);
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
