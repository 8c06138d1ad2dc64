//! The parts that tabular inputs need in several architectures: numbers and categories as vectors.

use super::architecture::{Init, ParameterSpec, Weights, shared};
use super::ops::{self, Pooling, Tape, Var};
use super::{Batch, NetworkConfig, Numbers, Parameters};
use crate::error::Result;
use crate::features::inputs::Inputs;

/// Waves of a number's periodic embedding, and the deviation of their first frequencies (RealMLP's).
const WAVES: usize = 16;
const FREQUENCY: f64 = 0.1;

/// Rows looked at for the quantiles of a feature.
pub(super) const QUANTILE_ROWS: usize = 100_000;

/// Bounds a scaled number softly to ±3 while it stays monotone: `x / √(1 + (x/3)²)` (RealMLP, Holzmüller et al., 2024).
pub(super) fn soft_clip(x: f32) -> f32 {
    x / (1.0 + (x / 3.0) * (x / 3.0)).sqrt()
}

/// The numeric features, softly bounded: `[rows, numeric]`.
pub(super) fn numbers(tape: &Tape, batch: &Batch, numeric: usize) -> Result<Var> {
    let values = batch.numeric.iter().map(|value| soft_clip(*value)).collect();
    tape.constant(&ops::storage::tensor::<f32>(values, &[batch.rows, numeric])?)
}

/// Width of the embedding of a vocabulary: half of it, at most `limit`.
pub(super) fn embedding_width(vocabulary: usize, limit: usize) -> usize {
    vocabulary.div_ceil(2).clamp(1, limit)
}

/// Numbers and categories of a row as one vector.
#[derive(Debug, Clone)]
pub(super) struct TabularEmbedding {
    numeric: usize,
    bins: usize,
    periodic: bool,
    numeric_width: usize,
    vocabularies: Vec<usize>,
    embedding_dim: usize,
}

impl TabularEmbedding {
    pub(super) fn new(config: &NetworkConfig) -> Self {
        let periodic = config.variant.numbers == Numbers::Periodic;
        Self {
            numeric: config.shape.numeric,
            bins: if periodic { 0 } else { config.bins },
            periodic,
            numeric_width: match (periodic, config.bins) {
                // The number itself, and at least one of its waves.
                (true, _) => config.numeric_embedding_dim.max(2),
                (false, 0) => 1,
                (false, _) => config.numeric_embedding_dim.max(1),
            },
            vocabularies: config.shape.categorical.clone(),
            embedding_dim: config.embedding_dim,
        }
    }

    /// The widths of the parts, feature by feature.
    pub(super) fn chunks(&self) -> Vec<usize> {
        let categories = self.vocabularies.iter().map(|vocabulary| embedding_width(*vocabulary, self.embedding_dim));
        std::iter::repeat_n(self.numeric_width, self.numeric).chain(categories).collect()
    }

    /// Width of the whole vector.
    pub(super) fn width(&self) -> usize {
        self.chunks().iter().sum()
    }

    pub(super) fn specs(&self) -> Vec<ParameterSpec> {
        let mut specs = Vec::new();
        if self.bins > 0 && self.numeric > 0 {
            let (numeric, width) = (self.numeric, self.numeric_width);
            let edges = ParameterSpec::free("numeric.edges", &[numeric, self.bins + 1], 1).start(Init::Zeros);
            specs.push(ParameterSpec { trainable: false, ..edges });
            specs.push(ParameterSpec::free("numeric.weight", &[numeric, self.bins, width], 1).start(Init::Zeros));
            specs.push(ParameterSpec::free("numeric.linear", &[numeric, width], width));
            specs.push(ParameterSpec::free("numeric.bias", &[numeric, width], width));
        }
        if self.periodic && self.numeric > 0 {
            let (numeric, width) = (self.numeric, self.numeric_width - 1);
            let spec = |name: &str, shape: &[usize], start| ParameterSpec::free(format!("numeric.{name}"), shape, WAVES).start(start);
            specs.push(spec("frequency", &[numeric, WAVES], Init::Normal(FREQUENCY)));
            specs.push(spec("phase", &[numeric, WAVES], Init::Uniform(std::f64::consts::PI)));
            specs.push(ParameterSpec::free("numeric.weight", &[numeric, WAVES, width], WAVES));
            specs.push(ParameterSpec::free("numeric.bias", &[numeric, width], WAVES));
        }
        for (field, vocabulary) in self.vocabularies.iter().enumerate() {
            let width = embedding_width(*vocabulary, self.embedding_dim);
            specs.push(ParameterSpec::free(format!("categorical.{field}.weight"), &[*vocabulary, width], width));
        }
        specs
    }

