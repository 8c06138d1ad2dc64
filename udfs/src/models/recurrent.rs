//! What gru and lstm share: token embeddings → recurrent layers → the state after the last event, next to the tabular
//! features of the same moment → a dense head.
//!
//! Parameter names: `tokens.<field>.weight`, the cell's own (see [`super::gru`], [`super::lstm`]), `tabular.{weight,
//! bias}`, `head.{weight, bias}`, `output.{weight, bias}`.

use std::sync::Arc;

use super::architecture::{Forward, Module, ParameterSpec, Weights, shared};
use super::ops::{self, Activation, Packing, Pooling, RecurrentWeights, Tape, Var};
use super::tabular::{TabularEmbedding, embedding_width, soft_clip};
use super::{Architecture, Batch, NetworkConfig, Parameters, gru, lstm};
use crate::error::{Error, Result};
use crate::features::inputs::{Inputs, SequenceShape};

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Recurrent {
    cell: Architecture,
    sequence: SequenceShape,
    tabular: TabularEmbedding,
    hidden_dim: usize,
    layers: usize,
    outputs: usize,
    embedding_dim: usize,
    dropout: f32,
}

impl Recurrent {
    /// From a configuration whose shape has a sequence.
    pub(super) fn new(config: &NetworkConfig) -> Self {
        Self {
            cell: config.architecture,
            sequence: config.shape.sequence.clone().unwrap_or_default(),
            tabular: TabularEmbedding::new(config),
            hidden_dim: config.hidden_dim,
            layers: config.layers,
            outputs: config.outputs,
            embedding_dim: config.embedding_dim,
            dropout: config.dropout,
        }
    }

    fn gates(&self) -> usize {
        if self.cell == Architecture::Lstm { lstm::GATES } else { gru::GATES }
    }

    fn step_width(&self) -> usize {
        self.sequence.fields.iter().map(|vocabulary| embedding_width(*vocabulary, self.embedding_dim)).sum::<usize>()
            + self.sequence.numeric
    }

    /// Every step as one vector, packed: `[steps, step_width]`.
    fn steps(&self, tape: &Tape, weights: &Weights, batch: &Batch, packing: &Packing) -> Result<Var> {
        let mut parts = Vec::with_capacity(2);
        let fields = self.sequence.fields.len();
        if fields > 0 {
            let tables: Vec<Var> = (0..fields).map(|i| weights.get(&format!("tokens.{i}.weight")).cloned()).collect::<Result<_>>()?;
            let ids = shared(&packing.pack(&batch.tokens, batch.seq_len, fields));
            parts.push(ops::embed(tape, &tables, &ids, Pooling::Concat)?);
        }
        let numeric = self.sequence.numeric;
        if numeric > 0 {
            let mut values = packing.pack(&batch.step_numeric, batch.seq_len, numeric);
            values.iter_mut().for_each(|value| *value = soft_clip(*value));
            parts.push(tape.constant(&ops::storage::tensor::<f32>(values, &[packing.steps(), numeric])?)?);
        }
        ops::concat(tape, &parts)
    }

    fn layer(&self, tape: &Tape, x: &Var, packing: &Arc<Packing>, weights: &Weights, layer: usize) -> Result<Var> {
        let get = |part: &str| weights.get(&format!("{}.{part}_l{layer}", self.cell));
        let own = RecurrentWeights {
            weight_ih: get("weight_ih")?,
            weight_hh: get("weight_hh")?,
            bias_ih: get("bias_ih")?,
            bias_hh: get("bias_hh")?,
        };
        match self.cell {
            Architecture::Lstm => lstm::layer(tape, x, packing, &own),
            _ => gru::layer(tape, x, packing, &own),
        }
    }
}

impl Module for Recurrent {
    fn specs(&self) -> Vec<ParameterSpec> {
        let mut specs = self.tabular.specs();
        let (hidden, rows) = (self.hidden_dim, self.gates() * self.hidden_dim);
        for (field, vocabulary) in self.sequence.fields.iter().enumerate() {
            let width = embedding_width(*vocabulary, self.embedding_dim);
            specs.push(ParameterSpec::free(format!("tokens.{field}.weight"), &[*vocabulary, width], width));
        }
        for layer in 0..self.layers {
            let inputs = if layer == 0 { self.step_width() } else { hidden };
            let name = |part: &str| format!("{}.{part}_l{layer}", self.cell);
            specs.push(ParameterSpec::matrix(name("weight_ih"), &[rows, inputs], hidden));
            specs.push(ParameterSpec::matrix(name("weight_hh"), &[rows, hidden], hidden));
            specs.push(ParameterSpec::free(name("bias_ih"), &[rows], hidden));
            specs.push(ParameterSpec::free(name("bias_hh"), &[rows], hidden));
        }
        let tabular = self.tabular.width();
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

    fn prepare(&self, inputs: &Inputs, rows: &[u32], parameters: &mut Parameters) {
        self.tabular.prepare(inputs, rows, parameters);
    }

    fn forward(&self, tape: &Tape, weights: &Weights, batch: &Batch, want_embedding: bool) -> Result<Forward> {
        if batch.lengths.len() != batch.rows {
            return Err(Error::internal("recurrent network: the batch has no sequences"));
        }
        let packing = Arc::new(Packing::new(&batch.lengths));
        let mut x = self.steps(tape, weights, batch, &packing)?;
        for layer in 0..self.layers {
            if layer > 0 {
                x = ops::dropout(tape, &x, self.dropout)?;
            }
            x = self.layer(tape, &x, &packing, weights, layer)?;
        }
        let mut parts = vec![ops::last_step(tape, &x, &packing)?];
        if let Some(tabular) = self.tabular.forward(tape, weights, batch)? {
            let (weight, bias) = (weights.get("tabular.weight")?, weights.get("tabular.bias")?);
            parts.push(ops::linear(tape, &tabular, weight, Some(bias), Activation::Relu)?);
        }
        let joined = ops::dropout(tape, &ops::concat(tape, &parts)?, self.dropout)?;
        let head = ops::linear(tape, &joined, weights.get("head.weight")?, Some(weights.get("head.bias")?), Activation::Relu)?;
        let dropped = ops::dropout(tape, &head, self.dropout)?;
        let logits = ops::linear(tape, &dropped, weights.get("output.weight")?, Some(weights.get("output.bias")?), Activation::Identity)?;
        Ok(Forward { logits, members: 1, embedding: want_embedding.then_some(head) })
    }

    /// The head's activations.
    fn embedding_dim(&self) -> usize {
        self.hidden_dim
    }
}
