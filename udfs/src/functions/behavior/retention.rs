//! `retention(condition, …)`: which conditions a user satisfies besides the first.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, ListArray, UInt64Array};
use arrow::datatypes::{DataType, Field, FieldRef, UInt64Type};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Documentation, GroupsAccumulator, Signature, Volatility};
use datafusion_macros::user_doc;

use super::arguments::{is_condition, list_of, no_such_call};
use super::events::{Conditions, offsets, read_masks};

use crate::error::{Error, Result};
use crate::functions::aggregation::{Aggregation, Grouped, Single};
use crate::kernels::behavior::retention::retained;

#[user_doc(
    doc_section(label = "Behavior Functions"),
    description = "An array as long as the conditions: the first is true when some row satisfies the first condition, each other one when rows satisfy both the first condition and that one. Different rows may do so, in any order of time. All false for a group without rows; a NULL condition is false.",
    syntax_example = "retention(condition, …)",
    sql_example = "```sql\nSELECT count(*) FILTER (WHERE r[1]) AS began, count(*) FILTER (WHERE r[2]) AS came_back\nFROM (SELECT user_id, retention(event_time < '2011-01-01', event_time >= '2011-01-01') AS r FROM events GROUP BY user_id);\n```",
    argument(name = "condition", description = "1 to 64 booleans, or one array of them."),
    related_udf(name = "range_retention_count")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Retention {
    signature: Signature,
}

impl Retention {
    pub(super) fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

/// Where the conditions are, and the types they are read as.
fn shape(given: &[DataType]) -> Result<(Conditions, Vec<DataType>)> {
    if let [DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _)] = given
        && is_condition(item.data_type())
    {
        return Ok((Conditions::List(0), vec![list_of(DataType::Boolean)]));
    }
    if given.is_empty() || !given.iter().all(is_condition) {
        return Err(no_such_call("retention", given, &["retention(condition, …)", "retention(array of conditions)"]));
    }
    if given.len() > 64 {
        return Err(Error::invalid("retention takes at most 64 conditions").detail(format!("{} were given.", given.len())));
    }
    Ok((Conditions::Columns(0..given.len()), vec![DataType::Boolean; given.len()]))
}

fn seen(args: &AccumulatorArgs) -> DfResult<Seen> {
    let types: Vec<DataType> = args.expr_fields.iter().map(|field| field.data_type().clone()).collect();
    let (conditions, _) = shape(&types)?;
    Ok(Seen { conditions, masks: vec![], lengths: vec![], rows: vec![] })
}

impl AggregateUDFImpl for Retention {
    fn name(&self) -> &str {
        "retention"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        Ok(shape(given).map_or_else(|_| given.to_vec(), |(_, types)| types))
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        shape(types)?;
        Ok(list_of(DataType::Boolean))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        Ok(Box::new(Single::new(seen(&args)?)))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Grouped::new(seen(&args)?)))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> DfResult<Vec<FieldRef>> {
        let field = |part| Arc::new(Field::new(format_state_name(args.name, part), DataType::UInt64, true));
        Ok(vec![field("seen"), field("conditions")])
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }
}

/// The conditions that each group has satisfied: 9 bytes a group.
#[derive(Debug)]
struct Seen {
    conditions: Conditions,
    masks: Vec<u64>,
    /// How many conditions an array had.
    lengths: Vec<u8>,
    rows: Vec<u64>,
}

impl Seen {
    fn reserve(&mut self, groups: &[usize]) {
        let needed = groups.iter().max().map_or(0, |group| group + 1);
        if needed > self.masks.len() {
            self.masks.resize(needed, 0);
            self.lengths.resize(needed, self.fixed_length());
        }
    }

    fn fixed_length(&self) -> u8 {
        match &self.conditions {
            Conditions::Columns(range) => u8::try_from(range.len()).unwrap_or(64),
            Conditions::List(_) => 0,
        }
    }

