//! A picture as one vector: three stages of 3 × 3 convolutions with batch normalisation, each of twice the width and half
//! the size of the one before, residual blocks in the later two (He et al., "Deep residual learning", 2016), and the mean
//! over what is left. Rows without a picture have a learned vector instead.
//!
//! Pictures of more than [`SIDE_HALVED`] pixels a side are halved by the first convolution.
//!
//! Parameter names: `image.{mean, std}` (of the training pictures, by channel), `image.missing` where rows may lack the
//! picture, `<block>.conv.weight` (as `torch.nn.Conv2d`) and `<block>.norm.{weight, bias, running_mean, running_var}` (as
//! `torch.nn.BatchNorm2d`) for the blocks `stem`, `stages.<s>.grow` and `stages.<s>.residual.<i>`.

use std::sync::Arc;

use super::architecture::{Init, ParameterSpec, Weights};
use super::ops::{self, BatchStatistics, NormWeights, Tape, Var, Window};
use super::{Batch, NetworkConfig, Parameters};
use crate::error::{Error, Result};
use crate::features::inputs::{ImageShape, Inputs, NO_PICTURE};

/// Pixels of a kernel's side.
const SIDE: usize = 3;
/// Pictures with a longer side are halved at once.
const SIDE_HALVED: usize = 48;
/// Stages after the first one.
const STAGES: usize = 2;
/// Pictures looked at for their mean and deviation.
pub(super) const PICTURES_MAX: usize = 10_000;

/// The first stage of a picture beside other inputs has a quarter of the hidden layers' width, and at least this one.
const WIDTH_BESIDE_MIN: usize = 4;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct PictureTrunk {
    image: ImageShape,
    optional: bool,
    width: usize,
    blocks: usize,
}

/// Pictures that are scored together.
const GROUP: usize = 16;

/// One convolution with its normalisation.
struct Block {
    name: String,
    inputs: usize,
    maps: usize,
}

impl PictureTrunk {
    /// Of a network that reads little else: the first stage has `hidden_dim` maps; `layers` residual blocks stand in each
    /// later one.
    ///
    /// # Errors
    /// `Internal` when there is no picture.
    pub(super) fn main(config: &NetworkConfig) -> Result<Self> {
        Self::new(config, config.hidden_dim, config.layers).ok_or_else(|| Error::internal("no picture"))
    }

    /// Of a network whose own input is another one; `None` when there is no picture.
    pub(super) fn beside(config: &NetworkConfig) -> Option<Self> {
        Self::new(config, (config.hidden_dim >> STAGES).max(WIDTH_BESIDE_MIN), 1)
    }

    fn new(config: &NetworkConfig, width: usize, blocks: usize) -> Option<Self> {
        let image = config.shape.image.filter(|image| image.len() > 0)?;
        Some(Self { image, optional: config.shape.image_optional, width, blocks })
    }

    /// Width of the vector.
    pub(super) fn width(&self) -> usize {
        self.width << STAGES
    }

    /// Every convolution, in order.
    fn convolutions(&self) -> Vec<Block> {
        let mut all = vec![Block { name: "stem".into(), inputs: self.image.channels, maps: self.width }];
        for stage in 0..STAGES {
            let maps = self.width << (stage + 1);
            all.push(Block { name: format!("stages.{stage}.grow"), inputs: maps / 2, maps });
            all.extend((0..self.blocks).map(|at| Block { name: format!("stages.{stage}.residual.{at}"), inputs: maps, maps }));
        }
        all
    }

    /// Pictures around zero: `[pictures, height, width, channels]`.
    fn pictures(&self, tape: &Tape, weights: &Weights, images: &[u8]) -> Result<Var> {
        let ImageShape { height, width, channels } = self.image;
        let [mean, std] = ["image.mean", "image.std"].map(|name| ops::storage::to_vec::<f32>(weights.get(name)?.value()));
        let (mean, std) = (mean?, std?);
        // 256 values each: what they become is looked up.
        let table: Vec<f32> = (0..channels * 256).map(|i| ((i % 256) as f32 - mean[i / 256]) / std[i / 256].max(1.0)).collect();
        let values = images.iter().enumerate().map(|(at, value)| table[at % channels * 256 + usize::from(*value)]).collect();
        tape.constant(&ops::storage::tensor::<f32>(values, &[images.len() / self.image.len(), height, width, channels])?)
    }
}

/// Runs a block and notes what the batch said of its channels.
fn run(
    tape: &Tape,
    weights: &Weights,
    name: &str,
    x: &Var,
    window: Window,
    residual: bool,
    statistics: &mut Vec<(String, BatchStatistics)>,
) -> Result<Var> {
    let get = |part: &str| weights.get(&format!("{name}.{part}"));
    let norm = NormWeights {
        weight: get("norm.weight")?,
        bias: get("norm.bias")?,
        mean: get("norm.running_mean")?,
        variance: get("norm.running_var")?,
    };
    let (y, seen) = ops::conv_norm_relu(tape, x, get("conv.weight")?, norm, window, residual.then_some(x))?;
    statistics.extend(seen.map(|seen| (format!("{name}.norm"), seen)));
    Ok(y)
}

/// Half the size, unless nothing would be left.
fn halve(tape: &Tape, x: &Var) -> Result<Var> {
    match x.dims() {
        [_, height, width, _] if *height >= 2 && *width >= 2 => ops::max_pool2d(tape, x, 2),
        _ => Ok(x.clone()),
    }
}

