//! Operators and whole steps on the [`shim`](super::shim) beside the host's.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use super::shim::Shim;
use super::{Cell, Device, DeviceTape, Shards, Trainer};
use crate::error::{Code, Result};
use crate::features::inputs::{InputShape, Inputs, SequenceShape, Sequences};
use crate::models::architecture::{Forward, ParameterSpec, Weights};
use crate::models::ops::{
    self, Activation, EnsembleWeights, Focal, Optimizer, OptimizerKind, OptimizerState, Packing, Philox, Pooling, Queries,
    RecurrentWeights, Rule, Tape, Update, Var, storage,
};
use crate::models::step::Step;
use crate::models::{
    Architecture, Batch, Compressed, Module, Network, NetworkConfig, Parameters, Scheme, Task, Tensor, Variant, load, load_compressed,
    module,
};

/// What rounding may make of a number of size 1.
const TOLERANCE: f32 = 1e-4;

fn close(what: &str, got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (at, (got, expected)) in got.iter().zip(expected).enumerate() {
        let most = TOLERANCE * expected.abs().max(1.0);
        assert!((got - expected).abs() <= most, "{what}, number {at}: {got} instead of {expected}");
    }
}

fn normal(dims: &[usize], stream: u32) -> Tensor {
    let random = Philox::new(11, stream);
    let count: usize = dims.iter().product();
    storage::tensor((0..count as u64).map(|i| random.normal(i) as f32).collect(), dims).unwrap()
}

/// The batch of an operator's test: rows of these lengths in the host's shards of these sizes.
fn batch(lengths: &[u32]) -> Batch {
    Batch { rows: lengths.len(), lengths: lengths.to_vec(), one_chunk: true, ..Batch::default() }
}

/// Result and gradients of `op`, turned into a scalar by a product with fixed numbers so that every gradient counts. What an
/// operator packs, the host gets in one chunk too.
fn check(what: &str, inputs: &[Tensor], of: &Batch, op: impl Fn(&Tape, &[Var]) -> Result<Var>) {
    // Two linear layers without bias stand for what comes after: the second's weights are one row.
    let after = |tape: &Tape, y: &Var, last: &Var| -> Result<Var> {
        let rows = y.dims()[0];
        let product = ops::linear(tape, y, last, None, Activation::Tanh)?;
        ops::mean_squared_error(tape, &product, &vec![0.3; rows], None)
    };
    let random = Philox::new(5, 5).at_step(3);
    let tape = Tape::recording(random.fork(crate::models::step::SHARD_STREAM));
    let leaves: Vec<Var> = inputs.iter().map(|input| tape.leaf(input).unwrap()).collect();
    let y = op(&tape, &leaves).unwrap();
    let (expected, scalar) = (storage::to_vec::<f32>(y.value()).unwrap(), y.dims() == [1]);
    let last = normal(&[1, y.dims().get(1).copied().unwrap_or(1)], 99);
    let loss = if scalar { y.clone() } else { after(&tape, &y, &tape.constant(&last).unwrap()).unwrap() };
    let gradients = tape.backward(&loss).unwrap();
    let gradients: Vec<Option<Vec<f32>>> =
        leaves.iter().map(|leaf| gradients.get(leaf).map(|gradient| storage::to_vec::<f32>(gradient).unwrap())).collect();
    let mut before: Option<Vec<Vec<f32>>> = None;
    for backwards in [false, true] {
        let device = Shim::device(1 << 30, backwards);
        device.backend().begin().unwrap();
        let own = DeviceTape::recording(&device, random, Shards::new(of, &[of.rows], 0));
        let held: Vec<super::Array> = inputs.iter().map(|input| device.zeros(input.elem_count()).unwrap()).collect();
        let values = |input: &Tensor| device.keep(&storage::to_vec::<f32>(input).unwrap()).unwrap();
        let leaf = |(input, held): (&Tensor, &super::Array)| own.leaf(input.dims(), values(input), held.clone()).unwrap();
        let leaves: Vec<Var> = inputs.iter().zip(&held).map(leaf).collect();
        let tape = Tape::on(own);
        let y = op(&tape, &leaves).unwrap();
        close(what, &tape.read(&y).unwrap(), &expected);
        let loss = if scalar { y.clone() } else { after(&tape, &y, &tape.constant(&last).unwrap()).unwrap() };
        tape.into_device().unwrap().backward(&loss, 1.0).unwrap();
        let got: Vec<Vec<f32>> = held.iter().map(|array| device.read(array).unwrap()).collect();
        for (at, (got, expected)) in got.iter().zip(&gradients).enumerate() {
            if let Some(expected) = expected {
                close(&format!("{what}, gradient of input {at}"), got, expected);
            }
        }
        // Lanes that wait for each other where they must give the same bytes in any order.
        assert!(before.replace(got.clone()).is_none_or(|before| before == got), "{what} depends on the order of its lanes");
    }
}

