//! `range_retention_sum(counts)`: the retention table of all users, from what `range_retention_count` says of each.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Date32Array, Int64Array, ListArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Documentation, GroupsAccumulator, Signature, Volatility};
use datafusion_macros::user_doc;

use super::arguments::{list_of, no_such_call};
use super::events::offsets;

use crate::error::{Error, Result};
use crate::functions::aggregation::{Aggregation, Grouped, Single};

const NAME: &str = "range_retention_sum";

#[user_doc(
    doc_section(label = "Behavior Functions"),
    description = "Adds up arrays of `range_retention_count`: one text per period in which users began, in order: its first day, the users who began, and for each interval those who were active then: `2010-12-01,310,120,95`. NULL arrays are left out. `retention_matrix` gives the same as rows.",
    syntax_example = "range_retention_sum(counts)",
    sql_example = "```sql\nSELECT range_retention_sum(r)\nFROM (SELECT user_id, range_retention_count(true, true, event_time::date, ARRAY[1, 7]) AS r FROM events GROUP BY user_id);\n```",
    argument(name = "counts", description = "An array that `range_retention_count` returned."),
    related_udf(name = "range_retention_count")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct RangeRetentionSum {
    signature: Signature,
    aliases: Vec<String>,
}

impl RangeRetentionSum {
    pub(super) fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable), aliases: vec!["retention_range_sum".to_owned()] }
    }
}

fn types(given: &[DataType]) -> Result<Vec<DataType>> {
    match given {
        [DataType::List(item) | DataType::LargeList(item)] if item.data_type().is_integer() => Ok(vec![list_of(DataType::Int64)]),
        [DataType::Null] => Ok(vec![list_of(DataType::Int64)]),
        _ => Err(no_such_call(NAME, given, &[&format!("{NAME}(bigint[])")])),
    }
}

impl AggregateUDFImpl for RangeRetentionSum {
    fn name(&self) -> &str {
        NAME
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        Ok(types(given).unwrap_or_else(|_| given.to_vec()))
    }

    fn return_type(&self, given: &[DataType]) -> DfResult<DataType> {
        types(given)?;
        Ok(list_of(DataType::Utf8))
    }

    fn accumulator(&self, _: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        Ok(Box::new(Single::new(Tables::default())))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, _: AccumulatorArgs) -> DfResult<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Grouped::new(Tables::default())))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> DfResult<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, "table"), list_of(DataType::Int64), true))])
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }
}

/// Day → users, and those who came back after each interval.
type Table = BTreeMap<i64, (i64, Vec<i64>)>;

#[derive(Debug, Default)]
struct Tables {
    tables: Vec<Table>,
}

/// Adds the blocks of one array: day, number of intervals, flags; a partial state has the users before the flags.
fn add(table: &mut Table, numbers: &[i64], with_users: bool) -> Result<()> {
    let wrong = || Error::invalid(format!("{NAME} needs arrays of range_retention_count"));
    let mut rest = numbers;
    while let [day, count, tail @ ..] = rest {
        let (users, tail) = match (with_users, tail) {
            (true, [users, tail @ ..]) => (*users, tail),
            (true, []) => return Err(wrong()),
            (false, tail) => (1, tail),
        };
        let count = usize::try_from(*count).ok().filter(|count| *count <= tail.len()).ok_or_else(wrong)?;
        let (found, back) = table.entry(*day).or_insert_with(|| (0, vec![0; count]));
        if back.len() != count || i32::try_from(*day).is_err() {
            return Err(wrong().detail("They were made with different intervals."));
        }
        *found = found.saturating_add(users);
        back.iter_mut().zip(tail).for_each(|(total, more)| *total = total.saturating_add(*more));
        rest = &tail[count..];
    }
    if rest.is_empty() { Ok(()) } else { Err(wrong()) }
}

impl Tables {
    fn take_in(&mut self, lists: &ArrayRef, groups: &[usize], filter: Option<&BooleanArray>, with_users: bool) -> DfResult<()> {
        let lists = cast(lists, &list_of(DataType::Int64))?;
        let lists = lists.as_list_opt::<i32>().ok_or_else(|| Error::internal("counts are no list"))?;
        let needed = groups.iter().max().map_or(0, |group| group + 1);
        if needed > self.tables.len() {
            self.tables.resize_with(needed, Table::new);
        }
        for (row, group) in groups.iter().enumerate() {
            if lists.is_valid(row) && filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row)) {
                let numbers = lists.value(row);
                let numbers = numbers.as_primitive_opt::<Int64Type>().ok_or_else(|| Error::internal("counts are no numbers"))?;
                add(&mut self.tables[*group], numbers.values(), with_users)?;
            }
        }
        Ok(())
    }
}

impl Aggregation for Tables {
    fn update(&mut self, values: &[ArrayRef], groups: &[usize], filter: Option<&BooleanArray>) -> DfResult<()> {
        self.take_in(&values[0], groups, filter, false)
    }

    fn merge(&mut self, states: &[ArrayRef], groups: &[usize]) -> DfResult<()> {
        self.take_in(&states[0], groups, None, true)
    }

    fn values(&mut self, count: usize) -> DfResult<ArrayRef> {
        let (mut texts, mut places) = (vec![], vec![0]);
        for group in 0..count {
            for (day, (users, back)) in self.tables.get(group).into_iter().flatten() {
                let days = Date32Array::from(vec![i32::try_from(*day).unwrap_or(i32::MAX)]);
                let date = cast(&days, &DataType::Utf8)?;
                let date = date.as_string_opt::<i32>().map_or("", |date| date.value(0)).to_owned();
                let numbers = [*users].iter().chain(back).map(ToString::to_string).collect::<Vec<_>>();
                texts.push(format!("{date},{}", numbers.join(",")));
            }
            places.push(texts.len());
        }
        let field = Arc::new(Field::new_list_field(DataType::Utf8, true));
        Ok(Arc::new(ListArray::try_new(field, offsets(&places)?, Arc::new(StringArray::from(texts)), None)?))
    }

    fn states(&mut self, count: usize) -> DfResult<Vec<ArrayRef>> {
        let (mut numbers, mut places) = (vec![], vec![0]);
        for group in 0..count {
            for (day, (users, back)) in self.tables.get(group).into_iter().flatten() {
                numbers.extend([*day, back.len() as i64, *users]);
                numbers.extend(back);
            }
            places.push(numbers.len());
        }
        let field = Arc::new(Field::new_list_field(DataType::Int64, true));
        Ok(vec![Arc::new(ListArray::try_new(field, offsets(&places)?, Arc::new(Int64Array::from(numbers)), None)?)])
    }

    fn forget(&mut self, count: usize) {
        self.tables.drain(..count.min(self.tables.len()));
    }

    fn row_states(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> DfResult<Vec<ArrayRef>> {
        let rows = values[0].len();
        let mut each = Self::default();
        each.take_in(&values[0], &(0..rows).collect::<Vec<_>>(), filter, false)?;
        each.states(rows)
    }

    fn heap_bytes(&self) -> usize {
        let table = |table: &Table| table.values().map(|(_, back)| 64 + back.capacity() * size_of::<i64>()).sum::<usize>();
        self.tables.capacity() * size_of::<Table>() + self.tables.iter().map(table).sum::<usize>()
    }
}
