//! Causal multi-head attention over packed sequences as one operator (Vaswani et al., 2017; the blocks and the saved
//! logarithm of the softmax's sum as in FlashAttention, Dao et al., 2022).
//!
//! One unit of work is a chunk of the packing and a head. For every row of the chunk its queries, keys and values are
//! gathered side by side, then blocks of [`QUERY_BLOCK`] queries meet the keys that the last of them may see. Only one
//! block of scores exists at a time; the way back computes it again.

use std::sync::Arc;

use super::matmul::{Strided, product};
use super::packing::{Chunk, Packing};
use super::parallel::{self, Shared};
use super::real::Real;
use super::storage::{dispatch, read, tensor};
use super::tape::{Sink, Tape, Var};
use super::vectorise::{largest, sum_lanes, vectorise};
use crate::error::{Error, Result};

/// Queries of one block of scores: two tiles of the AVX-512 kernel, four of the AVX2 one.
const QUERY_BLOCK: usize = 24;

/// Which steps ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queries {
    /// Every step: queries and results are packed like the keys.
    All,
    /// The last step of each row: queries and results are `[rows, width]`. What a network's last layer needs.
    Last,
}

vectorise! {
    /// Scores become `exp(score − largest)`, zero where a key comes after its query; query `i` of the block sees
    /// `first + i` keys. `sums` get the sums, `logs` the logarithms of the sums of the exponentials themselves.
    fn softmax<T>(scores: &mut [T], keys: usize, first: usize, sums: &mut [T], logs: &mut [T]) {
        for (i, (row, (sum, log))) in scores.chunks_exact_mut(keys).zip(sums.iter_mut().zip(logs)).enumerate() {
            let (seen, hidden) = row.split_at_mut(first + i);
            let most = largest(seen);
            for score in seen.iter_mut() {
                *score = (*score - most).quick_exp();
            }
            *sum = sum_lanes(seen.len(), |at| seen[at]);
            *log = most + T::ln(*sum);
            hidden.fill(T::ZERO);
        }
    }
}

vectorise! {
    /// The way back through the softmax: `scores` become probabilities, `d_scores` the scores' gradients.
    fn softmax_backward<T>(scores: &mut [T], d_scores: &mut [T], keys: usize, first: usize, logs: &[T], deltas: &[T]) {
        let rows = scores.chunks_exact_mut(keys).zip(d_scores.chunks_exact_mut(keys));
        for (i, ((row, d_row), (log, delta))) in rows.zip(logs.iter().zip(deltas)).enumerate() {
            let (seen, hidden) = row.split_at_mut(first + i);
            let (d_seen, d_hidden) = d_row.split_at_mut(first + i);
            for (score, d) in seen.iter_mut().zip(d_seen) {
                *score = (*score - *log).quick_exp();
                *d = *score * (*d - *delta);
            }
            hidden.fill(T::ZERO);
            d_hidden.fill(T::ZERO);
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Shape {
    width: usize,
    heads: usize,
    queries: Queries,
}

impl Shape {
    fn head_width(self) -> usize {
        self.width / self.heads
    }

    fn scale<T: Real>(self) -> T {
        T::of(1.0 / (self.head_width() as f64).sqrt())
    }
}

/// One row of a chunk.
#[derive(Clone, Copy)]
struct Row<'a> {
    chunk: &'a Chunk,
    at: usize,
    len: usize,
    queries: Queries,
}

impl<'a> Row<'a> {
    /// The rows of a chunk that have steps.
    fn all(chunk: &'a Chunk, queries: Queries) -> impl Iterator<Item = Self> {
        chunk.lengths().map(move |(at, len)| Self { chunk, at, len, queries })
    }

    /// Its first step that asks.
    fn first(self) -> usize {
        if self.queries == Queries::All { 0 } else { self.len - 1 }
    }

    fn query_count(self) -> usize {
        self.len - self.first()
    }

    /// Where the key of `step` lies.
    fn key(self, step: usize) -> usize {
        self.chunk.start + self.chunk.offsets[step] + self.at
    }

    /// Where query `query` and its result lie.
    fn query(self, query: usize) -> usize {
        if self.queries == Queries::All { self.key(query) } else { self.chunk.rows[self.at] as usize }
    }

    /// The blocks of queries: first, count, and the keys that the last of them sees.
    fn blocks(self) -> impl Iterator<Item = (usize, usize, usize)> {
        (0..self.query_count()).step_by(QUERY_BLOCK).map(move |from| {
            let count = QUERY_BLOCK.min(self.query_count() - from);
            (from, count, self.first() + from + count)
        })
    }
}

/// Copies what `source(i)` gives into rows of `target`.
fn gather<'s, T: Real>(count: usize, width: usize, target: &mut [T], source: impl Fn(usize) -> &'s [T]) {
    for (i, to) in target.chunks_exact_mut(width).take(count).enumerate() {
        to.copy_from_slice(source(i));
    }
}

/// The same, transposed: `target [width, count]`.
fn gather_transposed<'s, T: Real>(count: usize, target: &mut [T], source: impl Fn(usize) -> &'s [T]) {
    for i in 0..count {
        for (j, value) in source(i).iter().enumerate() {
            target[j * count + i] = *value;
        }
    }
}

