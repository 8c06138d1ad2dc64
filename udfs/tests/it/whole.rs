//! The functions in a plain DataFusion program: from a Parquet log to an evaluated, back-tested and scored model.

use crate::program::{Program, cell, column, number};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_a_parquet_log_to_an_evaluated_model() {
    let program = Program::new().await;
    let row = program
        .rows("SELECT * FROM train_profile_model('shopper', 'events', target => 'purchase', horizon => '7 days', arch => 'logreg')")
        .await;
    assert_eq!(cell(&row, "model"), "shopper");
    assert_eq!(cell(&row, "version"), "1");
    assert_eq!(cell(&row, "state"), "active");
    assert_eq!(cell(&row, "metric"), "pr_auc");
    assert_eq!(cell(&row, "active"), "true");
    // Two rows of the log have no user.
    assert_eq!(cell(&row, "dropped_rows"), "2");
    let (test, baseline) = (number(&row, "test"), number(&row, "baseline"));
    assert!(test > baseline + 0.1, "the planted intent is found: {test} against {baseline}");
    assert!(cell(&row, "message").contains("base rate"), "{}", cell(&row, "message"));

    let again = program
        .rows("SELECT value, baseline, n, split FROM evaluate_model('shopper') WHERE metric = 'pr_auc' AND class = 'purchase'")
        .await;
    assert_eq!(number(&again, "value").to_bits(), test.to_bits(), "the stored test window is measured anew");
    assert_eq!(cell(&again, "n"), cell(&row, "test_rows"));
    assert_eq!(cell(&again, "split"), "test");

    let back = program.rows("SELECT * FROM backtest_model('shopper')").await;
    assert_eq!(number(&back, "value").to_bits(), test.to_bits(), "the back-test reproduces the training's figure");
    assert_eq!(number(&back, "baseline").to_bits(), baseline.to_bits());
    let anchor = cell(&back, "anchor");
    let many = program
        .rows(&format!(
            "SELECT anchor, value FROM backtest_model('shopper', CAST('{anchor}' AS TIMESTAMP) - INTERVAL '21 days', '{anchor}', '7 days') \
             ORDER BY anchor"
        ))
        .await;
    assert_eq!(column(&many, "anchor").len(), 4);
    assert_eq!(column(&many, "value").last().unwrap(), &cell(&back, "value"), "among others the anchor gives the same bits");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_trains_while_planning() {
    let program = Program::new().await;
    let train = "train_profile_model('m', 'events', target => 'purchase', arch => 'logreg')";
    for sql in [
        format!("EXPLAIN SELECT * FROM {train}"),
        format!("SELECT * FROM {train} LIMIT 0"),
        format!("SELECT * FROM {train} WHERE false"),
        format!("PREPARE p AS SELECT * FROM {train}"),
    ] {
        program.rows(&sql).await;
        assert!(program.context.jobs.list().is_empty(), "{sql}");
    }
    for sql in [
        format!("CREATE TABLE t AS SELECT * FROM {train}"),
        format!("CREATE VIEW v AS SELECT * FROM {train}"),
        format!("SELECT * FROM (SELECT * FROM {train}) AS t"),
        format!("WITH t AS (SELECT * FROM {train}) SELECT * FROM t"),
        format!("SELECT * FROM {train} a JOIN {train} b ON true"),
        format!("EXPLAIN ANALYZE SELECT * FROM {train}"),
    ] {
        let error = program.error(&sql).await;
        assert_eq!(error.code, portrait_udfs::Code::FeatureNotSupported, "{sql}: {error}");
        assert!(program.context.jobs.list().is_empty(), "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn better_is_decided_on_the_same_rows() {
    let program = Program::new().await;
    let train = |options: &str| {
        format!("SELECT * FROM train_profile_model('m', 'events', target => 'purchase', arch => 'logreg', options => '{options}')")
    };
    let first = program.rows(&train("{}")).await;
    let worse = program.rows(&train("{\"epochs\": 1, \"learning_rate\": 1e-6}")).await;
    assert_eq!((cell(&worse, "version"), cell(&worse, "state")), ("2".into(), "ready".into()), "{}", cell(&worse, "message"));
    let same = format!("{:.3} on the same test window", number(&first, "test"));
    assert!(cell(&worse, "message").contains(&same), "{} lacks {same}", cell(&worse, "message"));
    let forced = program
        .rows("SELECT * FROM train_profile_model('m', 'events', target => 'purchase', arch => 'logreg', activate => 'always', epochs => 1)")
        .await;
    assert_eq!((cell(&forced, "version"), cell(&forced, "state")), ("3".into(), "active".into()));
    let json = program.rows("SELECT train_profile_model('j', 'events', target => 'purchase', arch => 'logreg', activate => 'never')").await;
    let text = cell(&json, "train_profile_model");
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((value["model"].as_str(), value["version"].as_i64(), value["active"].as_bool()), (Some("j"), Some(1), Some(false)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_labelled_table_is_learned_and_cross_validated() {
    let program = Program::new().await;
    let row = program.rows("SELECT * FROM train_profile_model('t', 'people', target => 'column(label)', arch => 'logreg')").await;
    let test = number(&row, "test");
    assert!(test > number(&row, "baseline"));
    let again = program.rows("SELECT value FROM evaluate_model('t') WHERE metric = 'pr_auc' AND class = 'yes'").await;
    assert_eq!(number(&again, "value").to_bits(), test.to_bits());
    let folds = program
        .rows("SELECT fold, value, baseline FROM cross_validate('people', target => 'column(label)', folds => 3, arch => 'logreg') WHERE metric = 'roc_auc'")
        .await;
    assert_eq!(column(&folds, "fold"), ["1", "2", "3"]);
    let error = program.error("SELECT * FROM train_profile_model('t', 'people', target => 'column(lable)')").await;
    assert_eq!(error.code, portrait_udfs::Code::UndefinedColumn);
    assert_eq!(error.hint.as_deref(), Some("Perhaps you meant the column \"label\"."));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_are_told_before_training() {
    use portrait_udfs::Code;
    let program = Program::new().await;
    for (arguments, code, message) in [
        ("'m', 'events', epohcs => 3", Code::InvalidParameter, "train_profile_model has no argument \"epohcs\""),
        ("'m', 'events', options => '{\"epohcs\": 3}'", Code::InvalidParameter, "epohcs"),
        ("'m', 'events', horizon => 'soon'", Code::InvalidText, "invalid input syntax for type interval: \"soon\""),
        ("'m', 'events', horizon => 7", Code::InvalidParameter, "argument \"horizon\" of train_profile_model must be interval, not bigint"),
        ("'m', 'events', target => 'buy'", Code::InvalidParameter, "event \"buy\" of the target does not occur in the source"),
        ("'m', 'events', columns => 'user=nobody'", Code::UndefinedColumn, "nobody"),
        ("'m', 'events', target => 'purchase', horizon => '60 days'", Code::InvalidParameter, "too little data"),
        ("'m', $$SELECT * FROM events LIMIT 10$$", Code::InvalidParameter, "too little data"),
        ("'m', $$SELECT * FROM events WHERE false$$", Code::InvalidParameter, "the source has no events"),
        ("'m', $$DELETE FROM events$$", Code::ReadOnly, "a source must be a read-only query"),
        ("'m'", Code::UndefinedFunction, "train_profile_model needs the argument \"source\""),
    ] {
        let error = program.error(&format!("SELECT * FROM train_profile_model({arguments})")).await;
        assert_eq!(error.code, code, "{arguments}: {error:?}");
        assert!(error.message.contains(message), "{arguments}: {error:?}");
    }
    let error = program.error("SELECT * FROM evaluate_model('nobody')").await;
    assert_eq!(error.code, Code::UndefinedObject);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_background_training_is_seen_and_cancelled() {
    let program = Program::new().await;
    let row = program
        .rows("SELECT * FROM train_profile_model('bg', 'events', target => 'purchase', arch => 'gru', epochs => 400, patience => 400, wait => false)")
        .await;
    assert_eq!(cell(&row, "state"), "queued");
    let job = program.context.jobs.list().remove(0);
    program.context.jobs.cancel(job.job_id).unwrap();
    let ended = program.context.jobs.wait_for("bg", Some(std::time::Duration::from_secs(60))).await.unwrap().unwrap();
    assert_eq!(ended.state, portrait_udfs::registry::JobState::Cancelled);
    assert!(program.context.registry.list_models().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_statement_stops_its_training() {
    let program = Program::new().await;
    let sql = "SELECT * FROM train_profile_model('d', 'events', target => 'purchase', arch => 'gru', epochs => 400, patience => 400)";
    let running = tokio::time::timeout(std::time::Duration::from_secs(2), program.rows(sql)).await;
    assert!(running.is_err(), "four hundred epochs take longer");
    let ended = program.context.jobs.wait_for("d", Some(std::time::Duration::from_secs(60))).await.unwrap().unwrap();
    assert_eq!(ended.state, portrait_udfs::registry::JobState::Cancelled);
    // The device is free again.
    program.rows("SELECT * FROM train_profile_model('e', 'events', target => 'purchase', arch => 'logreg', epochs => 1)").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sources_of_every_form_and_type_give_the_same_model() {
    let program = Program::new().await;
    let train = |name: &str, source: &str| {
        format!("SELECT test, users, dropped_rows FROM train_profile_model('{name}', {source}, target => 'purchase', arch => 'logreg')")
    };
    let want = program.rows(&train("a", "'events'")).await;
    for (index, source) in [
        "$$SELECT * FROM events$$",
        "(SELECT * FROM events)",
        "(SELECT arrow_cast(user_id, 'Int32') AS user_id, arrow_cast(event_time, 'Timestamp(Millisecond, None)') AS event_time, \
          arrow_cast(event_type, 'Dictionary(Int32, Utf8)') AS event_type, arrow_cast(item_id, 'LargeUtf8') AS item_id, price FROM events)",
        "(SELECT user_id, CAST(to_unixtime(event_time) AS BIGINT) AS event_time, event_type, item_id, price FROM events)",
        "(SELECT user_id, CAST(event_time AS VARCHAR) AS event_time, event_type, item_id, price FROM events)",
        "(SELECT user_id, arrow_cast(event_time, 'Timestamp(Nanosecond, Some(\"+00:00\"))') AS event_time, event_type, item_id, price \
          FROM events ORDER BY price)",
    ]
    .iter()
    .enumerate()
    {
        let got = program.rows(&train(&format!("s{index}"), source)).await;
        assert_eq!(column(&got, "test"), column(&want, "test"), "{source}");
        assert_eq!(cell(&got, "users"), cell(&want, "users"), "{source}");
        assert_eq!(cell(&got, "dropped_rows"), "2", "{source}");
    }
    let cte = "WITH recent AS (SELECT * FROM events), all_of_it AS (SELECT * FROM recent) \
               SELECT test FROM train_profile_model('c', 'all_of_it', target => 'purchase', arch => 'logreg')";
    assert_eq!(column(&program.rows(cte).await, "test"), column(&want, "test"));
    // The stored source stands on its own.
    assert_eq!(
        column(&program.rows("SELECT value FROM evaluate_model('c') WHERE metric = 'pr_auc' AND class = 'purchase'").await, "value"),
        column(&want, "test")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quality_functions_agree_with_one_another() {
    let program = Program::new().await;
    program.rows("SELECT * FROM train_profile_model('q', 'events', target => 'purchase', arch => 'logreg')").await;
    let rows = program.rows("SELECT sum(n) AS n FROM confusion_matrix('q')").await;
    let n = number(&program.rows("SELECT n FROM evaluate_model('q') WHERE metric = 'accuracy'").await, "n");
    assert_eq!(number(&rows, "n"), n);
    assert_eq!(number(&program.rows("SELECT sum(n) AS n FROM calibration('q', 5)").await, "n"), n);
    assert_eq!(number(&program.rows("SELECT sum(n) AS n FROM lift_table('q', 'purchase', 10)").await, "n"), n);
    assert_eq!(number(&program.rows("SELECT max(true_positive_rate) AS m FROM roc_curve('q')").await, "m"), 1.0);
    assert_eq!(number(&program.rows("SELECT max(recall) AS m FROM pr_curve('q', class => 'purchase')").await, "m"), 1.0);
    let other = program.rows("SELECT split, n FROM evaluate_model('q', (SELECT * FROM events WHERE user_id < 100)) LIMIT 1").await;
    assert_eq!(cell(&other, "split"), "source");
    assert!(number(&other, "n") < n);
    let error = program.error("SELECT * FROM roc_curve('q', 'refund')").await;
    assert_eq!(error.message, "q@1 has no class \"refund\"");
    assert_eq!(program.error("SELECT * FROM backtest_model('q', '2030-01-01')").await.code, portrait_udfs::Code::InvalidParameter);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prepared_statements_bind_named_arguments() {
    let program = Program::new().await;
    program.rows("PREPARE p AS SELECT test, target FROM train_profile_model('p', (SELECT * FROM events WHERE user_id < $2), target => $1, arch => 'logreg')").await;
    let row = program.rows("EXECUTE p('purchase', 250)").await;
    assert_eq!(cell(&row, "target"), "purchase");
    let info = program.context.registry.list_models().remove(0).version;
    assert_eq!(info.unwrap().source.as_ref().unwrap().sql, "SELECT * FROM events WHERE user_id < (250)");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_described_before_training() {
    let program = Program::new().await;
    let rows = program.rows("SELECT * FROM describe_events('events') WHERE role IN ('user', 'time', 'event')").await;
    assert_eq!(column(&rows, "column_name"), ["user_id", "event_time", "event_type"]);
    assert_eq!(column(&rows, "nulls")[0], "2");
    assert_eq!(column(&rows, "distinct_est")[2], "3");
    assert_eq!(column(&rows, "min")[2], "cart");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_seed_gives_the_same_bytes_whatever_the_threads() {
    let mut hashes = vec![];
    for (threads, partitions) in [(1, 1), (2, 3)] {
        let program = Program::with(threads, partitions, 1 << 30).await;
        for (model, source, target) in [("e", "events", "purchase"), ("t", "people", "column(label)")] {
            let sql =
                format!("SELECT * FROM train_profile_model('{model}', '{source}', target => '{target}', arch => 'logreg', seed => 5)");
            program.rows(&sql).await;
        }
        let models = program.context.registry.list_models();
        hashes.push(models.into_iter().map(|model| model.version.unwrap().weights_hash.clone()).collect::<Vec<_>>());
    }
    assert_eq!(hashes[0], hashes[1]);
    assert_ne!(hashes[0][0], hashes[0][1]);
}

/// Purchases that follow from nothing: what is measured must be what knowing nothing reaches.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_without_a_cause_land_at_the_baseline() {
    let program = Program::new().await;
    let source = "(SELECT user_id, event_time, CASE WHEN CAST(to_unixtime(event_time) AS BIGINT) * 7919 % 1000 < 150 THEN 'purchase' \
                  ELSE 'view' END AS event_type, item_id FROM events)";
    let row = program.rows(&format!("SELECT * FROM train_profile_model('n', {source}, target => 'purchase', arch => 'logreg')")).await;
    let (test, baseline) = (number(&row, "test"), number(&row, "baseline"));
    assert!((test - baseline).abs() < 0.1, "{test} against {baseline}");
}

/// Eight times the log, an anchor at every event: some fifty megabytes of rows.
const MANY_EVENTS: &str = "(SELECT user_id + 1000 * g AS user_id, event_time, event_type, item_id, price \
                           FROM events CROSS JOIN (VALUES (0), (1), (2), (3), (4), (5), (6), (7)) AS t(g))";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn training_data_beyond_the_memory_is_spilled_and_gives_the_same_model() {
    let mut seen = vec![];
    for memory_bytes in [1 << 30, 32 << 20] {
        let program = Program::with(1, 1, memory_bytes).await;
        let row = program.rows(&format!("SELECT * FROM train_profile_model('m', {MANY_EVENTS}, arch => 'logreg', epochs => 1)")).await;
        let message = cell(&row, "message");
        assert_eq!(message.contains("rows were spilled to temporary files"), memory_bytes < 1 << 30, "{message}");
        let hash = program.context.registry.list_models()[0].version.as_ref().unwrap().weights_hash.clone();
        let again = program.rows("SELECT value FROM evaluate_model('m') WHERE metric = 'log_loss'").await;
        assert_eq!(number(&again, "value").to_bits(), number(&row, "test").to_bits());
        seen.push((hash, cell(&row, "test"), cell(&row, "train_rows"), cell(&row, "dropped_rows")));
        let env = program.session.runtime_env();
        assert_eq!((env.memory_pool.reserved(), env.disk_manager.spilling_progress().active_files_count), (0, 0));
    }
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_even_fit_when_spilled_is_refused() {
    let program = Program::with(1, 1, 16 << 20).await;
    let error = program.error(&format!("SELECT * FROM train_profile_model('m', {MANY_EVENTS}, arch => 'logreg')")).await;
    assert_eq!((error.code, error.message.as_str()), (portrait_udfs::Code::OutOfMemory, "the training data does not fit in memory"));
    assert!(error.detail.unwrap().contains("MiB") && error.hint.unwrap().contains("memory_limit"));
    let env = program.session.runtime_env();
    assert_eq!((env.memory_pool.reserved(), env.disk_manager.spilling_progress().active_files_count), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_beyond_the_memory_is_refused_before_it_is_trained() {
    let program = Program::with(1, 1, 32 << 20).await;
    let sql = "SELECT * FROM train_profile_model('m', 'people', target => 'column(label)', arch => 'dnn', hidden_dim => 4096)";
    let error = program.error(sql).await;
    assert_eq!((error.code, error.message.as_str()), (portrait_udfs::Code::OutOfMemory, "not enough memory to train \"dnn\""));
    let detail = error.detail.unwrap();
    assert!(detail.contains("for parameters and their optimizer") && detail.contains("The memory pool holds 32.0 MiB"), "{detail}");
    assert_eq!(program.session.runtime_env().memory_pool.reserved(), 0);
}
