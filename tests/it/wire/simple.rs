//! The simple protocol: several statements, errors between them, transactions, notices.

use super::Server;
use super::raw::{Raw, kinds};

async fn run(raw: &mut Raw, sql: &str) -> Vec<super::raw::Answer> {
    raw.query(sql).await;
    raw.until('Z').await
}

#[test]
fn statements_run_one_after_the_other_until_one_fails() {
    let server = Server::start();
    server.run(async {
        let mut raw = Raw::ready(server.address).await;
        assert_eq!(kinds(&run(&mut raw, "SELECT 1; SELECT 2").await), "TDCTDCZ");
        let answers = run(&mut raw, "SELECT 1; SELECT 1/0; SELECT 3").await;
        assert_eq!(kinds(&answers).replace('T', ""), "DCEZ", "{answers:?}");
        assert_eq!(answers.iter().find(|answer| answer.kind == 'E').unwrap().field('C'), "22012");
        assert_eq!(kinds(&run(&mut raw, "").await), "IZ");
        assert_eq!(kinds(&run(&mut raw, " -- nothing\n;").await), "IZ");
        let answers = run(&mut raw, "SELECT 1; SELCT 2").await;
        assert_eq!(kinds(&answers), "EZ", "nothing runs when the text does not parse");
        assert_eq!((answers[0].field('C').as_str(), answers[0].field('P').as_str()), ("42601", "11"));
    });
}

#[test]
fn transactions_show_their_state() {
    let server = Server::start();
    server.run(async {
        let mut raw = Raw::ready(server.address).await;
        let mut state = async |sql: &str| {
            let answers = run(&mut raw, sql).await;
            let code = answers.iter().find(|answer| answer.kind == 'E').map(|error| error.field('C')).unwrap_or_default();
            (String::from_utf8(answers.last().unwrap().body.clone()).unwrap(), code)
        };
        assert_eq!(state("BEGIN").await, ("T".into(), String::new()));
        assert_eq!(state("SELECT nonsense").await, ("E".into(), "42703".into()));
        assert_eq!(state("SELECT 1").await, ("E".into(), "25P02".into()));
        assert_eq!(state("COMMIT").await, ("I".into(), String::new()));
        assert_eq!(state("SELECT 1").await, ("I".into(), String::new()));
        assert_eq!(state("BEGIN; SELECT 1; COMMIT").await, ("I".into(), String::new()));
        assert_eq!(state("START TRANSACTION ISOLATION LEVEL REPEATABLE READ").await.0, "T");
        assert_eq!(state("SELECT * FROM generate_series(1, 3) AS t(a) WHERE 1/(a-3) > 0").await.0, "E", "an error inside the rows");
        assert_eq!(state("ROLLBACK").await, ("I".into(), String::new()));
    });
}

#[test]
fn what_pools_and_drivers_send_is_accepted() {
    let server = Server::start();
    server.run(async {
        let mut raw = Raw::ready(server.address).await;
        for sql in [
            "DISCARD ALL",
            "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL;",
            "SET client_encoding TO 'UTF8'",
            "SET extra_float_digits = 3",
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED",
            "SHOW TRANSACTION ISOLATION LEVEL",
            "SHOW standard_conforming_strings",
            "DEALLOCATE ALL",
        ] {
            let answers = run(&mut raw, sql).await;
            let error = answers.iter().find(|answer| answer.kind == 'E').map(|error| error.field('M'));
            assert_eq!(error, None, "{sql}");
        }
    });
}

#[test]
fn notices_come_before_the_result() {
    let server = Server::start();
    server.run(async {
        let mut raw = Raw::ready(server.address).await;
        let answers = run(&mut raw, "DROP TABLE IF EXISTS nothing_there").await;
        assert_eq!(kinds(&answers), "NCZ");
        assert_eq!(answers[0].field('S'), "NOTICE");
        let answers = run(&mut raw, "SET client_min_messages = warning; DROP TABLE IF EXISTS nothing_there").await;
        assert_eq!(kinds(&answers), "CCZ");
    });
}

#[test]
fn parameters_that_change_are_reported() {
    let server = Server::start();
    server.run(async {
        let mut raw = Raw::ready(server.address).await;
        let answers = run(&mut raw, "SET TimeZone = 'Europe/Berlin'").await;
        assert_eq!(kinds(&answers), "CSZ");
        assert_eq!(answers[1].body, b"TimeZone\0Europe/Berlin\0");
        let answers = run(&mut raw, "SELECT TIMESTAMP '2024-07-01 12:00:00' AT TIME ZONE 'UTC'").await;
        assert_eq!(kinds(&answers), "TDCZ");
    });
}

#[test]
fn errors_carry_what_postgres_carries() {
    let server = Server::start();
    server.run(async {
        let mut raw = Raw::ready(server.address).await;
        for (sql, code) in [
            ("SELECT * FROM nothing_there", "42P01"),
            ("SELECT nothing_there(1)", "42883"),
            ("SELECT a FROM (VALUES (1)) AS t(b)", "42703"),
            ("SELECT 'x'::int", "22P02"),
            ("SHOW nothing_there", "42704"),
            ("SET statement_timeout = 'soon'", "22023"),
            ("CREATE TABLE t (a INT); CREATE TABLE t (a INT)", "42P07"),
        ] {
            let answers = run(&mut raw, sql).await;
            let error = answers.iter().find(|answer| answer.kind == 'E').unwrap();
            assert_eq!(error.field('C'), code, "{sql}: {}", error.field('M'));
            assert_eq!((error.field('S').as_str(), error.field('V').as_str()), ("ERROR", "ERROR"));
            let message = error.field('M');
            assert!(!message.ends_with('.') && message.chars().next().is_some_and(|first| !first.is_uppercase()), "{message}");
        }
    });
}
