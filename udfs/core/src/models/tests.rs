//! What every architecture must do: learn with all of its weights, overfit one batch, answer the same whatever
//! the batch, and the house rule that only `ops` calls candle's operators.

use std::path::Path;
use std::sync::Arc;

use super::ops::{self, Optimizer, OptimizerKind, Philox, Rule, StepOutcome, Tape, Update, storage};
use super::step::Step;
use super::*;
use crate::features::inputs::{ImageShape, Inputs, NO_PICTURE, SequenceShape, Sequences, TextShape, Texts};

const ROWS: usize = 24;
const PICTURE: ImageShape = ImageShape { height: 5, width: 9, channels: 3 };
const TEXT: TextShape = TextShape { vocabulary: 13, buckets: 2, max_len: 5 };

fn config(architecture: Architecture, task: Task) -> NetworkConfig {
    NetworkConfig {
        architecture,
        shape: InputShape {
            numeric: 3,
            categorical: vec![5, 9],
            sequence: Some(SequenceShape { fields: vec![7, 11], numeric: 2, max_len: 8 }),
            ..InputShape::default()
        },
        outputs: if task == Task::Classification { 3 } else { 1 },
        task,
        hidden_dim: 16,
        layers: 2,
        embedding_dim: 4,
        dropout: 0.0,
        members: if matches!(architecture, Architecture::Dnn | Architecture::WideDeep) { 4 } else { 1 },
        bins: if architecture == Architecture::Logreg { 0 } else { 6 },
        numeric_embedding_dim: 4,
        catalogue: (architecture == Architecture::TwoTower).then_some(CatalogueShape {
            item_field: 0,
            category_field: Some(1),
            price_number: Some(1),
        }),
        variant: Variant { text_dim: 4, crosses: vec![[0, 1]], ..Variant::default() },
    }
}

/// All that learn by gradients.
fn learning() -> impl Iterator<Item = Architecture> {
    Architecture::ALL.into_iter().filter(|architecture| architecture.is_supervised() && *architecture != Architecture::Mf)
}

fn inputs() -> Inputs {
    let random = Philox::new(8, 8);
    let ids = |count: usize, stream: u32, vocabularies: &[u32]| -> Vec<u32> {
        (0..count).map(|i| random.fork(stream).below(i as u64, vocabularies[i % vocabularies.len()])).collect()
    };
    let numbers = |count: usize, stream: u32| (0..count).map(|i| random.fork(stream).normal(i as u64) as f32).collect();
    let spans = (0..ROWS as u32).map(|row| (row * 8, 1 + row % 8)).collect();
    Inputs {
        rows: ROWS,
        numeric: numbers(ROWS * 3, 1),
        categorical: ids(ROWS * 2, 2, &[5, 9]),
        sequence: Some(Sequences { tokens: ids(ROWS * 8 * 2, 3, &[7, 11]), numeric: numbers(ROWS * 8 * 2, 4), spans }),
        images: (0..ROWS * PICTURE.len()).map(|i| random.fork(5).below(i as u64, 256) as u8).collect(),
        pictured: Vec::new(),
        texts: (0..2).map(|text| texts(&random.fork(6 + text))).collect(),
        spilled: None,
    }
}

/// The same for one configuration: of optional pictures, one is missing.
fn inputs_of(config: &NetworkConfig) -> Inputs {
    let mut inputs = inputs();
    if config.shape.image_optional {
        inputs.pictured = (0..ROWS as u32).map(|row| if row == 3 { NO_PICTURE } else { row }).collect();
    }
    inputs
}

/// From three to five words a row.
fn texts(random: &Philox) -> Texts {
    let mut texts = Texts::default();
    for row in 0..ROWS as u64 {
        let words: Vec<u32> = (0..3 + row % 3).map(|word| random.below(row * 8 + word, TEXT.vocabulary as u32)).collect();
        texts.push(&words);
    }
    texts
}

