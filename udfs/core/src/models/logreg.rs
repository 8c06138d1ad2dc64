//! Logistic or linear regression: numbers, one-hot categories and the words of texts, one weight each. A strong, readable
//! baseline.
//!
//! A text is a bag of words and pairs of neighbours: the logarithm of each one's count times how rare it is among the
//! training rows, scaled to one length (tf–idf; Salton & Buckley, 1988). Parameter names: `bias`, `weight`, `categorical.<i>.weight`,
//! `text.<i>.{tokens.weight, rarity}`.

use super::architecture::{Forward, Init, Module, ParameterSpec, TABULAR_SHARD, Weights, shared};
use super::batch::Words;
use super::ops::{self, Activation, Pooling, Tape, Var};
use super::tabular::numbers;
use super::text::{gram_count, grams, words};
use super::{Batch, NetworkConfig, Parameters};
use crate::error::Result;
use crate::features::inputs::{Inputs, Texts};

/// See the module.
#[derive(Debug, Clone)]
pub struct Logreg {
    numeric: usize,
    vocabularies: Vec<usize>,
    texts: Vec<usize>,
    outputs: usize,
}

/// Length of a text's weights: with it, words weigh about as much as a scaled number.
const TEXT_LENGTH: f32 = 4.0;

impl Logreg {
    /// From a configuration; only its shape matters.
    pub fn new(config: &NetworkConfig) -> Self {
        let texts = config.shape.texts.iter().map(|text| text.vocabulary).collect();
        Self { numeric: config.shape.numeric, vocabularies: config.shape.categorical.clone(), texts, outputs: config.outputs }
    }

    /// What the words of text `at` add to the logits.
    fn text(&self, tape: &Tape, weights: &Weights, batch: &Batch, at: usize) -> Result<Var> {
        let words = grams(words(batch, at)?, self.texts[at]);
        let rarity = ops::storage::to_vec::<f32>(weights.get(&format!("text.{at}.rarity"))?.value())?;
        let table = weights.get(&format!("text.{at}.tokens.weight"))?.clone();
        let found = ops::embed(tape, &[table], &shared(&words.ids), Pooling::Concat)?;
        ops::sum_segments(tape, &found, &bag_weights(&words, &rarity), &shared(&words.ends))
    }
}

/// The weight of each word of a batch in its row's bag.
fn bag_weights(words: &Words, rarity: &[f32]) -> Vec<f32> {
    let mut weights = Vec::with_capacity(words.ids.len());
    let (mut start, mut sorted) = (0, Vec::new());
    for end in &words.ends {
        let ids = &words.ids[start..*end as usize];
        start = *end as usize;
        sorted.clear();
        sorted.extend_from_slice(ids);
        sorted.sort_unstable();
        let count = |id: u32| (sorted.partition_point(|other| *other <= id) - sorted.partition_point(|other| *other < id)) as f32;
        let own = weights.len();
        // A word that occurs several times has its weight shared between its places.
        let mut squares = 0.0;
        for id in ids {
            let (count, rarity) = (count(*id), rarity.get(*id as usize).copied().unwrap_or(1.0));
            let weight = (1.0 + count.ln()) * rarity;
            squares += weight * weight / count;
            weights.push(weight / count);
        }
        let scale = TEXT_LENGTH / squares.sqrt().max(f32::MIN_POSITIVE);
        weights[own..].iter_mut().for_each(|weight| *weight *= scale);
    }
    weights
}

/// How rare each word and pair is among the rows: `1 + ln((1 + rows) / (1 + rows with it))`.
fn rarity(texts: &Texts, rows: &[u32], vocabulary: usize) -> Vec<f32> {
    let ids = gram_count(vocabulary);
    let (mut counts, mut seen) = (vec![0u32; ids], vec![u32::MAX; ids]);
    for (at, row) in rows.iter().enumerate() {
        let own = texts.row(*row as usize);
        for id in grams(&Words { ids: own.to_vec(), ends: vec![own.len() as u32] }, vocabulary).ids {
            let id = id as usize;
            if std::mem::replace(&mut seen[id], at as u32) != at as u32 {
                counts[id] += 1;
            }
        }
    }
    let rows = rows.len() as f64 + 1.0;
    counts.into_iter().map(|count| (1.0 + (rows / (1.0 + f64::from(count))).ln()) as f32).collect()
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
        for (text, vocabulary) in self.texts.iter().enumerate() {
            let (name, ids) = (format!("text.{text}.tokens.weight"), gram_count(*vocabulary));
            specs.push(ParameterSpec::matrix(name, &[ids, self.outputs], 1).start(Init::Zeros));
            let rarity = ParameterSpec::free(format!("text.{text}.rarity"), &[ids], 1).start(Init::Ones);
            specs.push(ParameterSpec { trainable: false, ..rarity });
        }
        specs
    }

    fn prepare(&self, inputs: &Inputs, rows: &[u32], parameters: &mut Parameters) {
        for (at, (vocabulary, texts)) in self.texts.iter().zip(&inputs.texts).enumerate() {
            parameters.0.insert(format!("text.{at}.rarity"), (vec![gram_count(*vocabulary)], rarity(texts, rows, *vocabulary)));
        }
    }

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
        for at in 0..self.texts.len() {
            let text = self.text(tape, weights, batch, at)?;
            logits = ops::add(tape, &logits, &text)?;
            embedding.push(text);
        }
        let embedding = if want_embedding { Some(ops::concat(tape, &embedding)?) } else { None };
        Ok(Forward { logits, members: 1, embedding, statistics: Vec::new() })
    }

    /// A linear model has no hidden layer: its embedding is the scaled numbers, the categories' weights and what texts add.
    fn embedding_dim(&self) -> usize {
        self.numeric + (self.vocabularies.len() + self.texts.len()) * self.outputs
    }

    fn shard_rows(&self) -> usize {
        TABULAR_SHARD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bag_of_words() {
        let texts = Texts { tokens: vec![2, 3, 2, 2, 4], spans: vec![(0, 3), (2, 2), (4, 1)] };
        let rare = rarity(&texts, &[0, 1], 5);
        // Two training rows: word 2 is in both, word 3 in one, word 4 in none.
        assert!((rare[2] - 1.0).abs() < 1e-6 && (rare[3] - 1.0 - 1.5f32.ln()).abs() < 1e-6 && (rare[4] - 1.0 - 3f32.ln()).abs() < 1e-6);
        let weights = bag_weights(&Words { ids: vec![2, 3, 2, 4], ends: vec![3, 4] }, &[1.0, 1.0, 1.0, 2.0, 5.0]);
        let twice = 1.0 + 2f32.ln();
        let length = (twice * twice + 4.0).sqrt();
        for (got, expected) in weights.iter().zip([twice / 2.0 / length, 2.0 / length, twice / 2.0 / length, 1.0]) {
            assert!((got - TEXT_LENGTH * expected).abs() < 1e-5, "{got} {expected}");
        }
    }
}
