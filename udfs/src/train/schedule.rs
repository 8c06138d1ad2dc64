//! The learning rate from the first step of a training to its last: a linear warm-up, then constant or along a cosine.

pub use crate::features::options::Decay;

/// How the learning rate moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// Steps until the rate is at its largest; 0 = it starts there.
    pub warmup_steps: u32,
    /// What comes after them.
    pub decay: Decay,
}

impl Schedule {
    /// The share of the largest learning rate at step `step` (from 1) of `steps`.
    pub fn share(self, step: u32, steps: u32) -> f64 {
        if step < self.warmup_steps {
            return f64::from(step) / f64::from(self.warmup_steps);
        }
        match self.decay {
            Decay::Constant => 1.0,
            Decay::Cosine => {
                let left = steps.saturating_sub(self.warmup_steps).max(1);
                let done = f64::from(step - self.warmup_steps) / f64::from(left);
                0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(warmup_steps: u32, decay: Decay, steps: u32) -> Vec<f64> {
        (1..=steps).map(|step| Schedule { warmup_steps, decay }.share(step, steps)).collect()
    }

    #[test]
    fn rises_in_a_line_and_stays_or_falls_along_a_cosine() {
        assert_eq!(shares(0, Decay::Constant, 3), [1.0; 3]);
        assert_eq!(shares(4, Decay::Constant, 6), [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]);
        let cosine = shares(2, Decay::Cosine, 6);
        let expected = [0.5, 1.0, 0.853_553, 0.5, 0.146_447, 0.0];
        assert!(cosine.iter().zip(expected).all(|(got, expected)| (got - expected).abs() < 1e-6), "{cosine:?}");
        // A warm-up longer than the training never ends; steps beyond the last, after a fit stepped back, do no harm.
        assert_eq!(shares(10, Decay::Cosine, 2), [0.1, 0.2]);
        assert!(Schedule { warmup_steps: 0, decay: Decay::Cosine }.share(9, 5).abs() < 1e-12);
    }
}
