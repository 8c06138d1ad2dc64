//! Fits one architecture: epochs of mini-batches, early stopping on the validation rows, best weights kept.
//!
//! Life of a fit: [`Running::start`] makes the first weights, or takes up a checkpoint → [`Running::advance`] runs epochs
//! until one is reached, patience or time is over, or somebody cancels → [`Running::fitted`] gives the best weights.

mod device;
mod items;
mod local;
mod measure;
mod private;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::models::Tensor;
use tokio_util::sync::CancellationToken;

use self::device::OnDevice;
use self::items::Items;
pub(super) use self::local::{Local, Pull};
use self::measure::passes;
pub(super) use self::measure::{mean_loss, predict};
use self::private::Private;
use super::ahead::{self, Made, Maker, Shards};
use super::batches;
use super::catalogue::Catalogue;
use super::checkpoint::{self, Checkpoints};
use super::distil::Teacher;
use super::hyper::{Hyper, Momentum};
use super::memory::{Held, MemoryBudget, Need};
use super::privacy::PrivacyReport;
use super::transfer::{Applied, Start};
use super::{EpochRecord, Part, Progress};
use crate::error::{Code, Error, Result};
use crate::features::events::UserKey;
use crate::features::inputs::{InputShape, Inputs};
use crate::models::architecture::{Forward, ParameterSpec, Weights, module, outputs};
use crate::models::ops::{self, BatchStatistics, Optimizer, Philox, RowUpdate, Rule, StepOutcome, Tape, Update, Var, storage};
use crate::models::step::{Found, Step};
use crate::models::{Batch, Module, NetworkConfig, Parameters, autoencoder};

/// Rows of one pass over the validation rows.
const EVALUATION_ROWS: usize = 512;
/// Batches in a row whose loss or gradient was not finite before the fit steps back.
const BAD_BATCHES_MAX: usize = 5;
/// What a batch counts for in the running statistics; PyTorch's default.
const STATISTICS_SHARE: f32 = 0.1;
/// How often a fit may step back to its best weights with half the learning rate.
const STEPS_BACK_MAX: usize = 3;

/// What is predicted, per row of the dataset.
#[derive(Debug, Clone)]
pub(super) enum Targets<'a> {
    /// Class indices.
    Classes(Cow<'a, [u32]>),
    /// Standardised values.
    Values(Vec<f32>),
    /// The rows themselves, from rows with noise.
    Rows,
}

/// Share of the cells that an autoencoder sees with another row's value (swap noise).
const SWAPPED: f64 = 0.15;

/// The rows of a dataset by part.
#[derive(Debug, Clone)]
pub(super) struct Data<'a> {
    pub(super) inputs: Cow<'a, Inputs>,
    pub(super) targets: Targets<'a>,
    /// Rows to learn from; some may be there more than once.
    pub(super) train: Vec<u32>,
    pub(super) validation: Vec<u32>,
    pub(super) test: Vec<u32>,
    /// Weight of each class in the loss.
    pub(super) class_weights: Option<Vec<f32>>,
    /// How much more often than by nature each class is among the training rows.
    pub(super) resampled: Option<Vec<f64>>,
    /// Whose row; empty for labelled tables.
    pub(super) users: &'a [UserKey],
    /// What a teacher says about the training rows.
    pub(super) teacher: Option<Arc<Teacher>>,
    /// What the classes are, when they are items.
    pub(super) catalogue: Option<&'a Catalogue>,
}

