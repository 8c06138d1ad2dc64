//! Training of generative adversarial networks: two networks, each of which learns from what the other does.
//!
//! Life of a training: a [`RowTable`] becomes a [`Game`] of tables or of pictures → [`play`] runs its steps, epoch by epoch,
//! until all are done, time is over or somebody cancels → the mean of the generator's weights over the last steps is kept,
//! with normalisations that fit it → generated rows are [compared](super::reality) with real ones that were kept apart.
//!
//! There is no validation loss to stop by: what the critic says of a generator has no scale. The headline metric is how far
//! the columns of generated rows are distributed from those of the rows kept apart.

mod pictures;
mod player;
mod sampler;
mod tabular;
#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use self::player::Average;
use super::calibration::Transform;
use super::generate::Generator;
use super::{Calibration, CandidateReport, EpochRecord, Metric, Part, Progress, Trained, reality};
use crate::error::{Error, Result};
use crate::features::inputs::InputShape;
use crate::features::options::Options;
use crate::features::rows::RowTable;
use crate::models::ops::Philox;
use crate::models::{self, Architecture, NetworkConfig, Parameters, Task};

/// Stack of the training threads.
const STACK_BYTES: usize = 64 << 20;
/// Steps in a row whose losses were not finite before a training is given up.
const BAD_STEPS_MAX: usize = 5;
/// Steps that a training aims at: of rows of tables, and of pictures.
const TABLE_STEPS: usize = 20_000;
const PICTURE_STEPS: usize = 12_000;
/// Batches from which the kept generator's normalisations are computed.
const STATISTICS_BATCHES: u32 = 40;

/// A training of a generator to run.
#[allow(missing_debug_implementations, reason = "holds a closure")]
pub struct GanRequest<'a> {
    /// The rows.
    pub table: &'a RowTable,
    /// The user's options; what they leave open the recipe decides.
    pub options: &'a Options,
    /// Threads of the training pool; results do not depend on it.
    pub threads: usize,
    /// Stops the training at the next step.
    pub cancel: &'a CancellationToken,
    /// Called after every step.
    pub progress: &'a (dyn Fn(Progress) + Send + Sync),
}

/// The recipe of a training.
#[derive(Debug, Clone, PartialEq)]
struct Recipe {
    config: NetworkConfig,
    epochs: usize,
    batch: usize,
    /// Steps of an epoch.
    steps: usize,
    generator_rate: f64,
    critic_rate: f64,
    weight_decay: f64,
    seed: u64,
}

/// Losses of one step.
#[derive(Debug, Clone, Copy)]
struct Losses {
    critic: f64,
    generator: f64,
}

/// A generator and its critic with the rows they play for.
trait Game: Sync {
    /// One step of each; `None` when a loss was not finite.
    fn step(&mut self, step: u32) -> Result<Option<Losses>>;

    /// The generator as it is now.
    fn generator(&self) -> &player::Player;

    /// What a batch of generated rows says of the normalisations of a generator with other weights.
    fn statistics(&self, parameters: &Parameters, step: u32) -> Result<Vec<(String, models::ops::BatchStatistics)>>;
}

/// Trains a generator and measures what it makes. Blocks the calling thread; the work runs on threads of its own.
///
/// The same request gives the same parameters, bit for bit, for any number of threads.
///
/// # Errors
/// `Cancelled`; `InvalidParameter` when the losses never become finite; `Internal` for a bug of ours.
pub fn train(request: &GanRequest<'_>) -> Result<Trained> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(request.threads.max(1))
        .stack_size(STACK_BYTES)
        .thread_name(|index| format!("ml-train-{index}"))
        .build()
        .map_err(|error| Error::internal(format!("training threads cannot be started: {error}")))?;
    let started = Instant::now();
    let recipe = recipe(request)?;
    let played = pool
        .install(|| catch_unwind(AssertUnwindSafe(|| run(request, &recipe, started))))
        .unwrap_or_else(|_| Err(Error::internal("training panicked")))?;
    finish(request, recipe, played, started)
}

/// What a game came to.
struct Played {
    parameters: Parameters,
    history: Vec<EpochRecord>,
    notes: Vec<String>,
}

fn run(request: &GanRequest<'_>, recipe: &Recipe, started: Instant) -> Result<Played> {
    let mut game: Box<dyn Game + '_> = match recipe.config.shape.image {
        Some(_) => Box::new(pictures::Pictures::new(request.table, recipe)?),
        None => Box::new(tabular::Rows::new(request.table, recipe)?),
    };
    play(request, recipe, game.as_mut(), started)
}

