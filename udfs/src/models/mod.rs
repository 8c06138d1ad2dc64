//! Networks: configuration in, logits out. Candle only; one architecture = one file; the operators with their
//! gradients live in [`ops`] and are the only code that calls candle's.
//!
//! Life of a batch: [`Batch::gather`] copies some encoded rows → [`load`]ed [`Network`]s answer with [`Outputs`];
//! while training, [`step`] runs the same architecture code on recording [`ops::Tape`]s, shard by shard.
//!
//! Absent on purpose: Arrow, SQL, files, users, epochs. A network sees a [`Batch`] of numbers.

pub mod architecture;
pub mod batch;
pub mod cnn;
pub mod cuda;
pub mod dnn;
mod events;
pub mod gru;
mod head;
pub mod image_cnn;
pub mod logreg;
pub mod lstm;
pub mod ops;
pub mod parameters;
mod recurrent;
pub mod rnn;
pub mod step;
mod tabular;
#[cfg(test)]
mod tests;
pub mod transformer;

use serde::{Deserialize, Serialize};

pub use architecture::{Forward, Module, ParameterSpec, Weights, load, module, specs};
pub use batch::Batch;
/// What parameters and gradients are held in; only operators compute with it.
pub use candle_core::Tensor;
pub use parameters::Parameters;

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
    /// Convolutions over a picture, or over the event sequence (Kim, 2014).
    Cnn,
}

impl Architecture {
    /// Every architecture. New ones come last: the place seeds an architecture's random numbers.
    pub const ALL: [Self; 7] = [Self::Logreg, Self::Dnn, Self::Gru, Self::Lstm, Self::Rnn, Self::Transformer, Self::Cnn];

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
        }
    }

    /// Finds an architecture by its SQL name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|architecture| architecture.name() == name)
    }

    /// Whether it reads the event sequence.
    pub fn is_sequential(self) -> bool {
        match self {
            Self::Gru | Self::Lstm | Self::Rnn | Self::Transformer | Self::Cnn => true,
            Self::Logreg | Self::Dnn => false,
        }
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
}