    /// How many conditions the arrays of a batch have; `None` when each is an argument.
    fn list_lengths(&self, values: &[ArrayRef]) -> Option<Vec<u8>> {
        let Conditions::List(at) = self.conditions else { return None };
        let lengths = values[at]
            .as_list_opt::<i32>()
            .map(|lists| (0..lists.len()).map(|row| if lists.is_valid(row) { lists.value_length(row) } else { 0 }));
        lengths.map(|lengths| lengths.map(|length| u8::try_from(length).unwrap_or(64)).collect())
    }
}

impl Aggregation for Seen {
    fn update(&mut self, values: &[ArrayRef], groups: &[usize], filter: Option<&BooleanArray>) -> DfResult<()> {
        self.reserve(groups);
        read_masks(&self.conditions, values, groups.len(), &mut self.rows)?;
        let lengths = self.list_lengths(values);
        for (row, group) in groups.iter().enumerate() {
            if filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row)) {
                self.masks[*group] |= self.rows[row];
                if let Some(lengths) = &lengths {
                    self.lengths[*group] = self.lengths[*group].max(lengths[row]);
                }
            }
        }
        Ok(())
    }

    fn merge(&mut self, states: &[ArrayRef], groups: &[usize]) -> DfResult<()> {
        self.reserve(groups);
        let column = |at: usize| {
            let array = states.get(at).and_then(|array| array.as_primitive_opt::<UInt64Type>());
            array.ok_or_else(|| Error::internal("a partial result has the wrong type"))
        };
        let (masks, lengths) = (column(0)?, column(1)?);
        for (row, group) in groups.iter().enumerate() {
            self.masks[*group] |= masks.value(row);
            self.lengths[*group] = self.lengths[*group].max(u8::try_from(lengths.value(row)).unwrap_or(64));
        }
        Ok(())
    }

    fn values(&mut self, count: usize) -> DfResult<ArrayRef> {
        let none = (0, self.fixed_length());
        let group = |group: usize| self.masks.get(group).copied().zip(self.lengths.get(group).copied()).unwrap_or(none);
        let mut places = Vec::with_capacity(count + 1);
        places.push(0);
        let mut items = vec![];
        for (seen, length) in (0..count).map(group) {
            items.extend((0..usize::from(length)).map(|condition| retained(seen, condition)));
            places.push(items.len());
        }
        let field = Arc::new(Field::new_list_field(DataType::Boolean, true));
        Ok(Arc::new(ListArray::try_new(field, offsets(&places)?, Arc::new(BooleanArray::from(items)), None)?))
    }

    fn states(&mut self, count: usize) -> DfResult<Vec<ArrayRef>> {
        let fixed = self.fixed_length();
        let masks = (0..count).map(|group| self.masks.get(group).copied().unwrap_or(0));
        let lengths = (0..count).map(|group| u64::from(self.lengths.get(group).copied().unwrap_or(fixed)));
        Ok(vec![Arc::new(UInt64Array::from_iter_values(masks)), Arc::new(UInt64Array::from_iter_values(lengths))])
    }

    fn forget(&mut self, count: usize) {
        self.masks.drain(..count.min(self.masks.len()));
        self.lengths.drain(..count.min(self.lengths.len()));
    }

    fn row_states(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> DfResult<Vec<ArrayRef>> {
        let mut masks = vec![];
        let rows = values.first().map_or(0, |array| array.len());
        read_masks(&self.conditions, values, rows, &mut masks)?;
        let lengths = self.list_lengths(values).unwrap_or_else(|| vec![self.fixed_length(); rows]);
        for (row, mask) in masks.iter_mut().enumerate() {
            if filter.is_some_and(|filter| filter.is_null(row) || !filter.value(row)) {
                *mask = 0;
            }
        }
        Ok(vec![Arc::new(UInt64Array::from(masks)), Arc::new(UInt64Array::from_iter_values(lengths.into_iter().map(u64::from)))])
    }

    fn heap_bytes(&self) -> usize {
        (self.masks.capacity() + self.rows.capacity()) * size_of::<u64>() + self.lengths.capacity()
    }
}
