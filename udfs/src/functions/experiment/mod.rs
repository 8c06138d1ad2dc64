//! Experiments: assignment, tests of differences, sample sizes, effects.
//!
//! A person splits users with `assign_variant`, sizes the experiment with `min_sample_size`, and reads the outcome either with
//! `ab_test` (rows, one per variant, everything at once) or with a single test as an aggregate, which works with `GROUP BY`.
//!
//! Life of a test: rows (value, group) → sums of the two samples, exact, so that they are equal bit for bit however the rows were
//! split → the kernel's statistic → a record with `statistic`, `p_value`, an interval. What the data cannot tell is NULL inside the
//! record; a sample without rows makes the record NULL. The first group is 0, and a difference is group 0 minus group 1, as in
//! ClickHouse and SciPy; in `ab_test` it is the variant minus the control.
//!
//! What this room must never know: models, histories, how a distribution is computed.

mod ab_test;
mod assign_variant;
mod campaign_effect;
mod chi2_test;
mod mann_whitney_u_test;
mod min_sample_size;
mod min_sample_size_continuous;
mod proportions_z_test;
mod proportions_z_test_counts;
mod record;
mod student_t_test;
mod t_test;
mod two_samples;
mod variants;
mod welch_t_test;

use std::sync::Arc;

use datafusion::logical_expr::{AggregateUDF, ScalarUDF};

use super::package::Package;

/// The functions of this room.
pub fn package() -> Package {
    Package {
        scalars: vec![
            Arc::new(ScalarUDF::new_from_impl(assign_variant::AssignVariant::new())),
            Arc::new(ScalarUDF::new_from_impl(min_sample_size::MinSampleSize::new())),
            Arc::new(ScalarUDF::new_from_impl(min_sample_size_continuous::MinSampleSizeContinuous::new())),
            Arc::new(ScalarUDF::new_from_impl(proportions_z_test_counts::ProportionsZTestCounts::new())),
        ],
        aggregates: vec![
            Arc::new(AggregateUDF::new_from_impl(chi2_test::Chi2Test::new())),
            Arc::new(AggregateUDF::new_from_impl(mann_whitney_u_test::MannWhitneyUTest::new())),
            Arc::new(AggregateUDF::new_from_impl(proportions_z_test::ProportionsZTest::new())),
            Arc::new(AggregateUDF::new_from_impl(student_t_test::StudentTTest::new())),
            Arc::new(AggregateUDF::new_from_impl(welch_t_test::WelchTTest::new())),
        ],
        windows: Vec::new(),
        relations: vec![Arc::new(ab_test::AbTest), Arc::new(campaign_effect::CampaignEffect)],
    }
}