impl Data<'_> {
    /// The classes of `rows`.
    fn labels(&self, rows: &[u32]) -> Vec<u32> {
        match &self.targets {
            Targets::Classes(labels) => rows.iter().map(|row| labels[*row as usize]).collect(),
            Targets::Values(_) | Targets::Rows => Vec::new(),
        }
    }

    /// The mean loss of `rows`, to differentiate.
    fn loss(&self, tape: &Tape, forward: &Forward, rows: &[u32], hyper: &Hyper) -> Result<Var> {
        let focal = hyper.focal();
        match &self.targets {
            Targets::Classes(labels) => {
                let targets: Arc<[u32]> = rows.iter().map(|row| labels[*row as usize]).collect();
                let weights =
                    self.class_weights.as_ref().map(|weights| targets.iter().map(|class| weights[*class as usize]).collect::<Vec<_>>());
                if let Some(teacher) = &self.teacher {
                    return ops::distillation_loss(tape, &forward.logits, &teacher.rows(rows), &targets, weights.as_deref(), teacher.how);
                }
                if focal.gamma > 0.0 || focal.smoothing > 0.0 {
                    return ops::focal_loss(tape, &forward.logits, &targets, weights.as_deref(), focal);
                }
                ops::softmax_cross_entropy(tape, &forward.logits, &targets, weights.as_deref())
            }
            Targets::Values(values) => {
                let targets: Vec<f32> = rows.iter().map(|row| values[*row as usize]).collect();
                ops::mean_squared_error(tape, &forward.logits, &targets, None)
            }
            Targets::Rows => {
                let mut clean = Batch::default();
                Batch::read(&self.inputs, &hyper.config.shape, rows, &mut clean)?;
                ops::mean(tape, &autoencoder::error_of(tape, &forward.logits, &hyper.config.shape, &clean)?)
            }
        }
    }

    /// Gives a share of the cells the value that another training row has in their column (Vincent et al., 2008, with the
    /// noise of tabular denoising autoencoders).
    pub(super) fn swap(&self, batch: &mut Batch, shape: &InputShape, random: Philox) {
        let (numeric, categorical) = (shape.numeric, shape.categorical.len());
        let width = (numeric + categorical) as u64;
        for row in 0..batch.rows {
            for column in 0..numeric + categorical {
                let cell = (row as u64 * width + column as u64) * 2;
                if random.uniform(cell) >= SWAPPED {
                    continue;
                }
                let other = self.train[random.below(cell + 1, self.train.len() as u32) as usize] as usize;
                match column.checked_sub(numeric) {
                    None => batch.numeric[row * numeric + column] = self.inputs.numeric[other * numeric + column],
                    Some(own) => batch.categorical[row * categorical + own] = self.inputs.categorical[other * categorical + own],
                }
            }
        }
    }

    /// What `rows` weigh together in the loss.
    fn weight(&self, rows: &[u32]) -> f64 {
        match (&self.targets, &self.class_weights) {
            (Targets::Classes(labels), Some(weights)) => rows.iter().map(|row| f64::from(weights[labels[*row as usize] as usize])).sum(),
            _ => rows.len() as f64,
        }
    }
}

/// What a fit looks at while it runs.
pub(super) struct Watch<'a> {
    pub(super) cancel: &'a CancellationToken,
    pub(super) progress: &'a (dyn Fn(Progress) + Send + Sync),
    pub(super) deadline: Option<Instant>,
    /// Keep the best weights so far instead of failing when cancelled.
    pub(super) keep_partial: bool,
    /// The headline metric from validation outputs `[rows, outputs]`.
    pub(super) metric: &'a (dyn Fn(&[f32]) -> f64 + Send + Sync),
    /// What this fit is of the training.
    pub(super) part: Part,
    /// Where the fit's state is kept.
    pub(super) checkpoints: Option<&'a Checkpoints<'a>>,
    /// Where its memory comes from.
    pub(super) memory: Option<&'a Arc<dyn MemoryBudget>>,
}

/// A fitted network.
#[derive(Debug, Clone)]
pub(super) struct Fitted {
    pub(super) config: NetworkConfig,
    pub(super) parameters: Parameters,
    pub(super) epochs_run: usize,
    pub(super) best_epoch: usize,
    pub(super) history: Vec<EpochRecord>,
    pub(super) notes: Vec<String>,
    pub(super) privacy: Option<PrivacyReport>,
    /// Where it was fitted.
    pub(super) device: String,
    pub(super) seconds: f64,
}

/// One parameter while it is learned.
struct Learned {
    spec: ParameterSpec,
    tensor: Tensor,
    trainable: bool,
}

struct Fit<'a> {
    data: &'a Data<'a>,
    hyper: &'a Hyper,
    module: Box<dyn Module>,
    learned: Vec<Learned>,
    optimizer: Optimizer,
    learning_rate: f64,
    steps: u32,
    /// Steps if every epoch runs.
    steps_in_all: u32,
    private: Option<Private>,
    items: Option<Items>,
    /// Holds the weights near given ones.
    pull: Option<Pull>,
    /// Where the weights are, when not here: `learned` holds those of the last epoch then.
    on_device: Option<OnDevice>,
    /// Why a device was left, for a person to know.
    left_device: Option<String>,
}

/// What one epoch did.
struct Epoch {
    loss: f64,
    seconds: f64,
    rows: usize,
    end: End,
}

