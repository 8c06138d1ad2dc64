//! The words of a text as one vector: an embedding of each, then either their mean beside an attention's mean (a bag, of
//! pairs of neighbours too; Joulin et al., "Bag of tricks for efficient text classification", 2017), or convolutions of
//! several widths with their maxima (Kim, "Convolutional neural networks for sentence classification", 2014); a dense layer
//! ends both.
//!
//! Parameter names of text column `i`: `text.<i>.tokens.weight`, `text.<i>.query` (bag) or `text.<i>.convs.<j>.{weight,
//! bias}` (cnn, as `torch.nn.Conv1d`), and `text.<i>.state.{weight, bias}`.

use std::sync::Arc;

use super::architecture::{Init, ParameterSpec, Weights};
use super::batch::Words;
use super::ops::{self, Activation, Packing, Pooling, Tape, Var};
use super::{Batch, NetworkConfig, TextModel};
use crate::error::{Error, Result};

/// Words that the maps look at together.
const WIDTHS: [usize; 3] = [2, 3, 4];
/// Ids of pairs of words at most, as a power of two; of many words, pairs share them by their hash.
const PAIR_BITS: u32 = 15;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct TextBranch {
    index: usize,
    vocabulary: usize,
    kind: TextModel,
    words: usize,
    outputs: usize,
    dropout: f32,
}

impl TextBranch {
    /// The branch of every text of a configuration; each answers with `outputs` numbers.
    pub(super) fn all(config: &NetworkConfig, outputs: usize) -> Vec<Self> {
        let branch = |(index, shape): (usize, &crate::features::inputs::TextShape)| Self {
            index,
            vocabulary: shape.vocabulary,
            kind: config.variant.text,
            words: config.variant.text_dim.max(1),
            outputs,
            dropout: config.dropout,
        };
        config.shape.texts.iter().enumerate().map(branch).collect()
    }

    fn name(&self, part: &str) -> String {
        format!("text.{}.{part}", self.index)
    }

    /// Width of what the dense layer reads.
    fn width(&self) -> usize {
        match self.kind {
            TextModel::Bag => 2 * self.words,
            TextModel::Cnn => WIDTHS.len() * self.outputs,
        }
    }

    pub(super) fn specs(&self) -> Vec<ParameterSpec> {
        let (words, outputs, width) = (self.words, self.outputs, self.width());
        let ids = match self.kind {
            TextModel::Bag => gram_count(self.vocabulary),
            TextModel::Cnn => self.vocabulary,
        };
        // A pair that nobody has seen is to say little, so vectors start small.
        let start = Init::Uniform(1.0 / words as f64);
        let mut specs = vec![ParameterSpec::free(self.name("tokens.weight"), &[ids, words], words).start(start)];
        match self.kind {
            TextModel::Bag => specs.push(ParameterSpec::free(self.name("query"), &[words], words).start(Init::Zeros)),
            TextModel::Cnn => {
                for (at, taps) in WIDTHS.into_iter().enumerate() {
                    let name = |part: &str| self.name(&format!("convs.{at}.{part}"));
                    specs.push(ParameterSpec::matrix(name("weight"), &[outputs, words, taps], words * taps));
                    specs.push(ParameterSpec::free(name("bias"), &[outputs], words * taps));
                }
            }
        }
        specs.push(ParameterSpec::matrix(self.name("state.weight"), &[outputs, width], width));
        specs.push(ParameterSpec::free(self.name("state.bias"), &[outputs], width));
        specs
    }

    /// `[rows, outputs]`.
    pub(super) fn forward(&self, tape: &Tape, weights: &Weights, batch: &Batch) -> Result<Var> {
        let words = words(batch, self.index)?;
        let get = |part: &str| weights.get(&self.name(part));
        let table = get("tokens.weight")?.clone();
        let pooled = match self.kind {
            TextModel::Bag => {
                let grams = grams(words, self.vocabulary);
                let x = ops::embed(tape, &[table], &grams.ids.into(), Pooling::Concat)?;
                let x = ops::dropout(tape, &x, self.dropout)?;
                ops::pool_segments(tape, &x, get("query")?, &grams.ends.into())?
            }
            TextModel::Cnn => {
                let (packing, ids) = packed(words);
                let x = ops::embed(tape, &[table], &ids, Pooling::Concat)?;
                let x = ops::dropout(tape, &x, self.dropout)?;
                let mut parts = Vec::with_capacity(WIDTHS.len());
                for at in 0..WIDTHS.len() {
                    let own = |part: &str| weights.get(&self.name(&format!("convs.{at}.{part}")));
                    parts.push(ops::conv_max(tape, &x, &packing, own("weight")?, own("bias")?, Activation::Relu)?);
                }
                ops::concat(tape, &parts)?
            }
        };
        let pooled = ops::dropout(tape, &pooled, self.dropout)?;
        ops::linear(tape, &pooled, get("state.weight")?, Some(get("state.bias")?), Activation::Relu)
    }
}