#[test]
fn dense_operators() {
    let rows = batch(&[1; 19]);
    for activation in [Activation::Identity, Activation::Relu, Activation::Tanh, Activation::Sigmoid] {
        let inputs = [normal(&[19, 5], 1), normal(&[4, 5], 2), normal(&[4], 3)];
        check("linear", &inputs, &rows, |tape, v| ops::linear(tape, &v[0], &v[1], Some(&v[2]), activation));
        check("linear without bias", &inputs[..2], &rows, |tape, v| ops::linear(tape, &v[0], &v[1], None, activation));
    }
    let norm = [normal(&[19, 70], 1), normal(&[70], 2), normal(&[70], 3)];
    check("layer_norm", &norm, &rows, |tape, v| ops::layer_norm(tape, &v[0], &v[1], &v[2]));
    check("add", &[normal(&[19, 3], 1), normal(&[19, 3], 2)], &rows, |tape, v| ops::add(tape, &v[0], &v[1]));
    check("add to itself", &[normal(&[19, 3], 1)], &rows, |tape, v| ops::add(tape, &v[0], &v[0]));
    let parts = [normal(&[19, 2], 1), normal(&[19, 1], 2), normal(&[19, 4], 3)];
    check("concat", &parts, &rows, |tape, v| ops::concat(tape, &[v[0].clone(), v[1].clone(), v[2].clone(), v[0].clone()]));
    check("mean_groups", &[normal(&[38, 3], 1)], &rows, |tape, v| ops::mean_groups(tape, &v[0], 2));
    check("dropout", &[normal(&[19, 150], 1)], &rows, |tape, v| ops::dropout(tape, &v[0], 0.3));
    check("dropout twice", &[normal(&[19, 150], 1)], &rows, |tape, v| ops::dropout(tape, &ops::dropout(tape, &v[0], 0.3)?, 0.2));
}

#[test]
fn look_ups() {
    let rows = batch(&[1; 200]);
    let ids: Arc<[u32]> = (0..400).map(|i| if i % 2 == 0 { (i * i % 7 / 3) as u32 } else { (i % 5) as u32 }).collect();
    let tables = [normal(&[7, 3], 1), normal(&[5, 6], 2)];
    check("embed", &tables, &rows, |tape, v| ops::embed(tape, v, &ids, Pooling::Concat));
    let tables = [normal(&[7, 3], 1), normal(&[5, 3], 2)];
    check("embed and add up", &tables, &rows, |tape, v| ops::embed(tape, v, &ids, Pooling::Sum));
    check("a table read twice", &tables[..1], &rows, |tape, v| ops::embed(tape, &[v[0].clone(), v[0].clone()], &ids, Pooling::Sum));
}

/// Lengths with a row that has no step, more rows than a chunk of the host, and one row alone.
fn all_lengths() -> Vec<Vec<u32>> {
    vec![vec![1], vec![7, 3, 0], (0..19).map(|i| i % 5).collect(), vec![40, 2]]
}

