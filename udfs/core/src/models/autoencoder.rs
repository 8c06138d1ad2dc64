//! A denoising autoencoder of rows (Vincent et al., "Extracting and composing robust features with denoising autoencoders",
//! 2008): numbers and categories go through a narrow middle and come back. The middle is the row's embedding; how far the
//! row that comes back is from the one that went in is its reconstruction error.
//!
//! Parameter names: `encoder.<i>.{weight, bias}`, `code.{weight, bias}`, `decoder.<i>.{weight, bias}`, `output.{weight, bias}`,
//! and those of [`super::tabular`].

use super::architecture::{Forward, Module, ParameterSpec, TABULAR_SHARD, Weights};
use super::ops::{self, Activation, RowLayout, Tape, Var};
use super::tabular::{TabularEmbedding, soft_clip};
use super::{Batch, NetworkConfig, Parameters};
use crate::error::{Error, Result};
use crate::features::inputs::{InputShape, Inputs};

/// See the module.
#[derive(Debug, Clone)]
pub struct Autoencoder {
    embedding: TabularEmbedding,
    layout: RowLayout,
    hidden_dim: usize,
    layers: usize,
    code_dim: usize,
    dropout: f32,
}

/// What comes back of a row: its numbers, and scores of the ids of each category.
fn layout(shape: &InputShape) -> RowLayout {
    RowLayout { numeric: shape.numeric, groups: shape.categorical.clone() }
}

/// The reconstruction error of outputs `[rows, …]` against the rows of `clean`: `[rows, 1]`.
///
/// # Errors
/// `Internal` when shapes disagree.
pub(crate) fn error_of(tape: &Tape, outputs: &Var, shape: &InputShape, clean: &Batch) -> Result<Var> {
    let numbers: Vec<f32> = clean.numeric.iter().map(|value| soft_clip(*value)).collect();
    ops::reconstruction_error(tape, outputs, &layout(shape), &numbers, &clean.categorical)
}

/// The reconstruction error of `rows` when every row comes back alike: with the means of the rows `train`, and their shares
/// of the ids of each category. What any autoencoder has to beat; 0 without rows.
pub(crate) fn constant_error(inputs: &Inputs, shape: &InputShape, train: &[u32], rows: &[u32]) -> f64 {
    let (numeric, groups) = (shape.numeric, shape.categorical.len());
    let number = |row: &u32, column: usize| f64::from(soft_clip(inputs.numeric[*row as usize * numeric + column]));
    let mut total = 0.0;
    for column in 0..numeric {
        let mean = train.iter().map(|row| number(row, column)).sum::<f64>() / train.len().max(1) as f64;
        total += rows.iter().map(|row| (number(row, column) - mean).powi(2)).sum::<f64>();
    }
    for (group, size) in shape.categorical.iter().enumerate() {
        // Each id counted once more than seen, so that none is impossible.
        let mut counts = vec![1.0; *size];
        let id = |row: &u32| inputs.categorical[*row as usize * groups + group] as usize;
        train.iter().for_each(|row| counts[id(row)] += 1.0);
        let all = (train.len() + size) as f64;
        total += rows.iter().map(|row| -(counts[id(row)] / all).ln()).sum::<f64>();
    }
    total / ((numeric + groups) * rows.len()).max(1) as f64
}

impl Autoencoder {
    /// From a configuration: `layers` hidden layers of `hidden_dim` on both sides of a middle of `embedding_dim`.
    pub fn new(config: &NetworkConfig) -> Self {
        Self {
            embedding: TabularEmbedding::new(config),
            layout: layout(&config.shape),
            hidden_dim: config.hidden_dim,
            layers: config.layers,
            code_dim: config.embedding_dim,
            dropout: config.dropout,
        }
    }

    /// Name, outputs and inputs of every dense layer, in order.
    fn dense(&self) -> Vec<(String, usize, usize)> {
        let mut all = Vec::new();
        for (side, first) in [("encoder", self.embedding.width()), ("decoder", self.code_dim)] {
            let inputs = |layer: usize| if layer == 0 { first } else { self.hidden_dim };
            all.extend((0..self.layers).map(|layer| (format!("{side}.{layer}"), self.hidden_dim, inputs(layer))));
            all.push(match side {
                "encoder" => ("code".to_owned(), self.code_dim, self.hidden_dim),
                _ => ("output".to_owned(), self.layout.width(), self.hidden_dim),
            });
        }
        all
    }

    /// The middle and what comes back: `[rows, code_dim]`, `[rows, layout.width()]`.
    fn reconstruct(&self, tape: &Tape, weights: &Weights, batch: &Batch) -> Result<(Var, Var)> {
        let mut x = self.embedding.forward(tape, weights, batch)?.ok_or_else(|| Error::internal("autoencoder: no features"))?;
        let mut code = None;
        for (name, ..) in self.dense() {
            let narrow = name == "code" || name == "output";
            let activation = if narrow { Activation::Identity } else { Activation::Relu };
            let (weight, bias) = (weights.get(&format!("{name}.weight"))?, weights.get(&format!("{name}.bias"))?);
            x = ops::linear(tape, &x, weight, Some(bias), activation)?;
            if name == "code" {
                code = Some(x.clone());
            } else if !narrow {
                x = ops::dropout(tape, &x, self.dropout)?;
            }
        }
        Ok((code.ok_or_else(|| Error::internal("autoencoder: no middle"))?, x))
    }
}

impl Module for Autoencoder {
    fn specs(&self) -> Vec<ParameterSpec> {
        let mut specs = self.embedding.specs();
        for (name, outputs, inputs) in self.dense() {
            specs.push(ParameterSpec::matrix(format!("{name}.weight"), &[outputs, inputs], inputs));
            specs.push(ParameterSpec::free(format!("{name}.bias"), &[outputs], inputs));
        }
        specs
    }

    fn prepare(&self, inputs: &Inputs, rows: &[u32], parameters: &mut Parameters) {
        self.embedding.prepare(inputs, rows, parameters);
    }

    /// While the tape records, what comes back of each row, for a loss against the row before noise was added; else each
    /// row's reconstruction error.
    fn forward(&self, tape: &Tape, weights: &Weights, batch: &Batch, want_embedding: bool) -> Result<Forward> {
        let (code, outputs) = self.reconstruct(tape, weights, batch)?;
        let logits = if tape.is_recording() {
            outputs
        } else {
            let shape = InputShape { numeric: self.layout.numeric, categorical: self.layout.groups.clone(), ..InputShape::default() };
            error_of(tape, &outputs, &shape, batch)?
        };
        Ok(Forward { logits, members: 1, embedding: want_embedding.then_some(code), statistics: Vec::new() })
    }

    fn embedding_dim(&self) -> usize {
        self.code_dim
    }

    fn shard_rows(&self) -> usize {
        TABULAR_SHARD
    }
}
