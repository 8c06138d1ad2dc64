//! Window functions that clean, scale and encode a column over its partition, as BigQuery's `ML.STANDARD_SCALER(x) OVER ()`.
//!
//! [`whole::Whole`] makes one of each [`whole::WholePartition`]: they see the whole partition whatever the frame, as `ntile`
//! does, and hold it while they work. [`impute_ffill`] streams. What a step means is written once, in `features::transform`;
//! the same words in `fit_transform` give the same numbers.

mod frequency_encode;
mod impute_ffill;
mod impute_mean;
mod impute_median;
mod impute_mode;
mod is_outlier;
mod max_abs_scale;
mod minmax_scale;
mod ordinal_encode;
mod quantile_bucket;
mod robust_scale;
mod standard_scale;
mod target_encode;
mod whole;
mod winsorize;

use std::sync::Arc;

use datafusion::logical_expr::WindowUDF;

use self::whole::{Whole, WholePartition};

/// The window functions of the room.
pub(super) fn windows() -> Vec<Arc<WindowUDF>> {
    let whole: Vec<Arc<dyn WholePartition>> = vec![
        Arc::new(frequency_encode::FrequencyEncode),
        Arc::new(impute_mean::ImputeMean),
        Arc::new(impute_median::ImputeMedian),
        Arc::new(impute_mode::ImputeMode),
        Arc::new(is_outlier::IsOutlier),
        Arc::new(max_abs_scale::MaxAbsScale),
        Arc::new(minmax_scale::MinmaxScale),
        Arc::new(ordinal_encode::OrdinalEncode),
        Arc::new(quantile_bucket::QuantileBucket),
        Arc::new(robust_scale::RobustScale),
        Arc::new(standard_scale::StandardScale),
        Arc::new(target_encode::TargetEncode),
        Arc::new(winsorize::Winsorize),
    ];
    let whole = whole.into_iter().map(Whole::udf);
    whole.chain([Arc::new(WindowUDF::new_from_impl(impute_ffill::ImputeFfill::new()))]).collect()
}