#[test]
fn recurrent_layers() {
    for lengths in all_lengths() {
        let packing = Arc::new(Packing::whole(&lengths));
        let (inputs, hidden) = (3, 5);
        for gates in [1, 3, 4] {
            let tensors = [
                normal(&[packing.steps(), inputs], 1),
                normal(&[gates * hidden, inputs], 2),
                normal(&[gates * hidden, hidden], 3),
                normal(&[gates * hidden], 4),
                normal(&[gates * hidden], 5),
            ];
            check(&format!("{gates} gates"), &tensors, &batch(&lengths), |tape, v| {
                let weights = RecurrentWeights { weight_ih: &v[1], weight_hh: &v[2], bias_ih: &v[3], bias_hh: &v[4] };
                match gates {
                    1 => ops::rnn(tape, &v[0], &packing, &weights, Activation::Tanh),
                    3 => ops::gru(tape, &v[0], &packing, &weights),
                    _ => ops::lstm(tape, &v[0], &packing, &weights),
                }
            });
        }
        let x = [normal(&[packing.steps(), 4], 1)];
        check("last_step", &x, &batch(&lengths), |tape, v| ops::last_step(tape, &v[0], &packing));
    }
}

#[test]
fn attention() {
    for lengths in all_lengths() {
        let packing = Arc::new(Packing::whole(&lengths));
        for (heads, width) in [(1, 3), (2, 8), (1, 130)] {
            for queries in [Queries::All, Queries::Last] {
                let asking = if queries == Queries::All { packing.steps() } else { packing.rows() };
                let inputs = [normal(&[asking, width], 1), normal(&[packing.steps(), 2 * width], 2)];
                let what = format!("attention of {lengths:?} with {heads} heads of {width}, {queries:?}");
                check(&what, &inputs, &batch(&lengths), |tape, v| ops::attention(tape, &v[0], &v[1], &packing, heads, queries));
            }
        }
    }
}

#[test]
fn ensembles_and_numbers() {
    let (rows, members, inputs, outputs) = (9, 4, 5, 6);
    let of = batch(&[1; 9]);
    for x_rows in [rows, rows * members] {
        let tensors = [
            normal(&[x_rows, inputs], 1),
            normal(&[outputs, inputs], 2),
            normal(&[members, inputs], 3),
            normal(&[members, outputs], 4),
            normal(&[members, outputs], 5),
        ];
        for rate in [0.0, 0.4] {
            check("batch_ensemble", &tensors, &of, |tape, v| {
                let weights = EnsembleWeights { weight: &v[1], scale_in: &v[2], scale_out: &v[3], bias: &v[4] };
                ops::batch_ensemble(tape, &v[0], rows, &weights, Activation::Relu, rate)
            });
        }
    }
    let tensors = [normal(&[rows * members, inputs], 1), normal(&[members, 3, inputs], 2), normal(&[members, 3], 3)];
    check("member_linear", &tensors, &of, |tape, v| ops::member_linear(tape, &v[0], &v[1], &v[2]));
    // Four bins, two bins, no bin.
    let edges = vec![-1.5f32, -0.5, 0.1, 0.7, 1.5, -0.3, 0.2, 0.9, 0.9, 0.9, 0.0, 0.0, 0.0, 0.0, 0.0];
    let edges = storage::tensor(edges, &[3, 5]).unwrap();
    let numbers = normal(&[9, 3], 7);
    check("piecewise_linear", &[normal(&[3, 4, 2], 1), normal(&[3, 2], 2), normal(&[3, 2], 3)], &of, |tape, v| {
        ops::piecewise_linear(tape, &tape.constant(&numbers)?, &tape.constant(&edges)?, &v[0], &v[1], &v[2])
    });
}

#[test]
fn losses() {
    let of = batch(&[1; 5]);
    let targets: Arc<[u32]> = Arc::from([2u32, 0, 1, 2, 69]);
    let weights = [0.5f32, 2.0, 1.0, 0.0, 3.0];
    for members in [1, 3] {
        let logits = [normal(&[5 * members, 70], 1)];
        for weights in [None, Some(&weights[..])] {
            check("softmax_cross_entropy", &logits, &of, |tape, v| ops::softmax_cross_entropy(tape, &v[0], &targets, weights));
            for (gamma, smoothing) in [(2.0, 0.0), (0.5, 0.1), (0.0, 0.2)] {
                let focal = Focal { gamma, smoothing };
                check("focal_loss", &logits, &of, |tape, v| ops::focal_loss(tape, &v[0], &targets, weights, focal));
            }
            let values = [0.3, -1.0, 2.0, 0.0, 1.0];
            check("mean_squared_error", &[normal(&[5 * members, 1], 2)], &of, |tape, v| {
                ops::mean_squared_error(tape, &v[0], &values, weights)
            });
        }
    }
}

