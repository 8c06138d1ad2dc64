//! Many networks in one: dense layers whose members share one weight matrix and differ by scalings (BatchEnsemble,
//! Wen et al., 2020; used as in TabM, Gorishniy et al., 2024), and the members' own small output layers.
//!
//! Row `r` of member `m` is at `r · members + m` everywhere.

use super::activation::Activation;
use super::dropout::{Mask, dropout};
use super::int8;
use super::matmul::{Panels, ROW_CHUNK, Start, multiply, weight_gradient};
use super::parallel::{self, Shared};
use super::pool;
use super::real::Real;
use super::storage::{dispatch, read, tensor};
use super::tape::{Sink, Tape, Var};
use super::vectorise::vectorise;
use crate::error::{Error, Result};

/// Rows of one unit of backward work; each keeps its own sums of the members' gradients.
const BACKWARD_CHUNK: usize = 4 * ROW_CHUNK;

vectorise! {
    /// `out = a · b`, element by element.
    fn product<T>(a: &[T], b: &[T], out: &mut [T]) {
        for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
            *out = *a * *b;
        }
    }
}

vectorise! {
    /// `sums += a · b`, element by element.
    fn add_product<T>(a: &[T], b: &[T], sums: &mut [T]) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += *a * *b;
        }
    }
}

vectorise! {
    /// `out = act(z · s + b)`.
    fn finish_row<T>(z: &[T], s: &[T], b: &[T], out: &mut [T], activation: Activation) {
        for (((out, z), s), b) in out.iter_mut().zip(z).zip(s).zip(b) {
            *out = *z * *s + *b;
        }
        activation.apply(out);
    }
}

vectorise! {
    /// One row back through `act(z · s + b)`: sums for `s` and `b`, and the gradient of `z`.
    fn finish_row_backward<T>(
        gradient: &[T], y: &[T], z: &[T], s: &[T], sums: (&mut [T], &mut [T]), d_z: &mut [T], activation: Activation, survivors: T,
    ) {
        let count = gradient.len();
        let (d_s, d_b) = (&mut sums.0[..count], &mut sums.1[..count]);
        let (y, z, s, d_z) = (&y[..count], &z[..count], &s[..count], &mut d_z[..count]);
        for i in 0..count {
            let g = activation.backward(gradient[i] * survivors, y[i]);
            d_s[i] += g * z[i];
            d_b[i] += g;
            d_z[i] = g * s[i];
        }
    }
}

/// The learned parts of a batch-ensemble layer.
#[derive(Debug)]
pub struct EnsembleWeights<'a> {
    /// `[out, in]`, shared.
    pub weight: &'a Var,
    /// `[members, in]`, scales the inputs.
    pub scale_in: &'a Var,
    /// `[members, out]`, scales the outputs.
    pub scale_out: &'a Var,
    /// `[members, out]`.
    pub bias: &'a Var,
}

#[derive(Debug, Clone, Copy)]
struct Shape {
    /// Rows times members.
    all: usize,
    members: usize,
    inputs: usize,
    outputs: usize,
    /// Whether all members read the same input row.
    shared_input: bool,
    activation: Activation,
    mask: Option<Mask>,
}

impl Shape {
    fn input_row<'a, T>(&self, x: &'a [T], at: usize) -> &'a [T] {
        let row = if self.shared_input { at / self.members } else { at };
        &x[row * self.inputs..(row + 1) * self.inputs]
    }

    fn member<'a, T>(&self, values: &'a [T], at: usize, width: usize) -> &'a [T] {
        let member = at % self.members;
        &values[member * width..(member + 1) * width]
    }
}

