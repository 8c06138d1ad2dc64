//! Goal: every call is answered right, and each distinct user goes through the network once, wherever SQL puts the
//! call. Method: a fake model whose answers follow from the key, and counters.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::Result as DataFusionResult;
use datafusion::datasource::MemTable;
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use datafusion::prelude::{SessionConfig, SessionContext};

use super::answers::{Answers, Layout, Scored};
use super::execution::Executions;
use super::hoist::HoistPredictions;
use super::models::{ModelFacts, Models};
use super::planner::PredictPlanner;
use super::predictor::{GivenSequence, Key, Predictor, Tally};
use super::scalar_functions;
use crate::error::{Code, Error, Result};
use crate::features::KeyType;
use crate::features::events::UserKey;
use crate::registry::ModelRef;

const WATERMARK_US: i64 = 1_000_000;

/// `m`: three classes, the class of a user is its key modulo 3 (plus the version); users from 1000 on are unknown.
/// `v`: a number, ten times the key. `t`: keys of text. `r`: labelled rows.
#[derive(Debug, Default)]
struct Fake {
    passes: Arc<AtomicUsize>,
    lookups: Arc<AtomicUsize>,
    opened: AtomicUsize,
    active: AtomicU32,
}

#[async_trait]
impl Models for Fake {
    fn pin(&self, requested: &str) -> Result<(ModelRef, ModelFacts)> {
        let (name, version) = match requested.split_once('@') {
            Some((name, version)) => (name, version.parse().map_err(|_| Error::invalid("version"))?),
            None => (requested, self.active.load(Ordering::SeqCst).max(1)),
        };
        let (classes, key_type): (&[&str], _) = match name {
            "m" => (&["a", "b", "c"], Some(KeyType::Int64)),
            "t" => (&["a", "b", "c"], Some(KeyType::Utf8)),
            "v" => (&[], Some(KeyType::Int64)),
            "r" => (&["no", "yes"], None),
            _ => return Err(Error::new(Code::UndefinedObject, format!("model \"{name}\" does not exist"))),
        };
        let facts = ModelFacts { classes: classes.iter().map(ToString::to_string).collect(), arch: "logreg".into(), key_type };
        Ok((ModelRef { name: name.into(), version, id: name.into() }, facts))
    }

    async fn open(&self, model: &ModelRef, _session: &Arc<SessionState>) -> Result<Arc<dyn Predictor>> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        let facts = self.pin(&model.to_string())?.1;
        Ok(Arc::new(FakePredictor {
            facts,
            version: i64::from(model.version),
            passes: Arc::clone(&self.passes),
            lookups: Arc::clone(&self.lookups),
        }))
    }
}

#[derive(Debug)]
struct FakePredictor {
    facts: ModelFacts,
    version: i64,
    passes: Arc<AtomicUsize>,
    lookups: Arc<AtomicUsize>,
}

impl FakePredictor {
    fn push(&self, number: i64, answers: &mut Answers, tally: &Tally) {
        self.passes.fetch_add(1, Ordering::SeqCst);
        tally.forward_passes.add(1);
        let classes = self.facts.classes.len();
        let mut probabilities = vec![0.1; classes];
        if classes > 0 {
            probabilities[(number + self.version - 1) as usize % classes] = 0.8;
        }
        answers.push(Scored { probabilities: &probabilities, value: number as f64 * 10.0, embedding: &[3.0, 4.0] });
    }
}

#[async_trait]
impl Predictor for FakePredictor {
    fn classes(&self) -> &[String] {
        &self.facts.classes
    }

    fn key_type(&self) -> Option<KeyType> {
        self.facts.key_type
    }

    fn embedding_dim(&self) -> usize {
        2
    }

    async fn watermark_us(&self) -> Result<Option<i64>> {
        Ok(Some(WATERMARK_US))
    }

    async fn users(&self, keys: &[Key], layout: &Arc<Layout>, tally: &Tally) -> Result<Answers> {
        assert!(keys.is_sorted() && !keys.is_empty());
        self.lookups.fetch_add(1, Ordering::SeqCst);
        tally.lookups.add(1);
        tokio::task::yield_now().await;
        let mut answers = Answers::new(layout);
        for (user, at_us) in keys {
            let number = match user {
                UserKey::Int64(number) => *number,
                UserKey::Utf8(text) => text.trim_start_matches('u').parse().unwrap_or(5000),
            };
            if number < 1000 && *at_us >= WATERMARK_US {
                self.push(number, &mut answers, tally);
            } else {
                answers.push_null();
            }
        }
        Ok(answers)
    }