/// The example that a library of recurrent layers is judged by is not all zeros, and without a library nothing is judged.
#[test]
fn the_trial_of_a_library_sees_something() {
    let device = Shim::usual();
    super::trial::settle(&device);
    for cell in [Cell::Tanh, Cell::Relu, Cell::Gru, Cell::Lstm] {
        let seen = super::trial::example(&device, cell).unwrap();
        assert!(seen.iter().filter(|value| value.abs() > 0.05).count() > 20, "{cell:?}: {seen:?}");
    }
}

/// An operator without kernels says so instead of reading the placeholder of a value on the device.
#[test]
fn an_operator_without_kernels_is_an_error() {
    let device = Shim::usual();
    let tape = Tape::on(DeviceTape::silent(&device));
    let x = tape.constant(&normal(&[1, 1], 1)).unwrap();
    assert!(ops::bce_with_logits(&tape, &x, &[1.0], None).is_err());
}

/// A network in training, on the host and on a device, with everything that a fit asks for.
struct Problem {
    config: NetworkConfig,
    module: Box<dyn Module>,
    inputs: Inputs,
    labels: Vec<u32>,
    values: Vec<f32>,
    weights: Option<Vec<f32>>,
    parameters: Parameters,
}

const ROWS: usize = 37;

fn inputs(shape: &InputShape) -> Inputs {
    let random = Philox::new(2, 2);
    let mut own = Inputs { rows: ROWS, ..Inputs::default() };
    own.numeric = (0..ROWS * shape.numeric).map(|i| random.fork(1).normal(i as u64) as f32).collect();
    for row in 0..ROWS {
        own.categorical.extend(shape.categorical.iter().map(|vocabulary| random.fork(2).below(row as u64, *vocabulary as u32)));
    }
    if let Some(sequence) = &shape.sequence {
        let mut steps = Sequences::default();
        for row in 0..ROWS {
            let len = random.fork(3).below(row as u64, sequence.max_len as u32 + 1);
            steps.spans.push(((steps.tokens.len() / sequence.fields.len()) as u32, len));
            for _ in 0..len {
                let at = steps.tokens.len() as u64;
                steps.tokens.extend(sequence.fields.iter().map(|vocabulary| random.fork(4).below(at, *vocabulary as u32)));
                steps.numeric.extend((0..sequence.numeric).map(|i| random.fork(5).normal(at * 4 + i as u64) as f32));
            }
        }
        own.sequence = Some(steps);
    }
    own
}

impl Problem {
    fn new(architecture: Architecture, task: Task, members: usize) -> Self {
        let sequence = SequenceShape { fields: vec![12, 7], numeric: 2, max_len: 6 };
        let sequence = architecture.is_sequential().then_some(sequence);
        let shape = InputShape { numeric: 3, categorical: vec![5, 4], sequence, ..InputShape::default() };
        let outputs = if task == Task::Classification { 3 } else { 1 };
        let config = NetworkConfig {
            architecture,
            outputs,
            task,
            hidden_dim: 12,
            layers: 2,
            embedding_dim: 6,
            dropout: 0.25,
            members,
            bins: if architecture == Architecture::Logreg { 0 } else { 4 },
            numeric_embedding_dim: 2,
            variant: Variant::default(),
            catalogue: None,
            shape,
        };
        let module = module(&config).unwrap();
        let inputs = inputs(&config.shape);
        let mut parameters = Parameters::default();
        for spec in module.specs() {
            parameters.0.insert(spec.name.clone(), (spec.shape.clone(), spec.initial(3)));
        }
        module.prepare(&inputs, &(0..ROWS as u32).collect::<Vec<_>>(), &mut parameters);
        let labels = (0..ROWS as u64).map(|row| Philox::new(8, 8).below(row, outputs.max(2) as u32)).collect();
        let values = (0..ROWS as u64).map(|row| Philox::new(8, 9).normal(row) as f32).collect();
        let weights = (task == Task::Classification).then(|| vec![1.0, 0.5, 3.0]);
        Self { config, module, inputs, labels, values, weights, parameters }
    }

