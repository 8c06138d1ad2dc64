//! `sequence_next_node(direction, base, ts, value, base_condition, event, …)`: what comes next to a chain of events.

use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListArray, StringArray, StringBuilder, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, UInt64Type};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Documentation, GroupsAccumulator, Signature, Volatility};
use datafusion_macros::user_doc;

use super::arguments::{constant_text, is_condition, list_of, no_such_call, time_type, times};
use super::events::{Conditions, offsets, read_masks, refuse_distinct};

use crate::error::{Error, Result};
use crate::functions::aggregation::{Aggregation, Grouped, Single};
use crate::kernels::behavior::next_node::{Base, Direction, Node, next_node};
use crate::kernels::intern::Interner;

const NAME: &str = "sequence_next_node";
/// One bit of a mask is the base condition's.
const EVENTS_MAX: usize = 63;

#[user_doc(
    doc_section(label = "Behavior Functions"),
    description = "The value of the row next to a chain of events, as ClickHouse's `sequenceNextNode`: from a base row, the rows that follow it (`forward`) or precede it (`backward`) must satisfy the events one by one; the value of the row after them is returned, NULL when there is no base, no such chain or no such row. The base is the first row of all (`head`), the last (`tail`), or the first or last row that satisfies the base condition and the first event (`first_match`, `last_match`); head and tail must satisfy the base condition. Rows are ordered by time, then by value, then by the conditions they satisfy; a NULL value comes last.",
    syntax_example = "sequence_next_node(direction, base, ts, value, base_condition, event, …)",
    sql_example = "```sql\nSELECT next, count(*) AS users\nFROM (SELECT user_id, sequence_next_node('forward', 'first_match', event_time, event_type, true, event_type = 'return') AS next\n      FROM events GROUP BY user_id)\nGROUP BY next ORDER BY users DESC;\n```",
    argument(name = "direction", description = "`forward` or `backward`."),
    argument(
        name = "base",
        description = "`head`, `tail`, `first_match` or `last_match`; forward from the tail and backward from the head lead nowhere."
    ),
    argument(name = "ts", description = "Timestamp, date or whole number; rows without a time are left out."),
    argument(name = "value", description = "What is returned, as text."),
    argument(name = "base_condition", description = "A boolean: whether the row may be the base."),
    argument(name = "event", description = "1 to 63 booleans."),
    related_udf(name = "sequence_match")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct SequenceNextNode {
    signature: Signature,
    aliases: Vec<String>,
}

impl SequenceNextNode {
    pub(super) fn new() -> Self {
        let aliases = vec!["sequencenextnode".to_owned(), "sequenceNextNode".to_owned()];
        Self { signature: Signature::user_defined(Volatility::Immutable), aliases }
    }
}

fn types(given: &[DataType]) -> Result<Vec<DataType>> {
    let unknown = || no_such_call(NAME, given, &[&format!("{NAME}(direction, base, ts, value, base_condition, event, …)")]);
    let [direction, base, time, value, conditions @ ..] = given else { return Err(unknown()) };
    let time = time_type(time).filter(|_| direction.is_string() && base.is_string()).ok_or_else(unknown)?;
    if value.is_nested() || conditions.len() < 2 || !conditions.iter().all(is_condition) {
        return Err(unknown());
    }
    if conditions.len() > EVENTS_MAX + 1 {
        return Err(
            Error::invalid(format!("{NAME} takes at most {EVENTS_MAX} events")).detail(format!("{} were given.", conditions.len() - 1))
        );
    }
    let mut types = vec![direction.clone(), base.clone(), time, DataType::Utf8];
    types.resize(given.len(), DataType::Boolean);
    Ok(types)
}

