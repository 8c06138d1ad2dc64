//! Dense layer with its activation: `y = act(x · Wᵀ + b)`.

use super::activation::Activation;
use super::int8;
use super::matmul::{affine, column_sums, weight_gradient};
use super::storage::{dispatch, read, tensor};
use super::tape::{Sink, Tape, Var};
use crate::error::{Error, Result};

/// `x [rows, in]`, `weight [out, in]`, `bias [out]` → `[rows, out]`.
///
/// # Errors
/// `Internal` when shapes disagree.
pub fn linear(tape: &Tape, x: &Var, weight: &Var, bias: Option<&Var>, activation: Activation) -> Result<Var> {
    if let Some(device) = tape.device() {
        return device.linear(x, weight, bias, activation);
    }
    let (rows, inputs) = x.dims2()?;
    let (outputs, weight_inputs) = weight.dims2()?;
    if weight_inputs != inputs || bias.is_some_and(|bias| bias.dims() != [outputs]) {
        return Err(Error::internal(format!("linear: input {:?} does not fit weight {:?}", x.dims(), weight.dims())));
    }
    if let Some(panels) = weight.dense8() {
        return int8::linear(tape, x, panels, bias, activation);
    }
    dispatch!(x.value(), T => {
        let value = {
            let (packed, x, weight) = (weight, read(x.value())?, read(weight.value())?);
            let bias = bias.map(|bias| read(bias.value())).transpose()?;
            let bias = bias.as_ref().map(|bias| bias.slice::<T>()).transpose()?;
            let panels = packed.transposed(weight.slice::<T>()?, outputs, inputs);
            affine(x.slice::<T>()?, rows, &panels, bias, |_, chunk| activation.apply(chunk))
        };
        let value = tensor::<T>(value, &[rows, outputs])?;
        let (saved_x, packed, saved_y) = (x.value().clone(), weight.clone(), value.clone());
        let parents: Vec<&Var> = [Some(x), Some(weight), bias].into_iter().flatten().collect();
        Ok(tape.record(value, &parents, move |gradient, sink: &mut Sink<'_>| {
            let (x, weight, y) = (read(&saved_x)?, read(packed.value())?, read(&saved_y)?);
            let gradient = read(&gradient)?;
            let (x, y) = (x.slice::<T>()?, y.slice::<T>()?);
            let gradient = gradient.slice::<T>()?;
            let before: Vec<T>;
            let dy = if activation == Activation::Identity {
                gradient
            } else {
                before = gradient.iter().zip(y).map(|(g, y)| activation.backward(*g, *y)).collect();
                &before
            };
            if sink.wants(0) {
                let panels = packed.straight(weight.slice::<T>()?, outputs, inputs);
                sink.add(0, tensor(affine(dy, rows, &panels, None, |_, _| {}), &[rows, inputs])?)?;
            }
            if sink.wants(1) {
                sink.add(1, tensor(weight_gradient(dy, x, rows, outputs, inputs), &[outputs, inputs])?)?;
            }
            if sink.wants(2) {
                sink.add(2, tensor(column_sums(dy, outputs), &[outputs])?)?;
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
        for activation in [Activation::Identity, Activation::Relu, Activation::Tanh, Activation::Sigmoid] {
            for rows in [1, 3, 17, 100] {
                let inputs = [normal(&[rows, 5], 1), normal(&[4, 5], 2), normal(&[4], 3)];
                check(&inputs, |tape, vars| linear(tape, &vars[0], &vars[1], Some(&vars[2]), activation));
                check(&inputs[..2], |tape, vars| linear(tape, &vars[0], &vars[1], None, activation));
            }
        }
    }

    #[test]
    fn shapes_are_checked() {
        let tape = Tape::silent();
        let (x, w) = (tape.constant(&normal(&[2, 3], 1)).unwrap(), tape.constant(&normal(&[2, 4], 1)).unwrap());
        assert!(linear(&tape, &x, &w, None, Activation::Identity).is_err());
    }
}