/// A network in training on one batch.
struct Student {
    config: NetworkConfig,
    module: Box<dyn Module>,
    tensors: Vec<(ParameterSpec, candle_core::Tensor)>,
    optimizer: Optimizer,
    batch: Batch,
    steps: u32,
}

impl Student {
    fn new(config: NetworkConfig) -> Self {
        let module = module(&config).unwrap();
        let inputs = inputs_of(&config);
        let rows: Vec<u32> = (0..ROWS as u32).collect();
        let mut parameters = Parameters::default();
        for spec in module.specs() {
            parameters.0.insert(spec.name.clone(), (spec.shape.clone(), spec.initial(1)));
        }
        module.prepare(&inputs, &rows, &mut parameters);
        if let Some((_, prices)) = parameters.0.get_mut("items.price") {
            (0..).zip(prices).for_each(|(item, price)| *price = 0.5 - 0.3 * item as f32);
        }
        let tensors = module.specs().into_iter().map(|spec| {
            let (shape, values) = parameters.0.remove(&spec.name).unwrap();
            (spec, storage::tensor(values, &shape).unwrap())
        });
        let mut batch = Batch::default();
        Batch::gather(&inputs, &config.shape, &rows, &mut batch);
        let tensors = tensors.collect();
        Self { module, tensors, optimizer: Optimizer::new(Rule::usual(OptimizerKind::Adamw, 0.0, None)), config, batch, steps: 0 }
    }

    /// One step; returns the loss before it and checks that a gradient reached every trainable weight.
    fn step(&mut self, learning_rate: f64) -> f64 {
        self.steps += 1;
        let tape = Tape::recording(Philox::new(1, 1).at_step(self.steps));
        let mut weights = Weights::default();
        for (spec, tensor) in &self.tensors {
            let var = if spec.trainable { tape.leaf(tensor) } else { tape.constant(tensor) };
            weights.insert(spec.name.clone(), var.unwrap());
        }
        let forward = self.module.forward(&tape, &weights, &self.batch, false).unwrap();
        let loss = if self.config.task == Task::Classification {
            let targets: Arc<[u32]> = (0..ROWS as u32).map(|row| (row * 7 + row / 5) % 3).collect();
            ops::softmax_cross_entropy(&tape, &forward.logits, &targets, None).unwrap()
        } else {
            let targets: Vec<f32> = (0..ROWS).map(|row| (row * 7 % 5) as f32 - 2.0).collect();
            ops::mean_squared_error(&tape, &forward.logits, &targets, None).unwrap()
        };
        let value = loss.scalar().unwrap();
        let gradients = tape.backward(&loss).unwrap();
        let updates: Vec<Update<'_>> = self
            .tensors
            .iter()
            .filter(|(spec, _)| spec.trainable)
            .map(|(spec, weights_of)| Update {
                name: &spec.name,
                weights: weights_of,
                gradient: gradients.get(weights.get(&spec.name).unwrap()).unwrap_or_else(|| panic!("{} has no gradient", spec.name)),
                decays: spec.decays,
            })
            .collect();
        assert!(matches!(self.optimizer.step(&updates, learning_rate).unwrap(), StepOutcome::Done(_)));
        value
    }

    fn parameters(&self) -> Parameters {
        Parameters(
            self.tensors.iter().map(|(spec, tensor)| (spec.name.clone(), (spec.shape.clone(), storage::to_vec(tensor).unwrap()))).collect(),
        )
    }
}

fn configs() -> Vec<NetworkConfig> {
    let alone = NetworkConfig { members: 1, ..config(Architecture::Dnn, Task::Classification) };
    let all = learning().flat_map(|a| [config(a, Task::Classification), config(a, Task::Regression)]);
    all.chain([alone]).chain(picture_configs()).chain(fusion_configs()).chain(variant_configs()).collect()
}

