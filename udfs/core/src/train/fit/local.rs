//! A fit that is handed weights again and again: a worker of a federated training between two rounds.
//!
//! Its moments stay with it: workers are few and come back, so that each goes on with what it knows of its own gradients.

use std::collections::BTreeMap;

use super::{Data, End, Fit, Learned, Watch, diverged};
use crate::error::{Error, Result};
use crate::features::options::Freeze;
use crate::models::cuda::choose;
use crate::models::ops::storage;
use crate::models::{Parameters, Tensor};
use crate::train::hyper::Hyper;
use crate::train::transfer::Start;

/// What draws weights back to where they started: `mu / 2 · ‖w − start‖²` in the loss (FedProx; Li et al., 2020).
#[derive(Debug, Clone)]
pub(in crate::train) struct Pull {
    pub(in crate::train) mu: f64,
    pub(in crate::train) start: Parameters,
}

impl Pull {
    /// Adds its share to the gradients.
    pub(super) fn add(&self, gradients: &[(String, Tensor)], learned: &BTreeMap<&str, &Learned>) -> Result<()> {
        let mu = self.mu as f32;
        for (name, gradient) in gradients {
            let (Some(learned), Some((_, start))) = (learned.get(name.as_str()), self.start.0.get(name)) else { continue };
            let now = storage::to_vec::<f32>(&learned.tensor)?;
            storage::modify::<f32>(gradient, |values| {
                values.iter_mut().zip(now.iter().zip(start)).for_each(|(value, (now, start))| *value += mu * (now - start));
            })?;
        }
        Ok(())
    }
}

/// See the module.
pub(in crate::train) struct Local<'a> {
    fit: Fit<'a>,
}

impl<'a> Local<'a> {
    /// # Errors
    /// `InvalidParameter` when the network cannot read the data; `FeatureNotSupported` when a GPU is asked for by name.
    pub(in crate::train) fn new(data: &'a Data<'a>, hyper: &'a Hyper) -> Result<Self> {
        choose::refuse(&hyper.device, "a federated training runs where its rows are")?;
        let (fit, _) = Fit::new(data, hyper, Start { warm: None, freeze: &Freeze::AllButHead(false) })?;
        Ok(Self { fit })
    }

    /// The weights as they are.
    pub(in crate::train) fn parameters(&self) -> Result<Parameters> {
        self.fit.parameters()
    }

    /// Goes on from the weights `from` for `epochs` epochs, the first of which is number `first` (from 1): the weights after
    /// it, and the mean loss of the last.
    ///
    /// # Errors
    /// `Cancelled`, also when time is over; `InvalidParameter` when the loss does not stay finite.
    pub(in crate::train) fn round(
        &mut self,
        from: &Parameters,
        first: usize,
        epochs: usize,
        mu: f64,
        watch: &Watch<'_>,
    ) -> Result<(Parameters, f64)> {
        for learned in &mut self.fit.learned {
            let found = from.0.get(&learned.spec.name).filter(|(shape, _)| *shape == learned.spec.shape);
            let (shape, values) = found.ok_or_else(|| Error::internal("the common weights are of another network"))?;
            learned.tensor = storage::tensor(values.clone(), shape)?;
        }
        self.fit.pull = (mu > 0.0).then(|| Pull { mu, start: from.clone() });
        let mut loss = f64::NAN;
        for epoch in first..first + epochs {
            let done = self.fit.epoch(epoch, watch)?;
            match done.end {
                End::Complete => loss = done.loss,
                End::Cancelled | End::OutOfTime => return Err(Error::cancelled()),
                End::Diverged => return Err(diverged()),
            }
        }
        Ok((self.fit.parameters()?, loss))
    }
}
