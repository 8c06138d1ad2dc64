//! Connecting, and what is said beside queries: notices, cancel requests.

use std::fs;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use portrait_rust_clients::{Outcome, Server, check};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_postgres::config::{ChannelBinding, SslMode, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client, Config, Error, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// TLS that trusts the server's own certificate and nothing else.
pub fn tls(server: &Server) -> Result<MakeRustlsConnect, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&fs::read(&server.root_certificate)?)?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(MakeRustlsConnect::new(config.with_root_certificates(roots).with_no_client_auth()))
}

fn config(server: &Server) -> Config {
    let mut config = Config::new();
    config.host(&server.host).port(server.port).user(&server.user).password(&server.password).dbname(&server.database);
    config.ssl_mode(SslMode::Require).channel_binding(ChannelBinding::Require);
    config
}

/// A connection over TLS, by SCRAM that is bound to the channel.
pub async fn connect(server: &Server) -> Result<Client, Failure> {
    let (client, connection) = config(server).connect(tls(server)?).await?;
    tokio::spawn(connection);
    Ok(client)
}

pub async fn connecting(server: &Server) -> Outcome {
    let mut settings = config(server);
    settings
        .application_name("tokio-postgres's check")
        .options("-c statement_timeout=54321")
        .target_session_attrs(TargetSessionAttrs::ReadWrite);
    let (client, connection) = settings.connect(tls(server)?).await?;
    check("server_encoding", connection.parameter("server_encoding"), Some("UTF8"))?;
    check("server_version", connection.parameter("server_version").is_some_and(|version| version.starts_with("15.")), true)?;
    check("integer_datetimes", connection.parameter("integer_datetimes"), Some("on"))?;
    tokio::spawn(connection);
    let row = client
        .query_one("SELECT current_setting('application_name'), current_setting('statement_timeout'), current_database()::text", &[])
        .await?;
    check("application_name", row.try_get::<_, &str>(0)?, "tokio-postgres's check")?;
    check("options", row.try_get::<_, &str>(1)?, "54321ms")?;
    check("database", row.try_get::<_, &str>(2)?, &server.database)?;
    client.check_connection().await?;

    // Without TLS there is nothing to bind to.
    let (client, connection) = config(server).ssl_mode(SslMode::Disable).channel_binding(ChannelBinding::Prefer).connect(NoTls).await?;
    tokio::spawn(connection);
    check("without TLS", client.query_one("SELECT 'é'::text", &[]).await?.try_get::<_, &str>(0)?, "é")?;
    check("closed", client.is_closed(), false)
}

pub async fn refused(server: &Server) -> Outcome {
    let code = |result: Result<(), Error>| result.err().and_then(|error| error.code().cloned());
    let mut wrong = config(server);
    wrong.password("not the password");
    check("a wrong password", code(wrong.connect(tls(server)?).await.map(|_| ())), Some(SqlState::INVALID_PASSWORD))?;
    let mut wrong = config(server);
    wrong.user("nobody_of_that_name").channel_binding(ChannelBinding::Prefer);
    check("a wrong name", code(wrong.connect(tls(server)?).await.map(|_| ())).is_some_and(|code| code.code().starts_with("28")), true)?;
    let mut wrong = config(server);
    wrong.dbname("nothing_there");
    check("a wrong database", code(wrong.connect(tls(server)?).await.map(|_| ())), Some(SqlState::UNDEFINED_DATABASE))
}

pub async fn notices(server: &Server) -> Outcome {
    let (client, mut connection) = config(server).connect(tls(server)?).await?;
    let (sender, mut notices) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notice(notice) = message {
                let _ = sender.send(notice);
            }
        }
    });
    client.batch_execute("DROP TABLE IF EXISTS nothing_there").await?;
    let notice = notices.recv().await.ok_or("no notice")?;
    check("severity", notice.severity(), "NOTICE")?;
    check("code", notice.code(), &SqlState::SUCCESSFUL_COMPLETION)?;
    check("message", notice.message(), "table \"nothing_there\" does not exist, skipping")?;
    client.execute("DROP TABLE IF EXISTS nothing_there", &[]).await?;
    check("of a prepared statement", notices.recv().await.map(|notice| notice.severity().to_owned()).as_deref(), Some("NOTICE"))
}

pub async fn listening(server: &Server) -> Outcome {
    let client = connect(server).await?;
    client.batch_execute("LISTEN something; LISTEN \"Something else\"; UNLISTEN something; UNLISTEN *").await?;
    check("of a prepared statement", client.execute("LISTEN something", &[]).await?, 0)
}

pub async fn cancelling(server: &Server) -> Outcome {
    let client = connect(server).await?;
    let cancel = client.cancel_token();
    for query in ["SELECT pg_sleep(60)", "SELECT count(*) FROM generate_series(1::bigint, 1000000000000) AS g WHERE g % 7 = 8"] {
        let cancelled = async {
            sleep(Duration::from_millis(300)).await;
            cancel.cancel_query(tls(server)?).await?;
            Ok::<_, Failure>(())
        };
        let (answer, cancelled) = tokio::join!(client.query(query, &[]), cancelled);
        cancelled?;
        check(query, answer.err().and_then(|error| error.code().cloned()), Some(SqlState::QUERY_CANCELED))?;
        check("after it", client.query_one("SELECT 1::int4", &[]).await?.try_get::<_, i32>(0)?, 1)?;
    }
    cancel.cancel_query(tls(server)?).await?; // of nothing that runs
    sleep(Duration::from_millis(100)).await;
    check("after one in vain", client.query_one("SELECT 2::int4", &[]).await?.try_get::<_, i32>(0)?, 2)?;
    client.batch_execute("SET statement_timeout = '200ms'").await?;
    let answer = client.query("SELECT pg_sleep(60)", &[]).await;
    check("timed out", answer.err().and_then(|error| error.code().cloned()), Some(SqlState::QUERY_CANCELED))
}
