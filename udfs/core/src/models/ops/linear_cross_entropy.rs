//! The loss of a large output layer in one operator: `softmax cross entropy(hidden · itemsᵀ + bias)`, whose logits are
//! never all in memory, and of which the items may be a sample.
//!
//! * A block of rows at a time: logits → probabilities → at once the block's share of all three gradients (Wijmans et
//!   al., "Cut your losses in large-vocabulary language models", 2025; Hsu et al., "Liger kernel", 2024). What stays is
//!   as large as the inputs, whatever the number of items.
//! * Of a sample, every item but a row's own is corrected by `−ln π`, π being its chance to be in the sample: the
//!   (Horvitz-Thompson) estimate of the sum over all items is then unbiased, so the loss aims where the full softmax does
//!   (Bengio & Sénécal, "Adaptive importance sampling …", 2008; the "logQ correction" of Yi et al., "Sampling-bias-corrected
//!   neural modeling …", RecSys 2019). A row's own item is there for certain and is not corrected.

use std::sync::Arc;

use super::matmul::{Start, add_columns, add_gradient, multiply};
use super::real::Real;
use super::storage::{dispatch, read, tensor};
use super::tape::{Sink, Tape, Var};
use super::vectorise::{largest, vectorise};
use crate::error::{Error, Result};

/// Logits of one block at most: they stay in the second-level cache of most machines.
const BLOCK_LOGITS: usize = 1 << 18;
/// Rows of one block at most.
const BLOCK_ROWS: usize = 64;

vectorise! {
    /// Exponentials of `x − shift` in place of `x`.
    fn exponentials<T>(x: &mut [T], shift: T) {
        for value in x.iter_mut() {
            *value = T::quick_exp(*value - shift);
        }
    }
}

vectorise! {
    /// `x · factor` in place of `x`.
    fn scale<T>(x: &mut [T], factor: T) {
        for value in x.iter_mut() {
            *value *= factor;
        }
    }
}

/// The gradients that the forward pass leaves for the backward pass, for a loss of gradient 1.
struct Saved<T> {
    hidden: Vec<T>,
    items: Vec<T>,
    bias: Vec<T>,
}

/// Sizes: rows, items, width.
type Sizes = [usize; 3];

/// What the blocks read.
struct Operands<'a, T> {
    sizes: Sizes,
    hidden: &'a [T],
    bias: Option<&'a [T]>,
    targets: &'a [u32],
    corrections: Option<&'a [f32]>,
}

/// Mean of `-log softmax(hidden · itemsᵀ + bias)[target]` over the rows.
///
/// `hidden [rows, width]`, `items [items, width]`, `bias [items]` or `[items, 1]`, `targets [rows]` places among the items,
/// `corrections [items]`: what is added to the logits of every item but a row's own.
///
/// # Errors
/// `Internal` when a target is not an item or shapes disagree.
pub fn linear_cross_entropy(
    tape: &Tape,
    hidden: &Var,
    items: &Var,
    bias: Option<&Var>,
    targets: &Arc<[u32]>,
    corrections: Option<&[f32]>,
) -> Result<Var> {
    let (rows, width) = hidden.dims2()?;
    let (count, item_width) = items.dims2()?;
    let fits = item_width == width
        && targets.len() == rows
        && bias.is_none_or(|bias| bias.value().elem_count() == count)
        && corrections.is_none_or(|corrections| corrections.len() == count);
    if rows == 0 || !fits || targets.iter().any(|target| *target as usize >= count) {
        return Err(Error::internal("linear_cross_entropy: targets do not fit the items"));
    }
    let sizes = [rows, count, width];
    dispatch!(hidden.value(), T => {
        let inputs: Vec<&Var> = [Some(hidden), Some(items), bias].into_iter().flatten().collect();
        let tracked = tape.tracks(&inputs);
        let (loss, saved) = {
            let (h, b) = (read(hidden.value())?, bias.map(|bias| read(bias.value())).transpose()?);
            let bias = b.as_ref().map(|bias| bias.slice::<T>()).transpose()?;
            let operands = Operands { sizes, hidden: h.slice::<T>()?, bias, targets, corrections };
            blocks::<T>(&operands, items, tracked)?
        };
        let value = tensor::<T>(vec![T::of(loss)], &[1])?;
        let bias_dims = bias.map(|bias| bias.dims().to_vec());
        Ok(tape.record(value, &inputs, move |gradient, sink: &mut Sink<'_>| {
            let by = read(&gradient)?.slice::<T>()?.first().copied().unwrap_or(T::ZERO);
            let Saved { mut hidden, mut items, mut bias } = saved;
            [&mut hidden, &mut items, &mut bias].into_iter().for_each(|part| scale(part, by));
            sink.add(0, tensor(hidden, &[rows, width])?)?;
            sink.add(1, tensor(items, &[count, width])?)?;
            match bias_dims {
                Some(dims) => sink.add(2, tensor(bias, &dims)?),
                None => Ok(()),
            }
        }))
    })
}

