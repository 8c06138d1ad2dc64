//! The life-cycle functions and the views of `ml` through SQL, on models that were published without training.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use tokio_util::sync::CancellationToken;

use super::super::super::{MlContext, ml_schema_provider, register_all, sql};
use super::{actions, documentation, waits};
use crate::context::{FileAccess, StatementContext};
use crate::error::{Code, Error, Result};
use crate::registry::sample::{open, publish};
use crate::registry::{JobRequest, JobState, Jobs, ModelAction, ModelPermissions};

#[derive(Debug)]
struct Files(Arc<InMemory>);

impl FileAccess for Files {
    fn folder(&self, path: &str, _caller: &str, _write: bool) -> Result<(Arc<dyn ObjectStore>, Path)> {
        if path.starts_with('/') {
            return Err(Error::new(Code::InsufficientPrivilege, format!("path \"{path}\" is not under a data root")));
        }
        Ok((Arc::<InMemory>::clone(&self.0), Path::from(path)))
    }
}

struct Fixture {
    session: SessionContext,
    context: Arc<MlContext>,
}

impl Fixture {
    /// Model `a` with versions 1 and 2, 2 active after 1.
    async fn new() -> Self {
        Self::with(StatementContext::default(), None).await
    }

    async fn with(statement: StatementContext, permissions: Option<Arc<dyn ModelPermissions>>) -> Self {
        let store = Arc::new(InMemory::new());
        let mut registry = open(&store).await.unwrap();
        for version in 1..=2 {
            publish(&registry, "a", version).await.unwrap();
            registry.activate("a", None).await.unwrap();
        }
        if let Some(permissions) = permissions {
            registry = registry.with_permissions(permissions);
        }
        let jobs = Jobs::open(store, Path::from("registry"), 1).await.unwrap();
        let mut context = MlContext::new(Arc::new(registry), jobs);
        context.files = Arc::new(Files(Arc::new(InMemory::new())));
        let context = Arc::new(context);
        let config = statement.attach(SessionConfig::new());
        let builder = SessionStateBuilder::new().with_default_features().with_config(config);
        let session = SessionContext::new_with_state(register_all(builder, Arc::clone(&context)).build());
        session.catalog("datafusion").unwrap().register_schema("ml", ml_schema_provider(Arc::clone(&context))).unwrap();
        Self { session, context }
    }

    async fn batches(&self, text: &str) -> Result<Vec<RecordBatch>> {
        let found = match sql(&self.session, text).await {
            Ok(frame) => frame.collect().await,
            Err(error) => Err(error),
        };
        found.map_err(|error| Error::find(&error).cloned().unwrap_or_else(|| Error::internal(error.to_string())))
    }

    /// The rows of a query, cells with `|` between.
    async fn rows(&self, text: &str) -> Result<Vec<String>> {
        let options = FormatOptions::default().with_null("NULL");
        let mut rows = Vec::new();
        for batch in self.batches(text).await? {
            let columns: Vec<_> = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
            for row in 0..batch.num_rows() {
                rows.push(columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join("|"));
            }
        }
        Ok(rows)
    }

    async fn check(&self, text: &str, expected: &[&str]) {
        assert_eq!(self.rows(text).await.unwrap(), expected, "{text}");
    }

    async fn fails(&self, text: &str, code: Code, message: &str) {
        let error = self.rows(text).await.expect_err(text);
        assert_eq!((error.code, error.message.as_str()), (code, message), "{text}");
    }

    fn active(&self) -> u32 {
        self.context.registry.resolve("a").unwrap().version
    }
}

