//! The catalog through a plain DataFusion session: what survives, what is refused, what is left behind.

mod history;
mod remote;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use datafusion::arrow::array::{
    ArrayRef, AsArray, DictionaryArray, Float32Array, Int64Array, LargeStringArray, RecordBatch, TimestampMillisecondArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, SchemaRef};
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::StreamExt;
use parquet::arrow::ArrowWriter;

use super::*;
use crate::storage::FileKind;

#[tokio::test]
async fn managed_tables_survive_a_restart() {
    let mut at = Fixture::new().await;
    let rows = at.create_as("t", "SELECT 1 AS n, 'a' AS s, [1.5::float, NULL] AS v, now() AS at").await.unwrap();
    assert_eq!(rows, 1);
    assert_eq!(at.insert("t", "SELECT 2, 'b', NULL AS v, NULL AS at").await.unwrap(), 1);
    let (oid, first) = (at.catalog.oid("t"), at.rows("SELECT * FROM t ORDER BY n").await);
    at.restart().await;
    assert_eq!(at.catalog.oid("t"), oid);
    assert_eq!(at.rows("SELECT * FROM t ORDER BY n").await, first);
    at.insert("t", "SELECT 3, 'c', NULL AS v, NULL AS at").await.unwrap();
    assert_eq!(at.rows("SELECT count(*), max(n), min(s) FROM t").await, ["3|3|a"]);
    at.catalog.drop_relation(ObjectKind::Table, "t", false).await.unwrap();
    assert!(at.table_folders().is_empty());
    at.restart().await;
    assert!(at.catalog.list().is_empty());
    at.create_as("t", "SELECT 1 AS n").await.unwrap();
    assert!(at.catalog.oid("t") > oid, "object ids are not used twice");
}

#[tokio::test]
async fn every_type_comes_back_as_it_went_in() {
    let at = Fixture::new().await;
    let texts: DictionaryArray<Int32Type> = vec![Some("x"), None, Some("y")].into_iter().collect();
    let times = TimestampMillisecondArray::from(vec![Some(1), None, Some(-1)]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("dict", Arc::new(texts)),
        ("large", Arc::new(LargeStringArray::from(vec![Some("a"), Some(""), None]))),
        ("at", Arc::new(times.clone())),
        ("at_utc", Arc::new(times.with_timezone("+02:00"))),
        ("real", Arc::new(Float32Array::from(vec![1.5, f32::NAN, -0.0]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let schema = batch.schema();
    let stream = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), futures::stream::iter([Ok(batch)])));
    at.catalog.create_managed_as("t", schema, 0, stream, "portrait").await.unwrap();
    assert_eq!(
        at.rows("SELECT dict, large, at, real FROM t").await,
        ["x|a|1970-01-01T00:00:00.001|1.5", "|||NaN", "y||1969-12-31T23:59:59.999|-0.0"]
    );
    let sql = "SELECT 1::smallint a, 1::bigint b, 1.25::decimal(9,2) c, true d, DATE '2024-02-29' e, \
               TIME '12:34:56.789' f, TIMESTAMP '2024-02-29 12:34:56.789' g, 'z'::bytea h, [1, 2] i, \
               named_struct('p', 1, 'r', 'q') j, row_number() OVER () k, ['p', NULL] l";
    at.create_as("u", sql).await.unwrap();
    let before = at.rows(sql).await;
    assert_eq!(at.rows("SELECT * FROM u").await, before);
    assert_eq!(at.rows("SELECT count(*) FROM u WHERE i[2] = 2").await, ["1"]);
    let error = at.create_as("w", "SELECT INTERVAL '1 day' AS i").await.unwrap_err();
    assert_eq!((error.code, error.hint.is_some()), (Code::FeatureNotSupported, true));
    assert_eq!(at.table_folders().len(), 2);
}

#[tokio::test]
async fn a_failed_statement_leaves_nothing() {
    let at = Fixture::new().await;
    let error = at.create_as("t", "SELECT 1 / (n - 3) AS x FROM generate_series(1, 5) g(n)").await.unwrap_err();
    assert!(error.message.contains("division by zero"), "{error}");
    assert!(at.catalog.describe("t").is_none());
    assert!(at.table_folders().is_empty());

    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
    at.catalog.create_managed("t", schema, false, "portrait").await.unwrap();
    at.insert("t", "SELECT 7").await.unwrap();
    at.insert("t", "SELECT 1 / (n - 3) FROM generate_series(1, 5) g(n)").await.unwrap_err();
    let error = at.insert("t", "SELECT CASE WHEN n < 20000 THEN n END FROM generate_series(1, 20000) g(n)").await.unwrap_err();
    assert_eq!(error.code, Code::NotNull);
    assert_eq!(at.rows("SELECT count(*), sum(n) FROM t").await, ["1|7"]);
    at.settle(|| at.data_files("t").len() == 1).await;
}

#[tokio::test]
async fn a_cancelled_statement_leaves_nothing() {
    let at = Fixture::new().await;
    at.create_as("t", "SELECT 1::bigint AS n").await.unwrap();
    let schema = at.catalog.describe("t").unwrap().schema;
    let endless = |schema: &SchemaRef| {
        let batch = RecordBatch::try_new(Arc::clone(schema), vec![Arc::new(Int64Array::from(vec![5; 8192]))]).unwrap();
        let batches = futures::stream::repeat_with(move || Ok(batch.clone())).then(|batch| async {
            tokio::task::yield_now().await;
            batch
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), batches)) as SendableRecordBatchStream
    };
    let limit = std::time::Duration::from_millis(200);
    assert!(
        tokio::time::timeout(
            limit,
            at.catalog.insert("t", endless(&schema), crate::storage::IngestOptions { now_us: 0, future_tolerance_us: 0, erasures: 0 })
        )
        .await
        .is_err()
    );
    let create = at.catalog.create_managed_as("half", Arc::clone(&schema), 0, endless(&schema), "portrait");
    assert!(tokio::time::timeout(limit, create).await.is_err());
    assert_eq!(at.rows("SELECT count(*) FROM t").await, ["1"]);
    assert!(at.catalog.describe("half").is_none());
    at.settle(|| at.table_folders().len() == 1 && at.data_files("t").len() == 1).await;
}