/// The words of text column `index`.
///
/// # Errors
/// `Internal` when the batch has none.
pub(super) fn words(batch: &Batch, index: usize) -> Result<&Words> {
    batch.texts.get(index).filter(|words| words.ends.len() == batch.rows).ok_or_else(|| Error::internal("the batch has no texts"))
}

/// Ids of the pairs of a vocabulary.
fn pair_count(vocabulary: usize) -> usize {
    vocabulary.saturating_mul(vocabulary).min(1 << PAIR_BITS)
}

/// Ids of the words and pairs of a vocabulary.
pub(super) fn gram_count(vocabulary: usize) -> usize {
    vocabulary + pair_count(vocabulary)
}

/// Every row's words, then the pairs of its neighbouring words.
pub(super) fn grams(words: &Words, vocabulary: usize) -> Words {
    let hashed = pair_count(vocabulary) < vocabulary * vocabulary;
    let pair = |pair: &[u32]| {
        let joint = u64::from(pair[0]) * vocabulary as u64 + u64::from(pair[1]);
        // Fibonacci hashing (Knuth, 1973).
        let id = if hashed { joint.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - PAIR_BITS) } else { joint };
        (vocabulary as u64 + id) as u32
    };
    let mut all = Words { ids: Vec::with_capacity(2 * words.ids.len()), ends: Vec::with_capacity(words.ends.len()) };
    let mut start = 0;
    for end in &words.ends {
        let own = &words.ids[start..*end as usize];
        start = *end as usize;
        all.ids.extend_from_slice(own);
        all.ids.extend(own.windows(2).map(pair));
        all.ends.push(all.ids.len() as u32);
    }
    all
}

/// The order of a batch's words, and their ids in it.
fn packed(words: &Words) -> (Arc<Packing>, Arc<[u32]>) {
    let start = |row: usize| if row == 0 { 0 } else { words.ends[row - 1] };
    let lengths: Vec<u32> = words.ends.iter().enumerate().map(|(row, end)| end - start(row)).collect();
    let packing = Packing::new(&lengths);
    let mut ids = Vec::with_capacity(words.ids.len());
    for chunk in packing.chunks() {
        for step in 0..chunk.steps() {
            ids.extend(chunk.rows[..chunk.active(step)].iter().map(|row| words.ids[start(*row as usize) as usize + step]));
        }
    }
    (Arc::new(packing), ids.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_their_pairs() {
        let few = grams(&Words { ids: vec![4, 0, 3, 3, 3], ends: vec![1, 1, 3, 5] }, 5);
        assert_eq!(few, Words { ids: vec![4, 0, 3, 5 + 3, 3, 3, 5 + 18], ends: vec![1, 1, 4, 7] });
        assert_eq!(gram_count(5), 30);
        let many = grams(&Words { ids: vec![7, 8, 9], ends: vec![3] }, 5000);
        assert_eq!((many.ids.len(), gram_count(5000)), (5, 5000 + (1 << 15)));
        assert!(many.ids[3..].iter().all(|id| (5000..gram_count(5000) as u32).contains(id)) && many.ids[3] != many.ids[4]);
    }

    #[test]
    fn words_are_packed_like_steps() {
        let words = Words { ids: vec![10, 20, 21, 22, 30, 31], ends: vec![1, 4, 6] };
        let (packing, ids) = packed(&words);
        assert_eq!(*ids, [20, 30, 10, 21, 31, 22]);
        let padded = [10, 0, 0, 20, 21, 22, 30, 31, 0];
        assert_eq!(*ids, packing.pack(&padded, 3, 1)[..]);
    }
}
