//! The inputs that stand beside a network's own: the tabular features, the picture and the texts of the same moment, each
//! through a branch of its own that ends in one vector (late fusion).
//!
//! Parameter names: those of [`super::tabular`] with `tabular.{weight, bias}`, of [`super::picture`] with `picture.{weight,
//! bias}`, and of [`super::text`].

use super::architecture::{ParameterSpec, Weights};
use super::ops::{self, Activation, BatchStatistics, Tape, Var};
use super::picture::PictureTrunk;
use super::tabular::TabularEmbedding;
use super::text::TextBranch;
use super::{Batch, NetworkConfig, Parameters};
use crate::error::Result;
use crate::features::inputs::Inputs;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Branches {
    tabular: TabularEmbedding,
    picture: Option<PictureTrunk>,
    texts: Vec<TextBranch>,
    hidden_dim: usize,
}

/// What the branches say of a batch.
pub(super) struct Said {
    /// `[rows, hidden_dim]` each.
    pub(super) parts: Vec<Var>,
    pub(super) statistics: Vec<(String, BatchStatistics)>,
}

impl Branches {
    /// Every input of a configuration but its sequence; the picture too, unless it is the network's `own`.
    pub(super) fn new(config: &NetworkConfig, own_picture: bool) -> Self {
        Self {
            tabular: TabularEmbedding::new(config),
            picture: if own_picture { None } else { PictureTrunk::beside(config) },
            texts: TextBranch::all(config, config.hidden_dim),
            hidden_dim: config.hidden_dim,
        }
    }

    /// How many vectors there are.
    pub(super) fn count(&self) -> usize {
        usize::from(self.tabular.width() > 0) + usize::from(self.picture.is_some()) + self.texts.len()
    }

    /// Whether a row's part in training depends on the other rows: batches are then kept whole.
    pub(super) fn normalise_batches(&self) -> bool {
        self.picture.is_some()
    }

    pub(super) fn specs(&self) -> Vec<ParameterSpec> {
        let mut specs = self.tabular.specs();
        let dense = |name: &str, width: usize| {
            let weight = ParameterSpec::matrix(format!("{name}.weight"), &[self.hidden_dim, width], width);
            [weight, ParameterSpec::free(format!("{name}.bias"), &[self.hidden_dim], width)]
        };
        if self.tabular.width() > 0 {
            specs.extend(dense("tabular", self.tabular.width()));
        }
        if let Some(picture) = &self.picture {
            specs.extend(picture.specs());
            specs.extend(dense("picture", picture.width()));
        }
        specs.extend(self.texts.iter().flat_map(TextBranch::specs));
        specs
    }

    pub(super) fn prepare(&self, inputs: &Inputs, rows: &[u32], parameters: &mut Parameters) {
        self.tabular.prepare(inputs, rows, parameters);
        if let Some(picture) = &self.picture {
            picture.prepare(inputs, rows, parameters);
        }
    }

    pub(super) fn forward(&self, tape: &Tape, weights: &Weights, batch: &Batch) -> Result<Said> {
        let mut said = Said { parts: Vec::with_capacity(self.count()), statistics: Vec::new() };
        let dense = |name: &str, x: &Var| {
            let (weight, bias) = (weights.get(&format!("{name}.weight"))?, weights.get(&format!("{name}.bias"))?);
            ops::linear(tape, x, weight, Some(bias), Activation::Relu)
        };
        if let Some(tabular) = self.tabular.forward(tape, weights, batch)? {
            said.parts.push(dense("tabular", &tabular)?);
        }
        if let Some(picture) = &self.picture {
            let seen = picture.forward(tape, weights, batch, &mut said.statistics)?;
            said.parts.push(dense("picture", &seen)?);
        }
        for text in &self.texts {
            said.parts.push(text.forward(tape, weights, batch)?);
        }
        Ok(said)
    }
}