#[tokio::test]
async fn what_a_killed_process_left_is_swept() {
    let mut at = Fixture::new().await;
    at.create_as("t", "SELECT 1 AS n").await.unwrap();
    let folder = at.table_folders().remove(0);
    std::fs::write(folder.join("part-00000-0000.zstd.parquet"), "an insert that was not committed").unwrap();
    std::fs::write(folder.join("part-00001.parquet#123"), "half a file").unwrap();
    let half = folder.with_file_name("6f0c1f5e-2f0e-4b8e-9d58-0a1f3a1f9f00");
    std::fs::create_dir_all(half.join("_delta_log")).unwrap();
    at.restart().await;
    assert_eq!(at.rows("SELECT n FROM t").await, ["1"]);
    assert_eq!(at.table_folders(), [folder]);
    assert_eq!(at.data_files("t").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_inserts_all_succeed() {
    let at = Arc::new(Fixture::new().await);
    at.create_as("t", "SELECT 0::bigint AS n").await.unwrap();
    let inserts = (1..=20).map(|i| {
        let at = Arc::clone(&at);
        tokio::spawn(async move { at.insert("t", &format!("SELECT {i}::bigint")).await })
    });
    for outcome in futures::future::join_all(inserts).await {
        assert_eq!(outcome.unwrap().unwrap(), 1);
    }
    assert_eq!(at.rows("SELECT count(*), sum(n) FROM t").await, ["21|210"]);
    // Another writer's commits are seen, and ours come after them.
    let table = deltalake_core::open_table(url::Url::from_directory_path(&at.table_folders()[0]).unwrap()).await.unwrap();
    assert_eq!(table.version(), Some(20));
    assert_eq!(table.snapshot().unwrap().log_data().num_files(), 21);
}

#[tokio::test]
async fn a_dropped_table_stays_readable_for_plans_that_read_it() {
    let at = Fixture::new().await;
    at.create_as("t", "SELECT n FROM generate_series(1, 50000) g(n)").await.unwrap();
    let plan = at.ctx.sql("SELECT n FROM t").await.unwrap().create_physical_plan().await.unwrap();
    at.catalog.drop_relation(ObjectKind::Table, "t", false).await.unwrap();
    assert!(at.ctx.sql("SELECT n FROM t").await.is_err());
    let batches = datafusion::physical_plan::collect(Arc::clone(&plan), at.ctx.task_ctx()).await.unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 50_000);
    assert_eq!(at.table_folders().len(), 1);
    drop((plan, batches));
    at.settle(|| at.table_folders().is_empty()).await;
}

#[tokio::test]
async fn names_are_checked_as_postgresql_words_it() {
    let at = Fixture::new().await;
    at.create_as("events", "SELECT 1 AS n").await.unwrap();
    at.view("v", "SELECT n FROM events").await.unwrap();
    let again = at.create_as("events", "SELECT 1 AS n").await.unwrap_err();
    assert_eq!((again.code, again.message.as_str()), (Code::DuplicateTable, "relation \"events\" already exists"));
    let wrong = at.catalog.drop_relation(ObjectKind::Table, "v", false).await.unwrap_err();
    assert_eq!((wrong.code, wrong.message.as_str()), (Code::WrongObjectType, "\"v\" is not a table"));
    assert_eq!(wrong.hint.as_deref(), Some("Use DROP VIEW to remove a view."));
    let wrong = at.catalog.drop_relation(ObjectKind::View, "events", true).await.unwrap_err();
    assert_eq!(wrong.message, "\"events\" is not a view");
    let gone = at.catalog.drop_relation(ObjectKind::Table, "nothing", false).await.unwrap_err();
    assert_eq!((gone.code, gone.message.as_str()), (Code::UndefinedTable, "table \"nothing\" does not exist"));
    assert!(!at.catalog.drop_relation(ObjectKind::View, "nothing", true).await.unwrap());
    assert_eq!(at.catalog.undefined_table("evnts").hint.as_deref(), Some("Perhaps you meant \"events\"."));
    let schema = at.catalog.describe("events").unwrap().schema;
    assert_eq!(at.catalog.create_managed("events", schema, true, "portrait").await.unwrap(), Created::Existed);
    let name = |text: &str| at.catalog.local_name(&TableReference::from(text));
    assert_eq!(name("portrait.public.x").unwrap(), "x");
    assert_eq!(name("nope.x").unwrap_err().code, Code::UndefinedSchema);
    assert_eq!(name("other.public.x").unwrap_err().code, Code::UndefinedDatabase);
}

#[tokio::test]
async fn views_are_planned_when_they_are_used() {
    let mut at = Fixture::new().await;
    at.create_as("t", "SELECT 1 AS n").await.unwrap();
    at.view("v", "SELECT n + 1 AS m FROM t").await.unwrap();
    at.view("w", "SELECT m * 10 AS k FROM v").await.unwrap();
    assert_eq!(at.rows("SELECT k FROM w").await, ["20"]);
    at.restart().await;
    at.insert("t", "SELECT 4").await.unwrap();
    assert_eq!(at.rows("SELECT k FROM w ORDER BY k").await, ["20", "50"]);
    at.catalog.drop_relation(ObjectKind::Table, "t", false).await.unwrap();
    assert_eq!(at.catalog.list().len(), 2, "a broken view is still listed");
    let error = at.ctx.sql("SELECT * FROM w").await.unwrap_err();
    assert!(error.to_string().contains("t"), "{error}");
    let query = "SELECT k AS m FROM w".to_owned();
    let columns = at.catalog.describe("v").unwrap().schema;
    let owner = "portrait".to_owned();
    let options = ViewOptions::default();
    let looped = CreateView { name: "v".into(), query, columns, options, or_replace: true, if_not_exists: false, owner };
    at.catalog.create_view(looped).await.unwrap();
    let error = at.ctx.sql("SELECT * FROM w").await.unwrap_err();
    assert_eq!(Error::find(&error).unwrap().code, Code::InvalidTableDefinition);
}

#[tokio::test]
async fn external_files_are_seen_as_they_come_and_go() {
    let mut at = Fixture::new().await;
    at.parquet("lake/events/a.parquet", "SELECT 1 AS id, 'x' AS kind").await;
    at.external("events", FileKind::Parquet, "events/", &[], &[]).await.unwrap();
    assert_eq!(at.rows("SELECT count(*) FROM events").await, ["1"]);
    let before = at.fingerprint("events").await;
    assert_eq!(at.fingerprint("events").await, before);
    at.parquet("lake/events/sub/b.parquet", "SELECT 2 AS id, 'y' AS kind").await;
    assert_ne!(at.fingerprint("events").await, before);
    assert_eq!(at.rows("SELECT id, kind FROM events ORDER BY id").await, ["1|x", "2|y"]);
    at.restart().await;
    std::fs::remove_file(at.path("lake/events/a.parquet")).unwrap();
    assert_eq!(at.rows("SELECT count(*), min(kind) FROM events").await, ["1|y"]);
    assert_eq!(at.rows("SELECT id FROM \"events/sub/*.parquet\"").await, ["2"]);
    std::fs::remove_file(at.path("lake/events/sub/b.parquet")).unwrap();
    assert_eq!(at.rows("SELECT count(*) FROM events").await, ["0"]);
    let error = at.external("none", FileKind::Parquet, "events/", &[], &[]).await.unwrap_err();
    assert_eq!(error.code, Code::InvalidParameter);
    assert_eq!(at.external("out", FileKind::Csv, "/etc/passwd", &[], &[]).await.unwrap_err().code, Code::InsufficientPrivilege);
}

#[tokio::test]
async fn hive_folders_csv_and_json_are_read() {
    let at = Fixture::new().await;
    for (day, id) in [("2024-05-01", 1), ("2024-05-02", 2), ("__HIVE_DEFAULT_PARTITION__", 3)] {
        at.parquet(&format!("lake/hive/day={day}/part.parquet"), &format!("SELECT {id} AS id")).await;
    }
    at.external("found", FileKind::Parquet, "hive", &[], &[]).await.unwrap();
    assert_eq!(at.rows("SELECT id, day FROM found ORDER BY id").await, ["1|2024-05-01", "2|2024-05-02", "3|"]);
    let declared = Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("day", DataType::Date32, true)]);
    at.external_as("typed", FileKind::Parquet, "hive", Some(declared), &["day"], &[]).await.unwrap();
    assert_eq!(at.rows("SELECT id FROM typed WHERE day > DATE '2024-05-01'").await, ["2"]);
    assert_eq!(at.rows("SELECT count(*), count(day), max(day) FROM typed").await, ["3|2|2024-05-02"]);

    std::fs::write(at.path("lake/people.csv"), "id;name\n1;Ann\n2;\n").unwrap();
    at.external("people", FileKind::Csv, "people.csv", &[], &[("format.delimiter", ";")]).await.unwrap();
    assert_eq!(at.rows("SELECT id, upper(name) FROM people WHERE id = 1").await, ["1|ANN"]);
    let error = at.external("bad", FileKind::Csv, "people.csv", &[], &[("colour", "red")]).await.unwrap_err();
    assert_eq!(error.code, Code::InvalidParameter);
    std::fs::write(at.path("lake/log.json"), "{\"a\":1,\"b\":\"x\"}\n{\"a\":2}\n").unwrap();
    at.external("log", FileKind::Json, "log.json", &[], &[]).await.unwrap();
    assert_eq!(at.rows("SELECT a, b FROM log ORDER BY a").await, ["1|x", "2|"]);
}