    fn rows(&self, rows: &RecordBatch, layout: &Arc<Layout>, tally: &Tally) -> Result<Answers> {
        let column = rows.column_by_name("x").ok_or_else(|| Error::new(Code::UndefinedColumn, "no x"))?;
        let column = arrow::compute::cast(column, &DataType::Int64).map_err(|_| Error::invalid("x"))?;
        let mut answers = Answers::new(layout);
        for number in column.as_any().downcast_ref::<Int64Array>().into_iter().flatten() {
            self.push(number.unwrap_or_default(), &mut answers, tally);
        }
        Ok(answers)
    }

    fn sequences(&self, given: &[GivenSequence<'_>], layout: &Arc<Layout>, tally: &Tally) -> Result<Answers> {
        let mut answers = Answers::new(layout);
        for row in given {
            match row {
                Some(row) if !row.events.is_empty() => self.push(row.events.len() as i64, &mut answers, tally),
                _ => answers.push_null(),
            }
        }
        Ok(answers)
    }
}

#[derive(Debug)]
struct Planner(Arc<PredictPlanner>);

#[async_trait]
impl QueryPlanner for Planner {
    async fn create_physical_plan(&self, plan: &LogicalPlan, session: &dyn Session) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let planner = PredictPlanner { models: Arc::clone(&self.0.models), executions: Arc::clone(&self.0.executions) };
        DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(planner)]).create_physical_plan(plan, session).await
    }
}

struct World {
    fake: Arc<Fake>,
    context: SessionContext,
}

/// `users(id, country, name)` with ids 0..100 and NULL, `events(user_id, item)` with 10 events of each user in two
/// partitions that both have every user.
fn world() -> World {
    let fake = Arc::new(Fake::default());
    let models: Arc<dyn Models> = Arc::<Fake>::clone(&fake);
    let planner = PredictPlanner { models: Arc::clone(&models), executions: Arc::new(Executions::default()) };
    let config = SessionConfig::new().with_target_partitions(2).with_batch_size(256);
    let mut builder = SessionStateBuilder::new()
        .with_config(config)
        .with_default_features()
        .with_analyzer_rule(Arc::new(HoistPredictions { models }))
        .with_query_planner(Arc::new(Planner(Arc::new(planner))));
    builder.scalar_functions().get_or_insert_default().extend(scalar_functions());
    let context = SessionContext::new_with_state(builder.build());
    let ids: Vec<Option<i64>> = (0..100).map(Some).chain([None]).collect();
    let countries: Vec<&str> = (0..101).map(|id| if id % 2 == 0 { "DE" } else { "FR" }).collect();
    let names: Vec<String> = (0..101).map(|id| format!("u{id}")).collect();
    let users = batch(vec![
        ("id", Arc::new(Int64Array::from(ids))),
        ("country", Arc::new(StringArray::from(countries))),
        ("name", Arc::new(StringArray::from(names))),
    ]);
    let events: Vec<RecordBatch> = (0..2)
        .map(|part| {
            let user_ids: Vec<i64> = (0..500).map(|event| event % 100).collect();
            let items: Vec<i64> = (0..500).map(|event| event * 2 + part).collect();
            batch(vec![("user_id", Arc::new(Int64Array::from(user_ids))), ("item", Arc::new(Int64Array::from(items)))])
        })
        .collect();
    let schema = events[0].schema();
    let events = MemTable::try_new(schema, events.into_iter().map(|batch| vec![batch]).collect()).unwrap();
    context.register_batch("users", users).unwrap();
    context.register_table("events", Arc::new(events)).unwrap();
    World { fake, context }
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let fields: Vec<Field> = columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, column)| column).collect()).unwrap()
}

impl World {
    async fn run(&self, sql: &str) -> std::result::Result<Vec<RecordBatch>, datafusion::error::DataFusionError> {
        self.fake.passes.store(0, Ordering::SeqCst);
        self.fake.lookups.store(0, Ordering::SeqCst);
        self.context.sql(sql).await?.collect().await
    }

    fn passes(&self) -> usize {
        self.fake.passes.load(Ordering::SeqCst)
    }

