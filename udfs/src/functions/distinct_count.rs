//! `count(DISTINCT number)` of groups, without a table of all pairs of group and number.
//!
//! The engine makes the pairs groups of their own and counts those: with a million users that is a hash table of nearly every
//! row. [`CountDistinct`] puts [`DistinctCount`] in the place of the call, which keeps each group's numbers in one list
//! or set of bits (`kernels::distinct`). Users are numbers, so "users per day" is the question that this is for; texts stay with the engine.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, LargeBinaryBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::common::{ExprSchema, ScalarValue};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, Aggregate, AggregateUDF, AggregateUDFImpl, Expr, ExprSchemable, GroupsAccumulator, LogicalPlan, Signature, Volatility,
};
use datafusion::optimizer::AnalyzerRule;

use super::aggregation::{Aggregation, Grouped, Single};
use crate::error::Error;
use crate::kernels::distinct::Distinct;

/// The name that plans show.
const NAME: &str = "count_distinct";

/// The rule.
#[derive(Debug, Default)]
pub(super) struct CountDistinct;

impl AnalyzerRule for CountDistinct {
    fn name(&self) -> &'static str {
        "CountDistinct"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> DfResult<LogicalPlan> {
        plan.transform_up_with_subqueries(|node| match node {
            LogicalPlan::Aggregate(aggregate) if !aggregate.group_expr.is_empty() && aggregate.aggr_expr.iter().any(is_distinct) => {
                replaced(aggregate)
            }
            other => Ok(Transformed::no(other)),
        })
        .data()
    }
}

fn is_distinct(expr: &Expr) -> bool {
    matches!(expr, Expr::AggregateFunction(call) if call.params.distinct && call.func.name() == "count")
}

/// The aggregate with counts of ours where the argument is a number; the names of its columns stay.
fn replaced(aggregate: Aggregate) -> DfResult<Transformed<LogicalPlan>> {
    let schema = Arc::clone(aggregate.input.schema());
    let names = NamePreserver::new_for_projection();
    let mut changed = false;
    let mut exprs = Vec::with_capacity(aggregate.aggr_expr.len());
    for expr in aggregate.aggr_expr {
        let saved = names.save(&expr);
        let own = ours(&expr, schema.as_ref())?;
        changed |= own.is_some();
        exprs.push(own.map_or(expr, |own| saved.restore(own)));
    }
    let plan = LogicalPlan::Aggregate(Aggregate::try_new(aggregate.input, aggregate.group_expr, exprs)?);
    Ok(if changed { Transformed::yes(plan) } else { Transformed::no(plan) })
}

fn ours(expr: &Expr, schema: &dyn ExprSchema) -> DfResult<Option<Expr>> {
    let Expr::AggregateFunction(call) = expr else { return Ok(None) };
    let AggregateFunctionParams { args, order_by, .. } = &call.params;
    let [argument] = args.as_slice() else { return Ok(None) };
    if !is_distinct(expr) || !order_by.is_empty() || !is_number(&argument.get_type(schema)?) {
        return Ok(None);
    }
    let params = AggregateFunctionParams { distinct: false, ..call.params.clone() };
    Ok(Some(Expr::AggregateFunction(AggregateFunction { func: Arc::new(AggregateUDF::new_from_impl(DistinctCount::new())), params })))
}

/// Whether values are different when their 64 bits are.
fn is_number(found: &DataType) -> bool {
    found.is_integer() && *found != DataType::UInt64 || matches!(found, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64)
}

/// The aggregate; not to be called by name.
#[derive(Debug, PartialEq, Eq, Hash)]
struct DistinctCount {
    signature: Signature,
}

impl DistinctCount {
    fn new() -> Self {
        Self { signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for DistinctCount {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Int64)
    }

    fn is_nullable(&self) -> bool {
        false
    }

    fn default_value(&self, _: &DataType) -> DfResult<ScalarValue> {
        Ok(ScalarValue::Int64(Some(0)))
    }

    fn accumulator(&self, _: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        Ok(Box::new(Single::new(Numbers::default())))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> DfResult<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, "numbers"), DataType::LargeBinary, true))])
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, _: AccumulatorArgs) -> DfResult<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Grouped::new(Numbers::default())))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// The numbers of many groups.
#[derive(Debug, Default)]
struct Numbers {
    distinct: Distinct,
}

fn wrong() -> Error {
    Error::internal("a partial count has the wrong type")
}

fn numbers(column: &ArrayRef) -> DfResult<Int64Array> {
    let whole = match column.data_type() {
        DataType::Date32 => cast(&cast(column, &DataType::Int32)?, &DataType::Int64)?,
        _ => cast(column, &DataType::Int64)?,
    };
    Ok(whole.as_primitive_opt::<Int64Type>().cloned().ok_or_else(wrong)?)
}

impl Aggregation for Numbers {
    fn update(&mut self, values: &[ArrayRef], groups: &[usize], filter: Option<&BooleanArray>) -> DfResult<()> {
        let numbers = numbers(values.first().ok_or_else(wrong)?)?;
        let passes = |row: usize| filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
        for (row, group) in groups.iter().enumerate().filter(|(row, _)| numbers.is_valid(*row) && passes(*row)) {
            self.distinct.add(*group, numbers.value(row));
        }
        Ok(())
    }

    fn merge(&mut self, states: &[ArrayRef], groups: &[usize]) -> DfResult<()> {
        let sets = states.first().and_then(|state| state.as_binary_opt::<i64>()).ok_or_else(wrong)?;
        for (row, group) in groups.iter().enumerate().filter(|(row, _)| sets.is_valid(*row)) {
            self.distinct.merge(*group, sets.value(row)).ok_or_else(wrong)?;
        }
        Ok(())
    }

    fn values(&mut self, count: usize) -> DfResult<ArrayRef> {
        Ok(Arc::new((0..count).map(|group| i64::try_from(self.distinct.count(group)).ok()).collect::<Int64Array>()))
    }

    fn states(&mut self, count: usize) -> DfResult<Vec<ArrayRef>> {
        let (mut column, mut bytes) = (LargeBinaryBuilder::with_capacity(count, self.distinct.encoded_bytes(count)), vec![]);
        for group in 0..count {
            bytes.clear();
            self.distinct.encode(group, &mut bytes);
            column.append_value(&bytes);
        }
        Ok(vec![Arc::new(column.finish())])
    }

    fn forget(&mut self, count: usize) {
        self.distinct.forget(count);
    }

    fn row_states(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> DfResult<Vec<ArrayRef>> {
        let rows = values.first().map_or(0, |column| column.len());
        let mut own = Self::default();
        own.update(values, &(0..rows).collect::<Vec<_>>(), filter)?;
        own.states(rows)
    }

    fn heap_bytes(&self) -> usize {
        self.distinct.heap_bytes()
    }
}
