//! A disk that becomes full: the statement says so and leaves nothing, readers go on, and once there is space the next statement
//! works, without a restart.
//!
//! Data and spill files lie on a small file system in memory, which is filled up to what a statement needs, or less. Needs root to
//! mount one; elsewhere the test says that it did nothing. `PORTRAIT_FULL` says how often it is filled for each kind of statement
//! (once unless it is set; 100 at full size).

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::SinkExt;
use tokio_postgres::{Client, Error};

use crate::common::disk::Mounted;
use crate::common::server::{ServerProcess, connect, query, seen, told};
use crate::common::{Random, count, files_below, portrait, text};

const DISK_BYTES: u64 = 128 << 20;

/// A statement that takes space, and one number that tells whether it took effect.
struct Case {
    name: &'static str,
    /// Run before each try, with space.
    before: &'static str,
    run: &'static str,
    /// For COPY: how many rows are sent.
    rows: u64,
    seen: &'static str,
    /// Bytes that are too few, at most.
    needs: u64,
}

const CASES: &[Case] = &[
    Case {
        name: "insert",
        before: "SELECT 1",
        run: "INSERT INTO plain SELECT n, n * 7919 % 100003 FROM big WHERE n <= 50000",
        rows: 0,
        seen: "SELECT count(*) FROM plain",
        needs: 200_000,
    },
    Case {
        name: "insert of events",
        before: "SELECT 1",
        run: "INSERT INTO events SELECT n + $1 * 1000000, n % 997, TIMESTAMP '2024-01-01', n % 7, NULL FROM big WHERE n <= 50000",
        rows: 0,
        seen: "SELECT count(*) FROM events",
        needs: 700_000,
    },
    Case {
        name: "copy",
        before: "SELECT 1",
        run: "COPY plain FROM STDIN (FORMAT csv)",
        rows: 50_000,
        seen: "SELECT count(*) FROM plain",
        needs: 150_000,
    },
    Case {
        name: "create table as",
        before: "DROP TABLE IF EXISTS made",
        run: "CREATE TABLE made AS SELECT n, n * 7919 % 100003 AS m FROM big WHERE n <= 50000",
        rows: 0,
        seen: "SELECT count(*) FROM pg_tables WHERE tablename = 'made'",
        needs: 200_000,
    },
    Case {
        name: "optimize",
        before: "INSERT INTO events SELECT n + $1 * 1000000 + 500000, n % 997, TIMESTAMP '2024-01-01', 1, NULL FROM big WHERE n <= 200",
        run: "OPTIMIZE events",
        rows: 0,
        seen: "SELECT count(*) - count(*) FROM events",
        needs: 300_000,
    },
    Case {
        name: "refresh",
        before: "INSERT INTO events SELECT n + $1 * 1000000 + 700000, n % 997, TIMESTAMP '2024-01-01', 1, NULL FROM big WHERE n <= 2000",
        run: "REFRESH MATERIALIZED VIEW counts",
        rows: 0,
        seen: "SELECT sum(n) FROM counts",
        needs: 6_000,
    },
    Case {
        name: "create audience",
        before: "DROP AUDIENCE IF EXISTS a",
        // A few sets of users again and again: the numbers that the store gives to ids stay in memory.
        run: "CREATE AUDIENCE a AS SELECT n + $1 % 4 * 1000000 AS user_id FROM big WHERE n <= 50000",
        rows: 0,
        seen: "SELECT count(*) FROM ml.audiences",
        needs: 300_000,
    },
    Case {
        name: "erase_user",
        before: "INSERT INTO events SELECT n + $1 * 1000000 + 900000, $1 + 5000, TIMESTAMP '2024-01-01', 1, NULL FROM big WHERE n <= 20",
        run: "SELECT * FROM erase_user($1 + 5000)",
        rows: 0,
        seen: "SELECT count(*) FROM events WHERE user_id = $1 + 5000",
        needs: 8_000,
    },
    Case {
        name: "sort that spills",
        before: "SELECT 1",
        run: "SELECT count(*) FROM (SELECT n, lag(s) OVER (ORDER BY s, n) AS l FROM (SELECT n, repeat(md5(CAST(n AS text)), 2) AS s FROM big WHERE n <= 200000) b) w WHERE l IS NULL",
        rows: 0,
        seen: "SELECT 1",
        needs: 6_000_000,
    },
    Case {
        name: "training that spills",
        before: "SELECT 1",
        run: "SELECT * FROM train_profile_model('m', $$SELECT n % 2 AS y, n * 7919 % 1009 AS a, n * 31 % 1013 AS b, n * 37 % 1019 AS c, n * 41 % 1021 AS d, \
              n * 43 % 1031 AS e, n * 47 % 1033 AS f, n * 53 % 1039 AS g, n * 59 % 1049 AS h FROM big$$, target => 'column(y)', arch => 'logreg', epochs => 1, batch_size => 4096)",
        rows: 0,
        seen: "SELECT count(*) FROM ml.model_versions WHERE state = 'active'",
        needs: 4_000_000,
    },
];

