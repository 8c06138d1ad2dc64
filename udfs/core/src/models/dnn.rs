//! TabM (Gorishniy, Kotelnikov & Babenko, "TabM: advancing tabular deep learning with parameter-efficient ensembling",
//! ICLR 2025): an ensemble of feed-forward networks that share their matrices, on piecewise-linear embeddings of the
//! numbers and learned embeddings of the categories. Texts come in as what their [branches](super::text) say.
//!
//! Every member is trained on its own loss; answers are averaged. Parameter names: `blocks.<i>.{weight, scale_in,
//! scale_out, bias}`, `output.{weight, bias}`.

use super::architecture::{Forward, Init, Module, ParameterSpec, TABULAR_SHARD, Weights};
use super::ops::{self, Activation, EnsembleWeights, Tape, Var};
use super::tabular::TabularEmbedding;
use super::text::TextBranch;
use super::{Batch, NetworkConfig, Parameters};
use crate::error::Result;
use crate::features::inputs::Inputs;

/// Numbers that a text becomes.
const TEXT_WIDTH: usize = 64;

/// See the module.
#[derive(Debug, Clone)]
pub struct Dnn {
    embedding: TabularEmbedding,
    texts: Vec<TextBranch>,
    hidden_dim: usize,
    layers: usize,
    members: usize,
    outputs: usize,
    dropout: f32,
}

impl Dnn {
    /// From a configuration.
    pub fn new(config: &NetworkConfig) -> Self {
        Self {
            embedding: TabularEmbedding::new(config),
            texts: TextBranch::all(config, TEXT_WIDTH),
            hidden_dim: config.hidden_dim,
            layers: config.layers,
            members: config.members,
            outputs: config.outputs,
            dropout: config.dropout,
        }
    }

    /// Widths of the parts of a row's vector, feature by feature.
    fn chunks(&self) -> Vec<usize> {
        let mut chunks = self.embedding.chunks();
        chunks.resize(chunks.len() + self.texts.len(), TEXT_WIDTH);
        chunks
    }

    /// The last hidden layer, `[rows · members, hidden_dim]`.
    fn hidden(&self, tape: &Tape, weights: &Weights, batch: &Batch) -> Result<Var> {
        let mut parts: Vec<_> = self.embedding.forward(tape, weights, batch)?.into_iter().collect();
        for text in &self.texts {
            parts.push(text.forward(tape, weights, batch)?);
        }
        let mut x = ops::concat(tape, &parts)?;
        for layer in 0..self.layers {
            let get = |part: &str| weights.get(&format!("blocks.{layer}.{part}"));
            let own =
                EnsembleWeights { weight: get("weight")?, scale_in: get("scale_in")?, scale_out: get("scale_out")?, bias: get("bias")? };
            x = ops::batch_ensemble(tape, &x, batch.rows, &own, Activation::Relu, self.dropout)?;
        }
        Ok(x)
    }
}

impl Module for Dnn {
    fn specs(&self) -> Vec<ParameterSpec> {
        let mut specs = self.embedding.specs();
        specs.extend(self.texts.iter().flat_map(TextBranch::specs));
        let chunks = self.chunks();
        let (hidden, members) = (self.hidden_dim, self.members);
        for layer in 0..self.layers {
            let inputs = if layer == 0 { chunks.iter().sum() } else { hidden };
            let name = |part: &str| format!("blocks.{layer}.{part}");
            // The members start apart in the first layer only: one random factor per member and feature.
            let start = if layer == 0 { Init::NormalPerChunk(chunks.clone()) } else { Init::Ones };
            specs.push(ParameterSpec::matrix(name("weight"), &[hidden, inputs], inputs));
            specs.push(ParameterSpec::matrix(name("scale_in"), &[members, inputs], 1).start(start));
            specs.push(ParameterSpec::matrix(name("scale_out"), &[members, hidden], 1).start(Init::Ones));
            specs.push(ParameterSpec::free(name("bias"), &[members, hidden], inputs));
        }
        let (weight, bias) = (vec![members, self.outputs, hidden], vec![members, self.outputs]);
        // A single member's output layer is an ordinary one, quick for any number of classes.
        let skip = usize::from(members == 1);
        specs.push(ParameterSpec::matrix("output.weight", &weight[skip..], hidden));
        specs.push(ParameterSpec::free("output.bias", &bias[skip..], hidden));
        specs
    }

    fn prepare(&self, inputs: &Inputs, rows: &[u32], parameters: &mut Parameters) {
        self.embedding.prepare(inputs, rows, parameters);
    }

    fn forward(&self, tape: &Tape, weights: &Weights, batch: &Batch, want_embedding: bool) -> Result<Forward> {
        let x = self.hidden(tape, weights, batch)?;
        let (weight, bias) = (weights.get("output.weight")?, weights.get("output.bias")?);
        let logits = if self.members == 1 {
            ops::linear(tape, &x, weight, Some(bias), Activation::Identity)?
        } else {
            ops::member_linear(tape, &x, weight, bias)?
        };
        let embedding = if want_embedding { Some(ops::mean_groups(tape, &x, self.members)?) } else { None };
        Ok(Forward { logits, members: self.members, embedding, statistics: Vec::new() })
    }

    fn states(&self, tape: &Tape, weights: &Weights, batch: &Batch) -> Result<Option<Var>> {
        if self.has_items() { self.hidden(tape, weights, batch).map(Some) } else { Ok(None) }
    }

    /// Members have output layers of their own.
    fn has_items(&self) -> bool {
        self.members == 1
    }

    /// The last hidden layer, averaged over the members.
    fn embedding_dim(&self) -> usize {
        self.hidden_dim
    }

    fn shard_rows(&self) -> usize {
        TABULAR_SHARD / self.members.max(1)
    }
}
