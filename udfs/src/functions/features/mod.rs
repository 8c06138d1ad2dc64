//! Cleaning and features: missing values, outliers, scaling, encoding, selection, a first look at a table.
//!
//! Three ways to the same numbers, in the order in which an analyst meets them:
//! - **look**: `profile_table(source)`, `correlation_matrix(source)`, `feature_scores(source, target)`, `pca(source)` in `FROM`;
//! - **try**: window functions, `standard_scale(price) OVER (PARTITION BY country)`, and scalar encodings, in any query;
//! - **keep**: `fit_transform('name', source, 'price: median | standard; country: one_hot(20)')` learns the parameters once and stores
//!   them; `transform('name', row)`, `transform_value('name', row, feature)` and `transform_rows('name', source)` apply the same
//!   ones to any rows from then on, also after a restart. `ml.transforms` and `ml.transform_features` list them, `drop_transform`
//!   drops them.
//!
//! # Decisions
//! - **One meaning.** What a step does is written once, in `features::transform` on the kernels of `kernels::prepare`; the window
//!   functions and the stored transforms call the same code. Definitions are scikit-learn's (population deviation, quantiles by
//!   linear interpolation, smoothed target means); a column that does not vary scales to 0 instead of dividing by zero.
//! - **Missing** is NULL or NaN. Infinite numbers are an error where a mean is needed and fine where an order is. NULL and unseen
//!   categories are categories of their own.
//! - **Stored transforms** live in the registry, beside the models, as immutable numbered documents
//!   (`registry/transforms.rs` gives the reasons); fitting again makes the next version. A statement resolves a name once: an
//!   analyzer rule puts the parameters themselves into the plan, so a call is a pure function of its row and a new version
//!   is seen by the next execution.
//! - **`fit_transform` is BigQuery's `TRANSFORM` clause and scikit-learn's `fit`.** It returns what was learned, one row a feature, and
//!   not the transformed rows: a statement that stores something should not also be the one that a nightly job repeats. `transform_rows`
//!   gives the rows; columns that no step reads pass through, as scikit-learn's `remainder='passthrough'`.
//! - **Out of fold.** Target means for the rows that were learned from leave out the row's own fold (`transform_rows(…, out_of_fold
//!   => true)`, `target_encode`); folds are a hash of a key that the user names, so they do not depend on the order of rows and
//!   one user's rows stay together.
//! - **Results do not depend on partitioning**: see `kernels::prepare`. Table functions that hold columns answer to the memory pool;
//!   `profile_table` and `correlation_matrix` read in parallel, in bounded memory.
//!
//! What the engine has under PostgreSQL's name is used as it is: `date_part`, `extract`, `date_trunc`, `percentile_cont`, `median`,
//! `corr`, `stddev_pop`, `ntile`, `lag`, `coalesce`, `nullif`, `ln`. `width_bucket`, which it lacks, is here.
//!
//! What the room must never know: models, the server, object paths.

mod aggregates;
mod relations;
mod scalars;
mod stored_columns;
mod windows;

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;
use datafusion::optimizer::AnalyzerRule;

use super::MlContext;
use super::package::Package;

/// The functions of this room that need nothing of the process.
pub fn package() -> Package {
    Package {
        scalars: scalars::scalars(),
        aggregates: aggregates::aggregates(),
        windows: windows::windows(),
        relations: relations::relations(),
    }
}

/// The functions of this room that look up what the registry keeps.
pub fn stored(context: &Arc<MlContext>) -> Vec<Arc<ScalarUDF>> {
    scalars::stored(context)
}

/// The rules of this room.
pub fn analyzer_rules(context: &Arc<MlContext>) -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    vec![scalars::analyzer_rule(context)]
}
