//! `dp_noise_multiplier(sample_rate, epsilon, steps, delta)`: the noise that a privacy budget asks for.

use arrow::datatypes::DataType;
use datafusion::common::Result as DataFusionResult;
use datafusion::logical_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature};
use datafusion_macros::user_doc;

use super::numbers::{apply, coerce, delta, return_type, sample_rate, signature, steps};
use crate::error::{Error, Result};
use crate::train::privacy::accountant::noise_multiplier;

const NAMES: [&str; 4] = ["sample_rate", "epsilon", "steps", "delta"];

#[user_doc(
    doc_section(label = "Privacy Functions"),
    description = "The least noise multiplier with which DP-SGD stays within ε and δ; the inverse of dp_epsilon. NULL when an argument is NULL, error 22023 when no noise is enough.",
    syntax_example = "dp_noise_multiplier(sample_rate, epsilon, steps, delta)",
    sql_example = "```sql\nSELECT round(dp_noise_multiplier(0.05, 3, 600, 1e-5), 3);\n-- 2.026\n```",
    argument(name = "sample_rate", description = "The probability that a user takes part in a step: batch size / users, above 0 up to 1."),
    argument(name = "epsilon", description = "What may be spent, above 0."),
    argument(name = "steps", description = "Steps of the optimizer."),
    argument(name = "delta", description = "The probability with which ε may fail, between 0 and 1."),
    related_udf(name = "dp_epsilon")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct DpNoiseMultiplier {
    signature: Signature,
}

impl DpNoiseMultiplier {
    pub(super) fn new() -> Self {
        Self { signature: signature(NAMES) }
    }
}

fn needed([rate, budget, count, failure]: [f64; 4]) -> Result<f64> {
    if budget.is_nan() || budget <= 0.0 {
        return Err(Error::invalid(format!("epsilon cannot be {budget}")).hint("It is above 0; 1 is strong, 8 is weak."));
    }
    noise_multiplier(sample_rate(rate)?, budget, steps(count)?, delta(failure)?).ok_or_else(|| {
        Error::invalid(format!("no noise keeps {count} steps within epsilon {budget}")).hint("Take a larger epsilon or fewer steps.")
    })
}

impl ScalarUDFImpl for DpNoiseMultiplier {
    fn name(&self) -> &str {
        "dp_noise_multiplier"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> DataFusionResult<DataType> {
        Ok(return_type(self.name(), NAMES, types)?)
    }

    fn coerce_types(&self, given: &[DataType]) -> DataFusionResult<Vec<DataType>> {
        Ok(coerce(given))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        apply(&args, needed)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }
}
