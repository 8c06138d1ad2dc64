//! `pref_vector(key, weight, event_time, half_life [, as_of [, top_n]])`

use arrow::datatypes::DataType;
use datafusion::logical_expr::Signature;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion_macros::user_doc;

use super::decayed::decay;
use super::preferences::{AS_OF, HALF_LIFE, KEY, Prefer, TIME, WEIGHT};
use crate::error::{Error, Result};
use crate::functions::aggregation::{Grouped, Single};
use crate::functions::grouped::aggregate;
use crate::functions::relation::{Argument, Kind};
use crate::functions::typed::{Shape, Want};

const SHAPE: Shape = Shape { name: "pref_vector", arguments: &[KEY, WEIGHT, TIME, HALF_LIFE, AS_OF, ("top_n", Want::Whole)], required: 4 };

#[user_doc(
    doc_section(label = "Profile Functions"),
    description = "What a user prefers: per key (brand, category, price band …) the sum of weights, each halved for every half-life of its age, as a JSON object, the heaviest key first and ties by the key. Rows where key, weight or time is NULL do not count, nor events after as_of; NULL without rows. Without as_of it is the group's newest time. It does not depend on the order or the partitions of the rows. A vector kept from yesterday is brought up to date with pref_vector_add, without reading its events again.",
    syntax_example = "pref_vector(key, weight, event_time, half_life [, as_of [, top_n]])",
    sql_example = "```sql\nSELECT pref_vector(k, w, t, '7 days', TIMESTAMP '2024-01-15') AS likes\nFROM (VALUES ('shoes', 4.0, TIMESTAMP '2024-01-08'), ('bags', 3.0, TIMESTAMP '2024-01-15'), ('shoes', 2.0, TIMESTAMP '2024-01-15')) AS e(k, w, t);\n-- {\"shoes\":4.0,\"bags\":3.0}\n```",
    argument(name = "key", description = "What may be liked."),
    argument(name = "weight", description = "How much an event says: 1 for a view, 5 for a purchase, as you like."),
    argument(name = "event_time", description = "When."),
    argument(name = "half_life", description = "After which a weight counts half: an interval, constant."),
    argument(name = "as_of", description = "The point in time, the same for all rows of a group."),
    argument(name = "top_n", description = "How many keys at most, from 1 to 10000; all by default."),
    related_udf(name = "pref_top"),
    related_udf(name = "pref_vector_add")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct PrefVector {
    signature: Signature,
    aliases: [String; 0],
}

impl PrefVector {
    pub(super) fn new() -> Self {
        Self { signature: SHAPE.signature(), aliases: [] }
    }

    fn kernel(&self, args: &AccumulatorArgs<'_>) -> Result<Prefer> {
        let most = match SHAPE.bound(args, 5, Kind::Integer)? {
            Some(Argument::Integer(most)) if (1..=10_000).contains(&most) => most as usize,
            None => usize::MAX,
            Some(_) => return Err(Error::invalid("argument \"top_n\" of pref_vector must be between 1 and 10000")),
        };
        Ok(Prefer::new(decay(SHAPE.name, SHAPE.constant_duration(args, 3)? as f64)?, Some(most)))
    }
}

aggregate!(PrefVector, DataType::Utf8, Grouped::new, Single::new);