/// A matrix whose rows follow each other.
fn rows<T>(values: &[T], width: usize) -> Strided<'_, T> {
    Strided { values, row: width, column: 1 }
}

/// The transpose of such a matrix.
fn columns<T>(values: &[T], width: usize) -> Strided<'_, T> {
    Strided { values, row: 1, column: width }
}

/// What the steps of each row say to each other, earlier ones to later ones.
///
/// `q [steps, width]` packed as `packing` says, or `[rows, width]` for [`Queries::Last`]; `kv [steps, 2 · width]`: keys,
/// then values, packed; head `h` has columns `h · width / heads ..` of each. Returns what `q` has the shape of:
/// `softmax(q · kᵀ / √(width / heads)) · v` over the keys up to the query's own step; zeros for rows without steps.
///
/// # Errors
/// `Internal` when shapes disagree.
pub fn attention(tape: &Tape, q: &Var, kv: &Var, packing: &Arc<Packing>, heads: usize, queries: Queries) -> Result<Var> {
    if let Some(device) = tape.device() {
        return device.attention(q, kv, packing, heads, queries);
    }
    let (query_rows, width) = q.dims2()?;
    let expected = if queries == Queries::All { packing.steps() } else { packing.rows() };
    if kv.dims() != [packing.steps(), 2 * width] || query_rows != expected || heads == 0 || width == 0 || width % heads != 0 {
        return Err(Error::internal("attention: queries, keys and packing do not fit"));
    }
    let shape = Shape { width, heads, queries };
    dispatch!(q.value(), T => {
        let (value, logs) = {
            let (q, kv) = (read(q.value())?, read(kv.value())?);
            forward(shape, packing, q.slice::<T>()?, kv.slice::<T>()?, query_rows)
        };
        let value = tensor::<T>(value, &[query_rows, width])?;
        let saved = [q.value(), kv.value(), &value].map(Clone::clone);
        let packing = Arc::clone(packing);
        Ok(tape.record(value, &[q, kv], move |gradient, sink: &mut Sink<'_>| {
            let held: Vec<_> = saved.iter().map(read).collect::<Result<_>>()?;
            let slices: Vec<&[T]> = held.iter().map(|guard| guard.slice::<T>()).collect::<Result<_>>()?;
            let guard = read(&gradient)?;
            let (d_q, d_kv) = backward(shape, &packing, &slices, &logs, guard.slice::<T>()?);
            sink.add(0, tensor(d_q, &[query_rows, width])?)?;
            sink.add(1, tensor(d_kv, &[packing.steps(), 2 * width])?)
        }))
    })
}