#[tokio::test]
async fn files_of_different_writers_are_read_together() {
    let at = Fixture::new().await;
    at.parquet("lake/mix/1.parquet", "SELECT 1::int AS n, arrow_cast('a', 'Dictionary(Int32, Utf8)') AS s, 1.5::float AS f").await;
    at.parquet("lake/mix/2.parquet", "SELECT 3000000000 AS n, arrow_cast('b', 'LargeUtf8') AS s, 2.5 AS f, true AS extra").await;
    at.external("mix", FileKind::Parquet, "mix", &[], &[]).await.unwrap();
    assert_eq!(at.rows("SELECT n, s, f, extra FROM mix ORDER BY n").await, ["1|a|1.5|", "3000000000|b|2.5|true"]);
    assert_eq!(at.rows("SELECT s FROM mix WHERE n > 1 AND s LIKE 'b%'").await, ["b"]);
    at.parquet("lake/clash/1.parquet", "SELECT 1 AS n").await;
    at.parquet("lake/clash/2.parquet", "SELECT 'x' AS n").await;
    let error = at.external("clash", FileKind::Parquet, "clash", &[], &[]).await.unwrap_err();
    assert_eq!(error.code, Code::DatatypeMismatch);
    assert!(error.detail.unwrap().contains("2.parquet"));
    std::fs::write(at.path("lake/broken.parquet"), "not parquet at all").unwrap();
    let error = at.external("broken", FileKind::Parquet, "broken.parquet", &[], &[]).await.unwrap_err();
    assert_eq!(error.code, Code::DataCorrupted);
    assert!(error.message.contains("broken.parquet"));
}

