//! What survives a killed process: everything that was acknowledged, and nothing else.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::common::{entries, ok, portrait_sql, sql, text};

/// More rows than a process can write before it is killed.
const ENDLESS: &str = "SELECT n, n * 2 AS m, concat('row ', n) AS s FROM generate_series(1, 4000000000) g(n)";

#[test]
fn a_killed_create_table_as_leaves_nothing() {
    let data = tempfile::tempdir().expect("folder");
    ok(data.path(), "CREATE TABLE kept AS SELECT 1 AS n");
    kill_while_writing(data.path(), &format!("CREATE TABLE half AS {ENDLESS}"), 1);
    let failed = sql(data.path(), "SELECT count(*) FROM half");
    assert!(!failed.status.success());
    assert!(text(&failed.stderr).contains("relation \"half\" does not exist"), "{}", text(&failed.stderr));
    assert_eq!(folders(&data.path().join("tables")).len(), 1, "the half-made table was swept");
    assert!(ok(data.path(), "CREATE TABLE half AS SELECT 2 AS n; SELECT n FROM half; SELECT n FROM kept").contains('2'));
}

#[test]
fn a_killed_insert_leaves_no_row() {
    let data = tempfile::tempdir().expect("folder");
    ok(data.path(), "CREATE TABLE t (n bigint, m bigint, s text); INSERT INTO t VALUES (7, 7, 'seven')");
    kill_while_writing(data.path(), &format!("INSERT INTO t {ENDLESS}"), 1);
    assert_eq!(ok(data.path(), "SELECT count(*) AS count, sum(n) AS sum FROM t").trim(), "count,sum\n1,7");
    let table = folders(&data.path().join("tables")).remove(0);
    assert_eq!(files(&table).len(), 1, "the unfinished file was swept");
}

#[test]
fn definitions_survive_a_restart() {
    let (data, lake) = (tempfile::tempdir().expect("folder"), tempfile::tempdir().expect("folder"));
    std::fs::write(lake.path().join("people.csv"), "id,name\n1,Ann\n2,Bob\n").expect("csv");
    let root = lake.path().to_string_lossy().into_owned();
    let run = |sql: &str| portrait_sql(data.path()).args(["--data-root", &root, "-c", sql]).output().expect("portrait runs");
    let made = run("CREATE EXTERNAL TABLE people STORED AS CSV LOCATION 'people.csv'; \
                    CREATE TABLE t AS SELECT * FROM people; CREATE VIEW v AS SELECT upper(name) AS name FROM t WHERE id = 2");
    assert!(made.status.success(), "{}", text(&made.stderr));
    let read = run("SELECT (SELECT count(*) FROM people) AS p, (SELECT name FROM v) AS v");
    assert_eq!(text(&read.stdout).trim(), "p,v\n2,BOB", "{}", text(&read.stderr));
    // The definition stays when its files are no longer under a root; reading them is refused.
    let elsewhere = tempfile::tempdir().expect("folder");
    let moved = elsewhere.path().join("people.csv");
    std::fs::rename(lake.path().join("people.csv"), &moved).expect("moved");
    std::os::unix::fs::symlink(&moved, lake.path().join("people.csv")).expect("link");
    let refused = run("SELECT count(*) FROM people");
    assert!(text(&refused.stderr).contains("permission denied for location"), "{}", text(&refused.stderr));
    assert!(run("SELECT count(*) FROM t").status.success());
}

#[test]
fn one_data_directory_has_one_process() {
    let data = tempfile::tempdir().expect("folder");
    ok(data.path(), "SELECT 1");
    let lock = std::fs::File::options().write(true).open(data.path().join("LOCK")).expect("lock file");
    lock.try_lock().expect("nobody holds it");
    let refused = sql(data.path(), "SELECT 1");
    assert!(!refused.status.success());
    assert!(text(&refused.stderr).contains("in use by another process"), "{}", text(&refused.stderr));
}

/// Starts `statement` in a process and kills it once `tables/` holds more than `files_before` data files, whole or not.
fn kill_while_writing(data: &Path, statement: &str, files_before: usize) {
    let mut child =
        portrait_sql(data).args(["-c", statement]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("portrait starts");
    let count = || folders(&data.join("tables")).iter().map(|table| files(table).len()).sum::<usize>();
    let begun = Instant::now();
    // A file is there as soon as its first megabytes are; until then the statement has only begun.
    while count() <= files_before {
        assert!(child.try_wait().expect("status").is_none(), "the statement ended by itself");
        assert!(begun.elapsed() < Duration::from_secs(120), "the statement wrote nothing");
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().expect("killed");
    child.wait().expect("ended");
}

fn folders(under: &Path) -> Vec<PathBuf> {
    entries(under).into_iter().filter(|path| path.is_dir()).collect()
}

/// Data files of a table, staged ones too; not its log.
fn files(table: &Path) -> Vec<PathBuf> {
    entries(table).into_iter().filter(|path| path.is_file()).collect()
}
