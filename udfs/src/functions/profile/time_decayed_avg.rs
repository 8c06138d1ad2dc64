//! `time_decayed_avg(value, event_time, half_life [, as_of])`

use arrow::datatypes::DataType;
use datafusion::logical_expr::Signature;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion_macros::user_doc;

use super::decayed::{Decayed, Output, Places, decay};
use crate::error::Result;
use crate::functions::grouped::aggregate;
use crate::functions::typed::{Shape, Want};

const SHAPE: Shape = Shape {
    name: "time_decayed_avg",
    arguments: &[("value", Want::Number), ("event_time", Want::Time), ("half_life", Want::Duration), ("as_of", Want::Time)],
    required: 3,
};

#[user_doc(
    doc_section(label = "Profile Functions"),
    description = "The mean of values, the newer weighing more: each weighs half for every half-life of its age. Events after as_of do not count, nor rows where an argument is NULL; NULL without rows. Without as_of it is the group's newest time. The sum is exact before its one rounding: it does not depend on the order or the partitions of the rows.",
    syntax_example = "time_decayed_avg(value, event_time, half_life [, as_of])",
    sql_example = "```sql\nSELECT time_decayed_avg(v, t, '7 days') AS mean\nFROM (VALUES (8.0, TIMESTAMP '2024-01-01'), (3.0, TIMESTAMP '2024-01-15')) AS e(v, t);\n-- 4\n```",
    argument(name = "value", description = "What is summed."),
    argument(name = "event_time", description = "When."),
    argument(name = "half_life", description = "After which a term counts half: an interval, constant."),
    argument(name = "as_of", description = "The point in time, the same for all rows of a group.")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct TimeDecayedAvg {
    signature: Signature,
    aliases: [String; 0],
}

impl TimeDecayedAvg {
    pub(super) fn new() -> Self {
        Self { signature: SHAPE.signature(), aliases: [] }
    }

    fn kernel(&self, args: &AccumulatorArgs<'_>) -> Result<Decayed> {
        let decay = decay(SHAPE.name, SHAPE.constant_duration(args, 3 - 1)? as f64)?;
        Ok(Decayed { decay, output: Output::Average, places: Places { value: Some(0), time: 1, as_of: Some(3) } })
    }
}

aggregate!(TimeDecayedAvg, DataType::Float64);
