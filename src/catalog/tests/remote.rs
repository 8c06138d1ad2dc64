//! Objects of a bucket, read where they lie.

use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};

use super::*;
use crate::storage::objects::RemoteRoot;
use crate::storage::objects::faults::{Fault, Faulty};

/// A catalog whose data roots are a folder and `s3://bucket/lake`.
async fn fixture(objects: Arc<dyn ObjectStore>) -> Fixture {
    let mut at = Fixture::new().await;
    let spare = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(spare.path().join("lake")).unwrap();
    let (catalog, ctx) = open(spare.path()).await;
    // The first must let go of its lock.
    drop((std::mem::replace(&mut at.catalog, catalog), std::mem::replace(&mut at.ctx, ctx)));
    let roots = DataRoots::new(&at.path("data"), &[at.path("lake")]).unwrap();
    let roots = roots.with_remote(RemoteRoot::over("s3://bucket/lake", objects).unwrap());
    (at.catalog, at.ctx) = open_with(at.folder.path(), roots).await;
    at
}

async fn put(objects: &InMemory, key: &str, bytes: impl Into<object_store::PutPayload>) {
    objects.put(&Key::from(key), bytes.into()).await.unwrap();
}

/// The rows of a query as a Parquet file.
async fn parquet(at: &Fixture, sql: &str) -> Vec<u8> {
    at.parquet("made.parquet", sql).await;
    std::fs::read(at.path("made.parquet")).unwrap()
}

#[tokio::test]
async fn parquet_csv_and_json_are_read_with_hive_folders() {
    let objects = Arc::new(InMemory::new());
    let at = fixture(Arc::<InMemory>::clone(&objects)).await;
    put(&objects, "lake/e/day=1/a.parquet", parquet(&at, "SELECT 1 AS n, 'x' AS s").await).await;
    put(&objects, "lake/e/day=2/b.parquet", parquet(&at, "SELECT 2 AS n, 'y' AS s").await).await;
    put(&objects, "lake/c/a.csv", "n,s\n1,x\n2,y\n").await;
    put(&objects, "lake/j/a.jsonl", "{\"n\": 5}\n{\"n\": 6}\n").await;
    at.external("e", FileKind::Parquet, "s3://bucket/lake/e/", &[], &[]).await.unwrap();
    at.external("c", FileKind::Csv, "s3://bucket/lake/c/*.csv", &[], &[("format.has_header", "true")]).await.unwrap();
    at.external("j", FileKind::Json, "s3://bucket/lake/j", &[], &[]).await.unwrap();
    assert_eq!(at.rows("SELECT n, s, day FROM e ORDER BY n").await, ["1|x|1", "2|y|2"]);
    assert_eq!(at.rows("SELECT n FROM e WHERE day = '2'").await, ["2"]);
    assert_eq!(at.rows("SELECT sum(n), max(s) FROM c").await, ["3|y"]);
    assert_eq!(at.rows("SELECT sum(n) FROM j").await, ["11"]);
    assert_eq!(at.rows("SELECT sum(n) FROM \"s3://bucket/lake/e/*/*.parquet\"").await, ["3"]);
}

#[tokio::test]
async fn objects_are_seen_as_they_come_change_and_go() {
    let objects = Arc::new(InMemory::new());
    let at = fixture(Arc::<InMemory>::clone(&objects)).await;
    let (one, two) = (parquet(&at, "SELECT 1 AS n").await, parquet(&at, "SELECT 2 AS n").await);
    assert_eq!(one.len(), two.len(), "only the tag tells them apart within one tick of the clock");
    put(&objects, "lake/e/a.parquet", one).await;
    at.external("e", FileKind::Parquet, "s3://bucket/lake/e", &[], &[]).await.unwrap();
    let first = at.fingerprint("e").await;
    assert_eq!(at.rows("SELECT count(*), max(n) FROM e").await, ["1|1"]);
    put(&objects, "lake/e/a.parquet", two.clone()).await;
    assert_ne!(at.fingerprint("e").await, first);
    assert_eq!(at.rows("SELECT count(*), max(n) FROM e").await, ["1|2"]);
    put(&objects, "lake/e/b.parquet", two).await;
    assert_eq!(at.rows("SELECT count(*) FROM e").await, ["2"]);
    for key in ["lake/e/a.parquet", "lake/e/b.parquet"] {
        objects.delete(&Key::from(key)).await.unwrap();
    }
    assert_eq!(at.rows("SELECT count(*) FROM e").await, ["0"]);
}

#[tokio::test]
async fn what_is_not_under_a_root_or_not_there_is_refused() {
    let objects = Arc::new(InMemory::new());
    let at = fixture(Arc::<InMemory>::clone(&objects)).await;
    put(&objects, "secret/a.csv", "n\n1\n").await;
    for (location, code) in [
        ("s3://bucket/secret/a.csv", Code::InsufficientPrivilege),
        ("s3://other/lake/a.csv", Code::InsufficientPrivilege),
        ("s3://bucket/lake/../secret/a.csv", Code::InvalidParameter),
        ("s3://bucket/lake/none.csv", Code::InvalidParameter),
        ("s3://key:word@bucket/lake/a.csv", Code::InvalidParameter),
        ("gs://bucket/lake/a.csv", Code::InvalidParameter),
    ] {
        let error = at.external("e", FileKind::Csv, location, &[], &[]).await.unwrap_err();
        assert_eq!(error.code, code, "{location}: {error}");
        assert!(error.hint.is_some() && !error.message.contains("word"), "{location}: {error}");
    }
}

#[tokio::test]
async fn a_call_that_fails_fails_the_query_and_nothing_else() {
    let objects = Arc::new(InMemory::new());
    let faulty = Faulty::over(Arc::clone(&objects));
    let at = fixture(Arc::new(faulty.clone())).await;
    // Two values each: one would be answered from the footer.
    for (name, n) in [("a", 1), ("b", 3)] {
        put(&objects, &format!("lake/e/{name}.parquet"), parquet(&at, &format!("SELECT unnest([{n}, {n} + 1]) AS n")).await).await;
    }
    at.external("e", FileKind::Parquet, "s3://bucket/lake/e/", &[], &[]).await.unwrap();
    for call in 0.. {
        faulty.fail(Some(Fault { call, late: false }));
        let outcome = async { at.ctx.sql("SELECT n FROM e ORDER BY n").await?.collect().await }.await;
        let calls = faulty.calls();
        faulty.fail(None);
        match outcome {
            Ok(batches) => assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 4),
            Err(error) => assert_eq!(crate::storage::engine_error(error).code, Code::Io),
        }
        assert_eq!(at.rows("SELECT n FROM e ORDER BY n").await, ["1", "2", "3", "4"]);
        if calls <= call {
            assert!(call > 1);
            break;
        }
    }
}
