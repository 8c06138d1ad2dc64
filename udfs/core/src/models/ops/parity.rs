//! Layers over sequences and pictures against vectors that PyTorch computed (`udfs/core/tests/data/torch_*.py`).

use std::sync::Arc;

use candle_core::Tensor;

use super::storage::{tensor, to_vec};
use super::*;
use crate::models::Parameters;

const GATED: &[u8] = include_bytes!("../../../tests/data/torch_recurrent.safetensors");
const LAYERS: &[u8] = include_bytes!("../../../tests/data/torch_layers.safetensors");
const PICTURES: &[u8] = include_bytes!("../../../tests/data/torch_pictures.safetensors");
const GENERATIVE: &[u8] = include_bytes!("../../../tests/data/torch_generative.safetensors");
const CELLS: [(&str, &[u8]); 4] = [("gru", GATED), ("lstm", GATED), ("rnn_tanh", LAYERS), ("rnn_relu", LAYERS)];
const NAMES: [&str; 4] = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"];

struct Vectors {
    all: Parameters,
    cell: &'static str,
    packing: Arc<Packing>,
    steps: usize,
}

impl Vectors {
    fn new(cell: &'static str, file: &[u8]) -> Self {
        let all = Parameters::from_safetensors(file).unwrap();
        let lengths: Vec<u32> = all.0["lengths"].1.iter().map(|length| *length as u32).collect();
        let steps = lengths.iter().copied().max().unwrap() as usize;
        Self { all, cell, packing: Arc::new(Packing::new(&lengths)), steps }
    }

    fn get(&self, name: &str) -> &(Vec<usize>, Vec<f32>) {
        &self.all.0[&format!("{}.{name}", self.cell)]
    }

    fn tensor(&self, name: &str) -> Tensor {
        let (shape, values) = self.get(name);
        tensor(values.clone(), shape).unwrap()
    }

    fn packed(&self, name: &str) -> Vec<f32> {
        let (shape, values) = self.get(name);
        self.packing.pack(values, self.steps, shape[2])
    }

    fn packed_tensor(&self, name: &str) -> Tensor {
        tensor(self.packed(name), &[self.packing.steps(), self.get(name).0[2]]).unwrap()
    }

    fn layer(&self, tape: &Tape, x: &Var, w: &[Var]) -> Var {
        let weights = RecurrentWeights { weight_ih: &w[0], weight_hh: &w[1], bias_ih: &w[2], bias_hh: &w[3] };
        match self.cell {
            "gru" => gru(tape, x, &self.packing, &weights),
            "lstm" => lstm(tape, x, &self.packing, &weights),
            "rnn_relu" => rnn(tape, x, &self.packing, &weights, Activation::Relu),
            _ => rnn(tape, x, &self.packing, &weights, Activation::Tanh),
        }
        .unwrap()
    }

    /// Compares `op` of the named inputs with the vectors: its result, and the gradients of the projected result. Inputs
    /// of three dimensions are values of steps, unless they are weights.
    fn check(&self, names: &[&str], op: impl Fn(&Tape, &[Var]) -> Var) {
        let of_steps = |name: &str| !name.starts_with("weight") && self.get(name).0.len() == 3;
        let values = |name: &str| if of_steps(name) { self.packed(name) } else { self.get(name).1.clone() };
        let tape = Tape::recording(Philox::new(0, 0));
        let leaf = |name: &&str| {
            let tensor = if of_steps(name) { self.packed_tensor(name) } else { self.tensor(name) };
            tape.leaf(&tensor).unwrap()
        };
        let vars: Vec<Var> = names.iter().map(leaf).collect();
        let h = op(&tape, &vars);
        close(&to_vec::<f32>(h.value()).unwrap(), &values("h"), 1e-5, self.cell);
        let scalar = project(&tape, &h, values("projection"));
        let gradients = tape.backward(&scalar).unwrap();
        for (name, var) in names.iter().zip(&vars) {
            let (_, gradient) = self.get(&format!("{name}.grad"));
            let expected = if of_steps(name) { self.packed(&format!("{name}.grad")) } else { gradient.clone() };
            close(&to_vec::<f32>(gradients.get(var).unwrap()).unwrap(), &expected, 1e-4, &format!("{} {name}", self.cell));
        }
    }
}

fn close(got: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1f32, |scale, value| scale.max(value.abs()));
    for (got, expected) in got.iter().zip(expected) {
        assert!((got - expected).abs() <= tolerance * scale, "{what}: {got} instead of {expected}");
    }
}

/// `Σ h · projection`.
fn project(tape: &Tape, h: &Var, projection: Vec<f32>) -> Var {
    let value = to_vec::<f32>(h.value()).unwrap().iter().zip(&projection).map(|(h, p)| h * p).sum::<f32>();
    let dims = h.dims().to_vec();
    tape.record(tensor(vec![value], &[1]).unwrap(), &[h], move |_, sink| sink.add(0, tensor(projection, &dims)?))
}

