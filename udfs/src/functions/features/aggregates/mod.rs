//! Aggregates of the room. Means, deviations, medians, percentiles, correlations and regressions are the engine's: `avg`,
//! `stddev_pop`, `median`, `percentile_cont`, `corr`, `regr_slope` and their like.

mod iqr_bounds;

use std::sync::Arc;

use datafusion::logical_expr::AggregateUDF;

/// The aggregates of the room.
pub(super) fn aggregates() -> Vec<Arc<AggregateUDF>> {
    vec![Arc::new(AggregateUDF::new_from_impl(iqr_bounds::IqrBounds::new()))]
}
