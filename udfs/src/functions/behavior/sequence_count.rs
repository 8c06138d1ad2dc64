//! `sequence_count(pattern, ts, condition, …)`: how often a pattern of events occurs.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::DataType;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::Documentation;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion_macros::user_doc;

use super::events::{EventFunction, Keep, Reader, Shape};
use super::sequence_call::{pattern, shape};
use crate::error::Result;
use crate::kernels::behavior::event_log::Event;
use crate::kernels::behavior::sequence::{Pattern, Search};

#[user_doc(
    doc_section(label = "Behavior Functions"),
    description = "How often a group's events contain the pattern of `sequence_match`, without overlap: the search goes on behind each match.",
    syntax_example = "sequence_count(pattern, ts, condition, …)",
    sql_example = "```sql\nSELECT user_id, sequence_count('(?1).*(?2)', event_time, event_type = 'purchase', event_type = 'return') AS regrets\nFROM events GROUP BY user_id ORDER BY regrets DESC, user_id LIMIT 10;\n```",
    argument(
        name = "pattern",
        description = "`(?N)` is an event that satisfies condition N, `.` any one event, `.*` any number of them; `(?t<=600)` (or `<`, `>`, `>=`, `==`, `!=`) after an event: the next one comes so much later, whatever lies between. Without `.*` or a time events are neighbours."
    ),
    argument(name = "ts", description = "Timestamp, date or whole number; times in the pattern count seconds, days or units."),
    argument(name = "condition", description = "1 to 64 booleans; rows that satisfy none are not seen."),
    related_udf(name = "sequence_match")
)]
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct SequenceCount;

impl EventFunction for SequenceCount {
    type Reader = Counts;

    fn name(&self) -> &'static str {
        "sequence_count"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["sequencecount", "sequenceCount"]
    }

    fn shape(&self, types: &[DataType]) -> Result<Shape> {
        shape(self.name(), types)
    }

    fn value_type(&self, _: &Shape) -> DataType {
        DataType::Int64
    }

    fn reader(&self, shape: &Shape, args: &AccumulatorArgs) -> DfResult<(Counts, Keep)> {
        let pattern = pattern(self.name(), shape, args)?;
        Ok((Counts { pattern, search: Search::default(), counts: vec![] }, Keep::default()))
    }

    fn page(&self) -> Option<&Documentation> {
        self.doc()
    }
}

/// One number per group.
#[derive(Debug)]
pub(super) struct Counts {
    pattern: Pattern,
    search: Search,
    counts: Vec<i64>,
}

impl Reader for Counts {
    fn read(&mut self, events: &[Event]) -> DfResult<()> {
        self.counts.push(i64::try_from(self.pattern.count(events, &mut self.search)).unwrap_or(i64::MAX));
        Ok(())
    }

    fn take(&mut self) -> DfResult<ArrayRef> {
        Ok(Arc::new(Int64Array::from(std::mem::take(&mut self.counts))))
    }
}