/// The loss, and its gradients where they are wanted.
fn blocks<T: Real>(operands: &Operands<'_, T>, items: &Var, tracked: bool) -> Result<(f64, Saved<T>)> {
    let [rows, count, width] = operands.sizes;
    let table = read(items.value())?;
    let table = table.slice::<T>()?;
    let across = items.transposed(table, count, width);
    let along = tracked.then(|| items.straight(table, count, width));
    let sized = |len: usize| vec![T::ZERO; if tracked { len } else { 0 }];
    let mut saved = Saved { hidden: sized(rows * width), items: sized(count * width), bias: sized(count) };
    let block = (BLOCK_LOGITS / count.max(1)).clamp(1, BLOCK_ROWS);
    let mut logits = vec![T::ZERO; block.min(rows) * count];
    let mut loss = 0f64;
    for first in (0..rows).step_by(block) {
        let held = block.min(rows - first);
        let hidden = &operands.hidden[first * width..(first + held) * width];
        let logits = &mut logits[..held * count];
        multiply(hidden, width, held, &across, logits, count, operands.bias.map_or(Start::Zero, Start::Bias));
        for (row, own) in logits.chunks_exact_mut(count).enumerate() {
            loss += loss_of_row(own, operands.targets[first + row] as usize, operands.corrections, rows);
        }
        if let Some(along) = &along {
            multiply(logits, count, held, along, &mut saved.hidden[first * width..(first + held) * width], width, Start::Zero);
            add_gradient(logits, count, hidden, width, held, &mut saved.items);
            add_columns(logits, &mut saved.bias);
        }
    }
    Ok((loss / rows as f64, saved))
}

/// `ln Σ exp(factor · x)`; `x` must not be empty.
pub fn log_sum_exp(x: &[f32], factor: f64) -> f64 {
    let mut scaled = x.to_vec();
    scale(&mut scaled, factor as f32);
    let most = largest(&scaled);
    exponentials(&mut scaled, most);
    scaled.iter().map(|value| f64::from(*value)).sum::<f64>().ln() + f64::from(most)
}

