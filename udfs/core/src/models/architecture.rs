//! What every architecture is: a list of parameters and one forward function, used for training and for scoring.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::Tensor;

use super::cuda::{Device, DeviceNetwork, choose};
use super::ops::{self, BatchStatistics, Philox, Tape, Var, parallel};
use super::{
    Architecture, Batch, Compressed, ItemTable, Network, NetworkConfig, Outputs, Parameters, Task, autoencoder, cnn, compressed, dnn,
    fused, gan, image_cnn, logreg, mf, picture, recurrent, step, tabular, transformer, two_tower, wide_deep,
};
use crate::error::{Code, Error, Result};
use crate::features::inputs::Inputs;

/// How a parameter starts.
#[derive(Debug, Clone, PartialEq)]
pub enum Init {
    /// All 0.
    Zeros,
    /// All 1.
    Ones,
    /// Uniform in ±bound.
    Uniform(f64),
    /// Normal with mean 0 and this deviation.
    Normal(f64),
    /// `[members, Σ chunks]`: one standard normal number per member and chunk.
    NormalPerChunk(Vec<usize>),
}

/// One parameter of an architecture.
#[derive(Debug, Clone, PartialEq)]
pub struct ParameterSpec {
    /// Its name, as stored.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// How it starts.
    pub init: Init,
    /// Whether weight decay applies: matrices yes, biases and look-up tables no.
    pub decays: bool,
    /// Whether gradients change it; bin edges, for one, are computed from data.
    pub trainable: bool,
}

impl ParameterSpec {
    /// A learned matrix under weight decay, uniform in ±1/√`fan_in`.
    pub(super) fn matrix(name: impl Into<String>, shape: &[usize], fan_in: usize) -> Self {
        let init = Init::Uniform(1.0 / (fan_in.max(1) as f64).sqrt());
        Self { name: name.into(), shape: shape.to_vec(), init, decays: true, trainable: true }
    }

    /// The same, free of weight decay: biases and look-up tables.
    pub(super) fn free(name: impl Into<String>, shape: &[usize], fan_in: usize) -> Self {
        Self { decays: false, ..Self::matrix(name, shape, fan_in) }
    }

    /// With another start.
    pub(super) fn start(mut self, init: Init) -> Self {
        self.init = init;
        self
    }

    /// Its first values; a function of seed and name only.
    pub fn initial(&self, seed: u64) -> Vec<f32> {
        let count = self.shape.iter().product::<usize>();
        let random = Philox::named(seed, &self.name);
        match &self.init {
            Init::Zeros => vec![0.0; count],
            Init::Ones => vec![1.0; count],
            Init::Uniform(bound) => (0..count).map(|i| ((random.uniform(i as u64) * 2.0 - 1.0) * bound) as f32).collect(),
            Init::Normal(deviation) => (0..count).map(|i| (random.normal(i as u64) * deviation) as f32).collect(),
            Init::NormalPerChunk(chunks) => {
                let members = self.shape.first().copied().unwrap_or(0);
                let draw = |member: usize, chunk: usize| random.normal((member * chunks.len() + chunk) as u64) as f32;
                let row = |member| chunks.iter().enumerate().flat_map(move |(chunk, width)| vec![draw(member, chunk); *width]);
                (0..members).flat_map(row).collect()
            }
        }
    }
}

/// The parameters of a forward pass by name.
#[derive(Debug, Default)]
pub struct Weights(BTreeMap<String, Var>);

impl Weights {
    /// Adds one.
    pub fn insert(&mut self, name: String, var: Var) {
        self.0.insert(name, var);
    }

    /// Finds one.
    ///
    /// # Errors
    /// `Internal` when the architecture did not declare it.
    pub fn get(&self, name: &str) -> Result<&Var> {
        self.0.get(name).ok_or_else(|| Error::internal(format!("parameter \"{name}\" is not declared")))
    }

    /// All, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.0.iter().map(|(name, var)| (name.as_str(), var))
    }
}

/// What a forward pass gives.
#[derive(Debug)]
pub struct Forward {
    /// `[rows · members, outputs]`; row `r` of member `m` at `r · members + m`.
    pub logits: Var,
    /// Ensemble members; 1 for most architectures.
    pub members: usize,
    /// `[rows, embedding_dim]`, when asked for.
    pub embedding: Option<Var>,
    /// While training, what the batch said of the channels of each batch normalisation, by its name.
    pub statistics: Vec<(String, BatchStatistics)>,
}

/// Rows whose numbers [`Module::prepare`] looks at, at most: of more, every so many-th from the first on.
pub const PREPARED_NUMBERS: usize = tabular::QUANTILE_ROWS;
/// The same for pictures.
pub const PREPARED_PICTURES: usize = picture::PICTURES_MAX;

