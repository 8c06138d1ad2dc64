//! Aggregates over the events of a group: rows become (time, mask of conditions), a function of its own says what they mean.
//!
//! Life of a call: [`EventFunction::shape`] tells the arguments apart by their types → the engine coerces them →
//! [`EventFunction::reader`] reads the constants and says which rows matter → [`Events`] keeps those rows in an
//! [`EventLog`](crate::kernels::behavior::event_log::EventLog) with masks as narrow as the conditions allow → a [`Reader`]
//! sees each group's events, sorted. A partial state is two lists per group, times and masks, and lists merge by being
//! put together, so no split of the rows can change a result.

use std::fmt::Debug;
use std::hash::Hash;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListArray, PrimitiveArray};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Field, FieldRef, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type};
use datafusion::config::ConfigOptions;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::function::{AccumulatorArgs, AggregateFunctionSimplification, StateFieldsArgs};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, Expr, GroupsAccumulator, ReversedUDAF, Signature, Volatility,
};

use super::arguments::{list_of, times, truths};

use crate::error::{Code, Error, Result};
use crate::functions::aggregation::{Aggregation, Grouped, Single};
use crate::kernels::behavior::event_log::{Event, EventLog, Mask};

/// Where the conditions of a call are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Conditions {
    /// One argument each.
    Columns(Range<usize>),
    /// One array of them.
    List(usize),
}

/// Which argument of a call is what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    /// The place of the time.
    pub(super) time: usize,
    /// The places of the conditions.
    pub(super) conditions: Conditions,
    /// The types that the arguments are read as.
    pub(super) types: Vec<DataType>,
}

impl Shape {
    /// How many conditions there are; an array may have up to 64.
    pub(super) fn condition_count(&self) -> usize {
        match &self.conditions {
            Conditions::Columns(range) => range.len(),
            Conditions::List(_) => 64,
        }
    }

    /// The type of the time.
    pub(super) fn time_type(&self) -> &DataType {
        &self.types[self.time]
    }
}

/// Which rows matter to a call.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Keep {
    /// Rows that satisfy no condition too.
    pub(super) unmatched: bool,
    /// No row with a NULL among its conditions.
    pub(super) complete_only: bool,
}

/// Turns the events of one group after another into an array of values.
pub(super) trait Reader: Debug + Send + Sync + 'static {
    /// Reads the events of the next group, sorted.
    fn read(&mut self, events: &[Event]) -> DfResult<()>;
    /// The values of the groups read since the last call.
    fn take(&mut self) -> DfResult<ArrayRef>;
}

/// An aggregate over events.
pub(super) trait EventFunction: Debug + Clone + PartialEq + Eq + Hash + Send + Sync + 'static {
    /// What sees the events.
    type Reader: Reader;
    /// The SQL name.
    fn name(&self) -> &'static str;
    /// Other names, as SQL reads them: unquoted names are lower case.
    fn aliases(&self) -> &'static [&'static str];
    /// Tells the arguments apart.
    fn shape(&self, types: &[DataType]) -> Result<Shape>;
    /// The type of the value.
    fn value_type(&self, shape: &Shape) -> DataType;
    /// Reads the constants.
    fn reader(&self, shape: &Shape, args: &AccumulatorArgs) -> DfResult<(Self::Reader, Keep)>;
    /// Its page of the reference.
    fn page(&self) -> Option<&Documentation>;
    /// Whether a call means something else under other settings of the session.
    fn has_settings(&self) -> bool {
        false
    }
    /// The arguments of a call with the session's settings written out, so that a plan means the same wherever it runs.
    fn settled(&self, args: Vec<Expr>, _types: &[DataType], _options: &ConfigOptions) -> Vec<Expr> {
        args
    }
}

/// The engine's side of an [`EventFunction`].
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct EventAggregate<F> {
    function: F,
    signature: Signature,
    aliases: Vec<String>,
}

impl<F: EventFunction> EventAggregate<F> {
    pub(super) fn udaf(function: F) -> Arc<AggregateUDF> {
        let aliases = function.aliases().iter().map(|alias| (*alias).to_owned()).collect();
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(AggregateUDF::new_from_impl(Self { function, signature, aliases }))
    }

    fn shape_of(&self, fields: &[FieldRef]) -> Result<Shape> {
        self.function.shape(&fields.iter().map(|field| field.data_type().clone()).collect::<Vec<_>>())
    }
}

