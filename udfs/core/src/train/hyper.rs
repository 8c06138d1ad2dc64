//! What the user's options leave open: each architecture's own defaults, by the published recipes and the data's size.

use super::privacy;
use super::schedule::{Decay, Schedule};
use crate::features::inputs::InputShape;
use crate::features::options::{self, Augment, NumericEmbedding, Options, Privacy, TextChoice};
use crate::models::cuda::Precision;
use crate::models::ops::{Focal, OptimizerKind};
use crate::models::{Architecture, NetworkConfig, Numbers, Task, TextModel, Variant};

/// Everything a fit needs to know besides data.
#[derive(Debug, Clone, PartialEq)]
pub struct Hyper {
    /// The network.
    pub config: NetworkConfig,
    /// Most epochs.
    pub epochs: usize,
    /// Rows of a batch.
    pub batch_size: usize,
    /// Largest step size.
    pub learning_rate: f64,
    /// How the step size moves up to it and away from it.
    pub schedule: Schedule,
    /// Update rule.
    pub optimizer: OptimizerKind,
    /// Weight decay (option `l2`).
    pub weight_decay: f64,
    /// Momentum of plain gradient descent.
    pub momentum: Momentum,
    /// Largest norm of a gradient; `None` = as it is.
    pub clip_norm: Option<f64>,
    /// The focal loss's exponent; 0 = cross-entropy.
    pub gamma: f64,
    /// Share of a label that is spread over all classes.
    pub label_smoothing: f64,
    /// Epochs without a better validation loss before training stops.
    pub patience: usize,
    /// Share of known ids shown as unseen while training, so that the unseen id means something.
    pub unseen_rate: f64,
    /// How pictures are changed while training.
    pub augment: Augment,
    /// Seed of everything random.
    pub seed: u64,
    /// What a private training may spend; `None` = an ordinary one.
    pub privacy: Option<Privacy>,
    /// Items drawn at each step of a network over many items; 0 = all of them.
    pub negatives: usize,
    /// Weight of a pair of user and item that was not seen (mf).
    pub unseen_weight: f64,
    /// Where it is computed: the option `device`, and `cpu` for the networks of an ensemble.
    pub device: String,
    /// How exactly products of matrices are computed on a GPU.
    pub precision: Precision,
}

impl Hyper {
    /// The exponents of the loss of classes.
    #[must_use]
    pub const fn focal(&self) -> Focal {
        Focal { gamma: self.gamma, smoothing: self.label_smoothing }
    }
}

/// Momentum of plain gradient descent (Sutskever et al., 2013).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Momentum {
    /// Share of the last step that goes on.
    pub share: f64,
    /// Whether it looks ahead (Nesterov).
    pub nesterov: bool,
}

impl Momentum {
    /// What the optimizer does by itself.
    pub const USUAL: Self = Self { share: 0.9, nesterov: false };
}

/// Items drawn beside a batch's own: a softmax over about so many learns as well as the full one (Klenitskiy & Vasilev, 2023).
const NEGATIVES: usize = 1024;
/// α₀ of Rendle et al., 2022.
const UNSEEN_WEIGHT: f64 = 0.1;

/// The focal loss's exponent where nobody gives another: the paper's.
const GAMMA: f64 = 2.0;

/// An architecture's defaults.
struct Defaults {
    epochs: usize,
    learning_rate: f64,
    weight_decay: f64,
    patience: usize,
    dropout: f32,
    hidden_dim: usize,
    layers: usize,
    embedding_dim: usize,
    /// Whether the learning rate rises over the first epoch.
    warms_up: bool,
}

/// Longest warm-up, in steps, that an architecture asks for by itself.
const WARMUP_STEPS_MAX: u32 = 200;

