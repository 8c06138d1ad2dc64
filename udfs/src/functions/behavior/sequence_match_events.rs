//! `sequence_match_events(pattern, ts, condition, …)`: when the events of a pattern occurred.

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::Documentation;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion_macros::user_doc;

use super::arguments::list_of;
use super::events::{EventFunction, Keep, Reader, Shape};
use super::sequence_call::{pattern, shape};
use super::time_lists::TimeLists;
use crate::error::Result;
use crate::kernels::behavior::event_log::Event;
use crate::kernels::behavior::sequence::{Pattern, Search};

#[user_doc(
    doc_section(label = "Behavior Functions"),
    description = "The times of the events of the earliest match of `sequence_match`, one for each `(?N)`; an empty array when there is no match.",
    syntax_example = "sequence_match_events(pattern, ts, condition, …)",
    sql_example = "```sql\nSELECT user_id, sequence_match_events('(?1).*(?2)', event_time, event_type = 'purchase', event_type = 'return') AS at\nFROM events GROUP BY user_id ORDER BY user_id LIMIT 10;\n```",
    argument(
        name = "pattern",
        description = "`(?N)` is an event that satisfies condition N, `.` any one event, `.*` any number of them; `(?t<=600)` (or `<`, `>`, `>=`, `==`, `!=`) after an event: the next one comes so much later, whatever lies between. Without `.*` or a time events are neighbours."
    ),
    argument(name = "ts", description = "Timestamp, date or whole number; times in the pattern count seconds, days or units."),
    argument(name = "condition", description = "1 to 64 booleans; rows that satisfy none are not seen."),
    related_udf(name = "sequence_match")
)]
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct SequenceMatchEvents;

impl EventFunction for SequenceMatchEvents {
    type Reader = Matches;

    fn name(&self) -> &'static str {
        "sequence_match_events"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["sequencematchevents", "sequenceMatchEvents"]
    }

    fn shape(&self, types: &[DataType]) -> Result<Shape> {
        shape(self.name(), types)
    }

    fn value_type(&self, shape: &Shape) -> DataType {
        list_of(shape.time_type().clone())
    }

    fn reader(&self, shape: &Shape, args: &AccumulatorArgs) -> DfResult<(Matches, Keep)> {
        let pattern = pattern(self.name(), shape, args)?;
        Ok((Matches { pattern, search: Search::default(), lists: TimeLists::new(shape.time_type()) }, Keep::default()))
    }

    fn page(&self) -> Option<&Documentation> {
        self.doc()
    }
}

/// One list of times per group.
#[derive(Debug)]
pub(super) struct Matches {
    pattern: Pattern,
    search: Search,
    lists: TimeLists,
}

impl Reader for Matches {
    fn read(&mut self, events: &[Event]) -> DfResult<()> {
        self.lists.push(&self.pattern.first(events, &mut self.search).unwrap_or_default());
        Ok(())
    }

    fn take(&mut self) -> DfResult<ArrayRef> {
        self.lists.take()
    }
}
