//! Where all networks over sequences, pictures and texts end: what they came to, next to what the other inputs of the same
//! moment came to in their [branches](super::branches), goes through one dense layer to the outputs.
//!
//! Parameter names: those of [`super::branches`], `head.{weight, bias}` and `output.{weight, bias}`.

use super::architecture::{Forward, ParameterSpec, Weights};
use super::branches::{Branches, Said};
use super::ops::{self, Activation, BatchStatistics, Tape, Var};
use super::{Batch, NetworkConfig, Parameters};
use crate::error::Result;
use crate::features::inputs::Inputs;

/// Activations, and what a batch said of the channels of its normalisations.
type Joined = (Var, Vec<(String, BatchStatistics)>);

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Head {
    branches: Branches,
    state_dim: usize,
    hidden_dim: usize,
    outputs: usize,
    dropout: f32,
}

impl Head {
    /// From a configuration, for states as wide as its hidden layers.
    pub(super) fn new(config: &NetworkConfig) -> Self {
        Self::of_states(config, config.hidden_dim)
    }

    /// For states of width `state_dim`; 0 = there is none.
    pub(super) fn of_states(config: &NetworkConfig, state_dim: usize) -> Self {
        Self::with(config, Branches::new(config, false), state_dim)
    }

    /// For a network that reads the picture itself.
    pub(super) fn of_pictures(config: &NetworkConfig) -> Self {
        Self::with(config, Branches::new(config, true), config.hidden_dim)
    }

    fn with(config: &NetworkConfig, branches: Branches, state_dim: usize) -> Self {
        Self { branches, state_dim, hidden_dim: config.hidden_dim, outputs: config.outputs, dropout: config.dropout }
    }

    pub(super) fn specs(&self) -> Vec<ParameterSpec> {
        let mut specs = self.branches.specs();
        let hidden = self.hidden_dim;
        let joined = self.state_dim + self.branches.count() * hidden;
        specs.push(ParameterSpec::matrix("head.weight", &[hidden, joined], joined));
        specs.push(ParameterSpec::free("head.bias", &[hidden], joined));
        specs.push(ParameterSpec::matrix("output.weight", &[self.outputs, hidden], hidden));
        specs.push(ParameterSpec::free("output.bias", &[self.outputs], hidden));
        specs
    }

    pub(super) fn prepare(&self, inputs: &Inputs, rows: &[u32], parameters: &mut Parameters) {
        self.branches.prepare(inputs, rows, parameters);
    }

    /// `state [rows, state_dim]` → logits `[rows, outputs]`.
    pub(super) fn forward(&self, tape: &Tape, weights: &Weights, batch: &Batch, state: Var, want_embedding: bool) -> Result<Forward> {
        self.answer(tape, weights, self.join(tape, weights, batch, vec![state])?, want_embedding)
    }

    /// The same without a state.
    pub(super) fn forward_branches(&self, tape: &Tape, weights: &Weights, batch: &Batch, want_embedding: bool) -> Result<Forward> {
        self.answer(tape, weights, self.join(tape, weights, batch, Vec::new())?, want_embedding)
    }

    /// `state [rows, state_dim]` → its activations `[rows, hidden_dim]`, which the output layer reads.
    pub(super) fn hidden(&self, tape: &Tape, weights: &Weights, batch: &Batch, state: Var) -> Result<Var> {
        Ok(self.join(tape, weights, batch, vec![state])?.0)
    }

    /// The activations as the output layer sees them in training, for losses that look at some of the outputs only.
    pub(super) fn states(&self, tape: &Tape, weights: &Weights, batch: &Batch, state: Var) -> Result<Option<Var>> {
        ops::dropout(tape, &self.hidden(tape, weights, batch, state)?, self.dropout).map(Some)
    }

    /// The activations, and what a batch said of the branches' channels.
    fn join(&self, tape: &Tape, weights: &Weights, batch: &Batch, mut states: Vec<Var>) -> Result<Joined> {
        let Said { parts, statistics } = self.branches.forward(tape, weights, batch)?;
        states.extend(parts);
        let joined = ops::dropout(tape, &ops::concat(tape, &states)?, self.dropout)?;
        let head = ops::linear(tape, &joined, weights.get("head.weight")?, Some(weights.get("head.bias")?), Activation::Relu)?;
        Ok((head, statistics))
    }

    fn answer(&self, tape: &Tape, weights: &Weights, (head, statistics): Joined, want_embedding: bool) -> Result<Forward> {
        let dropped = ops::dropout(tape, &head, self.dropout)?;
        let logits = ops::linear(tape, &dropped, weights.get("output.weight")?, Some(weights.get("output.bias")?), Activation::Identity)?;
        Ok(Forward { logits, members: 1, embedding: want_embedding.then_some(head), statistics })
    }

    /// The width of its activations, which are the embedding.
    pub(super) fn embedding_dim(&self) -> usize {
        self.hidden_dim
    }

    /// Rows of one shard: `most`, unless a branch needs the whole batch.
    pub(super) fn shard_rows(&self, most: usize) -> usize {
        if self.branches.normalise_batches() { usize::MAX } else { most }
    }
}
