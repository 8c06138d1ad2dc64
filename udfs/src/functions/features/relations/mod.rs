//! Functions in `FROM`: a first look at a table, what its columns say, and transforms that are learned and applied.

mod columns;
mod correlation_matrix;
mod feature_scores;
mod fit_transform;
mod pca;
mod profile_table;
mod read;
mod shown;
mod transform_rows;

use std::sync::Arc;

use crate::functions::relation::MlRelation;

/// The relations of the room.
pub(super) fn relations() -> Vec<Arc<dyn MlRelation>> {
    vec![
        Arc::new(correlation_matrix::CorrelationMatrix),
        Arc::new(feature_scores::FeatureScores),
        Arc::new(fit_transform::FitTransform),
        Arc::new(pca::Pca),
        Arc::new(profile_table::ProfileTable),
        Arc::new(transform_rows::TransformRows),
    ]
}
