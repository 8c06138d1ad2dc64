//! Training steps and forward passes of the networks, with weights of 32 and of 8 bits, examples a second. The same networks in PyTorch:
//! `peers/train.py`; `benches/compare train` runs both.
//!
//! `cargo bench --bench train -- [--threads N] [--seconds S] [--only NETWORK] [--rows N,N]`
//!
//! On a GPU: `cargo bench --features cuda --bench train -- --device cuda [--precision tf32|bf16] [--check]` beside
//! `peers/train.py --device cuda`. `--check` takes some steps on both the GPU and the CPU first and ends with an error when
//! losses or weights differ by more than rounding.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, unreachable_pub, reason = "a bench prints its figures")]

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use portrait_udfs::features::inputs::{ImageShape, InputShape, Inputs, SequenceShape, Sequences};
use portrait_udfs::models::cuda::{Device, Precision, Trainer, choose};
use portrait_udfs::models::ops::{self, Optimizer, OptimizerKind, OptimizerState, Philox, Rule, Tape, Update, storage};
use portrait_udfs::models::step::Step;
use portrait_udfs::models::{
    Architecture, Batch, Compressed, Module, Network, NetworkConfig, ParameterSpec, Parameters, Scheme, Task, Tensor, Variant, Weights,
    load, load_compressed, module,
};

/// As in the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TOKENS: usize = 10_000;
const FEATURES: usize = 64;
const CLASSES: usize = 10;

fn config(architecture: Architecture, hidden_dim: usize, layers: usize, events: usize) -> NetworkConfig {
    let sequence = SequenceShape { fields: vec![TOKENS], numeric: 0, max_len: events };
    let sequential = architecture.is_sequential();
    NetworkConfig {
        architecture,
        shape: InputShape {
            numeric: if sequential { 0 } else { FEATURES },
            sequence: sequential.then_some(sequence),
            ..InputShape::default()
        },
        outputs: CLASSES,
        task: Task::Classification,
        hidden_dim,
        layers,
        embedding_dim: 32,
        dropout: 0.0,
        members: 1,
        bins: 0,
        numeric_embedding_dim: 0,
        variant: Variant::default(),
        catalogue: None,
    }
}

/// The network that Fashion-MNIST is learned with.
fn pictures() -> NetworkConfig {
    let image = ImageShape { height: 28, width: 28, channels: 1 };
    let own = config(Architecture::Cnn, 32, 1, 0);
    NetworkConfig { shape: InputShape { image: Some(image), ..InputShape::default() }, ..own }
}

/// Random histories of as many events as the network sees, random pictures, or random features.
fn inputs(config: &NetworkConfig, rows: usize) -> Inputs {
    let random = Philox::new(1, 1);
    let numeric = (0..rows * config.shape.numeric).map(|i| random.fork(3).normal(i as u64) as f32).collect();
    let sequence = config.shape.sequence.as_ref().map(|shape| {
        let events = shape.max_len;
        let tokens = (0..rows * events).map(|i| random.fork(1).below(i as u64, TOKENS as u32)).collect();
        let spans = (0..rows).map(|row| ((row * events) as u32, events as u32)).collect();
        Sequences { tokens, numeric: Vec::new(), spans }
    });
    let bytes = config.shape.image.map_or(0, |image| rows * image.len());
    let images = (0..bytes).map(|i| random.fork(4).below(i as u64, 256) as u8).collect();
    Inputs { rows, numeric, sequence, images, ..Inputs::default() }
}

/// A network in training on one batch.
struct Learner {
    module: Box<dyn Module>,
    config: NetworkConfig,
    tensors: Vec<(ParameterSpec, Tensor)>,
    optimizer: Optimizer,
    /// Takes the steps where there is a device.
    trainer: Option<Trainer>,
    inputs: Inputs,
    targets: Vec<u32>,
    steps: u32,
}

impl Learner {
    fn new(config: NetworkConfig, rows: usize, device: Option<&Arc<Device>>) -> Self {
        let module = module(&config).unwrap();
        let tensors = module.specs().into_iter().map(|spec| {
            let tensor = storage::tensor(spec.initial(1), &spec.shape).unwrap();
            (spec, tensor)
        });
        let (tensors, rule) = (tensors.collect::<Vec<_>>(), Rule::usual(OptimizerKind::Adam, 0.0, None));
        let trainer = device.map(|device| {
            let (specs, state) = (module.specs(), OptimizerState::default());
            Trainer::new(device, &specs, &parameters(&tensors), &|spec| spec.trainable, rule, &state).unwrap()
        });
        Self {
            tensors,
            module,
            optimizer: Optimizer::new(rule),
            trainer,
            inputs: inputs(&config, rows),
            targets: (0..rows as u64).map(|row| Philox::new(1, 2).below(row, CLASSES as u32)).collect(),
            steps: 0,
            config,
        }
    }