/// Every combination of inputs that a source can offer: what each architecture reads beside its own.
fn fusion_configs() -> Vec<NetworkConfig> {
    let with = |architecture, text, change: &dyn Fn(&mut InputShape)| {
        let own = config(architecture, Task::Classification);
        let mut shape = own.shape.clone();
        change(&mut shape);
        NetworkConfig { shape, variant: Variant { text, ..own.variant.clone() }, ..own }
    };
    let (bag, convolved) = (TextModel::Bag, TextModel::Cnn);
    let texts = |shape: &mut InputShape| shape.texts = vec![TEXT, TEXT];
    let all = |shape: &mut InputShape| {
        *shape = InputShape { image: Some(PICTURE), image_optional: true, texts: vec![TEXT], ..shape.clone() };
    };
    let only_text = |shape: &mut InputShape| *shape = InputShape { texts: vec![TEXT], ..InputShape::default() };
    let of_table = |shape: &mut InputShape| *shape = InputShape { sequence: None, texts: vec![TEXT], ..shape.clone() };
    let pictured =
        |shape: &mut InputShape| *shape = InputShape { sequence: None, image: Some(PICTURE), texts: vec![TEXT], ..shape.clone() };
    let mut configs: Vec<NetworkConfig> =
        [Architecture::Gru, Architecture::Lstm, Architecture::Rnn, Architecture::Cnn, Architecture::Transformer]
            .into_iter()
            .map(|architecture| with(architecture, bag, &all))
            .collect();
    configs.push(with(Architecture::Gru, convolved, &texts));
    for architecture in [Architecture::Logreg, Architecture::Dnn, Architecture::WideDeep] {
        configs.push(with(architecture, bag, &texts));
    }
    configs.push(with(Architecture::Dnn, bag, &only_text));
    configs.push(with(Architecture::Logreg, bag, &only_text));
    for text in [bag, convolved] {
        configs.push(with(Architecture::Cnn, text, &only_text));
        configs.push(with(Architecture::Cnn, text, &of_table));
    }
    configs.push(NetworkConfig { hidden_dim: 4, layers: 1, ..with(Architecture::Cnn, bag, &pictured) });
    configs
}

/// The options of single architectures.
fn variant_configs() -> Vec<NetworkConfig> {
    let variant = |architecture, change: &dyn Fn(&mut Variant)| {
        let mut own = config(architecture, Task::Classification);
        change(&mut own.variant);
        own
    };
    let both_ways = |variant: &mut Variant| variant.bidirectional = true;
    let mut configs: Vec<NetworkConfig> =
        [Architecture::Gru, Architecture::Lstm, Architecture::Rnn].into_iter().map(|cell| variant(cell, &both_ways)).collect();
    configs.push(variant(Architecture::Rnn, &|variant| variant.relu = true));
    configs.push(variant(Architecture::Dnn, &|variant| variant.numbers = Numbers::Periodic));
    configs.push(NetworkConfig { bins: 0, ..config(Architecture::Dnn, Task::Classification) });
    configs
}

/// Over pictures: alone, and beside other features.
fn picture_configs() -> [NetworkConfig; 2] {
    let beside = |task| {
        let own = config(Architecture::Cnn, task);
        NetworkConfig { shape: InputShape { sequence: None, image: Some(PICTURE), ..own.shape }, hidden_dim: 4, layers: 1, ..own }
    };
    let alone = beside(Task::Classification);
    let alone = NetworkConfig { shape: InputShape { image: Some(PICTURE), ..InputShape::default() }, ..alone };
    [alone, beside(Task::Regression)]
}