#[tokio::test]
async fn a_model_is_led_through_its_life() {
    let f = Fixture::new().await;
    f.check("SELECT activate_model('a', 1)", &["version 1 of model \"a\" is active, it was version 2"]).await;
    f.check("SELECT activate_model('a@1')", &["version 1 of model \"a\" was active already"]).await;
    f.check("SELECT rollback_model('a')", &["version 2 of model \"a\" is active again, it was version 1"]).await;
    f.check("SELECT warm_model('a@2')", &[f.rows("SELECT warm_model('a@2')").await.unwrap()[0].as_str()]).await;
    f.check("SELECT model, version, users FROM ml.cache", &["a|2|0"]).await;
    f.check("SELECT unload_model('a')", &["unloaded version 2 of model \"a\""]).await;
    f.check("SELECT unload_model('a')", &["version 2 of model \"a\" was not in memory"]).await;
    f.check("SELECT rename_model('a', 'b')", &["model \"a\" is now \"b\""]).await;
    f.fails("SELECT warm_model('a')", Code::UndefinedObject, "model \"a\" does not exist").await;
    f.check("SELECT drop_model('b', version => 1)", &["dropped version 1 of model \"b\""]).await;
    f.check("SELECT drop_model('b@1')", &["version 1 of model \"b\" does not exist, skipping"]).await;
    f.fails("SELECT drop_model('b', 2)", Code::NotReady, "version 2 of model \"b\" is active").await;
    f.check("SELECT drop_model('b')", &["dropped model \"b\" with its version"]).await;
    f.check("SELECT drop_model('b')", &["model \"b\" does not exist, skipping"]).await;
    f.fails("SELECT drop_model('b', if_exists => false)", Code::UndefinedObject, "model \"b\" does not exist").await;
    f.check("SELECT count(*) FROM ml.models", &["0"]).await;
}

#[tokio::test]
async fn models_are_exported_and_imported() {
    let f = Fixture::new().await;
    f.check("SELECT export_model('a', 'out/a')", &["exported version 2 of model \"a\" to \"out/a\""]).await;
    f.check("SELECT export_model('a', 'out/a')", &["version 2 of model \"a\" was at \"out/a\" already"]).await;
    f.check("SELECT import_model('b', 'out/a')", &["imported version 1 of model \"b\", it is active"]).await;
    f.check("SELECT import_model(model => 'b', path => 'out/a')", &["version 1 of model \"b\" is that model already"]).await;
    f.check("SELECT import_model('a', 'out/a')", &["version 2 of model \"a\" is that model already"]).await;
    f.fails("SELECT export_model('a', '/etc')", Code::InsufficientPrivilege, "path \"/etc\" is not under a data root").await;
    f.fails("SELECT import_model('c', 'nowhere')", Code::UndefinedObject, "folder \"nowhere\" holds no model").await;
    f.fails("SELECT import_model('a@2', 'out/a')", Code::InvalidParameter, "\"a@2\" names a version").await;
}

#[tokio::test]
async fn nothing_happens_while_planning() {
    let f = Fixture::new().await;
    for text in [
        "EXPLAIN SELECT activate_model('a', 1)",
        "SELECT activate_model('a', 1) LIMIT 0",
        "SELECT activate_model('a', 1) WHERE false",
        "SELECT activate_model('a', v) FROM (VALUES (1)) AS t(v) WHERE v > 1",
        "PREPARE p AS SELECT activate_model('a', 1)",
        "CREATE VIEW planned AS SELECT activate_model('a', 1)",
    ] {
        f.rows(text).await.unwrap();
        assert_eq!(f.active(), 2, "{text}");
    }
    f.check("EXECUTE p", &["version 1 of model \"a\" is active, it was version 2"]).await;
}

#[tokio::test]
async fn a_branch_that_is_not_taken_does_nothing() {
    let f = Fixture::new().await;
    f.check("SELECT CASE WHEN v > 1 THEN activate_model('a', 1) ELSE 'kept' END FROM (VALUES (1)) AS t(v)", &["kept"]).await;
    assert_eq!(f.active(), 2);
    f.check(
        "SELECT CASE WHEN v = 1 THEN activate_model('a', v) ELSE 'kept' END FROM (VALUES (1), (2)) AS t(v) ORDER BY v",
        &["version 1 of model \"a\" is active, it was version 2", "kept"],
    )
    .await;
}