/// `dropout(act(((x ∘ scale_in) · weightᵀ) ∘ scale_out + bias))`. `x` is `[rows, in]` (read by all members) or
/// `[rows · members, in]`; the result is `[rows · members, out]`. Dropout is part of the layer because behind a ReLU it
/// is free on the way back: a silenced unit is one whose result is 0.
///
/// # Errors
/// `Internal` when shapes disagree.
pub fn batch_ensemble(
    tape: &Tape,
    x: &Var,
    rows: usize,
    weights: &EnsembleWeights<'_>,
    activation: Activation,
    dropout_rate: f32,
) -> Result<Var> {
    if let Some(device) = tape.device() {
        return device.batch_ensemble(x, rows, weights, activation, dropout_rate);
    }
    let mask = Mask::new(tape, dropout_rate);
    if let (Some(_), true) = (&mask, activation != Activation::Relu) {
        let x = batch_ensemble(tape, x, rows, weights, activation, 0.0)?;
        return dropout(tape, &x, dropout_rate);
    }
    let (x_rows, inputs) = x.dims2()?;
    let (outputs, weight_inputs) = weights.weight.dims2()?;
    let members = weights.scale_in.dims2()?.0;
    let all = rows * members;
    if weight_inputs != inputs
        || weights.scale_in.dims() != [members, inputs]
        || weights.scale_out.dims() != [members, outputs]
        || weights.bias.dims() != [members, outputs]
        || (x_rows != rows && x_rows != all)
    {
        return Err(Error::internal("batch_ensemble: the weights do not fit the input"));
    }
    let shape = Shape { all, members, inputs, outputs, shared_input: x_rows == rows, activation, mask };
    if let Some(panels) = weights.weight.dense8() {
        return scored(tape, x, panels, weights, shape);
    }
    let parents = [x, weights.weight, weights.scale_in, weights.scale_out, weights.bias];
    dispatch!(x.value(), T => {
        let (y, z) = {
            let held: Vec<_> = parents.iter().map(|var| read(var.value())).collect::<Result<_>>()?;
            let slices: Vec<&[T]> = held.iter().map(|guard| guard.slice::<T>()).collect::<Result<_>>()?;
            let panels = weights.weight.transposed(slices[1], outputs, inputs);
            let multiply = |x: &[T], rows: usize, z: &mut [T]| multiply(x, inputs, rows, &panels, z, outputs, Start::Zero);
            forward(shape, &[slices[0], slices[2], slices[3], slices[4]], multiply, tape.tracks(&parents))
        };
        let value = tensor::<T>(y, &[all, outputs])?;
        let saved: Vec<Var> = parents.iter().copied().cloned().collect();
        let saved_y = value.clone();
        Ok(tape.record(value, &parents, move |gradient, sink: &mut Sink<'_>| {
            let held: Vec<_> = saved.iter().map(|var| read(var.value())).collect::<Result<_>>()?;
            let slices: Vec<&[T]> = held.iter().map(|guard| guard.slice::<T>()).collect::<Result<_>>()?;
            let (guard, y) = (read(&gradient)?, read(&saved_y)?);
            let panels = saved[1].straight(slices[1], outputs, inputs);
            let own = backward(shape, &slices, &panels, &z, y.slice::<T>()?, guard.slice::<T>()?, sink.wants(0));
            pool::give(z);
            if sink.wants(0) {
                sink.add(0, tensor(own.x, saved[0].dims())?)?;
            }
            sink.add(1, tensor(own.weight, &[outputs, inputs])?)?;
            sink.add(2, tensor(own.scale_in, &[members, inputs])?)?;
            sink.add(3, tensor(own.scale_out, &[members, outputs])?)?;
            sink.add(4, tensor(own.bias, &[members, outputs])?)
        }))
    })
}

/// The same with a weight matrix of 8 bits.
fn scored(tape: &Tape, x: &Var, panels: &int8::Panels8, weights: &EnsembleWeights<'_>, shape: Shape) -> Result<Var> {
    let (y, _) = {
        let parts = [x, weights.scale_in, weights.scale_out, weights.bias];
        let held: Vec<_> = parts.iter().map(|var| read(var.value())).collect::<Result<_>>()?;
        let slices: Vec<&[f32]> = held.iter().map(|guard| guard.slice::<f32>()).collect::<Result<_>>()?;
        let multiply = |x: &[f32], rows: usize, z: &mut [f32]| {
            int8::Quantised::of(x, rows, shape.inputs).times(0, rows, panels, z, Start::Zero);
        };
        forward(shape, &[slices[0], slices[1], slices[2], slices[3]], multiply, false)
    };
    let value = tensor::<f32>(y, &[shape.all, shape.outputs])?;
    Ok(tape.record(value, &[x], |_, _| Err(Error::internal("weights of 8 bits are not trained"))))
}

