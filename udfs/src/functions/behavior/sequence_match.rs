//! `sequence_match(pattern, ts, condition, …)`: whether a pattern of events occurs.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray};
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
    description = "Whether a group's events, in order of time, contain the pattern. Events at one time follow one another by the conditions they satisfy, the first condition first. A NULL condition is false, a row without a time is left out. The search takes linear time whatever the pattern.",
    syntax_example = "sequence_match(pattern, ts, condition, …)",
    sql_example = "```sql\nSELECT user_id FROM events GROUP BY user_id\nHAVING sequence_match('(?1)(?t<=86400)(?2)', event_time, event_type = 'purchase', event_type = 'return');\n```",
    argument(
        name = "pattern",
        description = "`(?N)` is an event that satisfies condition N, `.` any one event, `.*` any number of them; `(?t<=600)` (or `<`, `>`, `>=`, `==`, `!=`) after an event: the next one comes so much later, whatever lies between. Without `.*` or a time events are neighbours."
    ),
    argument(name = "ts", description = "Timestamp, date or whole number; times in the pattern count seconds, days or units."),
    argument(name = "condition", description = "1 to 64 booleans; rows that satisfy none are not seen."),
    related_udf(name = "sequence_count"),
    related_udf(name = "sequence_match_events")
)]
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct SequenceMatch;

impl EventFunction for SequenceMatch {
    type Reader = Answers;

    fn name(&self) -> &'static str {
        "sequence_match"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["sequencematch", "sequenceMatch"]
    }

    fn shape(&self, types: &[DataType]) -> Result<Shape> {
        shape(self.name(), types)
    }

    fn value_type(&self, _: &Shape) -> DataType {
        DataType::Boolean
    }

    fn reader(&self, shape: &Shape, args: &AccumulatorArgs) -> DfResult<(Answers, Keep)> {
        let pattern = pattern(self.name(), shape, args)?;
        Ok((Answers { pattern, search: Search::default(), answers: vec![] }, Keep::default()))
    }

    fn page(&self) -> Option<&Documentation> {
        self.doc()
    }
}

/// One answer per group.
#[derive(Debug)]
pub(super) struct Answers {
    pattern: Pattern,
    search: Search,
    answers: Vec<bool>,
}

impl Reader for Answers {
    fn read(&mut self, events: &[Event]) -> DfResult<()> {
        self.answers.push(self.pattern.matches(events, &mut self.search));
        Ok(())
    }

    fn take(&mut self) -> DfResult<ArrayRef> {
        Ok(Arc::new(BooleanArray::from(std::mem::take(&mut self.answers))))
    }
}