/// What the batches of an epoch came to, so far.
#[derive(Debug, Default)]
struct Tally {
    loss_sum: f64,
    rows: usize,
    /// Batches in a row that were not finite.
    bad: usize,
}

impl Tally {
    /// Takes in rows and losses of batches that are done.
    fn add(&mut self, done: Vec<(usize, Option<f64>)>) {
        for (rows, loss) in done {
            match loss {
                Some(loss) => {
                    self.bad = 0;
                    self.loss_sum += loss * rows as f64;
                    self.rows += rows;
                }
                None => self.bad += 1,
            }
        }
    }

    fn loss(&self) -> f64 {
        self.loss_sum / self.rows.max(1) as f64
    }

    /// The epoch, as it ends now.
    fn epoch(&self, started: Instant, end: End) -> Epoch {
        let loss = if end == End::Diverged { f64::NAN } else { self.loss() };
        Epoch { loss, seconds: started.elapsed().as_secs_f64(), rows: self.rows, end }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Complete,
    Cancelled,
    OutOfTime,
    Diverged,
}

/// The best weights so far.
#[derive(Debug, Clone)]
pub(super) struct Best {
    pub(super) loss: f64,
    pub(super) epoch: usize,
    pub(super) parameters: Parameters,
}

/// Where a fit is between two epochs, apart from its weights.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    /// Epochs begun.
    pub(super) epoch: usize,
    pub(super) history: Vec<EpochRecord>,
    pub(super) notes: Vec<String>,
    pub(super) best: Option<Best>,
    pub(super) steps_back: usize,
    /// Nothing more will be learned.
    pub(super) over: bool,
    pub(super) seconds: f64,
}

/// A fit that can be stopped and go on.
pub(super) struct Running<'a> {
    fit: Fit<'a>,
    place: Place,
    /// Its name among the checkpoints.
    label: String,
    saved: Instant,
    /// Its share of the program's memory.
    _memory: Option<Held>,
}

/// Fits `hyper.config` to `data` from start to end. `label` names its checkpoint.
///
/// # Errors
/// As [`Running::start`] and [`Running::advance`].
pub(super) fn fit(data: &Data<'_>, hyper: &Hyper, start: Start<'_>, label: &str, watch: &Watch<'_>) -> Result<Fitted> {
    let mut running = Running::start(data, hyper, start, label, watch)?;
    running.advance(hyper.epochs, watch)?;
    running.fitted()
}

fn diverged() -> Error {
    Error::invalid("training diverged: the loss is not finite").hint("Try a smaller learning_rate.")
}

impl<'a> Running<'a> {
    /// At its start, or where its checkpoint left it.
    ///
    /// # Errors
    /// `InvalidParameter` when the network cannot read the data or `freeze` names nothing; `OutOfMemory` when there is not
    /// as much as it needs.
    pub(super) fn start(data: &'a Data<'a>, hyper: &'a Hyper, start: Start<'_>, label: &str, watch: &Watch<'_>) -> Result<Self> {
        let own = module(&hyper.config)?;
        let need = Need::new(hyper, data, &own.specs(), own.shard_rows());
        let memory = watch.memory.map(|budget| need.hold(budget, hyper)).transpose()?;
        let (mut fit, note) = Fit::new(data, hyper, start)?;
        let warning = fit.private.as_ref().and_then(|private| private.plan.warning());
        let told = fit.items.as_ref().and_then(|items| items.note(data));
        let mut place = Place { notes: note.into_iter().chain(warning).chain(told).collect(), ..Place::default() };
        if let Some(saved) = watch.checkpoints.and_then(|checkpoints| checkpoints.load(label)) {
            fit.resume(&saved)?;
            place = saved.place;
        }
        place.notes.extend(fit.settle()?);
        Ok(Self { fit, place, label: label.to_owned(), saved: Instant::now(), _memory: memory })
    }

    /// Runs epochs up to `until`.
    ///
    /// # Errors
    /// `Cancelled`; `InvalidParameter` when the loss never becomes finite.
    pub(super) fn advance(&mut self, until: usize, watch: &Watch<'_>) -> Result<()> {
        let from = self.place.epoch;
        while self.place.epoch < until.min(self.fit.hyper.epochs) && !self.place.over {
            let started = Instant::now();
            let done = self.next_epoch(watch);
            self.place.seconds += started.elapsed().as_secs_f64();
            done?;
            if let Some(checkpoints) = watch.checkpoints
                && checkpoints.is_due(self.place.epoch, self.saved)
            {
                self.save(checkpoints)?;
            }
        }
        match watch.checkpoints {
            // A fit that was cut short by somebody or by time goes on from its last whole epoch.
            Some(checkpoints) if self.place.epoch > from && !self.is_cut() => self.save(checkpoints),
            _ => Ok(()),
        }
    }