#[tokio::test]
async fn roles_are_kept_and_guarded() {
    let mut at = Fixture::new().await;
    let passfile = at.catalog.ensure_superuser("portrait").await.unwrap().unwrap();
    assert_eq!(at.catalog.ensure_superuser("portrait").await.unwrap(), None);
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&passfile).unwrap().permissions().mode() & 0o777, 0o600);
    let password = std::fs::read_to_string(&passfile).unwrap().trim_end().rsplit_once(':').unwrap().1.to_owned();
    let options = |password: &str| RoleOptions { login: Some(true), password: Some(Some(password.into())), ..Default::default() };
    at.catalog.create_role("ann", options("secret")).await.unwrap();
    assert_eq!(at.catalog.create_role("ann", options("x")).await.unwrap_err().code, Code::DuplicateObject);
    at.restart().await;
    let role = at.catalog.role("portrait").unwrap();
    assert!(role.superuser && role.login && role.verifier.unwrap().matches(&password));
    let text = std::fs::read_to_string(at.path("data/catalog/catalog.json")).unwrap();
    assert!(!text.contains("secret") && text.contains("SCRAM-SHA-256$16384:"));
    let ready = at.catalog.role("ann").unwrap().verifier.unwrap();
    at.catalog.create_role("bob", options(&ready.to_string())).await.unwrap();
    assert_eq!(at.catalog.role("bob").unwrap().verifier, Some(ready));
    assert_eq!(at.catalog.drop_role("portrait", false).await.unwrap_err().code, Code::DependentObjects);
    assert_eq!(at.catalog.drop_role("nobody", false).await.unwrap_err().code, Code::UndefinedObject);
    assert!(at.catalog.drop_role("ann", false).await.unwrap());
}

