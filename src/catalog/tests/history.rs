//! Copies against the plain sort: the same rows, whatever is asked for, and never stale ones.

use std::path::PathBuf;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::compute::concat_batches;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::TryStreamExt;
use portrait_udfs::context::{EventSource, HistoryProvider, StatementContext, UserHistories};
use portrait_udfs::functions::source::{SortedHistories, resolve_columns};

use crate::catalog::{Catalog, DATABASE, PUBLIC};
use crate::storage::{DataRoots, HistoryIndex};

/// Skewed users, some without name, some without time; more than one block, row group and partition.
const EVENTS: &str = "SELECT CASE WHEN n % 97 = 0 THEN NULL ELSE (n * 7919) % (1 + (n * 31) % 900) END AS user_id, \
    CASE WHEN n % 89 <> 0 THEN to_timestamp_micros(1700000000000000 + ((n * 104729) % 5000000) * 1000000) END AS event_time, \
    CASE n % 3 WHEN 0 THEN 'view' WHEN 1 THEN 'cart' ELSE 'purchase' END AS event_type, \
    concat('item ', (n * 17) % 5003) AS item_id, n / 8.0 AS price FROM generate_series(1, 90000) g(n)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_gives_what_sorting_gives() {
    let at = Fixture::new(EVENTS).await;
    let (copy, sorted) = (at.index().await, SortedHistories.open(&at.ctx.state(), &at.source).await.unwrap());
    assert!(copy.fingerprint().is_some() && sorted.fingerprint().is_none());
    assert_eq!(copy.watermark_us(), sorted.watermark_us());
    assert_eq!(copy.dropped_rows(), sorted.dropped_rows());
    assert!(copy.dropped_rows() > 1800);
    let expected = all(sorted.scan(1).await.unwrap()).await;
    for partitions in [1, 2, 3, 7, 100] {
        let streams = copy.scan(partitions).await.unwrap();
        assert!(streams.len() <= partitions);
        let mut parts = Vec::new();
        let mut last = None;
        for stream in streams {
            let batches: Vec<RecordBatch> = stream.try_collect().await.unwrap();
            for batch in &batches {
                let users = batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap();
                // Ranges ascend and do not share a user.
                assert!(parts.last().is_none_or(|_| last < Some(users.value(0)) || batches[0] != *batch));
                last = Some(users.value(users.len() - 1));
            }
            parts.extend(batches);
        }
        let joined = concat_batches(&parts[0].schema(), &parts).unwrap();
        assert_eq!(joined.columns(), expected.columns(), "{partitions} partitions");
    }
    for users in [vec![0], vec![5], vec![899], vec![-1], vec![1_000_000], vec![], (0..900).collect(), vec![1, 2, 3, 450, 451, 2000]] {
        let users: ArrayRef = Arc::new(Int64Array::from(users));
        let found = all(vec![copy.lookup(Arc::clone(&users)).await.unwrap()]).await;
        let expected = all(vec![sorted.lookup(Arc::clone(&users)).await.unwrap()]).await;
        assert_eq!(found.num_rows(), expected.num_rows(), "{users:?}");
        assert!(found.num_rows() == 0 || found == expected, "{users:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_users_and_one_user_with_everything() {
    for user in ["concat('user ', n % 301)", "'only one'"] {
        let at = Fixture::new(&EVENTS.replace("CASE WHEN n % 97 = 0 THEN NULL ELSE (n * 7919) % (1 + (n * 31) % 900) END", user)).await;
        let (copy, sorted) = (at.index().await, SortedHistories.open(&at.ctx.state(), &at.source).await.unwrap());
        let expected = all(sorted.scan(1).await.unwrap()).await;
        assert_eq!(all(copy.scan(4).await.unwrap()).await, expected);
        for name in ["user 0", "user 300", "only one", "user", ""] {
            let users: ArrayRef = Arc::new(StringArray::from(vec![name]));
            let found = all(vec![copy.lookup(Arc::clone(&users)).await.unwrap()]).await;
            assert_eq!(found.num_rows(), all(vec![sorted.lookup(users).await.unwrap()]).await.num_rows(), "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_follow_their_source() {
    let mut at = Fixture::new(&EVENTS.replace("90000", "3000")).await;
    let first = at.index().await;
    assert_eq!(at.index().await.fingerprint(), first.fingerprint());
    assert_eq!(at.folders().len(), 1);
    // Reopened, the copy on the disk is used.
    at.reopen();
    let before = std::fs::metadata(at.folders()[0].join("part-00000.parquet")).unwrap().modified().unwrap();
    at.index().await;
    assert_eq!(std::fs::metadata(at.folders()[0].join("part-00000.parquet")).unwrap().modified().unwrap(), before);
    // New rows make a new copy; the old one goes with its last reader.
    at.sql("INSERT INTO events SELECT * FROM events").await;
    let second = at.index().await;
    assert_ne!(second.fingerprint(), first.fingerprint());
    assert_eq!(all(second.scan(2).await.unwrap()).await.num_rows(), 2 * all(first.scan(2).await.unwrap()).await.num_rows());
    drop((first, second));
    assert_eq!(at.folders().len(), 1);
    // A damaged copy is made anew.
    at.reopen();
    std::fs::write(at.folders()[0].join("index.arrow"), "nonsense").unwrap();
    assert!(all(at.index().await.scan(1).await.unwrap()).await.num_rows() > 0);
    // What cannot be fingerprinted is sorted each time.
    at.source.sql = "SELECT * FROM events WHERE event_time < now()".into();
    assert_eq!(at.index().await.fingerprint(), None);
    assert_eq!(at.folders().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_callers_make_one_copy() {
    let at = Arc::new(Fixture::new(&EVENTS.replace("90000", "20000")).await);
    let callers = (0..8).map(|_| {
        let at = Arc::clone(&at);
        tokio::spawn(async move { at.index().await.fingerprint() })
    });
    let prints: Vec<_> = futures::future::join_all(callers).await.into_iter().map(|print| print.unwrap()).collect();
    assert!(prints.windows(2).all(|pair| pair[0] == pair[1] && pair[0].is_some()));
    assert_eq!(at.folders().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_build_leaves_nothing() {
    let at = Fixture::new(EVENTS).await;
    let context = StatementContext::default();
    context.cancel.cancel();
    let ctx = SessionContext::new_with_state(
        datafusion::execution::SessionStateBuilder::new_from_existing(at.ctx.state())
            .with_config(context.attach(at.ctx.copied_config().with_create_default_catalog_and_schema(false)))
            .build(),
    );
    let error = at.histories.open(&ctx.state(), &at.source).await.unwrap_err();
    assert_eq!(error.code, portrait_udfs::Code::Cancelled);
    for _ in 0..1000 {
        if at.folders().is_empty() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("left behind: {:?}", at.folders());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_source_is_empty() {
    let at = Fixture::new(&EVENTS.replace("generate_series(1, 90000)", "generate_series(1, 0)")).await;
    let copy = at.index().await;
    assert_eq!((copy.watermark_us(), copy.dropped_rows()), (None, 0));
    assert_eq!(all(copy.scan(3).await.unwrap()).await.num_rows(), 0);
    assert_eq!(all(vec![copy.lookup(Arc::new(Int64Array::from(vec![1]))).await.unwrap()]).await.num_rows(), 0);
}

struct Fixture {
    catalog: Arc<Catalog>,
    ctx: SessionContext,
    histories: Arc<HistoryIndex>,
    source: EventSource,
    _folder: tempfile::TempDir,
}

impl Fixture {
    async fn new(events: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let roots = Arc::new(DataRoots::new(folder.path(), &[]).unwrap());
        let catalog = Catalog::open(folder.path(), roots).await.unwrap();
        let config = SessionConfig::new().with_default_catalog_and_schema(DATABASE, PUBLIC).with_target_partitions(2);
        let ctx = SessionContext::new_with_config(config);
        ctx.register_catalog(DATABASE, catalog.catalog_provider());
        let rows = ctx.sql(events).await.unwrap().execute_stream().await.unwrap();
        catalog.create_managed_as("events", rows.schema(), 0, rows, "portrait").await.unwrap();
        let sql = "SELECT * FROM events".to_owned();
        let columns = resolve_columns(&ctx.state(), &sql, "auto").await.unwrap().0;
        let histories = HistoryIndex::open(catalog.folder()).unwrap();
        Self { catalog, ctx, histories, source: EventSource { sql, columns }, _folder: folder }
    }

    async fn index(&self) -> Arc<dyn UserHistories> {
        self.histories.open(&self.ctx.state(), &self.source).await.unwrap()
    }

    fn reopen(&mut self) {
        self.histories = HistoryIndex::open(self.catalog.folder()).unwrap();
    }

    async fn sql(&self, sql: &str) {
        self.ctx.sql(sql).await.unwrap().collect().await.unwrap();
    }

    fn folders(&self) -> Vec<PathBuf> {
        let folder = self.catalog.folder().join("histories");
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

async fn all(streams: Vec<datafusion::execution::SendableRecordBatchStream>) -> RecordBatch {
    let schema = streams[0].schema();
    let mut batches = Vec::new();
    for stream in streams {
        batches.extend(stream.try_collect::<Vec<_>>().await.unwrap());
    }
    // What may be NULL is said differently by a sort and by a file; the values are what counts.
    let fields: Vec<_> = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    let joined = concat_batches(&schema, &batches).unwrap();
    RecordBatch::try_new(Arc::new(datafusion::arrow::datatypes::Schema::new(fields)), joined.columns().to_vec()).unwrap()
}
