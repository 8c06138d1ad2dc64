//! A convolutional network over pictures: the [trunk](super::picture) that makes a vector of each, and the head that all
//! networks have, where the other inputs come in.
//!
//! Parameter names: those of [`super::picture`] and [`super::head`].

use super::architecture::{Forward, Module, ParameterSpec, Weights};
use super::head::Head;
use super::ops::{self, Tape};
use super::picture::PictureTrunk;
use super::{Batch, NetworkConfig, Parameters};
use crate::error::Result;
use crate::features::inputs::Inputs;

/// See the module.
#[derive(Debug, Clone)]
pub struct ImageCnn {
    trunk: PictureTrunk,
    head: Head,
    dropout: f32,
}

impl ImageCnn {
    /// From a configuration whose shape has a picture. The first stage has `hidden_dim` maps; `layers` residual blocks stand
    /// in each later one.
    ///
    /// # Errors
    /// `Internal` when there is no picture.
    pub fn new(config: &NetworkConfig) -> Result<Self> {
        let trunk = PictureTrunk::main(config)?;
        let head = Head::of_pictures(&NetworkConfig { hidden_dim: trunk.width(), ..config.clone() });
        Ok(Self { trunk, head, dropout: config.dropout })
    }
}

impl Module for ImageCnn {
    fn specs(&self) -> Vec<ParameterSpec> {
        let mut specs = self.trunk.specs();
        specs.extend(self.head.specs());
        specs
    }

    fn prepare(&self, inputs: &Inputs, rows: &[u32], parameters: &mut Parameters) {
        self.head.prepare(inputs, rows, parameters);
        self.trunk.prepare(inputs, rows, parameters);
    }

    fn forward(&self, tape: &Tape, weights: &Weights, batch: &Batch, want_embedding: bool) -> Result<Forward> {
        let mut statistics = Vec::new();
        let seen = self.trunk.forward(tape, weights, batch, &mut statistics)?;
        let state = ops::dropout(tape, &seen, self.dropout)?;
        let forward = self.head.forward(tape, weights, batch, state, want_embedding)?;
        Ok(Forward { statistics, ..forward })
    }

    fn embedding_dim(&self) -> usize {
        self.head.embedding_dim()
    }
}