    /// Whether time or somebody ended it before its time.
    pub(super) fn is_cut(&self) -> bool {
        self.place.over && self.place.epoch > self.place.history.last().map_or(0, |record| record.epoch)
    }

    fn save(&mut self, checkpoints: &Checkpoints<'_>) -> Result<()> {
        self.saved = Instant::now();
        let fit = &self.fit;
        let state = checkpoint::State {
            place: self.place.clone(),
            parameters: fit.parameters()?,
            optimizer: fit.optimizer_state()?,
            learning_rate: fit.learning_rate,
            steps: fit.steps,
        };
        checkpoints.save(&self.label, &state)
    }

    fn next_epoch(&mut self, watch: &Watch<'_>) -> Result<()> {
        let Self { fit, place, .. } = self;
        place.epoch += 1;
        let epoch = place.epoch;
        let done = fit.epoch(epoch, watch)?;
        place.notes.extend(fit.left_device.take());
        if done.end == End::Diverged {
            let best = place.best.as_ref().ok_or_else(diverged)?;
            place.steps_back += 1;
            fit.restore(&best.parameters)?;
            fit.learning_rate /= 2.0;
            place.notes.push(format!("epoch {epoch} diverged: went back to the best weights with learning rate {}", fit.learning_rate));
            place.over = place.steps_back > STEPS_BACK_MAX;
            return Ok(());
        }
        if done.end == End::Cancelled && !(watch.keep_partial && place.best.is_some()) {
            return Err(Error::cancelled());
        }
        if done.end == End::Complete || place.best.is_none() {
            let record = match fit.evaluate(epoch, &done, watch) {
                Err(error) if error.code == Code::Cancelled && watch.keep_partial && place.best.is_some() => {
                    place.notes.push(format!("cancelled after epoch {epoch}: the best weights so far were kept"));
                    place.over = true;
                    return Ok(());
                }
                other => other?,
            };
            // A private training keeps its last weights: the choice would be the validation rows'.
            let better = fit.private.is_some() || place.best.as_ref().is_none_or(|best| record.valid_loss < best.loss);
            let loss = record.valid_loss;
            place.history.push(record);
            if better && loss.is_finite() {
                place.best = Some(Best { loss, epoch, parameters: fit.parameters()? });
            }
        }
        match done.end {
            End::Cancelled => place.notes.push(format!("cancelled in epoch {epoch}: the best weights so far were kept")),
            End::OutOfTime => place.notes.push(format!("max_seconds ran out in epoch {epoch}: the best weights so far were kept")),
            _ => {}
        }
        let patience_over = place.best.as_ref().is_some_and(|best| epoch - best.epoch >= fit.hyper.patience);
        place.over = done.end != End::Complete || patience_over;
        Ok(())
    }

    /// The best weights so far.
    ///
    /// # Errors
    /// `InvalidParameter` when there are none: the loss was never finite.
    pub(super) fn fitted(&self) -> Result<Fitted> {
        let best = self.place.best.as_ref().ok_or_else(diverged)?;
        Ok(Fitted {
            config: self.fit.hyper.config.clone(),
            parameters: best.parameters.clone(),
            epochs_run: self.place.history.len(),
            best_epoch: best.epoch,
            history: self.place.history.clone(),
            notes: self.place.notes.clone(),
            privacy: self.fit.private.as_ref().map(|private| private.plan.report(u64::from(self.fit.steps))),
            device: self.fit.device_name(),
            seconds: self.place.seconds,
        })
    }
}

