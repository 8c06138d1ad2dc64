//! A causal transformer over the event sequence, as SASRec (Kang & McAuley, "Self-attentive sequential recommendation",
//! 2018): the state of the last event goes to the [head](super::head).
//!
//! * Layers normalise first (Xiong et al., 2020), which trains without a delicate warm-up; feed-forward parts are four
//!   times as wide as the state, with a relu as in SASRec.
//! * Positions are learned and counted from the end, as SASRec's left padding does it: the latest event is at 0 whatever
//!   the length of the history, so that "just now" and "the one before" mean the same for every user.
//! * Queries, keys and values have no biases: one on keys would have no effect at all.
//! * Only the last event's state is read, so the last layer asks for nothing else: one query per row.
//!
//! Parameter names: those of [`super::events`], `input.{weight, bias}`, `positions.weight`,
//! `layers.<i>.{norm1.{weight, bias}, query.weight, key_value.weight, attended.{weight, bias}, norm2.{weight, bias},
//! linear1.{weight, bias}, linear2.{weight, bias}}`, `norm.{weight, bias}` and those of [`super::head`].

use std::sync::Arc;

use super::architecture::{Forward, Init, Module, ParameterSpec, SEQUENCE_SHARD, Weights};
use super::events::EventEmbedding;
use super::head::Head;
use super::ops::{self, Activation, Packing, Pooling, Queries, Tape, Var};
use super::{Batch, NetworkConfig, Parameters};
use crate::error::Result;
use crate::features::inputs::Inputs;

/// Width of a head, where the state's width allows it.
const HEAD_WIDTH: usize = 32;
/// How much wider the feed-forward part is.
const EXPANSION: usize = 4;

/// See the module.
#[derive(Debug, Clone)]
pub struct Transformer {
    events: EventEmbedding,
    head: Head,
    hidden_dim: usize,
    layers: usize,
    dropout: f32,
}

/// Heads of a state of this width: as many as divide it into at least [`HEAD_WIDTH`] each.
fn heads(hidden_dim: usize) -> usize {
    (1..=(hidden_dim / HEAD_WIDTH).max(1)).rev().find(|heads| hidden_dim.is_multiple_of(*heads)).unwrap_or(1)
}

/// One layer's parameters.
struct Layer<'a> {
    weights: &'a Weights,
    index: usize,
}

impl<'a> Layer<'a> {
    fn get(&self, part: &str) -> Result<&'a Var> {
        self.weights.get(&format!("layers.{}.{part}", self.index))
    }

    fn norm(&self, tape: &Tape, x: &Var, name: &str) -> Result<Var> {
        ops::layer_norm(tape, x, self.get(&format!("{name}.weight"))?, self.get(&format!("{name}.bias"))?)
    }

    fn linear(&self, tape: &Tape, x: &Var, name: &str, activation: Activation) -> Result<Var> {
        ops::linear(tape, x, self.get(&format!("{name}.weight"))?, Some(self.get(&format!("{name}.bias"))?), activation)
    }
}

impl Transformer {
    /// From a configuration whose shape has a sequence.
    pub fn new(config: &NetworkConfig) -> Self {
        Self {
            events: EventEmbedding::new(config),
            head: Head::new(config),
            hidden_dim: config.hidden_dim,
            layers: config.layers,
            dropout: config.dropout,
        }
    }

    /// Events as states, `[steps, hidden]`: their vectors and where they are, counted from the end.
    fn events(&self, tape: &Tape, weights: &Weights, batch: &Batch, packing: &Packing) -> Result<Var> {
        let events = self.events.forward(tape, weights, batch, packing)?;
        let x = ops::linear(tape, &events, weights.get("input.weight")?, Some(weights.get("input.bias")?), Activation::Identity)?;
        let last = self.events.len_max() as u32 - 1;
        let positions: Arc<[u32]> = packing.steps_left().into_iter().map(|left| left.min(last)).collect();
        let positions = ops::embed(tape, &[weights.get("positions.weight")?.clone()], &positions, Pooling::Concat)?;
        ops::dropout(tape, &ops::add(tape, &x, &positions)?, self.dropout)
    }

