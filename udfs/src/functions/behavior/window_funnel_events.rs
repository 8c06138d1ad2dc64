//! `window_funnel_events(…)`: when a user took each step of the deepest chain.

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::config::ConfigOptions;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{Documentation, Expr};
use datafusion_macros::user_doc;

use super::arguments::list_of;
use super::events::{EventFunction, Keep, Reader, Shape};
use super::funnel_call::{funnel, settled, shape};
use super::time_lists::TimeLists;
use crate::error::Result;
use crate::kernels::behavior::event_log::Event;
use crate::kernels::behavior::funnel::Funnel;

#[user_doc(
    doc_section(label = "Behavior Functions"),
    description = "The times at which the chain of `window_funnel`, called with the same arguments, takes its steps: as many as its level, none for a group without events. It is the chain that first reaches that level; of chains that reach it at the same moment, the one that began last.",
    syntax_example = "window_funnel_events(window, [mode, …], ts, condition, …)",
    sql_example = "```sql\nSELECT user_id, steps[2] - steps[1] AS until_returned\nFROM (SELECT user_id, window_funnel_events(INTERVAL '30 days', event_time, event_type = 'purchase', event_type = 'return') AS steps\n      FROM events GROUP BY user_id)\nWHERE cardinality(steps) = 2;\n```",
    argument(name = "window", description = "As in `window_funnel`, like all arguments."),
    related_udf(name = "window_funnel")
)]
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct WindowFunnelEvents;

impl EventFunction for WindowFunnelEvents {
    type Reader = Paths;

    fn name(&self) -> &'static str {
        "window_funnel_events"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &[]
    }

    fn shape(&self, types: &[DataType]) -> Result<Shape> {
        shape(self.name(), types)
    }

    fn value_type(&self, shape: &Shape) -> DataType {
        list_of(shape.time_type().clone())
    }

    fn reader(&self, shape: &Shape, args: &AccumulatorArgs) -> DfResult<(Paths, Keep)> {
        let (funnel, keep) = funnel(self.name(), shape, args)?;
        Ok((Paths { funnel: funnel.tracking(), lists: TimeLists::new(shape.time_type()) }, keep))
    }

    fn page(&self) -> Option<&Documentation> {
        self.doc()
    }

    fn has_settings(&self) -> bool {
        true
    }

    fn settled(&self, args: Vec<Expr>, types: &[DataType], options: &ConfigOptions) -> Vec<Expr> {
        settled(self.name(), args, types, options)
    }
}

/// One list of times per group.
#[derive(Debug)]
pub(super) struct Paths {
    funnel: Funnel,
    lists: TimeLists,
}

impl Reader for Paths {
    fn read(&mut self, events: &[Event]) -> DfResult<()> {
        self.funnel.depth(events);
        self.lists.push(self.funnel.path());
        Ok(())
    }

    fn take(&mut self) -> DfResult<ArrayRef> {
        self.lists.take()
    }
}
