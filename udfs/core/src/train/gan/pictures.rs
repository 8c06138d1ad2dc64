//! Pictures: a critic of bounded slope with the hinge loss, told the class that a picture shall have.

use super::player::{Player, constants};
use super::{Game, Losses, Recipe, random};
use crate::error::{Error, Result};
use crate::features::inputs::ImageShape;
use crate::features::rows::RowTable;
use crate::models::gan::pictures::{Spectrum, critic_specs, criticise};
use crate::models::gan::{Draw, Generator, condition_width};
use crate::models::ops::{self, BatchStatistics, Philox, Tape, Var, storage};
use crate::models::{Module, Parameters};

/// Decay of Adam's moments.
const BETAS: [f64; 2] = [0.5, 0.999];

/// See the module.
pub(super) struct Pictures<'a> {
    recipe: &'a Recipe,
    image: ImageShape,
    images: &'a [u8],
    /// The class of each picture; empty when there are none.
    classes: &'a [u32],
    module: Generator,
    generator: Player,
    critic: Player,
    spectrum: Spectrum,
}

impl<'a> Pictures<'a> {
    pub(super) fn new(table: &'a RowTable, recipe: &'a Recipe) -> Result<Self> {
        let Recipe { config, seed, weight_decay, .. } = recipe;
        let image = config.shape.image.ok_or_else(|| Error::internal("gan: no pictures"))?;
        if table.train.images.len() < image.len() {
            return Err(Error::invalid("there are no pictures to train on"));
        }
        let module = Generator::new(config);
        Ok(Self {
            recipe,
            image,
            images: &table.train.images,
            classes: if condition_width(config) > 0 { &table.train.encoded.classes } else { &[] },
            generator: Player::new(module.specs(), *seed, recipe.generator_rate, *weight_decay, BETAS)?,
            critic: Player::new(critic_specs(config, image), *seed, recipe.critic_rate, *weight_decay, BETAS)?,
            module,
            spectrum: Spectrum::default(),
        })
    }

    fn stream(&self, name: &str, step: u32) -> Philox {
        random(self.recipe.seed, name).at_step(step)
    }

    /// Pictures by chance: in ±1, with their classes.
    fn real(&self, step: u32) -> (Vec<f32>, Vec<u32>) {
        let (len, chance) = (self.image.len(), self.stream("real pictures", step));
        let count = (self.images.len() / len) as u32;
        let (mut pictures, mut classes) = (Vec::with_capacity(self.recipe.batch * len), Vec::with_capacity(self.recipe.batch));
        for at in 0..self.recipe.batch {
            let row = chance.below(at as u64, count) as usize;
            pictures.extend(self.images[row * len..(row + 1) * len].iter().map(|value| f32::from(*value) / 127.5 - 1.0));
            classes.push(self.classes.get(row).copied().unwrap_or(0));
        }
        (pictures, classes)
    }

    /// Noise, and the classes that pictures made of it shall have: those of real ones, as often.
    fn noise(&self, name: &str, step: u32) -> (Draw, Vec<u32>) {
        let chance = self.stream(name, step).fork(2);
        let class = |at: usize| self.classes[chance.below(at as u64, self.classes.len() as u32) as usize];
        let classes: Vec<u32> = (0..self.recipe.batch).map(|at| if self.classes.is_empty() { 0 } else { class(at) }).collect();
        let draw = Draw::new(&self.recipe.config, self.stream(name, step), 0, self.recipe.batch, |row| Some(classes[row] as usize));
        (draw, classes)
    }

    fn constant(&self, tape: &Tape, pictures: Vec<f32>) -> Result<Var> {
        let ImageShape { height, width, channels } = self.image;
        tape.constant(&storage::tensor(pictures, &[self.recipe.batch, height, width, channels])?)
    }

    /// One step of the critic; its loss.
    fn criticise(&mut self, step: u32) -> Result<Option<f64>> {
        let config = &self.recipe.config;
        let ((real, real_classes), (draw, classes)) = (self.real(step), self.noise("critic's noise", step));
        let apart = Tape::recording(self.stream("critic's pictures", step));
        let made = storage::to_vec::<f32>(self.module.generate(&apart, &self.generator.weights(&apart, false)?, &draw)?.rows.value())?;
        let tape = Tape::recording(self.stream("critic", step));
        let weights = self.critic.weights(&tape, true)?;
        self.spectrum.step(&weights)?;
        let bounded = self.spectrum.normalise(&tape, &weights)?;
        let real = criticise(config, &tape, &bounded, &self.constant(&tape, real)?, &real_classes)?;
        let made = criticise(config, &tape, &bounded, &self.constant(&tape, made)?, &classes)?;
        let (real, made) = (ops::hinge(&tape, &real, 1.0)?, ops::hinge(&tape, &made, -1.0)?);
        let loss = ops::weighted_sum(&tape, &[(&real, 1.0), (&made, 1.0)])?;
        let value = loss.scalar()?;
        if !value.is_finite() {
            return Ok(None);
        }
        let gradients = tape.backward(&loss)?;
        Ok(self.critic.learn(&weights, &gradients)?.then_some(value))
    }

    /// One step of the generator; its loss.
    fn generate(&mut self, step: u32) -> Result<Option<f64>> {
        let (draw, classes) = self.noise("noise", step);
        let tape = Tape::recording(self.stream("generator", step));
        let weights = self.generator.weights(&tape, true)?;
        let bounded = self.spectrum.normalise(&tape, &self.critic.weights(&tape, false)?)?;
        let made = self.module.generate(&tape, &weights, &draw)?;
        let said = ops::mean(&tape, &criticise(&self.recipe.config, &tape, &bounded, &made.rows, &classes)?)?;
        let loss = ops::weighted_sum(&tape, &[(&said, -1.0)])?;
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

impl Game for Pictures<'_> {
    fn step(&mut self, step: u32) -> Result<Option<Losses>> {
        let (critic, generator) = (self.criticise(step)?, self.generate(step)?);
        Ok(critic.zip(generator).map(|(critic, generator)| Losses { critic, generator }))
    }

    fn generator(&self) -> &Player {
        &self.generator
    }

    fn statistics(&self, parameters: &Parameters, step: u32) -> Result<Vec<(String, BatchStatistics)>> {
        let tape = Tape::recording(self.stream("settling", step));
        let (draw, _) = self.noise("settling noise", step);
        Ok(self.module.generate(&tape, &constants(parameters, &tape)?, &draw)?.statistics)
    }
}
