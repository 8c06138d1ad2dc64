//! `pref_top(key, weight, event_time, half_life [, as_of])`

use arrow::datatypes::DataType;
use datafusion::logical_expr::Signature;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion_macros::user_doc;

use super::decayed::decay;
use super::preferences::{AS_OF, HALF_LIFE, KEY, Prefer, TIME, WEIGHT};
use crate::error::Result;
use crate::functions::aggregation::{Grouped, Single};
use crate::functions::grouped::aggregate;
use crate::functions::typed::Shape;

const SHAPE: Shape = Shape { name: "pref_top", arguments: &[KEY, WEIGHT, TIME, HALF_LIFE, AS_OF], required: 4 };

#[user_doc(
    doc_section(label = "Profile Functions"),
    description = "The key that a user prefers: the first of pref_vector, as text. With price_band as the key it is the preferred price band. NULL without rows.",
    syntax_example = "pref_top(key, weight, event_time, half_life [, as_of])",
    sql_example = "```sql\nSELECT user_id, pref_top(item_id, quantity, event_time, '30 days') AS favourite FROM events GROUP BY user_id ORDER BY user_id LIMIT 3;\n```",
    argument(name = "key", description = "What may be liked."),
    argument(name = "weight", description = "How much an event says."),
    argument(name = "event_time", description = "When."),
    argument(name = "half_life", description = "After which a weight counts half: an interval, constant."),
    argument(name = "as_of", description = "Events after it do not count."),
    related_udf(name = "pref_vector")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct PrefTop {
    signature: Signature,
    aliases: [String; 0],
}

impl PrefTop {
    pub(super) fn new() -> Self {
        Self { signature: SHAPE.signature(), aliases: [] }
    }

    fn kernel(&self, args: &AccumulatorArgs<'_>) -> Result<Prefer> {
        Ok(Prefer::new(decay(SHAPE.name, SHAPE.constant_duration(args, 3)? as f64)?, None))
    }
}

aggregate!(PrefTop, DataType::Utf8, Grouped::new, Single::new);
