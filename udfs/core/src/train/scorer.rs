//! Batch scoring: encoded rows in, calibrated probabilities, values and embeddings out.

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

use super::batches;
use super::calibration::Calibration;
use super::ranked::{Standings, pass_rows};
use crate::error::{Error, Result};
use crate::features::inputs::{InputShape, Inputs};
use crate::models::cuda::{Precision, choose};
use crate::models::{Batch, Network, NetworkConfig, Outputs, Task};

/// Rows of one forward pass: enough to keep the matrix kernels busy, few enough to stay in cache.
const CHUNK_ROWS: usize = 256;
/// The same on a GPU.
const DEVICE_ROWS: usize = 4096;

/// Scores rows with one trained network. Cheap to clone; weights are shared.
#[derive(Debug, Clone)]
pub struct Scorer {
    network: Arc<dyn Network>,
    calibration: Calibration,
    /// The same network on a GPU, once a call was large enough to ask for one; `None` when there is none.
    on_device: Arc<OnceLock<Option<Arc<dyn Network>>>>,
}

/// What a model says about each row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scores {
    /// Number of rows.
    pub rows: usize,
    /// Number of classes; 0 for regression.
    pub classes: usize,
    /// `[rows, classes]`, row-major, calibrated, each row sums to 1.
    pub probabilities: Vec<f64>,
    /// Regression: one value per row in the target's own units; empty for classification.
    pub values: Vec<f64>,
    /// `[rows, embedding_dim]`, row-major, not normalised.
    pub embedding: Vec<f32>,
    /// Width of the embedding.
    pub embedding_dim: usize,
}

impl Scorer {
    /// A scorer for `network`, whose outputs `calibration` turns into probabilities or values.
    pub fn new(network: Arc<dyn Network>, calibration: Calibration) -> Self {
        Self { network, calibration, on_device: Arc::default() }
    }

    /// The network's configuration.
    pub fn config(&self) -> &NetworkConfig {
        self.network.config()
    }

    /// What it reads.
    pub fn shape(&self) -> &InputShape {
        &self.network.config().shape
    }

    /// The network behind it.
    pub fn network(&self) -> &Arc<dyn Network> {
        &self.network
    }

    /// How outputs become probabilities or values.
    pub fn calibration(&self) -> &Calibration {
        &self.calibration
    }

    /// Width of the embedding.
    pub fn embedding_dim(&self) -> usize {
        self.network.embedding_dim()
    }

    /// Bytes of memory it holds, for a cache limited by bytes.
    pub fn bytes(&self) -> usize {
        self.network.bytes()
    }

    /// Scores every row, in order. Rows are grouped by sequence length inside, so that little is padded; a row's
    /// result does not depend on its neighbours.
    ///
    /// # Errors
    /// `Internal` when `inputs` do not have the network's shape.
    pub fn score(&self, inputs: &Inputs) -> Result<Scores> {
        let rows: Vec<u32> = (0..inputs.rows as u32).collect();
        self.scores(inputs, &rows, None, self.network.embedding_dim())
    }

    /// Scores some rows, in the order given; `cancel` ends it. There is no embedding: of millions of rows that are only
    /// measured it would be the largest part.
    ///
    /// # Errors
    /// As [`score`](Self::score), `Cancelled`, and `Io` of rows in files.
    pub fn score_rows(&self, inputs: &Inputs, rows: &[u32], cancel: Option<&CancellationToken>) -> Result<Scores> {
        self.scores(inputs, rows, cancel, 0)
    }

    fn scores(&self, inputs: &Inputs, rows: &[u32], cancel: Option<&CancellationToken>, embedding_dim: usize) -> Result<Scores> {
        let config = self.network.config();
        let (logits, embedding) = self.forward(inputs, rows, cancel, embedding_dim)?;
        let mut scores = Scores { rows: rows.len(), embedding, embedding_dim, ..Scores::default() };
        match config.task {
            Task::Classification => {
                scores.classes = config.outputs;
                scores.probabilities = self.calibration.probabilities(&logits, config.outputs);
            }
            Task::Regression => scores.values = self.calibration.values(&logits),
        }
        Ok(scores)
    }

    /// The embedding of every row, `[rows, embedding_dim]`, in order and not scaled.
    ///
    /// # Errors
    /// As [`score`](Self::score).
    pub fn embeddings(&self, inputs: &Inputs) -> Result<Vec<f32>> {
        let rows: Vec<u32> = (0..inputs.rows as u32).collect();
        let dim = self.network.embedding_dim();
        let mut all = vec![0f32; inputs.rows * dim];
        self.passes_of(
            inputs,
            &rows,
            CHUNK_ROWS,
            None,
            |batch| self.network.embed(batch),
            |places, out| {
                for (from, to) in out.chunks_exact(dim.max(1)).zip(places) {
                    all[*to as usize * dim..][..dim].copy_from_slice(from);
                }
            },
        )?;
        Ok(all)
    }

