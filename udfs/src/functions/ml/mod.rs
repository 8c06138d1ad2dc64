//! Machine learning in SQL: training, scoring, quality, life cycle. This page lists the functions of the families.

use std::sync::Arc;

use datafusion::catalog::SchemaProvider;
use datafusion::logical_expr::ScalarUDF;
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::optimizer::AnalyzerRule;
use datafusion::physical_planner::ExtensionPlanner;

use super::MlContext;
use super::relation::MlRelation;

pub mod compress;
pub mod evaluate;
pub mod generate;
pub mod lifecycle;
pub mod predict;
pub mod privacy;
pub mod recommend;
pub mod score;
pub mod train;
mod uses;
pub mod vector;
pub mod views;

pub use uses::models_named_by;

/// Functions in `FROM`.
pub fn relations() -> Vec<Arc<dyn MlRelation>> {
    let families = [
        train::relations(),
        score::relations(),
        evaluate::relations(),
        compress::relations(),
        recommend::relations(),
        generate::relations(),
    ];
    families.concat()
}

/// Scalar functions.
pub fn scalars(context: &Arc<MlContext>) -> Vec<Arc<ScalarUDF>> {
    [predict::scalar_functions(), lifecycle::scalars(context), privacy::scalars(context), vector::scalars(context)].concat()
}

/// Operators.
pub fn expr_planners(_context: &Arc<MlContext>) -> Vec<Arc<dyn ExprPlanner>> {
    vector::expr_planners()
}

/// Rules of the analyzer.
pub fn analyzer_rules(context: &Arc<MlContext>) -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    vec![predict::analyzer_rule(context)]
}

/// Plan nodes.
pub fn extension_planners(context: &Arc<MlContext>) -> Vec<Arc<dyn ExtensionPlanner + Send + Sync>> {
    vec![predict::extension_planner(context)]
}

/// The schema `ml`.
pub fn schema_provider(context: &Arc<MlContext>) -> Arc<dyn SchemaProvider> {
    views::schema_provider(context)
}
