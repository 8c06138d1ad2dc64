//! Connecting, pools of connections, listening and cancelling.

use std::time::Duration;

use futures_util::future::try_join_all;
use portrait_rust_clients::{Outcome, Server, check};
use sqlx::postgres::{PgConnectOptions, PgListener, PgPool, PgPoolOptions, PgSslMode};
use sqlx::{Connection, Error, Executor, PgConnection};
use tokio::time::timeout;

pub fn options(server: &Server) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .host(&server.host)
        .port(server.port)
        .username(&server.user)
        .password(&server.password)
        .database(&server.database)
        .ssl_mode(PgSslMode::VerifyFull)
        .ssl_root_cert(&server.root_certificate)
}

pub async fn connect(server: &Server) -> Result<PgConnection, Error> {
    PgConnection::connect_with(&options(server)).await
}

/// The SQLSTATE of an error.
pub fn code<T>(result: Result<T, Error>) -> Option<String> {
    result.err().and_then(|error| error.as_database_error()?.code().map(|code| code.into_owned()))
}

pub async fn connecting(server: &Server) -> Outcome {
    let settings = options(server)
        .application_name("sqlx's check")
        .options([("statement_timeout", "54321"), ("work_mem", "8MB")])
        .extra_float_digits(3);
    let mut connection = PgConnection::connect_with(&settings).await?;
    connection.ping().await?;
    check("version", connection.server_version_num().map(|version| version / 10_000), Some(15))?;
    let query = "SELECT current_setting('application_name'), current_setting('statement_timeout'), current_setting('DateStyle'), current_setting('TimeZone')";
    let row: (String, String, String, String) = sqlx::query_as(query).fetch_one(&mut connection).await?;
    check("settings", row, ["sqlx's check", "54321ms", "ISO, MDY", "UTC"].map(str::to_owned).into())?;
    connection.close().await?;

    let mut plain = PgConnection::connect_with(&options(server).ssl_mode(PgSslMode::Disable)).await?;
    check("without TLS", sqlx::query_scalar::<_, String>("SELECT $1::text").bind("é").fetch_one(&mut plain).await?, "é")?;
    plain.close().await?;
    Ok(())
}

pub async fn refused(server: &Server) -> Outcome {
    let answer = PgConnection::connect_with(&options(server).password("not the password")).await;
    check("a wrong password", code(answer).as_deref(), Some("28P01"))?;
    let answer = PgConnection::connect_with(&options(server).username("nobody_of_that_name")).await;
    check("a wrong name", code(answer).is_some_and(|code| code.starts_with("28")), true)?;
    let answer = PgConnection::connect_with(&options(server).database("nothing_there")).await;
    check("a wrong database", code(answer).as_deref(), Some("3D000"))?;
    let answer = PgConnection::connect_with(&options(server).host("127.0.0.2")).await;
    check("a name that is not the certificate's", answer.is_err(), true)
}

pub async fn listening(server: &Server) -> Outcome {
    let pool = PgPoolOptions::new().max_connections(2).connect_with(options(server)).await?;
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen("something").await?;
    listener.listen_all(["Something else", "a third"]).await?;
    check("nothing is said", timeout(Duration::from_millis(100), listener.recv()).await.is_err(), true)?;
    listener.unlisten("something").await?;
    listener.unlisten_all().await?;
    drop(listener);
    pool.close().await;
    Ok(())
}

async fn pid(connection: &mut PgConnection) -> Result<i32, Error> {
    sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(connection).await
}

/// The driver has no cancel request: another connection asks for it.
pub async fn cancelling(server: &Server) -> Outcome {
    let (mut connection, mut other) = (connect(server).await?, connect(server).await?);
    let busy = pid(&mut connection).await?;
    let cancel = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        sqlx::query_scalar::<_, bool>("SELECT pg_cancel_backend($1)").bind(busy).fetch_one(&mut other).await
    };
    let (answer, done) = tokio::join!(sqlx::query("SELECT pg_sleep(60)").execute(&mut connection), cancel);
    check("cancelled", code(answer).as_deref(), Some("57014"))?;
    check("done", done?, true)?;
    connection.execute("SET statement_timeout = '200ms'").await?;
    check("timed out", code(sqlx::query("SELECT pg_sleep(60)").execute(&mut connection).await).as_deref(), Some("57014"))?;
    connection.execute("RESET statement_timeout").await?;

    // A query that nobody waits for any more is read to its end before the next.
    let left = timeout(Duration::from_millis(100), sqlx::query("SELECT pg_sleep(0.5)").execute(&mut connection)).await;
    check("left alone", left.is_err(), true)?;
    check("after it", sqlx::query_scalar::<_, i32>("SELECT 1::int4").fetch_one(&mut connection).await?, 1)
}

async fn triple(pool: &PgPool, number: i32) -> Result<i32, Error> {
    sqlx::query_scalar("SELECT $1::int4 * 3::int4").bind(number).fetch_one(pool).await
}

pub async fn pools(server: &Server) -> Outcome {
    let pool = PgPoolOptions::new()
        .min_connections(2)
        .max_connections(4)
        .test_before_acquire(true)
        .after_connect(|connection, _| Box::pin(async move { connection.execute("SET application_name = 'pooled'").await.map(|_| ()) }))
        .after_release(|connection, _| Box::pin(async move { connection.execute("ROLLBACK").await.map(|_| true) }))
        .connect_with(options(server))
        .await?;
    check(
        "answers",
        try_join_all((0..40).map(|number| triple(&pool, number))).await?,
        (0..40).map(|number| number * 3).collect::<Vec<_>>(),
    )?;
    check("after_connect", sqlx::query_scalar::<_, String>("SHOW application_name").fetch_one(&pool).await?, "pooled")?;
    check("size", (2..=4).contains(&pool.size()), true)?;
    let failed = sqlx::query("SELECT 1/0").execute(&pool).await;
    check("an error", code(failed).as_deref(), Some("22012"))?;
    check("after it", triple(&pool, 1).await?, 3)?;
    {
        let mut transaction = pool.begin().await?;
        check("in a transaction", sqlx::query_scalar::<_, i32>("SELECT 7::int4").fetch_one(&mut *transaction).await?, 7)?;
    } // dropped: rolled back before the connection is lent again
    check("after one that was dropped", try_join_all((0..8).map(|number| triple(&pool, number))).await?.len(), 8)?;
    pool.close().await;
    check("closed", matches!(triple(&pool, 1).await, Err(Error::PoolClosed)), true)
}