    /// The state of each row's last event.
    fn state(&self, tape: &Tape, weights: &Weights, batch: &Batch) -> Result<Var> {
        let packing = Arc::new(EventEmbedding::packing(batch)?);
        let mut x = self.events(tape, weights, batch, &packing)?;
        for index in 0..self.layers {
            x = self.layer(tape, &x, &packing, &Layer { weights, index })?;
        }
        ops::layer_norm(tape, &x, weights.get("norm.weight")?, weights.get("norm.bias")?)
    }

    /// One layer. Of the last one only the last step of each row is wanted: `[rows, hidden]`.
    fn layer(&self, tape: &Tape, x: &Var, packing: &Arc<Packing>, layer: &Layer<'_>) -> Result<Var> {
        let normal = layer.norm(tape, x, "norm1")?;
        let key_value = ops::linear(tape, &normal, layer.get("key_value.weight")?, None, Activation::Identity)?;
        let (x, asking, queries) = if layer.index + 1 == self.layers {
            (ops::last_step(tape, x, packing)?, ops::last_step(tape, &normal, packing)?, Queries::Last)
        } else {
            (x.clone(), normal, Queries::All)
        };
        let query = ops::linear(tape, &asking, layer.get("query.weight")?, None, Activation::Identity)?;
        let heard = ops::attention(tape, &query, &key_value, packing, heads(self.hidden_dim), queries)?;
        let heard = layer.linear(tape, &heard, "attended", Activation::Identity)?;
        let x = ops::add(tape, &x, &ops::dropout(tape, &heard, self.dropout)?)?;
        let inner = layer.linear(tape, &layer.norm(tape, &x, "norm2")?, "linear1", Activation::Relu)?;
        let thought = layer.linear(tape, &inner, "linear2", Activation::Identity)?;
        ops::add(tape, &x, &ops::dropout(tape, &thought, self.dropout)?)
    }
}

fn norm_specs(name: &str, width: usize) -> [ParameterSpec; 2] {
    let spec = |part: &str, init: Init| ParameterSpec::free(format!("{name}.{part}"), &[width], 1).start(init);
    [spec("weight", Init::Ones), spec("bias", Init::Zeros)]
}

impl Module for Transformer {
    fn specs(&self) -> Vec<ParameterSpec> {
        let (hidden, inner, events) = (self.hidden_dim, EXPANSION * self.hidden_dim, self.events.width());
        let mut specs = self.events.specs();
        specs.push(ParameterSpec::matrix("input.weight", &[hidden, events], events));
        specs.push(ParameterSpec::free("input.bias", &[hidden], events));
        specs.push(ParameterSpec::free("positions.weight", &[self.events.len_max(), hidden], hidden));
        for layer in 0..self.layers {
            let name = |part: &str| format!("layers.{layer}.{part}");
            specs.extend(norm_specs(&name("norm1"), hidden));
            specs.push(ParameterSpec::matrix(name("query.weight"), &[hidden, hidden], hidden));
            specs.push(ParameterSpec::matrix(name("key_value.weight"), &[2 * hidden, hidden], hidden));
            specs.push(ParameterSpec::matrix(name("attended.weight"), &[hidden, hidden], hidden));
            specs.push(ParameterSpec::free(name("attended.bias"), &[hidden], hidden));
            specs.extend(norm_specs(&name("norm2"), hidden));
            specs.push(ParameterSpec::matrix(name("linear1.weight"), &[inner, hidden], hidden));
            specs.push(ParameterSpec::free(name("linear1.bias"), &[inner], hidden));
            specs.push(ParameterSpec::matrix(name("linear2.weight"), &[hidden, inner], inner));
            specs.push(ParameterSpec::free(name("linear2.bias"), &[hidden], inner));
        }
        specs.extend(norm_specs("norm", hidden));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_divide_the_state() {
        assert_eq!([1, 16, 64, 96, 100, 128, 97].map(heads), [1, 1, 2, 3, 2, 4, 1]);
    }
}