#[test]
fn shards_add_up_to_the_whole_batch() {
    let targets: Vec<u32> = (0..ROWS as u32).map(|row| (row * 7 + row / 5) % 3).collect();
    let row_weights: Vec<f32> = (0..ROWS).map(|row| 0.5 + (row % 3) as f32).collect();
    for architecture in learning() {
        let student = Student::new(NetworkConfig { members: 1, ..config(architecture, Task::Classification) });
        let (inputs, shape) = (inputs(), &student.config.shape);
        let silent = Tape::silent();
        let mut weights = Weights::default();
        for (spec, tensor) in &student.tensors {
            weights.insert(spec.name.clone(), silent.constant(tensor).unwrap());
        }
        let trainable = |name: &str| student.tensors.iter().any(|(spec, _)| spec.name == name && spec.trainable);
        let step = Step {
            module: &*student.module,
            weights: &weights,
            trainable: &trainable,
            random: Philox::new(1, 1),
            gather: &|rows, out| Batch::gather(&inputs, shape, &rows.map(|row| row as u32).collect::<Vec<_>>(), out),
            loss: &|tape, forward, rows| {
                ops::softmax_cross_entropy(tape, &forward.logits, &targets[rows.clone()].into(), Some(&row_weights[rows]))
            },
            weight: &|rows| row_weights[rows].iter().map(|weight| f64::from(*weight)).sum(),
        };
        let found = step.run(ROWS).unwrap();
        let tape = Tape::recording(Philox::new(1, 1));
        let mut leaves = Weights::default();
        for (name, var) in weights.iter() {
            leaves.insert(name.to_owned(), if trainable(name) { tape.leaf_of(var) } else { var.clone() });
        }
        let forward = student.module.forward(&tape, &leaves, &student.batch, false).unwrap();
        let loss = ops::softmax_cross_entropy(&tape, &forward.logits, &targets.clone().into(), Some(&row_weights)).unwrap();
        assert!((loss.scalar().unwrap() - found.loss).abs() < 1e-5, "{architecture}");
        let whole = tape.backward(&loss).unwrap();
        assert_eq!(found.gradients.len(), student.tensors.iter().filter(|(spec, _)| spec.trainable).count());
        for (name, gradient) in &found.gradients {
            let expected = storage::to_vec::<f32>(whole.get(leaves.get(name).unwrap()).unwrap()).unwrap();
            for (got, expected) in storage::to_vec::<f32>(gradient).unwrap().iter().zip(&expected) {
                assert!((got - expected).abs() < 1e-5 + 1e-3 * expected.abs(), "{architecture} {name}: {got} instead of {expected}");
            }
        }
    }
}

#[test]
fn one_step_moves_every_trainable_weight() {
    for config in configs() {
        let mut student = Student::new(config);
        let before = student.parameters();
        // Weights that start at zero hold back the gradient of those in front of them for one step.
        student.step(1e-2);
        student.step(1e-2);
        for (spec, _) in &student.tensors {
            let moved = before.0[&spec.name] != student.parameters().0[&spec.name];
            assert_eq!(moved, spec.trainable, "{} of {:?}", spec.name, student.config.architecture);
        }
    }
}

#[test]
fn one_batch_can_be_learned_by_heart() {
    for config in configs().into_iter().filter(|config| config.architecture != Architecture::Logreg) {
        let name = format!("{:?} {:?}", config.architecture, config.task);
        let mut student = Student::new(config);
        let losses: Vec<f64> = (0..300).map(|_| student.step(1e-2)).collect();
        assert!(losses[299] < 1e-2, "{name}: {} → {}", losses[0], losses[299]);
    }
    let mut linear = Student::new(config(Architecture::Logreg, Task::Classification));
    let losses: Vec<f64> = (0..300).map(|_| linear.step(5e-2)).collect();
    assert!(losses[299] < losses[0] * 0.6, "{} → {}", losses[0], losses[299]);
}