    fn batch(&self, rows: Range<usize>, out: &mut Batch) {
        Batch::gather(&self.inputs, &self.config.shape, &rows.map(|row| row as u32).collect::<Vec<_>>(), out);
    }

    /// Losses of the steps that are done: a device is one behind.
    fn step(&mut self) -> Vec<f64> {
        self.steps += 1;
        let trainer = self.trainer.take();
        let silent = Tape::silent();
        let mut weights = Weights::default();
        for (spec, tensor) in &self.tensors {
            weights.insert(spec.name.clone(), silent.constant(tensor).unwrap());
        }
        let step = Step {
            module: &*self.module,
            weights: &weights,
            trainable: &|name| self.tensors.iter().all(|(spec, _)| spec.name != name || spec.trainable),
            random: Philox::new(1, 1).at_step(self.steps),
            gather: &|rows, out| self.batch(rows, out),
            loss: &|tape, forward, rows| ops::softmax_cross_entropy(tape, &forward.logits, &self.targets[rows].into(), None),
            weight: &|rows| rows.len() as f64,
        };
        if let Some(mut trainer) = trainer {
            trainer.step(&step, self.targets.len(), 1e-3).unwrap();
            let done = trainer.finished(false).unwrap();
            self.trainer = Some(trainer);
            return done.into_iter().map(|(_, loss)| loss.unwrap()).collect();
        }
        let found = step.run(self.targets.len()).unwrap();
        let updates: Vec<Update<'_>> = found
            .gradients
            .iter()
            .map(|(name, gradient)| {
                let (spec, weights) = self.tensors.iter().find(|(spec, _)| spec.name == *name).unwrap();
                Update { name, weights, gradient, decays: spec.decays }
            })
            .collect();
        self.optimizer.step(&updates, 1e-3).unwrap();
        vec![found.loss]
    }

    /// Waits for the device; the losses that were still to come.
    fn wait(&mut self) -> Vec<f64> {
        let done = self.trainer.as_mut().map(|trainer| trainer.finished(true).unwrap());
        done.unwrap_or_default().into_iter().map(|(_, loss)| loss.unwrap()).collect()
    }

    fn parameters(&self) -> Parameters {
        self.trainer.as_ref().map_or_else(|| parameters(&self.tensors), |trainer| trainer.parameters().unwrap())
    }
}

fn parameters(tensors: &[(ParameterSpec, Tensor)]) -> Parameters {
    let values = |tensor: &Tensor| storage::to_vec(tensor).unwrap();
    Parameters(tensors.iter().map(|(spec, tensor)| (spec.name.clone(), (spec.shape.clone(), values(tensor)))).collect())
}

/// The largest difference of losses and weights after some steps here and on `device`, dropout included.
fn check(config: &NetworkConfig, device: &Arc<Device>) -> f64 {
    let config = NetworkConfig { dropout: 0.1, ..config.clone() };
    let learned = |device: Option<&Arc<Device>>| {
        let mut learner = Learner::new(config.clone(), 100, device);
        let mut losses: Vec<f64> = (0..5).flat_map(|_| learner.step()).collect();
        losses.extend(learner.wait());
        (losses, learner.parameters())
    };
    let (here, there) = (learned(None), learned(Some(device)));
    let losses = here.0.iter().zip(&there.0).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    // Adam takes steps of one size at first, whatever rounding says of a gradient of nothing: means are compared.
    let distance = |(_, a): &(Vec<usize>, Vec<f32>), (_, b): &(Vec<usize>, Vec<f32>)| {
        a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs())).sum::<f64>() / a.len().max(1) as f64
    };
    let weights = here.1.0.iter().map(|(name, values)| distance(values, &there.1.0[name])).fold(0.0, f64::max);
    losses.max(weights)
}

