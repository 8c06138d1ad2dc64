//! What Welch's and Student's test share.

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;

use super::record::{Cell, record_type, records};
use super::two_samples::{GROUP, TwoSamples, VALUE, take};
use crate::error::Result;
use crate::functions::grouped::{Kernel, Rows, States};
use crate::functions::typed::{Shape, Want};
use crate::kernels::stats::moments::Moments;
use crate::kernels::stats::t_test::{Variances, t_test};

/// The arguments of both.
pub(super) const fn shape(name: &'static str) -> Shape {
    const ARGUMENTS: &[(&str, Want)] = &[VALUE, GROUP, ("confidence", Want::Number)];
    Shape { name, arguments: ARGUMENTS, required: 2 }
}

const NUMBERS: &[&str] = &["statistic", "p_value", "degrees_of_freedom", "difference", "ci_low", "ci_high", "mean_0", "mean_1"];
const COUNTS: &[&str] = &["n_0", "n_1"];

/// The record of both.
pub(super) fn result_type() -> DataType {
    record_type(NUMBERS, COUNTS)
}

/// A t test with its options.
#[derive(Debug, Clone)]
pub(super) struct TTest {
    pub(super) function: &'static str,
    pub(super) variances: Variances,
    pub(super) confidence: f64,
}

impl Kernel for TTest {
    type State = TwoSamples<Moments>;

    fn update(&self, rows: &Rows<'_>, states: &mut States<Self::State>) -> Result<()> {
        take(self.function, rows, states)
    }

    fn finish(&self, states: &mut [Self::State]) -> Result<ArrayRef> {
        let row = |samples: &mut TwoSamples<Moments>| {
            let (a, b) = (samples.first.summary(), samples.second.summary());
            if a.count == 0 || b.count == 0 {
                return None;
            }
            let test = t_test(samples.first.mean_difference(&samples.second), &a, &b, self.variances, self.confidence);
            let (low, high) = test.interval;
            let numbers = [test.statistic, test.p_value, test.degrees_of_freedom, test.estimate, low, high, a.mean, b.mean];
            Some(numbers.into_iter().map(Cell::Number).chain([a.count, b.count].map(Cell::Count)).collect())
        };
        records(NUMBERS, COUNTS, &states.iter_mut().map(row).collect::<Vec<_>>())
    }
}
