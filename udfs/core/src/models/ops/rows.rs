//! Rows of a table as vectors: some numbers, then one group of scores for each feature that has classes. What turns a
//! network's outputs into such a row, and what measures how far a row is from the truth.

use super::parallel::{self, Shared};
use super::philox::Philox;
use super::real::Real;
use super::storage::{dispatch, read, tensor};
use super::tape::{Sink, Tape, Var};
use crate::error::{Error, Result};

/// Rows of one unit of work.
const ROWS: usize = 32;

/// How the vector of a row is divided: `numeric` numbers, then a group of each width.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowLayout {
    /// Numbers in front.
    pub numeric: usize,
    /// Widths of the groups.
    pub groups: Vec<usize>,
}

impl RowLayout {
    /// Width of a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.numeric + self.groups.iter().sum::<usize>()
    }

    /// First column and width of each group.
    pub fn spans(&self) -> impl Iterator<Item = (usize, usize)> + Clone + '_ {
        self.groups.iter().scan(self.numeric, |at, width| {
            let first = *at;
            *at += width;
            Some((first, *width))
        })
    }

    fn check(&self, rows: &Var) -> Result<usize> {
        let (count, width) = rows.dims2()?;
        if width != self.width() || self.groups.contains(&0) {
            return Err(Error::internal(format!("rows of width {width} do not fit a layout of {}", self.width())));
        }
        Ok(count)
    }
}

/// Fills `to` with standard normal numbers: those of row `row` of the stream (Box–Muller on blocks of four).
pub fn fill_normal(random: Philox, row: u64, to: &mut [f32]) {
    let first = row * to.len().div_ceil(4) as u64;
    for (at, four) in to.chunks_mut(4).enumerate() {
        let [a, b, c, d] = random.block(first + at as u64).map(|word| (f64::from(word) + 0.5) / 4_294_967_296.0);
        let (near, far) = ((-2.0 * a.ln()).sqrt(), (-2.0 * c.ln()).sqrt());
        let ((sin, cos), (sin_2, cos_2)) = ((std::f64::consts::TAU * b).sin_cos(), (std::f64::consts::TAU * d).sin_cos());
        let numbers = [near * cos, near * sin, far * cos_2, far * sin_2];
        four.iter_mut().zip(numbers).for_each(|(to, number)| *to = number as f32);
    }
}

/// `-ln(-ln u)`.
fn gumbel(word: u32) -> f64 {
    -(-((f64::from(word) + 0.5) / 4_294_967_296.0).ln()).ln()
}

/// Softmax of `x / temperature` into `to`.
fn softmax<T: Real>(x: &[T], temperature: f64, to: &mut [T]) {
    let largest = x.iter().copied().fold(x[0], Real::larger);
    let (mut sum, cold) = (T::ZERO, T::of(1.0 / temperature));
    for (to, x) in to.iter_mut().zip(x) {
        *to = Real::quick_exp((*x - largest) * cold);
        sum += *to;
    }
    to.iter_mut().for_each(|to| *to /= sum);
}

/// Outputs as a row: the numbers through tanh, each group through softmax at `temperature` after Gumbel noise was added
/// (Jang, Gu & Poole, "Categorical reparameterization with Gumbel-softmax", 2017). The noise of row `r` is that of row
/// `first + r` of `noise`, so a row does not depend on the batch that it is made in.
///
/// # Errors
/// `Internal` when the width is another.
pub fn gumbel_rows(tape: &Tape, logits: &Var, layout: &RowLayout, temperature: f64, noise: Philox, first: u64) -> Result<Var> {
    let rows = layout.check(logits)?;
    let (width, numeric) = (layout.width(), layout.numeric);
    let blocks = (width - numeric).div_ceil(4) as u64;
    dispatch!(logits.value(), T => {
        let mut value = vec![T::ZERO; rows * width];
        {
            let (shared, guard) = (Shared::new(&mut value), read(logits.value())?);
            let x = guard.slice::<T>()?;
            parallel::for_each(rows.div_ceil(ROWS), |chunk| {
                let mut noisy = vec![T::ZERO; width];
                for row in chunk * ROWS..((chunk + 1) * ROWS).min(rows) {
                    // SAFETY: rows are disjoint.
                    let to = unsafe { shared.slice(row * width, width) };
                    noisy.copy_from_slice(&x[row * width..(row + 1) * width]);
                    for (at, four) in noisy[numeric..].chunks_mut(4).enumerate() {
                        let words = noise.block((first + row as u64) * blocks + at as u64);
                        four.iter_mut().zip(words).for_each(|(x, word)| *x += T::of(gumbel(word)));
                    }
                    to[..numeric].iter_mut().zip(&noisy).for_each(|(to, x)| *to = Real::tanh(*x));
                    for (start, size) in layout.spans() {
                        softmax(&noisy[start..start + size], temperature, &mut to[start..start + size]);
                    }
                }
            });
        }
        let value = tensor::<T>(value, &[rows, width])?;
        let (saved, layout) = (value.clone(), layout.clone());
        Ok(tape.record(value, &[logits], move |gradient, sink: &mut Sink<'_>| {
            let (gradient, y) = (read(&gradient)?, read(&saved)?);
            let mut own = Vec::with_capacity(rows * width);
            let cold = T::of(1.0 / temperature);
            for (g, y) in gradient.slice::<T>()?.chunks_exact(width).zip(y.slice::<T>()?.chunks_exact(width)) {
                own.extend(g.iter().zip(y).take(numeric).map(|(g, y)| *g * (T::ONE - *y * *y)));
                for (start, size) in layout.spans() {
                    let (g, y) = (&g[start..start + size], &y[start..start + size]);
                    let mean = g.iter().zip(y).map(|(g, y)| *g * *y).sum::<T>();
                    own.extend(g.iter().zip(y).map(|(g, y)| (*g - mean) * *y * cold));
                }
            }
            sink.add(0, tensor(own, &[rows, width])?)
        }))
    })
}

