//! What rnn, gru and lstm share: event embeddings → recurrent layers → the states where they end → the
//! [head](super::head).
//!
//! With `bidirectional`, every layer also runs from a row's last event to its first, over the row's own length, and the next
//! layer reads both states of an event side by side (Schuster & Paliwal, 1997; as in PyTorch).
//!
//! Parameter names: those of [`super::events`], the cell's own (see [`super::rnn`], [`super::gru`], [`super::lstm`]; the
//! backward direction's end in `_reverse`, as PyTorch's do) and those of [`super::head`].

use std::sync::Arc;

use super::architecture::{Forward, Module, ParameterSpec, SEQUENCE_SHARD, Weights};
use super::events::EventEmbedding;
use super::head::Head;
use super::ops::{self, Activation, Packing, RecurrentWeights, Tape, Var};
use super::{Architecture, Batch, NetworkConfig, Parameters, gru, lstm, rnn};
use crate::error::Result;
use crate::features::inputs::Inputs;

/// What the names of the backward direction's parameters end in.
const REVERSE: &str = "_reverse";

/// A stack of recurrent layers.
#[derive(Debug, Clone)]
pub(super) struct Layers {
    pub(super) cell: Architecture,
    pub(super) activation: Activation,
    pub(super) inputs: usize,
    pub(super) hidden_dim: usize,
    pub(super) layers: usize,
    pub(super) bidirectional: bool,
    pub(super) dropout: f32,
}

/// The states of the last layer, packed: `[steps, hidden_dim]` each.
pub(super) struct States {
    forward: Var,
    /// In the order in which they were made: from a row's last event to its first.
    backward: Option<Var>,
}

impl States {
    /// Of every event, both directions side by side.
    pub(super) fn packed(&self, tape: &Tape, packing: &Packing) -> Result<Var> {
        let Some(backward) = &self.backward else { return Ok(self.forward.clone()) };
        ops::concat(tape, &[self.forward.clone(), ops::reverse_steps(tape, backward, packing)?])
    }

    /// Where each direction ends, side by side: `[rows, width]`.
    pub(super) fn last(&self, tape: &Tape, packing: &Arc<Packing>) -> Result<Var> {
        let ends: Vec<Var> = [Some(&self.forward), self.backward.as_ref()]
            .into_iter()
            .flatten()
            .map(|x| ops::last_step(tape, x, packing))
            .collect::<Result<_>>()?;
        ops::concat(tape, &ends)
    }
}

impl Layers {
    fn gates(&self) -> usize {
        match self.cell {
            Architecture::Lstm => lstm::GATES,
            Architecture::Rnn => rnn::GATES,
            _ => gru::GATES,
        }
    }

    /// Width of an event's states.
    pub(super) fn width(&self) -> usize {
        self.hidden_dim * self.directions().len()
    }

    /// What the parameter names of each direction end in.
    fn directions(&self) -> &'static [&'static str] {
        if self.bidirectional { &["", REVERSE] } else { &[""] }
    }

    pub(super) fn specs(&self) -> Vec<ParameterSpec> {
        let mut specs = Vec::new();
        let (hidden, rows) = (self.hidden_dim, self.gates() * self.hidden_dim);
        for layer in 0..self.layers {
            let inputs = if layer == 0 { self.inputs } else { self.width() };
            for direction in self.directions() {
                let name = |part: &str| format!("{}.{part}_l{layer}{direction}", self.cell);
                specs.push(ParameterSpec::matrix(name("weight_ih"), &[rows, inputs], hidden));
                specs.push(ParameterSpec::matrix(name("weight_hh"), &[rows, hidden], hidden));
                specs.push(ParameterSpec::free(name("bias_ih"), &[rows], hidden));
                specs.push(ParameterSpec::free(name("bias_hh"), &[rows], hidden));
            }
        }
        specs
    }

    fn layer(&self, tape: &Tape, x: &Var, packing: &Arc<Packing>, weights: &Weights, layer: usize, direction: &str) -> Result<Var> {
        let get = |part: &str| weights.get(&format!("{}.{part}_l{layer}{direction}", self.cell));
        let own = RecurrentWeights {
            weight_ih: get("weight_ih")?,
            weight_hh: get("weight_hh")?,
            bias_ih: get("bias_ih")?,
            bias_hh: get("bias_hh")?,
        };
        match self.cell {
            Architecture::Lstm => lstm::layer(tape, x, packing, &own),
            Architecture::Rnn => rnn::layer(tape, x, packing, &own, self.activation),
            _ => gru::layer(tape, x, packing, &own),
        }
    }

    /// One layer in each direction.
    fn states(&self, tape: &Tape, x: &Var, packing: &Arc<Packing>, weights: &Weights, layer: usize) -> Result<States> {
        let forward = self.layer(tape, x, packing, weights, layer, "")?;
        if !self.bidirectional {
            return Ok(States { forward, backward: None });
        }
        let turned = ops::reverse_steps(tape, x, packing)?;
        Ok(States { forward, backward: Some(self.layer(tape, &turned, packing, weights, layer, REVERSE)?) })
    }

    /// `x [steps, inputs]`, packed → the last layer's states. Dropout stands between layers.
    pub(super) fn forward(&self, tape: &Tape, weights: &Weights, mut x: Var, packing: &Arc<Packing>) -> Result<States> {
        let last = self.layers.saturating_sub(1);
        for layer in 0..last {
            let states = self.states(tape, &x, packing, weights, layer)?;
            x = ops::dropout(tape, &states.packed(tape, packing)?, self.dropout)?;
        }
        self.states(tape, &x, packing, weights, last)
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Recurrent {
    events: EventEmbedding,
    layers: Layers,
    head: Head,
}

impl Recurrent {
    /// From a configuration whose shape has a sequence.
    pub(super) fn new(config: &NetworkConfig) -> Self {
        let events = EventEmbedding::new(config);
        let layers = Layers {
            cell: config.architecture,
            activation: config.variant.activation(),
            inputs: events.width(),
            hidden_dim: config.hidden_dim,
            layers: config.layers,
            bidirectional: config.variant.bidirectional,
            dropout: config.dropout,
        };
        Self { head: Head::of_states(config, layers.width()), events, layers }
    }

    /// What the layers come to after each row's last event.
    fn state(&self, tape: &Tape, weights: &Weights, batch: &Batch) -> Result<Var> {
        let packing = Arc::new(EventEmbedding::packing(batch)?);
        let x = self.events.forward(tape, weights, batch, &packing)?;
        self.layers.forward(tape, weights, x, &packing)?.last(tape, &packing)
    }
}

impl Module for Recurrent {
    fn specs(&self) -> Vec<ParameterSpec> {
        let mut specs = self.events.specs();
        specs.extend(self.layers.specs());
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
        self.head.shard_rows(SEQUENCE_SHARD)
    }
}
