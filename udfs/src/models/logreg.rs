//! Logistic or linear regression: numbers and one-hot categories, one weight each. A strong, readable baseline.

use super::architecture::{Forward, Init, Module, ParameterSpec, TABULAR_SHARD, Weights, shared};
use super::ops::{self, Activation, Pooling, Tape, Var};
use super::tabular::numbers;
use super::{Batch, NetworkConfig, Parameters};
use crate::error::Result;
use crate::features::inputs::Inputs;

/// See the module.
#[derive(Debug, Clone)]
pub struct Logreg {
    numeric: usize,
    vocabularies: Vec<usize>,
    outputs: usize,
}

impl Logreg {
    /// From a configuration; only its shape matters.
    pub fn new(config: &NetworkConfig) -> Self {
        Self { numeric: config.shape.numeric, vocabularies: config.shape.categorical.clone(), outputs: config.outputs }
    }
}

impl Module for Logreg {
    fn specs(&self) -> Vec<ParameterSpec> {
        let mut specs = vec![ParameterSpec::free("bias", &[self.outputs], 1).start(Init::Zeros)];
        if self.numeric > 0 {
            specs.push(ParameterSpec::matrix("weight", &[self.outputs, self.numeric], 1).start(Init::Zeros));
        }
        for (field, vocabulary) in self.vocabularies.iter().enumerate() {
            // One-hot weights are ordinary coefficients, so they decay.
            let name = format!("categorical.{field}.weight");
            specs.push(ParameterSpec::matrix(name, &[*vocabulary, self.outputs], 1).start(Init::Zeros));
        }
        specs
    }

    fn prepare(&self, _inputs: &Inputs, _rows: &[u32], _parameters: &mut Parameters) {}

    fn forward(&self, tape: &Tape, weights: &Weights, batch: &Batch, want_embedding: bool) -> Result<Forward> {
        let x = numbers(tape, batch, self.numeric)?;
        let mut embedding = vec![x.clone()];
        // A matrix without columns is a product of nothing: only the bias stays.
        let empty;
        let weight = if self.numeric > 0 {
            weights.get("weight")?
        } else {
            empty = tape.constant(&ops::storage::tensor::<f32>(Vec::new(), &[self.outputs, 0])?)?;
            &empty
        };
        let mut logits = ops::linear(tape, &x, weight, Some(weights.get("bias")?), Activation::Identity)?;
        if !self.vocabularies.is_empty() {
            let tables: Vec<Var> =
                (0..self.vocabularies.len()).map(|i| weights.get(&format!("categorical.{i}.weight")).cloned()).collect::<Result<_>>()?;
            let ids = shared(&batch.categorical);
            logits = ops::add(tape, &logits, &ops::embed(tape, &tables, &ids, Pooling::Sum)?)?;
            if want_embedding {
                embedding.push(ops::embed(tape, &tables, &ids, Pooling::Concat)?);
            }
        }
        let embedding = if want_embedding { Some(ops::concat(tape, &embedding)?) } else { None };
        Ok(Forward { logits, members: 1, embedding, statistics: Vec::new() })
    }

    /// A linear model has no hidden layer: its embedding is the scaled numbers and the categories' weights.
    fn embedding_dim(&self) -> usize {
        self.numeric + self.vocabularies.len() * self.outputs
    }

    fn shard_rows(&self) -> usize {
        TABULAR_SHARD
    }
}