/// `-log softmax(x)[target]`, and the gradient times `share` added to `to`.
fn cross_entropy<T: Real>(x: &[T], target: usize, share: T, to: &mut [T]) -> f64 {
    let largest = x.iter().copied().fold(x[0], Real::larger);
    let sum = x.iter().map(|x| Real::exp(*x - largest)).sum::<T>();
    for (to, x) in to.iter_mut().zip(x) {
        *to += Real::exp(*x - largest) / sum * share;
    }
    to[target] -= share;
    (Real::ln(sum) + largest - x[target]).wide()
}

/// Mean over the rows of `-log softmax(group)[class]` for one group of each row: `targets[row] = (group, class)`. `logits` are
/// outputs before [`gumbel_rows`].
///
/// # Errors
/// `Internal` when a target is not there.
pub fn chosen_cross_entropy(tape: &Tape, logits: &Var, layout: &RowLayout, targets: &[(u32, u32)]) -> Result<Var> {
    let (rows, width) = (layout.check(logits)?, layout.width());
    let spans: Vec<(usize, usize)> = layout.spans().collect();
    let there = |(group, class): &(u32, u32)| spans.get(*group as usize).is_some_and(|(_, size)| (*class as usize) < *size);
    if rows == 0 || targets.len() != rows || !targets.iter().all(there) {
        return Err(Error::internal("chosen_cross_entropy: targets do not fit the rows"));
    }
    dispatch!(logits.value(), T => {
        let (mut own, mut loss) = (vec![T::ZERO; rows * width], 0.0);
        let share = T::of(1.0 / rows as f64);
        {
            let guard = read(logits.value())?;
            let x = guard.slice::<T>()?;
            for (row, (group, class)) in targets.iter().enumerate() {
                let (start, size) = spans[*group as usize];
                let at = row * width + start..row * width + start + size;
                loss += cross_entropy(&x[at.clone()], *class as usize, share, &mut own[at]) / rows as f64;
            }
        }
        Ok(tape.record(tensor(vec![T::of(loss)], &[1])?, &[logits], move |gradient, sink: &mut Sink<'_>| {
            let scale = read(&gradient)?.slice::<T>()?.first().copied().unwrap_or(T::ZERO);
            sink.add(0, tensor(own.iter().map(|value| *value * scale).collect(), &[rows, width])?)
        }))
    })
}

