//! `sum` of whole numbers: one that leaves 64 bits is an error, where the engine's own begins again at the other end.
//!
//! It adds in 128 bits, so that neither the order of rows nor their partitions matter: only the whole sum has to fit.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::types::{Decimal128Type, Int64Type};
use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Decimal128Array, Int64Array, PrimitiveArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Field, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::functions_aggregate::sum::Sum;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, EmitTo, Expr, GroupsAccumulator, Operator, ReversedUDAF, SetMonotonicity,
    Signature, StatisticsArgs,
};

use crate::error::{Code, Error};

/// The type of sums that are not whole yet.
const PARTIAL: DataType = DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0);

pub(super) fn function() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::from(CheckedSum::default()))
}

/// The engine's `sum`, but for 64-bit integers.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
struct CheckedSum(Sum);

fn is_whole(args: &AccumulatorArgs) -> bool {
    args.return_field.data_type() == &DataType::Int64
}

impl AggregateUDFImpl for CheckedSum {
    fn name(&self) -> &'static str {
        "sum"
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn return_type(&self, given: &[DataType]) -> DfResult<DataType> {
        self.0.return_type(given)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        match (is_whole(&args), args.is_distinct) {
            (false, _) => self.0.accumulator(args),
            (true, false) => Ok(Box::new(Total::default())),
            (true, true) => Ok(Box::new(DistinctTotal::default())),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> DfResult<Vec<FieldRef>> {
        if args.return_field.data_type() != &DataType::Int64 || args.is_distinct {
            return self.0.state_fields(args);
        }
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, "sum"), PARTIAL, true))])
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.0.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn GroupsAccumulator>> {
        if is_whole(&args) { Ok(Box::new(Totals::default())) } else { self.0.create_groups_accumulator(args) }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        if is_whole(&args) { self.accumulator(args) } else { self.0.create_sliding_accumulator(args) }
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        self.0.reverse_expr()
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.0.order_sensitivity()
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.0.documentation()
    }

    fn set_monotonicity(&self, kind: &DataType) -> SetMonotonicity {
        self.0.set_monotonicity(kind)
    }

    fn simplify_expr_op_literal(
        &self,
        call: &AggregateFunction,
        arg: &Expr,
        op: Operator,
        literal: &Expr,
        arg_is_left: bool,
    ) -> DfResult<Option<Expr>> {
        self.0.simplify_expr_op_literal(call, arg, op, literal, arg_is_left)
    }

    fn value_from_stats(&self, args: &StatisticsArgs) -> Option<ScalarValue> {
        self.0.value_from_stats(args)
    }
}

fn whole(sum: i128) -> DfResult<i64> {
    i64::try_from(sum).map_err(|_| {
        let error = Error::new(Code::NumericOutOfRange, "bigint out of range").detail(format!("The sum is {sum}."));
        error.hint("Add it up as numeric: sum(x::numeric).").into()
    })
}

/// Calls `each` with the values that are there.
fn for_each_valid<T: ArrowPrimitiveType>(values: &PrimitiveArray<T>, mut each: impl FnMut(T::Native)) {
    if values.null_count() == 0 {
        values.values().iter().for_each(|value| each(*value));
    } else {
        values.iter().flatten().for_each(each);
    }
}

/// The sum of one group, or of a window that moves.
#[derive(Debug, Default)]
struct Total {
    sum: i128,
    /// How many values are in it.
    count: i128,
}

impl Total {
    fn add(&mut self, values: &Int64Array, sign: i128) {
        let mut sum = 0;
        for_each_valid(values, |value| sum += i128::from(value));
        self.sum += sign * sum;
        self.count += sign * (values.len() - values.null_count()) as i128;
    }
}