/// One architecture with its hyper-parameters, without weights.
pub trait Module: Send + Sync + std::fmt::Debug {
    /// Its parameters.
    fn specs(&self) -> Vec<ParameterSpec>;

    /// Computes those parameters that come from data instead of gradients, from the training rows: from the numbers of every
    /// ⌈rows / [`PREPARED_NUMBERS`]⌉-th of them and the pictures of every ⌈rows / [`PREPARED_PICTURES`]⌉-th; words of
    /// every one. Of rows in files no others are read for it.
    fn prepare(&self, inputs: &Inputs, rows: &[u32], parameters: &mut Parameters);

    /// Logits of a batch.
    ///
    /// # Errors
    /// `Internal` when batch and weights disagree.
    fn forward(&self, tape: &Tape, weights: &Weights, batch: &Batch, want_embedding: bool) -> Result<Forward>;

    /// Width of the embedding.
    fn embedding_dim(&self) -> usize;

    /// Where logits are `states · itemsᵀ + biases`: the states of a batch, `[rows, width]`. With it a loss can look at some of
    /// the items only. `None` for networks whose logits are no such product.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    fn states(&self, _tape: &Tape, _weights: &Weights, _batch: &Batch) -> Result<Option<Var>> {
        Ok(None)
    }

    /// The vectors `[count, width]` and biases `[count, 1]` of the classes `ids`, where [`states`](Self::states) has an answer.
    ///
    /// # Errors
    /// `Internal` when a class does not exist, or the network has no such vectors.
    fn items(&self, tape: &Tape, weights: &Weights, ids: &Arc<[u32]>) -> Result<(Var, Option<Var>)> {
        let bias = ops::gather(tape, weights.get("output.bias")?, ids)?;
        Ok((ops::gather(tape, weights.get("output.weight")?, ids)?, Some(bias)))
    }

    /// See [`Network::contributions`].
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    fn contributions(&self, _weights: &Weights, _batch: &Batch, _classes: &[u32]) -> Result<Option<Vec<f32>>> {
        Ok(None)
    }

    /// Whether [`states`](Self::states) has an answer.
    fn has_items(&self) -> bool {
        false
    }

    /// Rows that one thread takes through the network by itself: few enough to stay in cache, enough to keep the matrix
    /// kernels busy. A row's result must not depend on the other rows; a network where it does keeps batches whole.
    fn shard_rows(&self) -> usize {
        usize::MAX
    }

    /// Rows or pictures from noise, of a generator.
    ///
    /// # Errors
    /// `Internal` when it is none, or the noise does not have its shape.
    fn generate(&self, tape: &Tape, weights: &Weights, draw: &gan::Draw) -> Result<gan::Generated> {
        let _ = (tape, weights, draw);
        Err(Error::internal("this architecture generates nothing"))
    }
}

/// Rows of one shard of a network over event sequences: one chunk of the recurrent layers.
pub(super) const SEQUENCE_SHARD: usize = 16;
/// Rows, counted for each ensemble member, of one shard of a network over tabular features.
pub(super) const TABULAR_SHARD: usize = 128;

/// The module of a configuration.
///
/// # Errors
/// `InvalidParameter` when the architecture cannot read the configured inputs.
pub fn module(config: &NetworkConfig) -> Result<Box<dyn Module>> {
    let shape = &config.shape;
    let features = shape.numeric + shape.categorical.len() + shape.texts.len();
    let (cnn, has_sequence) = (config.architecture == Architecture::Cnn, shape.sequence.is_some());
    let instead = cnn && (shape.image.is_some() || !shape.texts.is_empty());
    if config.architecture.is_sequential() && !has_sequence && !instead {
        return Err(Error::invalid(format!("architecture \"{}\" needs an event sequence", config.architecture))
            .detail("The source has one row per entity.")
            .hint("Use arch => 'dnn', 'logreg' or 'auto'."));
    }
    if !config.architecture.is_sequential() && features == 0 && !(config.architecture == Architecture::Gan && shape.image.is_some()) {
        return Err(Error::invalid(format!("architecture \"{}\" needs at least one feature", config.architecture)));
    }
    if config.outputs == 0 || config.hidden_dim == 0 || config.layers == 0 || config.members == 0 || config.embedding_dim == 0 {
        return Err(Error::invalid("hidden_dim, layers and embedding_dim must be at least 1"));
    }
    if config.architecture == Architecture::Mf && config.catalogue.is_none() {
        return Err(Error::invalid(format!("architecture \"{}\" needs events with items", config.architecture))
            .hint("Use target => 'next_item', and do not exclude seq_item."));
    }
    Ok(match config.architecture {
        Architecture::Mf => Box::new(mf::Mf::new(config)),
        Architecture::TwoTower => Box::new(two_tower::TwoTower::new(config)),
        Architecture::Logreg => Box::new(logreg::Logreg::new(config)),
        Architecture::Dnn => Box::new(dnn::Dnn::new(config)),
        Architecture::Transformer => Box::new(transformer::Transformer::new(config)),
        Architecture::WideDeep => Box::new(wide_deep::WideDeep::new(config)?),
        // The sequence comes first, then the picture; the other inputs stand beside it.
        Architecture::Cnn if has_sequence => Box::new(cnn::Cnn::new(config)),
        Architecture::Cnn if shape.image.is_some() => Box::new(image_cnn::ImageCnn::new(config)?),
        Architecture::Cnn => Box::new(fused::Fused::new(config)),
        Architecture::Gru | Architecture::Lstm | Architecture::Rnn => Box::new(recurrent::Recurrent::new(config)),
        Architecture::Autoencoder => Box::new(autoencoder::Autoencoder::new(config)),
        Architecture::Gan => Box::new(gan::Generator::new(config)),
    })
}

