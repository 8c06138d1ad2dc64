//! Profiles of users: decaying sums, preferences, recency–frequency–money, life cycle, life-time value, features as of a point in
//! time, cards.
//!
//! Aggregates (`time_decayed_sum`, `pref_vector`, `lifecycle_stage`, …) work per group of any query; table functions read a whole
//! source of events, whose columns they recognise as training does. One user's `profile_card` and `profile_timeline` look up that
//! user's history alone, through the history provider of the context.
//!
//! Life of an aggregate: as `experiment`. Life of a table function: the source becomes canonical columns (user, time, value …) →
//! the engine aggregates or sorts them, spilling → rows leave in the order of the users. Time stands still: `as_of` defaults to
//! the largest event time, never to the clock, and events after it do not exist.
//!
//! What this room must never know: models, and how a server finds a history.

mod active_hours;
mod as_of_pairs;
mod bgnbd_fit;
mod decayed;
mod events;
mod exponential_time_decayed;
mod features_asof;
mod hours;
mod lifecycle_stage;
mod lifetime;
mod ltv_bgnbd;
mod orders;
mod peak_hour;
mod pref_top;
mod pref_vector;
mod pref_vector_add;
mod preferences;
mod price_band;
mod profile_card;
mod profile_timeline;
mod rfm;
mod rfm_bounds;
mod rfm_scores;
mod time_decayed_avg;
mod time_decayed_count;
mod time_decayed_sum;

use std::sync::Arc;

use datafusion::logical_expr::{AggregateUDF, ScalarUDF};

use super::package::Package;

/// The functions of this room.
pub fn package() -> Package {
    Package {
        scalars: vec![
            Arc::new(ScalarUDF::new_from_impl(pref_vector_add::PrefVectorAdd::new())),
            Arc::new(ScalarUDF::new_from_impl(price_band::PriceBand::new())),
        ],
        aggregates: vec![
            Arc::new(AggregateUDF::new_from_impl(active_hours::ActiveHours::new())),
            Arc::new(AggregateUDF::new_from_impl(exponential_time_decayed::avg())),
            Arc::new(AggregateUDF::new_from_impl(exponential_time_decayed::count())),
            Arc::new(AggregateUDF::new_from_impl(exponential_time_decayed::sum())),
            Arc::new(AggregateUDF::new_from_impl(lifecycle_stage::LifecycleStage::new())),
            Arc::new(AggregateUDF::new_from_impl(peak_hour::PeakHour::new())),
            Arc::new(AggregateUDF::new_from_impl(pref_top::PrefTop::new())),
            Arc::new(AggregateUDF::new_from_impl(pref_vector::PrefVector::new())),
            Arc::new(AggregateUDF::new_from_impl(time_decayed_avg::TimeDecayedAvg::new())),
            Arc::new(AggregateUDF::new_from_impl(time_decayed_count::TimeDecayedCount::new())),
            Arc::new(AggregateUDF::new_from_impl(time_decayed_sum::TimeDecayedSum::new())),
        ],
        windows: Vec::new(),
        relations: vec![
            Arc::new(bgnbd_fit::BgNbdFit),
            Arc::new(features_asof::FeaturesAsof),
            Arc::new(ltv_bgnbd::LtvBgNbd),
            Arc::new(profile_card::ProfileCard),
            Arc::new(profile_timeline::ProfileTimeline),
            Arc::new(rfm_bounds::RfmBounds),
            Arc::new(rfm_scores::RfmScores),
        ],
    }
}