#[test]
fn layers_are_those_of_pytorch() {
    let vectors = |name| Vectors::new(name, LAYERS);
    vectors("norm").check(&["x", "weight", "bias"], |tape, v| layer_norm(tape, &v[0], &v[1], &v[2]).unwrap());
    let attended = vectors("attention");
    attended.check(&["q", "kv"], |tape, v| attention(tape, &v[0], &v[1], &attended.packing, 2, Queries::All).unwrap());
    for name in ["conv_2", "conv_3"] {
        let conv = vectors(name);
        conv.check(&["x", "weight", "bias"], |tape, v| conv_max(tape, &v[0], &conv.packing, &v[1], &v[2], Activation::Relu).unwrap());
    }
}

/// `names`: the inputs, in the order `op` takes them; what it gives is compared with `h`.
fn check_pictures(name: &'static str, names: &[&str], op: impl Fn(&Tape, &[Var]) -> Var) {
    check_file(PICTURES, name, names, op);
}

fn check_file(file: &[u8], name: &'static str, names: &[&str], op: impl Fn(&Tape, &[Var]) -> Var) {
    let all = Parameters::from_safetensors(file).unwrap();
    let get = |part: &str| &all.0[&format!("{name}.{part}")];
    let tape = Tape::recording(Philox::new(0, 0));
    let vars: Vec<Var> = names.iter().map(|part| tape.leaf(&tensor(get(part).1.clone(), &get(part).0).unwrap()).unwrap()).collect();
    let h = op(&tape, &vars);
    assert_eq!(h.dims(), get("h").0, "{name}");
    close(&to_vec::<f32>(h.value()).unwrap(), &get("h").1, 1e-5, name);
    let scalar = project(&tape, &h, get("projection").1.clone());
    let gradients = tape.backward(&scalar).unwrap();
    for (part, var) in names.iter().zip(&vars) {
        let expected = &get(&format!("{part}.grad")).1;
        close(&to_vec::<f32>(gradients.get(var).unwrap()).unwrap(), expected, 1e-4, &format!("{name} {part}"));
    }
}

#[test]
fn layers_over_pictures_are_those_of_pytorch() {
    let windows = [("same", Window::same(3)), ("half", Window { size: 3, stride: 2, padding: 1 }), ("five", Window::same(5))];
    for (name, window) in windows {
        let conv = |tape: &Tape, v: &[Var]| conv2d(tape, &v[0], &v[1], Some(&v[2]), window, Activation::Relu).unwrap();
        check_pictures(name, &["x", "weight", "bias"], conv);
    }
    check_pictures("max_pool", &["x"], |tape, v| max_pool2d(tape, &v[0], 2).unwrap());
    check_pictures("mean", &["x"], |tape, v| global_avg_pool(tape, &v[0]).unwrap());
    let all = Parameters::from_safetensors(PICTURES).unwrap();
    check_pictures("block", &["x", "weight", "norm.weight", "norm.bias"], |tape, v| {
        let running = tape.constant(&tensor(vec![0f32; 6], &[6]).unwrap()).unwrap();
        let norm = NormWeights { weight: &v[2], bias: &v[3], mean: &running, variance: &running };
        let (y, statistics) = conv_norm_relu(tape, &v[0], &v[1], norm, Window::same(3), Some(&v[0])).unwrap();
        // PyTorch's running statistics began at 0 and 1 and moved by a tenth.
        let statistics = statistics.unwrap();
        for (mean, expected) in statistics.mean.iter().zip(&all.0["block.norm.running_mean"].1) {
            assert!((mean / 10.0 - f64::from(*expected)).abs() < 1e-6);
        }
        for (variance, expected) in statistics.variance.iter().zip(&all.0["block.norm.running_var"].1) {
            assert!((0.9 + variance / 10.0 - f64::from(*expected)).abs() < 1e-5);
        }
        y
    });
}

#[test]
fn transposed_convolutions_are_those_of_pytorch() {
    for (name, window) in [("double", Window { size: 4, stride: 2, padding: 1 }), ("plain", Window::same(3))] {
        check_file(GENERATIVE, name, &["x", "weight", "bias"], |tape, v| {
            conv_transpose2d(tape, &v[0], &v[1], Some(&v[2]), window, Activation::Tanh).unwrap()
        });
    }
}

/// PyTorch differentiates the gradient; here the product that equals it is an ordinary value.
#[test]
fn the_gradient_penalty_is_that_of_double_backpropagation() {
    let all = Parameters::from_safetensors(GENERATIVE).unwrap();
    let get = |part: &str| &all.0[&format!("penalty.{part}")];
    let tape = Tape::recording(Philox::new(0, 0));
    let leaf = |part: &str| tape.leaf(&tensor(get(part).1.clone(), &get(part).0).unwrap()).unwrap();
    let (x, w) = (tape.constant(&tensor(get("x").1.clone(), &get("x").0).unwrap()).unwrap(), ["w1", "b1", "w2", "b2", "w3"].map(leaf));
    let layer = |x: &Var, weight: &Var, bias: &Var| {
        leaky_dropout(&tape, &linear(&tape, x, weight, Some(bias), Activation::Identity).unwrap(), 0.2, 0.0).unwrap()
    };
    let (hidden, first) = layer(&x, &w[0], &w[1]);
    let (_, second) = layer(&hidden, &w[2], &w[3]);
    let back = linear_back(&tape, &factor_rows(&tape, &w[4], &second).unwrap(), &w[2]).unwrap();
    let back = linear_back(&tape, &times(&tape, &back, &first).unwrap(), &w[0]).unwrap();
    let penalty = norm_penalty(&tape, &back).unwrap();
    close(&[penalty.scalar().unwrap() as f32], &get("h").1, 1e-5, "penalty");
    let gradients = tape.backward(&penalty).unwrap();
    for (at, part) in [(0, "w1"), (2, "w2"), (4, "w3")] {
        close(&to_vec::<f32>(gradients.get(&w[at]).unwrap()).unwrap(), &get(&format!("{part}.grad")).1, 1e-4, part);
    }
}

