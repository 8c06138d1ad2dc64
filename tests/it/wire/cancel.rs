//! Stopping statements: by request, by timeout, by leaving, by shutdown.

use std::time::Duration;

use tokio_postgres::NoTls;

use super::raw::{Raw, kinds};
use super::{Server, code};

#[test]
fn a_cancel_request_stops_the_statement_and_no_more() {
    let server = Server::start();
    server.run(async {
        let client = server.connect("ann").await;
        for sql in [
            "SELECT pg_sleep(600)",
            "SELECT count(*) FROM generate_series(1, 100000000000)",
            "SELECT * FROM generate_series(1, 100000000000)",
        ] {
            let cancel = client.cancel_token();
            let (outcome, ()) = futures::future::join(client.simple_query(sql), async {
                tokio::time::sleep(Duration::from_millis(300)).await;
                cancel.cancel_query(NoTls).await.unwrap();
            })
            .await;
            assert_eq!(code(outcome), "57014", "{sql}");
            assert!(client.simple_query("SELECT 1").await.is_ok());
        }
    });
}

#[test]
fn wrong_keys_cancel_nothing() {
    let server = Server::start();
    server.run(async {
        let mut raw = Raw::open(server.address).await;
        raw.startup(&[("user", "ann"), ("database", "portrait")]).await;
        let answers = raw.until('Z').await;
        let key = answers.iter().find(|answer| answer.kind == 'K').unwrap().body.clone();
        raw.query("SELECT pg_sleep(1)").await;
        let mut wrong = key.clone();
        wrong[7] ^= 1;
        for key in [&wrong[..], &key[..6]] {
            let mut other = Raw::open(server.address).await;
            other.packet(&[&[4, 210, 22, 46], key].concat()).await;
            other.until('Z').await;
        }
        assert_eq!(kinds(&raw.until('Z').await), "TDCZ");
    });
}

#[test]
fn a_statement_timeout_stops_the_rows_too() {
    let server = Server::start();
    server.run(async {
        let client = server.connect("ann").await;
        client.batch_execute("SET statement_timeout = '200ms'").await.unwrap();
        for sql in ["SELECT pg_sleep(600)", "SELECT * FROM generate_series(1, 100000000000)"] {
            assert_eq!(code(client.simple_query(sql).await), "57014", "{sql}");
            assert_eq!(code(client.query(sql, &[]).await), "57014", "{sql}");
        }
        assert!(client.simple_query("SELECT 1").await.is_ok());
    });
}

#[test]
fn another_connection_of_the_role_cancels_by_its_number() {
    let server = Server::start();
    server.run(async {
        let options = portrait::catalog::RoleOptions { superuser: Some(true), login: Some(true), ..Default::default() };
        server.engine.catalog().create_role("root", options).await.unwrap();
        for name in ["ann", "bob"] {
            let options = portrait::catalog::RoleOptions { login: Some(true), ..Default::default() };
            server.engine.catalog().create_role(name, options).await.unwrap();
        }
        let (superuser, ann, bob) = (server.connect("root").await, server.connect("ann").await, server.connect("bob").await);
        let pid: i32 = ann.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        for (client, allowed) in [(&bob, false), (&superuser, true)] {
            let sleeping = ann.query("SELECT pg_sleep(600)", &[]);
            let cancelling = async {
                tokio::time::sleep(Duration::from_millis(200)).await;
                let cancelled = client.query_one("SELECT pg_cancel_backend($1)", &[&pid]).await;
                if !allowed {
                    assert_eq!(code(cancelled), "42501");
                    superuser.query_one("SELECT pg_cancel_backend($1)", &[&pid]).await.unwrap();
                } else {
                    assert!(cancelled.unwrap().get::<_, bool>(0));
                }
            };
            let (slept, ()) = tokio::join!(sleeping, cancelling);
            assert_eq!(code(slept), "57014");
        }
        assert!(!superuser.query_one("SELECT pg_cancel_backend(123456)", &[]).await.unwrap().get::<_, bool>(0));
    });
}

#[test]
fn a_client_that_leaves_stops_its_statement() {
    let server = Server::start();
    server.run(async {
        let mut raw = Raw::ready(server.address).await;
        raw.query("SELECT pg_sleep(600)").await;
        // Another query behind it, so that the socket is readable all the time.
        raw.query("SELECT 1").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(raw);
        // The server's orderly end waits for statements: it would take ten minutes.
    });
    drop(server);
}

#[test]
fn shutdown_tells_idle_clients_and_lets_statements_finish() {
    let server = Server::start();
    server.run(async {
        let mut idle = Raw::ready(server.address).await;
        let mut busy = Raw::ready(server.address).await;
        busy.query("SELECT pg_sleep(1)").await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        server.stop();
        let answer = idle.next().await.unwrap();
        assert_eq!((answer.kind, answer.field('C').as_str()), ('E', "57P01"));
        assert_eq!(kinds(&busy.until('Z').await), "TDCZ");
    });
}

#[test]
fn idle_sessions_end_when_they_asked_for_it() {
    let server = Server::start();
    server.run(async {
        let mut raw = Raw::ready(server.address).await;
        raw.query("SET idle_in_transaction_session_timeout = 100").await;
        raw.until('Z').await;
        raw.query("BEGIN").await;
        raw.until('Z').await;
        let answer = raw.next().await.unwrap();
        assert_eq!((answer.kind, answer.field('C').as_str()), ('E', "25P03"));
        assert!(raw.is_closed().await);
    });
}
