//! A student that learns from a teacher (Hinton, Vinyals & Dean, 2015): the training of [`super::candidates`] on what a
//! larger model says about the training rows, beside their true labels.
//!
//! Classes: the student's loss is [`distillation_loss`](crate::models::ops::distillation_loss) on the training rows; early
//! stopping, calibration and figures are on true labels as always. Numbers: the training rows' truth is blended with what
//! the teacher predicts.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{Scorer, TrainRequest, Trained, candidates};
use crate::error::{Error, Result};
use crate::features::Dataset;
use crate::features::inputs::{Labels, Rows};
use crate::features::options::Oversample;
use crate::models::Task;
use crate::models::ops::Distillation;

/// What a teacher says about the rows of a dataset.
#[derive(Debug, Clone)]
pub(super) struct Teacher {
    /// `[rows, classes]` at the temperature; rows that nobody learns from are zeros.
    pub(super) probabilities: Vec<f32>,
    pub(super) classes: usize,
    pub(super) how: Distillation,
}

impl Teacher {
    /// The probabilities of some rows, one after the other.
    pub(super) fn rows(&self, rows: &[u32]) -> Vec<f32> {
        rows.iter().flat_map(|row| &self.probabilities[*row as usize * self.classes..][..self.classes]).copied().collect()
    }
}

/// Trains a student on `request`'s dataset, whose rows `teacher` can read. Blocks, as [`train`](super::train) does.
///
/// # Errors
/// `InvalidParameter` for options that do not go with a teacher; else as [`train`](super::train).
pub fn distil(request: TrainRequest<'_>, teacher: &Scorer, how: Distillation) -> Result<Trained> {
    let options = request.options;
    if options.oversample != Oversample::None {
        return Err(Error::invalid("a student cannot be trained with the option \"oversample\"")
            .detail("Its teacher says nothing about rows that are made up."));
    }
    if options.privacy.is_some() {
        return Err(Error::invalid("a student cannot be trained with the option \"privacy\"")
            .detail("What its teacher says about a row was learned from that row without protection."));
    }
    match request.task {
        Task::Classification => {
            let taught = teach(request.dataset, teacher, how, request.cancel)?;
            candidates::train_with(request, Some(Arc::new(taught)))
        }
        Task::Regression => {
            let dataset = blended(request.dataset, teacher, how.share, request.cancel)?;
            candidates::train_with(TrainRequest { dataset: &dataset, ..request }, None)
        }
    }
}

fn learned_from(dataset: &Dataset) -> Vec<u32> {
    dataset.rows_of(Rows::Train)
}

/// The teacher's probabilities of the training rows, softened.
fn teach(dataset: &Dataset, teacher: &Scorer, how: Distillation, cancel: &CancellationToken) -> Result<Teacher> {
    let (classes, rows) = (teacher.config().outputs, learned_from(dataset));
    let logits = teacher.logits(&dataset.inputs, &rows, Some(cancel))?;
    let mut probabilities = vec![0f32; dataset.split.len() * classes];
    for (row, logits) in rows.iter().zip(logits.chunks_exact(classes.max(1))) {
        let scaled = logits.iter().map(|x| f64::from(*x) / how.temperature);
        let largest = scaled.clone().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = scaled.clone().map(|x| (x - largest).exp()).sum();
        let to = &mut probabilities[*row as usize * classes..][..classes];
        to.iter_mut().zip(scaled).for_each(|(to, x)| *to = ((x - largest).exp() / sum) as f32);
    }
    Ok(Teacher { probabilities, classes, how })
}

/// The dataset with the training rows' numbers between truth and teacher.
fn blended(dataset: &Dataset, teacher: &Scorer, share: f64, cancel: &CancellationToken) -> Result<Dataset> {
    let Labels::Value(values) = &dataset.labels else { return Err(Error::internal("labels do not fit the task")) };
    let rows = learned_from(dataset);
    let predicted = teacher.score_rows(&dataset.inputs, &rows, Some(cancel))?.values;
    let mut values = values.clone();
    for (row, predicted) in rows.iter().zip(predicted) {
        let value = &mut values[*row as usize];
        *value = (share * f64::from(*value) + (1.0 - share) * predicted) as f32;
    }
    Ok(Dataset { labels: Labels::Value(values), ..dataset.clone() })
}