/// Builds `$make(Events<M, _>)` for the narrowest mask.
macro_rules! narrowest {
    ($shape:expr, $keep:expr, $reader:expr, $make:expr) => {
        match $shape.condition_count() {
            0..=8 => Box::new($make(Events::<UInt8Type, _>::new($shape, $keep, $reader))),
            9..=16 => Box::new($make(Events::<UInt16Type, _>::new($shape, $keep, $reader))),
            17..=32 => Box::new($make(Events::<UInt32Type, _>::new($shape, $keep, $reader))),
            _ => Box::new($make(Events::<UInt64Type, _>::new($shape, $keep, $reader))),
        }
    };
}

fn mask_type(conditions: usize) -> DataType {
    match conditions {
        0..=8 => DataType::UInt8,
        9..=16 => DataType::UInt16,
        17..=32 => DataType::UInt32,
        _ => DataType::UInt64,
    }
}

impl<F: EventFunction> AggregateUDFImpl for EventAggregate<F> {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    // Of an error here the engine would keep the text alone; `return_type` refuses what has no shape.
    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        Ok(self.function.shape(given).map_or_else(|_| given.to_vec(), |shape| shape.types))
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        Ok(self.function.value_type(&self.function.shape(types)?))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        let shape = self.shape_of(args.expr_fields)?;
        let (reader, keep) = self.function.reader(&shape, &args)?;
        refuse_distinct(self.name(), &args)?;
        Ok(narrowest!(shape, keep, reader, Single::new))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn GroupsAccumulator>> {
        let shape = self.shape_of(args.expr_fields)?;
        let (reader, keep) = self.function.reader(&shape, &args)?;
        refuse_distinct(self.name(), &args)?;
        Ok(narrowest!(shape, keep, reader, Grouped::new))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> DfResult<Vec<FieldRef>> {
        let shape = self.shape_of(args.input_fields)?;
        let field = |part: &str, item| Arc::new(Field::new(format_state_name(args.name, part), list_of(item), true));
        Ok(vec![field("times", DataType::Int64), field("masks", mask_type(shape.condition_count()))])
    }

    // The order of the rows is part of the answer, not of the question.
    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn simplify(&self) -> Option<AggregateFunctionSimplification> {
        if !self.function.has_settings() {
            return None;
        }
        let function = self.function.clone();
        Some(Box::new(move |mut call: AggregateFunction, context: &SimplifyContext| {
            let types = call.params.args.iter().map(|arg| context.get_data_type(arg)).collect::<DfResult<Vec<_>>>()?;
            call.params.args = function.settled(call.params.args, &types, context.config_options());
            Ok(Expr::AggregateFunction(call))
        }))
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.function.page()
    }
}

/// Rows are events: two equal ones are two.
pub(super) fn refuse_distinct(name: &str, args: &AccumulatorArgs) -> DfResult<()> {
    if args.is_distinct {
        return Err(Error::new(Code::FeatureNotSupported, format!("DISTINCT is not supported for {name}")).into());
    }
    Ok(())
}

/// The rows of many groups that matter to a call.
#[derive(Debug)]
struct Events<M: ArrowPrimitiveType, R> {
    shape: Shape,
    keep: Keep,
    reader: R,
    log: EventLog<M::Native>,
    /// Where the groups of the last [`EventLog::arrange`] end.
    end: usize,
    masks: Vec<u64>,
    sorted: Vec<Event>,
}

impl<M: ArrowPrimitiveType<Native: Mask>, R: Reader> Events<M, R> {
    fn new(shape: Shape, keep: Keep, reader: R) -> Self {
        Self { shape, keep, reader, log: EventLog::default(), end: 0, masks: vec![], sorted: vec![] }
    }
}

/// The bits of a byte as bytes.
static SPREAD: [u64; 256] = {
    let mut spread = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut bit = 0;
        while bit < 8 {
            spread[byte] |= ((byte as u64 >> bit) & 1) << (8 * bit);
            bit += 1;
        }
        byte += 1;
    }
    spread
};

