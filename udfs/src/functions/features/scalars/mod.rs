//! Scalar functions: encodings that need nothing but the row, and stored transforms applied to it.
//!
//! Parts of dates are the engine's `date_part(part, time)` and `extract(part FROM time)`; a missing indicator is
//! `x IS NULL`. Neither is written a second time.

mod arguments;
mod feature_cross;
mod feature_hash;
mod one_hot;
mod pin;
mod stored;
mod text_tokens;
mod transform;
mod transform_value;
mod width_bucket;

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;
use datafusion::optimizer::AnalyzerRule;

use crate::functions::MlContext;

/// Functions that need nothing of the process.
pub(super) fn scalars() -> Vec<Arc<ScalarUDF>> {
    vec![
        Arc::new(ScalarUDF::new_from_impl(feature_cross::FeatureCross::new())),
        Arc::new(ScalarUDF::new_from_impl(feature_hash::FeatureHash::new())),
        Arc::new(ScalarUDF::new_from_impl(one_hot::OneHot::new())),
        Arc::new(ScalarUDF::new_from_impl(text_tokens::TextTokens::new())),
        Arc::new(ScalarUDF::new_from_impl(width_bucket::WidthBucket::new())),
    ]
}

/// Functions that look transforms up.
pub(super) fn stored(context: &Arc<MlContext>) -> Vec<Arc<ScalarUDF>> {
    vec![
        Arc::new(ScalarUDF::new_from_impl(transform::Transform::new(context))),
        Arc::new(ScalarUDF::new_from_impl(transform_value::TransformValue::new(context))),
    ]
}

/// The rule that fixes the version of every transform in a plan.
pub(super) fn analyzer_rule(context: &Arc<MlContext>) -> Arc<dyn AnalyzerRule + Send + Sync> {
    Arc::new(pin::PinTransforms { context: Arc::clone(context) })
}
