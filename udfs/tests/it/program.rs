//! A DataFusion program with the functions registered and a small log with planted intent.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use object_store::memory::InMemory;
use object_store::path::Path;
use parquet::arrow::ArrowWriter;
use portrait_udfs::Error;
use portrait_udfs::functions::{MlContext, register_all, sql};
use portrait_udfs::registry::{Jobs, Registry};

const DAY_US: i64 = 86_400_000_000;
const START_US: i64 = 1_700_000_000_000_000;

/// A plain DataFusion program.
pub struct Program {
    pub session: SessionContext,
    pub context: Arc<MlContext>,
    _files: tempfile::TempDir,
}

/// Numbers that look random and are always the same.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

/// 300 users over 70 days; every third one buys about every four days, the others rarely.
fn events() -> RecordBatch {
    let mut numbers = Numbers(7);
    let (mut users, mut times, mut types, mut items, mut prices) = (vec![], vec![], vec![], vec![], vec![]);
    for user in 0..300i64 {
        let buyer = user % 3 == 0;
        for day in 0..70i64 {
            if numbers.next(3) != 0 {
                continue;
            }
            let kind = match numbers.next(100) {
                n if buyer && n < 60 => "purchase",
                n if n < 4 => "purchase",
                n if n < 25 => "cart",
                _ => "view",
            };
            users.push(Some(user));
            times.push(START_US + day * DAY_US + numbers.next(86_400) as i64 * 1_000_000);
            types.push(kind);
            items.push(format!("item{}", numbers.next(40)));
            prices.push(numbers.next(10_000) as f64 / 100.0);
        }
    }
    for _ in 0..2 {
        users.push(None);
        times.push(START_US);
        types.push("view");
        items.push("item1".into());
        prices.push(1.0);
    }
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("user_id", Arc::new(Int64Array::from(users))),
        ("event_time", Arc::new(TimestampMicrosecondArray::from(times))),
        ("event_type", Arc::new(StringArray::from(types))),
        ("item_id", Arc::new(StringArray::from(items))),
        ("price", Arc::new(Float64Array::from(prices))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

/// 600 labelled rows whose label follows from two columns, with noise.
fn people() -> RecordBatch {
    let mut numbers = Numbers(11);
    let (mut ages, mut cities, mut labels) = (vec![], vec![], vec![]);
    for _ in 0..600 {
        let (age, city) = (numbers.next(60) as i64 + 18, ["Berlin", "Paris", "Rome"][numbers.next(3) as usize]);
        let likely = age > 50 || city == "Rome";
        ages.push(if numbers.next(20) == 0 { None } else { Some(age) });
        cities.push(city);
        labels.push(if likely == (numbers.next(10) < 8) { "yes" } else { "no" });
    }
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("age", Arc::new(Int64Array::from(ages))),
        ("city", Arc::new(StringArray::from(cities))),
        ("label", Arc::new(StringArray::from(labels))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true))).unwrap()
}

fn write(folder: &std::path::Path, name: &str, batch: &RecordBatch) -> String {
    let path = folder.join(name);
    let mut writer = ArrowWriter::try_new(std::fs::File::create(&path).unwrap(), batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    path.to_str().unwrap().to_owned()
}

impl Program {
    pub async fn new() -> Self {
        Self::with(2, 2, 1 << 30).await
    }

    /// A program with so many training threads and partitions, and so much memory for queries and training data.
    pub async fn with(training_threads: usize, partitions: usize, memory_bytes: usize) -> Self {
        let files = tempfile::tempdir().unwrap();
        let store = Arc::new(InMemory::new());
        let registry = Registry::open(Arc::clone(&store) as _, Path::from("models"), 64 << 20).await.unwrap();
        let jobs = Jobs::open(store, Path::from("jobs"), 1).await.unwrap();
        let context = Arc::new(MlContext { training_threads, ..MlContext::new(Arc::new(registry), jobs) });
        let runtime = RuntimeEnvBuilder::new().with_memory_limit(memory_bytes, 1.0).build_arc().unwrap();
        let config = SessionConfig::new().with_target_partitions(partitions).set_str("datafusion.sql_parser.dialect", "postgresql");
        let builder = SessionStateBuilder::new().with_config(config).with_runtime_env(runtime).with_default_features();
        let session = SessionContext::new_with_state(register_all(builder, Arc::clone(&context)).build());
        let events = write(files.path(), "events.parquet", &events());
        session.register_parquet("events", events, ParquetReadOptions::default()).await.unwrap();
        let people = write(files.path(), "people.parquet", &people());
        session.register_parquet("people", people, ParquetReadOptions::default()).await.unwrap();
        Self { session, context, _files: files }
    }

    /// Runs a statement that must succeed.
    pub async fn rows(&self, text: &str) -> Vec<RecordBatch> {
        let frame = sql(&self.session, text).await.unwrap_or_else(|error| panic!("{text}: {error}"));
        frame.collect().await.unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// Runs a statement that must fail with an error of ours.
    pub async fn error(&self, text: &str) -> Error {
        let error = match sql(&self.session, text).await {
            Ok(frame) => frame.collect().await.map(|_| ()).expect_err(text),
            Err(error) => error,
        };
        Error::find(&error).unwrap_or_else(|| panic!("{text}: {error}")).clone()
    }
}

/// A column as text.
pub fn column(batches: &[RecordBatch], name: &str) -> Vec<String> {
    let options = FormatOptions::default();
    let values = batches.iter().flat_map(|batch| {
        let array = batch.column_by_name(name).unwrap_or_else(|| panic!("no column {name}"));
        let formatter = ArrayFormatter::try_new(array, &options).unwrap();
        (0..batch.num_rows()).map(|row| formatter.value(row).to_string()).collect::<Vec<_>>()
    });
    values.collect()
}

/// The first row's value as text.
pub fn cell(batches: &[RecordBatch], name: &str) -> String {
    column(batches, name).into_iter().next().unwrap_or_else(|| panic!("no row with {name}"))
}

/// The first row's value as a number.
pub fn number(batches: &[RecordBatch], name: &str) -> f64 {
    cell(batches, name).parse().unwrap()
}
