//! A function over whole columns, as a scalar UDF.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit, TimeUnit};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::scalar::ScalarValue;

use crate::error::Error;
use crate::pg::types::TYPE_KEY;

/// Microseconds without a zone, as every time is counted here.
pub(super) const TIMESTAMP: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);
pub(super) const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

/// One function.
#[derive(Debug, Clone)]
pub(super) struct Kernel {
    pub(super) name: &'static str,
    /// What the arguments are cast to; an error when the function takes no such ones.
    pub(super) coerce: fn(&[DataType]) -> Result<Vec<DataType>>,
    /// The result's type, from those.
    pub(super) returns: Returns,
    /// The PostgreSQL type of the result where that says more.
    pub(super) type_name: Option<&'static str>,
    /// The columns to one of the result's type: of one row when all arguments are constants.
    pub(super) run: fn(&[ArrayRef], &DataType) -> Result<ArrayRef, Error>,
}

/// The type of a result.
#[derive(Debug, Clone)]
pub(super) enum Returns {
    This(DataType),
    Of(fn(&[DataType]) -> Result<DataType>),
}

impl Kernel {
    pub(super) fn function(self) -> Arc<ScalarUDF> {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(ScalarUDF::new_from_impl(KernelFunction { kernel: self, signature }))
    }
}

/// A call with other arguments than the function takes.
pub(super) fn refused<T>(name: &str) -> Result<T> {
    datafusion::common::plan_err!("Function '{name}' failed to match any signature")
}

/// An argument of a type that the planner should have cast.
pub(super) fn uncast(name: &str) -> Error {
    Error::internal(format!("{name} was given a value of another type"))
}

#[derive(Debug)]
struct KernelFunction {
    kernel: Kernel,
    signature: Signature,
}

impl KernelFunction {
    /// A fixed result tells functions of one name apart.
    fn fixed(&self) -> Option<&DataType> {
        match &self.kernel.returns {
            Returns::This(found) => Some(found),
            Returns::Of(_) => None,
        }
    }
}

impl PartialEq for KernelFunction {
    fn eq(&self, other: &Self) -> bool {
        self.kernel.name == other.kernel.name && self.fixed() == other.fixed()
    }
}

impl Eq for KernelFunction {}

impl Hash for KernelFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.kernel.name.hash(state);
        self.fixed().hash(state);
    }
}

impl ScalarUDFImpl for KernelFunction {
    fn name(&self) -> &str {
        self.kernel.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        (self.kernel.coerce)(given)
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        match &self.kernel.returns {
            Returns::This(found) => Ok(found.clone()),
            Returns::Of(find) => find(given),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let given: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let field = Field::new(self.name(), self.return_type(&given)?, true);
        Ok(Arc::new(match self.kernel.type_name {
            Some(name) => field.with_metadata([(TYPE_KEY.to_owned(), name.to_owned())].into()),
            None => field,
        }))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let columns = args.args.iter().map(|value| value.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let result = (self.kernel.run)(&columns, args.return_field.data_type())?;
        Ok(if constant { ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?) } else { ColumnarValue::Array(result) })
    }
}
