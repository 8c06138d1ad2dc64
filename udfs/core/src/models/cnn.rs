//! A convolutional network over the event sequence: feature maps of several widths, each with its maximum over time
//! (Kim, "Convolutional neural networks for sentence classification", 2014; over events as in Caser, Tang & Wang, 2018).
//!
//! The maxima say what happened but not when, so the last event's own vector stands beside them, and positions counted
//! from the end are part of every event's vector.
//!
//! Parameter names: those of [`super::events`], `positions.weight`, `convs.<i>.{weight, bias}` (as `torch.nn.Conv1d`),
//! `state.<i>.{weight, bias}` and those of [`super::head`].

use std::sync::Arc;

use super::architecture::{Forward, Module, ParameterSpec, SEQUENCE_SHARD, Weights};
use super::events::EventEmbedding;
use super::head::Head;
use super::ops::{self, Activation, Pooling, Tape, Var};
use super::{Batch, NetworkConfig, Parameters};
use crate::error::Result;
use crate::features::inputs::Inputs;

/// Events that the maps look at together.
const WIDTHS: [usize; 3] = [2, 3, 5];
/// Width of a position's vector.
const POSITION_WIDTH: usize = 8;

/// See the module.
#[derive(Debug, Clone)]
pub struct Cnn {
    events: EventEmbedding,
    head: Head,
    hidden_dim: usize,
    layers: usize,
    dropout: f32,
}

impl Cnn {
    /// From a configuration whose shape has a sequence. Each width has `hidden_dim` maps; `layers` dense layers follow.
    pub fn new(config: &NetworkConfig) -> Self {
        Self {
            events: EventEmbedding::new(config),
            head: Head::new(config),
            hidden_dim: config.hidden_dim,
            layers: config.layers,
            dropout: config.dropout,
        }
    }

    fn step_width(&self) -> usize {
        self.events.width() + POSITION_WIDTH
    }

    /// What the convolutions and the last event come to.
    fn state(&self, tape: &Tape, weights: &Weights, batch: &Batch) -> Result<Var> {
        let packing = Arc::new(EventEmbedding::packing(batch)?);
        let last = self.events.len_max() as u32 - 1;
        let positions: Arc<[u32]> = packing.steps_left().into_iter().map(|left| left.min(last)).collect();
        let positions = ops::embed(tape, &[weights.get("positions.weight")?.clone()], &positions, Pooling::Concat)?;
        let x = ops::concat(tape, &[self.events.forward(tape, weights, batch, &packing)?, positions])?;
        let mut parts = Vec::with_capacity(WIDTHS.len() + 1);
        for at in 0..WIDTHS.len() {
            let get = |part: &str| weights.get(&format!("convs.{at}.{part}"));
            parts.push(ops::conv_max(tape, &x, &packing, get("weight")?, get("bias")?, Activation::Relu)?);
        }
        parts.push(ops::last_step(tape, &x, &packing)?);
        let mut state = ops::concat(tape, &parts)?;
        for layer in 0..self.layers {
            let get = |part: &str| weights.get(&format!("state.{layer}.{part}"));
            let dropped = ops::dropout(tape, &state, self.dropout)?;
            state = ops::linear(tape, &dropped, get("weight")?, Some(get("bias")?), Activation::Relu)?;
        }
        Ok(state)
    }
}

impl Module for Cnn {
    fn specs(&self) -> Vec<ParameterSpec> {
        let (hidden, inputs) = (self.hidden_dim, self.step_width());
        let mut specs = self.events.specs();
        specs.push(ParameterSpec::free("positions.weight", &[self.events.len_max(), POSITION_WIDTH], POSITION_WIDTH));
        for (at, taps) in WIDTHS.into_iter().enumerate() {
            specs.push(ParameterSpec::matrix(format!("convs.{at}.weight"), &[hidden, inputs, taps], inputs * taps));
            specs.push(ParameterSpec::free(format!("convs.{at}.bias"), &[hidden], inputs * taps));
        }
        for layer in 0..self.layers {
            let inputs = if layer == 0 { WIDTHS.len() * hidden + inputs } else { hidden };
            specs.push(ParameterSpec::matrix(format!("state.{layer}.weight"), &[hidden, inputs], inputs));
            specs.push(ParameterSpec::free(format!("state.{layer}.bias"), &[hidden], inputs));
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
        self.head.shard_rows(SEQUENCE_SHARD)
    }
}