#[tokio::test]
async fn one_process_at_a_time() {
    let at = Fixture::new().await;
    let error = Catalog::open(&at.path("data"), Arc::clone(at.catalog.roots())).await.unwrap_err();
    assert_eq!(error.code, Code::NotReady);
}

struct Fixture {
    folder: tempfile::TempDir,
    catalog: Arc<Catalog>,
    ctx: SessionContext,
}

#[derive(Debug)]
struct Planner(Weak<parking_lot::RwLock<datafusion::execution::SessionState>>);

#[async_trait]
impl ViewPlanner for Planner {
    async fn plan(&self, query: &str, _owner: &str) -> Result<LogicalPlan> {
        let state = self.0.upgrade().unwrap().read().clone();
        state.create_logical_plan(query).await.map_err(crate::storage::engine_error)
    }

    async fn plan_over(&self, _: &SessionState, _: &str, _: &str, _: Arc<dyn TableProvider>) -> Result<LogicalPlan> {
        Err(Error::internal("no policies here"))
    }
}

impl Fixture {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("lake")).unwrap();
        let (catalog, ctx) = open(folder.path()).await;
        Self { folder, catalog, ctx }
    }

    /// Closes everything and opens it again.
    async fn restart(&mut self) {
        let roots = Arc::clone(self.catalog.roots());
        let (spare, ctx) = (tempfile::tempdir().unwrap(), SessionContext::new());
        let other = Catalog::open(spare.path(), roots).await.unwrap();
        drop((std::mem::replace(&mut self.catalog, other), std::mem::replace(&mut self.ctx, ctx)));
        (self.catalog, self.ctx) = open(self.folder.path()).await;
    }

    async fn stream(&self, sql: &str) -> Result<SendableRecordBatchStream, DataFusionError> {
        self.ctx.sql(sql).await?.execute_stream().await
    }

    async fn create_as(&self, name: &str, sql: &str) -> Result<u64> {
        let stream = self.stream(sql).await.map_err(crate::storage::engine_error)?;
        self.catalog.create_managed_as(name, stream.schema(), 0, stream, "portrait").await.map(|made| made.new)
    }

    async fn insert(&self, name: &str, sql: &str) -> Result<u64> {
        // Through DataFusion's own plan, as SQL does it.
        let inserted = self.ctx.sql(&format!("INSERT INTO {name} {sql}")).await.map_err(crate::storage::engine_error)?;
        let batches = inserted.collect().await.map_err(crate::storage::engine_error)?;
        let count = datafusion::arrow::compute::cast(batches[0].column(0), &DataType::Int64).unwrap();
        Ok(count.as_primitive::<Int64Type>().value(0) as u64)
    }

    async fn view(&self, name: &str, query: &str) -> Result<Created> {
        let planned = self.ctx.sql(query).await.map_err(crate::storage::engine_error)?;
        let columns = Arc::new(planned.schema().as_arrow().clone());
        let (query, owner) = (query.to_owned(), "portrait".to_owned());
        let options = ViewOptions::default();
        let view = CreateView { name: name.into(), query, columns, options, or_replace: false, if_not_exists: false, owner };
        self.catalog.create_view(view).await
    }

    async fn external(&self, name: &str, kind: FileKind, at: &str, partitions: &[&str], options: &[(&str, &str)]) -> Result<Created> {
        self.external_as(name, kind, at, None, partitions, options).await
    }

    async fn external_as(
        &self,
        name: &str,
        kind: FileKind,
        at: &str,
        columns: Option<Schema>,
        partitions: &[&str],
        options: &[(&str, &str)],
    ) -> Result<Created> {
        let table = CreateExternal {
            name: name.into(),
            kind,
            location: at.into(),
            columns: columns.map(Arc::new),
            partitions: partitions.iter().map(ToString::to_string).collect(),
            options: options.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect::<BTreeMap<_, _>>(),
            if_not_exists: false,
            or_replace: false,
            owner: "portrait".into(),
        };
        self.catalog.create_external(&self.ctx.state(), table).await
    }

    async fn fingerprint(&self, name: &str) -> String {
        let provider = self.ctx.table_provider(name).await.unwrap();
        provider.downcast_ref::<ExternalTable>().unwrap().fingerprint().await.unwrap()
    }

    async fn rows(&self, sql: &str) -> Vec<String> {
        let batches = self.ctx.sql(sql).await.unwrap().collect().await.unwrap();
        let row = |batch: &RecordBatch, row: usize| {
            let cells = batch.columns().iter().map(|column| array_value_to_string(column, row).unwrap());
            cells.collect::<Vec<_>>().join("|")
        };
        batches.iter().flat_map(|batch| (0..batch.num_rows()).map(|i| row(batch, i)).collect::<Vec<_>>()).collect()
    }

    /// Writes the rows of a query with Arrow's own writer, types as they are.
    async fn parquet(&self, name: &str, sql: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let batches = self.ctx.sql(sql).await.unwrap().collect().await.unwrap();
        let mut writer = ArrowWriter::try_new(std::fs::File::create(path).unwrap(), batches[0].schema(), None).unwrap();
        batches.iter().for_each(|batch| writer.write(batch).unwrap());
        writer.close().unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn table_folders(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.path("data/tables")).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    fn data_files(&self, _table: &str) -> Vec<PathBuf> {
        let entries = self.table_folders().into_iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect()
    }

    /// Waits for work that runs behind a statement.
    async fn settle(&self, done: impl Fn() -> bool) {
        for _ in 0..1000 {
            if done() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        panic!("still {:?}", self.data_files("*"));
    }
}

async fn open(folder: &Path) -> (Arc<Catalog>, SessionContext) {
    let roots = DataRoots::new(&folder.join("data"), &[folder.join("lake")]).unwrap();
    open_with(folder, roots).await
}

async fn open_with(folder: &Path, roots: DataRoots) -> (Arc<Catalog>, SessionContext) {
    let (data, roots) = (folder.join("data"), Arc::new(roots));
    let catalog = Catalog::open(&data, roots).await.unwrap();
    let mut config = SessionConfig::new().with_default_catalog_and_schema(DATABASE, PUBLIC);
    config.options_mut().sql_parser.dialect = datafusion::common::config::Dialect::PostgreSQL;
    let ctx = SessionContext::new_with_config(config.with_target_partitions(2));
    ctx.register_catalog(DATABASE, catalog.catalog_provider());
    catalog.set_runtime(&ctx.runtime_env());
    catalog.set_view_planner(Arc::new(Planner(ctx.state_weak_ref())));
    (catalog, ctx)
}
