//! The networks of picture GANs: a generator of transposed convolutions (Radford, Metz & Chintala, "DCGAN", 2016), and a
//! critic whose weights are spectrally normalised (Miyato et al., 2018), to which a class is told by projection (Miyato &
//! Koyama, "cGANs with projection discriminator", 2018).
//!
//! A picture is doubled in size until it is complete: its shape is one that [`ImageShape::generated`] gives.
//!
//! Parameter names: `generator.input.{weight, bias}`, `generator.<norm 0>`, `generator.grow.<i>.{weight, norm.…}`,
//! `generator.output.{weight, bias}`, `critic.shrink.<i>.{weight, bias}`, `critic.last.{weight, bias}`, `critic.output.{weight,
//! bias}`, `critic.classes.weight`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Draw, Generated, condition_width, norm_relu, norm_specs};
use crate::error::{Error, Result};
use crate::features::inputs::ImageShape;
use crate::models::NetworkConfig;
use crate::models::architecture::{Init, ParameterSpec, Weights};
use crate::models::ops::{self, Activation, Pooling, Singular, Tape, Var, Window};

/// Twice or half the size.
const DOUBLE: Window = Window { size: 4, stride: 2, padding: 1 };
/// Slope of the critic's leaky relus.
const SLOPE: f64 = 0.1;
/// Deviation of the first weights, as in DCGAN.
const DEVIATION: f64 = 0.02;

/// Uniform numbers of the deviation of DCGAN's normal ones.
fn start() -> Init {
    Init::Uniform(DEVIATION * 3f64.sqrt())
}

/// Pixels that a picture begins with.
fn seed_size(image: ImageShape) -> (usize, usize) {
    (image.height >> image.doublings(), image.width >> image.doublings())
}

/// Maps after `grown` doublings.
fn maps(config: &NetworkConfig, image: ImageShape, grown: usize) -> usize {
    config.hidden_dim << (image.doublings() - grown)
}

/// The generator's parameters.
pub(super) fn generator_specs(config: &NetworkConfig, image: ImageShape) -> Vec<ParameterSpec> {
    let ((height, width), inputs) = (seed_size(image), config.embedding_dim + condition_width(config));
    let first = maps(config, image, 0);
    let mut specs = vec![ParameterSpec::matrix("generator.input.weight", &[height * width * first, inputs], inputs).start(start())];
    specs.push(ParameterSpec::free("generator.input.bias", &[height * width * first], 1).start(Init::Zeros));
    specs.extend(norm_specs("generator.norm", first));
    for at in 0..image.doublings() {
        let (from, to) = (maps(config, image, at), maps(config, image, at + 1));
        let name = format!("generator.grow.{at}");
        specs.push(ParameterSpec::matrix(format!("{name}.weight"), &[from, to, DOUBLE.size, DOUBLE.size], 1).start(start()));
        specs.extend(norm_specs(&format!("{name}.norm"), to));
    }
    let last = maps(config, image, image.doublings());
    specs.push(ParameterSpec::matrix("generator.output.weight", &[image.channels, last, 3, 3], 1).start(start()));
    specs.push(ParameterSpec::free("generator.output.bias", &[image.channels], 1).start(Init::Zeros));
    specs
}

/// Pictures from noise.
pub(super) fn generate(config: &NetworkConfig, image: ImageShape, tape: &Tape, weights: &Weights, draw: &Draw) -> Result<Generated> {
    let ((height, width), mut statistics) = (seed_size(image), Vec::new());
    let input = draw.input(tape, config)?;
    let (weight, bias) = (weights.get("generator.input.weight")?, weights.get("generator.input.bias")?);
    let x = ops::linear(tape, &input, weight, Some(bias), Activation::Identity)?;
    let x = ops::reshape(tape, &x, &[draw.rows, height, width, maps(config, image, 0)])?;
    let mut x = norm_relu(tape, weights, "generator.norm", &x, &mut statistics)?;
    for at in 0..image.doublings() {
        let name = format!("generator.grow.{at}");
        x = ops::conv_transpose2d(tape, &x, weights.get(&format!("{name}.weight"))?, None, DOUBLE, Activation::Identity)?;
        x = norm_relu(tape, weights, &format!("{name}.norm"), &x, &mut statistics)?;
    }
    let (weight, bias) = (weights.get("generator.output.weight")?, weights.get("generator.output.bias")?);
    let rows = ops::conv2d(tape, &x, weight, Some(bias), Window::same(3), Activation::Tanh)?;
    Ok(Generated { rows, logits: None, statistics })
}