fn nodes(args: &AccumulatorArgs) -> DfResult<Nodes> {
    refuse_distinct(NAME, args)?;
    let wrong = |what: &str, given: &str, words: &str| {
        Error::invalid(format!("the {what} of {NAME} cannot be \"{given}\"")).hint(format!("It is {words}."))
    };
    let direction = constant_text(NAME, "direction", &args.exprs[0])?;
    let base = constant_text(NAME, "base", &args.exprs[1])?;
    let direction = match direction.as_str() {
        "forward" => Direction::Forward,
        "backward" => Direction::Backward,
        other => return Err(wrong("direction", other, "forward or backward").into()),
    };
    let base = match (base.as_str(), direction) {
        ("head", Direction::Forward) => Base::Head,
        ("tail", Direction::Backward) => Base::Tail,
        ("first_match", _) => Base::FirstMatch,
        ("last_match", _) => Base::LastMatch,
        ("head" | "tail", _) => return Err(Error::invalid("forward from the tail and backward from the head lead nowhere").into()),
        (other, _) => return Err(wrong("base", other, "head, tail, first_match or last_match").into()),
    };
    Ok(Nodes { events: args.exprs.len() - 5, direction, base, rows: vec![], texts: Interner::default(), masks: vec![], end: 0 })
}

impl AggregateUDFImpl for SequenceNextNode {
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
        Ok(DataType::Utf8)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        Ok(Box::new(Single::new(nodes(&args)?)))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Grouped::new(nodes(&args)?)))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> DfResult<Vec<FieldRef>> {
        let field = |part: &str, item| Arc::new(Field::new(format_state_name(args.name, part), list_of(item), true));
        Ok(vec![field("times", DataType::Int64), field("masks", DataType::UInt64), field("values", DataType::Utf8)])
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }
}

/// A row of a group; its value is a code of the texts.
#[derive(Debug, Clone, Copy)]
struct Row {
    group: u32,
    value: Option<u32>,
    node: Node,
}

/// All rows with a time: 32 bytes each, and every different value once.
#[derive(Debug)]
struct Nodes {
    events: usize,
    direction: Direction,
    base: Base,
    rows: Vec<Row>,
    texts: Interner,
    masks: Vec<u64>,
    /// Where the groups of the last [`arrange`](Self::arrange) end.
    end: usize,
}

impl Nodes {
    #[allow(clippy::cast_possible_truncation, reason = "the number of groups was checked")]
    fn push(&mut self, group: usize, time: i64, mask: u64, value: Option<&str>) {
        let value = value.map(|value| self.texts.intern(value));
        self.rows.push(Row { group: group as u32, value, node: Node { time, mask } });
    }

    /// Sorts the rows by group, time, value and mask, and says where each of the first `count` groups begins.
    fn arrange(&mut self, count: usize) -> Vec<usize> {
        let texts = &self.texts;
        let text = |row: &Row| (row.value.is_none(), row.value.map_or("", |value| texts.get(value)));
        self.rows.sort_unstable_by(|a, b| {
            let by_time = (a.group, a.node.time).cmp(&(b.group, b.node.time));
            by_time.then_with(|| text(a).cmp(&text(b))).then_with(|| a.node.mask.cmp(&b.node.mask))
        });
        let places: Vec<usize> = (0..=count).map(|group| self.rows.partition_point(|row| (row.group as usize) < group)).collect();
        self.end = places.last().copied().unwrap_or(0);
        places
    }

    fn value(&self, row: &Row) -> Option<&str> {
        row.value.map(|value| self.texts.get(value))
    }
}

/// The rows of a batch that FILTER leaves and that have a time.
fn kept<'a>(times: &'a Int64Array, filter: Option<&'a BooleanArray>) -> impl Iterator<Item = usize> + 'a {
    (0..times.len()).filter(move |row| times.is_valid(*row) && filter.is_none_or(|filter| filter.is_valid(*row) && filter.value(*row)))
}

fn texts(array: &ArrayRef) -> DfResult<StringArray> {
    let array = cast(array, &DataType::Utf8)?;
    array.as_string_opt::<i32>().cloned().ok_or_else(|| Error::internal("values are no texts").into())
}

fn text(array: &StringArray, row: usize) -> Option<&str> {
    array.is_valid(row).then(|| array.value(row))
}

