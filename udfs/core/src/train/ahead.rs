//! Batches made ready while the steps before them run, on threads of their own.
//!
//! It pays where making a batch is slow beside the step: rows are read from files, or pictures are changed on one thread
//! because their network keeps batches whole. Rows in memory are gathered shard by shard inside the step instead, on the
//! threads that compute.
//!
//! What a batch holds follows from its rows and the number of its step, so it is the same whoever makes it and when. The
//! threads end with the epoch, whatever ends it: they wait for nothing but room in a queue that the steps own.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::fit::{Data, Targets};
use super::hyper::Hyper;
use crate::error::{Code, Error, Result};
use crate::features::inputs::{InputShape, Inputs};
use crate::models::architecture::{PREPARED_NUMBERS, PREPARED_PICTURES};
use crate::models::ops::Philox;
use crate::models::{Architecture, Batch, Module, Parameters, step};

/// Threads that make batches: one reads while the other decodes.
const MAKERS: usize = 2;
/// Batches that wait for their step, of each maker; one more is in its hands.
const WAITING: usize = 1;
/// Batches that exist at once at most, the one of the running step among them.
pub(super) const BATCHES: usize = MAKERS * (WAITING + 1) + 1;

/// How often a step that waits for its batch looks whether it shall wait on.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What the shards of a step read, by the shard's first row.
pub(super) type Ready = BTreeMap<usize, Batch>;

/// The batch of a step.
#[derive(Debug)]
pub(super) enum Made {
    /// The step's shards gather it themselves.
    InStep,
    Ahead(Ready),
    /// Somebody cancelled while it was waited for.
    Cancelled,
}

/// Makes the batches of an epoch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Maker<'a> {
    pub(super) data: &'a Data<'a>,
    pub(super) hyper: &'a Hyper,
    /// Rows of a shard at most.
    pub(super) shard_rows: usize,
    pub(super) unseen: Philox,
    pub(super) augment: Philox,
    pub(super) swap: Philox,
}

impl Maker<'_> {
    /// Whether batches are better made ahead.
    pub(super) fn is_slow(&self) -> bool {
        self.data.inputs.spilled.is_some() || self.hyper.config.shape.image.is_some()
    }

    /// What a shard of the step reads: some of the batch's rows, with the changes that training makes to them.
    ///
    /// # Errors
    /// `Io` of rows in files.
    pub(super) fn shard(&self, step: u32, rows: &[u32], own: Range<usize>, batch: &mut Batch) -> Result<()> {
        let (shape, augment, start) = (&self.hyper.config.shape, self.hyper.augment, own.start as u32);
        Batch::read(&self.data.inputs, shape, &rows[own], batch)?;
        if matches!(self.data.targets, Targets::Rows) {
            self.data.swap(batch, shape, self.swap.at_step(step).fork(start));
        }
        show_as_unseen(batch, shape, self.hyper.unseen_rate, self.unseen.at_step(step).fork(start));
        batch.augment(shape, augment.shifts(), augment.flips(), self.augment.at_step(step).fork(start));
        Ok(())
    }

    /// `None` when nobody wants it any more.
    fn shards(&self, step: u32, rows: &[u32], over: &AtomicBool) -> Result<Option<Ready>> {
        let mut ready = Ready::new();
        for own in step::shards(rows.len(), self.shard_rows) {
            if over.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let mut batch = Batch::default();
            self.shard(step, rows, own.clone(), &mut batch)?;
            ready.insert(own.start, batch);
        }
        Ok(Some(ready))
    }

    /// Runs `steps`, which asks for one batch after another, while makers work on those to come. The first batch is that of
    /// the step after `before`.
    pub(super) fn ahead<R>(
        &self,
        batches: &[Vec<u32>],
        before: u32,
        cancel: &CancellationToken,
        steps: impl FnOnce(&mut dyn FnMut() -> Result<Made>) -> R,
    ) -> R {
        let over = AtomicBool::new(false);
        let over = &over;
        std::thread::scope(|scope| {
            let queues: Vec<Receiver<Result<Ready>>> = (0..MAKERS)
                .map(|maker| {
                    let (sender, queue) = sync_channel(WAITING);
                    let work = move || {
                        for at in (maker..batches.len()).step_by(MAKERS) {
                            let Some(made) = self.shards(before + 1 + at as u32, &batches[at], over).transpose() else { return };
                            let failed = made.is_err();
                            // Nobody takes it when the steps have ended.
                            if sender.send(made).is_err() || failed {
                                return;
                            }
                        }
                    };
                    // Without its thread the queue is closed, and the first step that wants a batch fails.
                    if let Err(error) = std::thread::Builder::new().name(format!("ml-read-{maker}")).spawn_scoped(scope, work) {
                        tracing::warn!(%error, "a thread that makes batches cannot be started");
                    }
                    queue
                })
                .collect();
            let mut at = 0;
            // The queues go with the steps, and with them the makers.
            let mut next = move || {
                let queue = &queues[at % MAKERS];
                at += 1;
                loop {
                    match queue.recv_timeout(LOOK_EVERY) {
                        Ok(made) => return made.map(Made::Ahead),
                        Err(RecvTimeoutError::Timeout) if cancel.is_cancelled() => return Ok(Made::Cancelled),
                        Err(RecvTimeoutError::Timeout) => {}
                        Err(RecvTimeoutError::Disconnected) => return Err(Error::internal("a thread that makes batches ended early")),
                    }
                }
            };
            let result = steps(&mut next);
            over.store(true, Ordering::Relaxed);
            drop(next);
            result
        })
    }
}

