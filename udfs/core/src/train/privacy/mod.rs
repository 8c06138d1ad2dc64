//! Differentially private training: DP-SGD (Abadi et al., "Deep learning with differential privacy", 2016).
//!
//! Life of a private step: [`noise`] draws a Poisson sample of the users → the fit computes each user's gradient by
//! itself, clips it to the norm C and adds them up (`fit::private`) → noise of deviation σ·C falls on the sum → any
//! optimizer takes it for a gradient. [`accountant`] turns σ, the sampling rate and the steps into (ε, δ) and back.
//!
//! What ε covers: the learned weights, for the presence or absence of one user (all rows of a user together are one
//! example; in a labelled table every row is a user). Nothing else that looks at data may leak into them, so a private
//! training has no early stopping (the last epoch is kept), no calibration, no quantile bins, no choice between
//! architectures. What it does not cover, and what the model's message says: the encoder's vocabularies, scales and
//! selected features, the class shares, and the reported metrics, which are exact statistics of the data.
//!
//! The noise comes from the operating system, not from the seed: two private trainings differ.

pub mod accountant;
mod erfc;
pub(crate) mod noise;

use serde::{Deserialize, Serialize};

use self::accountant::Mechanism;
use super::hyper::Hyper;
use crate::error::{Error, Result};
use crate::features::options::{Budget, Options, Privacy};

/// What a private training spent; stored with the version.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PrivacyReport {
    /// Spent by the Rényi accountant.
    pub epsilon: f64,
    /// The probability with which ε may fail.
    pub delta: f64,
    /// Standard deviation of the noise in units of `clip_norm`.
    pub noise_multiplier: f64,
    /// Largest norm of one user's gradient.
    pub clip_norm: f64,
    /// Probability of a user to be in a step.
    pub sample_rate: f64,
    /// Noisy steps taken.
    pub steps: u64,
    /// Users (rows of a labelled table) that were protected.
    pub users: u64,
}

impl std::fmt::Display for PrivacyReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "private: epsilon {:.3} at delta {:e} per user (noise multiplier {:.3}, clip norm {}, {} steps of {:.2} % of {} users); epsilon \
             covers the weights: the encoder's vocabularies and scales, class shares and metrics are exact; no early stopping, no calibration",
            self.epsilon,
            self.delta,
            self.noise_multiplier,
            self.clip_norm,
            self.steps,
            self.sample_rate * 100.0,
            self.users
        )
    }
}

/// Epochs of a private training by default: every one costs noise.
const EPOCHS: usize = 40;
/// Steps of an epoch by default: few large samples drown less in noise than many small ones.
const STEPS_OF_EPOCH: usize = 16;

/// What privacy leaves of an architecture's own choices: nothing fitted to the data beside the weights, nothing that
/// looks at validation rows, and larger samples. Options that are set stay.
pub(super) fn adapted(mut hyper: Hyper, options: &Options, train_rows: usize) -> Hyper {
    if hyper.privacy.is_none() {
        return hyper;
    }
    hyper.config.bins = 0;
    hyper.config.numeric_embedding_dim = 1;
    hyper.config.members = 1;
    hyper.patience = usize::MAX;
    if options.dropout.is_none() {
        hyper.config.dropout = 0.0;
    }
    if options.epochs.is_none() {
        hyper.epochs = EPOCHS;
    }
    if options.batch_size.is_none() {
        hyper.batch_size = (train_rows / STEPS_OF_EPOCH).clamp(64, 4096);
    }
    hyper
}

/// A private training before it starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Plan {
    pub(super) mechanism: Mechanism,
    pub(super) delta: f64,
    pub(super) clip_norm: f64,
    pub(super) users: usize,
}

impl Plan {
    /// The noise for `steps` steps that each take one of `users` with probability `sample_rate`.
    ///
    /// # Errors
    /// `InvalidParameter` when no noise keeps the budget.
    pub(super) fn new(options: &Privacy, users: usize, sample_rate: f64, steps: u64) -> Result<Self> {
        let delta = options.delta.unwrap_or_else(|| (0.1 / users.max(1) as f64).min(1e-5));
        let noise_multiplier = match options.budget {
            Budget::NoiseMultiplier(noise) => noise,
            Budget::Epsilon(epsilon) => accountant::noise_multiplier(sample_rate, epsilon, steps, delta).ok_or_else(|| {
                Error::invalid(format!("no noise keeps {steps} steps within epsilon {epsilon}"))
                    .hint("Take a larger epsilon or fewer epochs.")
            })?,
        };
        let mechanism = Mechanism { sample_rate, noise_multiplier, steps };
        Ok(Self { mechanism, delta, clip_norm: options.clip_norm, users })
    }

    /// What `steps` steps spent.
    pub(super) fn report(&self, steps: u64) -> PrivacyReport {
        let Mechanism { sample_rate, noise_multiplier, .. } = self.mechanism;
        PrivacyReport {
            epsilon: accountant::epsilon(Mechanism { steps, ..self.mechanism }, self.delta),
            delta: self.delta,
            noise_multiplier,
            clip_norm: self.clip_norm,
            sample_rate,
            steps,
            users: self.users as u64,
        }
    }

    /// What to say about a δ that promises little.
    pub(super) fn warning(&self) -> Option<String> {
        (self.delta * self.users as f64 > 1.0).then(|| {
            format!("delta {:e} is more than one in {} users: a mechanism may publish a user outright within it", self.delta, self.users)
        })
    }
}