/// The parameters of a configuration.
///
/// # Errors
/// As [`module`].
pub fn specs(config: &NetworkConfig) -> Result<Vec<ParameterSpec>> {
    Ok(module(config)?.specs())
}

/// A network for scoring: no graph, weights shared read-only, callable from many threads.
///
/// # Errors
/// `DataCorrupted` when a parameter is missing or has another shape than the configuration says.
pub fn load(config: &NetworkConfig, parameters: &Parameters) -> Result<Box<dyn Network>> {
    let module = module(config)?;
    let tape = Tape::silent();
    let mut weights = Weights::default();
    for spec in module.specs() {
        let found =
            parameters.0.get(&spec.name).filter(|(shape, values)| *shape == spec.shape && values.len() == shape.iter().product::<usize>());
        let (shape, values) = found.ok_or_else(|| {
            Error::new(Code::DataCorrupted, "model weights do not fit the model's configuration")
                .detail(format!("Parameter \"{}\" of shape {:?} is missing or has another shape.", spec.name, spec.shape))
        })?;
        let tensor: Tensor = ops::storage::tensor(values.clone(), shape)?;
        weights.insert(spec.name, tape.constant(&tensor)?);
    }
    let (count, bytes) = (parameters.count(), parameters.bytes());
    Ok(Box::new(Loaded { config: config.clone(), module, weights, count, bytes }))
}

/// A network for scoring with [`Compressed`] weights.
///
/// # Errors
/// `DataCorrupted` when they do not fit the configuration.
pub fn load_compressed(config: &NetworkConfig, compressed: &Compressed) -> Result<Box<dyn Network>> {
    let (weights, bytes) = compressed.weights(config)?;
    Ok(Box::new(Loaded { config: config.clone(), module: module(config)?, weights, count: compressed.count(), bytes }))
}

/// A network for scoring from the bytes of a weights file, compressed or not.
///
/// # Errors
/// `DataCorrupted` when the bytes are damaged or do not fit the configuration.
pub fn load_bytes(config: &NetworkConfig, bytes: &[u8]) -> Result<Box<dyn Network>> {
    if compressed::is_compressed(bytes) {
        return load_compressed(config, &Compressed::from_safetensors(config, bytes)?);
    }
    load(config, &Parameters::from_safetensors(bytes)?)
}

/// The weights of such a file as floats.
///
/// # Errors
/// As [`load_bytes`].
pub fn parameters_of(config: &NetworkConfig, bytes: &[u8]) -> Result<Parameters> {
    if compressed::is_compressed(bytes) {
        return Ok(Compressed::from_safetensors(config, bytes)?.parameters());
    }
    Parameters::from_safetensors(bytes)
}

#[derive(Debug)]
struct Loaded {
    config: NetworkConfig,
    module: Box<dyn Module>,
    weights: Weights,
    count: usize,
    bytes: usize,
}

impl Network for Loaded {
    fn forward(&self, batch: &Batch) -> Result<Outputs> {
        outputs(&self.config, &*self.module, &self.weights, batch, true)
    }

    fn has_kernels(&self) -> bool {
        choose::supports(&self.config) && self.weights.iter().all(|(_, var)| var.eight().is_none())
    }

    fn on_device(self: Arc<Self>, device: &Arc<Device>) -> Option<Result<Arc<dyn Network>>> {
        if !self.has_kernels() {
            return None;
        }
        let parameters = || {
            let mut parameters = Parameters::default();
            for (name, var) in self.weights.iter() {
                parameters.0.insert(name.to_owned(), (var.dims().to_vec(), ops::storage::to_vec::<f32>(var.value())?));
            }
            Ok(parameters)
        };
        let host: Arc<dyn Network> = Arc::clone(&self) as Arc<dyn Network>;
        let made = parameters().and_then(|parameters| DeviceNetwork::new(host, module(&self.config)?, &parameters, device));
        Some(made.map(|network| Arc::new(network) as Arc<dyn Network>))
    }

