//! `dp_epsilon(sample_rate, noise_multiplier, steps, delta)`: what a private training spends.

use arrow::datatypes::DataType;
use datafusion::common::Result as DataFusionResult;
use datafusion::logical_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature};
use datafusion_macros::user_doc;

use super::numbers::{apply, coerce, delta, return_type, sample_rate, signature, steps};
use crate::error::{Error, Result};
use crate::train::privacy::accountant::{Mechanism, epsilon};

const NAMES: [&str; 4] = ["sample_rate", "noise_multiplier", "steps", "delta"];

#[user_doc(
    doc_section(label = "Privacy Functions"),
    description = "The ε that DP-SGD spends by the Rényi accountant of the sampled Gaussian mechanism (Mironov, Talwar & Zhang, 2019): the same number as Opacus's RDP accountant. Infinite without noise; NULL when an argument is NULL.",
    syntax_example = "dp_epsilon(sample_rate, noise_multiplier, steps, delta)",
    sql_example = "```sql\nSELECT round(dp_epsilon(0.01, 1.1, 10000, 1e-5), 3);\n-- 5.632\n```",
    argument(name = "sample_rate", description = "The probability that a user takes part in a step: batch size / users, above 0 up to 1."),
    argument(name = "noise_multiplier", description = "Standard deviation of the noise divided by the clipping norm; not negative."),
    argument(name = "steps", description = "Steps of the optimizer."),
    argument(name = "delta", description = "The probability with which ε may fail, between 0 and 1."),
    related_udf(name = "dp_noise_multiplier")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct DpEpsilon {
    signature: Signature,
}

impl DpEpsilon {
    pub(super) fn new() -> Self {
        Self { signature: signature(NAMES) }
    }
}

fn spent([rate, noise_multiplier, count, failure]: [f64; 4]) -> Result<f64> {
    if noise_multiplier.is_nan() || noise_multiplier < 0.0 {
        return Err(Error::invalid(format!("a noise multiplier cannot be {noise_multiplier}")));
    }
    Ok(epsilon(Mechanism { sample_rate: sample_rate(rate)?, noise_multiplier, steps: steps(count)? }, delta(failure)?))
}

impl ScalarUDFImpl for DpEpsilon {
    fn name(&self) -> &str {
        "dp_epsilon"
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
        apply(&args, spent)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }
}
