//! Networks: configuration in, logits out. Candle only; one architecture = one file; the operators with their
//! gradients live in [`ops`] and are the only code that calls candle's.
//!
//! Life of a batch: [`Batch::gather`] copies some encoded rows → [`load`]ed [`Network`]s answer with [`Outputs`];
//! while training, [`step`] runs the same architecture code on recording [`ops::Tape`]s, shard by shard.
//!
//! Absent on purpose: Arrow, SQL, files, users, epochs. A network sees a [`Batch`] of numbers.

pub mod architecture;
pub mod autoencoder;
pub mod batch;
mod branches;
pub mod cnn;
pub mod compressed;
pub mod cuda;
pub mod dnn;
pub mod ensemble;
mod events;
mod fused;
pub mod gan;
pub mod gru;
mod head;
pub mod image_cnn;
pub mod logreg;
pub mod lstm;
pub mod mf;
pub mod ops;
pub mod parameters;
mod picture;
mod recurrent;
pub mod rnn;
pub mod step;
mod tabular;
#[cfg(test)]
mod tests;
mod text;
pub mod transformer;
pub mod two_tower;
pub mod variant;
pub mod wide_deep;

use serde::{Deserialize, Serialize};

pub use architecture::{Forward, Module, ParameterSpec, Weights, load, load_bytes, load_compressed, module, parameters_of, specs};
pub use batch::Batch;
/// What parameters and gradients are held in; only operators compute with it.
pub use candle_core::Tensor;
pub use compressed::{Compressed, Scheme};
pub use ensemble::{EnsembleConfig, load_any};
pub use parameters::Parameters;
pub use variant::{Numbers, TextModel, Variant};

use crate::error::Result;
use crate::features::inputs::InputShape;

/// Which architecture; stored in a version's manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// Linear model on numeric and one-hot features.
    Logreg,
    /// Feed-forward network on tabular features.
    Dnn,
    /// Gated recurrent units over the event sequence (Cho et al., 2014).
    Gru,
    /// Long short-term memory over the event sequence (Hochreiter & Schmidhuber, 1997).
    Lstm,
    /// Simple recurrent network over the event sequence (Elman, 1990).
    Rnn,
    /// Causal self-attention over the event sequence (Vaswani et al., 2017; Kang & McAuley, 2018).
    Transformer,
    /// Convolutions over a picture, over the event sequence, or over a text (Kim, 2014).
    Cnn,
    /// Matrix factorisation of implicit feedback (Hu, Koren & Volinsky, 2008).
    Mf,
    /// A user tower against an item tower (Covington et al., 2016; Yi et al., 2019).
    TwoTower,
    /// Rows through a narrow middle and back (Vincent et al., 2008): learns without labels.
    Autoencoder,
    /// A generator of rows or pictures and its critic (Goodfellow et al., 2014): learns without labels.
    Gan,
    /// A linear model of categories and their crosses beside a dnn (Cheng et al., 2016).
    WideDeep,
}

impl Architecture {
    /// Every architecture. New ones come last: the place seeds an architecture's random numbers.
    pub const ALL: [Self; 12] = [
        Self::Logreg,
        Self::Dnn,
        Self::Gru,
        Self::Lstm,
        Self::Rnn,
        Self::Transformer,
        Self::Cnn,
        Self::Mf,
        Self::TwoTower,
        Self::Autoencoder,
        Self::Gan,
        Self::WideDeep,
    ];

    /// The name used in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Self::Logreg => "logreg",
            Self::Dnn => "dnn",
            Self::Gru => "gru",
            Self::Lstm => "lstm",
            Self::Rnn => "rnn",
            Self::Transformer => "transformer",
            Self::Cnn => "cnn",
            Self::Mf => "mf",
            Self::TwoTower => "two_tower",
            Self::Autoencoder => "autoencoder",
            Self::Gan => "gan",
            Self::WideDeep => "wide_deep",
        }
    }

    /// Finds an architecture by its SQL name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|architecture| architecture.name() == name)
    }

    /// Whether it reads the event sequence.
    pub fn is_sequential(self) -> bool {
        match self {
            Self::Gru | Self::Lstm | Self::Rnn | Self::Transformer | Self::Cnn | Self::Mf | Self::TwoTower => true,
            Self::Logreg | Self::Dnn | Self::Autoencoder | Self::Gan | Self::WideDeep => false,
        }
    }

    /// Whether it is made for choosing among items, and learns nothing else.
    pub const fn is_retrieval(self) -> bool {
        matches!(self, Self::Mf | Self::TwoTower)
    }

    /// Whether it predicts labels; the others learn what rows look like.
    pub const fn is_supervised(self) -> bool {
        !matches!(self, Self::Autoencoder | Self::Gan)
    }
}

impl std::fmt::Display for Architecture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What a network predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// One of several classes.
    Classification,
    /// A number.
    Regression,
}

