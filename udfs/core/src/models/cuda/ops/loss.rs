//! Losses: scalars on the device, with the gradients of what they are of.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::models::cuda::device::Array;
use crate::models::cuda::tape::{DeviceTape, Sink};
use crate::models::ops::{Focal, Var};

impl DeviceTape {
    /// What each row counts for: its weight over those of all rows and members.
    fn scales(&self, weights: Option<&[f32]>, rows: usize, members: usize) -> Result<Array> {
        if weights.is_some_and(|weights| weights.len() != rows) {
            return Err(Error::internal("loss: one weight per row is needed"));
        }
        let weight = |row: usize| weights.map_or(1.0, |weights| f64::from(weights[row]));
        let total = (0..rows).map(weight).sum::<f64>();
        let norm = if total > 0.0 { total } else { 1.0 } * members as f64;
        self.device.upload(&(0..rows).map(|row| (weight(row) / norm) as f32).collect::<Vec<_>>())
    }

    /// The loss whose rows' shares are `losses`, and whose gradient is `own`.
    fn loss(&self, of: &Var, losses: &Array, own: Array) -> Result<Var> {
        let device = Arc::clone(&self.device);
        let loss = device.array(1)?;
        device.launch("sum_all", [1, 256, 8 * 256], &[losses.at(), loss.at()], &[losses.len()], &[])?;
        self.record(&[1], loss, &[of], move |gradient, sink: &mut Sink<'_>| match sink.target(0, own.len())? {
            Some((to, held)) => device.each("scale_by", own.len(), &[own.at(), gradient.at(), to], &[own.len(), usize::from(held)], &[]),
            None => Ok(()),
        })
    }

    /// See [`crate::models::ops::softmax_cross_entropy`] and [`crate::models::ops::focal_loss`].
    ///
    /// # Errors
    /// As there, and `OutOfMemory`.
    pub fn classes(&self, logits: &Var, targets: &[u32], weights: Option<&[f32]>, focal: Option<Focal>) -> Result<Var> {
        let ((all, classes), rows) = (logits.dims2()?, targets.len());
        if rows == 0 || all % rows != 0 || targets.iter().any(|target| *target as usize >= classes) {
            return Err(Error::internal("loss: targets do not fit the logits"));
        }
        let members = all / rows;
        let device = &self.device;
        let (scales, targets) = (self.scales(weights, rows, members)?, device.upload(targets)?);
        let (own, losses) = (device.array(all * classes)?, device.array(all)?);
        let addresses = [logits.array()?.at(), targets.at(), scales.at(), own.at(), losses.at()];
        let counts = [all, classes, members];
        match focal {
            None => device.rows("cross_entropy", (all, classes, 2), &addresses, &counts, &[])?,
            Some(focal) => {
                device.rows("focal", (all, classes, 8), &addresses, &counts, &[focal.gamma as f32, focal.smoothing as f32])?;
            }
        }
        self.loss(logits, &losses, own)
    }

    /// See [`crate::models::ops::mean_squared_error`].
    ///
    /// # Errors
    /// As there, and `OutOfMemory`.
    pub fn squared_error(&self, predictions: &Var, targets: &[f32], weights: Option<&[f32]>) -> Result<Var> {
        let ((all, width), rows) = (predictions.dims2()?, targets.len());
        if rows == 0 || width != 1 || all % rows != 0 {
            return Err(Error::internal("mean_squared_error: targets do not fit the predictions"));
        }
        let members = all / rows;
        let device = &self.device;
        let (scales, targets) = (self.scales(weights, rows, members)?, device.upload(targets)?);
        let (own, losses) = (device.array(all)?, device.array(all)?);
        let addresses = [predictions.array()?.at(), targets.at(), scales.at(), own.at(), losses.at()];
        device.each("squared_error", all, &addresses, &[all, members], &[])?;
        self.loss(predictions, &losses, own)
    }
}