    /// Bin edges: quantiles of the training rows, ties merged.
    pub(super) fn prepare(&self, inputs: &Inputs, rows: &[u32], parameters: &mut Parameters) {
        if self.bins == 0 || self.numeric == 0 {
            return;
        }
        let stride = rows.len().div_ceil(QUANTILE_ROWS).max(1);
        let mut edges = Vec::with_capacity(self.numeric * (self.bins + 1));
        for feature in 0..self.numeric {
            let at = |row: &u32| soft_clip(inputs.numeric[*row as usize * self.numeric + feature]);
            let mut values: Vec<f32> = rows.iter().step_by(stride).map(at).collect();
            values.sort_unstable_by(f32::total_cmp);
            edges.extend(quantile_edges(&values, self.bins));
        }
        parameters.0.insert("numeric.edges".into(), (vec![self.numeric, self.bins + 1], edges));
    }

    /// `[rows, width]`; `None` when there is neither a number nor a category.
    pub(super) fn forward(&self, tape: &Tape, weights: &Weights, batch: &Batch) -> Result<Option<Var>> {
        let mut parts = Vec::with_capacity(2);
        if self.numeric > 0 {
            let x = numbers(tape, batch, self.numeric)?;
            let get = |part: &str| weights.get(&format!("numeric.{part}"));
            parts.push(if self.periodic {
                ops::periodic(tape, &x, get("frequency")?, get("phase")?, get("weight")?, get("bias")?)?
            } else if self.bins == 0 {
                x
            } else {
                ops::piecewise_linear(tape, &x, get("edges")?, get("weight")?, get("linear")?, get("bias")?)?
            });
        }
        if !self.vocabularies.is_empty() {
            let tables: Vec<Var> =
                (0..self.vocabularies.len()).map(|i| weights.get(&format!("categorical.{i}.weight")).cloned()).collect::<Result<_>>()?;
            parts.push(ops::embed(tape, &tables, &shared(&batch.categorical), Pooling::Concat)?);
        }
        if parts.is_empty() { Ok(None) } else { ops::concat(tape, &parts).map(Some) }
    }
}

/// `bins + 1` edges from sorted values: distinct quantiles, the last one repeated.
fn quantile_edges(sorted: &[f32], bins: usize) -> Vec<f32> {
    let mut edges: Vec<f32> = Vec::with_capacity(bins + 1);
    if let Some(last) = sorted.len().checked_sub(1) {
        for bin in 0..=bins {
            let position = bin as f64 / bins as f64 * last as f64;
            let (low, share) = (position as usize, position.fract() as f32);
            let edge = sorted[low] + (sorted[(low + 1).min(last)] - sorted[low]) * share;
            // Bins narrower than this would turn rounding into slopes.
            if edges.last().is_none_or(|before| edge > before + 1e-5) {
                edges.push(edge);
            }
        }
    }
    let last = edges.last().copied().unwrap_or(0.0);
    edges.resize(bins + 1, last);
    edges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_distinct_quantiles() {
        let values: Vec<f32> = (0..=100).map(|i| i as f32).collect();
        assert_eq!(quantile_edges(&values, 4), [0.0, 25.0, 50.0, 75.0, 100.0]);
        assert_eq!(quantile_edges(&[1.0; 10], 3), [1.0; 4]);
        assert_eq!(quantile_edges(&[], 2), [0.0; 3]);
        let mut skewed = vec![0.0; 90];
        skewed.extend((1..=10).map(|i| i as f32));
        let edges = quantile_edges(&skewed, 8);
        assert_eq!(edges[0], 0.0);
        assert!(edges.windows(2).all(|pair| pair[0] <= pair[1]));
    }

    #[test]
    fn soft_clip_is_monotone_and_bounded() {
        assert!((soft_clip(0.1) - 0.1).abs() < 1e-3);
        assert!(soft_clip(50.0) < 3.0 && soft_clip(50.0) > soft_clip(10.0));
    }
}