/// `slices`: x, scale_in, scale_out, bias; `multiply(x, rows, z)` is the product with the weight matrix. Returns the result
/// and, when `keep`, what the product gave.
fn forward<T: Real>(
    shape: Shape,
    slices: &[&[T]; 4],
    multiply: impl Fn(&[T], usize, &mut [T]) + Sync + Send,
    keep: bool,
) -> (Vec<T>, Vec<T>) {
    let Shape { all, inputs, outputs, .. } = shape;
    let mut y = vec![T::ZERO; all * outputs];
    let mut z = pool::take(if keep { all * outputs } else { 0 });
    let (shared_y, shared_z) = (Shared::new(&mut y), Shared::new(&mut z));
    parallel::for_each(all.div_ceil(ROW_CHUNK), |chunk| {
        let first = chunk * ROW_CHUNK;
        let count = ROW_CHUNK.min(all - first);
        let mut scaled = vec![T::ZERO; count * inputs];
        for (at, out) in scaled.chunks_exact_mut(inputs.max(1)).enumerate() {
            product(shape.input_row(slices[0], first + at), shape.member(slices[1], first + at, inputs), out);
        }
        let mut scratch = vec![T::ZERO; if keep { 0 } else { count * outputs }];
        // SAFETY: chunks are disjoint.
        let (y, kept) = unsafe {
            (
                shared_y.slice(first * outputs, count * outputs),
                shared_z.slice(first * outputs * usize::from(keep), if keep { count * outputs } else { 0 }),
            )
        };
        let z = if keep { kept } else { &mut scratch[..] };
        multiply(&scaled, count, z);
        for (at, (out, z)) in y.chunks_exact_mut(outputs.max(1)).zip(z.chunks_exact(outputs.max(1))).enumerate() {
            let at = first + at;
            finish_row(z, shape.member(slices[2], at, outputs), shape.member(slices[3], at, outputs), out, shape.activation);
        }
        if let Some(mask) = shape.mask {
            mask.apply(first * outputs, y);
        }
    });
    (y, z)
}

struct Own<T> {
    x: Vec<T>,
    weight: Vec<T>,
    scale_in: Vec<T>,
    scale_out: Vec<T>,
    bias: Vec<T>,
}

fn add_all<T: Real>(sums: &mut [T], part: &[T]) {
    sums.iter_mut().zip(part).for_each(|(sum, value)| *sum += *value);
}

