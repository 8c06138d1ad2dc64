//! Networks: configuration in, logits out. Candle only; one architecture = one file; the operators with their
//! gradients live in `ops` and are the only code that calls candle's.
//!
//! Absent on purpose: Arrow, SQL, files, users. A network sees a [`Batch`] of numbers.

pub mod batch;
pub mod ops;

pub use batch::Batch;

/// Which architecture, with its hyper-parameters; stored in a version's manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
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
}