#[tokio::test]
async fn arguments_are_bound_cast_and_checked() {
    let f = Fixture::new().await;
    f.check("SELECT activate_model(version => 1, model => 'a')", &["version 1 of model \"a\" is active, it was version 2"]).await;
    f.check("SELECT activate_model('a', '2')", &["version 2 of model \"a\" is active, it was version 1"]).await;
    f.check("SELECT activate_model(NULL, 1), activate_model('a', NULL)", &["NULL|version 2 of model \"a\" was active already"]).await;
    f.check("SELECT activate_model(name, 2) FROM ml.models", &["version 2 of model \"a\" was active already"]).await;
    f.check("SELECT count(activate_model('a', 1)) FROM (VALUES (1), (2), (3)) AS t(v)", &["3"]).await;
    f.fails("SELECT activate_model()", Code::UndefinedFunction, "function activate_model takes 1 to 2 arguments").await;
    f.fails("SELECT rollback_model('a', 1)", Code::UndefinedFunction, "function rollback_model takes 1 arguments").await;
    f.fails("SELECT activate_model(1.5)", Code::DatatypeMismatch, "argument \"model\" of activate_model must be text").await;
    f.fails(
        "SELECT activate_model('a', version => true)",
        Code::DatatypeMismatch,
        "argument \"version\" of activate_model must be an integer",
    )
    .await;
    f.fails("SELECT activate_model(version => 1)", Code::UndefinedFunction, "activate_model needs its argument \"model\"").await;
    f.fails("SELECT activate_model('a', verson => 1)", Code::UndefinedFunction, "activate_model has no argument \"verson\"").await;
    f.fails("SELECT activate_model('a', -1)", Code::InvalidParameter, "-1 is not a version number").await;
    f.fails("SELECT activate_model('a@1', 2)", Code::InvalidParameter, "the model is given as \"a@1\", the version as 2").await;
    f.fails("SELECT activate_model('a', 7)", Code::UndefinedObject, "version 7 of model \"a\" does not exist").await;
    f.fails("SELECT cancel_training(99)", Code::UndefinedObject, "job 99 does not exist").await;
}