#[test]
fn a_loaded_network_answers_each_row_alone_as_in_company() {
    for config in configs() {
        let mut student = Student::new(config.clone());
        student.step(1e-2);
        let network = load(&config, &student.parameters()).unwrap();
        let together = network.forward(&student.batch).unwrap();
        assert_eq!(together.logits.len(), ROWS * config.outputs);
        assert_eq!(together.embedding.len(), ROWS * network.embedding_dim());
        let (inputs, mut batch) = (inputs_of(&config), Batch::default());
        for row in 0..ROWS {
            Batch::gather(&inputs, &config.shape, &[row as u32], &mut batch);
            let alone = network.forward(&batch).unwrap();
            assert_eq!(alone.logits, together.logits[row * config.outputs..(row + 1) * config.outputs]);
            assert_eq!(alone.embedding, together.embedding[row * network.embedding_dim()..(row + 1) * network.embedding_dim()]);
        }
        Batch::gather(&inputs, &config.shape, &[], &mut batch);
        assert!(network.forward(&batch).unwrap().logits.is_empty());
        assert_eq!(network.bytes(), network.parameter_count() * 4);
    }
}

#[test]
fn an_empty_history_has_an_answer() {
    for config in configs().into_iter().filter(|config| config.shape.sequence.is_some() && config.architecture.is_sequential()) {
        let mut student = Student::new(config.clone());
        let mut inputs = inputs();
        let spans = &mut inputs.sequence.as_mut().unwrap().spans;
        spans[1].1 = 0;
        Batch::gather(&inputs, &config.shape, &(0..ROWS as u32).collect::<Vec<_>>(), &mut student.batch);
        assert!(student.step(1e-2).is_finite());
        inputs.sequence.as_mut().unwrap().spans.iter_mut().for_each(|span| span.1 = 0);
        let mut batch = Batch::default();
        Batch::gather(&inputs, &config.shape, &[0, 1], &mut batch);
        let network = load(&config, &student.parameters()).unwrap();
        assert!(network.forward(&batch).unwrap().logits.iter().all(|logit| logit.is_finite()));
    }
}

#[test]
fn pictures_of_any_size_have_an_answer() {
    for (height, width) in [(1, 1), (4, 7), (49, 3), (64, 64)] {
        let [config, _] = picture_configs();
        let image = ImageShape { height, width, channels: 1 };
        let config = NetworkConfig { shape: InputShape { image: Some(image), ..InputShape::default() }, ..config };
        let module = module(&config).unwrap();
        let parameters = module.specs().into_iter().map(|spec| (spec.name.clone(), (spec.shape.clone(), spec.initial(1))));
        let network = load(&config, &Parameters(parameters.collect())).unwrap();
        let batch = Batch { rows: 2, images: vec![7; 2 * image.len()], pictured: vec![0, 1], ..Batch::default() };
        assert!(network.forward(&batch).unwrap().logits.iter().all(|logit| logit.is_finite()), "{height} by {width}");
        assert!(network.forward(&Batch { rows: 3, ..batch }).is_err());
    }
}

#[test]
fn configurations_and_weights_are_checked() {
    let good = config(Architecture::Gru, Task::Classification);
    let mut parameters = Student::new(good.clone()).parameters();
    parameters.0.get_mut("head.bias").unwrap().1.pop();
    assert_eq!(load(&good, &parameters).unwrap_err().code, crate::error::Code::DataCorrupted);
    parameters.0.remove("head.bias");
    assert_eq!(load(&good, &parameters).unwrap_err().code, crate::error::Code::DataCorrupted);
    let mut no_sequence = good.clone();
    no_sequence.shape.sequence = None;
    assert_eq!(module(&no_sequence).unwrap_err().code, crate::error::Code::InvalidParameter);
    let mut no_features = config(Architecture::Dnn, Task::Classification);
    no_features.shape = InputShape { sequence: good.shape.sequence.clone(), ..InputShape::default() };
    assert_eq!(module(&no_features).unwrap_err().code, crate::error::Code::InvalidParameter);
    let text = serde_json::to_string(&good).unwrap();
    assert_eq!(serde_json::from_str::<NetworkConfig>(&text).unwrap(), good);
}