impl Accumulator for Total {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        self.add(values[0].as_primitive::<Int64Type>(), 1);
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        self.add(values[0].as_primitive::<Int64Type>(), -1);
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        for_each_valid(states[0].as_primitive::<Decimal128Type>(), |sum| {
            self.sum += sum;
            self.count += 1;
        });
        Ok(())
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        let sum = (self.count > 0).then_some(self.sum);
        Ok(vec![ScalarValue::Decimal128(sum, DECIMAL128_MAX_PRECISION, 0)])
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        (self.count > 0).then_some(self.sum).map(whole).transpose().map(ScalarValue::Int64)
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

/// The sum of the values that differ, and how often each is there.
#[derive(Debug, Default)]
struct DistinctTotal {
    sum: i128,
    counts: HashMap<i64, u64>,
}

impl DistinctTotal {
    fn add(&mut self, values: &Int64Array) {
        for_each_valid(values, |value| {
            let count = self.counts.entry(value).or_default();
            if *count == 0 {
                self.sum += i128::from(value);
            }
            *count += 1;
        });
    }
}

impl Accumulator for DistinctTotal {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        self.add(values[0].as_primitive::<Int64Type>());
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        for_each_valid(values[0].as_primitive::<Int64Type>(), |value| {
            if let Some(count) = self.counts.get_mut(&value) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(&value);
                    self.sum -= i128::from(value);
                }
            }
        });
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        for list in states[0].as_list::<i32>().iter().flatten() {
            self.add(list.as_primitive::<Int64Type>());
        }
        Ok(())
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        let values: Vec<_> = self.counts.keys().map(|value| ScalarValue::Int64(Some(*value))).collect();
        Ok(vec![ScalarValue::List(ScalarValue::new_list_nullable(&values, &DataType::Int64))])
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        (!self.counts.is_empty()).then_some(self.sum).map(whole).transpose().map(ScalarValue::Int64)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.counts.capacity() * size_of::<(i64, u64)>()
    }
}

/// The sums of many groups.
#[derive(Debug, Default)]
struct Totals {
    sums: Vec<i128>,
    /// Whether a group has a value at all.
    seen: Vec<bool>,
}

impl Totals {
    fn add<T: ArrowPrimitiveType>(&mut self, values: &PrimitiveArray<T>, groups: &[usize], filter: Option<&BooleanArray>, total: usize)
    where
        T::Native: Into<i128>,
    {
        self.sums.resize(total, 0);
        self.seen.resize(total, false);
        let mut add = |group: usize, value: T::Native| {
            self.sums[group] += value.into();
            self.seen[group] = true;
        };
        if values.null_count() == 0 && filter.is_none() {
            groups.iter().zip(values.values()).for_each(|(group, value)| add(*group, *value));
            return;
        }
        let kept = |row: usize| values.is_valid(row) && filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
        (0..values.len()).filter(|row| kept(*row)).for_each(|row| add(groups[row], values.value(row)));
    }

    fn take(&mut self, emit: EmitTo) -> (Vec<i128>, NullBuffer) {
        (emit.take_needed(&mut self.sums), NullBuffer::from(emit.take_needed(&mut self.seen)))
    }
}

fn partial(sums: Vec<i128>, seen: NullBuffer) -> DfResult<Vec<ArrayRef>> {
    Ok(vec![Arc::new(Decimal128Array::new(sums.into(), Some(seen)).with_data_type(PARTIAL))])
}

impl GroupsAccumulator for Totals {
    fn update_batch(&mut self, values: &[ArrayRef], groups: &[usize], filter: Option<&BooleanArray>, total: usize) -> DfResult<()> {
        self.add(values[0].as_primitive::<Int64Type>(), groups, filter, total);
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> DfResult<()> {
        self.add(states[0].as_primitive::<Decimal128Type>(), groups, None, total);
        Ok(())
    }

    fn evaluate(&mut self, emit: EmitTo) -> DfResult<ArrayRef> {
        let (sums, seen) = self.take(emit);
        let sums = sums.into_iter().map(whole).collect::<DfResult<Vec<_>>>()?;
        Ok(Arc::new(Int64Array::new(sums.into(), Some(seen))))
    }

    fn state(&mut self, emit: EmitTo) -> DfResult<Vec<ArrayRef>> {
        let (sums, seen) = self.take(emit);
        partial(sums, seen)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> DfResult<Vec<ArrayRef>> {
        let values = values[0].as_primitive::<Int64Type>();
        let seen =
            (0..values.len()).map(|row| values.is_valid(row) && filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row)));
        partial(values.values().iter().map(|value| i128::from(*value)).collect(), seen.collect::<Vec<_>>().into())
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<i128>() + self.seen.capacity()
    }
}