/// The conditions of every row of a batch as masks.
pub(super) fn read_masks(conditions: &Conditions, values: &[ArrayRef], rows: usize, masks: &mut Vec<u64>) -> DfResult<()> {
    masks.clear();
    masks.resize(rows, 0);
    match conditions {
        Conditions::Columns(range) => {
            let mut lanes = vec![0_u64; rows.div_ceil(8)];
            for (octet, columns) in values[range.clone()].chunks(8).enumerate() {
                lanes.fill(0);
                for (bit, column) in columns.iter().enumerate() {
                    let truths = truths(booleans(column)?);
                    let bytes = truths.bit_chunks().iter_padded().flat_map(u64::to_le_bytes);
                    lanes.iter_mut().zip(bytes).for_each(|(lane, byte)| *lane |= SPREAD[usize::from(byte)] << bit);
                }
                for (masks, lane) in masks.chunks_mut(8).zip(&lanes) {
                    masks.iter_mut().zip(lane.to_le_bytes()).for_each(|(mask, byte)| *mask |= u64::from(byte) << (8 * octet));
                }
            }
        }
        Conditions::List(at) => {
            let lists = values[*at].as_list_opt::<i32>().ok_or_else(|| Error::internal("conditions are no list"))?;
            let items = booleans(lists.values())?;
            let truths = truths(items);
            for (row, mask) in masks.iter_mut().enumerate().filter(|(row, _)| lists.is_valid(*row)) {
                let (from, to) = (lists.value_offsets()[row] as usize, lists.value_offsets()[row + 1] as usize);
                if to - from > 64 {
                    return Err(Error::invalid("an array of conditions has more than 64 of them").into());
                }
                *mask = (from..to).fold(0, |mask, item| mask | u64::from(truths.value(item)) << (item - from));
            }
        }
    }
    Ok(())
}

fn booleans(array: &ArrayRef) -> Result<&BooleanArray> {
    array.as_boolean_opt().ok_or_else(|| Error::internal("a condition is not boolean"))
}

/// The rows that the engine's FILTER and NULLs leave, with their time.
fn kept_rows<'a>(
    shape: &Shape,
    keep: Keep,
    values: &'a [ArrayRef],
    filter: Option<&'a BooleanArray>,
    times: &'a Int64Array,
) -> impl Iterator<Item = usize> + 'a {
    let columns = match &shape.conditions {
        Conditions::Columns(range) if keep.complete_only => &values[range.clone()],
        _ => &[],
    };
    (0..times.len()).filter(move |row| {
        times.is_valid(*row)
            && filter.is_none_or(|filter| filter.is_valid(*row) && filter.value(*row))
            && columns.iter().all(|column| column.is_valid(*row))
    })
}

/// A list array from its parts.
fn lists<T: ArrowPrimitiveType>(offsets: &OffsetBuffer<i32>, items: Vec<T::Native>) -> DfResult<ArrayRef> {
    let items = PrimitiveArray::<T>::new(ScalarBuffer::from(items), None);
    let field = Arc::new(Field::new_list_field(T::DATA_TYPE, true));
    Ok(Arc::new(ListArray::try_new(field, offsets.clone(), Arc::new(items), None)?))
}

/// Places as 32-bit offsets.
pub(super) fn offsets(places: &[usize]) -> DfResult<OffsetBuffer<i32>> {
    let narrow = places.iter().map(|place| i32::try_from(*place)).collect::<Result<Vec<i32>, _>>();
    let narrow = narrow.map_err(|_| Error::new(Code::OutOfMemory, "a partial result has more than two billion events"))?;
    Ok(OffsetBuffer::new(ScalarBuffer::from(narrow)))
}

impl<M: ArrowPrimitiveType<Native: Mask> + Debug + Send + Sync, R: Reader> Aggregation for Events<M, R> {
    fn update(&mut self, values: &[ArrayRef], groups: &[usize], filter: Option<&BooleanArray>) -> DfResult<()> {
        let times = times(&values[self.shape.time])?;
        read_masks(&self.shape.conditions, values, times.len(), &mut self.masks)?;
        if filter.is_none() && times.null_count() == 0 && !self.keep.complete_only {
            self.log.extend_rows(groups, times.values(), &self.masks, self.keep.unmatched);
            return Ok(());
        }
        for row in kept_rows(&self.shape, self.keep, values, filter, &times) {
            let mask = self.masks[row];
            if mask != 0 || self.keep.unmatched {
                #[allow(clippy::cast_possible_truncation, reason = "the number of groups was checked")]
                self.log.push(groups[row] as u32, times.value(row), M::Native::narrow(mask));
            }
        }
        Ok(())
    }

