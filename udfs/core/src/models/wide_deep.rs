//! Wide and deep learning (Cheng et al., "Wide & deep learning for recommender systems", 2016): a linear model that
//! remembers categories and pairs of them, beside a [dnn](super::dnn) that generalises; their logits are added and both
//! learn from one loss.
//!
//! The wide part learns by [FTRL-Proximal](super::ops::ftrl), as in the paper, the deep one by the network's own rule.
//!
//! The joint values of a cross have a weight each where they are few, and share hashed buckets where they are many.
//!
//! Parameter names: `wide.categorical.<i>.weight`, `wide.crosses.<i>.weight` and those of [`super::dnn`].

use std::sync::Arc;

use super::architecture::{Forward, Init, Module, ParameterSpec, Weights};
use super::dnn::Dnn;
use super::ops::{self, Pooling, Tape, Var};
use super::{Batch, NetworkConfig, Parameters};
use crate::error::{Error, Result};
use crate::features::inputs::Inputs;

/// Weights of a cross at most, as a power of two.
const BUCKET_BITS: u32 = 16;

/// See the module.
#[derive(Debug, Clone)]
pub struct WideDeep {
    deep: Dnn,
    vocabularies: Vec<usize>,
    crosses: Vec<Cross>,
    outputs: usize,
}

/// Two categorical features as one.
#[derive(Debug, Clone, Copy)]
struct Cross {
    fields: [usize; 2],
    /// Ids of each.
    sizes: [usize; 2],
}

impl Cross {
    fn is_hashed(self) -> bool {
        self.sizes[0] * self.sizes[1] > 1 << BUCKET_BITS
    }

    fn size(self) -> usize {
        (self.sizes[0] * self.sizes[1]).min(1 << BUCKET_BITS)
    }

    fn id(self, row: &[u32]) -> u32 {
        let [a, b] = self.fields.map(|field| u64::from(row[field]));
        let joint = a * self.sizes[1] as u64 + b;
        // Fibonacci hashing (Knuth, 1973).
        if self.is_hashed() { (joint.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - BUCKET_BITS)) as u32 } else { joint as u32 }
    }
}

impl WideDeep {
    /// From a configuration with categorical features.
    ///
    /// # Errors
    /// `InvalidParameter` without categorical features, `Internal` for a cross of features that do not exist.
    pub fn new(config: &NetworkConfig) -> Result<Self> {
        let vocabularies = config.shape.categorical.clone();
        if vocabularies.is_empty() {
            return Err(Error::invalid("architecture \"wide_deep\" needs at least one categorical feature")
                .detail("Its wide part remembers categories and pairs of them.")
                .hint("Use arch => 'dnn'."));
        }
        let cross = |fields: &[usize; 2]| {
            let [a, b] = *fields;
            let sizes = [*vocabularies.get(a)?, *vocabularies.get(b)?];
            (a != b).then_some(Cross { fields: *fields, sizes })
        };
        let crosses = config.variant.crosses.iter().map(cross).collect::<Option<Vec<_>>>();
        let crosses = crosses.ok_or_else(|| Error::internal("a cross of features that do not exist"))?;
        Ok(Self { deep: Dnn::new(config), vocabularies, crosses, outputs: config.outputs })
    }

    /// The names of the wide part's tables and their sizes.
    fn tables(&self) -> impl Iterator<Item = (String, usize)> + '_ {
        let categories = self.vocabularies.iter().enumerate().map(|(i, size)| (format!("wide.categorical.{i}.weight"), *size));
        categories.chain(self.crosses.iter().enumerate().map(|(i, cross)| (format!("wide.crosses.{i}.weight"), cross.size())))
    }

    /// `[rows, outputs]`.
    fn wide(&self, tape: &Tape, weights: &Weights, batch: &Batch) -> Result<Var> {
        let tables: Vec<Var> = self.tables().map(|(name, _)| weights.get(&name).cloned()).collect::<Result<_>>()?;
        let mut ids = Vec::with_capacity(batch.rows * tables.len());
        for row in batch.categorical.chunks_exact(self.vocabularies.len()) {
            ids.extend_from_slice(row);
            ids.extend(self.crosses.iter().map(|cross| cross.id(row)));
        }
        ops::embed(tape, &tables, &Arc::from(ids), Pooling::Sum)
    }
}

impl Module for WideDeep {
    fn specs(&self) -> Vec<ParameterSpec> {
        let wide = self.tables().map(|(name, size)| ParameterSpec::matrix(name, &[size, self.outputs], 1).start(Init::Zeros));
        self.deep.specs().into_iter().chain(wide).collect()
    }

    fn prepare(&self, inputs: &Inputs, rows: &[u32], parameters: &mut Parameters) {
        self.deep.prepare(inputs, rows, parameters);
    }

    fn forward(&self, tape: &Tape, weights: &Weights, batch: &Batch, want_embedding: bool) -> Result<Forward> {
        let deep = self.deep.forward(tape, weights, batch, want_embedding)?;
        let logits = ops::add_to_groups(tape, &deep.logits, &self.wide(tape, weights, batch)?)?;
        Ok(Forward { logits, ..deep })
    }

    fn embedding_dim(&self) -> usize {
        self.deep.embedding_dim()
    }

    fn shard_rows(&self) -> usize {
        self.deep.shard_rows()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joint_values_have_ids_of_their_own_or_share_buckets() {
        let few = Cross { fields: [2, 0], sizes: [3, 4] };
        let mut ids: Vec<u32> = (0..12).map(|i| few.id(&[i % 4, 99, i / 4])).collect();
        ids.sort_unstable();
        assert_eq!(ids, (0..12).collect::<Vec<_>>());
        let many = Cross { fields: [0, 1], sizes: [1000, 1000] };
        assert!(many.is_hashed() && many.size() == 1 << 16);
        let mut seen: Vec<u32> = (0..10_000).map(|i| many.id(&[i / 100, i % 100])).collect();
        assert!(seen.iter().all(|id| (*id as usize) < many.size()));
        seen.sort_unstable();
        seen.dedup();
        assert!(seen.len() > 8_000, "{} of 10000 buckets", seen.len());
    }
}
