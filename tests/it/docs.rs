//! What the documents tell people to type: every SQL snippet and every example runs as it is written.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Half a year of the bundled log, so that an unoptimised build trains in seconds.
const MONTHS: [&str; 6] = ["2010-12", "2011-01", "2011-02", "2011-03", "2011-04", "2011-05"];
/// Settings under which training is a sketch of itself.
const QUICK: &str = "SET ml.epochs = 1; SET ml.hidden_dim = 8; SET ml.layers = 1;";

/// The one example that needs another process beside it; `tests/slt/ml/federated.slt` makes the call.
const OF_TWO_PROCESSES: &str = "federated_join(";

/// A data directory and the data root that the documents speak of.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let (from, to) = (bundled(), folder.path().join("files"));
        fs::create_dir_all(to.join("online_retail/events")).expect("folder");
        for month in MONTHS {
            let name = format!("online_retail/events/{month}.parquet");
            fs::copy(from.join(&name), to.join(&name)).expect("events");
        }
        fs::create_dir_all(to.join("online_shoppers")).expect("folder");
        fs::copy(from.join("online_shoppers/sessions.parquet"), to.join("online_shoppers/sessions.parquet")).expect("sessions");
        fs::create_dir_all(to.join("fashion_mnist")).expect("folder");
        for part in ["train", "test"] {
            let name = format!("fashion_mnist/{part}.parquet");
            fs::copy(from.join(&name), to.join(&name)).expect("pictures");
        }
        fs::write(to.join("mylog.csv"), "customer,ts,action\n1,2024-01-01 10:00:00,view\n").expect("csv");
        Self { folder }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The data root.
    fn root(&self) -> PathBuf {
        self.folder.path().join("files")
    }

    /// The data root that every data directory has; new files go there.
    fn own_files(&self) -> PathBuf {
        self.data().join("files")
    }

    /// `portrait sql` with more arguments.
    fn sql(&self, arguments: &[&str]) -> Output {
        Command::new(portrait())
            .arg("sql")
            .args([Path::new("--data-dir"), &self.data(), Path::new("--data-root"), &self.root()])
            .args(["--format", "csv"])
            .args(arguments)
            .output()
            .expect("portrait runs")
    }

    fn copy(&self) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        copy(self.folder.path(), folder.path());
        Self { folder }
    }
}

fn portrait() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_portrait"))
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn bundled() -> PathBuf {
    repository().join("examples/data")
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("folder").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir_all(&target).expect("folder");
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("file");
        }
    }
}

/// What stdout says; panics with both streams when the program failed.
fn answer(what: &str, output: &Output) -> String {
    let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{what}\n{out}\n{errors}");
    out.into_owned()
}

/// The blocks fenced as `sql`, in order.
fn snippets(page: &str) -> Vec<String> {
    let blocks = page.split("```sql\n").skip(1);
    blocks.map(|rest| rest.split_once("```").expect("a fence is closed").0.to_owned()).collect()
}

#[test]
fn the_statements_of_the_readme() {
    let blocks = snippets(&fs::read_to_string(repository().join("README.md")).expect("README.md"));
    assert!(blocks.len() >= 4, "{blocks:?}");
    let script = blocks.join("\n");
    answer(&script, &Place::new().sql(&["-c", QUICK, "-c", &script]));
}