/// What the options leave open: CTGAN's and DCGAN's recipes, with as many epochs as make the steps they aim at.
fn recipe(request: &GanRequest<'_>) -> Result<Recipe> {
    let (options, plan) = (request.options, &request.table.plan);
    let (numeric, groups) = plan.shape();
    let image = plan.image();
    let rows = request.table.train.encoded.rows;
    let size = |value: Option<u32>, default: usize| value.map_or(default, |value| value.max(1) as usize);
    let pictures = image.is_some();
    let classes = if pictures { groups.first().copied().unwrap_or(1) } else { 1 };
    let mut batch = size(options.batch_size, if pictures { 64 } else { 500 });
    if !pictures {
        batch = (batch / models::gan::tabular::PACK).max(1) * models::gan::tabular::PACK;
    }
    let steps = (rows / batch).max(1);
    let aim = if pictures { PICTURE_STEPS } else { TABLE_STEPS };
    let rate = options.learning_rate.unwrap_or(2e-4);
    let config = NetworkConfig {
        architecture: Architecture::Gan,
        shape: InputShape {
            numeric,
            categorical: if pictures { Vec::new() } else { groups },
            sequence: None,
            image,
            ..InputShape::default()
        },
        outputs: classes,
        task: Task::Regression,
        hidden_dim: size(options.hidden_dim, if pictures { 32 } else { 256 }),
        layers: size(options.layers, 2),
        embedding_dim: size(options.embedding_dim, if pictures { 100 } else { 128 }),
        dropout: 0.0,
        members: 1,
        bins: 0,
        numeric_embedding_dim: 1,
        catalogue: None,
        variant: crate::models::Variant::default(),
    };
    models::module(&config)?;
    models::cuda::choose::choose(&options.device, models::cuda::Precision::Full, &config, rows, None)?;
    Ok(Recipe {
        config,
        epochs: size(options.epochs, aim.div_ceil(steps).clamp(1, 5000)),
        batch,
        steps,
        generator_rate: rate,
        // The critic of pictures is bounded by its norm and may learn faster (Heusel et al., 2017).
        critic_rate: if pictures { 2.0 * rate } else { rate },
        weight_decay: options.l2.unwrap_or(if pictures { 0.0 } else { 1e-6 }),
        seed: options.seed,
    })
}

/// Why a game ended before its last step.
enum End {
    Cancelled,
    OutOfTime,
}

/// What the steps of one epoch came to.
struct Epoch {
    losses: Losses,
    steps: usize,
    end: Option<End>,
}

/// Runs the steps of all epochs.
fn play(request: &GanRequest<'_>, recipe: &Recipe, game: &mut dyn Game, started: Instant) -> Result<Played> {
    let limit = request.options.max_seconds.filter(|seconds| *seconds > 0.0 && *seconds < 1e9);
    let deadline = limit.map(|seconds| started + Duration::from_secs_f64(seconds));
    let (mut average, mut history, mut notes) = (Average::new(game.generator())?, Vec::new(), Vec::new());
    for epoch in 1..=recipe.epochs {
        let begun = Instant::now();
        let Epoch { losses, steps, end } = play_epoch(request, recipe, game, &mut average, epoch, deadline)?;
        if steps > 0 {
            let (seconds, share) = (begun.elapsed().as_secs_f64(), 1.0 / steps as f64);
            history.push(EpochRecord {
                epoch,
                train_loss: losses.critic * share,
                valid_loss: losses.generator * share,
                valid_metric: f64::NAN,
                learning_rate: recipe.generator_rate,
                seconds,
                rows_per_s: (steps * recipe.batch) as f64 / seconds.max(1e-9),
            });
        }
        match end {
            Some(End::Cancelled) if !request.options.keep_partial || history.is_empty() => return Err(Error::cancelled()),
            Some(End::Cancelled) => notes.push(format!("cancelled in epoch {epoch}: the generator so far was kept")),
            Some(End::OutOfTime) => notes.push(format!("max_seconds ran out in epoch {epoch}: the generator so far was kept")),
            None => continue,
        }
        break;
    }
    let mut parameters = average.parameters(game.generator())?;
    settle(game, &mut parameters)?;
    Ok(Played { parameters, history, notes })
}

