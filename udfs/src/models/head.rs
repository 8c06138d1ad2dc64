//! Where all networks over sequences and pictures end: what they came to, next to the tabular features of the same moment,
//! goes through one dense layer to the outputs.
//!
//! Parameter names: `tabular.{weight, bias}`, `head.{weight, bias}`, `output.{weight, bias}`, and those of
//! [`super::tabular`].

use super::architecture::{Forward, ParameterSpec, Weights};
use super::ops::{self, Activation, Tape, Var};
use super::tabular::TabularEmbedding;
use super::{Batch, NetworkConfig, Parameters};
use crate::error::Result;
use crate::features::inputs::Inputs;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Head {
    tabular: TabularEmbedding,
    hidden_dim: usize,
    outputs: usize,
    dropout: f32,
}

impl Head {
    /// From a configuration.
    pub(super) fn new(config: &NetworkConfig) -> Self {
        Self { tabular: TabularEmbedding::new(config), hidden_dim: config.hidden_dim, outputs: config.outputs, dropout: config.dropout }
    }

    /// For states of width `hidden_dim`.
    pub(super) fn specs(&self) -> Vec<ParameterSpec> {
        let mut specs = self.tabular.specs();
        let (hidden, tabular) = (self.hidden_dim, self.tabular.width());
        if tabular > 0 {
            specs.push(ParameterSpec::matrix("tabular.weight", &[hidden, tabular], tabular));
            specs.push(ParameterSpec::free("tabular.bias", &[hidden], tabular));
        }
        let joined = if tabular > 0 { 2 * hidden } else { hidden };
        specs.push(ParameterSpec::matrix("head.weight", &[hidden, joined], joined));
        specs.push(ParameterSpec::free("head.bias", &[hidden], joined));
        specs.push(ParameterSpec::matrix("output.weight", &[self.outputs, hidden], hidden));
        specs.push(ParameterSpec::free("output.bias", &[self.outputs], hidden));
        specs
    }

    pub(super) fn prepare(&self, inputs: &Inputs, rows: &[u32], parameters: &mut Parameters) {
        self.tabular.prepare(inputs, rows, parameters);
    }

    /// `state [rows, hidden_dim]` → its activations `[rows, hidden_dim]`, which the output layer reads.
    pub(super) fn hidden(&self, tape: &Tape, weights: &Weights, batch: &Batch, state: Var) -> Result<Var> {
        let mut parts = vec![state];
        if let Some(tabular) = self.tabular.forward(tape, weights, batch)? {
            let (weight, bias) = (weights.get("tabular.weight")?, weights.get("tabular.bias")?);
            parts.push(ops::linear(tape, &tabular, weight, Some(bias), Activation::Relu)?);
        }
        let joined = ops::dropout(tape, &ops::concat(tape, &parts)?, self.dropout)?;
        ops::linear(tape, &joined, weights.get("head.weight")?, Some(weights.get("head.bias")?), Activation::Relu)
    }

    /// The activations as the output layer sees them in training, for losses that look at some of the outputs only.
    pub(super) fn states(&self, tape: &Tape, weights: &Weights, batch: &Batch, state: Var) -> Result<Option<Var>> {
        ops::dropout(tape, &self.hidden(tape, weights, batch, state)?, self.dropout).map(Some)
    }

    /// `state [rows, hidden_dim]` → logits `[rows, outputs]`.
    pub(super) fn forward(&self, tape: &Tape, weights: &Weights, batch: &Batch, state: Var, want_embedding: bool) -> Result<Forward> {
        let head = self.hidden(tape, weights, batch, state)?;
        let dropped = ops::dropout(tape, &head, self.dropout)?;
        let logits = ops::linear(tape, &dropped, weights.get("output.weight")?, Some(weights.get("output.bias")?), Activation::Identity)?;
        Ok(Forward { logits, members: 1, embedding: want_embedding.then_some(head), statistics: Vec::new() })
    }

    /// The width of its activations, which are the embedding.
    pub(super) fn embedding_dim(&self) -> usize {
        self.hidden_dim
    }
}
