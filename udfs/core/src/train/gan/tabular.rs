//! Rows of tables: a Wasserstein critic with gradient penalty, and a generator that also has to give each row the class it was
//! told (CTGAN, Xu et al., 2019).

use super::player::{Player, constants};
use super::sampler::{Drawn, Sampler};
use super::{Game, Losses, Recipe, random};
use crate::error::{Error, Result};
use crate::features::rows::{EncodedRows, RowTable};
use crate::models::gan::{Draw, Generator, condition_width, tabular};
use crate::models::ops::{self, BatchStatistics, Philox, RowLayout, Tape, Var, storage};
use crate::models::{Module, Parameters};

/// Decay of Adam's moments.
const BETAS: [f64; 2] = [0.5, 0.9];
/// Weight of the gradient penalty.
const PENALTY: f64 = 10.0;

/// See the module.
pub(super) struct Rows<'a> {
    recipe: &'a Recipe,
    encoded: &'a EncodedRows,
    layout: RowLayout,
    sampler: Sampler,
    module: Generator,
    generator: Player,
    critic: Player,
}

impl<'a> Rows<'a> {
    pub(super) fn new(table: &'a RowTable, recipe: &'a Recipe) -> Result<Self> {
        let Recipe { config, seed, weight_decay, .. } = recipe;
        let (encoded, module) = (&table.train.encoded, Generator::new(config));
        if encoded.rows == 0 {
            return Err(Error::invalid("there are no rows to train on"));
        }
        Ok(Self {
            recipe,
            encoded,
            layout: crate::models::gan::layout(config),
            sampler: Sampler::new(encoded, config.shape.numeric, &config.shape.categorical),
            generator: Player::new(module.specs(), *seed, recipe.generator_rate, *weight_decay, BETAS)?,
            critic: Player::new(tabular::critic_specs(config), *seed, recipe.critic_rate, *weight_decay, BETAS)?,
            module,
        })
    }

    /// The vectors of real rows: `[rows, width]`.
    fn real(&self, drawn: &[Drawn]) -> Vec<f32> {
        let (width, numeric, groups) = (self.layout.width(), self.layout.numeric, self.layout.groups.len());
        let mut all = vec![0.0; drawn.len() * width];
        for (to, Drawn { row, .. }) in all.chunks_exact_mut(width).zip(drawn) {
            let row = *row as usize;
            to[..numeric].copy_from_slice(&self.encoded.places[row * numeric..(row + 1) * numeric]);
            for ((start, _), class) in self.layout.spans().zip(&self.encoded.classes[row * groups..(row + 1) * groups]) {
                to[start + *class as usize] = 1.0;
            }
        }
        all
    }

    fn stream(&self, name: &str, step: u32) -> Philox {
        random(self.recipe.seed, name).at_step(step)
    }

    /// Noise with the conditions of `drawn`.
    fn noise(&self, name: &str, step: u32, drawn: &[Drawn]) -> Draw {
        let column = |row: usize| drawn[row].condition.map(|condition| condition.column);
        Draw::new(&self.recipe.config, self.stream(name, step), 0, drawn.len(), column)
    }

    fn condition(&self, tape: &Tape, draw: &Draw) -> Result<Var> {
        tape.constant(&storage::tensor(draw.condition.clone(), &[draw.rows, condition_width(&self.recipe.config)])?)
    }