    /// The table's rows, cells separated by a bar, and the forward passes.
    async fn rows(&self, sql: &str) -> (Vec<String>, usize) {
        let batches = self.run(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let table = pretty_format_batches(&batches).unwrap().to_string();
        let rows = table.lines().filter(|line| line.starts_with('|')).skip(1);
        let cells = |line: &str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join("|");
        (rows.map(cells).collect(), self.passes())
    }

    async fn check(&self, sql: &str, expected: &[&str], passes: usize) {
        let (rows, counted) = self.rows(sql).await;
        assert_eq!(rows, expected, "{sql}");
        assert_eq!(counted, passes, "forward passes of {sql}");
    }

    async fn check_error(&self, sql: &str, code: Code, part: &str) {
        let error = match self.run(sql).await {
            Ok(_) => panic!("{sql} should fail"),
            Err(error) => error,
        };
        let found = Error::find(&error).unwrap_or_else(|| panic!("{sql}: {error}"));
        assert_eq!(found.code, code, "{sql}: {found}");
        assert!(found.message.contains(part), "{sql}: {found}");
    }
}

#[tokio::test]
async fn one_pass_per_distinct_user_wherever_it_is_named() {
    let world = world();
    let cases: &[(&str, &[&str], usize)] = &[
        ("SELECT predict_intent('m', id) FROM users WHERE id = 4", &["b"], 1),
        // Projection, filter and sort share one pass.
        (
            "SELECT id, predict_intent('m', id) AS p, predict_intent_proba('m', id, 'b') AS b FROM users \
             WHERE predict_intent('m', id) = 'b' ORDER BY predict_intent_proba('m', id, 'b') DESC, id LIMIT 2",
            &["1|b|0.8", "4|b|0.8"],
            100,
        ),
        // Functions of one group share it as well.
        (
            "SELECT predict_intent('m', id), predict_intent_proba('m', id, 'c'), embed_user('m', id) FROM users \
             WHERE id = 2",
            &["c|0.8|[0.6, 0.8]"],
            1,
        ),
        // Filters on other columns sink below.
        ("SELECT count(*) FROM users WHERE predict_intent('m', id) = 'a' AND country = 'DE'", &["17"], 50),
        // Many rows of a user, in two partitions.
        ("SELECT count(*) FROM events WHERE predict_intent('m', user_id) = 'a'", &["340"], 100),
        (
            "SELECT predict_intent('m', user_id) AS p, count(*) FROM events GROUP BY predict_intent('m', user_id) ORDER BY p",
            &["a|340", "b|330", "c|330"],
            100,
        ),
        (
            "SELECT user_id, count(*) FROM events GROUP BY user_id HAVING predict_intent('m', user_id) = 'a' \
             ORDER BY user_id LIMIT 2",
            &["0|10", "3|10"],
            100,
        ),
        ("SELECT avg(predict_value('v', user_id)) FROM events WHERE predict_value('v', user_id) > 500", &["750.0"], 100),
        ("SELECT count(*) FROM (SELECT predict_intent('m', id) AS p FROM users)", &["101"], 0),
        ("SELECT sum(id) FROM (SELECT id, predict_intent('m', id) AS p, embed_user('m', id) FROM users)", &["4950"], 0),
        ("SELECT p FROM (SELECT predict_intent('m', id) AS p, id FROM users) WHERE p = 'c' AND id < 3", &["c"], 3),
        (
            "WITH scored AS (SELECT id, predict_intent('m', id) AS p FROM users) \
             SELECT a.id FROM scored a JOIN scored b ON a.id = b.id WHERE b.p = 'a' ORDER BY 1 LIMIT 1",
            &["0"],
            100,
        ),
        (
            "SELECT predict_intent('m', id) FROM users WHERE id = 1 UNION ALL SELECT predict_intent('m', id) FROM users \
             WHERE id = 1",
            &["b", "b"],
            1,
        ),
        (
            "SELECT DISTINCT ON (predict_intent('m', id)) predict_intent('m', id) AS p, id FROM users \
             WHERE id IS NOT NULL ORDER BY predict_intent('m', id), id",
            &["a|0", "b|1", "c|2"],
            100,
        ),
        (
            "SELECT id, rank() OVER (PARTITION BY predict_intent('m', id) ORDER BY id) AS r FROM users \
             WHERE id < 6 ORDER BY id",
            &["0|1", "1|1", "2|1", "3|2", "4|2", "5|2"],
            6,
        ),
        ("SELECT CASE WHEN id = 1 THEN predict_intent('m', id) ELSE 'x' END FROM users WHERE id < 2 ORDER BY id", &["x", "b"], 2),
        ("SELECT coalesce(predict_intent('m', id), 'none') FROM users WHERE id IS NULL", &["none"], 0),
        (
            "SELECT id FROM users WHERE id IN (SELECT user_id FROM events WHERE predict_intent('m', user_id) = 'b') AND id < 5 ORDER BY id",
            &["1", "4"],
            5,
        ),
    ];
    for (sql, rows, passes) in cases {
        world.check(sql, rows, *passes).await;
    }
}

#[tokio::test]
async fn joins_values_and_nested_calls() {
    let world = world();
    let cases: &[(&str, &[&str], usize)] = &[
        (
            "SELECT u.id, predict_intent('m', u.id) FROM users u JOIN events e ON u.id = e.user_id WHERE e.item < 4 ORDER BY e.item",
            &["0|a", "0|a", "1|b", "1|b"],
            2,
        ),
        (
            "SELECT a.id, b.id FROM users a JOIN users b ON predict_intent('m', a.id) = predict_intent('m', b.id) \
             AND a.id < 3 AND b.id BETWEEN 3 AND 5 ORDER BY 1",
            &["0|3", "1|4", "2|5"],
            6,
        ),
        ("SELECT u.id FROM users u LEFT JOIN users x ON predict_intent('m', x.id) = 'zzz' AND x.id = u.id WHERE u.id = 1", &["1"], 1),
        ("SELECT * FROM (VALUES (predict_intent('m', 1), 1), (predict_intent('m', 2), 2)) AS t ORDER BY 2", &["b|1", "c|2"], 2),
        ("SELECT predict_intent('m', CAST(predict_value('v', 2) AS BIGINT))", &["c"], 2),
        (
            "SELECT id FROM users u WHERE id < 6 AND EXISTS (SELECT 1 FROM events e WHERE e.user_id = u.id \
             AND predict_intent('m', u.id) = 'c') ORDER BY id",
            &["2", "5"],
            6,
        ),
        (
            "SELECT id FROM users u WHERE id < 6 AND EXISTS (SELECT 1 FROM events e WHERE e.user_id = u.id \
             AND predict_intent('m', e.user_id) = 'c') ORDER BY id",
            &["2", "5"],
            6,
        ),
        ("SELECT (SELECT max(predict_value('v', user_id)) FROM events) AS top", &["990.0"], 100),
    ];
    for (sql, rows, passes) in cases {
        world.check(sql, rows, *passes).await;
    }
}

#[tokio::test]
async fn null_unknown_and_text_users() {
    let world = world();
    let cases: &[(&str, &[&str], usize)] = &[
        ("SELECT predict_intent('m', NULL), predict_intent_proba('m', NULL, 'a'), embed_user('m', NULL)", &["||"], 0),
        ("SELECT predict_intent('m', 5000), predict_value('v', 5000)", &["|"], 0),
        ("SELECT predict_intent('m', '4'), predict_intent('m', ' 5 ')", &["b|c"], 2),
        ("SELECT predict_intent('t', 'u4'), predict_intent('t', 4)", &["b|b"], 2),
        ("SELECT count(predict_intent('t', name)) FROM users", &["101"], 101),
        ("SELECT predict_intent('m', 4.0), predict_intent('m', 4.5)", &["b|"], 1),
        ("SELECT predict_intent('m', 4, '1970-01-01T00:00:00Z'), predict_intent('m', 4, '2020-01-01')", &["|b"], 1),
        ("SELECT predict_intent('m', 4, NULL), predict_intent('m', 4)", &["b|b"], 1),
        ("SELECT predict_intent('m', 4, to_timestamp_micros(item)) FROM events WHERE item < 2", &["", ""], 0),
        ("SELECT predict_intent_proba('m', 1, x) FROM (VALUES ('a'), ('b'), ('z'), (NULL)) AS t(x)", &["0.1", "0.8", "", ""], 1),
        ("SELECT embed_user('m', 4, NULL, false)", &["[3.0, 4.0]"], 1),
        ("SELECT predict_intent_seq('m', ['view', 'cart']), predict_intent_seq('m', [])", &["c|"], 1),
        ("SELECT predict_intent_seq('m', NULL), embed_seq('m', ['view'])", &["|[0.6, 0.8]"], 1),
        ("SELECT predict_intent('r', named_struct('x', id)) FROM users WHERE id < 3 ORDER BY id", &["no", "yes", "no"], 3),
    ];
    for (sql, rows, passes) in cases {
        world.check(sql, rows, *passes).await;
    }
}

#[tokio::test]
async fn faults_say_what_is_wrong() {
    let world = world();
    let cases = [
        ("SELECT predict_intent('nope', 1)", Code::UndefinedObject, "does not exist"),
        ("SELECT predict_intent(country, id) FROM users", Code::FeatureNotSupported, "must be constant"),
        ("SELECT predict_intent(NULL, 1)", Code::InvalidParameter, "must not be NULL"),
        ("SELECT predict_intent('m', 'abc')", Code::InvalidText, "invalid input syntax for type bigint: \"abc\""),
        ("SELECT predict_intent('m', true)", Code::DatatypeMismatch, "cannot name a user"),
        ("SELECT predict_intent_proba('m', 1, 'z')", Code::InvalidParameter, "has no class \"z\""),
        ("SELECT predict_value('m', 1)", Code::DatatypeMismatch, "predicts a class"),
        ("SELECT predict_intent('v', 1)", Code::DatatypeMismatch, "predicts a number"),
        ("SELECT predict_intent('r', 1)", Code::DatatypeMismatch, "from a row"),
        ("SELECT predict_intent('m', named_struct('x', 1))", Code::DatatypeMismatch, "from a user's events"),
        ("SELECT predict_intent('r', named_struct('y', 1))", Code::UndefinedColumn, "no x"),
        ("SELECT predict_intent('m', 1, 'yesterday')", Code::InvalidDatetime, "cannot be read as a time"),
        ("SELECT embed_user('m', id, NULL, id > 3) FROM users", Code::FeatureNotSupported, "must be constant"),
        ("SELECT predict_intent_seq('m', ['a'], ['x', 'y'])", Code::InvalidParameter, "one for each event"),
        ("SELECT 1 FROM users a JOIN users b ON predict_intent('m', a.id + b.id) = 'a'", Code::FeatureNotSupported, "both sides of a join"),
    ];
    for (sql, code, part) in cases {
        world.check_error(sql, code, part).await;
    }
}

#[tokio::test]
async fn planning_runs_nothing_and_limits_run_little() {
    let world = world();
    for sql in [
        "EXPLAIN SELECT predict_intent('m', id) FROM users",
        "SELECT predict_intent('m', id) FROM users LIMIT 0",
        "SELECT predict_intent('m', id) FROM users WHERE false",
        "PREPARE quiet AS SELECT predict_intent('m', id) FROM users WHERE id = $1",
        "CREATE VIEW seen AS SELECT id, predict_intent('m', id) AS p FROM users",
    ] {
        world.run(sql).await.unwrap();
        assert_eq!(world.passes(), 0, "{sql}");
        assert_eq!(world.fake.opened.load(Ordering::SeqCst), 0, "{sql}");
    }
    world.check("SELECT p FROM seen WHERE id = 2", &["c"], 1).await;
    world.check("SELECT predict_intent('m', id) FROM users WHERE id IS NOT NULL LIMIT 3", &["a", "b", "c"], 3).await;
    let (rows, passes) = world.rows("SELECT user_id FROM events WHERE predict_intent('m', user_id) = 'a' LIMIT 1").await;
    assert_eq!(rows.len(), 1);
    assert!(passes <= 100, "{passes}");
}

#[tokio::test]
async fn prepared_statements_see_a_newly_active_version() {
    let world = world();
    world.run("PREPARE one AS SELECT predict_intent($1, $2)").await.unwrap();
    world.run("PREPARE two AS SELECT predict_intent('m', id) FROM users WHERE id = $1").await.unwrap();
    world.check("EXECUTE one('m', 4)", &["b"], 1).await;
    world.check("EXECUTE two(4)", &["b"], 1).await;
    world.fake.active.store(2, Ordering::SeqCst);
    world.check("EXECUTE one('m', 4)", &["c"], 1).await;
    world.check("EXECUTE two(4)", &["c"], 1).await;
    world.check("EXECUTE one('m@1', 4)", &["b"], 1).await;
    // A plan that was analyzed before is resolved again as well.
    let state = world.context.state();
    let plan = state.create_logical_plan("SELECT predict_intent('m', 4) AS p").await.unwrap();
    let analyzed = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {}).unwrap();
    world.fake.active.store(3, Ordering::SeqCst);
    let again = state.analyzer().execute_and_check(analyzed, state.config_options(), |_, _| {}).unwrap();
    assert!(again.display_indent().to_string().contains("model=m@3"), "{}", again.display_indent());
}