    fn weight(&self, rows: Range<usize>) -> Vec<f32> {
        rows.map(|row| self.weights.as_ref().map_or(1.0, |weights| weights[self.labels[row] as usize])).collect()
    }

    fn loss(&self, tape: &Tape, forward: &Forward, rows: Range<usize>) -> Result<Var> {
        match self.config.task {
            Task::Classification => {
                ops::softmax_cross_entropy(tape, &forward.logits, &self.labels[rows.clone()].into(), Some(&self.weight(rows)))
            }
            Task::Regression => ops::mean_squared_error(tape, &forward.logits, &self.values[rows], None),
        }
    }

    /// Lets `run` take a step with the seeds of number `at`.
    fn with_step<R>(&self, at: u32, weights: &Weights, fixed: &BTreeSet<String>, run: impl FnOnce(&Step<'_>) -> R) -> R {
        run(&Step {
            module: &*self.module,
            weights,
            trainable: &|name| !fixed.contains(name),
            random: Philox::named(1, "step").at_step(at),
            gather: &|rows, batch| {
                let rows: Vec<u32> = rows.map(|row| row as u32).collect();
                Batch::gather(&self.inputs, &self.config.shape, &rows, batch);
            },
            loss: &|tape, forward, rows| self.loss(tape, forward, rows),
            weight: &|rows| self.weight(rows).iter().map(|weight| f64::from(*weight)).sum(),
        })
    }

    fn fixed(&self) -> BTreeSet<String> {
        self.module.specs().into_iter().filter(|spec| !spec.trainable).map(|spec| spec.name).collect()
    }

    /// Losses and weights after some steps on the host.
    fn on_host(&self, rule: Rule, steps: u32) -> (Vec<f64>, Parameters) {
        let fixed = self.fixed();
        let mut optimizer = Optimizer::new(rule);
        let mut tensors: Vec<(ParameterSpec, Tensor)> = Vec::new();
        for spec in self.module.specs() {
            let (shape, values) = self.parameters.0[&spec.name].clone();
            tensors.push((spec, storage::tensor(values, &shape).unwrap()));
        }
        let mut losses = Vec::new();
        for at in 1..=steps {
            let (mut weights, silent) = (Weights::default(), Tape::silent());
            tensors.iter().for_each(|(spec, tensor)| weights.insert(spec.name.clone(), silent.constant(tensor).unwrap()));
            let found = self.with_step(at, &weights, &fixed, |step| step.run(ROWS)).unwrap();
            let update = |(name, gradient): &(String, Tensor)| {
                let (spec, weights) = tensors.iter().find(|(spec, _)| spec.name == *name).unwrap();
                (spec.clone(), weights.clone(), gradient.clone())
            };
            let updates: Vec<_> = found.gradients.iter().map(update).collect();
            let updates: Vec<Update<'_>> = updates
                .iter()
                .map(|(spec, weights, gradient)| Update { name: &spec.name, weights, gradient, decays: spec.decays })
                .collect();
            optimizer.step(&updates, 0.01).unwrap();
            losses.push(found.loss);
        }
        let values =
            |(spec, tensor): &(ParameterSpec, Tensor)| (spec.name.clone(), (spec.shape.clone(), storage::to_vec::<f32>(tensor).unwrap()));
        (losses, Parameters(tensors.iter().map(values).collect()))
    }

    fn trainer(&self, device: &Arc<Device>, rule: Rule, state: &OptimizerState) -> Result<Trainer> {
        Trainer::new(device, &self.module.specs(), &self.parameters, &|spec| spec.trainable, rule, state)
    }

    /// The same on a device.
    fn on_device(&self, device: &Arc<Device>, rule: Rule, steps: u32) -> Result<(Vec<f64>, Parameters)> {
        let mut trainer = self.trainer(device, rule, &OptimizerState::default())?;
        let (weights, fixed) = (Weights::default(), self.fixed());
        let mut losses = Vec::new();
        for at in 1..=steps {
            self.with_step(at, &weights, &fixed, |step| trainer.step(step, ROWS, 0.01))?;
            losses.extend(trainer.finished(false)?);
        }
        losses.extend(trainer.finished(true)?);
        assert!(losses.iter().all(|(rows, _)| *rows == ROWS));
        Ok((losses.into_iter().map(|(_, loss)| loss.unwrap()).collect(), trainer.parameters()?))
    }
}

fn problems() -> Vec<Problem> {
    use Architecture::{Dnn, Gru, Logreg, Lstm, Rnn, Transformer};
    let classes = [Rnn, Gru, Lstm, Transformer, Logreg].map(|architecture| Problem::new(architecture, Task::Classification, 1));
    let mut all = Vec::from(classes);
    all.push(Problem::new(Dnn, Task::Classification, 3));
    all.push(Problem::new(Dnn, Task::Regression, 1));
    all.push(Problem::new(Gru, Task::Regression, 1));
    all
}

const KINDS: [OptimizerKind; 3] = [OptimizerKind::Adamw, OptimizerKind::Adam, OptimizerKind::Sgd];

fn same(what: &str, got: &(Vec<f64>, Parameters), expected: &(Vec<f64>, Parameters)) {
    for (got, expected) in got.0.iter().zip(&expected.0) {
        assert!((got - expected).abs() < 1e-4, "{what}: loss {got} instead of {expected}");
    }
    assert_eq!(got.0.len(), expected.0.len());
    assert_eq!(got.1.0.len(), expected.1.0.len());
    for (name, (_, values)) in &expected.1.0 {
        close(&format!("{what}, {name}"), &got.1.0[name].1, values);
    }
}

/// The proof: shards, dropout, weights of classes, clipping and update are the host's, step after step.
#[test]
fn steps_are_those_of_the_host() {
    for problem in problems() {
        let rule = Rule::usual(OptimizerKind::Sgd, 0.01, Some(0.5));
        let what = format!("{} {:?}", problem.config.architecture, problem.config.task);
        same(&what, &problem.on_device(&Shim::usual(), rule, 4).unwrap(), &problem.on_host(rule, 4));
    }
    let problem = Problem::new(Architecture::Gru, Task::Classification, 1);
    for kind in KINDS {
        for nesterov in [false, true] {
            let rule = Rule { nesterov, ..Rule::usual(kind, 0.01, None) };
            same(&format!("{kind:?}"), &problem.on_device(&Shim::usual(), rule, 4).unwrap(), &problem.on_host(rule, 4));
        }
    }
}

#[test]
fn the_same_device_gives_the_same_bytes() {
    let problem = Problem::new(Architecture::Lstm, Task::Classification, 1);
    let rule = Rule::usual(OptimizerKind::Adamw, 0.01, Some(1.0));
    let device = Shim::usual();
    let (first, again) = (problem.on_device(&device, rule, 3).unwrap(), problem.on_device(&device, rule, 3).unwrap());
    assert_eq!(first, again);
    assert_eq!(first, problem.on_device(&Shim::device(1 << 30, true), rule, 3).unwrap());
}

/// With less and less memory batches are cut into more pieces, which gives the same weights, until nothing helps.
#[test]
fn a_batch_that_does_not_fit_is_cut() {
    let problem = Problem::new(Architecture::Gru, Task::Classification, 1);
    let rule = Rule::usual(OptimizerKind::Sgd, 0.01, Some(0.5));
    let expected = problem.on_host(rule, 2);
    let mut pieces = BTreeSet::new();
    for kilobytes in [400, 200, 150, 100, 60, 30] {
        let device = Shim::device(kilobytes << 10, false);
        match problem.on_device(&device, rule, 2) {
            Ok(got) => {
                same(&format!("{kilobytes} KB"), &got, &expected);
                pieces.insert("fits");
            }
            Err(error) => {
                assert_eq!(error.code, Code::OutOfMemory, "{error:?}");
                pieces.insert("does not");
            }
        }
    }
    assert_eq!(pieces.len(), 2);
}

#[test]
fn a_loss_that_is_not_finite_changes_nothing() {
    let mut problem = Problem::new(Architecture::Dnn, Task::Regression, 1);
    problem.values[5] = f32::INFINITY;
    let device = Shim::usual();
    let rule = Rule::usual(OptimizerKind::Adamw, 0.01, Some(1.0));
    let mut trainer = problem.trainer(&device, rule, &OptimizerState::default()).unwrap();
    let before = trainer.parameters().unwrap();
    problem.with_step(1, &Weights::default(), &problem.fixed(), |step| trainer.step(step, ROWS, 0.01)).unwrap();
    assert_eq!(trainer.finished(true).unwrap(), [(ROWS, None)]);
    assert_eq!(trainer.parameters().unwrap(), before);
    assert_eq!(trainer.state().unwrap(), OptimizerState::default());
}

/// A training that stops and goes on elsewhere takes the same steps.
#[test]
fn moments_travel() {
    let problem = Problem::new(Architecture::Rnn, Task::Classification, 1);
    let rule = Rule::usual(OptimizerKind::Adamw, 0.01, Some(1.0));
    let (weights, fixed) = (Weights::default(), problem.fixed());
    let step = |trainer: &mut Trainer, at: u32| {
        problem.with_step(at, &weights, &fixed, |step| trainer.step(step, ROWS, 0.01)).unwrap();
    };
    let mut through = problem.trainer(&Shim::usual(), rule, &OptimizerState::default()).unwrap();
    (1..=4).for_each(|at| step(&mut through, at));
    let mut first = problem.trainer(&Shim::usual(), rule, &OptimizerState::default()).unwrap();
    (1..=2).for_each(|at| step(&mut first, at));
    let mut second = problem.trainer(&Shim::usual(), rule, &first.state().unwrap()).unwrap();
    second.put(&first.parameters().unwrap()).unwrap();
    (3..=4).for_each(|at| step(&mut second, at));
    assert_eq!(second.parameters().unwrap(), through.parameters().unwrap());
    assert_eq!(second.state().unwrap(), through.state().unwrap());
}

#[test]
fn scoring_answers_what_the_host_answers() {
    for problem in problems() {
        let host: Arc<dyn Network> = load(&problem.config, &problem.parameters).unwrap().into();
        let mut batch = Batch::default();
        Batch::gather(&problem.inputs, &problem.config.shape, &(0..ROWS as u32).collect::<Vec<_>>(), &mut batch);
        let expected = host.forward(&batch).unwrap();
        // The second has too little memory for all rows, and the third for any.
        for bytes in [1 << 30, 120 << 10] {
            let device = Shim::device(bytes, false);
            let Some(network) = Arc::clone(&host).on_device(&device) else { panic!("no network on the device") };
            let Ok(network) = network else { continue };
            let got = network.forward(&batch).unwrap();
            close("logits", &got.logits, &expected.logits);
            close("embedding", &got.embedding, &expected.embedding);
        }
    }
}

/// A network with weights of 8 bits has nothing that a device could take.
#[test]
fn weights_of_eight_bits_stay_on_the_host() {
    let problem = Problem::new(Architecture::Lstm, Task::Classification, 1);
    let eight_bits = Compressed::of(&problem.config, &problem.parameters, Scheme::Int8).unwrap();
    let small: Arc<dyn Network> = load_compressed(&problem.config, &eight_bits).unwrap().into();
    assert!(!small.has_kernels() && small.on_device(&Shim::usual()).is_none());
    let host: Arc<dyn Network> = load(&problem.config, &problem.parameters).unwrap().into();
    assert!(host.has_kernels() && host.on_device(&Shim::usual()).is_some());
}