#[test]
fn a_full_disk_is_an_error_and_passes() {
    let disk = match Mounted::memory(DISK_BYTES) {
        Ok(disk) => disk,
        Err(why) => return println!("skipped, no disk was filled: {why}"),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(fill_again_and_again(&disk, count("PORTRAIT_FULL", 1)));
    import_into_full(&disk, count("PORTRAIT_FULL", 1));
}

async fn fill_again_and_again(disk: &Mounted, rounds: u32) {
    let (data, lake) = (disk.path().join("data"), tempfile::tempdir().unwrap());
    let mut lines = String::from("n\n");
    (1..=400_000).for_each(|n| lines.push_str(&format!("{n}\n")));
    std::fs::write(lake.path().join("big.csv"), lines).unwrap();
    let root = lake.path().to_string_lossy().into_owned();
    let server = ServerProcess::start(&data, &["--data-root", &root, "--memory-limit", "64MiB"]);
    let client = connect(server.port()).await.unwrap();
    prepare(&client).await;
    let mut random = Random(99);
    let (mut tally, mut faults) = (BTreeMap::<&str, [u32; 2]>::new(), Vec::new());
    for round in 1..=rounds {
        for case in CASES {
            match fill_once(disk, &client, case, round, &mut random).await {
                Ok(full) => tally.entry(case.name).or_default()[usize::from(full)] += 1,
                // What is learned from one fault of a kind is learned from all.
                Err(fault) => faults.push(format!("round {round}, {}: {fault}", case.name)),
            }
        }
        // What old versions hold would fill the disk by itself.
        seen(&client, "DROP TABLE plain; CREATE TABLE plain (n bigint, m bigint)").await;
        seen(&client, "VACUUM RETAIN 0 HOURS").await;
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let spilled = files_below(&data.join("tmp/spill"));
    assert!(spilled.is_empty(), "spill files are left: {spilled:?}");
    for (name, [fitted, full]) in tally {
        println!("{name}: {full} times 53100, {fitted} times there was just enough space");
        assert!(full > 0, "{name} never met a full disk");
    }
}

async fn prepare(client: &Client) {
    for statement in [
        "CREATE EXTERNAL TABLE big STORED AS CSV LOCATION 'big.csv' OPTIONS ('format.has_header' 'true')",
        "CREATE TABLE plain (n bigint, m bigint)",
        "CREATE TABLE events (event_id bigint, user_id bigint, event_time timestamp, price double precision) \
         WITH (user_column = user_id, time_column = event_time, event_id = event_id)",
        "INSERT INTO events SELECT n, n % 997, TIMESTAMP '2024-01-01', n % 7, NULL FROM big WHERE n <= 50000",
        "CREATE MATERIALIZED VIEW counts AS SELECT user_id, count(*) AS n FROM events GROUP BY user_id",
    ] {
        seen(client, statement).await;
    }
}

/// Whether the disk was full for the statement.
async fn fill_once(disk: &Mounted, client: &Client, case: &Case, round: u32, random: &mut Random) -> Result<bool, String> {
    let with = |text: &str| text.replace("$1", &round.to_string());
    let ask = async |text: &str| query(client, &with(text)).await.map_err(|error| format!("{text}: {}", told(&error)));
    ask(case.before).await?;
    let before = ask(case.seen).await?;
    let ballast = disk.fill(random.below(case.needs));
    let outcome = run(client, &with(case.run), case.rows).await;
    let after = ask(case.seen).await;
    let twice = ask("SELECT count(*) - count(DISTINCT event_id) FROM events").await;
    std::fs::remove_file(ballast).unwrap();
    let after = after.map_err(|error| format!("readers, {error}"))?;
    if !matches!(&twice, Ok(rows) if rows == &["0"]) {
        return Err(format!("readers saw {twice:?}"));
    }
    let Err(error) = outcome else {
        return Ok(false);
    };
    let said = told(&error);
    if !said.starts_with("53100 ") || said.ends_with("| ") {
        return Err(said);
    }
    // An erasure that has begun hides the user, and is carried through.
    if after != before && case.name != "erase_user" {
        return Err(format!("{before:?} became {after:?} although it failed"));
    }
    run(client, &with(case.run), case.rows).await.map_err(|error| format!("with space again: {}", told(&error)))?;
    if case.name == "erase_user" && ask(case.seen).await? != ["0"] {
        return Err("the user is not erased".into());
    }
    Ok(true)
}

async fn run(client: &Client, statement: &str, rows: u64) -> Result<(), Error> {
    if rows == 0 {
        return query(client, statement).await.map(drop);
    }
    let sink = client.copy_in::<_, Bytes>(statement).await?;
    futures::pin_mut!(sink);
    for first in (0..rows).step_by(1000) {
        let lines: String = (first..first + 1000).map(|n| format!("{n},{}\n", n * 7919 % 100_003)).collect();
        sink.send(Bytes::from(lines)).await?;
    }
    sink.finish().await.map(drop)
}

/// `portrait import` is a process of its own.
fn import_into_full(disk: &Mounted, rounds: u32) {
    let (data, lake) = (disk.path().join("data"), tempfile::tempdir().unwrap());
    let (mut random, mut full) = (Random(3), 0);
    let file = lake.path().join("events.csv");
    let count = || crate::common::sql_of(&data, "SELECT count(*) FROM events").parse::<u64>().unwrap();
    for round in 0..u64::from(rounds) {
        let mut lines = String::from("event_id,user_id,event_time\n");
        (0..20_000).for_each(|n| lines.push_str(&format!("{},{},2024-01-05T00:00:00\n", (round + 5000) * 1_000_000 + n, n % 997)));
        std::fs::write(&file, lines).unwrap();
        let import = || portrait("import", &data).args(["--table", "events"]).arg(&file).output().unwrap();
        let (before, ballast) = (count(), disk.fill(random.below(300_000)));
        let output = import();
        assert_eq!(count(), before + if output.status.success() { 20_000 } else { 0 }, "round {round}: {}", text(&output.stderr));
        std::fs::remove_file(ballast).unwrap();
        if !output.status.success() {
            full += 1;
            assert!(text(&output.stderr).contains("no space left"), "round {round}: {}", text(&output.stderr));
            assert!(import().status.success());
        }
        crate::common::sql_of(&data, "VACUUM RETAIN 0 HOURS");
        assert_eq!(count(), before + 20_000);
    }
    println!("portrait import: {full} of {rounds} times there was no space");
    assert!(full > 0);
    assert_eq!(files_below(&data.join("tmp/spill")), Vec::<std::path::PathBuf>::new());
}
