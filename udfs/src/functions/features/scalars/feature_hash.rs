//! `feature_hash(value, buckets)`

use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::Result as DfResult;
use datafusion::logical_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature};
use datafusion_macros::user_doc;

use super::arguments::{count, is_text, over_rows, signature, wrong_type};
use crate::error::{Error, Result};
use crate::kernels::words::bucket;

const SYNTAX: &str = "feature_hash(value, buckets)";

#[user_doc(
    doc_section(label = "Feature Functions"),
    description = "The bucket, from 0, that a text falls into: the same for ever, on every machine and in fit_transform's step hash, so that categories nobody has seen have a place too. BigQuery's ML.HASH_BUCKETIZE with another hash. NULL for NULL.",
    syntax_example = "feature_hash(value, buckets)",
    sql_example = "```sql\nSELECT feature_hash('red shoes', 1024);\n```",
    argument(name = "value", description = "A text; cast other values: feature_hash(id::text, 1024)."),
    argument(name = "buckets", description = "How many, 1 to 2147483647.")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct FeatureHash {
    signature: Signature,
}

impl FeatureHash {
    pub(super) fn new() -> Self {
        Self { signature: signature(&["value", "buckets"]) }
    }
}

impl ScalarUDFImpl for FeatureHash {
    fn name(&self) -> &str {
        "feature_hash"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        let to = |(index, found): (usize, &DataType)| match index {
            0 if is_text(found) => DataType::Utf8,
            1 if found.is_integer() || found.is_null() => DataType::Int64,
            _ => found.clone(),
        };
        Ok(given.iter().enumerate().map(to).collect())
    }

    fn return_type(&self, given: &[DataType]) -> DfResult<DataType> {
        count(self.name(), given.len(), 2..=2, SYNTAX)?;
        match given {
            [DataType::Utf8, DataType::Int64] => Ok(DataType::Int64),
            [DataType::Utf8, other] => Err(wrong_type(self.name(), "buckets", "a whole number", other).into()),
            [other, ..] => Err(wrong_type(self.name(), "value", "text", other).hint("Cast it: feature_hash(value::text, buckets).").into()),
            [] => Err(Error::internal("no arguments").into()),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        over_rows(&args, |arrays, rows| {
            let [values, buckets] = arrays else { return Err(Error::internal("two arguments were expected")) };
            let (values, buckets) = (values.as_string::<i32>(), buckets.as_primitive::<Int64Type>());
            let hashed = |row: usize| -> Result<Option<i64>> {
                if values.is_null(row) || buckets.is_null(row) {
                    return Ok(None);
                }
                let count = u32::try_from(buckets.value(row)).ok().filter(|count| (1..=i32::MAX as u32).contains(count));
                let count = count.ok_or_else(|| Error::invalid(format!("a number of buckets cannot be {}", buckets.value(row))))?;
                Ok(Some(i64::from(bucket(values.value(row), count))))
            };
            Ok(Arc::new((0..rows).map(hashed).collect::<Result<Int64Array>>()?))
        })
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }
}
