//! The learning rate from the first step of a training to its last: a linear warm-up, then one of several ways down.

pub use crate::features::options::Decay;

/// Share of all steps in which `onecycle` rises when nobody says otherwise, as in PyTorch's `OneCycleLR`.
const ONECYCLE_WARMUP: f64 = 0.3;
/// Where `onecycle` starts and ends, as shares of the largest rate (PyTorch's `div_factor` and `final_div_factor`).
const ONECYCLE_ENDS: (f64, f64) = (1.0 / 25.0, 1.0 / 25.0 * 1e-4);

/// How the learning rate moves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Steps until the rate is at its largest, or below 1 the share of all steps; 0 = it starts there.
    pub warmup: f64,
    /// What comes after them.
    pub decay: Decay,
}

impl Schedule {
    /// The share of the largest learning rate at step `step` (from 1) of `steps`.
    pub fn share(self, step: u32, steps: u32) -> f64 {
        let warmup = match (self.decay, self.warmup) {
            (Decay::Onecycle, 0.0) => ONECYCLE_WARMUP * f64::from(steps),
            (_, share) if share < 1.0 => share * f64::from(steps),
            (_, count) => count,
        };
        // Whole steps: the largest rate is reached at one of them.
        let warmup = warmup.round() as u32;
        let rising = step < warmup;
        let left = f64::from(steps.saturating_sub(warmup).max(1));
        let done = (f64::from(step.saturating_sub(warmup)) / left).min(1.0);
        let cosine = |from: f64, to: f64, done: f64| to + (from - to) * 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
        match self.decay {
            Decay::Onecycle if rising => cosine(ONECYCLE_ENDS.0, 1.0, f64::from(step.saturating_sub(1)) / f64::from(warmup.max(2) - 1)),
            Decay::Onecycle => cosine(1.0, ONECYCLE_ENDS.1, done),
            _ if rising => f64::from(step) / f64::from(warmup),
            Decay::Constant => 1.0,
            Decay::Cosine => cosine(1.0, 0.0, done),
            Decay::Step => match f64::from(step) / f64::from(steps.max(1)) {
                share if share > 0.75 => 0.01,
                share if share > 0.5 => 0.1,
                _ => 1.0,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(warmup: f64, decay: Decay, steps: u32) -> Vec<f64> {
        (1..=steps).map(|step| Schedule { warmup, decay }.share(step, steps)).collect()
    }

    fn close(got: &[f64], expected: &[f64]) {
        assert_eq!(got.len(), expected.len());
        assert!(got.iter().zip(expected).all(|(got, expected)| (got - expected).abs() < 1e-6), "{got:?}");
    }

    #[test]
    fn rises_in_a_line_and_stays_or_falls_along_a_cosine() {
        assert_eq!(shares(0.0, Decay::Constant, 3), [1.0; 3]);
        assert_eq!(shares(4.0, Decay::Constant, 6), [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]);
        close(&shares(2.0, Decay::Cosine, 6), &[0.5, 1.0, 0.853_553, 0.5, 0.146_447, 0.0]);
        // A warm-up longer than the training never ends; steps beyond the last, after a fit stepped back, do no harm.
        assert_eq!(shares(10.0, Decay::Cosine, 2), [0.1, 0.2]);
        assert!(Schedule { warmup: 0.0, decay: Decay::Cosine }.share(9, 5).abs() < 1e-12);
        // A share of all steps is the same as that many steps.
        assert_eq!(shares(0.5, Decay::Cosine, 8), shares(4.0, Decay::Cosine, 8));
    }

    #[test]
    fn steps_down_twice() {
        assert_eq!(shares(0.0, Decay::Step, 8), [1.0, 1.0, 1.0, 1.0, 0.1, 0.1, 0.01, 0.01]);
        assert_eq!(shares(2.0, Decay::Step, 4), [0.5, 1.0, 0.1, 0.01]);
    }

    /// `torch.optim.lr_scheduler.OneCycleLR(max_lr=1, total_steps=11, pct_start=0.3, anneal_strategy="cos")` rises until
    /// its step 0.3 · 11 − 1 = 2.3; whole steps here, so the shape is compared where both have a point.
    #[test]
    fn one_cycle_goes_up_and_down() {
        let got = shares(0.0, Decay::Onecycle, 10);
        close(&[got[0], got[2], got[9]], &[0.04, 1.0, 4e-6]);
        assert!(got[..3].is_sorted() && got[2..].iter().rev().is_sorted(), "{got:?}");
        let given = shares(4.0, Decay::Onecycle, 10);
        close(&[given[0], given[3], given[6]], &[0.04, 1.0, 0.5 + 2e-6]);
    }
}
