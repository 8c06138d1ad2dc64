//! `impute_ffill(x)`

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result as DfResult, ScalarValue};
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{Documentation, PartitionEvaluator, Signature, Volatility, WindowUDFImpl};
use datafusion_macros::user_doc;

use super::impute_mode::missing;
use super::whole::{Kind, Parameter, check};
use crate::error::Error;

const PARAMETERS: [Parameter; 1] = [Parameter::required("x", Kind::Any)];

#[user_doc(
    doc_section(label = "Feature Functions"),
    description = "The value, or the last one before it in the window's order where it is missing; NULL before the first. It streams: over input in the window's order it holds one row per partition. Without ORDER BY the result depends on the order in which rows arrive.",
    syntax_example = "impute_ffill(x) OVER (PARTITION BY … ORDER BY …)",
    sql_example = "```sql\nSELECT day, impute_ffill(price) OVER (ORDER BY day) FROM (VALUES (1, NULL), (2, 5.0), (3, NULL)) AS t(day, price);\n-- NULL, 5, 5\n```",
    argument(name = "x", description = "A value of any type. NULL and NaN are missing.")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ImputeFfill {
    signature: Signature,
}

impl ImputeFfill {
    pub(super) fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl WindowUDFImpl for ImputeFfill {
    fn name(&self) -> &str {
        "impute_ffill"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        Ok(given.to_vec())
    }

    fn field(&self, args: WindowUDFFieldArgs) -> DfResult<FieldRef> {
        let given: Vec<DataType> = args.input_fields().iter().map(|field| field.data_type().clone()).collect();
        check(self.name(), &PARAMETERS, &given)?;
        Ok(Arc::new(Field::new(args.name(), given.into_iter().next().unwrap_or(DataType::Null), true)))
    }

    fn partition_evaluator(&self, args: PartitionEvaluatorArgs) -> DfResult<Box<dyn PartitionEvaluator>> {
        let data_type = args.input_fields().first().map_or(DataType::Null, |field| field.data_type().clone());
        Ok(Box::new(Evaluator { last: ScalarValue::try_from(&data_type)? }))
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }
}

#[derive(Debug)]
struct Evaluator {
    /// The last value that was not missing.
    last: ScalarValue,
}

impl PartitionEvaluator for Evaluator {
    fn evaluate_all(&mut self, values: &[ArrayRef], rows: usize) -> DfResult<ArrayRef> {
        let array = values.first().ok_or_else(|| Error::internal("an argument is missing"))?;
        let missing = missing(array);
        let mut last = None;
        let filled: UInt32Array = (0..rows as u32)
            .map(|row| {
                if !missing(row as usize) {
                    last = Some(row);
                }
                last
            })
            .collect();
        Ok(take(array, &filled, None)?)
    }

    fn evaluate(&mut self, values: &[ArrayRef], range: &Range<usize>) -> DfResult<ScalarValue> {
        let array = values.first().ok_or_else(|| Error::internal("an argument is missing"))?;
        if range.start < array.len() && !missing(array)(range.start) {
            self.last = ScalarValue::try_from_array(array, range.start)?;
        }
        Ok(self.last.clone())
    }

    fn supports_bounded_execution(&self) -> bool {
        true
    }
}
