//! Goal: the table functions, the scalar ones and the row forms say the same about the same user. Method: small models
//! trained on generated events, published in a registry in memory, and asked through SQL.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Field, Schema};
use arrow::record_batch::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use tokio_util::sync::CancellationToken;

use crate::context::{EventSource, HistoryProvider};
use crate::error::{Code, Error};
use crate::features::dataset::{Dataset, EventDatasetBuilder, TableDatasetBuilder};
use crate::features::options::Options;
use crate::features::{Target, UserReader};
use crate::functions::source::resolve_columns;
use crate::functions::{MlContext, SortedHistories, register_all, sql};
use crate::kernels::splitmix;
use crate::models::{Architecture, Task};
use crate::registry::{FORMAT_VERSION, Jobs, Manifest, Registry, StoredSource, VersionInfo, VersionRequest};
use crate::train::{TrainRequest, train};

const DAY_US: i64 = 86_400_000_000;
const USERS: i64 = 120;

struct World {
    session: SessionContext,
    ml: Arc<MlContext>,
}

impl World {
    /// Events of 120 users over 100 days, once with numbers as keys and once with texts, and rows with labels.
    async fn new() -> Self {
        let store: Arc<InMemory> = Arc::default();
        let registry = Registry::open(Arc::clone(&store) as _, Path::from("models"), 64 << 20).await.unwrap();
        let jobs = Jobs::open(store, Path::from("jobs"), 1).await.unwrap();
        let ml = Arc::new(MlContext::new(Arc::new(registry), jobs));
        let config = SessionConfig::new().with_target_partitions(2).with_batch_size(128);
        let builder = SessionStateBuilder::new().with_config(config).with_default_features();
        let session = SessionContext::new_with_state(register_all(builder, Arc::clone(&ml)).build());
        let world = Self { session, ml };
        world.session.register_batch("events", events(false)).unwrap();
        world.session.register_batch("text_events", events(true)).unwrap();
        world.session.register_batch("visits", visits()).unwrap();
        world
    }

    async fn train_events(&self, name: &str, table: &str, target: &str, options: &str) {
        let text = format!("SELECT * FROM {table}");
        let state = self.session.state();
        let (columns, _) = resolve_columns(&state, &text, "auto").await.unwrap();
        let source = EventSource { sql: text.clone(), columns: columns.clone() };
        let histories = SortedHistories.open(&state, &source).await.unwrap();
        let mut stream = histories.scan(1).await.unwrap().pop().unwrap();
        let mut reader = UserReader::new(stream.schema(), &columns).unwrap();
        let target = Target::parse(target).unwrap();
        let options = Options::from_json(options).unwrap();
        let watermark_us = histories.watermark_us().unwrap();
        let mut builder = EventDatasetBuilder::new(&columns, stream.schema(), &target, 7 * DAY_US, None, &options, watermark_us).unwrap();
        while let Some(batch) = stream.try_next().await.unwrap() {
            reader.push(&batch).unwrap();
            while let Some(history) = reader.next_user() {
                builder.push(&history, reader.strings()).unwrap();
            }
        }
        if let Some(history) = reader.finish() {
            builder.push(&history, reader.strings()).unwrap();
        }
        let stored = StoredSource { sql: text, columns: Some(columns) };
        self.publish(name, &target, stored, builder.finish().unwrap(), &options).await;
    }

    async fn train_rows(&self, name: &str) {
        let options = Options::from_json(r#"{"epochs": 2}"#).unwrap();
        let rows = visits();
        let mut builder = TableDatasetBuilder::new(rows.schema(), "label", &options, None).unwrap();
        builder.push(&rows).unwrap();
        let stored = StoredSource { sql: "SELECT * FROM visits".into(), columns: None };
        self.publish(name, &Target::Column("label".into()), stored, builder.finish().unwrap(), &options).await;
    }

    async fn publish(&self, name: &str, target: &Target, source: StoredSource, dataset: Dataset, options: &Options) {
        let task = if dataset.classes.is_empty() { Task::Regression } else { Task::Classification };
        let (cancel, progress) = (CancellationToken::new(), |_| {});
        let trained = train(TrainRequest {
            dataset: &dataset,
            architecture: Some(Architecture::Logreg),
            options,
            task,
            threads: 1,
            cancel: &cancel,
            progress: &progress,
            init: None,
            checkpoints: None,
            memory: None,
        })
        .unwrap();
        let request = VersionRequest { name: name.into(), owner: "portrait".into(), statement: String::new() };
        let ticket = self.ml.registry.begin_version(request).await.unwrap();
        let manifest = Manifest {
            format_version: FORMAT_VERSION,
            info: info(name, ticket.reference.version, target, source, &dataset),
            preprocessor: dataset.encoder.clone(),
            config: trained.config,
            ensemble: trained.ensemble,
            calibration: trained.calibration,
        };
        self.ml.registry.publish(ticket, manifest, &trained.parameters).await.unwrap();
        self.ml.registry.activate(name, None).await.unwrap();
    }

    async fn rows(&self, text: &str) -> Vec<String> {
        let batches = sql(&self.session, text).await.unwrap_or_else(|error| panic!("{text}: {error}"));
        let batches = batches.collect().await.unwrap_or_else(|error| panic!("{text}: {error}"));
        let table = pretty_format_batches(&batches).unwrap().to_string();
        let rows = table.lines().filter(|line| line.starts_with('|')).skip(1);
        rows.map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join("|")).collect()
    }