fn backward<T: Real>(shape: Shape, slices: &[&[T]], panels: &Panels<T>, z: &[T], y: &[T], gradient: &[T], wants_x: bool) -> Own<T> {
    let Shape { all, members, inputs, outputs, shared_input, activation, .. } = shape;
    // Chunks hold whole rows of all members, so that a shared input row belongs to one chunk.
    let chunk_rows = BACKWARD_CHUNK.div_ceil(members) * members;
    let mut d_z = pool::take(all * outputs);
    let mut scaled = pool::take(all * inputs);
    let survivors = shape.mask.map_or(T::ONE, |mask| mask.scale());
    let x_rows = if shared_input { all / members } else { all };
    let mut d_x = vec![T::ZERO; if wants_x { x_rows * inputs } else { 0 }];
    let (shared_z, shared_scaled, shared_x) = (Shared::new(&mut d_z), Shared::new(&mut scaled), Shared::new(&mut d_x));
    let parts = parallel::map(all.div_ceil(chunk_rows.max(1)), |chunk| {
        let first = chunk * chunk_rows;
        let count = chunk_rows.min(all - first);
        let (mut d_in, mut d_out, mut d_b) =
            (vec![T::ZERO; members * inputs], vec![T::ZERO; members * outputs], vec![T::ZERO; members * outputs]);
        // SAFETY: chunks are disjoint.
        let (d_z, scaled) =
            unsafe { (shared_z.slice(first * outputs, count * outputs), shared_scaled.slice(first * inputs, count * inputs)) };
        for at in 0..count {
            let (all_at, member) = (first + at, (first + at) % members);
            let (row, own) = (all_at * outputs..(all_at + 1) * outputs, member * outputs..(member + 1) * outputs);
            let d_z = &mut d_z[at * outputs..(at + 1) * outputs];
            let scale = shape.member(slices[3], all_at, outputs);
            let sums = (&mut d_out[own.clone()], &mut d_b[own]);
            finish_row_backward(&gradient[row.clone()], &y[row.clone()], &z[row], scale, sums, d_z, activation, survivors);
            let factors = shape.member(slices[2], all_at, inputs);
            product(shape.input_row(slices[0], all_at), factors, &mut scaled[at * inputs..(at + 1) * inputs]);
        }
        let mut d_scaled = vec![T::ZERO; count * inputs];
        multiply(d_z, outputs, count, panels, &mut d_scaled, inputs, Start::Zero);
        for (at, d_scaled) in d_scaled.chunks_exact(inputs.max(1)).enumerate() {
            let (all_at, member) = (first + at, (first + at) % members);
            add_product(d_scaled, shape.input_row(slices[0], all_at), &mut d_in[member * inputs..(member + 1) * inputs]);
            if wants_x {
                let row = if shared_input { all_at / members } else { all_at };
                // SAFETY: a row of the input belongs to one chunk.
                add_product(d_scaled, shape.member(slices[2], all_at, inputs), unsafe { shared_x.slice(row * inputs, inputs) });
            }
        }
        (d_in, d_out, d_b)
    });
    let (mut scale_in, mut scale_out, mut bias) =
        (vec![T::ZERO; members * inputs], vec![T::ZERO; members * outputs], vec![T::ZERO; members * outputs]);
    for (d_in, d_out, d_b) in parts {
        add_all(&mut scale_in, &d_in);
        add_all(&mut scale_out, &d_out);
        add_all(&mut bias, &d_b);
    }
    let weight = weight_gradient(&d_z, &scaled, all, outputs, inputs);
    pool::give(d_z);
    pool::give(scaled);
    Own { x: d_x, weight, scale_in, scale_out, bias }
}

/// Sum of products in sixteen interleaved chains: vectorisable, and always in the same order.
fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    let mut sums = [T::ZERO; 16];
    let (left, right) = (a.chunks_exact(16), b.chunks_exact(16));
    let tail: T = left.remainder().iter().zip(right.remainder()).map(|(a, b)| *a * *b).sum();
    for (a, b) in left.zip(right) {
        for i in 0..16 {
            sums[i] += a[i] * b[i];
        }
    }
    sums.into_iter().sum::<T>() + tail
}

