//! Matrix factorisation of implicit feedback (Hu, Koren & Volinsky, "Collaborative filtering for implicit feedback datasets",
//! ICDM 2008), with the objective of Rendle, Krichene, Zhang & Koren ("Revisiting the performance of iALS on item
//! recommendation benchmarks", RecSys 2022):
//!
//! ```text
//! Σ_{(u,i) seen} (w_u·h_i − 1)² + α₀ Σ_u Σ_i (w_u·h_i)² + λ (Σ_u (|I_u| + α₀|I|)^ν ‖w_u‖² + Σ_i (|U_i| + α₀|U|)^ν ‖h_i‖²)
//! ```
//!
//! A user's vector is not stored: it is the closed-form minimum for the items of their history, `A⁻¹ Σ h_i` with
//! `A = α₀ HᵀH + Σ h_i h_iᵀ + λ(…)^ν`. So new users and new events are answered without training again, and the score of an
//! item is a sum over the history, which says why it is recommended.
//!
//! Parameter names, all from closed-form steps instead of gradients (see `train::als`): `history.weight` (a vector of each
//! item token), `history.gram` (`α₀ HᵀH`), `history.rule` (α₀, λ, ν, number of items), `output.weight` (the same vectors by
//! class, zero for classes that are no items).

use std::sync::Arc;

use super::architecture::{Forward, Init, Module, ParameterSpec, TABULAR_SHARD, Weights};
use super::ops::storage::{read, tensor};
use super::ops::{self, Activation, Tape, Var, ridge};
use super::{Batch, NetworkConfig, Parameters};
use crate::error::{Error, Result};
use crate::features::inputs::Inputs;

/// Ids below are no items: NULL and unseen.
pub const FIRST_ITEM: u32 = 2;

/// How strongly vectors are held down.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Regularisation {
    /// Weight of a pair that was not seen (α₀).
    pub unseen: f64,
    /// Strength (λ).
    pub strength: f64,
    /// How much stronger for those with more data (ν).
    pub exponent: f64,
}

impl Regularisation {
    /// λ (seen + α₀ · of)^ν.
    pub fn of(&self, seen: usize, of: usize) -> f64 {
        self.strength * (seen as f64 + self.unseen * of as f64).powf(self.exponent)
    }
}

