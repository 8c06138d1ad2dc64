//! `proportions_z_test(success, group [, confidence [, pool]])`

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{AggregateUDFImpl, Documentation, Signature};
use datafusion_macros::user_doc;

use super::record::{Cell, record_type, records};
use super::two_samples::{GROUP, TwoSamples, wrong_group};
use crate::error::{Error, Result};
use crate::functions::grouped::{Kernel, Rows, States, accumulators};
use crate::functions::typed::{Shape, Want, unknown_word};
use crate::kernels::stats::proportion::{Proportion, proportions_z_test};
use arrow::array::Array;
use arrow::datatypes::Int64Type;

const SHAPE: Shape = Shape {
    name: "proportions_z_test",
    arguments: &[("success", Want::Whole), GROUP, ("confidence", Want::Number), ("pool", Want::Text)],
    required: 2,
};
const NUMBERS: &[&str] = &["statistic", "p_value", "difference", "ci_low", "ci_high", "share_0", "share_1"];
const COUNTS: &[&str] = &["n_0", "n_1"];

#[user_doc(
    doc_section(label = "Experiment Functions"),
    description = "The z test of two proportions. The result is a record: statistic, p_value (two-sided), difference (share of group 0 minus share of group 1) with Wald's interval ci_low and ci_high, share_0, share_1, n_0, n_1. NULL when a sample is empty. For counts instead of rows there is proportionsZTest.",
    syntax_example = "proportions_z_test(success, group [, confidence [, pool]])",
    sql_example = "```sql\nSELECT proportions_z_test(\"Revenue\", \"Weekend\")['p_value'] < 0.05 AS differs FROM sessions;\n```",
    argument(name = "success", description = "Whether it succeeded: a boolean, or 0 or 1."),
    argument(
        name = "group",
        description = "Which sample the row belongs to: 0 or 1, or a boolean. Rows where it or the success is NULL do not count."
    ),
    argument(name = "confidence", description = "Of the interval, above 0 and below 1; 0.95 by default."),
    argument(
        name = "pool",
        description = "`pooled` by default: the statistic uses the common share, as statsmodels; `unpooled` uses both shares."
    )
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ProportionsZTest {
    signature: Signature,
}

impl ProportionsZTest {
    pub(super) fn new() -> Self {
        Self { signature: SHAPE.signature() }
    }

    fn kernel(&self, args: &AccumulatorArgs<'_>) -> Result<ShareTest> {
        let confidence = SHAPE.constant_between(args, 2, 0.95, (0.0, 1.0))?;
        let pooled = SHAPE.constant_text(args, 3)?.map_or(Ok(true), |word| is_pooled(SHAPE.name, &word))?;
        Ok(ShareTest { confidence, pooled })
    }
}

/// Reads the word that says which share the statistic uses.
///
/// # Errors
/// 22023 for another word.
pub(super) fn is_pooled(function: &str, word: &str) -> Result<bool> {
    match word {
        "pooled" => Ok(true),
        "unpooled" => Ok(false),
        other => Err(unknown_word(function, "pool", other, &["pooled", "unpooled"])),
    }
}

#[derive(Debug, Clone)]
struct ShareTest {
    confidence: f64,
    pooled: bool,
}

impl Kernel for ShareTest {
    type State = TwoSamples<Proportion>;

    fn update(&self, rows: &Rows<'_>, states: &mut States<Self::State>) -> Result<()> {
        let (successes, samples) = (rows.numbers::<Int64Type>(0)?, rows.numbers::<Int64Type>(1)?);
        for (row, group) in rows.iter().filter(|(row, _)| successes.is_valid(*row) && samples.is_valid(*row)) {
            let success = u64::try_from(successes.value(row)).ok().filter(|success| *success <= 1);
            let success = success.ok_or_else(|| {
                Error::invalid(format!("argument \"success\" of {} must be 0 or 1, not {}", SHAPE.name, successes.value(row)))
            })?;
            let sample = samples.value(row);
            if !(0..=1).contains(&sample) {
                return Err(wrong_group(SHAPE.name, sample));
            }
            states.change(group, |state| {
                let counts = if sample == 0 { &mut state.first } else { &mut state.second };
                counts.trials += 1;
                counts.successes += success;
            })?;
        }
        Ok(())
    }

    fn finish(&self, states: &mut [Self::State]) -> Result<ArrayRef> {
        let row = |samples: &mut TwoSamples<Proportion>| {
            let (a, b) = (samples.first, samples.second);
            if a.trials == 0 || b.trials == 0 {
                return None;
            }
            let test = proportions_z_test(a, b, self.pooled, self.confidence);
            let numbers = [test.statistic, test.p_value, test.estimate, test.interval.0, test.interval.1, a.share(), b.share()];
            Some(numbers.into_iter().map(Cell::Number).chain([a.trials, b.trials].map(Cell::Count)).collect())
        };
        records(NUMBERS, COUNTS, &states.iter_mut().map(row).collect::<Vec<_>>())
    }
}

impl AggregateUDFImpl for ProportionsZTest {
    fn name(&self) -> &str {
        SHAPE.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, given: &[DataType]) -> DfResult<DataType> {
        SHAPE.check(given)?;
        Ok(record_type(NUMBERS, COUNTS))
    }

    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        Ok(SHAPE.coerce(given))
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }

    accumulators!();
}