fn job(model: &str) -> JobRequest {
    JobRequest { model: model.into(), version: 3, owner: "ann".into(), statement: "SELECT 1".into() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_for_a_training() {
    let f = Fixture::new().await;
    f.check("SELECT wait_for_model('a')", &["version 2 of model \"a\" is active"]).await;
    f.fails("SELECT wait_for_model('b')", Code::UndefinedObject, "model \"b\" does not exist").await;
    let handle = f.context.jobs.start(job("a"), &CancellationToken::new()).await.unwrap();
    let message = "model \"a\" is still training after 0.001 seconds";
    f.fails("SELECT wait_for_model('a', timeout => 0.001)", Code::Cancelled, message).await;
    f.fails("SELECT wait_for_model('a', '1 ms')", Code::Cancelled, message).await;
    f.fails("SELECT wait_for_model('a', 'soon')", Code::InvalidParameter, "invalid interval \"soon\"").await;
    f.fails("SELECT wait_for_model('a', -1)", Code::InvalidParameter, "timeout must not be negative, got -1 seconds").await;
    f.check("SELECT job_id, model, version, state, progress, owner FROM ml.jobs", &["1|a|3|queued|0.0|ann"]).await;
    let waiting = tokio::spawn({
        let session = f.session.clone();
        async move { sql(&session, "SELECT wait_for_model('a', 600)").await.unwrap().collect().await }
    });
    f.check("SELECT cancel_training(1)", &["job 1 is stopping"]).await;
    assert!(handle.cancel.is_cancelled());
    handle.finish(JobState::Cancelled, "cancelled by the user").await;
    let error = waiting.await.unwrap().unwrap_err();
    let error = Error::find(&error).unwrap();
    assert_eq!((error.code, error.message.as_str()), (Code::NotReady, "the last training of model \"a\" was not completed"));
    assert_eq!(error.detail.as_deref(), Some("Job 1 for version 3 is cancelled: cancelled by the user."));
    f.check("SELECT cancel_training(1)", &["job 1 has ended already: cancelled"]).await;
    let again = f.context.jobs.start(job("a"), &CancellationToken::new()).await.unwrap();
    again.finish(JobState::Ready, "done").await;
    f.check("SELECT wait_for_model('a')", &["version 3 of model \"a\" is ready"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_statement_stops_waiting() {
    let statement = StatementContext::default();
    let cancel = statement.cancel.clone();
    let f = Fixture::with(statement, None).await;
    let _handle = f.context.jobs.start(job("a"), &CancellationToken::new()).await.unwrap();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(1)).await;
        cancel.cancel();
    });
    f.fails("SELECT wait_for_model('a')", Code::Cancelled, "canceling statement due to user request").await;
}

#[derive(Debug)]
struct OwnersOnly;

impl ModelPermissions for OwnersOnly {
    fn check(&self, caller: &str, model: &str, owner: &str, action: ModelAction) -> Result<()> {
        let allowed = caller == owner || action == ModelAction::Execute;
        if allowed { Ok(()) } else { Err(Error::new(Code::InsufficientPrivilege, format!("must be owner of model \"{model}\""))) }
    }
}

#[tokio::test]
async fn only_owners_change_models() {
    let statement = StatementContext { user: "bob".into(), ..StatementContext::default() };
    let f = Fixture::with(statement, Some(Arc::new(OwnersOnly))).await;
    for call in ["activate_model('a', 1)", "rollback_model('a')", "rename_model('a', 'b')", "drop_model('a')", "export_model('a', 'x')"] {
        f.fails(&format!("SELECT {call}"), Code::InsufficientPrivilege, "must be owner of model \"a\"").await;
    }
    f.rows("SELECT warm_model('a')").await.unwrap();
    assert_eq!(f.active(), 2);
}

#[tokio::test]
async fn the_views_show_what_there_is() {
    let f = Fixture::new().await;
    f.check(
        "SELECT name, active_version, state, arch, target, horizon, metric, test, baseline, owner FROM ml.models",
        &["a|2|active|logreg|column(buys)|NULL|pr_auc|0.75|0.5|ann"],
    )
    .await;
    f.check(
        "SELECT version, state, train_rows, as_of FROM ml.model_versions",
        &["1|ready|400|2023-11-14T22:13:20Z", "2|active|400|2023-11-14T22:13:20Z"],
    )
    .await;
    f.check("SELECT version, epoch, train_loss, rows_per_s FROM ml.training_info WHERE version = 2", &["2|1|0.6|1200.0"]).await;
    f.check("SELECT position, feature, kind FROM ml.model_features WHERE version = 1", &["1|amount|numeric", "2|country|categorical"])
        .await;
    f.check("SELECT count(*) FROM ml.cache", &["0"]).await;
    let running = f.context.jobs.start(job("new"), &CancellationToken::new()).await.unwrap();
    f.check("SELECT name, state FROM ml.models ORDER BY 1", &["a|active", "new|queued"]).await;
    running.finish(JobState::Failed, "too little data").await;
    f.check("SELECT name, version, state, message FROM ml.model_versions WHERE name = 'new'", &["new|3|failed|too little data"]).await;
    f.check("SELECT name FROM ml.models", &["a"]).await;
}

#[tokio::test]
async fn a_prepared_statement_sees_the_registry_of_its_execution() {
    let f = Fixture::new().await;
    f.rows("PREPARE p AS SELECT active_version FROM ml.models").await.unwrap();
    f.check("EXECUTE p", &["2"]).await;
    f.context.registry.activate("a", Some(1)).await.unwrap();
    f.check("EXECUTE p", &["1"]).await;
}

#[tokio::test]
async fn vectors_are_compared() {
    let f = Fixture::new().await;
    f.check(
        "SELECT l2_distance([0.0, 0.0], [3, 4]), inner_product(b => [2], a => [3]), cosine_similarity([1, 0], [2, 0])",
        &["5.0|6.0|1.0"],
    )
    .await;
    f.check("SELECT cosine_similarity(NULL, [1]), l2_distance([v], [1]) FROM (VALUES (3), (NULL)) AS t(v) WHERE v > 0", &["NULL|2.0"])
        .await;
    f.fails("SELECT l2_distance([1])", Code::UndefinedFunction, "function l2_distance takes 2 arguments").await;
    f.fails("SELECT l2_distance([1], [1, 2])", Code::InvalidParameter, "different vector dimensions 1 and 2").await;
    f.fails("SELECT l2_distance(['a'], [1])", Code::DatatypeMismatch, "l2_distance compares two arrays of numbers, got List(Utf8)").await;
    f.rows("SET datafusion.sql_parser.dialect = 'postgresql'").await.unwrap();
    f.check("SELECT ARRAY[0, 0] <-> ARRAY[3, 4], ARRAY[1, 0] <=> ARRAY[0, 1], ARRAY[1, 2] <#> ARRAY[3, 4]", &["5.0|1.0|-11.0"]).await;
    f.check("SELECT v FROM (VALUES (1), (5), (2)) AS t(v) ORDER BY ARRAY[v] <-> ARRAY[4] LIMIT 2", &["5", "2"]).await;
    f.check("SELECT 1 <=> NULL", &["false"]).await;
}

#[test]
fn every_function_is_documented_with_its_arguments() {
    let documented = documentation();
    for action in actions().into_iter().chain(waits()) {
        let (_, found) = documented.iter().find(|(name, _)| *name == action.name()).unwrap();
        let named: Vec<&str> = found.arguments.iter().flatten().map(|(name, _)| name.as_str()).collect();
        let parameters: Vec<&str> = action.parameters().iter().map(|parameter| parameter.name).collect();
        assert_eq!(named, parameters, "{}", action.name());
        assert!(found.syntax_example.starts_with(action.name()));
    }
}
