//! `window_funnel(window, [mode, …], ts, condition, …)`: how many steps of a chain a user takes within a window.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array};
use arrow::datatypes::DataType;
use datafusion::config::ConfigOptions;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{Documentation, Expr};
use datafusion_macros::user_doc;

use super::events::{EventFunction, Keep, Reader, Shape};
use super::funnel_call::{funnel, settled, shape};
use crate::error::Result;
use crate::kernels::behavior::event_log::Event;
use crate::kernels::behavior::funnel::Funnel;

#[user_doc(
    doc_section(label = "Behavior Functions"),
    description = "How many of the conditions a group's events satisfy one after another, the last at most `window` after the first (inclusive). Events at one time count as if the first step came first, and one row may take several steps; `once` forbids that. A NULL condition is false, a row without a time is left out, a group without events is 0. Modes: `once` (`strict_once`), `strict_increase` (each step later than the one before), `strict_order` (any other event ends the search), `allow_reentry` (with strict_order: a step that comes too early is passed over), `strict_deduplication` (a step taken again ends the search); Doris's `deduplication`, `fixed`, `increase`; with an array of conditions StarRocks's sum of 1 (deduplication), 2 (fixed) and 4 (increase). `SET funnel_compat` chooses whose meaning counts where engines differ. The result depends on no order of rows.",
    syntax_example = "window_funnel(window, [mode, …], ts, condition, …)",
    sql_example = "```sql\nSELECT level, count(*) AS users\nFROM (SELECT user_id, window_funnel(INTERVAL '7 days', 'once', event_time, event_type = 'purchase', event_type = 'return') AS level\n      FROM events GROUP BY user_id)\nGROUP BY level ORDER BY level;\n```",
    argument(name = "window", description = "An interval, or a whole number: seconds of timestamps, days of dates, units of numbers."),
    argument(name = "mode", description = "Words as above, in one text with commas or in several."),
    argument(name = "ts", description = "Timestamp, date or whole number."),
    argument(name = "condition", description = "1 to 64 booleans, or one array of them: `(window, ts, mode, ARRAY[…])`."),
    related_udf(name = "window_funnel_events")
)]
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct WindowFunnel;

impl EventFunction for WindowFunnel {
    type Reader = Depths;

    fn name(&self) -> &'static str {
        "window_funnel"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["windowfunnel", "windowFunnel"]
    }

    fn shape(&self, types: &[DataType]) -> Result<Shape> {
        shape(self.name(), types)
    }

    fn value_type(&self, _: &Shape) -> DataType {
        DataType::Int32
    }

    fn reader(&self, shape: &Shape, args: &AccumulatorArgs) -> DfResult<(Depths, Keep)> {
        let (funnel, keep) = funnel(self.name(), shape, args)?;
        Ok((Depths { funnel, depths: vec![] }, keep))
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

/// One number per group.
#[derive(Debug)]
pub(super) struct Depths {
    funnel: Funnel,
    depths: Vec<i32>,
}

impl Reader for Depths {
    fn read(&mut self, events: &[Event]) -> DfResult<()> {
        self.depths.push(i32::try_from(self.funnel.depth(events)).unwrap_or(i32::MAX));
        Ok(())
    }

    fn take(&mut self) -> DfResult<ArrayRef> {
        Ok(Arc::new(Int32Array::from(std::mem::take(&mut self.depths))))
    }
}
