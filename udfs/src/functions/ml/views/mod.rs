//! The schema `ml`: what the registry and the jobs hold, audiences, profiles, erasures and links between ids, as views. Models appear here and
//! nowhere else in the catalog.
//!
//! A view is a schema and a function that makes its rows; one file each. Rows are made when the plan runs, so a
//! prepared statement sees what is there at each execution.

mod audience_versions;
mod audiences;
mod cache;
mod erasure_audit;
mod folds;
mod identities;
mod identity_links;
mod jobs;
mod members;
mod model_features;
mod model_versions;
mod models;
mod profile_freshness;
mod profile_lineage;
mod suppressed_users;
mod training_info;
mod transform_features;
mod transforms;
mod trials;
mod view;

use std::sync::Arc;

use datafusion::catalog::SchemaProvider;

use self::view::{MlSchema, View};
use super::super::MlContext;

/// Every view of the schema.
fn views() -> Vec<Arc<dyn View>> {
    vec![
        Arc::new(audience_versions::AudienceVersions),
        Arc::new(audiences::Audiences),
        Arc::new(cache::Cache),
        Arc::new(erasure_audit::ErasureAudit),
        Arc::new(folds::Folds),
        Arc::new(identities::Identities),
        Arc::new(identity_links::IdentityLinks),
        Arc::new(jobs::Jobs),
        Arc::new(members::Members),
        Arc::new(model_features::ModelFeatures),
        Arc::new(model_versions::ModelVersions),
        Arc::new(models::Models),
        Arc::new(profile_freshness::ProfileFreshness),
        Arc::new(profile_lineage::ProfileLineage),
        Arc::new(suppressed_users::SuppressedUsers),
        Arc::new(training_info::TrainingInfo),
        Arc::new(transform_features::TransformFeatures),
        Arc::new(transforms::Transforms),
        Arc::new(trials::Trials),
    ]
}

/// The schema `ml`.
pub fn schema_provider(context: &Arc<MlContext>) -> Arc<dyn SchemaProvider> {
    Arc::new(MlSchema::new(views(), context))
}
