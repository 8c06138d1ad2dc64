//! Tests of a difference of two means: Student's, with equal variances, and Welch's (1947), without.

use super::distributions::{normal_two_sided, student_two_sided, student_two_sided_quantile};
use super::moments::Summary;

/// Which test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variances {
    /// Student's.
    Equal,
    /// Welch's.
    Unequal,
}

/// What a test of a difference says. A value that the data cannot give is NaN.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// The difference.
    pub estimate: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// Estimate / standard error, on the test's own terms.
    pub statistic: f64,
    /// Degrees of freedom; infinite for the normal distribution.
    pub degrees_of_freedom: f64,
    /// Two-sided.
    pub p_value: f64,
    /// The interval's ends.
    pub interval: (f64, f64),
}

impl Difference {
    /// A difference and its standard error under Student's distribution, or the normal one when `degrees_of_freedom` is infinite.
    #[must_use]
    pub fn new(estimate: f64, standard_error: f64, degrees_of_freedom: f64, confidence: f64) -> Self {
        let statistic = estimate / standard_error;
        let margin = student_two_sided_quantile(1.0 - confidence, degrees_of_freedom) * standard_error;
        let p_value =
            if degrees_of_freedom.is_infinite() { normal_two_sided(statistic) } else { student_two_sided(statistic, degrees_of_freedom) };
        Self { estimate, standard_error, statistic, degrees_of_freedom, p_value, interval: (estimate - margin, estimate + margin) }
    }

    /// Nothing can be said.
    #[must_use]
    pub const fn unknown() -> Self {
        let nan = f64::NAN;
        Self { estimate: nan, standard_error: nan, statistic: nan, degrees_of_freedom: nan, p_value: nan, interval: (nan, nan) }
    }
}

/// Tests `estimate`, the difference of the means of `a` and `b`. With fewer than two values in a sample nothing else is known.
#[must_use]
pub fn t_test(estimate: f64, a: &Summary, b: &Summary, variances: Variances, confidence: f64) -> Difference {
    if a.count < 2 || b.count < 2 {
        return Difference { estimate, ..Difference::unknown() };
    }
    let (n_a, n_b) = (a.count as f64, b.count as f64);
    let (error, df) = match variances {
        Variances::Unequal => {
            let (va, vb) = (a.mean_variance(), b.mean_variance());
            let df = (va + vb) * (va + vb) / (va * va / (n_a - 1.0) + vb * vb / (n_b - 1.0));
            // Without any variance the formula is 0 / 0; any degrees of freedom do.
            ((va + vb).sqrt(), if va + vb == 0.0 { n_a + n_b - 2.0 } else { df })
        }
        Variances::Equal => {
            let df = n_a + n_b - 2.0;
            let pooled = ((n_a - 1.0) * a.variance + (n_b - 1.0) * b.variance) / df;
            ((pooled * (1.0 / n_a + 1.0 / n_b)).sqrt(), df)
        }
    };
    Difference::new(estimate, error, df, confidence)
}
