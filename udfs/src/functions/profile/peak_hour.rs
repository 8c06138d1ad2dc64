//! `peak_hour(event_time [, time_zone])`

use arrow::datatypes::DataType;
use datafusion::logical_expr::Signature;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion_macros::user_doc;

use super::hours::{Hours, shape};
use crate::error::Result;
use crate::functions::grouped::aggregate;
use crate::functions::typed::Shape;

const SHAPE: Shape = shape("peak_hour");

#[user_doc(
    doc_section(label = "Profile Functions"),
    description = "The hour of the day, 0 to 23, with the most events; the earliest of equals; NULL without rows.",
    syntax_example = "peak_hour(event_time [, time_zone])",
    sql_example = "```sql\nSELECT user_id, peak_hour(event_time, 'Europe/London') AS hours FROM events GROUP BY user_id ORDER BY user_id LIMIT 3;\n```",
    argument(name = "event_time", description = "When; NULLs do not count."),
    argument(
        name = "time_zone",
        description = "Whose hours: an offset such as `+08:00` or a name such as `Asia/Shanghai`, constant; UTC by default."
    ),
    related_udf(name = "active_hours")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct PeakHour {
    signature: Signature,
    aliases: [String; 0],
}

impl PeakHour {
    pub(super) fn new() -> Self {
        Self { signature: SHAPE.signature(), aliases: [] }
    }

    fn kernel(&self, args: &AccumulatorArgs<'_>) -> Result<Hours> {
        Hours::new(&SHAPE, args, true)
    }
}

aggregate!(PeakHour, DataType::Int32);