    /// The network's own outputs `[rows, outputs]`, before calibration.
    pub(super) fn logits(&self, inputs: &Inputs, rows: &[u32], cancel: Option<&CancellationToken>) -> Result<Vec<f32>> {
        Ok(self.forward(inputs, rows, cancel, 0)?.0)
    }

    /// Where `labels` stand when the network ranks all classes that are items for each of `rows`; logits are held a pass at a
    /// time.
    ///
    /// # Errors
    /// As [`score_rows`](Self::score_rows).
    pub fn stand(
        &self,
        inputs: &Inputs,
        rows: &[u32],
        labels: Vec<u32>,
        is_item: &[bool],
        cancel: Option<&CancellationToken>,
    ) -> Result<Standings> {
        let mut standings = Standings::of(labels);
        let temperature = self.calibration.temperature();
        self.passes(inputs, rows, cancel, |places, outputs| standings.fill(places, &outputs.logits, is_item, temperature))?;
        Ok(standings)
    }

    /// The network for `rows` rows, and how many it takes at a time: a GPU's when there is one and the way is worth it.
    fn network_for(&self, rows: usize) -> (&Arc<dyn Network>, usize) {
        let config = self.network.config();
        let open = || {
            let chosen = choose::choose("auto", Precision::Full, config, rows, None).ok()?;
            chosen.note.iter().for_each(|note| tracing::info!("{note}"));
            let moved = Arc::clone(&self.network).on_device(&chosen.device?)?;
            moved.map_err(|error| tracing::warn!("the network stays on the CPU: {error}")).ok()
        };
        let worth = choose::is_worth(config, rows) && self.network.has_kernels();
        match worth.then(|| self.on_device.get_or_init(open).as_ref()).flatten() {
            Some(network) => (network, DEVICE_ROWS),
            None => (&self.network, CHUNK_ROWS),
        }
    }

    /// Outputs and embeddings of `rows`, in their order; no embeddings when their width is 0.
    fn forward(
        &self,
        inputs: &Inputs,
        rows: &[u32],
        cancel: Option<&CancellationToken>,
        embedding_dim: usize,
    ) -> Result<(Vec<f32>, Vec<f32>)> {
        let config = self.network.config();
        let outputs = config.outputs;
        let mut logits = vec![0f32; rows.len() * outputs];
        let mut embedding = vec![0f32; rows.len() * embedding_dim];
        self.passes(inputs, rows, cancel, |places, out| {
            for (from, &to) in places.iter().enumerate() {
                let to = to as usize;
                logits[to * outputs..][..outputs].copy_from_slice(&out.logits[from * outputs..][..outputs]);
                embedding[to * embedding_dim..][..embedding_dim].copy_from_slice(&out.embedding[from * embedding_dim..][..embedding_dim]);
            }
        })?;
        Ok((logits, embedding))
    }

    /// Goes through `rows` in passes of similar lengths: `take` gets the places of a pass among `rows` and what was answered.
    pub(super) fn passes(
        &self,
        inputs: &Inputs,
        rows: &[u32],
        cancel: Option<&CancellationToken>,
        take: impl FnMut(&[u32], &Outputs),
    ) -> Result<()> {
        let (network, most) = self.network_for(rows.len());
        self.passes_of(inputs, rows, most, cancel, |batch| network.forward(batch), take)
    }

    /// The same, at most `most` rows at a time, with an answer of `ask`'s.
    fn passes_of<R>(
        &self,
        inputs: &Inputs,
        rows: &[u32],
        most: usize,
        cancel: Option<&CancellationToken>,
        ask: impl Fn(&Batch) -> Result<R>,
        mut take: impl FnMut(&[u32], &R),
    ) -> Result<()> {
        let config = self.network.config();
        let order = batches::pass_order(inputs, rows, config.architecture.is_sequential());
        let (mut batch, mut chunk_rows) = (Batch::default(), Vec::with_capacity(CHUNK_ROWS));
        for chunk in order.chunks(pass_rows(config, most)) {
            if cancel.is_some_and(CancellationToken::is_cancelled) {
                return Err(Error::cancelled());
            }
            chunk_rows.clear();
            chunk_rows.extend(chunk.iter().map(|&at| rows[at as usize]));
            Batch::read(inputs, &config.shape, &chunk_rows, &mut batch)?;
            take(chunk, &ask(&batch)?);
        }
        Ok(())
    }
}
