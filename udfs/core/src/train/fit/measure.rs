//! Passes over rows that are not learned from, and their mean loss.

use tokio_util::sync::CancellationToken;

use super::{Data, Hyper, Targets};
use crate::error::{Error, Result};
use crate::features::inputs::Inputs;
use crate::models::ops::Focal;
use crate::models::{Batch, NetworkConfig, Outputs};
use crate::train::batches;
use crate::train::ranked::pass_rows;

/// Outputs `[rows.len(), outputs]` in the order of `rows`, at most `most` at a time; `pass` is the network.
///
/// # Errors
/// `Cancelled`, looked at once per chunk; `Io` of rows in files.
pub(in crate::train) fn predict(
    inputs: &Inputs,
    config: &NetworkConfig,
    rows: &[u32],
    most: usize,
    pass: &dyn Fn(&Batch) -> Result<Outputs>,
    cancel: &CancellationToken,
) -> Result<Vec<f32>> {
    let mut all = vec![0f32; rows.len() * config.outputs];
    passes(inputs, config, rows, most, pass, cancel, |places, logits| {
        for (from, to) in logits.chunks_exact(config.outputs).zip(places) {
            all[*to as usize * config.outputs..][..config.outputs].copy_from_slice(from);
        }
    })?;
    Ok(all)
}

/// Goes through `rows` in passes of similar lengths: `take` gets the places of a pass among `rows` and its outputs.
///
/// # Errors
/// As [`predict`].
pub(super) fn passes(
    inputs: &Inputs,
    config: &NetworkConfig,
    rows: &[u32],
    most: usize,
    pass: &dyn Fn(&Batch) -> Result<Outputs>,
    cancel: &CancellationToken,
    mut take: impl FnMut(&[u32], &[f32]),
) -> Result<()> {
    let order = batches::pass_order(inputs, rows, config.architecture.is_sequential());
    let mut batch = Batch::default();
    for chunk in order.chunks(pass_rows(config, most)) {
        if cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        let chunk_rows: Vec<u32> = chunk.iter().map(|at| rows[*at as usize]).collect();
        Batch::read(inputs, &config.shape, &chunk_rows, &mut batch)?;
        take(chunk, &pass(&batch)?.logits);
    }
    Ok(())
}

/// Mean loss of classes as the training rows weigh them, or mean squared error of the standardised values.
pub(in crate::train) fn mean_loss(data: &Data<'_>, logits: &[f32], rows: &[u32], hyper: &Hyper) -> f64 {
    let (mut total, mut norm) = (0.0, 0.0);
    let focal = Focal { gamma: hyper.gamma, smoothing: 0.0 };
    for (row, at) in logits.chunks_exact(hyper.config.outputs).zip(rows) {
        let (loss, weight) = match &data.targets {
            Targets::Classes(labels) => {
                let label = labels[*at as usize] as usize;
                let weight = data.class_weights.as_ref().map_or(1.0, |weights| f64::from(weights[label]));
                let resampled = data.resampled.as_ref().map_or(1.0, |factors| factors[label]);
                (focal.row(row, label, None), weight * resampled)
            }
            Targets::Values(values) => ((f64::from(row[0]) - f64::from(values[*at as usize])).powi(2), 1.0),
            // The network's own answer.
            Targets::Rows => (f64::from(row[0]), 1.0),
        };
        total += weight * loss;
        norm += weight;
    }
    total / norm
}