/// What the shards of one step read: made ahead and taken once, or gathered as they ask.
#[derive(Debug)]
pub(super) struct Shards {
    ready: Option<Mutex<Ready>>,
    failure: Mutex<Option<Error>>,
}

impl Shards {
    pub(super) fn new(made: Made) -> Self {
        let ready = match made {
            Made::Ahead(ready) => Some(Mutex::new(ready)),
            Made::InStep | Made::Cancelled => None,
        };
        Self { ready, failure: Mutex::new(None) }
    }

    /// Fills the batch of a shard; if that fails, [`whole`](Self::whole) says why.
    pub(super) fn gather(&self, maker: &Maker<'_>, step: u32, rows: &[u32], own: Range<usize>, batch: &mut Batch) {
        let done = match &self.ready {
            Some(ready) => {
                let taken = ready.lock().unwrap_or_else(PoisonError::into_inner).remove(&own.start);
                taken.map(|taken| *batch = taken).ok_or_else(|| Error::internal("a batch was made for other shards"))
            }
            None => maker.shard(step, rows, own, batch),
        };
        if let Err(error) = done {
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
    }

    /// # Errors
    /// Why some shard has no batch.
    pub(super) fn whole(self) -> Result<()> {
        self.failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }
}

/// Shows a share of the known ids as id 1 (unseen): no training row holds it otherwise, and at scoring it must mean
/// "something I do not know" instead of an untrained vector.
///
/// Words of a text become one of the buckets that unknown words fall into.
pub(super) fn show_as_unseen(batch: &mut Batch, shape: &InputShape, rate: f64, random: Philox) {
    let ids = batch.categorical.iter_mut().chain(batch.tokens.iter_mut());
    for (at, id) in ids.enumerate().filter(|(_, id)| **id >= 2) {
        if random.uniform(at as u64) < rate {
            *id = 1;
        }
    }
    for (column, (words, text)) in batch.texts.iter_mut().zip(&shape.texts).enumerate() {
        let (random, first) = (random.fork(1 + column as u32), text.vocabulary - text.buckets);
        for (at, id) in words.ids.iter_mut().enumerate().filter(|(_, id)| (2..first as u32).contains(&**id)) {
            if random.uniform(at as u64) < rate {
                *id = first as u32 + random.fork(1).below(at as u64, text.buckets.max(1) as u32);
            }
        }
    }
}

/// Whether an architecture learns from rows in files: all that it looks at comes in batches, but for what
/// [`Module::prepare`] looks at.
#[must_use]
pub const fn reads_files(architecture: Architecture) -> bool {
    match architecture {
        Architecture::Logreg
        | Architecture::Dnn
        | Architecture::Gru
        | Architecture::Lstm
        | Architecture::Rnn
        | Architecture::Transformer
        | Architecture::Cnn => true,
        Architecture::Mf | Architecture::TwoTower | Architecture::Autoencoder | Architecture::Gan | Architecture::WideDeep => false,
    }
}

/// # Errors
/// `FeatureNotSupported` for rows in files that `architecture` needs in memory.
pub(super) fn check_reads(architecture: Architecture, inputs: &Inputs) -> Result<()> {
    if inputs.spilled.is_none() || reads_files(architecture) {
        return Ok(());
    }
    Err(Error::new(Code::FeatureNotSupported, format!("architecture \"{architecture}\" needs its rows in memory"))
        .detail("They did not fit and were spilled to temporary files.")
        .hint("Train on a sample (option sample), or raise memory_limit."))
}

/// Stands for a row that [`Module::prepare`] does not look at.
const NOT_READ: u32 = u32::MAX;

/// [`Module::prepare`], also of rows in files: only those are read that it looks at.
///
/// # Errors
/// `Io` of rows in files.
pub(super) fn prepare(module: &dyn Module, inputs: &Inputs, shape: &InputShape, train: &[u32], parameters: &mut Parameters) -> Result<()> {
    if inputs.spilled.is_none() {
        module.prepare(inputs, train, parameters);
        return Ok(());
    }
    let every = |most: usize| train.len().div_ceil(most).max(1);
    let (numbers, pictures) = (every(PREPARED_NUMBERS), every(PREPARED_PICTURES));
    let picture_shape = InputShape { numeric: shape.numeric, image: shape.image, ..InputShape::default() };
    let number_shape = InputShape { image: None, ..picture_shape.clone() };
    // Rows with pictures come first: what is read for their numbers alone lies behind them.
    let (mut places, mut read) = (vec![NOT_READ; train.len()], Inputs::default());
    let mut batch = Batch::default();
    let steps = [(pictures, &picture_shape, shape.image.is_some()), (numbers, &number_shape, shape.numeric > 0)];
    for (step, shape, _) in steps.into_iter().filter(|(_, _, wanted)| *wanted) {
        let new: Vec<usize> = (0..train.len()).step_by(step).filter(|at| places[*at] == NOT_READ).collect();
        let rows: Vec<u32> = new.iter().map(|at| train[*at]).collect();
        Batch::read(inputs, shape, &rows, &mut batch)?;
        read.numeric.append(&mut batch.numeric);
        read.images.append(&mut batch.images);
        for at in new {
            places[at] = read.rows as u32;
            read.rows += 1;
        }
    }
    module.prepare(&read, &places, parameters);
    Ok(())
}