/// Runs `body(chunk, head)` for all.
fn for_each(packing: &Packing, heads: usize, body: impl Fn(&Chunk, usize) + Sync + Send) {
    parallel::for_each(packing.chunks().len() * heads, |item| body(&packing.chunks()[item / heads], item % heads));
}

/// Returns the result and per query and head the logarithm of the softmax's sum.
fn forward<T: Real>(shape: Shape, packing: &Packing, q: &[T], kv: &[T], query_rows: usize) -> (Vec<T>, Vec<T>) {
    let (Shape { width, heads, queries }, d) = (shape, shape.head_width());
    let (mut value, mut logs) = (vec![T::ZERO; query_rows * width], vec![T::ZERO; query_rows * heads]);
    let (shared_value, shared_logs) = (Shared::new(&mut value), Shared::new(&mut logs));
    for_each(packing, heads, |chunk, head| {
        let longest = chunk.steps();
        let [mut own_q, mut k, mut v] = [(); 3].map(|()| vec![T::ZERO; longest * d]);
        let (mut scores, mut out) = (vec![T::ZERO; QUERY_BLOCK * longest], vec![T::ZERO; QUERY_BLOCK * d]);
        for row in Row::all(chunk, queries) {
            let len = row.len;
            gather(row.query_count(), d, &mut own_q, |i| &q[row.query(i) * width + head * d..][..d]);
            own_q.iter_mut().for_each(|q| *q *= shape.scale());
            gather_transposed(len, &mut k, |i| &kv[row.key(i) * 2 * width + head * d..][..d]);
            gather(len, d, &mut v, |i| &kv[row.key(i) * 2 * width + width + head * d..][..d]);
            for (from, count, keys) in row.blocks() {
                let (mut sums, mut own_logs) = ([T::ONE; QUERY_BLOCK], [T::ZERO; QUERY_BLOCK]);
                let scores = &mut scores[..count * keys];
                product([count, d, keys], rows(&own_q[from * d..], d), &k, len, scores, keys, false);
                softmax(scores, keys, keys - count + 1, &mut sums[..count], &mut own_logs[..count]);
                product([count, keys, d], rows(scores, keys), &v, d, &mut out, d, false);
                for (i, out) in out.chunks_exact(d).take(count).enumerate() {
                    let at = row.query(from + i);
                    // SAFETY: each (query, head) belongs to one row of one chunk.
                    let (value, log) = unsafe { (shared_value.slice(at * width + head * d, d), shared_logs.slice(at * heads + head, 1)) };
                    let share = T::ONE / sums[i];
                    value.iter_mut().zip(out).for_each(|(value, out)| *value = *out * share);
                    log[0] = own_logs[i];
                }
            }
        }
    });
    (value, logs)
}

/// What one unit of work of the way back holds of a row.
struct Gathered<T> {
    q: Vec<T>,
    d_out: Vec<T>,
    k: Vec<T>,
    k_transposed: Vec<T>,
    v_transposed: Vec<T>,
    /// Per query: Σ gradient · result.
    deltas: Vec<T>,
    logs: Vec<T>,
    d_q: Vec<T>,
    d_k: Vec<T>,
    d_v: Vec<T>,
    scores: Vec<T>,
    d_scores: Vec<T>,
}

impl<T: Real> Gathered<T> {
    fn new(longest: usize, d: usize) -> Self {
        let [q, d_out, k, k_transposed, v_transposed, d_q, d_k, d_v] = [(); 8].map(|()| vec![T::ZERO; longest * d]);
        let [deltas, logs] = [(); 2].map(|()| vec![T::ZERO; longest]);
        let [scores, d_scores] = [(); 2].map(|()| vec![T::ZERO; QUERY_BLOCK * longest]);
        Self { q, d_out, k, k_transposed, v_transposed, deltas, logs, d_q, d_k, d_v, scores, d_scores }
    }

