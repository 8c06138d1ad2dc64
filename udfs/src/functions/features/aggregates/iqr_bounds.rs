//! `iqr_bounds(x, factor)`

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Float64Builder, ListArray, ListBuilder};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{Result as DfResult, ScalarValue};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, ColumnarValue, Documentation, EmitTo, GroupsAccumulator, Signature, Volatility,
};
use datafusion::physical_expr::expressions::Literal;
use datafusion_macros::user_doc;

use crate::error::{Code, Error, Result};
use crate::functions::relation::sql_type;
use crate::kernels::prepare::arena::GroupLog;
use crate::kernels::prepare::order;

const NAME: &str = "iqr_bounds";
const FACTOR: f64 = 1.5;

#[user_doc(
    doc_section(label = "Feature Functions"),
    description = "The bounds beyond which a number is an outlier: the quartiles (linear interpolation, as percentile_cont), widened by factor times their distance; Tukey's fences. An array of two, the lower one first; NULL when there is no number.",
    syntax_example = "iqr_bounds(x, factor)",
    sql_example = "```sql\nSELECT iqr_bounds(price) FROM (VALUES (1.0), (2.0), (3.0), (4.0), (100.0)) AS t(price);\n-- {-1,7}\n```",
    argument(name = "x", description = "A number. NULL and NaN are missing."),
    argument(name = "factor", description = "A constant, 1.5 when it is not given; not negative.")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct IqrBounds {
    signature: Signature,
}

impl IqrBounds {
    pub(super) fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

fn list_type() -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Float64, true)))
}

/// The constant second argument.
fn factor(args: &AccumulatorArgs) -> Result<f64> {
    let Some(expr) = args.exprs.get(1) else { return Ok(FACTOR) };
    let not_constant = || Error::invalid("argument \"factor\" of iqr_bounds must be a constant");
    let value = match expr.downcast_ref::<Literal>() {
        Some(literal) => literal.value().clone(),
        None => match expr.evaluate(&arrow::array::RecordBatch::new_empty(Arc::new(arrow::datatypes::Schema::empty()))) {
            Ok(ColumnarValue::Scalar(value)) => value,
            _ => return Err(not_constant()),
        },
    };
    match value.cast_to(&DataType::Float64) {
        Ok(ScalarValue::Float64(None)) => Ok(FACTOR),
        Ok(ScalarValue::Float64(Some(factor))) if factor >= 0.0 && factor.is_finite() => Ok(factor),
        _ => Err(Error::invalid("argument \"factor\" of iqr_bounds must not be negative").detail(format!("The value given is {value}."))),
    }
}

impl AggregateUDFImpl for IqrBounds {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        Ok(given.iter().map(|found| if found.is_numeric() || found.is_null() { DataType::Float64 } else { found.clone() }).collect())
    }

    fn return_type(&self, given: &[DataType]) -> DfResult<DataType> {
        if given.is_empty() || given.len() > 2 {
            return Err(Error::new(Code::UndefinedFunction, "function iqr_bounds takes 1 to 2 arguments")
                .detail(format!("{} arguments were given.", given.len()))
                .into());
        }
        match given.iter().zip(["x", "factor"]).find(|(found, _)| **found != DataType::Float64) {
            Some((found, name)) => Err(Error::new(Code::DatatypeMismatch, format!("argument \"{name}\" of iqr_bounds must be a number"))
                .detail(format!("Its type is {}.", sql_type(found)))
                .into()),
            None => Ok(list_type()),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> DfResult<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, NAME), list_type(), true))])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        Ok(Box::new(One { groups: Groups { log: GroupLog::default(), count: 0, factor: factor(&args)? } }))
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        !args.is_distinct
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Groups { log: GroupLog::default(), count: 0, factor: factor(&args)? }))
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }
}

/// The numbers of every group.
#[derive(Debug)]
struct Groups {
    log: GroupLog,
    count: usize,
    factor: f64,
}

impl Groups {
    fn take(&mut self, emit: EmitTo) -> (Vec<usize>, Vec<f64>) {
        let groups = match emit {
            EmitTo::All => self.count,
            EmitTo::First(n) => n.min(self.count),
        };
        self.count -= groups;
        self.log.take(groups)
    }
}

