//! `l2_distance(a, b)`: the Euclidean distance of two vectors.

use arrow::datatypes::DataType;
use datafusion::common::Result as DataFusionResult;
use datafusion::logical_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature};
use datafusion_macros::user_doc;

use super::distance::{apply, coerce, return_type, signature};

#[user_doc(
    doc_section(label = "Vector Functions"),
    description = "The Euclidean distance between two vectors, pgvector's `<->`. NULL when either is NULL.",
    syntax_example = "l2_distance(a, b)",
    sql_example = "```sql\nSELECT l2_distance(make_array(1.0, 0.0), make_array(0.6, 0.8));\n-- 0.894427\n```",
    argument(name = "a", description = "`float4[]`, or any array of numbers."),
    argument(name = "b", description = "An array of the same length; another length is error 22023.")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct L2Distance {
    signature: Signature,
}

impl L2Distance {
    pub(super) fn new() -> Self {
        Self { signature: signature() }
    }
}

/// √Σ(aᵢ − bᵢ)², in double precision.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum::<f64>().sqrt()
}

impl ScalarUDFImpl for L2Distance {
    fn name(&self) -> &str {
        "l2_distance"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> DataFusionResult<DataType> {
        Ok(return_type(self.name(), types)?)
    }

    fn coerce_types(&self, given: &[DataType]) -> DataFusionResult<Vec<DataType>> {
        Ok(coerce(self.name(), given))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        apply(self.name(), &args, distance)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }
}

#[cfg(test)]
mod tests {
    use super::super::distance::tests::check;
    use super::*;

    #[test]
    fn distances() {
        check(distance, &[0.0, 0.0], &[3.0, 4.0], 5.0);
        check(distance, &[1.5], &[1.5], 0.0);
        check(distance, &[], &[], 0.0);
        // Beyond float4's range.
        assert!(distance(&[3e38], &[-3e38]).is_finite());
    }
}
