//! Training steps and forward passes of the networks, with weights of 32 and of 8 bits, examples a second. The same networks in PyTorch:
//! `peers/train.py`; `benches/compare train` runs both.
//!
//! `cargo bench --bench train -- [--threads N] [--seconds S] [--only NETWORK]`

#![allow(clippy::unwrap_used, clippy::print_stdout, unreachable_pub, reason = "a bench prints its figures")]

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Instant;

use portrait_udfs::features::inputs::{ImageShape, InputShape, Inputs, SequenceShape, Sequences};
use portrait_udfs::models::ops::{self, Optimizer, OptimizerKind, Philox, Rule, Tape, Update, storage};
use portrait_udfs::models::step::Step;
use portrait_udfs::models::{
    Architecture, Batch, Compressed, Module, Network, NetworkConfig, ParameterSpec, Parameters, Scheme, Task, Tensor, Weights, load,
    load_compressed, module,
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
            categorical: Vec::new(),
            sequence: sequential.then_some(sequence),
            image: None,
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
    inputs: Inputs,
    targets: Vec<u32>,
    steps: u32,
}

impl Learner {
    fn new(config: NetworkConfig, rows: usize) -> Self {
        let module = module(&config).unwrap();
        let tensors = module.specs().into_iter().map(|spec| {
            let tensor = storage::tensor(spec.initial(1), &spec.shape).unwrap();
            (spec, tensor)
        });
        Self {
            tensors: tensors.collect(),
            module,
            optimizer: Optimizer::new(Rule::usual(OptimizerKind::Adam, 0.0, None)),
            inputs: inputs(&config, rows),
            targets: (0..rows as u64).map(|row| Philox::new(1, 2).below(row, CLASSES as u32)).collect(),
            steps: 0,
            config,
        }
    }

    fn batch(&self, rows: Range<usize>, out: &mut Batch) {
        Batch::gather(&self.inputs, &self.config.shape, &rows.map(|row| row as u32).collect::<Vec<_>>(), out);
    }

    fn step(&mut self) {
        self.steps += 1;
        let silent = Tape::silent();
        let mut weights = Weights::default();
        for (spec, tensor) in &self.tensors {
            weights.insert(spec.name.clone(), silent.constant(tensor).unwrap());
        }
        let found = Step {
            module: &*self.module,
            weights: &weights,
            trainable: &|name| self.tensors.iter().all(|(spec, _)| spec.name != name || spec.trainable),
            random: Philox::new(1, 1).at_step(self.steps),
            gather: &|rows, out| self.batch(rows, out),
            loss: &|tape, forward, rows| ops::softmax_cross_entropy(tape, &forward.logits, &self.targets[rows].into(), None),
            weight: &|rows| rows.len() as f64,
        }
        .run(self.targets.len())
        .unwrap();
        let updates: Vec<Update<'_>> = found
            .gradients
            .iter()
            .map(|(name, gradient)| {
                let (spec, weights) = self.tensors.iter().find(|(spec, _)| spec.name == *name).unwrap();
                Update { name, weights, gradient, decays: spec.decays }
            })
            .collect();
        self.optimizer.step(&updates, 1e-3).unwrap();
    }

    fn parameters(&self) -> Parameters {
        let values = |tensor: &Tensor| storage::to_vec(tensor).unwrap();
        Parameters(self.tensors.iter().map(|(spec, tensor)| (spec.name.clone(), (spec.shape.clone(), values(tensor)))).collect())
    }
}

/// Rows a second: the best of three thirds of the time, after a warm-up.
fn rate(rows: usize, seconds: f64, mut step: impl FnMut()) -> f64 {
    (0..3).for_each(|_| step());
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

fn measure(seconds: f64, only: &str) -> BTreeMap<String, f64> {
    let mut results = BTreeMap::new();
    let networks = [
        ("lstm 2x128", config(Architecture::Lstm, 128, 2, 100)),
        ("gru 64", config(Architecture::Gru, 64, 1, 100)),
        ("rnn 64", config(Architecture::Rnn, 64, 1, 100)),
        ("transformer 2x64", config(Architecture::Transformer, 64, 2, 50)),
        ("dnn 2x256", config(Architecture::Dnn, 256, 2, 0)),
        ("cnn 32", pictures()),
    ];
    for (name, config) in networks.into_iter().filter(|(name, _)| name.starts_with(only)) {
        for rows in [32, 256] {
            let mut learner = Learner::new(config.clone(), rows);
            results.insert(format!("train {name} batch {rows}"), rate(rows, seconds, || learner.step()));
            if rows == 256 {
                let parameters = learner.parameters();
                let network = load(&learner.config, &parameters).unwrap();
                let eight_bits = Compressed::of(&learner.config, &parameters, Scheme::Int8).unwrap();
                let small = load_compressed(&learner.config, &eight_bits).unwrap();
                let mut batch = Batch::default();
                learner.batch(0..rows, &mut batch);
                let forward = |network: &dyn Network| assert_eq!(network.forward(&batch).unwrap().logits.len(), rows * CLASSES);
                results.insert(format!("score {name} batch {rows}"), rate(rows, seconds, || forward(&*network)));
                results.insert(format!("score int8 {name} batch {rows}"), rate(rows, seconds, || forward(&*small)));
            }
        }
    }
    results
}

fn main() {
    let given: Vec<String> = std::env::args().collect();
    let value = |name: &str| given.iter().position(|word| word == name).and_then(|at| given.get(at + 1));
    let threads = value("--threads").map_or(2, |threads| threads.parse().unwrap());
    let seconds = value("--seconds").map_or(9.0, |seconds| seconds.parse().unwrap());
    let only = value("--only").map_or("", String::as_str);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    println!("{}", serde_json::to_string(&pool.install(|| measure(seconds, only))).unwrap());
}