fn numbers(array: &ArrayRef) -> DfResult<Float64Array> {
    Ok(cast(array, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
}

impl GroupsAccumulator for Groups {
    fn update_batch(&mut self, values: &[ArrayRef], groups: &[usize], filter: Option<&BooleanArray>, total: usize) -> DfResult<()> {
        self.count = self.count.max(total);
        let values = numbers(values.first().ok_or_else(|| Error::internal("an argument is missing"))?)?;
        for (row, (group, value)) in groups.iter().zip(values.values()).enumerate() {
            let passes = filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
            if passes && values.is_valid(row) && !value.is_nan() {
                self.log.push(*group as u32, *value);
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> DfResult<()> {
        self.count = self.count.max(total);
        let lists = states.first().and_then(|state| state.as_list_opt::<i32>()).ok_or_else(|| Error::internal("a state is no list"))?;
        let values = numbers(lists.values())?;
        let offsets = lists.value_offsets();
        for (row, group) in groups.iter().enumerate().filter(|(row, _)| lists.is_valid(*row)) {
            for value in &values.values()[offsets[row] as usize..offsets[row + 1] as usize] {
                self.log.push(*group as u32, *value);
            }
        }
        Ok(())
    }

    fn state(&mut self, emit: EmitTo) -> DfResult<Vec<ArrayRef>> {
        let (starts, values) = self.take(emit);
        let offset = |start: usize| {
            i32::try_from(start).map_err(|_| Error::new(Code::OutOfMemory, "out of memory").detail("A state of iqr_bounds is too large."))
        };
        let offsets = starts.into_iter().map(offset).collect::<Result<Vec<i32>>>()?;
        Ok(vec![list(offsets, Float64Array::from(values), None)])
    }

    fn evaluate(&mut self, emit: EmitTo) -> DfResult<ArrayRef> {
        let (starts, mut values) = self.take(emit);
        let mut bounds = ListBuilder::with_capacity(Float64Builder::with_capacity(starts.len() * 2), starts.len());
        for range in starts.windows(2) {
            let group = &mut values[range[0]..range[1]];
            group.sort_unstable_by(f64::total_cmp);
            match order::fences(group, self.factor) {
                Some((low, high)) => {
                    bounds.values().append_value(low);
                    bounds.values().append_value(high);
                    bounds.append(true);
                }
                None => bounds.append(false),
            }
        }
        Ok(Arc::new(bounds.finish()))
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> DfResult<Vec<ArrayRef>> {
        let values = numbers(values.first().ok_or_else(|| Error::internal("an argument is missing"))?)?;
        let rows = i32::try_from(values.len()).map_err(|_| Error::internal("a batch is too large"))?;
        let passes = |row: usize| filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
        let there = |row: usize| passes(row) && values.is_valid(row) && !values.value(row).is_nan();
        let valid: NullBuffer = (0..values.len()).map(there).collect();
        let plain = Float64Array::new(values.values().clone(), None);
        Ok(vec![list((0..=rows).collect(), plain, Some(valid))])
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.log.bytes()
    }
}

fn list(offsets: Vec<i32>, values: Float64Array, valid: Option<NullBuffer>) -> ArrayRef {
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    Arc::new(ListArray::new(Arc::new(Field::new_list_field(DataType::Float64, true)), offsets, Arc::new(values), valid))
}

/// One group: the same through the other interface.
#[derive(Debug)]
struct One {
    groups: Groups,
}

impl Accumulator for One {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        let rows = values.first().map_or(0, Array::len);
        self.groups.update_batch(values, &vec![0; rows], None, 1)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        let rows = states.first().map_or(0, Array::len);
        self.groups.merge_batch(states, &vec![0; rows], 1)
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        self.groups.count = 1;
        self.groups.state(EmitTo::All)?.iter().map(|state| ScalarValue::try_from_array(state, 0)).collect()
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        // As a window function it is asked again while rows are added: what was taken is put back.
        self.groups.count = 1;
        let kept = self.groups.log.clone();
        let bounds = self.groups.evaluate(EmitTo::All)?;
        self.groups.log = kept;
        ScalarValue::try_from_array(&bounds, 0)
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.groups.log.bytes()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn groups() -> Groups {
        Groups { log: GroupLog::default(), count: 0, factor: FACTOR }
    }

    fn array(rows: &[(usize, Option<f64>)]) -> (Vec<ArrayRef>, Vec<usize>) {
        (vec![Arc::new(rows.iter().map(|row| row.1).collect::<Float64Array>())], rows.iter().map(|row| row.0).collect())
    }

    fn bounds(mut groups: Groups) -> Vec<Option<Vec<f64>>> {
        let found = groups.evaluate(EmitTo::All).unwrap();
        found.as_list::<i32>().iter().map(|list| list.map(|list| list.as_primitive::<Float64Type>().values().to_vec())).collect()
    }

    proptest! {
        /// However rows are ordered, split into partial states, turned into states one by one and merged, the answer is one.
        #[test]
        fn splits_do_not_matter(
            rows in prop::collection::vec((0_usize..6, prop::option::weighted(0.9, -50_i32..50)), 0..200),
            cuts in prop::collection::vec(0_usize..3, 200),
            order in any::<u64>(),
        ) {
            let mut rows: Vec<(usize, Option<f64>)> = rows.into_iter().map(|(group, value)| (group, value.map(f64::from))).collect();
            let mut whole = groups();
            let (values, of) = array(&rows);
            whole.update_batch(&values, &of, None, 6).unwrap();
            let whole = bounds(whole);

            crate::kernels::splitmix::shuffle(&mut rows, order);
            let mut merged = groups();
            for part in 0..3 {
                let rows: Vec<_> = rows.iter().zip(&cuts).filter(|(_, cut)| **cut == part).map(|(row, _)| *row).collect();
                let (values, of) = array(&rows);
                if part == 0 {
                    let states = merged.convert_to_state(&values, None).unwrap();
                    merged.merge_batch(&states, &of, 6).unwrap();
                    continue;
                }
                let mut partial = groups();
                partial.update_batch(&values, &of, None, 6).unwrap();
                // The first groups leave early, as over sorted input.
                let first = partial.state(EmitTo::First(2)).unwrap();
                merged.merge_batch(&first, &[0, 1], 6).unwrap();
                let rest = partial.state(EmitTo::All).unwrap();
                merged.merge_batch(&rest, &[2, 3, 4, 5], 6).unwrap();
            }
            prop_assert!(merged.size() >= size_of::<Groups>());
            prop_assert_eq!(bounds(merged), whole);
        }
    }
}
