//! Sequences of different lengths without padding.
//!
//! Rows are sorted by length, longest first, and cut into chunks of 16. Within a chunk steps lie time-major: first the
//! first step of every row, then the second step of those rows that have one, and so on. So the rows that are still
//! running at a step are a prefix of the chunk, every product runs on contiguous memory, and nothing is computed for
//! padding. The chunks depend on the lengths only: results are the same for any number of threads.

use std::sync::Arc;

use super::real::Real;
use super::storage::{dispatch, read, tensor};
use super::tape::{Sink, Tape, Var};
use crate::error::{Error, Result};

/// Rows of one chunk.
const CHUNK_ROWS: usize = 16;

/// Up to 16 rows of similar length.
#[derive(Debug, Clone)]
pub struct Chunk {
    /// Row numbers in the batch, longest first.
    pub rows: Vec<u32>,
    /// Where the chunk's packed steps start.
    pub start: usize,
    /// Start of each time step, counted from `start`; one more than there are steps.
    pub offsets: Vec<usize>,
}

impl Chunk {
    /// Time steps of its longest row.
    pub fn steps(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Packed steps.
    pub fn len(&self) -> usize {
        self.offsets.last().copied().unwrap_or(0)
    }

    /// Whether none of its rows has a step.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many rows are running at time step `step`.
    pub fn active(&self, step: usize) -> usize {
        self.offsets[step + 1] - self.offsets[step]
    }

    /// The rows that have steps: place in the chunk and length, longest first.
    pub fn lengths(&self) -> impl Iterator<Item = (usize, usize)> {
        let mut len = self.steps();
        (0..self.rows.len()).map_while(move |at| {
            while len > 0 && self.active(len - 1) <= at {
                len -= 1;
            }
            (len > 0).then_some((at, len))
        })
    }
}

/// The order of a batch's steps.
#[derive(Debug, Clone)]
pub struct Packing {
    rows: usize,
    steps: usize,
    chunks: Vec<Chunk>,
}

impl Packing {
    /// Orders rows of these lengths.
    pub fn new(lengths: &[u32]) -> Self {
        Self::cut(lengths, CHUNK_ROWS)
    }

    /// The same in one chunk, as a device wants it: every time step of all rows is one matrix.
    pub fn whole(lengths: &[u32]) -> Self {
        Self::cut(lengths, lengths.len().max(1))
    }

    fn cut(lengths: &[u32], chunk_rows: usize) -> Self {
        let mut order: Vec<u32> = (0..lengths.len() as u32).collect();
        order.sort_by_key(|&row| std::cmp::Reverse(lengths[row as usize]));
        let mut start = 0;
        let mut chunks = Vec::with_capacity(order.len().div_ceil(chunk_rows));
        for rows in order.chunks(chunk_rows) {
            let longest = lengths[rows[0] as usize] as usize;
            let mut offsets = Vec::with_capacity(longest + 1);
            let mut at = 0;
            for step in 0..longest {
                offsets.push(at);
                at += rows.iter().take_while(|&&row| lengths[row as usize] as usize > step).count();
            }
            offsets.push(at);
            chunks.push(Chunk { rows: rows.to_vec(), start, offsets });
            start += at;
        }
        Self { rows: lengths.len(), steps: start, chunks }
    }

    /// Rows of the batch.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Packed steps: the sum of the lengths.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// The chunks, in the order of their packed steps.
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// Packs padded values: `values [rows, seq_len, width]` → `[steps, width]`.
    pub fn pack<V: Copy>(&self, values: &[V], seq_len: usize, width: usize) -> Vec<V> {
        let mut packed = Vec::with_capacity(self.steps * width);
        for chunk in &self.chunks {
            for step in 0..chunk.steps() {
                for &row in &chunk.rows[..chunk.active(step)] {
                    let from = (row as usize * seq_len + step) * width;
                    packed.extend_from_slice(&values[from..from + width]);
                }
            }
        }
        packed
    }

    /// How many steps of its row come after each packed step: `[steps]`.
    pub fn steps_left(&self) -> Vec<u32> {
        let mut left = vec![0; self.steps];
        for chunk in &self.chunks {
            for (at, len) in chunk.lengths() {
                for step in 0..len {
                    left[chunk.start + chunk.offsets[step] + at] = (len - 1 - step) as u32;
                }
            }
        }
        left
    }

    /// The row of each packed step: `[steps]`.
    pub fn row_of_steps(&self) -> Vec<u32> {
        let mut rows = Vec::with_capacity(self.steps);
        for chunk in &self.chunks {
            (0..chunk.steps()).for_each(|step| rows.extend_from_slice(&chunk.rows[..chunk.active(step)]));
        }
        rows
    }

