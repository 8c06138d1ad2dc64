//! The z test of two proportions.

use super::distributions::{normal_quantile, normal_two_sided};
use super::t_test::Difference;

/// Successes of trials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Proportion {
    /// Successes.
    pub successes: u64,
    /// Trials.
    pub trials: u64,
}

impl Proportion {
    /// Successes / trials; NaN without trials.
    #[must_use]
    pub fn share(&self) -> f64 {
        self.successes as f64 / self.trials as f64
    }

    fn variance(&self) -> f64 {
        let share = self.share();
        share * (1.0 - share) / self.trials as f64
    }
}

/// Tests `a.share − b.share`. The statistic uses the common share when `pooled`, which is what the hypothesis of no difference
/// asks for; the interval never does (Wald's).
#[must_use]
pub fn proportions_z_test(a: Proportion, b: Proportion, pooled: bool, confidence: f64) -> Difference {
    if a.trials == 0 || b.trials == 0 {
        return Difference::unknown();
    }
    let estimate = a.share() - b.share();
    let unpooled = a.variance() + b.variance();
    let share = (a.successes + b.successes) as f64 / (a.trials + b.trials) as f64;
    let common = share * (1.0 - share) * (1.0 / a.trials as f64 + 1.0 / b.trials as f64);
    let statistic = estimate / if pooled { common } else { unpooled }.sqrt();
    let margin = normal_quantile(0.5 + 0.5 * confidence) * unpooled.sqrt();
    Difference {
        estimate,
        standard_error: unpooled.sqrt(),
        statistic,
        degrees_of_freedom: f64::INFINITY,
        p_value: normal_two_sided(statistic),
        interval: (estimate - margin, estimate + margin),
    }
}