impl PictureTrunk {
    pub(super) fn specs(&self) -> Vec<ParameterSpec> {
        let constant = |name: String, len: usize, init| {
            let spec = ParameterSpec::free(name, &[len], 1).start(init);
            ParameterSpec { trainable: false, ..spec }
        };
        let channels = self.image.channels;
        let mut specs = vec![constant("image.mean".into(), channels, Init::Zeros), constant("image.std".into(), channels, Init::Ones)];
        for Block { name, inputs, maps } in self.convolutions() {
            let fan_in = inputs * SIDE * SIDE;
            // For relus (He et al., "Delving deep into rectifiers", 2015).
            let start = Init::Uniform((6.0 / fan_in as f64).sqrt());
            specs.push(ParameterSpec::matrix(format!("{name}.conv.weight"), &[maps, inputs, SIDE, SIDE], fan_in).start(start));
            specs.push(ParameterSpec::free(format!("{name}.norm.weight"), &[maps], 1).start(Init::Ones));
            specs.push(ParameterSpec::free(format!("{name}.norm.bias"), &[maps], 1).start(Init::Zeros));
            specs.push(constant(format!("{name}.norm.running_mean"), maps, Init::Zeros));
            specs.push(constant(format!("{name}.norm.running_var"), maps, Init::Ones));
        }
        if self.optional {
            specs.push(ParameterSpec::free("image.missing", &[self.width()], self.width()));
        }
        specs
    }

    /// Mean and deviation of each channel, over the training pictures.
    pub(super) fn prepare(&self, inputs: &Inputs, rows: &[u32], parameters: &mut Parameters) {
        let (channels, len) = (self.image.channels, self.image.len());
        let (mut sums, mut squares, mut count) = (vec![0u64; channels], vec![0u64; channels], 0u64);
        for row in rows.iter().step_by(rows.len().div_ceil(PICTURES_MAX).max(1)) {
            let picture = inputs.pictured.get(*row as usize).copied().unwrap_or(*row);
            if picture == NO_PICTURE {
                continue;
            }
            let picture = &inputs.images[picture as usize * len..(picture as usize + 1) * len];
            for (at, value) in picture.iter().enumerate() {
                sums[at % channels] += u64::from(*value);
                squares[at % channels] += u64::from(*value).pow(2);
            }
            count += (len / channels) as u64;
        }
        let share = |sum: u64| sum as f64 / count.max(1) as f64;
        let mean: Vec<f64> = sums.into_iter().map(share).collect();
        let std = squares.into_iter().zip(&mean).map(|(square, mean)| (share(square) - mean * mean).max(0.0).sqrt() as f32).collect();
        parameters.0.insert("image.mean".into(), (vec![channels], mean.into_iter().map(|mean| mean as f32).collect()));
        parameters.0.insert("image.std".into(), (vec![channels], std));
    }

    /// `[rows, width]`; notes what the batch said of the channels.
    pub(super) fn forward(
        &self,
        tape: &Tape,
        weights: &Weights,
        batch: &Batch,
        statistics: &mut Vec<(String, BatchStatistics)>,
    ) -> Result<Var> {
        let known = batch.pictured.len();
        if batch.images.len() != known * self.image.len() || (known != batch.rows && !self.optional) {
            return Err(Error::internal("the batch has no pictures of this shape"));
        }
        let seen = match known {
            0 => tape.constant(&ops::storage::tensor::<f32>(Vec::new(), &[0, self.width()])?)?,
            _ if tape.is_passing() && known > GROUP => self.look_by_groups(tape, weights, &batch.images)?,
            _ => self.look(tape, weights, self.pictures(tape, weights, &batch.images)?, statistics)?,
        };
        if !self.optional {
            return Ok(seen);
        }
        ops::place_rows(tape, &seen, weights.get("image.missing")?, &Arc::from(&batch.pictured[..]), batch.rows)
    }

    /// [`look`](Self::look) for scoring: some pictures go through all layers before the next ones, so that what they leave
    /// on the way stays in cache.
    fn look_by_groups(&self, tape: &Tape, weights: &Weights, images: &[u8]) -> Result<Var> {
        let groups: Vec<&[u8]> = images.chunks(GROUP * self.image.len()).collect();
        let parts = ops::parallel::map(groups.len(), |at| {
            let own = Tape::silent();
            let seen = self.look(&own, weights, self.pictures(&own, weights, groups[at])?, &mut Vec::new())?;
            ops::storage::to_vec::<f32>(seen.value())
        });
        let mut all = Vec::with_capacity(images.len() / self.image.len() * self.width());
        for part in parts {
            all.extend(part?);
        }
        let pictures = all.len() / self.width();
        tape.constant(&ops::storage::tensor::<f32>(all, &[pictures, self.width()])?)
    }

    /// `x [pictures, height, width, channels]` → `[pictures, width]`.
    fn look(&self, tape: &Tape, weights: &Weights, mut x: Var, statistics: &mut Vec<(String, BatchStatistics)>) -> Result<Var> {
        let large = self.image.height.max(self.image.width) > SIDE_HALVED;
        let first = Window { stride: if large { 2 } else { 1 }, ..Window::same(SIDE) };
        for Block { name, .. } in self.convolutions() {
            let (residual, window) = (name.contains("residual"), if name == "stem" { first } else { Window::same(SIDE) });
            // A stage begins with pictures of half the size.
            if name.ends_with("grow") {
                x = halve(tape, &x)?;
            }
            x = run(tape, weights, &name, &x, window, residual, statistics)?;
        }
        ops::global_avg_pool(tape, &x)
    }
}