    /// For each row the packed position of its last step; `None` when it has none.
    fn last_positions(&self) -> Vec<Option<usize>> {
        let mut last = vec![None; self.rows];
        for chunk in &self.chunks {
            for step in 0..chunk.steps() {
                for (at, &row) in chunk.rows[..chunk.active(step)].iter().enumerate() {
                    last[row as usize] = Some(chunk.start + chunk.offsets[step] + at);
                }
            }
        }
        last
    }
}

/// The value at each row's last step: `x [steps, width]` → `[rows, width]`, zeros for rows without steps.
///
/// # Errors
/// `Internal` when `x` is not packed like `packing`.
pub fn last_step(tape: &Tape, x: &Var, packing: &Arc<Packing>) -> Result<Var> {
    if let Some(device) = tape.device() {
        return device.last_step(x, packing);
    }
    let (steps, width) = x.dims2()?;
    if steps != packing.steps() {
        return Err(Error::internal("last_step: the input is packed otherwise"));
    }
    let last = packing.last_positions();
    let rows = packing.rows();
    dispatch!(x.value(), T => {
        let mut value = vec![T::ZERO; rows * width];
        {
            let guard = read(x.value())?;
            let x = guard.slice::<T>()?;
            for (out, from) in value.chunks_exact_mut(width.max(1)).zip(&last) {
                if let Some(from) = from {
                    out.copy_from_slice(&x[from * width..(from + 1) * width]);
                }
            }
        }
        Ok(tape.record(tensor::<T>(value, &[rows, width])?, &[x], move |gradient, sink: &mut Sink<'_>| {
            let guard = read(&gradient)?;
            let mut own = vec![T::ZERO; steps * width];
            for (from, to) in guard.slice::<T>()?.chunks_exact(width.max(1)).zip(&last) {
                if let Some(to) = to {
                    own[to * width..(to + 1) * width].copy_from_slice(from);
                }
            }
            sink.add(0, tensor(own, &[steps, width])?)
        }))
    })
}

/// The mean of each row's steps: `x [steps, width]` → `[rows, width]`, zeros for rows without steps.
///
/// # Errors
/// `Internal` when `x` is not packed like `packing`.
pub fn mean_steps(tape: &Tape, x: &Var, packing: &Arc<Packing>) -> Result<Var> {
    let (steps, width) = x.dims2()?;
    if steps != packing.steps() {
        return Err(Error::internal("mean_steps: the input is packed otherwise"));
    }
    let (rows, of_step) = (packing.rows(), packing.row_of_steps());
    let mut counts = vec![0usize; rows];
    of_step.iter().for_each(|row| counts[*row as usize] += 1);
    dispatch!(x.value(), T => {
        let shares: Vec<T> = counts.iter().map(|count| T::of(1.0 / (*count).max(1) as f64)).collect();
        let mut value = vec![T::ZERO; rows * width];
        {
            let guard = read(x.value())?;
            for (row, from) in of_step.iter().zip(guard.slice::<T>()?.chunks_exact(width.max(1))) {
                let out = &mut value[*row as usize * width..][..width];
                out.iter_mut().zip(from).for_each(|(sum, value)| *sum += *value);
            }
        }
        for (out, share) in value.chunks_exact_mut(width.max(1)).zip(&shares) {
            out.iter_mut().for_each(|value| *value *= *share);
        }
        Ok(tape.record(tensor::<T>(value, &[rows, width])?, &[x], move |gradient, sink: &mut Sink<'_>| {
            let guard = read(&gradient)?;
            let gradient = guard.slice::<T>()?;
            let mut own = Vec::with_capacity(steps * width);
            for row in &of_step {
                let share = shares[*row as usize];
                own.extend(gradient[*row as usize * width..][..width].iter().map(|value| *value * share));
            }
            sink.add(0, tensor(own, &[steps, width])?)
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, normal};
    use super::*;

    #[test]
    fn packs_time_major_by_length() {
        let packing = Packing::new(&[1, 3, 0, 2]);
        assert_eq!((packing.rows(), packing.steps()), (4, 6));
        let padded = [10, 0, 0, 20, 21, 22, 0, 0, 0, 30, 31, 0];
        assert_eq!(packing.pack(&padded, 3, 1), [20, 30, 10, 21, 31, 22]);
        assert_eq!(packing.last_positions(), [Some(2), Some(5), None, Some(4)]);
        assert_eq!(packing.chunks()[0].lengths().collect::<Vec<_>>(), [(0, 3), (1, 2), (2, 1)]);
        assert_eq!(packing.steps_left(), [2, 1, 0, 1, 0, 0]);
        assert_eq!(Packing::new(&[]).steps(), 0);
    }

    #[test]
    fn last_step_gradients() {
        let packing = Arc::new(Packing::new(&[1, 3, 0, 2]));
        check(&[normal(&[6, 2], 1)], |tape, vars| last_step(tape, &vars[0], &packing));
    }

    #[test]
    fn means_of_rows() {
        let packing = Arc::new(Packing::new(&[1, 3, 0, 2]));
        assert_eq!(packing.row_of_steps(), [1, 3, 0, 1, 3, 1]);
        check(&[normal(&[6, 2], 1)], |tape, vars| mean_steps(tape, &vars[0], &packing));
        let tape = Tape::silent();
        let x = tape.constant(&tensor(vec![20f32, 30.0, 10.0, 21.0, 31.0, 22.0], &[6, 1]).unwrap()).unwrap();
        assert_eq!(
            super::super::storage::to_vec::<f32>(mean_steps(&tape, &x, &packing).unwrap().value()).unwrap(),
            [10.0, 21.0, 0.0, 30.5]
        );
    }
}
