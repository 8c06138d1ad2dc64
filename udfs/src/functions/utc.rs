//! Times without a zone read as UTC, at the price of nothing.
//!
//! The engine's cast from `timestamp` to `timestamptz` asks a calendar about every row, whatever the zone. In UTC both are the
//! same number: [`UtcTimes`] puts [`AsUtc`] in the place of such casts, late enough that filters have been pushed down before.
//! [`UtcTrunc`] cuts times to whole days, hours, minutes or seconds, and [`UtcDay`] is the day of a time, likewise.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Date32Array, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use crate::error::Error;

/// The rule.
#[derive(Debug, Default)]
pub(super) struct UtcTimes;

impl OptimizerRule for UtcTimes {
    fn name(&self) -> &'static str {
        "UtcTimes"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, _config: &dyn OptimizerConfig) -> DfResult<Transformed<LogicalPlan>> {
        let inputs = plan.inputs();
        if inputs.is_empty() {
            return Ok(Transformed::no(plan));
        }
        let schema = merge_schema(&inputs);
        let names = NamePreserver::new(&plan);
        plan.map_expressions(|expr| {
            let saved = names.save(&expr);
            let changed = expr.transform_up(|expr| Ok(as_utc(expr, &schema)))?;
            Ok(if changed.transformed { changed.update_data(|expr| saved.restore(expr)) } else { changed })
        })
    }
}

fn as_utc(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    if let Some(cut) = truncated(&expr, schema) {
        return Transformed::yes(cut);
    }
    let (inner, wanted) = match &expr {
        Expr::Cast(cast) => (&cast.expr, cast.field.data_type()),
        Expr::TryCast(cast) => (&cast.expr, cast.field.data_type()),
        _ => return Transformed::no(expr),
    };
    let DataType::Timestamp(unit, Some(zone)) = wanted else { return Transformed::no(expr) };
    let same = matches!(inner.get_type(schema), Ok(DataType::Timestamp(found, None)) if found == *unit);
    if !same || !matches!(zone.as_ref(), "UTC" | "+00:00") || matches!(**inner, Expr::Literal(..)) {
        return Transformed::no(expr);
    }
    let function = Arc::new(ScalarUDF::new_from_impl(AsUtc::new(*unit, zone)));
    Transformed::yes(function.call(vec![inner.as_ref().clone()]))
}

/// A time without a zone as the same time in UTC.
#[derive(Debug, PartialEq, Eq, Hash)]
struct AsUtc {
    signature: Signature,
    result: DataType,
}

impl AsUtc {
    fn new(unit: TimeUnit, zone: &Arc<str>) -> Self {
        let signature = Signature::exact(vec![DataType::Timestamp(unit, None)], Volatility::Immutable);
        Self { signature, result: DataType::Timestamp(unit, Some(Arc::clone(zone))) }
    }
}

impl ScalarUDFImpl for AsUtc {
    fn name(&self) -> &str {
        "as_utc"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(self.result.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        // By way of the number: this cast moves nothing.
        let convert = |times: &ArrayRef| cast(&cast(times, &DataType::Int64)?, &self.result);
        match args.args.first() {
            Some(ColumnarValue::Array(times)) => Ok(ColumnarValue::Array(convert(times)?)),
            Some(ColumnarValue::Scalar(time)) => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&convert(&time.to_array()?)?, 0)?)),
            None => Err(Error::internal("as_utc has no argument").into()),
        }
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> DfResult<SortProperties> {
        Ok(inputs.first().map_or(SortProperties::Unordered, |input| input.sort_properties))
    }

    fn preserves_lex_ordering(&self, _: &[ExprProperties]) -> DfResult<bool> {
        Ok(true)
    }
}