/// Rows without a picture answer with what was learned for them, wherever they stand.
#[test]
fn a_picture_may_be_missing() {
    for config in fusion_configs().into_iter().filter(|config| config.shape.image_optional) {
        let mut student = Student::new(config.clone());
        let mut inputs = inputs();
        let len = PICTURE.len();
        inputs.images.truncate(3 * len);
        inputs.pictured = (0..ROWS as u32).map(|row| if row % 2 == 0 { row % 3 } else { NO_PICTURE }).collect();
        Batch::gather(&inputs, &config.shape, &(0..ROWS as u32).collect::<Vec<_>>(), &mut student.batch);
        assert_eq!((student.batch.images.len(), student.batch.pictured.len()), (ROWS / 2 * len, ROWS / 2));
        let losses: Vec<f64> = (0..60).map(|_| student.step(1e-2)).collect();
        assert!(losses[59] < 0.5 * losses[0], "{:?}: {} → {}", config.architecture, losses[0], losses[59]);
        let network = load(&config, &student.parameters()).unwrap();
        let (together, mut batch) = (network.forward(&student.batch).unwrap(), Batch::default());
        for row in [0, 1, 2, 5] {
            Batch::gather(&inputs, &config.shape, &[row], &mut batch);
            let alone = network.forward(&batch).unwrap();
            assert_eq!(alone.logits, together.logits[row as usize * config.outputs..(row as usize + 1) * config.outputs]);
        }
        let part = student.batch.part(&config.shape, 4..9);
        Batch::gather(&inputs, &config.shape, &[4, 5, 6, 7, 8], &mut batch);
        assert_eq!(format!("{part:?}"), format!("{batch:?}"));
    }
}

/// Dropout stands between the layers of a stack, and only there.
#[test]
fn dropout_between_recurrent_layers() {
    use super::recurrent::Layers;
    for (layers, changes) in [(1, false), (2, true)] {
        let stack = Layers {
            cell: Architecture::Gru,
            activation: ops::Activation::Tanh,
            inputs: 3,
            hidden_dim: 4,
            layers,
            bidirectional: true,
            dropout: 0.5,
        };
        let packing = Arc::new(ops::Packing::new(&[3, 2]));
        let run = |step| {
            let tape = Tape::recording(Philox::new(1, 1).at_step(step));
            let mut weights = Weights::default();
            for spec in stack.specs() {
                weights.insert(spec.name.clone(), tape.leaf(&storage::tensor(spec.initial(1), &spec.shape).unwrap()).unwrap());
            }
            let x = tape.leaf(&storage::tensor((0..15).map(|i| i as f32 / 7.0 - 1.0).collect(), &[5, 3]).unwrap()).unwrap();
            let states = stack.forward(&tape, &weights, x, &packing).unwrap();
            storage::to_vec::<f32>(states.packed(&tape, &packing).unwrap().value()).unwrap()
        };
        assert_eq!(run(1) != run(2), changes, "{layers} layers");
    }
}

/// Candle's operators are methods of `Tensor`; its functions for gradients are those of `Var` and `GradStore`.
#[test]
fn only_ops_calls_candle() {
    let mut callers = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.to_string_lossy().contains("/models/ops/") {
                let text = std::fs::read_to_string(&path).unwrap();
                let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
                // Naming the types is fine: the tensors have to be held somewhere. Importing anything else is not.
                let imports = code.filter(|line| line.contains("candle_core::") || line.contains("candle_nn"));
                callers.extend(imports.filter(|line| !allowed(line)).map(|line| format!("{}: {line}", path.display())));
            }
        }
    }
    assert!(callers.is_empty(), "{callers:#?}");
}

fn allowed(line: &str) -> bool {
    ["use candle_core::Tensor;", "candle_core::Tensor)", "From<candle_core::Error>", "error: candle_core::Error"]
        .iter()
        .any(|part| line.contains(part))
        || line.contains("line.contains(")
        || line.contains("\"use candle_core")
}
