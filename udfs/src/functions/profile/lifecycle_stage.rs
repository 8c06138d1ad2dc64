//! `lifecycle_stage(event_time, as_of, period)`

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringArray};
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use datafusion::logical_expr::Signature;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion_macros::user_doc;

use crate::error::Result;
use crate::functions::grouped::{Kernel, Rows, State, States, aggregate};
use crate::functions::typed::{Shape, Want};
use crate::kernels::profile::lifecycle::{Activity, Stage};
use crate::kernels::stats::wire::Reader;

const SHAPE: Shape = Shape {
    name: "lifecycle_stage",
    arguments: &[("event_time", Want::Time), ("as_of", Want::Time), ("period", Want::Duration)],
    required: 3,
};

#[user_doc(
    doc_section(label = "Profile Functions"),
    description = "Where a user is in the life cycle, by the period that ends at as_of and the one before it: `new` (first events in this period), `returning` (events in both), `resurrected` (events in this one, none in the one before, some earlier), `dormant` (events in the one before, none in this one), `churned` (only earlier ones). A period holds its end, not its beginning. Events after as_of do not count; NULL without events.",
    syntax_example = "lifecycle_stage(event_time, as_of, period)",
    sql_example = "```sql\nSELECT stage, count(*) AS users\nFROM (SELECT user_id, lifecycle_stage(event_time, TIMESTAMP '2011-03-01', '30 days') AS stage FROM events GROUP BY user_id)\nWHERE stage IS NOT NULL GROUP BY stage ORDER BY stage;\n```",
    argument(name = "event_time", description = "When; NULLs do not count."),
    argument(name = "as_of", description = "The point in time."),
    argument(name = "period", description = "How long a period is: an interval, constant.")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct LifecycleStage {
    signature: Signature,
    aliases: [String; 0],
}

impl LifecycleStage {
    pub(super) fn new() -> Self {
        Self { signature: SHAPE.signature(), aliases: [] }
    }

    fn kernel(&self, args: &AccumulatorArgs<'_>) -> Result<Periods> {
        Ok(Periods { period_us: SHAPE.constant_duration(args, 2)? })
    }
}

#[derive(Debug, Clone)]
struct Periods {
    period_us: i64,
}

impl State for Activity {
    fn heap_bytes(&self) -> usize {
        0
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.current) | u8::from(self.previous) << 1 | u8::from(self.earlier) << 2);
    }

    fn decode(from: &mut Reader<'_>) -> Option<Self> {
        let bits = from.byte()?;
        Some(Self { current: bits & 1 != 0, previous: bits & 2 != 0, earlier: bits & 4 != 0 })
    }

    fn merge(&mut self, other: Self) -> Result<()> {
        Self::merge(self, other);
        Ok(())
    }
}

impl Kernel for Periods {
    type State = Activity;

    fn update(&self, rows: &Rows<'_>, states: &mut States<Self::State>) -> Result<()> {
        let (times, as_of) = (rows.numbers::<TimestampMicrosecondType>(0)?, rows.numbers::<TimestampMicrosecondType>(1)?);
        for (row, group) in rows.iter().filter(|(row, _)| times.is_valid(*row) && as_of.is_valid(*row)) {
            states.change(group, |activity| activity.add(times.value(row), as_of.value(row), self.period_us))?;
        }
        Ok(())
    }

    fn finish(&self, states: &mut [Self::State]) -> Result<ArrayRef> {
        Ok(Arc::new(states.iter().map(|activity| activity.stage().map(Stage::name)).collect::<StringArray>()))
    }
}

aggregate!(LifecycleStage, DataType::Utf8);
