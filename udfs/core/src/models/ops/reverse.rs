//! Sequences back to front, each over its own length: what the backward direction of a recurrent layer reads.

use std::sync::Arc;

use super::packing::Packing;
use super::real::Real;
use super::storage::{dispatch, read, tensor};
use super::tape::{Sink, Tape, Var};
use crate::error::{Error, Result};

/// For each packed step the step that stands at the same distance from its row's other end.
fn mirror(packing: &Packing) -> Vec<usize> {
    let mut from = vec![0; packing.steps()];
    for chunk in packing.chunks() {
        for (at, len) in chunk.lengths() {
            let place = |step: usize| chunk.start + chunk.offsets[step] + at;
            (0..len).for_each(|step| from[place(step)] = place(len - 1 - step));
        }
    }
    from
}

fn taken<T: Real>(x: &[T], from: &[usize], width: usize) -> Vec<T> {
    let mut out = Vec::with_capacity(x.len());
    from.iter().for_each(|step| out.extend_from_slice(&x[step * width..(step + 1) * width]));
    out
}

/// `x [steps, width]` packed as `packing` says → the same with the steps of every row in reverse order, packed alike. Twice
/// is as before.
///
/// # Errors
/// `Internal` when `x` is packed otherwise.
pub fn reverse_steps(tape: &Tape, x: &Var, packing: &Packing) -> Result<Var> {
    let (steps, width) = x.dims2()?;
    if steps != packing.steps() {
        return Err(Error::internal("reverse_steps: the input is packed otherwise"));
    }
    let from: Arc<[usize]> = mirror(packing).into();
    dispatch!(x.value(), T => {
        let value = {
            let guard = read(x.value())?;
            taken(guard.slice::<T>()?, &from, width)
        };
        Ok(tape.record(tensor::<T>(value, &[steps, width])?, &[x], move |gradient, sink: &mut Sink<'_>| {
            let guard = read(&gradient)?;
            sink.add(0, tensor(taken(guard.slice::<T>()?, &from, width), &[steps, width])?)
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, normal};
    use super::super::lstm::RecurrentWeights;
    use super::super::storage::to_vec;
    use super::super::{Activation, concat, gru, lstm, rnn};
    use super::*;

    #[test]
    fn every_row_over_its_own_length() {
        let packing = Packing::new(&[1, 3, 0, 2]);
        let padded = [10.0, 0.0, 0.0, 20.0, 21.0, 22.0, 0.0, 0.0, 0.0, 30.0, 31.0, 0.0];
        let turned = [10.0, 0.0, 0.0, 22.0, 21.0, 20.0, 0.0, 0.0, 0.0, 31.0, 30.0, 0.0];
        let tape = Tape::silent();
        let x = tape.constant(&tensor(packing.pack(&padded, 3, 1), &[6, 1]).unwrap()).unwrap();
        let once = reverse_steps(&tape, &x, &packing).unwrap();
        assert_eq!(to_vec::<f64>(once.value()).unwrap(), packing.pack(&turned, 3, 1));
        let twice = reverse_steps(&tape, &once, &packing).unwrap();
        assert_eq!(to_vec::<f64>(twice.value()).unwrap(), to_vec::<f64>(x.value()).unwrap());
    }

    /// A layer in both directions, as a network runs it.
    #[test]
    fn gradients_of_both_directions() {
        let (inputs, hidden) = (2, 3);
        for lengths in [vec![1], vec![3, 1, 0, 4], (0..17).map(|i| i % 4).collect()] {
            let packing = Arc::new(Packing::new(&lengths));
            for cell in ["gru", "lstm", "tanh", "relu"] {
                let gates = match cell {
                    "gru" => 3,
                    "lstm" => 4,
                    _ => 1,
                };
                let mut tensors = vec![normal(&[packing.steps(), inputs], 1)];
                for direction in 0..2 {
                    let rows = gates * hidden;
                    let shapes: [&[usize]; 4] = [&[rows, inputs], &[rows, hidden], &[rows], &[rows]];
                    tensors.extend(shapes.into_iter().enumerate().map(|(at, shape)| normal(shape, 2 + at as u32 + 4 * direction)));
                }
                check(&tensors, |tape, v| {
                    let layer = |x: &Var, v: &[Var]| {
                        let weights = RecurrentWeights { weight_ih: &v[0], weight_hh: &v[1], bias_ih: &v[2], bias_hh: &v[3] };
                        match cell {
                            "gru" => gru(tape, x, &packing, &weights),
                            "lstm" => lstm(tape, x, &packing, &weights),
                            "tanh" => rnn(tape, x, &packing, &weights, Activation::Tanh),
                            _ => rnn(tape, x, &packing, &weights, Activation::Relu),
                        }
                    };
                    let back = layer(&reverse_steps(tape, &v[0], &packing)?, &v[5..9])?;
                    concat(tape, &[layer(&v[0], &v[1..5])?, reverse_steps(tape, &back, &packing)?])
                });
            }
        }
    }
}