/// The normal equations of one vector: of the other side's vectors `table [_, dim]` those of `seen` are wanted. `gram [dim,
/// dim]` holds α₀ times the sum over all of them, its lower triangle at least.
pub fn normal_equations(table: &[f32], seen: &[u32], gram: &[f64], penalty: f64, dim: usize) -> (Vec<f64>, Vec<f64>) {
    let (mut a, mut b) = (gram.to_vec(), vec![0.0; dim]);
    for id in seen {
        let v = &table[*id as usize * dim..][..dim];
        ridge::add_outer(&mut a, v, 1.0);
        b.iter_mut().zip(v).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    (0..dim).for_each(|k| a[k * dim + k] += penalty);
    (a, b)
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Mf {
    item_field: usize,
    fields: usize,
    tokens: usize,
    dim: usize,
    items: usize,
}

/// What scoring reads of the parameters.
struct Learned {
    gram: Vec<f64>,
    rule: Regularisation,
    items: usize,
}

impl Mf {
    /// From a configuration whose shape has a sequence with items.
    pub fn new(config: &NetworkConfig) -> Self {
        let fields = config.shape.sequence.as_ref().map(|sequence| sequence.fields.clone()).unwrap_or_default();
        let item_field = config.catalogue.unwrap_or_default().item_field;
        Self {
            item_field,
            fields: fields.len(),
            tokens: fields.get(item_field).copied().unwrap_or(0),
            dim: config.embedding_dim,
            items: config.outputs,
        }
    }

    /// The distinct items of a row's history, in order of their ids.
    fn seen(&self, batch: &Batch, row: usize) -> Vec<u32> {
        let steps = (0..batch.lengths[row] as usize).map(|step| self.token(batch, row, step));
        let mut seen: Vec<u32> = steps.filter(|id| *id >= FIRST_ITEM).collect();
        seen.sort_unstable();
        seen.dedup();
        seen
    }

    /// Each distinct item of a row's history with its last step.
    fn last_steps(&self, batch: &Batch, row: usize) -> Vec<(u32, usize)> {
        let mut last: Vec<(u32, usize)> = Vec::new();
        for step in (0..batch.lengths[row] as usize).rev() {
            let id = self.token(batch, row, step);
            if id >= FIRST_ITEM && last.iter().all(|(known, _)| *known != id) {
                last.push((id, step));
            }
        }
        last
    }

    fn token(&self, batch: &Batch, row: usize, step: usize) -> u32 {
        batch.tokens[(row * batch.seq_len + step) * self.fields + self.item_field]
    }

    fn learned(&self, weights: &Weights) -> Result<Learned> {
        let gram = read(weights.get("history.gram")?.value())?.slice::<f32>()?.iter().map(|value| f64::from(*value)).collect();
        let rule = read(weights.get("history.rule")?.value())?.slice::<f32>()?.to_vec();
        let [unseen, strength, exponent, items] = rule[..] else { return Err(Error::internal("mf: the rule has four numbers")) };
        let rule = Regularisation { unseen: f64::from(unseen), strength: f64::from(strength), exponent: f64::from(exponent) };
        Ok(Learned { gram, rule, items: items as usize })
    }

    fn check(&self, batch: &Batch) -> Result<()> {
        let fits = batch.lengths.len() == batch.rows && batch.tokens.len() == batch.rows * batch.seq_len * self.fields;
        let known = batch.tokens.iter().skip(self.item_field).step_by(self.fields.max(1)).all(|id| (*id as usize) < self.tokens);
        if fits && known { Ok(()) } else { Err(Error::internal("mf: the batch has other sequences")) }
    }

    /// `[rows, dim]`.
    fn users(&self, tape: &Tape, weights: &Weights, batch: &Batch) -> Result<Var> {
        self.check(batch)?;
        let learned = self.learned(weights)?;
        let guard = read(weights.get("history.weight")?.value())?;
        let table = guard.slice::<f32>()?;
        let mut users = Vec::with_capacity(batch.rows * self.dim);
        for row in 0..batch.rows {
            let seen = self.seen(batch, row);
            let penalty = learned.rule.of(seen.len(), learned.items);
            let (mut a, mut b) = normal_equations(table, &seen, &learned.gram, penalty, self.dim);
            if !seen.is_empty() {
                ridge::solve(&mut a, &mut b);
            }
            users.extend(b.iter().map(|value| *value as f32));
        }
        tape.constant(&tensor(users, &[batch.rows, self.dim])?)
    }
}

impl Module for Mf {
    fn specs(&self) -> Vec<ParameterSpec> {
        let given =
            |name: &str, shape: &[usize], init| ParameterSpec { trainable: false, ..ParameterSpec::free(name, shape, 1).start(init) };
        // A standard deviation of 0.1/√dim, as in Rendle et al.
        let start = Init::Uniform(0.1 * (3.0 / self.dim as f64).sqrt());
        vec![
            given("history.weight", &[self.tokens, self.dim], start),
            given("history.gram", &[self.dim, self.dim], Init::Zeros),
            given("history.rule", &[4], Init::Zeros),
            given("output.weight", &[self.items, self.dim], Init::Zeros),
        ]
    }

    fn prepare(&self, _: &Inputs, _: &[u32], _: &mut Parameters) {}

    fn forward(&self, tape: &Tape, weights: &Weights, batch: &Batch, want_embedding: bool) -> Result<Forward> {
        let users = self.users(tape, weights, batch)?;
        let logits = ops::linear(tape, &users, weights.get("output.weight")?, None, Activation::Identity)?;
        Ok(Forward { logits, members: 1, embedding: want_embedding.then_some(users), statistics: Vec::new() })
    }

    fn states(&self, tape: &Tape, weights: &Weights, batch: &Batch) -> Result<Option<Var>> {
        self.users(tape, weights, batch).map(Some)
    }

    fn items(&self, tape: &Tape, weights: &Weights, ids: &Arc<[u32]>) -> Result<(Var, Option<Var>)> {
        Ok((ops::gather(tape, weights.get("output.weight")?, ids)?, None))
    }

    fn has_items(&self) -> bool {
        true
    }

    /// `h_class · A⁻¹ h_item` for each item of the history (Hu et al., 2008, section 5), at the last step about it.
    fn contributions(&self, weights: &Weights, batch: &Batch, classes: &[u32]) -> Result<Option<Vec<f32>>> {
        self.check(batch)?;
        let learned = self.learned(weights)?;
        let (history, output) = (read(weights.get("history.weight")?.value())?, read(weights.get("output.weight")?.value())?);
        let (table, classes_table) = (history.slice::<f32>()?, output.slice::<f32>()?);
        let per_row = classes.len() / batch.rows.max(1);
        let mut all = vec![0f32; classes.len() * batch.seq_len];
        for row in 0..batch.rows {
            let seen = self.seen(batch, row);
            let penalty = learned.rule.of(seen.len(), learned.items);
            let (mut a, _) = normal_equations(table, &seen, &learned.gram, penalty, self.dim);
            if !ridge::factor(&mut a, self.dim) {
                continue;
            }
            let last = self.last_steps(batch, row);
            for at in row * per_row..(row + 1) * per_row {
                let wanted = &classes_table[classes[at] as usize * self.dim..][..self.dim];
                let mut direction: Vec<f64> = wanted.iter().map(|value| f64::from(*value)).collect();
                ridge::substitute(&a, &mut direction);
                for (id, step) in &last {
                    let own = &table[*id as usize * self.dim..][..self.dim];
                    all[at * batch.seq_len + step] = own.iter().zip(&direction).map(|(x, y)| f64::from(*x) * y).sum::<f64>() as f32;
                }
            }
        }
        Ok(Some(all))
    }

    fn embedding_dim(&self) -> usize {
        self.dim
    }

    fn shard_rows(&self) -> usize {
        TABULAR_SHARD
    }
}