    fn parameter_count(&self) -> usize {
        self.count
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn embedding_dim(&self) -> usize {
        self.module.embedding_dim()
    }

    fn config(&self) -> &NetworkConfig {
        &self.config
    }

    fn embed(&self, batch: &Batch) -> Result<Vec<f32>> {
        if batch.rows == 0 || !self.module.has_items() {
            return Ok(self.forward(batch)?.embedding);
        }
        match self.module.states(&Tape::silent(), &self.weights, batch)? {
            Some(states) => ops::storage::to_vec::<f32>(states.value()),
            None => Ok(self.forward(batch)?.embedding),
        }
    }

    fn items(&self) -> Result<Option<ItemTable>> {
        if !self.module.has_items() {
            return Ok(None);
        }
        let ids: Arc<[u32]> = (0..self.config.outputs as u32).collect();
        let (vectors, biases) = self.module.items(&Tape::silent(), &self.weights, &ids)?;
        let dim = vectors.dims2()?.1;
        let biases = biases.map(|biases| ops::storage::to_vec::<f32>(biases.value())).transpose()?.unwrap_or_default();
        Ok(Some(ItemTable { vectors: ops::storage::to_vec::<f32>(vectors.value())?, biases, dim }))
    }

    fn contributions(&self, batch: &Batch, classes: &[u32]) -> Result<Option<Vec<f32>>> {
        self.module.contributions(&self.weights, batch, classes)
    }

    fn generate(&self, draw: &gan::Draw) -> Result<Vec<f32>> {
        let generated = self.module.generate(&Tape::silent(), &self.weights, draw)?;
        ops::storage::to_vec::<f32>(generated.rows.value())
    }
}

/// A pass that records nothing; ensemble members are averaged: probabilities for classes, values for numbers.
pub(crate) fn outputs(
    config: &NetworkConfig,
    module: &dyn Module,
    weights: &Weights,
    batch: &Batch,
    want_embedding: bool,
) -> Result<Outputs> {
    if batch.rows <= module.shard_rows() {
        return shard_outputs(config, module, weights, batch, want_embedding);
    }
    let shards: Vec<_> = step::shards(batch.rows, module.shard_rows()).collect();
    let parts = parallel::map(shards.len(), |at| {
        shard_outputs(config, module, weights, &batch.part(&config.shape, shards[at].clone()), want_embedding)
    });
    let mut all = Outputs::default();
    for part in parts {
        let part = part?;
        all.logits.extend_from_slice(&part.logits);
        all.embedding.extend_from_slice(&part.embedding);
    }
    Ok(all)
}

fn shard_outputs(config: &NetworkConfig, module: &dyn Module, weights: &Weights, batch: &Batch, want_embedding: bool) -> Result<Outputs> {
    tape_outputs(&Tape::silent(), config, module, weights, batch, want_embedding)
}

/// A pass on `tape`, wherever that computes.
pub(super) fn tape_outputs(
    tape: &Tape,
    config: &NetworkConfig,
    module: &dyn Module,
    weights: &Weights,
    batch: &Batch,
    want_embedding: bool,
) -> Result<Outputs> {
    if batch.rows == 0 {
        return Ok(Outputs::default());
    }
    let forward = module.forward(tape, weights, batch, want_embedding)?;
    let logits = tape.read(&forward.logits)?;
    let logits = match (forward.members, config.task) {
        (1, _) => logits,
        (members, Task::Classification) => mean_probabilities(&logits, members, config.outputs),
        (members, Task::Regression) => logits.chunks_exact(members).map(|group| group.iter().sum::<f32>() / members as f32).collect(),
    };
    let embedding = forward.embedding.map(|embedding| tape.read(&embedding)).transpose()?.unwrap_or_default();
    Ok(Outputs { logits, embedding })
}

/// The logarithm of the members' mean probabilities: again logits.
pub(super) fn mean_probabilities(logits: &[f32], members: usize, classes: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(logits.len() / members);
    let mut mean = vec![0f64; classes];
    for group in logits.chunks_exact(members * classes) {
        mean.fill(0.0);
        for member in group.chunks_exact(classes) {
            let largest = f64::from(member.iter().copied().fold(f32::NEG_INFINITY, f32::max));
            let sum: f64 = member.iter().map(|x| (f64::from(*x) - largest).exp()).sum();
            mean.iter_mut().zip(member).for_each(|(mean, x)| *mean += (f64::from(*x) - largest).exp() / sum);
        }
        out.extend(mean.iter().map(|mean| (mean / members as f64).max(1e-30).ln() as f32));
    }
    out
}

/// Ids shared with an operator.
pub(super) fn shared(ids: &[u32]) -> Arc<[u32]> {
    Arc::from(ids)
}
