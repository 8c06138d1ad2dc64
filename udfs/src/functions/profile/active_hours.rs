//! `active_hours(event_time [, time_zone])`

use arrow::datatypes::DataType;
use datafusion::logical_expr::Signature;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion_macros::user_doc;

use super::hours::{Hours, shape};
use crate::error::Result;
use crate::functions::grouped::aggregate;
use crate::functions::typed::Shape;

const SHAPE: Shape = shape("active_hours");

#[user_doc(
    doc_section(label = "Profile Functions"),
    description = "How many events fall into each hour of the day, as an array of 24 counts from midnight; NULL without rows. peak_hour is its scalar twin.",
    syntax_example = "active_hours(event_time [, time_zone])",
    sql_example = "```sql\nSELECT user_id, active_hours(event_time, 'Europe/London') AS hours FROM events GROUP BY user_id ORDER BY user_id LIMIT 3;\n```",
    argument(name = "event_time", description = "When; NULLs do not count."),
    argument(
        name = "time_zone",
        description = "Whose hours: an offset such as `+08:00` or a name such as `Asia/Shanghai`, constant; UTC by default."
    ),
    related_udf(name = "peak_hour")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ActiveHours {
    signature: Signature,
    aliases: [String; 0],
}

impl ActiveHours {
    pub(super) fn new() -> Self {
        Self { signature: SHAPE.signature(), aliases: [] }
    }

    fn kernel(&self, args: &AccumulatorArgs<'_>) -> Result<Hours> {
        Hours::new(&SHAPE, args, false)
    }
}

aggregate!(ActiveHours, DataType::new_list(DataType::Int64, true));