/// Rows a second: the best of three thirds of the time, after a warm-up.
fn rate(rows: usize, seconds: f64, mut step: impl FnMut()) -> f64 {
    // A device is at its clock after some more.
    (0..10).for_each(|_| step());
    let third = || {
        let (began, mut count) = (Instant::now(), 0);
        while began.elapsed().as_secs_f64() < seconds / 3.0 {
            step();
            count += rows;
        }
        count as f64 / began.elapsed().as_secs_f64()
    };
    std::iter::repeat_with(third).take(3).fold(0.0, f64::max)
}

/// What to measure, and where.
struct Plan<'a> {
    seconds: f64,
    only: &'a str,
    rows: Vec<usize>,
    device: Option<Arc<Device>>,
    check: bool,
}

fn measure(plan: &Plan<'_>) -> BTreeMap<String, f64> {
    let (mut results, device) = (BTreeMap::new(), plan.device.as_ref());
    let networks = [
        ("lstm 2x128", config(Architecture::Lstm, 128, 2, 100)),
        ("gru 64", config(Architecture::Gru, 64, 1, 100)),
        ("rnn 64", config(Architecture::Rnn, 64, 1, 100)),
        ("transformer 2x64", config(Architecture::Transformer, 64, 2, 50)),
        ("dnn 2x256", config(Architecture::Dnn, 256, 2, 0)),
        ("cnn 32", pictures()),
    ];
    for (name, config) in networks.into_iter().filter(|(name, _)| name.starts_with(plan.only)) {
        if let Some(device) = device {
            if !choose::supports(&config) {
                continue;
            }
            if plan.check {
                let difference = check(&config, device);
                assert!(difference < 1e-3, "{name}: the device differs by {difference}");
                results.insert(format!("check {name}"), difference);
            }
        }
        for rows in plan.rows.iter().copied() {
            let mut learner = Learner::new(config.clone(), rows, device);
            let speed = rate(rows, plan.seconds, || drop(learner.step()));
            learner.wait();
            results.insert(format!("train {name} batch {rows}"), speed);
            if rows == 256 || device.is_some() {
                score(plan, name, &learner, rows, &mut results);
            }
        }
    }
    results
}

/// Forward passes of a learned network; on the CPU with weights of 8 bits too.
fn score(plan: &Plan<'_>, name: &str, learner: &Learner, rows: usize, results: &mut BTreeMap<String, f64>) {
    let parameters = learner.parameters();
    let mut batch = Batch::default();
    learner.batch(0..rows, &mut batch);
    let forward = |network: &dyn Network| assert_eq!(network.forward(&batch).unwrap().logits.len(), rows * CLASSES);
    let mut network: Arc<dyn Network> = load(&learner.config, &parameters).unwrap().into();
    if let Some(device) = &plan.device {
        network = network.on_device(device).unwrap().unwrap();
    }
    results.insert(format!("score {name} batch {rows}"), rate(rows, plan.seconds, || forward(&*network)));
    if plan.device.is_none() {
        let eight_bits = Compressed::of(&learner.config, &parameters, Scheme::Int8).unwrap();
        let small = load_compressed(&learner.config, &eight_bits).unwrap();
        results.insert(format!("score int8 {name} batch {rows}"), rate(rows, plan.seconds, || forward(&*small)));
    }
}

fn main() {
    let given: Vec<String> = std::env::args().collect();
    let value = |name: &str| given.iter().position(|word| word == name).and_then(|at| given.get(at + 1));
    let threads = value("--threads").map_or(2, |threads| threads.parse().unwrap());
    let seconds = value("--seconds").map_or(9.0, |seconds| seconds.parse().unwrap());
    let only = value("--only").map_or("", String::as_str);
    let rows = value("--rows").map_or("32,256", String::as_str).split(',').map(|rows| rows.parse().unwrap()).collect();
    let precision = match value("--precision").map(String::as_str) {
        Some("tf32") => Precision::Tf32,
        Some("bf16") => Precision::Bf16,
        _ => Precision::Full,
    };
    let device = match choose::Choice::named(value("--device").map_or("cpu", String::as_str)) {
        choose::Choice::Cuda(index) => Some(choose::open(index, precision).unwrap_or_else(|error| panic!("{error}: {:?}", error.detail))),
        _ => None,
    };
    let plan = Plan { seconds, only, rows, device, check: given.iter().any(|word| word == "--check") };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    println!("{}", serde_json::to_string(&pool.install(|| measure(&plan))).unwrap());
}