    /// `slices`: q, kv and the result.
    fn load(&mut self, shape: Shape, row: Row<'_>, head: usize, slices: &[&[T]], logs: &[T], gradient: &[T]) {
        let (Shape { width, heads, .. }, d, len) = (shape, shape.head_width(), row.len);
        let count = row.query_count();
        gather(count, d, &mut self.q, |i| &slices[0][row.query(i) * width + head * d..][..d]);
        self.q.iter_mut().for_each(|q| *q *= shape.scale());
        gather(count, d, &mut self.d_out, |i| &gradient[row.query(i) * width + head * d..][..d]);
        gather(len, d, &mut self.k, |i| &slices[1][row.key(i) * 2 * width + head * d..][..d]);
        gather_transposed(len, &mut self.k_transposed, |i| &slices[1][row.key(i) * 2 * width + head * d..][..d]);
        gather_transposed(len, &mut self.v_transposed, |i| &slices[1][row.key(i) * 2 * width + width + head * d..][..d]);
        for i in 0..count {
            let at = row.query(i);
            let (out, d_out) = (&slices[2][at * width + head * d..][..d], &self.d_out[i * d..][..d]);
            self.deltas[i] = sum_lanes(d, |j| out[j] * d_out[j]);
            self.logs[i] = logs[at * heads + head];
        }
        self.d_k[..len * d].fill(T::ZERO);
        self.d_v[..len * d].fill(T::ZERO);
    }

    /// One block of queries back: adds to the gradients of keys and values, sets those of its queries.
    fn block(&mut self, d: usize, len: usize, (from, count, keys): (usize, usize, usize)) {
        let (scores, d_scores) = (&mut self.scores[..count * keys], &mut self.d_scores[..count * keys]);
        let (q, d_out) = (&self.q[from * d..][..count * d], &self.d_out[from * d..][..count * d]);
        let (logs, deltas) = (&self.logs[from..from + count], &self.deltas[from..from + count]);
        product([count, d, keys], rows(q, d), &self.k_transposed, len, scores, keys, false);
        product([count, d, keys], rows(d_out, d), &self.v_transposed, len, d_scores, keys, false);
        softmax_backward(scores, d_scores, keys, keys - count + 1, logs, deltas);
        product([keys, count, d], columns(scores, keys), d_out, d, &mut self.d_v, d, true);
        product([keys, count, d], columns(d_scores, keys), q, d, &mut self.d_k, d, true);
        product([count, keys, d], rows(d_scores, keys), &self.k, d, &mut self.d_q[from * d..], d, false);
    }
}