impl<'a> Fit<'a> {
    /// Also says what became of a start from given weights.
    fn new(data: &'a Data<'a>, hyper: &'a Hyper, start: Start<'_>) -> Result<(Self, Option<String>)> {
        let module = module(&hyper.config)?;
        let mut parameters = Parameters::default();
        for spec in module.specs() {
            parameters.0.insert(spec.name.clone(), (spec.shape.clone(), spec.initial(hyper.seed)));
        }
        ahead::prepare(&*module, &data.inputs, &hyper.config.shape, &data.train, &mut parameters)?;
        if let Some(catalogue) = data.catalogue.filter(|_| data.inputs.spilled.is_none()) {
            catalogue.describe(&hyper.config.shape, &data.inputs, &data.train, &mut parameters);
        }
        let Applied { frozen, note } = start.apply(&module.specs(), &mut parameters)?;
        let mut learned = Vec::new();
        for spec in module.specs() {
            let (shape, values) = parameters.0.remove(&spec.name).unwrap_or_default();
            let trainable = spec.trainable && !frozen.contains(&spec.name);
            learned.push(Learned { tensor: storage::tensor(values, &shape)?, spec, trainable });
        }
        learned.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
        let private = Private::new(data, hyper)?;
        let items = Items::new(data, hyper, &*module)?;
        let learning_rate = hyper.learning_rate;
        let optimizer = Optimizer::new(rule(hyper));
        let fit = Self {
            data,
            hyper,
            module,
            learned,
            optimizer,
            learning_rate,
            steps: 0,
            steps_in_all: 0,
            private,
            items,
            pull: None,
            on_device: None,
            left_device: None,
        };
        Ok((fit, note))
    }

    /// Takes up what a checkpoint holds.
    fn resume(&mut self, saved: &checkpoint::State) -> Result<()> {
        self.restore(&saved.parameters)?;
        self.optimizer = Optimizer::resume(rule(self.hyper), saved.optimizer.clone());
        self.learning_rate = saved.learning_rate;
        self.steps = saved.steps;
        Ok(())
    }

    fn random(&self, name: &str) -> Philox {
        Philox::named(self.hyper.seed, name).fork(self.hyper.config.architecture as u32)
    }

    fn epoch(&mut self, epoch: usize, watch: &Watch<'_>) -> Result<Epoch> {
        let started = Instant::now();
        if self.items.as_ref().is_some_and(Items::sweeps) {
            return self.sweep(epoch, watch, started);
        }
        let lengths = self.hyper.config.architecture.is_sequential().then_some(&*self.data.inputs);
        let batches = match &self.private {
            Some(private) => private.samples(epoch),
            None => batches::epoch(&self.data.train, lengths, self.hyper.batch_size, self.random("shuffle"), epoch),
        };
        self.steps_in_all = u32::try_from(batches.len() * self.hyper.epochs).unwrap_or(u32::MAX);
        let maker = self.maker();
        if self.private.is_none() && self.on_device.is_none() && maker.is_slow() {
            let before = self.steps;
            return maker.ahead(&batches, before, watch.cancel, |next| self.steps(epoch, &batches, started, watch, next));
        }
        self.steps(epoch, &batches, started, watch, &mut || Ok(Made::InStep))
    }

