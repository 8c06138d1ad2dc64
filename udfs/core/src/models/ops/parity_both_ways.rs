//! Bidirectional recurrent layers against vectors that PyTorch computed (`udfs/core/tests/data/torch_both_ways.py`).

use std::sync::Arc;

use super::storage::{tensor, to_vec};
use super::*;
use crate::models::architecture::Weights;
use crate::models::recurrent::Layers;
use crate::models::{Architecture, Parameters};

const VECTORS: &[u8] = include_bytes!("../../../tests/data/torch_both_ways.safetensors");
const INPUTS: usize = 5;
const HIDDEN: usize = 6;

fn close(got: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1f32, |scale, value| scale.max(value.abs()));
    for (got, expected) in got.iter().zip(expected) {
        assert!((got - expected).abs() <= tolerance * scale, "{what}: {got} instead of {expected}");
    }
}

/// `Σ values · projection` of two results.
fn project(tape: &Tape, results: [(&Var, Vec<f32>); 2]) -> Var {
    let mut value = 0f32;
    for (result, projection) in &results {
        value += to_vec::<f32>(result.value()).unwrap().iter().zip(projection).map(|(h, p)| h * p).sum::<f32>();
    }
    let dims = [results[0].0, results[1].0].map(|result| result.dims().to_vec());
    let (inputs, projections): (Vec<&Var>, Vec<Vec<f32>>) = results.into_iter().unzip();
    tape.record(tensor(vec![value], &[1]).unwrap(), &inputs, move |_, sink| {
        for (at, (projection, dims)) in projections.into_iter().zip(dims).enumerate() {
            sink.add(at, tensor(projection, &dims)?)?;
        }
        Ok(())
    })
}

fn check(name: &str, cell: Architecture, activation: Activation) {
    let all = Parameters::from_safetensors(VECTORS).unwrap();
    let get = |part: &str| &all.0[&format!("{name}.{part}")];
    let lengths: Vec<u32> = all.0["lengths"].1.iter().map(|length| *length as u32).collect();
    let longest = lengths.iter().copied().max().unwrap() as usize;
    let packing = Arc::new(Packing::new(&lengths));
    let packed = |part: &str| packing.pack(&get(part).1, longest, get(part).0[2]);
    let stack = Layers { cell, activation, inputs: INPUTS, hidden_dim: HIDDEN, layers: 2, bidirectional: true, dropout: 0.0 };
    let tape = Tape::recording(Philox::new(0, 0));
    let mut weights = Weights::default();
    // Our names are PyTorch's, behind the cell's.
    let theirs = |own: &str| own.split_once('.').map(|(_, name)| name.to_owned()).unwrap();
    for spec in stack.specs() {
        let (shape, values) = get(&theirs(&spec.name));
        assert_eq!(*shape, spec.shape, "{name} {}", spec.name);
        weights.insert(spec.name.clone(), tape.leaf(&tensor(values.clone(), shape).unwrap()).unwrap());
    }
    let x = tape.leaf(&tensor(packed("x"), &[packing.steps(), INPUTS]).unwrap()).unwrap();
    let states = stack.forward(&tape, &weights, x.clone(), &packing).unwrap();
    let (h, last) = (states.packed(&tape, &packing).unwrap(), states.last(&tape, &packing).unwrap());
    close(&to_vec::<f32>(h.value()).unwrap(), &packed("h"), 1e-5, name);
    close(&to_vec::<f32>(last.value()).unwrap(), &get("last").1, 1e-5, name);
    let scalar = project(&tape, [(&h, packed("projection")), (&last, get("last_projection").1.clone())]);
    let gradients = tape.backward(&scalar).unwrap();
    close(&to_vec::<f32>(gradients.get(&x).unwrap()).unwrap(), &packed("x.grad"), 1e-4, &format!("{name} x"));
    for (own, var) in weights.iter() {
        let expected = &get(&format!("{}.grad", theirs(own))).1;
        close(&to_vec::<f32>(gradients.get(var).unwrap()).unwrap(), expected, 1e-4, &format!("{name} {own}"));
    }
}

#[test]
fn both_directions_are_those_of_pytorch() {
    check("gru", Architecture::Gru, Activation::Tanh);
    check("lstm", Architecture::Lstm, Activation::Tanh);
    check("rnn_tanh", Architecture::Rnn, Activation::Tanh);
    check("rnn_relu", Architecture::Rnn, Activation::Relu);
}