/// `slices`: q, kv and the result. Returns the gradients of q and kv.
fn backward<T: Real>(shape: Shape, packing: &Packing, slices: &[&[T]], logs: &[T], gradient: &[T]) -> (Vec<T>, Vec<T>) {
    let (Shape { width, heads, queries }, d) = (shape, shape.head_width());
    let (mut d_q, mut d_kv) = (vec![T::ZERO; slices[0].len()], vec![T::ZERO; slices[1].len()]);
    let (shared_q, shared_kv) = (Shared::new(&mut d_q), Shared::new(&mut d_kv));
    for_each(packing, heads, |chunk, head| {
        let mut own = Gathered::new(chunk.steps(), d);
        for row in Row::all(chunk, queries) {
            own.load(shape, row, head, slices, logs, gradient);
            for block in row.blocks() {
                own.block(d, row.len, block);
            }
            for (i, from) in own.d_q.chunks_exact(d).take(row.query_count()).enumerate() {
                // SAFETY: each (query, head) belongs to one row of one chunk.
                let to = unsafe { shared_q.slice(row.query(i) * width + head * d, d) };
                to.iter_mut().zip(from).for_each(|(to, from)| *to = *from * shape.scale());
            }
            for (i, (d_k, d_v)) in own.d_k.chunks_exact(d).zip(own.d_v.chunks_exact(d)).take(row.len).enumerate() {
                let at = row.key(i) * 2 * width + head * d;
                // SAFETY: each (step, head) belongs to one row of one chunk, and keys and values do not overlap.
                let (to_k, to_v) = unsafe { (shared_kv.slice(at, d), shared_kv.slice(at + width, d)) };
                to_k.copy_from_slice(d_k);
                to_v.copy_from_slice(d_v);
            }
        }
    });
    (d_q, d_kv)
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, normal};
    use super::super::storage::to_vec;
    use super::*;

    #[test]
    fn gradients() {
        for lengths in [vec![1], vec![2, 1, 2], vec![7, 3, 0], (0..17).map(|i| i % 3).collect(), vec![QUERY_BLOCK as u32 + 2]] {
            let packing = Arc::new(Packing::new(&lengths));
            for (queries, count) in [(Queries::All, packing.steps()), (Queries::Last, packing.rows())] {
                for heads in [1, 2] {
                    let tensors = [normal(&[count, 4], 1), normal(&[packing.steps(), 8], 2)];
                    check(&tensors, |tape, v| attention(tape, &v[0], &v[1], &packing, heads, queries));
                }
            }
        }
    }

    #[test]
    fn a_row_is_the_same_alone_and_its_last_query_the_same_by_itself() {
        let (width, heads, len) = (40, 2, 61);
        let random = |count: usize, stream: u32| -> Vec<f32> {
            let random = super::super::Philox::new(4, stream);
            (0..count * width).map(|i| random.normal(i as u64) as f32).collect()
        };
        let tape = Tape::silent();
        let run = |q: Vec<f32>, kv: Vec<f32>, lengths: &[u32], queries: Queries| {
            let packing = Arc::new(Packing::new(lengths));
            let constant = |values: Vec<f32>, width: usize| {
                let rows = values.len() / width;
                tape.constant(&tensor(values, &[rows, width]).unwrap()).unwrap()
            };
            to_vec::<f32>(attention(&tape, &constant(q, width), &constant(kv, 2 * width), &packing, heads, queries).unwrap().value())
                .unwrap()
        };
        // Two rows of one length lie step by step in turns.
        let (q, kv) = (random(2 * len, 1), random(4 * len, 2));
        let both = run(q.clone(), kv.clone(), &[len as u32; 2], Queries::All);
        let every_other = |values: &[f32], width: usize| values.chunks_exact(2 * width).flat_map(|two| two[..width].to_vec()).collect();
        let (q, kv): (Vec<f32>, Vec<f32>) = (every_other(&q, width), every_other(&kv, 2 * width));
        let alone = run(q.clone(), kv.clone(), &[len as u32], Queries::All);
        assert_eq!(every_other(&both, width), alone);
        let last = run(q[(len - 1) * width..].to_vec(), kv, &[len as u32], Queries::Last);
        for (last, all) in last.iter().zip(&alone[(len - 1) * width..]) {
            assert!((last - all).abs() < 1e-6, "{last} instead of {all}");
        }
    }

    #[test]
    fn scores_of_any_size_stay_finite() {
        let packing = Arc::new(Packing::new(&[2]));
        let tape = Tape::silent();
        let constant = |values: Vec<f32>, width: usize| tape.constant(&tensor(values, &[2, width]).unwrap()).unwrap();
        let (q, kv) = (constant(vec![1e3, -1e3], 1), constant(vec![1e3, 1.0, -1e3, 2.0], 2));
        let y = to_vec::<f32>(attention(&tape, &q, &kv, &packing, 1, Queries::All).unwrap().value()).unwrap();
        assert_eq!(y, [1.0, 2.0]);
        assert!(attention(&tape, &q, &kv, &packing, 2, Queries::All).is_err());
    }
}
