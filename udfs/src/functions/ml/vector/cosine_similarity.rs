//! `cosine_similarity(a, b)`: how much two vectors point the same way.

use arrow::datatypes::DataType;
use datafusion::common::Result as DataFusionResult;
use datafusion::logical_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature};
use datafusion_macros::user_doc;

use super::distance::{apply, coerce, dot, return_type, signature};

#[user_doc(
    doc_section(label = "Vector Functions"),
    description = "The cosine of the angle between two vectors: 1 for the same direction, 0 for a right angle, -1 for the opposite; one minus pgvector's `<=>`. NULL when either is NULL, NaN when either is all zeros.",
    syntax_example = "cosine_similarity(a, b)",
    sql_example = "```sql\nSELECT cosine_similarity(make_array(1.0, 0.0), make_array(0.6, 0.8));\n-- 0.6\n```",
    argument(name = "a", description = "`float4[]`, or any array of numbers."),
    argument(name = "b", description = "An array of the same length; another length is error 22023.")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct CosineSimilarity {
    signature: Signature,
}

impl CosineSimilarity {
    pub(super) fn new() -> Self {
        Self { signature: signature() }
    }
}

/// a·b / (|a|·|b|), kept within [-1, 1].
fn similarity(a: &[f32], b: &[f32]) -> f64 {
    let norms = dot(a, a) * dot(b, b);
    (dot(a, b) / norms.sqrt()).clamp(-1.0, 1.0)
}

impl ScalarUDFImpl for CosineSimilarity {
    fn name(&self) -> &str {
        "cosine_similarity"
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
        apply(self.name(), &args, similarity)
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
    fn directions() {
        check(similarity, &[1.0, 0.0], &[2.0, 0.0], 1.0);
        check(similarity, &[1.0, 0.0], &[0.0, 3.0], 0.0);
        check(similarity, &[1.0, 1.0], &[-1.0, -1.0], -1.0);
        check(similarity, &[0.0, 0.0], &[1.0, 1.0], f64::NAN);
        check(similarity, &[], &[], f64::NAN);
        // Far beyond float4's range when squared.
        check(similarity, &[1e30, 0.0], &[1e30, 0.0], 1.0);
    }
}
