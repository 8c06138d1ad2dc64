//! The networks of CTGAN (Xu et al., "Modeling tabular data using conditional GAN", 2019): a generator of residual blocks,
//! told which class one of its columns shall have, and a critic that sees several rows at once (Lin et al., "PacGAN", 2018),
//! so that it notices when all rows look alike.
//!
//! Parameter names: `generator.blocks.<i>.{linear, norm}.…`, `generator.output.{weight, bias}`, `critic.layers.<i>.{weight,
//! bias}`, `critic.output.{weight, bias}`.

use super::{Draw, Generated, condition_width, layout, norm_relu, norm_specs};
use crate::error::Result;
use crate::models::NetworkConfig;
use crate::models::architecture::{ParameterSpec, Weights};
use crate::models::ops::{self, Activation, Tape, Var};

/// Rows that the critic sees at once.
pub const PACK: usize = 10;
/// Dense layers of the critic.
const CRITIC_LAYERS: usize = 2;
/// Slope of the critic's leaky relus.
const SLOPE: f64 = 0.2;
/// Share of the critic's units that are silenced.
const DROPOUT: f32 = 0.5;
/// Sharpness of the choice between classes.
const TEMPERATURE: f64 = 0.2;

fn dense(name: &str, outputs: usize, inputs: usize) -> [ParameterSpec; 2] {
    [
        ParameterSpec::matrix(format!("{name}.weight"), &[outputs, inputs], inputs),
        ParameterSpec::free(format!("{name}.bias"), &[outputs], inputs),
    ]
}

/// The generator's parameters.
pub(super) fn generator_specs(config: &NetworkConfig) -> Vec<ParameterSpec> {
    let (mut width, mut specs) = (config.embedding_dim + condition_width(config), Vec::new());
    for block in 0..config.layers {
        specs.extend(dense(&format!("generator.blocks.{block}.linear"), config.hidden_dim, width));
        specs.extend(norm_specs(&format!("generator.blocks.{block}.norm"), config.hidden_dim));
        width += config.hidden_dim;
    }
    specs.extend(dense("generator.output", layout(config).width(), width));
    specs
}

/// Rows from noise.
pub(super) fn generate(config: &NetworkConfig, tape: &Tape, weights: &Weights, draw: &Draw) -> Result<Generated> {
    let (mut x, mut statistics) = (draw.input(tape, config)?, Vec::new());
    for block in 0..config.layers {
        let h = linear(tape, weights, &format!("generator.blocks.{block}.linear"), &x)?;
        let h = ops::reshape(tape, &h, &[draw.rows, 1, 1, config.hidden_dim])?;
        let h = norm_relu(tape, weights, &format!("generator.blocks.{block}.norm"), &h, &mut statistics)?;
        x = ops::concat(tape, &[ops::reshape(tape, &h, &[draw.rows, config.hidden_dim])?, x])?;
    }
    let logits = linear(tape, weights, "generator.output", &x)?;
    let rows = ops::gumbel_rows(tape, &logits, &layout(config), TEMPERATURE, draw.random, draw.first)?;
    Ok(Generated { rows, logits: Some(logits), statistics })
}

fn linear(tape: &Tape, weights: &Weights, name: &str, x: &Var) -> Result<Var> {
    let (weight, bias) = (weights.get(&format!("{name}.weight"))?, weights.get(&format!("{name}.bias"))?);
    ops::linear(tape, x, weight, Some(bias), Activation::Identity)
}

/// Width of what the critic sees.
fn critic_width(config: &NetworkConfig) -> usize {
    PACK * (layout(config).width() + condition_width(config))
}

/// The critic's parameters.
pub(crate) fn critic_specs(config: &NetworkConfig) -> Vec<ParameterSpec> {
    let (mut width, mut specs) = (critic_width(config), Vec::new());
    for layer in 0..CRITIC_LAYERS {
        specs.extend(dense(&format!("critic.layers.{layer}"), config.hidden_dim, width));
        width = config.hidden_dim;
    }
    specs.extend(dense("critic.output", 1, width));
    specs
}

/// Rows beside their conditions, [`PACK`] after another: `rows [n, row width]`, `condition [n, condition width]` → `[n / PACK, …]`.
///
/// # Errors
/// `Internal` when `n` is no multiple of [`PACK`].
pub(crate) fn packed(config: &NetworkConfig, tape: &Tape, rows: &Var, condition: &Var) -> Result<Var> {
    let count = rows.dims2()?.0;
    let beside = if condition_width(config) == 0 { rows.clone() } else { ops::concat(tape, &[rows.clone(), condition.clone()])? };
    ops::reshape(tape, &beside, &[count / PACK, critic_width(config)])
}

/// What the critic says of packed rows, `[packs, 1]`, and the factors of its layers.
///
/// # Errors
/// `Internal` when shapes disagree.
pub(crate) fn criticise(tape: &Tape, weights: &Weights, packs: &Var) -> Result<(Var, Vec<Var>)> {
    let (mut x, mut all) = (packs.clone(), Vec::with_capacity(CRITIC_LAYERS));
    for layer in 0..CRITIC_LAYERS {
        let sums = linear(tape, weights, &format!("critic.layers.{layer}"), &x)?;
        let (y, factors) = ops::leaky_dropout(tape, &sums, SLOPE, DROPOUT)?;
        all.push(factors);
        x = y;
    }
    Ok((linear(tape, weights, "critic.output", &x)?, all))
}

/// Mean of `(‖∇‖ − 1)²` over packs, ∇ being the gradient of what the critic says with respect to the pack; see
/// [`ops::critic`].
///
/// # Errors
/// `Internal` when shapes disagree.
pub(crate) fn gradient_penalty(tape: &Tape, weights: &Weights, packs: &Var) -> Result<Var> {
    let (_, factors) = criticise(tape, weights, packs)?;
    let get = |layer: usize| weights.get(&format!("critic.layers.{layer}.weight"));
    let mut back = ops::factor_rows(tape, weights.get("critic.output.weight")?, &factors[CRITIC_LAYERS - 1])?;
    for layer in (0..CRITIC_LAYERS).rev() {
        back = ops::linear_back(tape, &back, get(layer)?)?;
        if layer > 0 {
            back = ops::times(tape, &back, &factors[layer - 1])?;
        }
    }
    ops::norm_penalty(tape, &back)
}