/// Runs the steps of one epoch; the very first step of all is made in any case, unless somebody cancels.
fn play_epoch(
    request: &GanRequest<'_>,
    recipe: &Recipe,
    game: &mut dyn Game,
    average: &mut Average,
    epoch: usize,
    deadline: Option<Instant>,
) -> Result<Epoch> {
    let (begun, mut bad) = (Instant::now(), 0);
    let mut done = Epoch { losses: Losses { critic: 0.0, generator: 0.0 }, steps: 0, end: None };
    for at in 0..recipe.steps {
        if request.cancel.is_cancelled() {
            done.end = Some(End::Cancelled);
            break;
        }
        if average.steps() > 0 && deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            done.end = Some(End::OutOfTime);
            break;
        }
        let step = u32::try_from((epoch - 1) * recipe.steps + at).unwrap_or(u32::MAX);
        match game.step(step)? {
            Some(losses) => {
                bad = 0;
                done.steps += 1;
                done.losses.critic += losses.critic;
                done.losses.generator += losses.generator;
                average.take(game.generator())?;
            }
            None => bad += 1,
        }
        if bad >= BAD_STEPS_MAX.min(recipe.steps) {
            return Err(Error::invalid("training diverged: the loss is not finite").hint("Try a smaller learning_rate."));
        }
        (request.progress)(progress(recipe, epoch, at, done.losses.critic, begun));
    }
    Ok(done)
}

fn progress(recipe: &Recipe, epoch: usize, at: usize, loss: f64, begun: Instant) -> Progress {
    let seconds = begun.elapsed().as_secs_f64();
    let whole = seconds * recipe.steps as f64 / (at + 1) as f64;
    Progress {
        part: Part::Whole,
        architecture: Architecture::Gan,
        epoch,
        epochs: recipe.epochs,
        batch: at + 1,
        batches: recipe.steps,
        loss: loss / (at + 1) as f64,
        rows_per_s: ((at + 1) * recipe.batch) as f64 / seconds.max(1e-9),
        eta_seconds: (whole - seconds).max(0.0) + whole * (recipe.epochs - epoch) as f64,
    }
}

/// Gives averaged weights the normalisations that fit them: means over a few batches of what they make.
fn settle(game: &dyn Game, parameters: &mut Parameters) -> Result<()> {
    let mut sums: std::collections::BTreeMap<String, Vec<f64>> = std::collections::BTreeMap::new();
    for batch in 0..STATISTICS_BATCHES {
        for (name, seen) in game.statistics(parameters, batch)? {
            for (part, values) in [("running_mean", seen.mean), ("running_var", seen.variance)] {
                let sum = sums.entry(format!("{name}.{part}")).or_insert_with(|| vec![0.0; values.len()]);
                sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value / f64::from(STATISTICS_BATCHES));
            }
        }
    }
    for (name, values) in sums {
        if let Some((_, own)) = parameters.0.get_mut(&name) {
            *own = values.into_iter().map(|value| value as f32).collect();
        }
    }
    Ok(())
}

/// Measures the generator and puts everything together.
fn finish(request: &GanRequest<'_>, recipe: Recipe, played: Played, started: Instant) -> Result<Trained> {
    let Recipe { config, seed, .. } = recipe;
    let Played { parameters, history, notes } = played;
    let network = models::load(&config, &parameters)?;
    let generator = Generator::new(Arc::from(network), &request.table.plan, seed);
    // A cancelled training that keeps what it has is measured all the same.
    let never = CancellationToken::new();
    let cancel = if request.options.keep_partial { &never } else { request.cancel };
    let judged = reality::judge(request.table, &generator, request.options, request.threads, cancel)?;
    let all = request.table.notes.iter().cloned().chain(notes).chain(judged.words());
    let (epochs, seconds, test) = (history.len(), started.elapsed().as_secs_f64(), judged.distance());
    let report = CandidateReport {
        architecture: Architecture::Gan,
        valid: f64::NAN,
        test,
        epochs_run: epochs,
        parameters: parameters.count(),
        seconds,
        chosen: true,
    };
    Ok(Trained {
        config,
        parameters,
        calibration: Calibration { transform: Transform::Temperature { temperature: 1.0, offsets: Vec::new() }, prior: Vec::new() },
        epochs_run: epochs,
        best_epoch: epochs,
        history,
        metric: Metric::ColumnDistance,
        valid: f64::NAN,
        test,
        baseline: judged.chance(),
        simple_baseline: None,
        candidates: vec![report],
        trials: Vec::new(),
        ensemble: None,
        members: Vec::new(),
        folds: Vec::new(),
        options: request.options.clone(),
        privacy: None,
        device: "cpu".into(),
        notes: all.collect(),
        seconds,
    })
}

/// A stream of random numbers of a training.
fn random(seed: u64, name: &str) -> Philox {
    Philox::named(seed, name).fork(Architecture::Gan as u32)
}
