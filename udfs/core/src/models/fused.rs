//! A network without an input of its own: texts, and the tabular features beside them, meet in the head.
//!
//! Parameter names: those of [`super::head`].

use super::architecture::{Forward, Module, ParameterSpec, TABULAR_SHARD, Weights};
use super::head::Head;
use super::ops::Tape;
use super::{Batch, NetworkConfig, Parameters};
use crate::error::Result;
use crate::features::inputs::Inputs;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Fused {
    head: Head,
}

impl Fused {
    /// From a configuration whose shape has a text.
    pub(super) fn new(config: &NetworkConfig) -> Self {
        Self { head: Head::of_states(config, 0) }
    }
}

impl Module for Fused {
    fn specs(&self) -> Vec<ParameterSpec> {
        self.head.specs()
    }

    fn prepare(&self, inputs: &Inputs, rows: &[u32], parameters: &mut Parameters) {
        self.head.prepare(inputs, rows, parameters);
    }

    fn forward(&self, tape: &Tape, weights: &Weights, batch: &Batch, want_embedding: bool) -> Result<Forward> {
        self.head.forward_branches(tape, weights, batch, want_embedding)
    }

    fn embedding_dim(&self) -> usize {
        self.head.embedding_dim()
    }

    fn shard_rows(&self) -> usize {
        self.head.shard_rows(TABULAR_SHARD / 4)
    }
}
