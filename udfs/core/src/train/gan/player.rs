//! One of the two networks while it learns, and the running mean of the generator's weights.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::models::architecture::{ParameterSpec, Weights};
use crate::models::ops::{BatchStatistics, Gradients, Optimizer, OptimizerKind, Rule, StepOutcome, Tape, Update, storage};
use crate::models::{Parameters, Tensor};

/// What a batch counts for in the running statistics; PyTorch's default.
const STATISTICS_SHARE: f32 = 0.1;
/// How much of the mean of weights stays at each step, once there were many.
const AVERAGE_SHARE: f64 = 0.999;

/// See the module.
#[derive(Debug)]
pub(super) struct Player {
    learned: Vec<(ParameterSpec, Tensor)>,
    optimizer: Optimizer,
    rate: f64,
}

impl Player {
    /// A network at its start, learning by Adam.
    pub(super) fn new(specs: Vec<ParameterSpec>, seed: u64, rate: f64, weight_decay: f64, betas: [f64; 2]) -> Result<Self> {
        let mut learned = Vec::with_capacity(specs.len());
        for spec in specs {
            let tensor = storage::tensor(spec.initial(seed), &spec.shape)?;
            learned.push((spec, tensor));
        }
        learned.sort_by(|a, b| a.0.name.cmp(&b.0.name));
        let optimizer = Optimizer::new(Rule::usual(OptimizerKind::Adam, weight_decay, None)).with_betas(betas);
        Ok(Self { learned, optimizer, rate })
    }

    /// Its weights on `tape`: leaves when it shall learn, else constants.
    pub(super) fn weights(&self, tape: &Tape, learns: bool) -> Result<Weights> {
        let mut weights = Weights::default();
        for (spec, tensor) in &self.learned {
            let var = if learns && spec.trainable { tape.leaf(tensor)? } else { tape.constant(tensor)? };
            weights.insert(spec.name.clone(), var);
        }
        Ok(weights)
    }

    /// One step along the gradients of these weights; whether they were finite.
    pub(super) fn learn(&mut self, weights: &Weights, gradients: &Gradients) -> Result<bool> {
        let mut updates = Vec::with_capacity(self.learned.len());
        for (spec, tensor) in &self.learned {
            if let Some(gradient) = gradients.get(weights.get(&spec.name)?) {
                updates.push(Update { name: &spec.name, weights: tensor, gradient, decays: spec.decays });
            }
        }
        Ok(matches!(self.optimizer.step(&updates, self.rate)?, StepOutcome::Done(_)))
    }

    /// Moves running statistics towards those of a batch.
    pub(super) fn remember(&self, statistics: &[(String, BatchStatistics)]) -> Result<()> {
        for (name, seen) in statistics {
            for (part, seen) in [("running_mean", &seen.mean), ("running_var", &seen.variance)] {
                let name = format!("{name}.{part}");
                let own = self.learned.iter().find(|(spec, _)| spec.name == name);
                let (_, tensor) = own.ok_or_else(|| Error::internal(format!("parameter \"{name}\" is not declared")))?;
                storage::modify::<f32>(tensor, |values| {
                    let moved = |value: f32, seen: f64| value + (seen as f32 - value) * STATISTICS_SHARE;
                    values.iter_mut().zip(seen).for_each(|(value, seen)| *value = moved(*value, *seen));
                })?;
            }
        }
        Ok(())
    }
}

/// Weights that are held nowhere else, on `tape`.
pub(super) fn constants(parameters: &Parameters, tape: &Tape) -> Result<Weights> {
    let mut weights = Weights::default();
    for (name, (shape, values)) in &parameters.0 {
        weights.insert(name.clone(), tape.constant(&storage::tensor(values.clone(), shape)?)?);
    }
    Ok(weights)
}

/// The running mean of a generator's weights (Yazıcı et al., "The unusual effectiveness of averaging in GAN training", 2019).
#[derive(Debug)]
pub(super) struct Average {
    values: BTreeMap<String, Vec<f32>>,
    steps: u32,
}

impl Average {
    /// Of nothing yet.
    pub(super) fn new(player: &Player) -> Result<Self> {
        let values = player.learned.iter().map(|(spec, tensor)| Ok((spec.name.clone(), storage::to_vec::<f32>(tensor)?)));
        Ok(Self { values: values.collect::<Result<_>>()?, steps: 0 })
    }

    /// Weights taken so far.
    pub(super) const fn steps(&self) -> u32 {
        self.steps
    }

    /// Takes the weights as they are now.
    pub(super) fn take(&mut self, player: &Player) -> Result<()> {
        self.steps += 1;
        let steps = f64::from(self.steps);
        // The first weights are far from the last ones: they are forgotten sooner.
        let kept = AVERAGE_SHARE.min((1.0 + steps) / (10.0 + steps)) as f32;
        for (spec, tensor) in &player.learned {
            let held = storage::read(tensor)?;
            if let Some(mean) = self.values.get_mut(&spec.name) {
                mean.iter_mut().zip(held.slice::<f32>()?).for_each(|(mean, value)| *mean = value + (*mean - value) * kept);
            }
        }
        Ok(())
    }

    /// The mean as parameters.
    pub(super) fn parameters(&self, player: &Player) -> Result<Parameters> {
        let mut parameters = Parameters::default();
        for (spec, _) in &player.learned {
            let values = self.values.get(&spec.name).ok_or_else(|| Error::internal("a weight was not averaged"))?;
            parameters.0.insert(spec.name.clone(), (spec.shape.clone(), values.clone()));
        }
        Ok(parameters)
    }
}