    async fn check(&self, text: &str, expected: &[&str]) {
        assert_eq!(self.rows(text).await, expected, "{text}");
    }

    async fn check_error(&self, text: &str, code: Code, part: &str) {
        let result = match sql(&self.session, text).await {
            Ok(frame) => frame.collect().await,
            Err(error) => Err(error),
        };
        let Err(error) = result else { panic!("{text} should fail") };
        let found = Error::find(&error).unwrap_or_else(|| panic!("{text}: {error}"));
        assert_eq!(found.code, code, "{text}: {found}");
        assert!(found.message.contains(part), "{text}: {found}");
    }
}

fn info(name: &str, version: u32, target: &Target, source: StoredSource, dataset: &Dataset) -> VersionInfo {
    VersionInfo {
        model: name.into(),
        version,
        arch: "logreg".into(),
        target: target.to_string(),
        classes: dataset.classes.clone(),
        horizon_us: 7 * DAY_US,
        anchor_every_us: None,
        source: Some(source),
        source_fingerprint: None,
        as_of_us: None,
        options: serde_json::Value::Null,
        users: dataset.users_total,
        train_rows: 0,
        valid_rows: 0,
        test_rows: 0,
        dropped_rows: 0,
        censored_rows: 0,
        sampled: false,
        metric: "log_loss".into(),
        test: 0.0,
        baseline: 0.0,
        simple_baseline: None,
        valid: 0.0,
        epochs: 1,
        best_epoch: 1,
        parameters: 0,
        device: "cpu".into(),
        seconds: 0.0,
        history: vec![],
        candidates: vec![],
        trials: vec![],
        members: vec![],
        folds: vec![],
        message: String::new(),
        owner: "portrait".into(),
        created_at_us: 0,
        statement: String::new(),
        privacy: None,
        compression: None,
        row_columns: Vec::new(),
        weights_hash: String::new(),
        weights_bytes: 0,
    }
}

fn random(stream: u64, counter: i64) -> f64 {
    splitmix::fraction(stream, counter as u64)
}

/// User `u` has `1 + u % 25` events; who looked often buys often. Users 0, 25, 50 … have one event only.
fn events(text_keys: bool) -> RecordBatch {
    let (mut users, mut times, mut types, mut items, mut prices) = (vec![], vec![], vec![], vec![], vec![]);
    for user in 0..USERS {
        for event in 0..=user % 25 {
            let counter = user * 1000 + event;
            users.push(user);
            times.push(1_700_000_000_000_000 + (random(1, counter) * 100.0 * DAY_US as f64) as i64);
            let eager = (user % 25) as f64 / 30.0;
            types.push(match random(2, counter) {
                chance if chance < eager / 2.0 => "purchase",
                chance if chance < eager => "cart",
                _ => "view",
            });
            items.push(format!("i{}", (random(3, counter) * 20.0) as i64));
            prices.push(1.0 + (random(4, counter) * 99.0).floor());
        }
    }
    let keys: ArrayRef = if text_keys {
        Arc::new(users.iter().map(|user| Some(format!("u{user}"))).collect::<StringArray>())
    } else {
        Arc::new(Int64Array::from(users))
    };
    batch(vec![
        ("user_id", keys),
        ("event_time", Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC"))),
        ("event_type", Arc::new(StringArray::from(types))),
        ("item_id", Arc::new(items.into_iter().map(Some).collect::<StringArray>())),
        ("price", Arc::new(Float64Array::from(prices))),
    ])
}

fn visits() -> RecordBatch {
    let pages: Vec<Option<f64>> = (0..400).map(|row| if row % 20 == 19 { None } else { Some((random(5, row) * 30.0).floor()) }).collect();
    let countries: Vec<&str> = (0..400).map(|row| ["DE", "FR", "US"][row % 3]).collect();
    let labels: Vec<&str> = pages.iter().map(|pages| if pages.unwrap_or(0.0) > 15.0 { "buys" } else { "leaves" }).collect();
    batch(vec![
        ("pages", Arc::new(Float64Array::from(pages))),
        ("country", Arc::new(StringArray::from(countries))),
        ("label", Arc::new(StringArray::from(labels))),
    ])
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let fields: Vec<Field> = columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, column)| column).collect()).unwrap()
}

