//! Gradients against central differences in `f64` (the tolerances of `torch.autograd.gradcheck`).

use candle_core::Tensor;

use super::philox::Philox;
use super::storage::{read, tensor, to_vec};
use super::tape::{Tape, Var};
use crate::error::Result;

const STEP: f64 = 1e-6;
const ABSOLUTE: f64 = 1e-5;
const RELATIVE: f64 = 1e-3;

/// A standard normal `f64` tensor.
pub(super) fn normal(shape: &[usize], stream: u32) -> Tensor {
    let random = Philox::new(11, stream);
    tensor((0..shape.iter().product::<usize>()).map(|i| random.normal(i as u64)).collect(), shape).unwrap()
}

/// Projects the result of `op` on fixed random weights, so that every element of it counts.
fn project(tape: &Tape, result: &Var) -> Var {
    let count = result.value().elem_count();
    let weights = to_vec::<f64>(&normal(&[count], 99)).unwrap();
    let value = read(result.value()).unwrap().slice::<f64>().unwrap().iter().zip(&weights).map(|(x, w)| x * w).sum::<f64>();
    let dims = result.dims().to_vec();
    tape.record(tensor(vec![value], &[1]).unwrap(), &[result], move |gradient, sink| {
        let scale = to_vec::<f64>(&gradient)?[0];
        sink.add(0, tensor(weights.iter().map(|w| w * scale).collect(), &dims)?)
    })
}

/// Checks the gradient of `op` with respect to each of `inputs`.
pub(super) fn check(inputs: &[Tensor], op: impl Fn(&Tape, &[Var]) -> Result<Var>) {
    let random = Philox::new(5, 5);
    let value_at = |changed: usize, tensor: &Tensor| {
        let tape = Tape::recording(random);
        let vars: Vec<Var> =
            inputs.iter().enumerate().map(|(i, input)| tape.leaf(if i == changed { tensor } else { input }).unwrap()).collect();
        let result = op(&tape, &vars).unwrap();
        project(&tape, &result).scalar().unwrap()
    };
    let tape = Tape::recording(random);
    let vars: Vec<Var> = inputs.iter().map(|input| tape.leaf(input).unwrap()).collect();
    let result = op(&tape, &vars).unwrap();
    let scalar = project(&tape, &result);
    let gradients = tape.backward(&scalar).unwrap();
    for (at, input) in inputs.iter().enumerate() {
        let gradient = to_vec::<f64>(gradients.get(&vars[at]).expect("a gradient for every input")).unwrap();
        let base = to_vec::<f64>(input).unwrap();
        assert_eq!(gradient.len(), base.len());
        for i in 0..base.len() {
            let moved = |by: f64| {
                let mut values = base.clone();
                values[i] += by;
                value_at(at, &tensor(values, input.dims()).unwrap())
            };
            let expected = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
            let error = (gradient[i] - expected).abs();
            assert!(error <= ABSOLUTE + RELATIVE * expected.abs(), "input {at} element {i}: {} instead of {expected}", gradient[i]);
        }
    }
}
