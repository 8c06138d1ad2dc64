//! One damaged byte, anywhere in the data directory: an error that names the file, or no difference at all.
//!
//! `PORTRAIT_FLIPS` says how many bytes are flipped, each in a copy of a directory that has every kind of file (16 unless it is
//! set; 1,000 at full size).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use portrait::error::{Code, Error};

use crate::common::{Random, count, engine, files_below, rows, try_engine};

/// What fills a data directory with files of every kind.
const SETUP: &[&str] = &[
    "CREATE ROLE analyst LOGIN PASSWORD 'secret'",
    "CREATE TABLE events (event_id bigint, user_id text, event_time timestamp, event_type text, price double precision) \
     WITH (user_column = user_id, time_column = event_time, event_id = event_id)",
    "INSERT INTO events SELECT n, 'user-' || n % 300, to_timestamp(1704067200 + n * 600), CASE WHEN n % 7 = 0 THEN 'purchase' ELSE 'view' END, \
     n % 100 + 0.5, NULL FROM generate_series(1, 6000) g(n)",
    "INSERT INTO events SELECT n, CASE WHEN n % 50 = 0 THEN NULL ELSE 'user-' || n % 300 END, to_timestamp(1704067200 + n * 600), 'cart', 1.5, \
     NULL FROM generate_series(6001, 7000) g(n)",
    "CREATE TABLE numbers AS SELECT n AS user_id, (n * 7919) % 1009 AS m, concat('text ', n % 17) AS s FROM generate_series(1, 5000) g(n)",
    "CREATE TABLE log AS SELECT n AS x FROM generate_series(1, 10) g(n)",
    "CREATE VIEW v AS SELECT s, count(*) AS n FROM numbers GROUP BY s",
    "CREATE MATERIALIZED VIEW profiles AS SELECT user_id, count(*) AS n, sum(price) AS spent FROM events GROUP BY user_id",
    "CREATE AUDIENCE buyers AS SELECT DISTINCT user_id FROM events WHERE event_type = 'purchase'",
    "CREATE AUDIENCE everybody AS SELECT DISTINCT user_id FROM events WHERE user_id IS NOT NULL",
    "SELECT * FROM link_ids('user-7', 'cookie-7', source => 'login')",
    "SELECT * FROM link_ids_from($$SELECT 'web ' || n AS a, 'app ' || n AS b FROM generate_series(1, 300) g(n)$$)",
    "SELECT * FROM erase_users($$SELECT n AS user_id FROM generate_series(4001, 5000) g(n)$$)",
    "SELECT * FROM suppress_user('user-299')",
    "SELECT * FROM fit_transform('scaled', 'numbers', 'm: mean')",
    "SELECT * FROM train_profile_model('shopper', 'events', target => 'purchase', arch => 'gru', epochs => 1, hidden_dim => 8, seed => 1)",
    "SELECT * FROM profile_card('user-1', 'events')",
];