/// The lists of a partial state.
fn lists(places: &[usize], times: Vec<i64>, masks: Vec<u64>, values: StringArray) -> DfResult<Vec<ArrayRef>> {
    let offsets = offsets(places)?;
    let list = |items: ArrayRef| -> DfResult<ArrayRef> {
        let field = Arc::new(Field::new_list_field(items.data_type().clone(), true));
        Ok(Arc::new(ListArray::try_new(field, offsets.clone(), items, None)?))
    };
    Ok(vec![list(Arc::new(Int64Array::from(times)))?, list(Arc::new(UInt64Array::from(masks)))?, list(Arc::new(values))?])
}

impl Aggregation for Nodes {
    fn update(&mut self, values: &[ArrayRef], groups: &[usize], filter: Option<&BooleanArray>) -> DfResult<()> {
        let times = times(&values[2])?;
        let shown = texts(&values[3])?;
        let mut masks = std::mem::take(&mut self.masks);
        read_masks(&Conditions::Columns(4..values.len()), values, times.len(), &mut masks)?;
        for row in kept(&times, filter) {
            self.push(groups[row], times.value(row), masks[row], text(&shown, row));
        }
        self.masks = masks;
        Ok(())
    }

    fn merge(&mut self, states: &[ArrayRef], groups: &[usize]) -> DfResult<()> {
        let wrong = || Error::internal("a partial result has the wrong type");
        let [times, masks, values] = states else { return Err(wrong().into()) };
        let list = |array: &'_ ArrayRef| array.as_list_opt::<i32>().cloned().ok_or_else(wrong);
        let (times, masks, values) = (list(times)?, list(masks)?, list(values)?);
        for (row, group) in groups.iter().enumerate().filter(|(row, _)| times.is_valid(*row)) {
            let (times, masks, values) = (times.value(row), masks.value(row), values.value(row));
            let (times, masks) = (times.as_primitive_opt::<Int64Type>(), masks.as_primitive_opt::<UInt64Type>());
            let (times, masks, values) =
                (times.ok_or_else(wrong)?, masks.ok_or_else(wrong)?, values.as_string_opt::<i32>().ok_or_else(wrong)?);
            for at in 0..times.len() {
                self.push(*group, times.value(at), masks.value(at), text(values, at));
            }
        }
        Ok(())
    }

    fn values(&mut self, count: usize) -> DfResult<ArrayRef> {
        let places = self.arrange(count);
        let mut found = StringBuilder::new();
        let mut history: Vec<Node> = vec![];
        for place in places.windows(2) {
            let rows = &self.rows[place[0]..place[1]];
            history.clear();
            history.extend(rows.iter().map(|row| row.node));
            let next = next_node(&history, self.events, self.direction, self.base);
            found.append_option(next.and_then(|at| self.value(&rows[at])));
        }
        Ok(Arc::new(found.finish()))
    }

    fn states(&mut self, count: usize) -> DfResult<Vec<ArrayRef>> {
        let places = self.arrange(count);
        let rows = &self.rows[..self.end];
        let (times, masks) = rows.iter().map(|row| (row.node.time, row.node.mask)).unzip();
        lists(&places, times, masks, rows.iter().map(|row| self.value(row)).collect())
    }

    fn forget(&mut self, count: usize) {
        self.rows.drain(..self.end);
        self.end = 0;
        if self.rows.is_empty() {
            self.rows = vec![];
            self.texts = Interner::default();
        }
        let shift = u32::try_from(count).unwrap_or(u32::MAX);
        self.rows.iter_mut().for_each(|row| row.group = row.group.saturating_sub(shift));
    }

    fn row_states(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> DfResult<Vec<ArrayRef>> {
        let all = times(&values[2])?;
        let shown = texts(&values[3])?;
        let mut masks = vec![];
        read_masks(&Conditions::Columns(4..values.len()), values, all.len(), &mut masks)?;
        let rows: Vec<usize> = kept(&all, filter).collect();
        let mut places = vec![0];
        places.extend((0..all.len()).map(|row| rows.partition_point(|kept| *kept <= row)));
        let (times, masks) = rows.iter().map(|row| (all.value(*row), masks[*row])).unzip();
        lists(&places, times, masks, rows.iter().map(|row| text(&shown, *row)).collect())
    }

    fn heap_bytes(&self) -> usize {
        self.rows.capacity() * size_of::<Row>() + self.texts.bytes() + self.masks.capacity() * size_of::<u64>()
    }
}