#[tokio::test]
async fn scalar_and_table_forms_agree() {
    let world = World::new().await;
    let options = r#"{"epochs": 2, "min_history": 2}"#;
    world.train_events("shopper", "events", "ladder(view<cart<purchase)", options).await;
    world.train_events("reader", "text_events", "purchase", options).await;
    world.check("SELECT count(*), count(intent), min(n_events), max(n_events) FROM score_users('shopper')", &["120|115|1|25"]).await;
    for (model, table) in [("shopper", "events"), ("reader", "text_events")] {
        let differing = format!(
            "SELECT count(*) FROM score_users('{model}') s WHERE \
             (predict_intent('{model}', s.user_id) IS DISTINCT FROM s.intent) \
             OR (predict_intent_proba('{model}', s.user_id, s.intent) IS DISTINCT FROM s.probability) \
             OR (predict_intent_proba('{model}', s.user_id, s.runner_up) IS DISTINCT FROM s.runner_up_probability)"
        );
        world.check(&differing, &["0"]).await;
        let differing =
            format!("SELECT count(*) FROM embed_users('{model}') e WHERE embed_user('{model}', e.user_id) IS DISTINCT FROM e.embedding");
        world.check(&differing, &["0"]).await;
        // In the past as well, with a key given as text, and from a source that is given.
        let past = "2024-01-20T00:00:00Z";
        let differing = format!(
            "SELECT count(*) FROM score_users('{model}', (SELECT * FROM {table}), as_of => '{past}') s \
             WHERE predict_intent_proba('{model}', CAST(s.user_id AS VARCHAR), s.intent, '{past}') IS DISTINCT FROM s.probability"
        );
        world.check(&differing, &["0"]).await;
        let checked = format!(
            "SELECT count(DISTINCT as_of), min(as_of) = '{past}', max(last_event) <= '{past}', min(model_version) \
             FROM score_users('{model}', as_of => '{past}')"
        );
        world.check(&checked, &["1|true|true|1"]).await;
    }
    let consistent = "SELECT count(*) FROM score_users('shopper') WHERE probability < runner_up_probability \
                      OR runner_up = intent OR entropy < 0 OR entropy > ln(4) + 1e-9 OR (intent IS NULL) <> (n_events < 2)";
    world.check(consistent, &["0"]).await;
}