/// How far outputs are from rows, mean over the features: the squared error of each number, and the cross-entropy of each
/// group. `numbers [rows, layout.numeric]`, `classes [rows, layout.groups.len()]` → `[rows, 1]`.
///
/// # Errors
/// `Internal` when shapes disagree.
pub fn reconstruction_error(tape: &Tape, outputs: &Var, layout: &RowLayout, numbers: &[f32], classes: &[u32]) -> Result<Var> {
    let (rows, width) = (layout.check(outputs)?, layout.width());
    let (numeric, groups) = (layout.numeric, layout.groups.len());
    let known = classes.iter().enumerate().all(|(at, class)| (*class as usize) < layout.groups[at % groups.max(1)]);
    if numbers.len() != rows * numeric || classes.len() != rows * groups || numeric + groups == 0 || !known {
        return Err(Error::internal("reconstruction_error: the truth does not fit the rows"));
    }
    dispatch!(outputs.value(), T => {
        let (mut own, mut value) = (vec![T::ZERO; rows * width], vec![T::ZERO; rows]);
        let share = T::of(1.0 / (numeric + groups) as f64);
        {
            let (shared, shared_value, guard) = (Shared::new(&mut own), Shared::new(&mut value), read(outputs.value())?);
            let x = guard.slice::<T>()?;
            parallel::for_each(rows.div_ceil(ROWS), |chunk| {
                for row in chunk * ROWS..((chunk + 1) * ROWS).min(rows) {
                    let x = &x[row * width..(row + 1) * width];
                    // SAFETY: rows are disjoint.
                    let (to, error) = unsafe { (shared.slice(row * width, width), shared_value.slice(row, 1)) };
                    let mut total = 0.0;
                    for ((to, x), truth) in to.iter_mut().zip(x).zip(&numbers[row * numeric..(row + 1) * numeric]) {
                        let distance = *x - T::of(f64::from(*truth));
                        total += (distance * distance).wide();
                        *to = T::of(2.0) * distance * share;
                    }
                    for ((start, size), class) in layout.spans().zip(&classes[row * groups..(row + 1) * groups]) {
                        let at = start..start + size;
                        total += cross_entropy(&x[at.clone()], *class as usize, share, &mut to[at]);
                    }
                    error[0] = T::of(total) * share;
                }
            });
        }
        Ok(tape.record(tensor(value, &[rows, 1])?, &[outputs], move |gradient, sink: &mut Sink<'_>| {
            let guard = read(&gradient)?;
            let mut own = own;
            for (row, scale) in own.chunks_exact_mut(width).zip(guard.slice::<T>()?) {
                row.iter_mut().for_each(|value| *value *= *scale);
            }
            sink.add(0, tensor(own, &[rows, width])?)
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, normal};
    use super::super::storage::to_vec;
    use super::*;

    fn layout() -> RowLayout {
        RowLayout { numeric: 2, groups: vec![3, 1, 4] }
    }

    #[test]
    fn gradients() {
        for temperature in [0.2, 1.0] {
            check(&[normal(&[5, 10], 1)], |tape, v| gumbel_rows(tape, &v[0], &layout(), temperature, Philox::new(1, 2), 7));
        }
        let targets = [(0, 2), (1, 0), (2, 3), (2, 0), (0, 0)];
        check(&[normal(&[5, 10], 1)], |tape, v| chosen_cross_entropy(tape, &v[0], &layout(), &targets));
        let (numbers, classes) = ([0.5, -1.0, 2.0, 0.0], [2, 0, 3, 0, 0, 1]);
        check(&[normal(&[2, 10], 1)], |tape, v| reconstruction_error(tape, &v[0], &layout(), &numbers, &classes));
    }

    #[test]
    fn noise_chooses_classes_as_often_as_softmax_says() {
        let tape = Tape::silent();
        let layout = RowLayout { numeric: 0, groups: vec![3] };
        let shares = [0.2f64, 0.5, 0.3];
        let logits: Vec<f32> = (0..20_000).flat_map(|_| shares.map(|share| share.ln() as f32)).collect();
        let x = tape.constant(&tensor(logits, &[20_000, 3]).unwrap()).unwrap();
        let y = to_vec::<f32>(gumbel_rows(&tape, &x, &layout, 0.2, Philox::new(3, 4), 0).unwrap().value()).unwrap();
        for (class, share) in shares.into_iter().enumerate() {
            let chosen = y.chunks_exact(3).filter(|row| row.iter().all(|value| row[class] >= *value)).count();
            assert!((chosen as f64 / 20_000.0 - share).abs() < 0.02, "{class}: {chosen}");
        }
        assert!(y.chunks_exact(3).all(|row| (row.iter().sum::<f32>() - 1.0).abs() < 1e-5));
    }

    /// A row's noise is its own, whatever batch it is in.
    #[test]
    fn rows_do_not_depend_on_their_batch() {
        let tape = Tape::silent();
        let x = to_vec::<f64>(&normal(&[40, 10], 1)).unwrap();
        let run = |from: usize, to: usize| {
            let part = tape.constant(&tensor(x[from * 10..to * 10].to_vec(), &[to - from, 10]).unwrap()).unwrap();
            to_vec::<f64>(gumbel_rows(&tape, &part, &layout(), 0.2, Philox::new(1, 1), from as u64).unwrap().value()).unwrap()
        };
        assert_eq!(run(0, 40), [run(0, 13), run(13, 40)].concat());
        let (mut whole, mut own) = (vec![0.0; 7], vec![0.0; 7]);
        fill_normal(Philox::new(1, 1), 3, &mut whole);
        fill_normal(Philox::new(1, 1), 3, &mut own);
        assert_eq!(whole, own);
    }

    #[test]
    fn normal_numbers_are_normal() {
        let mut numbers = vec![0.0; 40_001];
        fill_normal(Philox::new(1, 2), 0, &mut numbers);
        let count = numbers.len() as f64;
        let moment = |power: i32| numbers.iter().map(|x| f64::from(*x).powi(power)).sum::<f64>() / count;
        assert!(moment(1).abs() < 0.02 && (moment(2) - 1.0).abs() < 0.03 && (moment(4) - 3.0).abs() < 0.2);
    }

    #[test]
    fn the_error_is_the_mean_over_features() {
        let tape = Tape::silent();
        let layout = RowLayout { numeric: 1, groups: vec![2] };
        let x = tape.constant(&tensor(vec![3.0f64, 0.0, 0.0], &[1, 3]).unwrap()).unwrap();
        let error = reconstruction_error(&tape, &x, &layout, &[1.0], &[1]).unwrap().scalar().unwrap();
        assert!((error - f64::midpoint(4.0, 2f64.ln())).abs() < 1e-12);
        assert!(reconstruction_error(&tape, &x, &layout, &[1.0], &[2]).is_err());
        assert!(chosen_cross_entropy(&tape, &x, &layout, &[(1, 0)]).is_err());
    }
}
