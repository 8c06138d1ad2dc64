//! `inner_product(a, b)`: the dot product of two vectors.

use arrow::datatypes::DataType;
use datafusion::common::Result as DataFusionResult;
use datafusion::logical_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature};
use datafusion_macros::user_doc;

use super::distance::{apply, coerce, dot, return_type, signature};

#[user_doc(
    doc_section(label = "Vector Functions"),
    description = "The inner product of two vectors; the negative of pgvector's `<#>`. NULL when either is NULL.",
    syntax_example = "inner_product(a, b)",
    sql_example = "```sql\nSELECT inner_product(make_array(1.0, 0.0), make_array(0.6, 0.8));\n-- 0.6\n```",
    argument(name = "a", description = "`float4[]`, or any array of numbers."),
    argument(name = "b", description = "An array of the same length; another length is error 22023.")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct InnerProduct {
    signature: Signature,
}

impl InnerProduct {
    pub(super) fn new() -> Self {
        Self { signature: signature() }
    }
}

impl ScalarUDFImpl for InnerProduct {
    fn name(&self) -> &str {
        "inner_product"
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
        apply(self.name(), &args, dot)
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
    fn products() {
        check(dot, &[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0], 32.0);
        check(dot, &[], &[], 0.0);
        check(dot, &[f32::INFINITY], &[0.0], f64::NAN);
    }
}
