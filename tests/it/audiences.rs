//! Audiences across restarts and killed processes: what was acknowledged stays, numbers of users are never given twice, and
//! nothing of a half-made audience is left.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::common::{entries, ok, portrait_sql, sql, text};

#[test]
fn audiences_survive_a_restart() {
    let data = tempfile::tempdir().expect("folder");
    ok(
        data.path(),
        "CREATE TABLE u AS SELECT 'user ' || i AS id, i % 3 AS kind FROM generate_series(1, 3000) AS t(i); \
         CREATE AUDIENCE some AS SELECT id FROM u WHERE kind = 1",
    );
    ok(data.path(), "INSERT INTO u VALUES ('late', 1); REFRESH AUDIENCE some; CREATE AUDIENCE others AS SELECT id FROM u WHERE kind <> 0");
    let seen = "SELECT (SELECT count(*) FROM audience('some@1')) AS first, (SELECT count(*) FROM audience('some')) AS second, \
                (SELECT max(user_id) FROM audience_diff('some')) AS added, \
                bitmap_and_cardinality(audience_bitmap('some'), audience_bitmap('others')) AS both, \
                (SELECT count(DISTINCT user_id) FROM audience('others')) AS others";
    assert_eq!(ok(data.path(), seen).trim(), "first,second,added,both,others\n1000,1001,late,1001,2001");
    // Made anew: again the first version, and the same users have the same numbers.
    let bitmap = "SELECT encode(sha256(audience_bitmap('others')), 'hex') AS hash";
    let before = ok(data.path(), bitmap);
    ok(data.path(), "DROP AUDIENCE others; CREATE AUDIENCE others AS SELECT id FROM u WHERE kind <> 0 ORDER BY id DESC");
    assert_eq!(ok(data.path(), bitmap), before);
    assert_eq!(entries(&data.path().join("audiences/sets")).len(), 3, "the sets of the dropped audience are gone");
}

#[test]
fn a_killed_audience_leaves_nothing() {
    let data = tempfile::tempdir().expect("folder");
    ok(
        data.path(),
        "CREATE TABLE u AS SELECT 'user ' || i AS id FROM generate_series(1, 200000) AS t(i); CREATE AUDIENCE kept AS SELECT 'me' AS id",
    );
    let (sets, ids) = (data.path().join("audiences/sets"), data.path().join("audiences/ids"));
    for round in 0..6_u64 {
        let statement = "CREATE AUDIENCE IF NOT EXISTS half AS SELECT id FROM u; INSERT INTO u SELECT id || '+' FROM u LIMIT 20000; REFRESH AUDIENCE half";
        let mut child =
            portrait_sql(data.path()).args(["-c", statement]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
        // At another point each time: while it plans, while numbers or a set are written, after the catalog was replaced.
        let (begun, files) = (Instant::now(), entries(&ids).len() + entries(&sets).len());
        while entries(&ids).len() + entries(&sets).len() == files && begun.elapsed() < Duration::from_secs(60) {
            if child.try_wait().expect("status").is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(round * 7 % 40));
        let _ = child.kill();
        child.wait().expect("ended");
        let seen = ok(
            data.path(),
            "SELECT a.name, a.version, a.users = (SELECT count(*) FROM audience('kept')) AS whole FROM ml.audiences AS a WHERE a.name = 'kept'; \
             SELECT count(*) = coalesce((SELECT users FROM ml.audiences WHERE name = 'half'), 0) AS whole \
             FROM (SELECT unnest(audience_users(audience_bitmap(name))) AS id FROM ml.audiences WHERE name = 'half') AS t",
        );
        assert_eq!(seen.lines().filter(|line| line.contains('f')).count(), 0, "{seen}");
        assert!(seen.contains("kept,1,t") && seen.trim().ends_with('t'), "{seen}");
        let versions = ok(data.path(), "SELECT count(*) AS n FROM ml.audience_versions");
        assert_eq!(versions.trim(), format!("n\n{}", entries(&sets).len()), "every set has a name");
    }
    assert_eq!(ok(data.path(), "SELECT user_id FROM audience('kept')").trim(), "user_id\nme");
}

#[test]
fn damage_is_an_error_that_names_the_file() {
    let data = tempfile::tempdir().expect("folder");
    ok(data.path(), "CREATE AUDIENCE one AS SELECT 1 AS id; CREATE AUDIENCE two AS SELECT 2 AS id");
    let set = entries(&data.path().join("audiences/sets")).remove(0);
    let mut bytes = std::fs::read(&set).expect("read");
    *bytes.last_mut().expect("a byte") ^= 1;
    std::fs::write(&set, bytes).expect("written");
    let (mut failed, mut worked) = (0, 0);
    for name in ["one", "two"] {
        let output = sql(data.path(), &format!("SELECT * FROM audience('{name}')"));
        if output.status.success() {
            worked += 1;
        } else {
            assert!(text(&output.stderr).contains(set.file_name().expect("name").to_str().expect("UTF-8")), "{}", text(&output.stderr));
            failed += 1;
        }
    }
    assert_eq!((failed, worked), (1, 1));
    let segment = entries(&data.path().join("audiences/ids")).remove(0);
    std::fs::write(&segment, b"nothing").expect("written");
    let output = sql(data.path(), "CREATE AUDIENCE three AS SELECT 3 AS id");
    assert!(text(&output.stderr).contains("is damaged"), "{}", text(&output.stderr));
    // Everything else works.
    ok(data.path(), "SELECT name FROM ml.audiences; CREATE TABLE t AS SELECT 1 AS x; DROP AUDIENCE one");
}