/// The critic's parameters.
pub(crate) fn critic_specs(config: &NetworkConfig, image: ImageShape) -> Vec<ParameterSpec> {
    let (mut from, mut specs) = (image.channels, Vec::new());
    let bias = |name: String, len: usize| ParameterSpec::free(name, &[len], 1).start(Init::Zeros);
    for at in 0..image.doublings() {
        let to = config.hidden_dim << at;
        specs.push(ParameterSpec::matrix(format!("critic.shrink.{at}.weight"), &[to, from, DOUBLE.size, DOUBLE.size], 16 * from));
        specs.push(bias(format!("critic.shrink.{at}.bias"), to));
        from = to;
    }
    let last = config.hidden_dim << image.doublings();
    specs.push(ParameterSpec::matrix("critic.last.weight", &[last, from, 3, 3], 9 * from));
    specs.push(bias("critic.last.bias".into(), last));
    specs.push(ParameterSpec::matrix("critic.output.weight", &[1, last], last));
    specs.push(bias("critic.output.bias".into(), 1));
    if condition_width(config) > 0 {
        specs.push(ParameterSpec::matrix("critic.classes.weight", &[config.outputs, last], last));
    }
    specs
}

/// The singular vectors of the critic's weights, by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spectrum(BTreeMap<String, Singular>);

impl Spectrum {
    /// One more step for each matrix of the critic.
    ///
    /// # Errors
    /// `Internal` when shapes changed.
    pub(crate) fn step(&mut self, weights: &Weights) -> Result<()> {
        for (name, weight) in weights.iter().filter(|(name, _)| name.ends_with(".weight")) {
            let outputs = weight.dims().first().copied().unwrap_or(1);
            let inputs = weight.value().elem_count() / outputs.max(1);
            self.0.entry(name.to_owned()).or_insert_with(|| Singular::new(outputs, inputs)).step(weight.value())?;
        }
        Ok(())
    }

    /// The critic's weights, each matrix divided by its largest singular value.
    ///
    /// # Errors
    /// `Internal` before the first step.
    pub(crate) fn normalise(&self, tape: &Tape, weights: &Weights) -> Result<Weights> {
        let mut bounded = Weights::default();
        for (name, weight) in weights.iter() {
            let weight = match self.0.get(name) {
                Some(singular) => ops::spectral_norm(tape, weight, singular)?,
                None if name.ends_with(".weight") => return Err(Error::internal("gan: a weight was never looked at")),
                None => weight.clone(),
            };
            bounded.insert(name.to_owned(), weight);
        }
        Ok(bounded)
    }
}

/// What the critic, with [bounded](Spectrum::normalise) weights, says of pictures `[rows, height, width, channels]` in ±1, said
/// to be of `classes`: `[rows, 1]`.
///
/// # Errors
/// `Internal` when shapes disagree.
pub(crate) fn criticise(config: &NetworkConfig, tape: &Tape, bounded: &Weights, pictures: &Var, classes: &[u32]) -> Result<Var> {
    let image = config.shape.image.ok_or_else(|| Error::internal("gan: no pictures"))?;
    let mut x = pictures.clone();
    let steps = (0..image.doublings()).map(|at| (format!("critic.shrink.{at}"), DOUBLE));
    for (name, window) in steps.chain([("critic.last".to_owned(), Window::same(3))]) {
        let (weight, bias) = (bounded.get(&format!("{name}.weight"))?, bounded.get(&format!("{name}.bias"))?);
        let sums = ops::conv2d(tape, &x, weight, Some(bias), window, Activation::Identity)?;
        x = ops::leaky_dropout(tape, &sums, SLOPE, 0.0)?.0;
    }
    let pixels = x.dims()[1] * x.dims()[2];
    let seen = ops::scale(tape, &ops::global_avg_pool(tape, &x)?, pixels as f64)?;
    let (weight, bias) = (bounded.get("critic.output.weight")?, bounded.get("critic.output.bias")?);
    let real = ops::linear(tape, &seen, weight, Some(bias), Activation::Identity)?;
    if condition_width(config) == 0 {
        return Ok(real);
    }
    let told = ops::embed(tape, &[bounded.get("critic.classes.weight")?.clone()], &Arc::from(classes), Pooling::Concat)?;
    ops::add(tape, &real, &ops::row_products(tape, &seen, &told)?)
}