    fn merge(&mut self, states: &[ArrayRef], groups: &[usize]) -> DfResult<()> {
        let wrong = || Error::internal("a partial result has the wrong type");
        let [times, masks] = states else { return Err(wrong().into()) };
        let (times, masks) = (times.as_list_opt::<i32>().ok_or_else(wrong)?, masks.as_list_opt::<i32>().ok_or_else(wrong)?);
        let all_times = times.values().as_primitive_opt::<Int64Type>().ok_or_else(wrong)?.values();
        let all_masks = masks.values().as_primitive_opt::<M>().ok_or_else(wrong)?.values();
        for (row, group) in groups.iter().enumerate().filter(|(row, _)| times.is_valid(*row) && masks.is_valid(*row)) {
            let place = |list: &ListArray| list.value_offsets()[row] as usize..list.value_offsets()[row + 1] as usize;
            #[allow(clippy::cast_possible_truncation, reason = "the number of groups was checked")]
            self.log.extend(*group as u32, &all_times[place(times)], &all_masks[place(masks)]);
        }
        Ok(())
    }

    fn values(&mut self, count: usize) -> DfResult<ArrayRef> {
        let places = self.log.arrange(count);
        for place in places.windows(2) {
            self.log.sorted_into(place[0], place[1], &mut self.sorted);
            self.reader.read(&self.sorted)?;
        }
        self.end = places.last().copied().unwrap_or(0);
        self.reader.take()
    }

    fn states(&mut self, count: usize) -> DfResult<Vec<ArrayRef>> {
        let places = self.log.arrange(count);
        self.end = places.last().copied().unwrap_or(0);
        let (times, masks) = self.log.slices(0, self.end);
        let offsets = offsets(&places)?;
        Ok(vec![lists::<Int64Type>(&offsets, times.to_vec())?, lists::<M>(&offsets, masks.to_vec())?])
    }

    fn forget(&mut self, count: usize) {
        self.log.forget(count, self.end);
        self.end = 0;
        self.sorted = vec![];
    }

    fn row_states(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> DfResult<Vec<ArrayRef>> {
        let all_times = times(&values[self.shape.time])?;
        let mut masks = vec![];
        read_masks(&self.shape.conditions, values, all_times.len(), &mut masks)?;
        let (mut kept_times, mut kept_masks, mut places) = (vec![], vec![], Vec::with_capacity(all_times.len() + 1));
        places.push(0);
        let mut rows = kept_rows(&self.shape, self.keep, values, filter, &all_times).peekable();
        for row in 0..all_times.len() {
            if rows.next_if_eq(&row).is_some() && (masks[row] != 0 || self.keep.unmatched) {
                kept_times.push(all_times.value(row));
                kept_masks.push(M::Native::narrow(masks[row]));
            }
            places.push(kept_times.len());
        }
        let offsets = offsets(&places)?;
        Ok(vec![lists::<Int64Type>(&offsets, kept_times)?, lists::<M>(&offsets, kept_masks)?])
    }

    fn heap_bytes(&self) -> usize {
        self.log.heap_bytes() + self.masks.capacity() * size_of::<u64>() + self.sorted.capacity() * size_of::<Event>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::splitmix;

    #[test]
    fn the_mask_of_a_row_has_a_bit_for_each_condition() {
        for (seed, count) in [1, 3, 8, 9, 17, 64].into_iter().enumerate() {
            let rows = 70 + 37 * seed;
            let at = |row: usize, column: usize| splitmix::at(seed as u64, (row * 64 + column) as u64);
            let known = |row: usize, column: usize| {
                (column.is_multiple_of(2) || at(row, column) % 5 > 0).then(|| at(row, column).is_multiple_of(3))
            };
            let column =
                |column| Arc::new((0..rows).map(|row| known(row, column)).collect::<BooleanArray>().slice(5, rows - 5)) as ArrayRef;
            let columns: Vec<ArrayRef> = (0..count).map(column).collect();
            let mut masks = vec![7; 3];
            read_masks(&Conditions::Columns(0..count), &columns, rows - 5, &mut masks).unwrap();
            let expected = |row: usize| (0..count).fold(0, |mask, column| mask | u64::from(known(row, column) == Some(true)) << column);
            assert_eq!(masks, (5..rows).map(expected).collect::<Vec<_>>(), "{count} conditions");
        }
    }
}