/// `date_trunc` to a unit that is always as long.
fn truncated(expr: &Expr, schema: &DFSchema) -> Option<Expr> {
    let Expr::ScalarFunction(call) = expr else { return None };
    let [Expr::Literal(unit, _), time] = call.args.as_slice() else { return None };
    let unit = Unit::named(unit.try_as_str().flatten()?).filter(|_| call.func.name() == "date_trunc")?;
    let found = time.get_type(schema).ok()?;
    let utc = |zone: &Option<Arc<str>>| zone.as_deref().is_none_or(|zone| matches!(zone, "UTC" | "+00:00"));
    let known = matches!(&found, DataType::Timestamp(TimeUnit::Microsecond, zone) if utc(zone)) && !matches!(time, Expr::Literal(..));
    let signature = Signature::exact(vec![found], Volatility::Immutable);
    known.then(|| Arc::new(ScalarUDF::new_from_impl(UtcTrunc { signature, unit })).call(vec![time.clone()]))
}

/// What times are cut to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Unit {
    Second,
    Minute,
    Hour,
    Day,
}

impl Unit {
    fn named(name: &str) -> Option<Self> {
        let units = [("second", Self::Second), ("minute", Self::Minute), ("hour", Self::Hour), ("day", Self::Day)];
        units.into_iter().find(|(unit, _)| unit.eq_ignore_ascii_case(name)).map(|(_, unit)| unit)
    }
}

/// The begin of the unit that a time in UTC lies in: the engine divides by a number that is known when it runs, which takes
/// several times as long as dividing by one that is known when it is built.
#[derive(Debug, PartialEq, Eq, Hash)]
struct UtcTrunc {
    signature: Signature,
    unit: Unit,
}

fn cut<const UNIT_US: i64>(times: &TimestampMicrosecondArray) -> TimestampMicrosecondArray {
    times.unary(|us| us.wrapping_sub(us.rem_euclid(UNIT_US)))
}

impl ScalarUDFImpl for UtcTrunc {
    fn name(&self) -> &'static str {
        match self.unit {
            Unit::Second => "utc_second",
            Unit::Minute => "utc_minute",
            Unit::Hour => "utc_hour",
            Unit::Day => "utc_midnight",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, given: &[DataType]) -> DfResult<DataType> {
        given.first().cloned().ok_or_else(|| Error::internal("a time is missing").into())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let times = args.args.first().ok_or_else(|| Error::internal("a time is missing"))?.to_array(args.number_rows)?;
        let zone = times.data_type().clone();
        let times = times.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(|| Error::internal("a time is of another type"))?;
        let cut = match self.unit {
            Unit::Second => cut::<1_000_000>(times),
            Unit::Minute => cut::<60_000_000>(times),
            Unit::Hour => cut::<3_600_000_000>(times),
            Unit::Day => cut::<DAY_US>(times),
        };
        Ok(ColumnarValue::Array(Arc::new(cut.with_data_type(zone))))
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> DfResult<SortProperties> {
        Ok(inputs.first().map_or(SortProperties::Unordered, |input| input.sort_properties))
    }

    fn preserves_lex_ordering(&self, _: &[ExprProperties]) -> DfResult<bool> {
        Ok(false)
    }
}

/// The day of a time in UTC.
#[derive(Debug, PartialEq, Eq, Hash)]
struct UtcDay {
    signature: Signature,
}

/// A day in microseconds.
const DAY_US: i64 = 86_400_000_000;

/// The day, as a date, of a time in UTC.
pub(super) fn utc_day(time: Expr) -> Expr {
    let signature = Signature::exact(vec![DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))], Volatility::Immutable);
    Arc::new(ScalarUDF::new_from_impl(UtcDay { signature })).call(vec![time])
}

impl ScalarUDFImpl for UtcDay {
    fn name(&self) -> &str {
        "utc_day"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Date32)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let times = args.args.first().ok_or_else(|| Error::internal("utc_day has no argument"))?.to_array(args.number_rows)?;
        let times = times.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(|| Error::internal("a day of no time"))?;
        let days: Date32Array = times.unary(|us| i32::try_from(us.div_euclid(DAY_US)).unwrap_or_default());
        Ok(ColumnarValue::Array(Arc::new(days)))
    }
}