/// `train_rows` decides how large batches are; the smaller the data, the more often it is seen.
fn defaults(architecture: Architecture, train_rows: usize) -> Defaults {
    let large = train_rows > 100_000;
    match architecture {
        Architecture::Logreg => Defaults {
            epochs: 100,
            learning_rate: 5e-3,
            weight_decay: 1e-3,
            patience: 10,
            dropout: 0.0,
            hidden_dim: 1,
            layers: 1,
            embedding_dim: 1,
            warms_up: false,
        },
        // TabM's defaults, narrower: a block of 256 is as good on profile tables and four times cheaper.
        Architecture::Dnn | Architecture::WideDeep => Defaults {
            epochs: 200,
            learning_rate: 2e-3,
            weight_decay: 3e-4,
            patience: if large { 6 } else { 16 },
            dropout: 0.1,
            hidden_dim: 256,
            layers: 2,
            embedding_dim: 16,
            warms_up: false,
        },
        Architecture::Gru | Architecture::Lstm | Architecture::Rnn | Architecture::Cnn => Defaults {
            epochs: 60,
            learning_rate: 1e-3,
            weight_decay: 1e-4,
            patience: if large { 4 } else { 8 },
            dropout: 0.2,
            hidden_dim: 64,
            layers: 1,
            embedding_dim: 32,
            warms_up: false,
        },
        // Rendle et al., 2022: λ of a few thousandths; `l2` is λ and an epoch a sweep.
        Architecture::Mf => Defaults {
            epochs: 16,
            learning_rate: 1e-3,
            weight_decay: 3e-3,
            patience: 4,
            dropout: 0.0,
            hidden_dim: 64,
            layers: 1,
            embedding_dim: 64,
            warms_up: false,
        },
        Architecture::TwoTower => Defaults { dropout: 0.1, ..defaults(Architecture::Gru, train_rows) },
        // A row's worth of a dnn on either side of the middle, whose width is the embedding's.
        Architecture::Autoencoder | Architecture::Gan => Defaults {
            epochs: 100,
            learning_rate: 1e-3,
            weight_decay: 1e-5,
            patience: if large { 4 } else { 10 },
            dropout: 0.0,
            hidden_dim: 256,
            layers: 2,
            embedding_dim: 32,
            warms_up: false,
        },
        // SASRec's size.
        Architecture::Transformer => Defaults { layers: 2, warms_up: true, ..defaults(Architecture::Gru, train_rows) },
    }
}

/// Steps, of 128 pictures, that a network over pictures takes at least and at most where the data allow it.
const PICTURES_SEEN: usize = 420_000;

/// A network over pictures: few epochs along one cosine. The fewer the pictures, the more often each is seen.
fn picture_defaults(train_rows: usize) -> Defaults {
    let epochs = (PICTURES_SEEN / train_rows.max(1)).clamp(8, 60);
    Defaults {
        epochs,
        learning_rate: 4e-3,
        weight_decay: 5e-2,
        patience: epochs,
        dropout: 0.1,
        hidden_dim: 32,
        layers: 1,
        embedding_dim: 32,
        warms_up: true,
    }
}

/// Width that the embeddings of all numbers together aim at: many features get narrower ones.
const FEATURE_WIDTH: usize = 512;

/// Width of a word's embedding.
const WORD_WIDTH: usize = 48;

/// What only some architectures or inputs ask.
fn variant(architecture: Architecture, shape: &InputShape, options: &Options) -> Variant {
    let own = &options.network;
    let recurrent = matches!(architecture, Architecture::Gru | Architecture::Lstm | Architecture::Rnn);
    let convolves = match own.text_model {
        TextChoice::Cnn => true,
        TextChoice::Auto => architecture == Architecture::Cnn,
        TextChoice::Bag => false,
    };
    let has_text = !shape.texts.is_empty() && architecture != Architecture::Logreg;
    Variant {
        bidirectional: recurrent && own.bidirectional,
        relu: architecture == Architecture::Rnn && own.activation == options::Activation::Relu,
        text: if convolves && has_text { TextModel::Cnn } else { TextModel::Bag },
        text_dim: if has_text { WORD_WIDTH } else { 0 },
        numbers: match own.numeric_embedding {
            NumericEmbedding::Periodic if architecture != Architecture::Logreg => Numbers::Periodic,
            _ => Numbers::Piecewise,
        },
        crosses: Vec::new(),
    }
}

