//! Puts the functions into a session: the one list that composes what the families offer.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use datafusion::catalog::SchemaProvider;
use datafusion::dataframe::DataFrame;
use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::{AggregateUDF, Documentation, ScalarUDF, WindowUDF};
use datafusion::physical_planner::ExtensionPlanner;
use datafusion::prelude::SessionContext;

use super::distinct_count::CountDistinct;
use super::package::Package;
use super::planner::{MlQueryPlanner, MlRelationPlanner, RelationExtensionPlanner};
use super::prepass::prepare_df_statement;
use super::radix_sort::RadixSorts;
use super::relation::MlRelation;
use super::run_groups::RunGroups;
use super::single_stage::SingleStage;
use super::source::SortedHistories;
use super::utc::UtcTimes;
use super::{audience, behavior, experiment, features, files, identity, ml, privacy, profile};
use crate::context::{
    AudienceProvider, ErasureProvider, FileAccess, HistoryProvider, IdentityProvider, NoAudiences, NoErasure, NoFiles, NoIdentities,
    NoProfiles, ProfileProvider,
};
use crate::registry::{Jobs, Registry};

/// What the functions share: one per process.
pub struct MlContext {
    /// Models and their versions.
    pub registry: Arc<Registry>,
    /// Trainings.
    pub jobs: Arc<Jobs>,
    /// Opens users' histories.
    pub histories: Arc<dyn HistoryProvider>,
    /// Threads of one training.
    pub training_threads: usize,
    /// Files that `export_model` and `import_model` may name.
    pub files: Arc<dyn FileAccess>,
    /// Keeps audiences.
    pub audiences: Arc<dyn AudienceProvider>,
    /// Forgets users.
    pub erasure: Arc<dyn ErasureProvider>,
    /// Keeps profiles.
    pub profiles: Arc<dyn ProfileProvider>,
    /// Keeps links between ids. A program that has some wraps its histories in
    /// [`PersonHistories`](crate::functions::PersonHistories).
    pub identities: Arc<dyn IdentityProvider>,
}

impl MlContext {
    /// A context for a program without a server: histories are sorted at each use, no files, no audiences, two threads.
    pub fn new(registry: Arc<Registry>, jobs: Arc<Jobs>) -> Self {
        let (histories, files, audiences) = (Arc::new(SortedHistories), Arc::new(NoFiles), Arc::new(NoAudiences));
        let (erasure, identities, profiles) = (Arc::new(NoErasure), Arc::new(NoIdentities), Arc::new(NoProfiles));
        Self { registry, jobs, histories, training_threads: 2, files, audiences, erasure, identities, profiles }
    }
}

impl fmt::Debug for MlContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MlContext").field("training_threads", &self.training_threads).finish_non_exhaustive()
    }
}

/// The packages that need nothing of the process.
fn packages() -> [Package; 7] {
    let (audiences, behavior, features) = (audience::package(), behavior::package(), features::package());
    [audiences, behavior, features, profile::package(), experiment::package(), privacy::package(), identity::package()]
}

/// Every table-like function.
pub fn relations() -> Vec<Arc<dyn MlRelation>> {
    let others = packages().into_iter().flat_map(|package| package.relations);
    ml::relations().into_iter().chain(others).collect()
}

/// Every scalar function.
pub fn scalars(context: &Arc<MlContext>) -> Vec<Arc<ScalarUDF>> {
    let others = packages().into_iter().flat_map(|package| package.scalars);
    let (audiences, features, files) = (audience::scalars(context), features::stored(context), files::scalars(context));
    [ml::scalars(context), audiences, features, files, identity::scalars(context), others.collect()].concat()
}

/// Every aggregate.
pub fn aggregates() -> Vec<Arc<AggregateUDF>> {
    packages().into_iter().flat_map(|package| package.aggregates).collect()
}

/// Every window function.
pub fn windows() -> Vec<Arc<WindowUDF>> {
    packages().into_iter().flat_map(|package| package.windows).collect()
}

/// What every function outside `FROM` says about itself, by name; a function without documentation is missing.
pub fn documentation(context: &Arc<MlContext>) -> BTreeMap<String, Documentation> {
    // The engine hides the documentation of functions that wait.
    let waiting = ml::lifecycle::documentation().into_iter().map(|(name, found)| (name.to_owned(), found));
    let (scalars, aggregates, windows) = (scalars(context), aggregates(), windows());
    let scalars = scalars.iter().map(|function| (function.name(), function.documentation()));
    let aggregates = aggregates.iter().map(|function| (function.name(), function.documentation()));
    let windows = windows.iter().map(|function| (function.name(), function.documentation()));
    let others = scalars.chain(aggregates).chain(windows).filter_map(|(name, found)| Some((name.to_owned(), found?.clone())));
    waiting.chain(others).collect()
}

/// The planners of our plan nodes; a program with nodes of its own passes them to [`MlQueryPlanner::new`] as well.
pub fn extension_planners(context: &Arc<MlContext>) -> Vec<Arc<dyn ExtensionPlanner + Send + Sync>> {
    let mut planners: Vec<Arc<dyn ExtensionPlanner + Send + Sync>> = vec![Arc::new(RelationExtensionPlanner::new(Arc::clone(context)))];
    planners.extend(ml::extension_planners(context));
    planners
}

/// The schema `ml` with its views of models, versions and jobs.
pub fn ml_schema_provider(context: Arc<MlContext>) -> Arc<dyn SchemaProvider> {
    ml::schema_provider(&context)
}

/// Adds everything to a session: functions, rules and planners. Call it after `with_default_features`; it takes
/// the place of the session's query planner.
#[must_use]
pub fn register_all(mut builder: SessionStateBuilder, context: Arc<MlContext>) -> SessionStateBuilder {
    let context = &context;
    builder.scalar_functions().get_or_insert_default().extend(scalars(context));
    builder.aggregate_functions().get_or_insert_default().extend(aggregates());
    builder.window_functions().get_or_insert_default().extend(windows());
    builder.expr_planners().get_or_insert_default().splice(0..0, ml::expr_planners(context));
    builder.relation_planners().get_or_insert_default().push(Arc::new(MlRelationPlanner::new(relations(), Arc::clone(context))));
    for rule in ml::analyzer_rules(context).into_iter().chain(features::analyzer_rules(context)) {
        builder = builder.with_analyzer_rule(rule);
    }
    builder
        .with_analyzer_rule(Arc::new(CountDistinct))
        .with_optimizer_rule(Arc::new(UtcTimes))
        .with_physical_optimizer_rule(Arc::new(SingleStage))
        .with_physical_optimizer_rule(Arc::new(behavior::RunningWindows))
        .with_physical_optimizer_rule(Arc::new(RadixSorts))
        .with_physical_optimizer_rule(Arc::new(RunGroups))
        .with_query_planner(Arc::new(MlQueryPlanner::new(extension_planners(context))))
}

/// Plans one statement the way a server does: parse, [`prepare_df_statement`], plan. Training starts when the
/// result is polled.
///
/// # Errors
/// Whatever is wrong with the statement.
pub async fn sql(context: &SessionContext, text: &str) -> datafusion::error::Result<DataFrame> {
    let state = context.state();
    let mut statement = state.sql_to_statement(text, &state.config().options().sql_parser.dialect)?;
    prepare_df_statement(&mut statement)?;
    let plan = state.statement_to_plan(statement).await?;
    context.execute_logical_plan(plan).await
}
