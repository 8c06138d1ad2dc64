//! Before a client is known: nothing it sends may have an effect, and every error ends the connection.

use portrait::catalog::RoleOptions;
use portrait::config::AuthMode;
use portrait::pg::{TlsConfig, serve};

use super::raw::{Raw, kinds, message};
use super::{Server, code};

fn with_password(tls: Option<TlsConfig>) -> Server {
    let server = Server::start_with(AuthMode::Scram, tls, |_| {});
    let options = RoleOptions { superuser: Some(true), login: Some(true), password: Some(Some("secret".into())), ..Default::default() };
    server.run(server.engine.catalog().create_role("ann", options)).unwrap();
    server
}

fn certificate() -> TlsConfig {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    TlsConfig::from_pem(made.cert.pem().as_bytes(), made.signing_key.serialize_pem().as_bytes()).unwrap()
}

#[test]
fn the_right_password_lets_in_and_others_do_not() {
    let server = with_password(None);
    server.run(async {
        let client = server.connect_with("user=ann password=secret").await.unwrap();
        let row = client.query_one("SELECT current_user", &[]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), "ann");
        assert_eq!(code(server.connect_with("user=ann password=wrong").await), "28P01");
        assert_eq!(code(server.connect_with("user=nobody password=secret").await), "28P01");
    });
}

#[test]
fn nothing_after_a_wrong_password_is_executed() {
    let server = with_password(None);
    server.run(async {
        let mut raw = Raw::open(server.address).await;
        raw.startup(&[("user", "ann"), ("database", "portrait")]).await;
        assert_eq!(raw.next().await.unwrap().kind, 'R');
        // A first message that is well-formed, a proof that is wrong, and a query that must not run.
        let first = b"n,,n=,r=rOprNGfwEbeRWgbNEkqO";
        let mut body = b"SCRAM-SHA-256\0".to_vec();
        body.extend_from_slice(&(first.len() as u32).to_be_bytes());
        body.extend_from_slice(first);
        raw.send(&message('p', &body)).await;
        let challenge = raw.next().await.unwrap();
        let text = String::from_utf8_lossy(&challenge.body[4..]).into_owned();
        let nonce = text.split(',').next().unwrap().to_owned();
        let proof = format!("c=biws,{nonce},p={}", "A".repeat(43) + "=");
        raw.send(&message('p', proof.as_bytes())).await;
        raw.query("CREATE TABLE pwned (a INT)").await;
        let answers = raw.until('Z').await;
        assert_eq!(kinds(&answers), "E", "one error, then closed");
        assert_eq!((answers[0].field('S').as_str(), answers[0].field('C').as_str()), ("FATAL", "28P01"));
        assert!(server.engine.catalog().describe("pwned").is_none());
    });
}

#[test]
fn a_query_instead_of_a_password_is_not_executed() {
    let server = with_password(None);
    server.run(async {
        let mut raw = Raw::open(server.address).await;
        raw.startup(&[("user", "ann"), ("database", "portrait")]).await;
        raw.query("CREATE TABLE pwned (a INT)").await;
        let answers = raw.until('Z').await;
        assert_eq!(kinds(&answers), "RE");
        assert_eq!(answers[1].field('C'), "08P01");
        assert!(server.engine.catalog().describe("pwned").is_none());
    });
}

#[test]
fn known_and_unknown_names_are_asked_alike() {
    let server = with_password(None);
    server.run(async {
        let mut shapes = Vec::new();
        for user in ["ann", "nobody", "nobody"] {
            let mut raw = Raw::open(server.address).await;
            raw.startup(&[("user", user), ("database", "portrait")]).await;
            raw.next().await.unwrap();
            let first = b"n,,n=,r=rOprNGfwEbeRWgbNEkqO";
            let mut body = b"SCRAM-SHA-256\0\0\0\0".to_vec();
            body.push(first.len() as u8);
            body.extend_from_slice(first);
            raw.send(&message('p', &body)).await;
            let text = String::from_utf8(raw.next().await.unwrap().body[4..].to_vec()).unwrap();
            let parts: Vec<String> = text.split(',').map(str::to_owned).collect();
            shapes.push((parts[1].clone(), parts[2].clone()));
        }
        assert_eq!(shapes[1], shapes[2], "the salt of an unknown name does not change");
        assert_eq!(shapes[0].1, shapes[1].1, "iterations");
        assert_eq!(shapes[0].0.len(), shapes[1].0.len(), "salt length");
    });
}

#[test]
fn every_startup_error_is_fatal_and_closes() {
    let server = Server::start();
    server.run(async {
        for (parameters, expected) in [
            (vec![("user", "ann"), ("database", "other")], "3D000"),
            (vec![("database", "portrait")], "28000"),
            (vec![("user", "ann"), ("database", "portrait"), ("replication", "true")], "0A000"),
            (vec![("user", "ann"), ("database", "portrait"), ("client_encoding", "LATIN1")], "22023"),
            (vec![("user", "ann"), ("database", "portrait"), ("options", "-c statement_timeout=soon")], "22023"),
            (vec![("user", "ann"), ("database", "portrait"), ("nonsense", "1")], "42704"),
        ] {
            let mut raw = Raw::open(server.address).await;
            raw.startup(&parameters).await;
            raw.query("SELECT 1").await;
            let answers = raw.until('Z').await;
            let error = answers.iter().find(|answer| answer.kind == 'E').unwrap();
            assert_eq!((error.field('S').as_str(), error.field('C').as_str()), ("FATAL", expected), "{parameters:?}");
            assert_eq!(answers.last().unwrap().kind, 'E', "closed after the error");
        }
    });
}