/// How many networks a dnn is. Every member has an output layer of its own, which many classes would make the largest
/// part of the model; with many rows the members agree and fewer do.
fn members(outputs: usize, train_rows: usize) -> usize {
    match (outputs, train_rows) {
        (65.., _) => 1,
        (_, 100_001..) => 8,
        _ => 16,
    }
}

/// Resolves options for one architecture.
pub fn resolve(architecture: Architecture, shape: &InputShape, outputs: usize, task: Task, options: &Options, train_rows: usize) -> Hyper {
    let pictures = architecture == Architecture::Cnn && shape.image.is_some() && shape.sequence.is_none();
    let own = if pictures { picture_defaults(train_rows) } else { defaults(architecture, train_rows) };
    let size = |value: Option<u32>, default: usize| value.map_or(default, |value| value.max(1) as usize);
    let mut shape = shape.clone();
    if !architecture.is_sequential() {
        shape.sequence = None;
    }
    if !architecture.is_sequential() {
        shape.image = None;
        shape.image_optional = false;
    }
    let numeric = shape.numeric;
    let dnn = matches!(architecture, Architecture::Dnn | Architecture::WideDeep);
    let plain = architecture == Architecture::Logreg || options.network.numeric_embedding == NumericEmbedding::None;
    let variant = variant(architecture, &shape, options);
    let config = NetworkConfig {
        architecture,
        shape,
        outputs,
        task,
        hidden_dim: size(options.hidden_dim, own.hidden_dim),
        layers: size(options.layers, own.layers),
        embedding_dim: size(options.embedding_dim, own.embedding_dim),
        dropout: options.dropout.map_or(own.dropout, |value| value as f32),
        members: if dnn { members(outputs, train_rows) } else { 1 },
        bins: if plain { 0 } else { 32 },
        numeric_embedding_dim: (FEATURE_WIDTH / numeric.max(1)).clamp(2, 8),
        catalogue: None,
        variant,
    };
    let batch_size = match train_rows {
        _ if pictures => 128,
        0..=50_000 => 256,
        50_001..=500_000 => 512,
        _ => 1024,
    };
    let batch_size = size(options.batch_size, batch_size);
    let warmup_steps = if own.warms_up { (train_rows / batch_size).min(WARMUP_STEPS_MAX as usize) as u32 } else { 0 };
    let hyper = Hyper {
        config,
        epochs: size(options.epochs, own.epochs),
        batch_size,
        learning_rate: options.learning_rate.unwrap_or(own.learning_rate),
        schedule: Schedule {
            warmup: options.warmup.unwrap_or(f64::from(warmup_steps)),
            decay: options.schedule.unwrap_or(if pictures { Decay::Cosine } else { Decay::Constant }),
        },
        optimizer: match options.optimizer {
            options::Optimizer::Sgd => OptimizerKind::Sgd,
            options::Optimizer::Adam => OptimizerKind::Adam,
            options::Optimizer::Adamw => OptimizerKind::Adamw,
        },
        weight_decay: options.l2.unwrap_or(own.weight_decay),
        momentum: Momentum { share: options.momentum.unwrap_or(Momentum::USUAL.share), nesterov: options.nesterov },
        clip_norm: Some(options.clip_norm.unwrap_or(1.0)).filter(|norm| *norm > 0.0),
        gamma: if options.loss == options::Loss::Focal { options.gamma.unwrap_or(GAMMA) } else { 0.0 },
        label_smoothing: options.label_smoothing,
        patience: size(options.patience, own.patience),
        unseen_rate: 0.01,
        augment: options.augment,
        seed: options.seed,
        privacy: options.privacy,
        negatives: options.negatives.map_or(NEGATIVES, |count| count as usize),
        unseen_weight: options.unseen_weight.unwrap_or(UNSEEN_WEIGHT),
        device: if options.ensemble.is_some() { "cpu".into() } else { options.device.clone() },
        precision: match options.precision {
            options::Precision::Full => Precision::Full,
            options::Precision::Tf32 => Precision::Tf32,
            options::Precision::Bf16 => Precision::Bf16,
        },
    };
    privacy::adapted(hyper, options, train_rows)
}