#[tokio::test]
async fn since_and_projection_and_aggregates() {
    let world = World::new().await;
    world.train_events("shopper", "events", "purchase", r#"{"epochs": 1}"#).await;
    let since = "2024-02-10T00:00:00Z";
    let expected = world.rows(&format!("SELECT count(DISTINCT user_id) FROM events WHERE event_time > '{since}'")).await;
    let counted = world.rows(&format!("SELECT count(*) FROM score_users('shopper', since => '{since}')")).await;
    assert_eq!(counted, expected);
    world.check("SELECT count(*) FROM score_users('shopper', since => '2100-01-01')", &["0"]).await;
    world.check("SELECT user_id FROM score_users('shopper') WHERE user_id < 3 ORDER BY user_id", &["0", "1", "2"]).await;
    world.check("SELECT count(*) FROM score_users('shopper') LIMIT 0", &[]).await;
    world.check("SELECT count(*) FROM score_users('shopper', (SELECT * FROM events WHERE false))", &["0"]).await;
    // The watermark is the default of as_of, and echoed.
    world.check("SELECT min(as_of) = (SELECT max(event_time) FROM events) FROM score_users('shopper')", &["true"]).await;
}

#[tokio::test]
async fn short_unknown_and_null_histories_have_no_prediction() {
    let world = World::new().await;
    world.train_events("shopper", "events", "purchase", r#"{"epochs": 1, "min_history": 3}"#).await;
    world.train_events("spend", "events", "sum(price, purchase)", r#"{"epochs": 1, "min_history": 3}"#).await;
    world.check("SELECT predict_intent('shopper', 0), predict_intent('shopper', 777), predict_intent('shopper', NULL)", &["||"]).await;
    world.check("SELECT predict_value('spend', 0), predict_value('spend', 24) IS NOT NULL", &["|true"]).await;
    world.check("SELECT embed_user('shopper', 1), predict_intent_seq('shopper', ['view', 'view'])", &["|"]).await;
    world.check("SELECT predict_intent_seq('shopper', ['view', 'view', 'cart']) IS NOT NULL", &["true"]).await;
    world.check("SELECT count(*), count(intent), count(probability), count(entropy) FROM score_users('spend')", &["120|0|0|0"]).await;
    // Before anybody's first event there is nobody to predict.
    world.check("SELECT predict_intent('shopper', 24, '2001-01-01')", &[""]).await;
    world
        .check("SELECT sum(n_events), count(last_event), count(intent) FROM score_users('shopper', as_of => '2001-01-01')", &["0|0|0"])
        .await;
}

#[tokio::test]
async fn rows_are_bound_by_name() {
    let world = World::new().await;
    world.train_rows("visitor").await;
    world
        .check("SELECT count(*), count(intent), count(probability), count(value) FROM score_rows('visitor', 'visits')", &["400|400|400|0"])
        .await;
    let differing = "SELECT count(*) FROM score_rows('visitor', (SELECT label, country, pages, 1 AS extra FROM visits)) \
                     WHERE (predict_intent('visitor', named_struct('country', country, 'pages', pages)) IS DISTINCT FROM intent) \
                     OR (predict_intent_proba('visitor', named_struct('pages', pages, 'country', country), intent) \
                        IS DISTINCT FROM probability)";
    world.check(differing, &["0"]).await;
    world.check("SELECT * FROM score_rows('visitor', (SELECT * FROM visits WHERE false))", &[]).await;
    world.check_error("SELECT * FROM score_rows('visitor', (SELECT pages FROM visits))", Code::UndefinedColumn, "country").await;
    world.check_error("SELECT * FROM score_rows('visitor', (SELECT *, 1 AS value FROM visits))", Code::InvalidParameter, "\"value\"").await;
    world.check_error("SELECT * FROM score_users('visitor')", Code::DatatypeMismatch, "predicts from rows").await;
}

#[tokio::test]
async fn faults_say_what_is_wrong() {
    let world = World::new().await;
    world.train_events("shopper", "events", "purchase", r#"{"epochs": 1}"#).await;
    for (text, code, part) in [
        ("SELECT * FROM score_users('shoper')", Code::UndefinedObject, "\"shoper\" does not exist"),
        ("SELECT * FROM score_users('shopper@9')", Code::UndefinedObject, "does not exist"),
        ("SELECT predict_intent('shoper', 1)", Code::UndefinedObject, "\"shoper\" does not exist"),
        ("SELECT * FROM score_users('shopper', (SELECT user_id FROM events))", Code::UndefinedColumn, "does not exist"),
        ("SELECT * FROM score_rows('shopper', 'events')", Code::DatatypeMismatch, "events, not from rows"),
        ("SELECT predict_intent_proba('shopper', 1, 'refund')", Code::InvalidParameter, "has no class"),
        ("SELECT predict_intent('shopper', 'abc')", Code::InvalidText, "bigint"),
    ] {
        world.check_error(text, code, part).await;
    }
}

/// One forward pass per distinct user, counted by the nodes themselves.
#[tokio::test]
async fn explain_analyze_counts_forward_passes() {
    let world = World::new().await;
    world.train_events("shopper", "events", "purchase", r#"{"epochs": 1}"#).await;
    let text = world
        .rows(
            "EXPLAIN ANALYZE SELECT e.user_id, predict_intent('shopper', e.user_id), predict_intent_proba('shopper', e.user_id, 'purchase') \
             FROM events e WHERE predict_intent('shopper', e.user_id) IS NOT NULL \
             ORDER BY predict_intent_proba('shopper', e.user_id, 'purchase')",
        )
        .await
        .join("\n");
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("PredictExec")).collect();
    assert_eq!(lines.len(), 1, "{text}");
    assert!(lines[0].contains("forward_passes=120,") && lines[0].contains("distinct_users=120,"), "{}", lines[0]);
    let text = world.rows("EXPLAIN ANALYZE SELECT * FROM score_users('shopper')").await.join("\n");
    assert!(text.contains("forward_passes=120"), "{text}");
}

#[tokio::test]
async fn a_new_active_version_is_seen_by_the_next_execution() {
    let world = World::new().await;
    world.train_events("shopper", "events", "purchase", r#"{"epochs": 1}"#).await;
    sql(&world.session, "PREPARE look AS SELECT predict_intent_proba('shopper', 24, 'purchase')").await.unwrap();
    let first = world.rows("EXECUTE look").await;
    let pinned = world.rows("SELECT predict_intent_proba('shopper@1', 24, 'purchase')").await;
    assert_eq!(first, pinned);
    world.train_events("shopper", "events", "purchase", r#"{"epochs": 8, "seed": 3}"#).await;
    let second = world.rows("EXECUTE look").await;
    assert_eq!(second, world.rows("SELECT predict_intent_proba('shopper@2', 24, 'purchase')").await);
    assert_ne!(first, second);
    world.check("SELECT DISTINCT model_version FROM score_users('shopper')", &["2"]).await;
}