/// The loss of a row; its logits become their gradient of the mean over `rows`.
fn loss_of_row<T: Real>(x: &mut [T], target: usize, corrections: Option<&[f32]>, rows: usize) -> f64 {
    let own = x[target];
    if let Some(corrections) = corrections {
        x.iter_mut().zip(corrections).for_each(|(x, correction)| *x += T::of(f64::from(*correction)));
        x[target] = own;
    }
    let most = largest(x);
    exponentials(x, most);
    // In f64: a hundred thousand small terms beside a large one.
    let sum = x.iter().map(|value| value.wide()).sum::<f64>();
    scale(x, T::of(1.0 / (sum * rows as f64)));
    x[target] += T::of(-1.0 / rows as f64);
    sum.ln() + most.wide() - own.wide()
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, normal};
    use super::super::philox::Philox;
    use super::super::storage::to_vec;
    use super::super::{Activation, linear, softmax_cross_entropy};
    use super::*;

    #[test]
    fn gradients() {
        for (rows, count) in [(1, 3), (5, 7), (70, 33)] {
            let targets: Arc<[u32]> = (0..rows).map(|row| (row * 5 % count) as u32).collect();
            let corrections: Vec<f32> = (0..count).map(|item| 0.25 * item as f32).collect();
            let inputs = [normal(&[rows, 4], 1), normal(&[count, 4], 2), normal(&[count], 3)];
            for corrections in [None, Some(&corrections[..])] {
                check(&inputs, |tape, vars| linear_cross_entropy(tape, &vars[0], &vars[1], Some(&vars[2]), &targets, corrections));
                check(&inputs[..2], |tape, vars| linear_cross_entropy(tape, &vars[0], &vars[1], None, &targets, corrections));
            }
        }
    }

    #[test]
    fn it_is_the_two_operators_it_stands_for() {
        let single = |shape: &[usize], stream| {
            let values = to_vec::<f64>(&normal(shape, stream)).unwrap().iter().map(|x| *x as f32).collect();
            tensor::<f32>(values, shape).unwrap()
        };
        let inputs = [single(&[37, 8], 1), single(&[300, 8], 2), single(&[300], 3)];
        let targets: Arc<[u32]> = (0..37u32).map(|row| row * 8).collect();
        let run = |fused: bool| {
            let tape = Tape::recording(Philox::new(1, 1));
            let vars: Vec<Var> = inputs.iter().map(|input| tape.leaf(input).unwrap()).collect();
            let loss = if fused {
                linear_cross_entropy(&tape, &vars[0], &vars[1], Some(&vars[2]), &targets, None)
            } else {
                let logits = linear(&tape, &vars[0], &vars[1], Some(&vars[2]), Activation::Identity).unwrap();
                softmax_cross_entropy(&tape, &logits, &targets, None)
            };
            let loss = loss.unwrap();
            let value = loss.scalar().unwrap();
            let gradients = tape.backward(&loss).unwrap();
            (value, vars.iter().map(|var| to_vec::<f32>(gradients.get(var).unwrap()).unwrap()).collect::<Vec<_>>())
        };
        let (fused, apart) = (run(true), run(false));
        assert!((fused.0 - apart.0).abs() < 1e-6, "{} {}", fused.0, apart.0);
        for (fused, apart) in fused.1.iter().flatten().zip(apart.1.iter().flatten()) {
            assert!((fused - apart).abs() < 2e-7, "{fused} {apart}");
        }
    }

    /// Over many samples, the corrected sum over a sample is the sum over all items.
    #[test]
    fn a_corrected_sample_estimates_the_full_sum() {
        let (count, width, draws) = (200usize, 3, 4000u32);
        let items = normal(&[count, width], 2);
        let hidden = normal(&[1, width], 1);
        let table = to_vec::<f64>(&items).unwrap();
        let state = to_vec::<f64>(&hidden).unwrap();
        let exponential = |item: usize| (0..width).map(|k| table[item * width + k] * state[k]).sum::<f64>().exp();
        let full: f64 = (0..count).map(exponential).sum();
        // Item i is in a sample with a chance of its own.
        let chance = |item: usize| 0.1 + 0.8 * (item % 7) as f64 / 7.0;
        let tape = Tape::silent();
        let hidden = tape.constant(&hidden).unwrap();
        let mut mean = 0.0;
        for draw in 0..draws {
            let random = Philox::new(5, 5).at_step(draw);
            let ids: Vec<usize> = (0..count).filter(|item| *item == 11 || random.uniform(*item as u64) < chance(*item)).collect();
            let rows = ids.iter().flat_map(|item| table[item * width..][..width].to_vec()).collect();
            let sample = tape.constant(&tensor::<f64>(rows, &[ids.len(), width]).unwrap()).unwrap();
            let corrections: Vec<f32> = ids.iter().map(|item| -chance(*item).ln() as f32).collect();
            let place = ids.iter().position(|item| *item == 11).unwrap() as u32;
            let loss = linear_cross_entropy(&tape, &hidden, &sample, None, &Arc::from([place]), Some(&corrections)).unwrap();
            mean += loss.scalar().unwrap().exp() * exponential(11) / f64::from(draws);
        }
        assert!((mean / full - 1.0).abs() < 0.01, "{mean} instead of {full}");
    }

    #[test]
    fn shapes_and_extremes() {
        let tape = Tape::silent();
        let var = |values: Vec<f32>, shape: &[usize]| tape.constant(&tensor(values, shape).unwrap()).unwrap();
        let hidden = var(vec![1000.0, -1000.0], &[2, 1]);
        let items = var(vec![1.0, -1.0], &[2, 1]);
        let loss = linear_cross_entropy(&tape, &hidden, &items, None, &Arc::from([1u32, 1]), None).unwrap().scalar().unwrap();
        assert!((loss - 1000.0).abs() < 1e-2, "{loss}");
        assert!(linear_cross_entropy(&tape, &hidden, &items, None, &Arc::from([2u32, 1]), None).is_err());
        assert!(linear_cross_entropy(&tape, &hidden, &items, None, &Arc::from([1u32]), None).is_err());
    }
}