#[tokio::test]
async fn explain_analyze_counts() {
    let world = world();
    let sql = "EXPLAIN ANALYZE SELECT predict_intent('m', user_id), predict_intent_proba('m', user_id, 'a') FROM events \
               WHERE predict_intent('m', user_id) <> 'z'";
    let text = world.rows(sql).await.0.join("\n");
    assert_eq!(text.matches("PredictExec").count(), 1, "{text}");
    let line = text.lines().find(|line| line.contains("PredictExec")).unwrap();
    assert!(line.contains("model=m@1") && line.contains("forward_passes=100"), "{line}");
    assert!(line.contains("distinct_users=100") && line.contains("lookups="), "{line}");
}

#[tokio::test]
async fn names_of_columns_stay() {
    let world = world();
    let frame = world.context.sql("SELECT *, predict_intent('m', id) FROM users WHERE predict_intent('m', id) = 'a'").await.unwrap();
    let before: Vec<String> = frame.schema().fields().iter().map(|field| field.name().clone()).collect();
    let batches = frame.collect().await.unwrap();
    let after: Vec<String> = batches[0].schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(before, after);
    assert_eq!(before[0], "id");
    let frame = world.context.table("users").await.unwrap();
    let filtered = frame.filter(datafusion::prelude::col("id").gt(datafusion::prelude::lit(97))).unwrap();
    assert_eq!(filtered.collect().await.unwrap()[0].num_columns(), 3);
}