/// Each has one answer. Lists of models, transforms and audiences are not asked: they say `failed`, or nothing, of what cannot be
/// read, and whoever uses it is told.
const QUESTIONS: &[&str] = &[
    "SELECT count(*), count(DISTINCT event_id), sum(event_id), sum(price), min(event_time), max(event_time), min(user_id), max(event_type) FROM events",
    "SELECT count(*) FROM events",
    "SELECT user_id, count(*), sum(price), min(event_time) FROM events GROUP BY user_id ORDER BY 1",
    "SELECT * FROM events WHERE user_id = 'user-123' ORDER BY event_id",
    "SELECT sum(price) FROM events WHERE event_time > '2024-01-20' AND event_type = 'purchase'",
    "SELECT event_id, event_time, event_type, price, quarantine_reason FROM events_quarantine ORDER BY 1",
    "SELECT count(*), count(DISTINCT user_id), sum(m), sum(user_id), min(s), max(s) FROM numbers",
    "SELECT * FROM numbers WHERE user_id = 2500",
    "SELECT min(user_id), max(user_id), min(m), max(m) FROM numbers",
    "SELECT count(*), sum(x), min(x), max(x) FROM log",
    "SELECT count(*), sum(x) FROM log FOR VERSION AS OF 60",
    "SELECT * FROM v ORDER BY s",
    "SELECT * FROM profiles ORDER BY user_id",
    "SELECT * FROM audience('buyers') ORDER BY 1",
    "SELECT count(*), min(user_id), max(user_id) FROM audience('everybody')",
    "SELECT name, version FROM ml.audiences ORDER BY 1",
    "SELECT a, b, source, user_id FROM ml.identity_links ORDER BY 1",
    "SELECT resolve_user('cookie-7'), resolve_user('web 9')",
    "SELECT erasure, requested_by, users, kind, object, removed FROM ml.erasure_audit ORDER BY 1, 4, 5",
    "SELECT users, user_hashes FROM ml.suppressed_users",
    "SELECT user_id, predict_intent_proba('shopper', user_id, 'purchase') AS p FROM (SELECT DISTINCT user_id FROM events) u ORDER BY 1",
    "SELECT user_id, events, value FROM profile_card('user-1', 'events')",
    "SELECT count(*) FROM profile_timeline('user-42', source => 'events', n => 1000)",
    "SELECT transform_value('scaled', named_struct('m', 5), 'm')",
    "SELECT rolname FROM pg_roles ORDER BY 1",
    // What writes comes last, and says nothing about what others wrote.
    "OPTIMIZE events; SELECT count(*), sum(price) FROM events",
    "OPTIMIZE log; SELECT count(*), sum(x) FROM log",
    "REFRESH MATERIALIZED VIEW profiles; SELECT count(*), sum(n), sum(spent) FROM profiles",
    "INSERT INTO log VALUES (7); SELECT count(*), sum(x) FROM log",
    "INSERT INTO numbers VALUES (4500, 1, 'erased'), (5500, 1, 'new'); SELECT count(*), sum(user_id) FROM numbers",
    // Events that are there already, and one of a suppressed user.
    "INSERT INTO events SELECT n, 'user-' || n % 300, to_timestamp(1704067200 + n * 600), 'view', 1, NULL FROM generate_series(5900, 6100) g(n); \
     INSERT INTO events VALUES (1000000, 'user-299', TIMESTAMP '2024-01-05', 'view', 1, NULL); SELECT count(*), sum(price) FROM events",
];