    /// One step of the critic; its loss.
    fn criticise(&mut self, step: u32) -> Result<Option<f64>> {
        let config = &self.recipe.config;
        let drawn = self.sampler.draw(self.stream("real rows", step), self.recipe.batch);
        let draw = self.noise("critic's noise", step, &drawn);
        // The generator does not learn here, but its normalisation is that of a batch.
        let apart = Tape::recording(self.stream("critic's rows", step));
        let made = storage::to_vec::<f32>(self.module.generate(&apart, &self.generator.weights(&apart, false)?, &draw)?.rows.value())?;
        let real = self.real(&drawn);
        let between = self.between(step, &real, &made);
        let tape = Tape::recording(self.stream("critic", step));
        let (weights, condition) = (self.critic.weights(&tape, true)?, self.condition(&tape, &draw)?);
        let packs = |values: Vec<f32>| {
            let rows = tape.constant(&storage::tensor(values, &[draw.rows, self.layout.width()])?)?;
            tabular::packed(config, &tape, &rows, &condition)
        };
        let (real, made, between) = (packs(real)?, packs(made)?, packs(between)?);
        let real = ops::mean(&tape, &tabular::criticise(&tape, &weights, &real)?.0)?;
        let made = ops::mean(&tape, &tabular::criticise(&tape, &weights, &made)?.0)?;
        let penalty = tabular::gradient_penalty(&tape, &weights, &between)?;
        let loss = ops::weighted_sum(&tape, &[(&made, 1.0), (&real, -1.0), (&penalty, PENALTY)])?;
        let value = loss.scalar()?;
        if !value.is_finite() {
            return Ok(None);
        }
        let gradients = tape.backward(&loss)?;
        Ok(self.critic.learn(&weights, &gradients)?.then_some(value))
    }

    /// Points between real and generated packs, where the critic's slope is looked at.
    fn between(&self, step: u32, real: &[f32], made: &[f32]) -> Vec<f32> {
        let (chance, pack) = (self.stream("between", step), tabular::PACK * self.layout.width());
        let mix = |(at, (real, made)): (usize, (&f32, &f32))| {
            let share = chance.uniform((at / pack) as u64) as f32;
            made + (real - made) * share
        };
        real.iter().zip(made).enumerate().map(mix).collect()
    }

    /// One step of the generator; its loss.
    fn generate(&mut self, step: u32) -> Result<Option<f64>> {
        let config = &self.recipe.config;
        let drawn = self.sampler.draw(self.stream("conditions", step), self.recipe.batch);
        let draw = self.noise("noise", step, &drawn);
        let tape = Tape::recording(self.stream("generator", step));
        let (weights, critic) = (self.generator.weights(&tape, true)?, self.critic.weights(&tape, false)?);
        let made = self.module.generate(&tape, &weights, &draw)?;
        let packs = tabular::packed(config, &tape, &made.rows, &self.condition(&tape, &draw)?)?;
        let said = ops::mean(&tape, &tabular::criticise(&tape, &critic, &packs)?.0)?;
        let chosen: Option<Vec<(u32, u32)>> = drawn.iter().map(|drawn| drawn.condition.map(|own| (own.group, own.class))).collect();
        let loss = match (chosen, &made.logits) {
            (Some(chosen), Some(logits)) => {
                let missed = ops::chosen_cross_entropy(&tape, logits, &self.layout, &chosen)?;
                ops::weighted_sum(&tape, &[(&said, -1.0), (&missed, 1.0)])?
            }
            _ => ops::weighted_sum(&tape, &[(&said, -1.0)])?,
        };
        let value = loss.scalar()?;
        if !value.is_finite() {
            return Ok(None);
        }
        let gradients = tape.backward(&loss)?;
        if !self.generator.learn(&weights, &gradients)? {
            return Ok(None);
        }
        self.generator.remember(&made.statistics)?;
        Ok(Some(value))
    }
}

impl Game for Rows<'_> {
    fn step(&mut self, step: u32) -> Result<Option<Losses>> {
        let (critic, generator) = (self.criticise(step)?, self.generate(step)?);
        Ok(critic.zip(generator).map(|(critic, generator)| Losses { critic, generator }))
    }

    fn generator(&self) -> &Player {
        &self.generator
    }

    fn statistics(&self, parameters: &Parameters, step: u32) -> Result<Vec<(String, BatchStatistics)>> {
        // Under conditions as in training: a row becomes what it would have become there.
        let drawn = self.sampler.draw(self.stream("settling", step), self.recipe.batch);
        let tape = Tape::recording(self.stream("settling rows", step));
        let weights = constants(parameters, &tape)?;
        Ok(self.module.generate(&tape, &weights, &self.noise("settling noise", step, &drawn))?.statistics)
    }
}
