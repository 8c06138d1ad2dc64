//! Generative adversarial networks (Goodfellow et al., 2014): a generator that makes rows or pictures from noise, and a
//! critic that tells them from real ones. Of a trained model only the generator is kept.
//!
//! The configuration says all: with a picture in its shape the networks are those of [`pictures`], else those of [`tabular`],
//! whose rows are `shape.numeric` numbers, the modes of each of them, and the classes of the other columns
//! (`shape.categorical` holds the widths, those of the numbers' modes first). `embedding_dim` is the width of the noise,
//! `outputs` the number of classes that pictures are made of.

pub mod pictures;
pub mod tabular;

use super::architecture::{Forward, Init, Module, ParameterSpec, Weights};
use super::ops::{self, BatchStatistics, Philox, RowLayout, Tape, Var};
use super::{Batch, NetworkConfig, Parameters};
use crate::error::{Error, Result};
use crate::features::inputs::Inputs;

/// What rows are made from.
#[derive(Debug, Clone)]
pub struct Draw {
    /// How many.
    pub rows: usize,
    /// `[rows, noise width]`, standard normal.
    pub noise: Vec<f32>,
    /// `[rows, condition width]`: one 1 in each row where there is a condition.
    pub condition: Vec<f32>,
    /// Random numbers of the choices between classes: row `r` has those of row `first + r`.
    pub random: Philox,
    /// See `random`.
    pub first: u64,
}

impl Draw {
    /// Noise for `rows` rows from row `first` of the stream on. `condition(row)` is the column of the condition that is 1.
    pub fn new(config: &NetworkConfig, random: Philox, first: u64, rows: usize, condition: impl Fn(usize) -> Option<usize>) -> Self {
        let (width, wide) = (config.embedding_dim, condition_width(config));
        let mut draw = Self { rows, noise: vec![0.0; rows * width], condition: vec![0.0; rows * wide], random: random.fork(1), first };
        for (row, noise) in draw.noise.chunks_exact_mut(width.max(1)).enumerate() {
            ops::fill_normal(random, first + row as u64, noise);
            if let Some(at) = condition(row).filter(|at| *at < wide) {
                draw.condition[row * wide + at] = 1.0;
            }
        }
        draw
    }

    /// Noise beside condition: `[rows, noise + condition]`.
    fn input(&self, tape: &Tape, config: &NetworkConfig) -> Result<Var> {
        let (width, wide) = (config.embedding_dim, condition_width(config));
        if self.noise.len() != self.rows * width || self.condition.len() != self.rows * wide {
            return Err(Error::internal("gan: the noise does not have the generator's shape"));
        }
        let mut input = Vec::with_capacity(self.rows * (width + wide));
        for row in 0..self.rows {
            input.extend_from_slice(&self.noise[row * width..(row + 1) * width]);
            input.extend_from_slice(&self.condition[row * wide..(row + 1) * wide]);
        }
        tape.constant(&ops::storage::tensor(input, &[self.rows, width + wide])?)
    }
}

/// What a generator made.
#[derive(Debug)]
pub struct Generated {
    /// `[rows, row width]`, or pictures `[rows, height, width, channels]` in ±1.
    pub rows: Var,
    /// The same before activation, for rows of tables.
    pub logits: Option<Var>,
    /// While training, what the batch said of each normalisation, by its name.
    pub statistics: Vec<(String, BatchStatistics)>,
}

/// Width of what a generator is told beside its noise: the classes of the columns that are no numbers, or of the pictures.
#[must_use]
pub fn condition_width(config: &NetworkConfig) -> usize {
    let shape = &config.shape;
    match shape.image {
        Some(_) if config.outputs > 1 => config.outputs,
        Some(_) => 0,
        None => shape.categorical.iter().skip(shape.numeric).sum(),
    }
}

/// How a generated row is divided.
#[must_use]
pub fn layout(config: &NetworkConfig) -> RowLayout {
    RowLayout { numeric: config.shape.numeric, groups: config.shape.categorical.clone() }
}

/// The generator as a module: it makes rows, and scores none.
#[derive(Debug, Clone)]
pub struct Generator {
    config: NetworkConfig,
}

impl Generator {
    /// From a configuration.
    #[must_use]
    pub fn new(config: &NetworkConfig) -> Self {
        Self { config: config.clone() }
    }
}

impl Module for Generator {
    fn specs(&self) -> Vec<ParameterSpec> {
        match self.config.shape.image {
            Some(image) => pictures::generator_specs(&self.config, image),
            None => tabular::generator_specs(&self.config),
        }
    }

    fn prepare(&self, _: &Inputs, _: &[u32], _: &mut Parameters) {}

    fn forward(&self, _: &Tape, _: &Weights, _: &Batch, _: bool) -> Result<Forward> {
        Err(Error::invalid("a gan generates rows and predicts nothing").hint("Use generate_rows(model, n)."))
    }

    fn embedding_dim(&self) -> usize {
        0
    }

    fn generate(&self, tape: &Tape, weights: &Weights, draw: &Draw) -> Result<Generated> {
        match self.config.shape.image {
            Some(image) => pictures::generate(&self.config, image, tape, weights, draw),
            None => tabular::generate(&self.config, tape, weights, draw),
        }
    }
}

/// The parameters of a batch normalisation.
fn norm_specs(name: &str, width: usize) -> [ParameterSpec; 4] {
    let constant = |part: &str, init| {
        let spec = ParameterSpec::free(format!("{name}.{part}"), &[width], 1).start(init);
        ParameterSpec { trainable: false, ..spec }
    };
    [
        ParameterSpec::free(format!("{name}.weight"), &[width], 1).start(Init::Ones),
        ParameterSpec::free(format!("{name}.bias"), &[width], 1).start(Init::Zeros),
        constant("running_mean", Init::Zeros),
        constant("running_var", Init::Ones),
    ]
}

/// The normalisation `name` of `x [rows, height, width, channels]` and the relu behind it: by the batch while the tape
/// records, else by the running statistics.
fn norm_relu(tape: &Tape, weights: &Weights, name: &str, x: &Var, statistics: &mut Vec<(String, BatchStatistics)>) -> Result<Var> {
    let get = |part: &str| weights.get(&format!("{name}.{part}"));
    let (mean, variance) = (get("running_mean")?, get("running_var")?);
    let norm = ops::NormWeights { weight: get("weight")?, bias: get("bias")?, mean, variance };
    if tape.is_recording() {
        let (y, seen) = ops::batch_norm2d::batch_norm_relu(tape, x, norm, None)?;
        statistics.push((name.to_owned(), seen));
        return Ok(y);
    }
    ops::batch_norm2d::running_norm_relu(tape, x, norm)
}