    /// What makes the batches of the steps.
    fn maker(&self) -> Maker<'a> {
        Maker {
            data: self.data,
            hyper: self.hyper,
            shard_rows: self.module.shard_rows(),
            unseen: self.random("unseen"),
            augment: self.random("augment"),
            swap: self.random("swap"),
        }
    }

    /// The steps of an epoch, one for each of `batches`.
    fn steps(
        &mut self,
        epoch: usize,
        batches: &[Vec<u32>],
        started: Instant,
        watch: &Watch<'_>,
        next: &mut dyn FnMut() -> Result<Made>,
    ) -> Result<Epoch> {
        let (mut tally, bad_max) = (Tally::default(), BAD_BATCHES_MAX.min(batches.len()));
        for (at, batch) in batches.iter().enumerate() {
            let mut made = Made::Cancelled;
            let stopped = if watch.cancel.is_cancelled() {
                Some(End::Cancelled)
            } else if watch.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                Some(End::OutOfTime)
            } else {
                made = next()?;
                matches!(made, Made::Cancelled).then_some(End::Cancelled)
            };
            if let Some(end) = stopped {
                tally.add(self.bring_home()?);
                return Ok(tally.epoch(started, end));
            }
            tally.add(if self.private.is_some() { vec![(batch.len(), self.private_step(batch)?)] } else { self.step(batch, made)? });
            if tally.bad >= bad_max {
                self.bring_home()?;
                return Ok(tally.epoch(started, End::Diverged));
            }
            let seconds = started.elapsed().as_secs_f64();
            let epoch_seconds = seconds * batches.len() as f64 / (at + 1) as f64;
            (watch.progress)(Progress {
                part: watch.part,
                architecture: self.hyper.config.architecture,
                epoch,
                epochs: self.hyper.epochs,
                batch: at + 1,
                batches: batches.len(),
                loss: tally.loss(),
                rows_per_s: tally.rows as f64 / seconds.max(1e-9),
                eta_seconds: (epoch_seconds - seconds).max(0.0) + epoch_seconds * (self.hyper.epochs - epoch) as f64,
            });
        }
        tally.add(self.bring_home()?);
        Ok(tally.epoch(started, if !batches.is_empty() && tally.bad >= bad_max { End::Diverged } else { End::Complete }))
    }

    /// The learning rate of the step that comes or came last.
    fn learning_rate(&self) -> f64 {
        self.learning_rate * self.hyper.schedule.share(self.steps.max(1), self.steps_in_all)
    }

    /// One step. Returns rows and loss of batches that are done with: this one's, or a device's last; `None` where loss or
    /// gradient were not finite and nothing was changed.
    fn step(&mut self, rows: &[u32], made: Made) -> Result<Vec<(usize, Option<f64>)>> {
        self.steps += 1;
        let rate = self.learning_rate();
        let mut weights = Weights::default();
        let silent = Tape::silent();
        for learned in self.learned.iter().filter(|_| self.on_device.is_none()) {
            weights.insert(learned.spec.name.clone(), silent.constant(&learned.tensor)?);
        }
        let frozen: BTreeSet<&str> = self.learned.iter().filter(|learned| !learned.trainable).map(|learned| &*learned.spec.name).collect();
        let chosen = self.items.as_ref().and_then(|items| items.choose(self.data, rows, self.random("negatives").at_step(self.steps)));
        let (maker, at) = (self.maker(), self.steps);
        let shards = Shards::new(made);
        let step = Step {
            module: &*self.module,
            weights: &weights,
            trainable: &|name| !frozen.contains(name),
            random: self.random("step").at_step(self.steps),
            gather: &|own, batch| shards.gather(&maker, at, rows, own, batch),
            loss: &|tape, forward, own| self.data.loss(tape, forward, &rows[own], self.hyper),
            weight: &|own| self.data.weight(&rows[own]),
        };
        if let Some(on_device) = &mut self.on_device {
            let done = on_device.step(&step, rows.len(), rate);
            shards.whole()?;
            return match done {
                Err(error) if error.code == Code::OutOfMemory => self.leave_device(rows),
                other => other,
            };
        }
        let found = match &chosen {
            None => step.run_lazily(rows.len()),
            Some(chosen) => step.run_by(rows.len(), &|tape, weights, batch, own| {
                let targets = self.data.labels(&rows[own]);
                Ok((chosen.loss(&*self.module, tape, weights, batch, &targets)?, Vec::new()))
            }),
        };
        shards.whole()?;
        let loss = self.move_weights(&found?, rate)?;
        Ok(vec![(rows.len(), loss)])
    }

    /// The update of a step; its loss, or `None` when loss or gradient were not finite and nothing was changed.
    fn move_weights(&mut self, found: &Found, rate: f64) -> Result<Option<f64>> {
        if !found.loss.is_finite() {
            return Ok(None);
        }
        let learned: BTreeMap<&str, &Learned> = self.learned.iter().map(|learned| (&*learned.spec.name, learned)).collect();
        self.pull.as_ref().map_or(Ok(()), |pull| pull.add(&found.gradients, &learned))?;
        let updates: Vec<Update<'_>> = found
            .gradients
            .iter()
            .filter_map(|(name, gradient)| {
                let learned = learned.get(&**name)?;
                Some(Update { name, weights: &learned.tensor, gradient, decays: learned.spec.decays })
            })
            .collect();
        let row_updates: Vec<RowUpdate<'_>> = found
            .rows
            .iter()
            .filter_map(|(name, gradient)| {
                let learned = learned.get(&**name)?;
                Some(RowUpdate { name, weights: &learned.tensor, gradient, decays: learned.spec.decays })
            })
            .collect();
        Ok(match self.optimizer.step_with_rows(&updates, &row_updates, rate)? {
            StepOutcome::Done(_) => {
                self.remember(&found.statistics)?;
                Some(found.loss)
            }
            StepOutcome::NotFinite => None,
        })
    }

    /// Moves the running statistics of batch normalisations towards those of a batch.
    fn remember(&self, statistics: &[(String, BatchStatistics)]) -> Result<()> {
        let blend = |name: String, seen: &[f64]| match self.learned.binary_search_by(|learned| learned.spec.name.cmp(&name)) {
            Ok(at) => storage::modify::<f32>(&self.learned[at].tensor, |values| {
                let moved = |value: f32, seen: f64| value + (seen as f32 - value) * STATISTICS_SHARE;
                values.iter_mut().zip(seen).for_each(|(value, seen)| *value = moved(*value, *seen));
            }),
            Err(_) => Err(Error::internal(format!("parameter \"{name}\" is not declared"))),
        };
        for (name, seen) in statistics {
            blend(format!("{name}.running_mean"), &seen.mean)?;
            blend(format!("{name}.running_var"), &seen.variance)?;
        }
        Ok(())
    }

    fn evaluate(&mut self, epoch: usize, done: &Epoch, watch: &Watch<'_>) -> Result<EpochRecord> {
        let (mut valid_loss, mut valid_metric) = (done.loss, f64::NAN);
        if !self.data.validation.is_empty() {
            let mut weights = Weights::default();
            let tape = Tape::silent();
            for learned in &self.learned {
                weights.insert(learned.spec.name.clone(), tape.constant(&learned.tensor)?);
            }
            if let Some(items) = &self.items {
                (valid_loss, valid_metric) = self.evaluate_ranking(items, &weights, watch)?;
                return Ok(self.record(epoch, done, valid_loss, valid_metric));
            }
            let on_host = |batch: &Batch| outputs(&self.hyper.config, &*self.module, &weights, batch, false);
            let pass = |batch: &Batch| self.on_device.as_ref().map_or_else(|| on_host(batch), |own| own.outputs(self, batch, &on_host));
            let most = if self.on_device.is_some() { device::PASS_ROWS } else { EVALUATION_ROWS };
            let logits = predict(&self.data.inputs, &self.hyper.config, &self.data.validation, most, &pass, watch.cancel)?;
            valid_loss = mean_loss(self.data, &logits, &self.data.validation, self.hyper);
            valid_metric = (watch.metric)(&logits);
        }
        Ok(self.record(epoch, done, valid_loss, valid_metric))
    }

    fn record(&self, epoch: usize, done: &Epoch, valid_loss: f64, valid_metric: f64) -> EpochRecord {
        EpochRecord {
            epoch,
            train_loss: done.loss,
            valid_loss,
            valid_metric,
            learning_rate: self.learning_rate(),
            seconds: done.seconds,
            rows_per_s: done.rows as f64 / done.seconds.max(1e-9),
        }
    }

    fn learned_tensor(&self, name: &str) -> Result<Tensor> {
        let found = self.learned.iter().find(|learned| learned.spec.name == name);
        found.map(|learned| learned.tensor.clone()).ok_or_else(|| Error::internal(format!("parameter \"{name}\" is not declared")))
    }

    fn parameters(&self) -> Result<Parameters> {
        let mut parameters = BTreeMap::new();
        for learned in &self.learned {
            parameters.insert(learned.spec.name.clone(), (learned.spec.shape.clone(), storage::to_vec::<f32>(&learned.tensor)?));
        }
        Ok(Parameters(parameters))
    }

    fn restore(&mut self, parameters: &Parameters) -> Result<()> {
        for learned in &mut self.learned {
            if let Some((shape, values)) = parameters.0.get(&learned.spec.name) {
                learned.tensor = storage::tensor(values.clone(), shape)?;
            }
        }
        self.optimizer = Optimizer::new(rule(self.hyper));
        match &mut self.on_device {
            Some(on_device) => on_device.restart(parameters),
            None => Ok(()),
        }
    }
}

/// A private fit clips each user's gradient; clipping their noisy sum again would only lose signal.
fn rule(hyper: &Hyper) -> Rule {
    let Momentum { share: momentum, nesterov } = hyper.momentum;
    let clip_norm = hyper.clip_norm.filter(|_| hyper.privacy.is_none());
    Rule { kind: hyper.optimizer, weight_decay: hyper.weight_decay, clip_norm, momentum, nesterov }
}

/// The time left for one of `remaining` fits.
pub(super) fn share_of_budget(deadline: Option<Instant>, remaining: usize) -> Option<Instant> {
    let deadline = deadline?;
    let left = deadline.saturating_duration_since(Instant::now());
    Some(Instant::now() + Duration::from_secs_f64(left.as_secs_f64() / remaining.max(1) as f64))
}
