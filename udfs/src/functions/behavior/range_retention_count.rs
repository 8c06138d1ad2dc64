//! `range_retention_count(is_first, is_active, dt, intervals [, granularity [, format]])`: when a user began, and came back.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::Documentation;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion_macros::user_doc;

use super::arguments::{constant, constant_text, is_condition, list_of, no_such_call};
use super::events::{Conditions, EventFunction, Keep, Reader, Shape};
use super::reading::list_items;
use super::time_lists::TimeLists;
use crate::error::{Error, Result};
use crate::kernels::behavior::calendar::Granularity;
use crate::kernels::behavior::event_log::Event;
use crate::kernels::behavior::retention::by_distance;

const NAME: &str = "range_retention_count";
/// Intervals that one call may ask for.
const INTERVALS_MAX: usize = 366;

#[user_doc(
    doc_section(label = "Behavior Functions"),
    description = "For each period in which a user began, whether the user was active exactly 1, 3, 7, … periods later: an array for `range_retention_sum`, holding for each such period its first day (days since 1970-01-01), the number of intervals, and 1 or 0 for each of them. `retention_matrix` gives the same as rows.",
    syntax_example = "range_retention_count(is_first, is_active, dt, intervals [, granularity [, format]])",
    sql_example = "```sql\nSELECT range_retention_sum(r)\nFROM (SELECT user_id, range_retention_count(event_type = 'purchase', event_type = 'purchase', event_time::date, ARRAY[1, 2, 3], 'month') AS r\n      FROM events GROUP BY user_id);\n```",
    argument(name = "is_first", description = "A boolean: the row makes the user begin."),
    argument(name = "is_active", description = "A boolean: the row counts as coming back."),
    argument(name = "dt", description = "A date or timestamp; of a timestamp the day in its own time zone."),
    argument(name = "intervals", description = "An array of whole numbers, not negative, at most 366."),
    argument(name = "granularity", description = "`day` (the default), `week` (from Monday) or `month`."),
    argument(
        name = "format",
        description = "`normal` (the default): the intervals as they are; `expand`: every interval from 1 to the largest."
    ),
    related_udf(name = "range_retention_sum")
)]
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct RangeRetentionCount;

impl EventFunction for RangeRetentionCount {
    type Reader = Periods;

    fn name(&self) -> &'static str {
        NAME
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["retention_range_count"]
    }

    fn shape(&self, given: &[DataType]) -> Result<Shape> {
        let unknown = || no_such_call(NAME, given, &[&format!("{NAME}(is_first, is_active, dt, intervals [, granularity [, format]])")]);
        let [first, active, date, intervals, words @ ..] = given else { return Err(unknown()) };
        let (DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _)) = intervals else {
            return Err(unknown());
        };
        let dated = matches!(date, DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) | DataType::Null);
        let fits = is_condition(first) && is_condition(active) && dated && item.data_type().is_integer();
        if !fits || words.len() > 2 || !words.iter().all(DataType::is_string) {
            return Err(unknown());
        }
        let mut types = vec![DataType::Boolean, DataType::Boolean, DataType::Date32, list_of(DataType::Int64)];
        types.extend(words.iter().cloned());
        Ok(Shape { time: 2, conditions: Conditions::Columns(0..2), types })
    }

    fn value_type(&self, _: &Shape) -> DataType {
        list_of(DataType::Int64)
    }

    fn reader(&self, _: &Shape, args: &AccumulatorArgs) -> DfResult<(Periods, Keep)> {
        let wrong =
            || Error::invalid(format!("the intervals of {NAME} must be whole numbers, not negative, at most {INTERVALS_MAX} of them"));
        let value = constant(NAME, "intervals", &args.exprs[3])?;
        let items = list_items(&value).ok_or_else(wrong)?;
        let items = items.as_primitive_opt::<Int64Type>().filter(|items| items.null_count() == 0).ok_or_else(wrong)?;
        let mut intervals = items.values().to_vec();
        let word = |at: usize, name: &str| args.exprs.get(at).map(|expr| constant_text(NAME, name, expr)).transpose();
        let granularity = word(4, "granularity")?.unwrap_or_else(|| "day".to_owned());
        let refuse = |what: &str, given: &str, words: &str| {
            Error::invalid(format!("the {what} of {NAME} cannot be \"{given}\"")).hint(format!("It is {words}."))
        };
        match word(5, "format")?.as_deref() {
            None | Some("normal") => {}
            Some("expand") => intervals = (1..=intervals.iter().copied().max().unwrap_or(0).min(INTERVALS_MAX as i64 + 1)).collect(),
            Some(other) => return Err(refuse("format", other, "normal or expand").into()),
        }
        if intervals.is_empty() || intervals.len() > INTERVALS_MAX || intervals.iter().any(|interval| *interval < 0) {
            return Err(wrong().into());
        }
        let granularity = Granularity::named(&granularity).ok_or_else(|| refuse("granularity", &granularity, "day, week or month"))?;
        Ok((Periods { granularity, intervals, lists: TimeLists::new(&DataType::Int64) }, Keep::default()))
    }

    fn page(&self) -> Option<&Documentation> {
        self.doc()
    }
}

#[derive(Debug)]
pub(super) struct Periods {
    granularity: Granularity,
    intervals: Vec<i64>,
    lists: TimeLists,
}

impl Reader for Periods {
    fn read(&mut self, events: &[Event]) -> DfResult<()> {
        let periods: Vec<Event> =
            events.iter().map(|event| Event { time: self.granularity.period(event.time), mask: event.mask }).collect();
        let mut found = vec![];
        by_distance(&periods, &self.intervals, &mut |period, active| {
            found.push(self.granularity.begin(period));
            found.push(self.intervals.len() as i64);
            found.extend(active.map(i64::from));
        });
        self.lists.push(&found);
        Ok(())
    }

    fn take(&mut self) -> DfResult<ArrayRef> {
        self.lists.take()
    }
}
