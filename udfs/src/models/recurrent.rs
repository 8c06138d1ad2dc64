//! What rnn, gru and lstm share: event embeddings → recurrent layers → the state after the last event → the
//! [head](super::head).
//!
//! Parameter names: those of [`super::events`], the cell's own (see [`super::rnn`], [`super::gru`], [`super::lstm`]) and
//! those of [`super::head`].

use std::sync::Arc;

use super::architecture::{Forward, Module, ParameterSpec, SEQUENCE_SHARD, Weights};
use super::events::EventEmbedding;
use super::head::Head;
use super::ops::{self, Packing, RecurrentWeights, Tape, Var};
use super::{Architecture, Batch, NetworkConfig, Parameters, gru, lstm, rnn};
use crate::error::Result;
use crate::features::inputs::Inputs;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Recurrent {
    cell: Architecture,
    events: EventEmbedding,
    head: Head,
    hidden_dim: usize,
    layers: usize,
    dropout: f32,
}

impl Recurrent {
    /// From a configuration whose shape has a sequence.
    pub(super) fn new(config: &NetworkConfig) -> Self {
        Self {
            cell: config.architecture,
            events: EventEmbedding::new(config),
            head: Head::new(config),
            hidden_dim: config.hidden_dim,
            layers: config.layers,
            dropout: config.dropout,
        }
    }

    fn gates(&self) -> usize {
        match self.cell {
            Architecture::Lstm => lstm::GATES,
            Architecture::Rnn => rnn::GATES,
            _ => gru::GATES,
        }
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
            Architecture::Rnn => rnn::layer(tape, x, packing, &own),
            _ => gru::layer(tape, x, packing, &own),
        }
    }

    /// The state after each row's last event.
    fn state(&self, tape: &Tape, weights: &Weights, batch: &Batch) -> Result<Var> {
        let packing = Arc::new(EventEmbedding::packing(batch)?);
        let mut x = self.events.forward(tape, weights, batch, &packing)?;
        for layer in 0..self.layers {
            if layer > 0 {
                x = ops::dropout(tape, &x, self.dropout)?;
            }
            x = self.layer(tape, &x, &packing, weights, layer)?;
        }
        ops::last_step(tape, &x, &packing)
    }
}

impl Module for Recurrent {
    fn specs(&self) -> Vec<ParameterSpec> {
        let mut specs = self.events.specs();
        let (hidden, rows) = (self.hidden_dim, self.gates() * self.hidden_dim);
        for layer in 0..self.layers {
            let inputs = if layer == 0 { self.events.width() } else { hidden };
            let name = |part: &str| format!("{}.{part}_l{layer}", self.cell);
            specs.push(ParameterSpec::matrix(name("weight_ih"), &[rows, inputs], hidden));
            specs.push(ParameterSpec::matrix(name("weight_hh"), &[rows, hidden], hidden));
            specs.push(ParameterSpec::free(name("bias_ih"), &[rows], hidden));
            specs.push(ParameterSpec::free(name("bias_hh"), &[rows], hidden));
        }
        specs.extend(self.head.specs());
        specs
    }

    fn prepare(&self, inputs: &Inputs, rows: &[u32], parameters: &mut Parameters) {
        self.head.prepare(inputs, rows, parameters);
    }

    fn forward(&self, tape: &Tape, weights: &Weights, batch: &Batch, want_embedding: bool) -> Result<Forward> {
        let state = self.state(tape, weights, batch)?;
        self.head.forward(tape, weights, batch, state, want_embedding)
    }

    fn states(&self, tape: &Tape, weights: &Weights, batch: &Batch) -> Result<Option<Var>> {
        let state = self.state(tape, weights, batch)?;
        self.head.states(tape, weights, batch, state)
    }

    fn has_items(&self) -> bool {
        true
    }

    fn embedding_dim(&self) -> usize {
        self.head.embedding_dim()
    }

    fn shard_rows(&self) -> usize {
        SEQUENCE_SHARD
    }
}
