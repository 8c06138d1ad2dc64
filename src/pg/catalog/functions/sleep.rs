//! `pg_sleep(seconds)`: waits without holding a thread; a cancel ends it at once.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::DataType;
use async_trait::async_trait;
use datafusion::error::Result;
use datafusion::logical_expr::async_udf::{AsyncScalarUDF, AsyncScalarUDFImpl};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::scalar::ScalarValue;

use crate::error::Error;

/// The function as DataFusion registers it.
pub(super) fn function() -> Arc<ScalarUDF> {
    Arc::new(
        AsyncScalarUDF::new(Arc::new(Sleep { signature: Signature::exact(vec![DataType::Float64], Volatility::Volatile) }))
            .into_scalar_udf(),
    )
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Sleep {
    signature: Signature,
}

impl ScalarUDFImpl for Sleep {
    fn name(&self) -> &str {
        "pg_sleep"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Err(Error::internal("pg_sleep runs asynchronously only").into())
    }
}

#[async_trait]
impl AsyncScalarUDFImpl for Sleep {
    async fn invoke_async_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [seconds] = datafusion::common::utils::take_function_args(self.name(), args.args)?;
        let mut shown = Vec::with_capacity(args.number_rows);
        let seconds = seconds.into_array(args.number_rows)?;
        for row in 0..args.number_rows {
            let seconds = match ScalarValue::try_from_array(&seconds, row)? {
                ScalarValue::Float64(Some(seconds)) if seconds > 0.0 => seconds.min(1e9),
                ScalarValue::Float64(None) => {
                    shown.push(None);
                    continue;
                }
                _ => 0.0,
            };
            tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
            shown.push(Some(""));
        }
        Ok(ColumnarValue::Array(Arc::new(StringArray::from(shown)) as ArrayRef))
    }
}