type Answer = Result<Vec<String>, Error>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_is_found_or_harmless() {
    let (whole, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fill(whole.path()).await;
    let files: Vec<PathBuf> = files_below(whole.path()).into_iter().filter(|path| std::fs::metadata(path).unwrap().len() > 0).collect();
    let right = {
        let copy = copies.path().join("right");
        copy_with(whole.path(), &copy, None);
        answers(&copy).await.unwrap()
    };
    for (question, answer) in QUESTIONS.iter().zip(&right) {
        assert!(answer.is_ok(), "{question}: {answer:?}");
    }
    let (mut random, mut tally, mut faults) = (Random(5), BTreeMap::<String, [u32; 2]>::new(), Vec::new());
    let flips = count("PORTRAIT_FLIPS", 16) as usize;
    let mut kinds = BTreeMap::<String, Vec<&PathBuf>>::new();
    for file in &files {
        kinds.entry(kind_of(whole.path(), file)).or_default().push(file);
    }
    for flip in 0..flips {
        // As many of each kind, however many files it has.
        let (kind, of_kind) = kinds.iter().nth(flip % kinds.len()).unwrap();
        let file = of_kind[random.below(of_kind.len() as u64) as usize];
        let at = random.below(std::fs::metadata(file).unwrap().len());
        let bits = u8::try_from(random.below(255) + 1).unwrap();
        let copy = copies.path().join(format!("{flip}"));
        copy_with(whole.path(), &copy, Some((file.as_path(), at, bits)));
        let shown = file.strip_prefix(whole.path()).unwrap().display().to_string();
        let name = file.file_name().unwrap().to_str().unwrap();
        let (found, wrong) = judge(&right, answers(&copy).await, name);
        tally.entry(kind.clone()).or_default()[usize::from(found)] += 1;
        if let Some(wrong) = wrong {
            // At once: a long run may be ended before it says so itself.
            let fault = format!("{shown}, byte {at} ^ {bits:#04x}: {wrong}");
            println!("{fault}");
            faults.push(fault);
        }
        std::fs::remove_dir_all(&copy).unwrap();
        if flip % 100 == 99 {
            println!("{} flips, {} faults", flip + 1, faults.len());
        }
    }
    let found: u32 = tally.values().map(|counts| counts[1]).sum();
    println!("{flips} flips in {} files: {found} found, {} harmless, {} faults", files.len(), flips - found as usize, faults.len());
    for (kind, [harmless, found]) in &tally {
        println!("  {kind}: {found} found, {harmless} harmless");
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

async fn fill(folder: &Path) {
    let engine = engine(folder).await;
    let session = engine.session("portrait").unwrap();
    for statement in SETUP {
        rows(&session, statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    }
    // Enough versions that Delta writes a checkpoint of its log.
    for n in 0..110 {
        rows(&session, &format!("INSERT INTO log VALUES ({n})")).await.unwrap();
    }
    drop(session);
    engine.shutdown().await;
}

/// The same files under other names; of one of them a copy with another byte.
fn copy_with(from: &Path, to: &Path, flip: Option<(&Path, u64, u8)>) {
    // Whoever has opened a directory holds its lock: each has one of its own.
    for file in files_below(from).into_iter().filter(|file| !file.ends_with("LOCK")) {
        let target = to.join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        match flip {
            Some((path, at, bits)) if path == file => {
                let mut bytes = std::fs::read(&file).unwrap();
                bytes[usize::try_from(at).unwrap()] ^= bits;
                std::fs::write(&target, bytes).unwrap();
            }
            // Nothing writes into a file that is there.
            _ => std::fs::hard_link(&file, &target).unwrap(),
        }
    }
}

/// The answers of a server over this folder.
///
/// # Errors
/// Why it does not start.
async fn answers(folder: &Path) -> Result<Vec<Answer>, Error> {
    let engine = try_engine(folder).await?;
    let session = engine.session("portrait")?;
    let mut found = Vec::new();
    for question in QUESTIONS {
        let (session, question) = (session.clone(), *question);
        let asked = tokio::spawn(async move { rows(&session, question).await }).await;
        found.push(asked.unwrap_or_else(|error| Err(Error::internal(format!("{question}: {error}")))));
    }
    drop(session);
    engine.shutdown().await;
    Ok(found)
}

/// Whether the damage was found, and what must not be.
fn judge(right: &[Answer], answers: Result<Vec<Answer>, Error>, name: &str) -> (bool, Option<String>) {
    let answers = match answers {
        Ok(answers) => answers,
        Err(error) => return (true, unfit(&error, name).map(|why| format!("it does not start, and {why}"))),
    };
    let mut found = false;
    for ((question, right), answer) in QUESTIONS.iter().zip(right).zip(&answers) {
        match answer {
            Err(error) => {
                found = true;
                if let Some(why) = unfit(error, name) {
                    return (found, Some(format!("{why}: {question}")));
                }
            }
            Ok(rows) => {
                let right = right.as_ref().unwrap();
                if rows != right {
                    let difference = right.iter().zip(rows).find(|(right, row)| right != row);
                    return (found, Some(format!("a wrong answer, {difference:?} ({} rows of {}): {question}", rows.len(), right.len())));
                }
            }
        }
    }
    (found, None)
}

/// What is wrong with an error.
fn unfit(error: &Error, name: &str) -> Option<String> {
    let told = [Some(error.message.as_str()), error.detail.as_deref(), error.hint.as_deref()]
        .into_iter()
        .flatten()
        .any(|text| text.contains(name));
    match error.code {
        Code::DataCorrupted if told => None,
        Code::DataCorrupted => Some(format!("the error does not name the file ({error:?})")),
        _ => Some(format!("the error is not XX001 ({error:?})")),
    }
}

/// A file's place without what tells one from another of its kind.
fn kind_of(folder: &Path, file: &Path) -> String {
    let path = file.strip_prefix(folder).unwrap().to_str().unwrap();
    let name = path.rsplit('/').next().unwrap();
    let kind = name.split_once('.').map_or(name, |(_, kind)| kind);
    match path {
        _ if path.contains("_delta_log") => format!("log of a table: {kind}"),
        _ if path.starts_with("models/") && kind == "json" => {
            let parent = path.rsplit('/').nth(1).unwrap();
            let part = if ["state", "jobs", "names"].contains(&parent) { parent } else { name };
            format!("models: {part}")
        }
        _ => format!("{}: {kind}", path.split('/').next().unwrap()),
    }
}