#[test]
fn adam_with_other_decays_is_that_of_pytorch() {
    let weights = tensor(vec![1f32, -2.0, 3.0], &[3]).unwrap();
    let mut optimizer = Optimizer::new(Rule::usual(OptimizerKind::Adam, 0.0, None)).with_betas([0.5, 0.9]);
    for step in 0..3 {
        let step = step as f32;
        let gradient = tensor(vec![0.5 - step, step * 0.25 + 1.0, 2.0], &[3]).unwrap();
        optimizer.step(&[Update { name: "w", weights: &weights, gradient: &gradient, decays: false }], 0.01).unwrap();
    }
    close(&to_vec::<f32>(&weights).unwrap(), &Parameters::from_safetensors(GENERATIVE).unwrap().0["adam.h"].1, 1e-6, "adam");
}

#[test]
fn states_and_gradients_are_those_of_pytorch() {
    for (cell, file) in CELLS {
        let vectors = Vectors::new(cell, file);
        let tape = Tape::recording(Philox::new(0, 0));
        let x = tape.leaf(&vectors.packed_tensor("x")).unwrap();
        let weights: Vec<(String, Var)> = (0..2)
            .flat_map(|layer| NAMES.map(|name| format!("{name}_l{layer}")))
            .map(|name| (name.clone(), tape.leaf(&vectors.tensor(&name)).unwrap()))
            .collect();
        let vars: Vec<Var> = weights.iter().map(|(_, var)| var.clone()).collect();
        let h = vectors.layer(&tape, &x, &vars[..4]);
        let h = vectors.layer(&tape, &h, &vars[4..]);
        close(&to_vec::<f32>(h.value()).unwrap(), &vectors.packed("h"), 1e-5, cell);
        let scalar = project(&tape, &h, vectors.packed("projection"));
        let gradients = tape.backward(&scalar).unwrap();
        close(&to_vec::<f32>(gradients.get(&x).unwrap()).unwrap(), &vectors.packed("x.grad"), 1e-4, "x");
        for (name, var) in &weights {
            close(&to_vec::<f32>(gradients.get(var).unwrap()).unwrap(), &vectors.get(&format!("{name}.grad")).1, 1e-4, name);
        }
    }
}

#[test]
fn twenty_steps_of_training_are_those_of_pytorch() {
    for (cell, file) in CELLS {
        let vectors = Vectors::new(cell, file);
        let mut names: Vec<String> = (0..2).flat_map(|layer| NAMES.map(|name| format!("{name}_l{layer}"))).collect();
        names.extend(["head.weight".into(), "head.bias".into()]);
        let tensors: Vec<Tensor> = names.iter().map(|name| vectors.tensor(name)).collect();
        let rows = vectors.packing.rows();
        let targets: Arc<[u32]> = (0..rows as u32).map(|row| row % 3).collect();
        let mut optimizer = Optimizer::new(Rule::usual(OptimizerKind::Adamw, 0.1, Some(1.0)));
        for expected in &vectors.get("losses").1 {
            let tape = Tape::recording(Philox::new(0, 0));
            let x = tape.constant(&vectors.packed_tensor("x")).unwrap();
            let vars: Vec<Var> = tensors.iter().map(|tensor| tape.leaf(tensor).unwrap()).collect();
            let h = vectors.layer(&tape, &x, &vars[..4]);
            let h = vectors.layer(&tape, &h, &vars[4..8]);
            let last = last_step(&tape, &h, &vectors.packing).unwrap();
            let logits = linear(&tape, &last, &vars[8], Some(&vars[9]), Activation::Identity).unwrap();
            let loss = softmax_cross_entropy(&tape, &logits, &targets, None).unwrap();
            let value = loss.scalar().unwrap();
            assert!((value - f64::from(*expected)).abs() < 1e-3, "{cell}: {value} instead of {expected}");
            let gradients = tape.backward(&loss).unwrap();
            let updates: Vec<Update<'_>> = names
                .iter()
                .zip(&tensors)
                .zip(&vars)
                .map(|((name, weights), var)| Update { name, weights, gradient: gradients.get(var).unwrap(), decays: true })
                .collect();
            optimizer.step(&updates, 1e-2).unwrap();
        }
    }
}