#[test]
fn packets_that_are_no_startup_are_refused() {
    let server = Server::start();
    server.run(async {
        for bytes in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            &[0x16, 0x03, 0x01, 0x02, 0x00],
            &[0, 0, 0, 4],
            &[0, 0, 0, 8, 0, 2, 0, 0],
            &[0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 0],
        ] {
            let mut raw = Raw::open(server.address).await;
            raw.send(bytes).await;
            let answer = raw.next().await.unwrap();
            assert_eq!((answer.kind, answer.field('C').as_str()), ('E', "08P01"), "{bytes:?}");
            assert!(raw.is_closed().await);
        }
        // And the server goes on.
        server.connect("ann").await;
    });
}

#[test]
fn options_and_parameters_of_the_startup_are_settings() {
    let server = Server::start();
    server.run(async {
        let client = server.connect_with("user=ann application_name=tests options='-c statement_timeout=7s'").await.unwrap();
        let show = async |name: &str| client.query_one(&format!("SHOW {name}"), &[]).await.unwrap().get::<_, String>(0);
        assert_eq!(show("statement_timeout").await, "7s");
        assert_eq!(show("application_name").await, "tests");
        client.batch_execute("SET statement_timeout = 0; RESET statement_timeout").await.unwrap();
        assert_eq!(show("statement_timeout").await, "7s");
    });
}

#[test]
fn newer_protocols_are_negotiated_down() {
    let server = Server::start();
    server.run(async {
        let mut raw = Raw::open(server.address).await;
        raw.packet(b"\x00\x03\x00\x63user\0ann\0database\0portrait\0_pq_.future\x001\0\0").await;
        let answers = raw.until('Z').await;
        assert!(kinds(&answers).starts_with("vR"), "{}", kinds(&answers));
        let key = answers.iter().find(|answer| answer.kind == 'K').unwrap();
        assert_eq!(key.body.len(), 4 + 32, "protocol 3.2 has long keys");
    });
}

#[test]
fn bytes_before_the_handshake_do_not_count_after_it() {
    let server = with_password(Some(certificate()));
    server.run(async {
        let mut raw = Raw::open(server.address).await;
        let mut bytes = vec![0, 0, 0, 8, 4, 210, 22, 47];
        // A startup packet smuggled in behind the SSL request.
        bytes.extend_from_slice(b"\0\0\0\x11\0\x03\0\0user\0a\0\0");
        raw.send(&bytes).await;
        let mut answer = [0; 1];
        tokio::io::AsyncReadExt::read_exact(&mut raw.0, &mut answer).await.unwrap();
        assert_eq!(&answer, b"S");
        assert!(raw.is_closed().await);
    });
}

#[test]
fn encryption_is_refused_where_there_is_none() {
    let server = Server::start();
    server.run(async {
        let mut raw = Raw::open(server.address).await;
        for request in [[4, 210, 22, 48], [4, 210, 22, 47]] {
            raw.packet(&request).await;
            let mut answer = [0; 1];
            tokio::io::AsyncReadExt::read_exact(&mut raw.0, &mut answer).await.unwrap();
            assert_eq!(&answer, b"N");
        }
        raw.startup(&[("user", "ann"), ("database", "portrait")]).await;
        assert!(kinds(&raw.until('Z').await).ends_with('Z'));
    });
}

#[test]
fn only_loopback_is_served_without_tls() {
    let server = Server::start();
    server.run(async {
        let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
        let engine = std::sync::Arc::clone(&server.engine);
        let refused = serve(engine, listener, AuthMode::Scram, None, Default::default()).await.unwrap_err();
        assert_eq!(refused.code, portrait::error::Code::InvalidParameter);
    });
}

#[test]
fn many_logins_at_once_do_not_mix() {
    let server = with_password(None);
    server.run(async {
        // Each client's own part of the exchange is slow in an unoptimised build; few enough for the time that a login has.
        let attempts = (0..12).map(|index| {
            let options = if index % 2 == 0 { "user=ann password=secret" } else { "user=bob password=secret" };
            server.connect_with(options)
        });
        for (index, outcome) in futures::future::join_all(attempts).await.into_iter().enumerate() {
            assert_eq!(outcome.is_ok(), index % 2 == 0, "{index}");
        }
    });
}

#[test]
fn too_many_clients() {
    let server = Server::start_with(AuthMode::Trust, None, |config| config.max_connections = 2);
    server.run(async {
        let _first = server.connect("ann").await;
        let _second = server.connect("ann").await;
        assert_eq!(code(server.connect_with("user=ann").await), "53300");
    });
}