#[test]
fn named_arguments_may_skip_optional_ones() {
    use datafusion::sql::sqlparser::ast;
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
    use datafusion::sql::sqlparser::parser::Parser;
    let complete = |sql: &str| {
        let parsed = Parser::new(&PostgreSqlDialect {}).try_with_sql(sql).unwrap().parse_expr().unwrap();
        let ast::Expr::Function(mut call) = parsed else { panic!("{sql}") };
        super::complete_arguments(&mut call).map(|()| call.to_string())
    };
    assert_eq!(complete("embed_user('m', 7, normalize => false)").unwrap(), "embed_user('m', 7, NULL, false)");
    assert_eq!(complete("Predict_Intent(user_id => 7, model => 'm')").unwrap(), "Predict_Intent('m', 7)");
    assert_eq!(complete("abs(x => 1)").unwrap(), "abs(x => 1)");
    assert_eq!(complete("embed_user('m', 7, nope => 1)").unwrap_err().code, Code::UndefinedFunction);
    assert_eq!(complete("embed_user('m', 7, model => 'n')").unwrap_err().code, Code::InvalidParameter);
}

/// A memo too small for a statement's users computes some of them again, and is right all the same.
#[tokio::test]
async fn a_small_memo_forgets_and_stays_right() {
    use datafusion::execution::memory_pool::{MemoryPool, UnboundedMemoryPool};
    use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
    let fake = Fake::default();
    let context = SessionContext::new();
    let reference = fake.pin("v").unwrap().0;
    let predictor = fake.open(&reference, &Arc::new(context.state())).await.unwrap();
    let mut needs = super::call::Needs::default();
    needs.add(&super::call::Question::Value);
    let layout = Arc::new(Layout::new(&needs, &[], 2));
    let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
    let memo = super::memo::Memo::new(&layout, &pool, 4096);
    let tally = Tally::new(&ExecutionPlanMetricsSet::new(), 0);
    for round in 0..3 {
        let keys: Vec<Key> = (0..100).map(|user| (UserKey::Int64((user * 7 + round) % 100), WATERMARK_US)).collect();
        let answers = memo.answer(&keys, &*predictor, &tally).await.unwrap();
        let values = answers.value_column(&super::subject::every_row(100));
        let values = values.as_any().downcast_ref::<arrow::array::Float64Array>().unwrap();
        for (row, key) in keys.iter().enumerate() {
            let UserKey::Int64(user) = key.0 else { panic!("key") };
            assert!((values.value(row) - user as f64 * 10.0).abs() < 1e-9);
        }
        assert!(pool.reserved() <= 4096, "{}", pool.reserved());
    }
    let passes = tally.forward_passes.value();
    assert!((100..=300).contains(&passes) && passes > 100, "{passes}");
}