/// Everything that determines a network's shape; with its [`Parameters`] it is the whole model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NetworkConfig {
    /// Which architecture.
    pub architecture: Architecture,
    /// What it reads.
    pub shape: InputShape,
    /// Number of classes, or 1 for regression.
    pub outputs: usize,
    /// What it predicts.
    pub task: Task,
    /// Width of the hidden layers (state of an event, dense blocks, maps of each width of the cnn, or of its first stage over
    /// pictures).
    pub hidden_dim: usize,
    /// Recurrent or attention layers, dense layers of the dnn and the cnn, or residual blocks of a stage over pictures.
    pub layers: usize,
    /// Largest width of a learned embedding of a category or token; smaller vocabularies get narrower ones.
    pub embedding_dim: usize,
    /// Share of hidden units silenced while training.
    pub dropout: f32,
    /// Ensemble members that share one set of dense weights (dnn).
    pub members: usize,
    /// Most bins of a piecewise-linear numeric embedding (dnn); 0 = numbers enter as they are.
    pub bins: usize,
    /// Width of a numeric embedding (dnn).
    pub numeric_embedding_dim: usize,
    /// What only some architectures or inputs ask.
    #[serde(default, skip_serializing_if = "Variant::is_usual")]
    pub variant: Variant,
    /// Where events say which item they are about, when the classes are items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalogue: Option<CatalogueShape>,
}

/// Where the steps of a sequence say which item an event is about, and what the item is like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CatalogueShape {
    /// The token field of the item.
    pub item_field: usize,
    /// The token field of its category.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category_field: Option<usize>,
    /// The number of a step that holds its price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_number: Option<usize>,
}

/// The items that a network chooses among: a row's logits are `embedding · vectorsᵀ + biases`.
#[derive(Debug, Clone)]
pub struct ItemTable {
    /// `[classes, dim]`, row-major.
    pub vectors: Vec<f32>,
    /// `[classes]`; empty = none.
    pub biases: Vec<f32>,
    /// Width of a vector, and of the embedding.
    pub dim: usize,
}

/// What a network answers for a batch.
#[derive(Debug, Clone, Default)]
pub struct Outputs {
    /// `[rows, outputs]`, row-major, before softmax; regression: the standardised value.
    pub logits: Vec<f32>,
    /// `[rows, embedding_dim]`, row-major, not normalised.
    pub embedding: Vec<f32>,
}

/// A trained network, ready to answer. No graph; weights are shared read-only; callable from many threads.
///
/// It computes on the calling thread, or on the calling thread's own rayon pool when there is one, and answers
/// the same bytes either way.
pub trait Network: Send + Sync + std::fmt::Debug {
    /// Logits and embeddings of a batch, in its row order.
    ///
    /// # Errors
    /// `Internal` when the batch does not have the shape of the network.
    fn forward(&self, batch: &Batch) -> Result<Outputs>;

    /// Whether a device could compute it: every operator has kernels, and weights are floats.
    fn has_kernels(&self) -> bool {
        false
    }

    /// The same network with its weights on `device`; `None` when it can only run on the host.
    fn on_device(self: std::sync::Arc<Self>, _device: &std::sync::Arc<cuda::Device>) -> Option<Result<std::sync::Arc<dyn Network>>> {
        None
    }

    /// Numbers learned.
    fn parameter_count(&self) -> usize;

    /// Bytes of memory it holds, for a cache limited by bytes.
    fn bytes(&self) -> usize;

    /// Width of the embedding it answers with.
    fn embedding_dim(&self) -> usize;

    /// Its configuration.
    fn config(&self) -> &NetworkConfig;

    /// Embeddings alone, `[rows, embedding_dim]`; cheaper than [`forward`](Self::forward) where there are many classes.
    ///
    /// # Errors
    /// As there.
    fn embed(&self, batch: &Batch) -> Result<Vec<f32>> {
        Ok(self.forward(batch)?.embedding)
    }

    /// The vectors of its classes, where the logits are inner products of the embedding with them.
    ///
    /// # Errors
    /// `Internal` for a bug of ours.
    fn items(&self) -> Result<Option<ItemTable>> {
        Ok(None)
    }

    /// How much each step of each row of a batch adds to the logits of some classes: `classes [rows, k]` →
    /// `[rows, k, seq_len]`. `None` where a logit is no sum over steps.
    ///
    /// # Errors
    /// `Internal` when the batch does not have the shape of the network.
    fn contributions(&self, _batch: &Batch, _classes: &[u32]) -> Result<Option<Vec<f32>>> {
        Ok(None)
    }

    /// Rows or pictures made from noise, row-major as the architecture says.
    ///
    /// # Errors
    /// `Internal` when it is no generator, or the noise does not have its shape.
    fn generate(&self, draw: &gan::Draw) -> Result<Vec<f32>> {
        let _ = draw;
        Err(crate::error::Error::internal("this network generates nothing"))
    }
}