/// Each member's own linear layer: `x [rows · members, in]`, `weight [members, out, in]`, `bias [members, out]` →
/// `[rows · members, out]`. Meant for few outputs.
///
/// # Errors
/// `Internal` when shapes disagree.
pub fn member_linear(tape: &Tape, x: &Var, weight: &Var, bias: &Var) -> Result<Var> {
    if let Some(device) = tape.device() {
        return device.member_linear(x, weight, bias);
    }
    let (all, inputs) = x.dims2()?;
    let (members, outputs, weight_inputs) = weight.value().dims3()?;
    if weight_inputs != inputs || bias.dims() != [members, outputs] || all % members.max(1) != 0 {
        return Err(Error::internal("member_linear: the weights do not fit the input"));
    }
    dispatch!(x.value(), T => {
        let mut y = vec![T::ZERO; all * outputs];
        {
            let (x, weight, bias) = (read(x.value())?, read(weight.value())?, read(bias.value())?);
            let (x, weight, bias) = (x.slice::<T>()?, weight.slice::<T>()?, bias.slice::<T>()?);
            let shared = Shared::new(&mut y);
            parallel::for_each(all.div_ceil(ROW_CHUNK), |chunk| {
                for at in chunk * ROW_CHUNK..((chunk + 1) * ROW_CHUNK).min(all) {
                    let own = at % members * outputs;
                    // SAFETY: rows are disjoint.
                    for (o, out) in unsafe { shared.slice(at * outputs, outputs) }.iter_mut().enumerate() {
                        *out = bias[own + o] + dot(&x[at * inputs..(at + 1) * inputs], &weight[(own + o) * inputs..(own + o + 1) * inputs]);
                    }
                }
            });
        }
        let value = tensor::<T>(y, &[all, outputs])?;
        let saved = (x.value().clone(), weight.value().clone());
        Ok(tape.record(value, &[x, weight, bias], move |gradient, sink: &mut Sink<'_>| {
            let (x, weight, gradient) = (read(&saved.0)?, read(&saved.1)?, read(&gradient)?);
            let (x, weight, gradient) = (x.slice::<T>()?, weight.slice::<T>()?, gradient.slice::<T>()?);
            let mut d_x = vec![T::ZERO; all * inputs];
            let shared = Shared::new(&mut d_x);
            let parts = parallel::map(members, |member| {
                let (mut d_weight, mut d_bias) = (vec![T::ZERO; outputs * inputs], vec![T::ZERO; outputs]);
                for at in (member..all).step_by(members) {
                    // SAFETY: a row belongs to one member.
                    let d_x = unsafe { shared.slice(at * inputs, inputs) };
                    for o in 0..outputs {
                        let g = gradient[at * outputs + o];
                        let own = &weight[(member * outputs + o) * inputs..(member * outputs + o + 1) * inputs];
                        d_bias[o] += g;
                        d_x.iter_mut().zip(own).for_each(|(d, w)| *d += g * *w);
                        let d_weight = &mut d_weight[o * inputs..(o + 1) * inputs];
                        d_weight.iter_mut().zip(&x[at * inputs..(at + 1) * inputs]).for_each(|(d, x)| *d += g * *x);
                    }
                }
                (d_weight, d_bias)
            });
            let (d_weight, d_bias): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
            sink.add(0, tensor(d_x, &[all, inputs])?)?;
            sink.add(1, tensor(d_weight.concat(), &[members, outputs, inputs])?)?;
            sink.add(2, tensor(d_bias.concat(), &[members, outputs])?)
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, normal};
    use super::*;

    #[test]
    fn batch_ensemble_gradients() {
        let (members, inputs, outputs) = (3, 4, 2);
        for rows in [1, 3, 17] {
            for x_rows in [rows, rows * members] {
                for activation in [Activation::Relu, Activation::Tanh] {
                    let tensors = [
                        normal(&[x_rows, inputs], 1),
                        normal(&[outputs, inputs], 2),
                        normal(&[members, inputs], 3),
                        normal(&[members, outputs], 4),
                        normal(&[members, outputs], 5),
                    ];
                    check(&tensors, |tape, v| {
                        let weights = EnsembleWeights { weight: &v[1], scale_in: &v[2], scale_out: &v[3], bias: &v[4] };
                        batch_ensemble(tape, &v[0], rows, &weights, activation, 0.0)
                    });
                    check(&tensors, |tape, v| {
                        let weights = EnsembleWeights { weight: &v[1], scale_in: &v[2], scale_out: &v[3], bias: &v[4] };
                        batch_ensemble(tape, &v[0], rows, &weights, activation, 0.3)
                    });
                }
            }
        }
    }

    #[test]
    fn member_linear_gradients() {
        for rows in [1, 3, 17] {
            let tensors = [normal(&[rows * 3, 18], 1), normal(&[3, 2, 18], 2), normal(&[3, 2], 3)];
            check(&tensors, |tape, v| member_linear(tape, &v[0], &v[1], &v[2]));
        }
    }
}