#[test]
fn the_examples_of_the_reference() {
    let blocks = snippets(&fs::read_to_string(repository().join("udfs/FUNCTIONS.md")).expect("FUNCTIONS.md"));
    assert!(blocks.len() > 30, "{} examples", blocks.len());
    let place = Place::new();
    let train = |name: &str, source: &str, more: &str| {
        format!("SELECT model FROM train_profile_model('{name}', '{source}', {more}, activate => 'always');")
    };
    let shopper = train("shopper", "events", "target => 'purchase', horizon => '30 days', arch => 'logreg'");
    let script = [
        QUICK,
        "CREATE EXTERNAL TABLE events STORED AS PARQUET LOCATION 'online_retail/events/';",
        "CREATE EXTERNAL TABLE sessions STORED AS PARQUET LOCATION 'online_shoppers/sessions.parquet';",
        "CREATE TABLE kept_events (user_id bigint, event_time timestamp) \
         WITH (user_column = user_id, time_column = event_time, retention = '400 days');",
        "CREATE VIEW visitors AS SELECT * FROM sessions LIMIT 100;",
        "CREATE AUDIENCE buyers AS SELECT user_id FROM events WHERE event_type = 'purchase';",
        "CREATE AUDIENCE germans AS SELECT user_id FROM events WHERE country = 'Germany';",
        &shopper,
        &shopper,
        &train("visits", "sessions", "target => 'column(Revenue)', arch => 'logreg'"),
        &train("spender", "events", "target => 'sum(price, purchase)', horizon => '30 days', arch => 'logreg'"),
        &train("browser", "events", "target => 'next_event', arch => 'gru', sample => 0.1"),
        &train("basket", "events", "target => 'next_item', arch => 'mf', sample => 0.2, embedding_dim => 8"),
        &train("twins", "sessions", "target => 'column(Revenue)', arch => 'gan'"),
        "SELECT export_model('shopper', 'exports/kept');",
    ]
    .join("\n");
    answer(&script, &place.sql(&["-c", &script]));
    fs::rename(place.own_files().join("exports/kept"), place.own_files().join("exports/shopper")).expect("exported");
    for block in blocks.iter().filter(|block| !block.contains(OF_TWO_PROCESSES)) {
        let place = place.copy();
        if block.contains("export_model") {
            fs::remove_dir_all(place.own_files().join("exports")).expect("exports");
        }
        answer(block, &place.sql(&["-c", QUICK, "-c", block]));
    }
}

#[test]
fn the_quickstart() {
    let script = repository().join("examples/quickstart/script.sql");
    let said = answer("quickstart", &Place::new().sql(&["-c", QUICK, "-f", &script.to_string_lossy()]));
    let last = said.lines().rev().take(4).collect::<Vec<_>>();
    assert_eq!(last[0], ",,", "a NULL user has no intent: {said}");
    assert_eq!(last[1], "99999999,,", "nor has an unknown one: {said}");
    assert!(last[2].starts_with("12347,") && last[2].len() > 12, "{said}");
}

#[test]
fn the_garments() {
    let place = Place::new();
    let script = repository().join("examples/fashion_mnist/script.sql");
    let said = answer("fashion_mnist", &place.sql(&["-c", QUICK, "-f", &script.to_string_lossy()]));
    assert!(said.contains("garments,1,cnn,"), "{said}");
    assert!(said.lines().any(|line| line.starts_with("accuracy,,") && line.ends_with(",500")), "{said}");
    assert!(said.lines().any(|line| line.starts_with("4,shirt,")), "{said}");
}

#[test]
fn the_study_of_behaviour() {
    let script = repository().join("examples/behavior/script.sql");
    let said = answer("behavior", &Place::new().sql(&["-f", &script.to_string_lossy()]));
    for expected in ["event_time,", "1,purchase,", "2,return,", "control,", "weekend,", "champions,"] {
        assert!(said.lines().any(|line| line.starts_with(expected)), "no {expected}: {said}");
    }
    assert!(said.contains("12347"), "{said}");
}

#[test]
fn nightly_scoring_can_run_again() {
    let place = Place::new();
    let night = || {
        let output = Command::new(repository().join("examples/batch_scoring/nightly.sh"))
            .args([place.data(), place.root()])
            .env("PORTRAIT", portrait())
            .output()
            .expect("bash runs");
        answer("nightly.sh", &output)
    };
    let first = night();
    assert_eq!(night().lines().last(), first.lines().last(), "nothing new, nothing scored again: {first}");
    let twice = place.sql(&["-c", "SELECT count(*) - count(DISTINCT user_id) AS twice, count(*) > 1000 AS many FROM scores"]);
    assert_eq!(answer("scores", &twice).trim(), "twice,many\n0,t");
    // New events: those who came are scored again, the others are not.
    fs::copy(bundled().join("online_retail/events/2011-06.parquet"), place.root().join("online_retail/events/2011-06.parquet"))
        .expect("a new month");
    night();
    let again = "SELECT count(*) > count(DISTINCT user_id) AS some, count(*) < 2 * count(DISTINCT user_id) AS not_all FROM scores";
    assert_eq!(answer("scores", &place.sql(&["-c", again])).trim(), "some,not_all\nt,t");
}

#[test]
fn the_functions_in_a_program_of_its_own() {
    let program = portrait().with_file_name("examples").join("embed_in_datafusion");
    assert!(program.exists(), "cargo builds the examples with the tests: {}", program.display());
    let said = answer("embed_in_datafusion", &Command::new(program).output().expect("it runs"));
    for expected in ["user_id", "pr_auc", "probability"] {
        assert!(said.contains(expected), "no {expected}: {said}");
    }
}
