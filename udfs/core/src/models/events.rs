//! Every event of a sequence as one vector: what all networks over sequences start from.

use super::architecture::{ParameterSpec, Weights, shared};
use super::ops::{self, Packing, Pooling, Tape, Var};
use super::tabular::{embedding_width, soft_clip};
use super::{Batch, NetworkConfig};
use crate::error::{Error, Result};
use crate::features::inputs::SequenceShape;

/// Learned embeddings of the token fields (`tokens.<field>.weight`) beside the softly bounded numbers.
#[derive(Debug, Clone)]
pub(super) struct EventEmbedding {
    sequence: SequenceShape,
    embedding_dim: usize,
}

impl EventEmbedding {
    /// From a configuration whose shape has a sequence.
    pub(super) fn new(config: &NetworkConfig) -> Self {
        Self { sequence: config.shape.sequence.clone().unwrap_or_default(), embedding_dim: config.embedding_dim }
    }

    /// Width of an event's vector.
    pub(super) fn width(&self) -> usize {
        self.sequence.fields.iter().map(|vocabulary| embedding_width(*vocabulary, self.embedding_dim)).sum::<usize>()
            + self.sequence.numeric
    }

    /// Events a network sees at most.
    pub(super) fn len_max(&self) -> usize {
        self.sequence.max_len.max(1)
    }

    pub(super) fn specs(&self) -> Vec<ParameterSpec> {
        let spec = |(field, vocabulary): (usize, &usize)| {
            let width = embedding_width(*vocabulary, self.embedding_dim);
            ParameterSpec::free(format!("tokens.{field}.weight"), &[*vocabulary, width], width)
        };
        self.sequence.fields.iter().enumerate().map(spec).collect()
    }

    /// The order of a batch's events.
    ///
    /// # Errors
    /// `Internal` when the batch has none.
    pub(super) fn packing(batch: &Batch) -> Result<Packing> {
        if batch.lengths.len() != batch.rows {
            return Err(Error::internal("the batch has no sequences"));
        }
        Ok(if batch.one_chunk { Packing::whole(&batch.lengths) } else { Packing::new(&batch.lengths) })
    }

    /// Every step as one vector, packed: `[steps, width]`.
    pub(super) fn forward(&self, tape: &Tape, weights: &Weights, batch: &Batch, packing: &Packing) -> Result<Var> {
        let mut parts = Vec::with_capacity(2);
        let fields = self.sequence.fields.len();
        if fields > 0 {
            let tables: Vec<Var> = (0..fields).map(|i| weights.get(&format!("tokens.{i}.weight")).cloned()).collect::<Result<_>>()?;
            let ids = shared(&packing.pack(&batch.tokens, batch.seq_len, fields));
            parts.push(ops::embed(tape, &tables, &ids, Pooling::Concat)?);
        }
        let numeric = self.sequence.numeric;
        if numeric > 0 {
            let mut values = packing.pack(&batch.step_numeric, batch.seq_len, numeric);
            values.iter_mut().for_each(|value| *value = soft_clip(*value));
            parts.push(tape.constant(&ops::storage::tensor::<f32>(values, &[packing.steps(), numeric])?)?);
        }
        ops::concat(tape, &parts)
    }
}
