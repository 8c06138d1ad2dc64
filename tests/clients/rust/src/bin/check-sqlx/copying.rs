//! COPY in and out, as text and as binary.

use futures_util::TryStreamExt;
use portrait_rust_clients::{Outcome, Server, check};
use sqlx::postgres::PgCopyIn;
use sqlx::{Executor, PgConnection};

use crate::connection::{code, connect};

async fn copy_out(connection: &mut PgConnection, statement: &str) -> sqlx::Result<Vec<u8>> {
    let pieces = connection.copy_out_raw(statement).await?.try_collect::<Vec<_>>().await?;
    Ok(pieces.concat())
}

pub async fn text(server: &Server) -> Outcome {
    let mut connection = connect(server).await?;
    connection.execute("DROP TABLE IF EXISTS sqlx_copy; CREATE TABLE sqlx_copy (a BIGINT, b TEXT, c REAL[])").await?;
    let mut copy = connection.copy_in_raw("COPY sqlx_copy (a, b, c) FROM STDIN").await?;
    check("columns", (copy.is_textual(), copy.num_columns()), (true, 3))?;
    copy.send(&b"1\tx\\ty\t{1.5,2}\n2\t\\N"[..]).await?.send(&b"\t\\N\n"[..]).await?; // a message ends anywhere
    check("copied in", copy.finish().await?, 2)?;
    let mut copy = connection.copy_in_raw("COPY sqlx_copy (b, a) FROM STDIN (FORMAT csv, HEADER)").await?;
    copy.read_from("b,a\n\"it\"\"s, é\",3\n".as_bytes()).await?;
    check("copied in as CSV", copy.finish().await?, 1)?;
    let taken = copy_out(&mut connection, "COPY (SELECT * FROM sqlx_copy ORDER BY a) TO STDOUT").await?;
    check("out", String::from_utf8(taken)?, "1\tx\\ty\t{1.5,2}\n2\t\\N\t\\N\n3\tit\"s, é\t\\N\n")?;
    let taken = copy_out(&mut connection, "COPY (SELECT a, b FROM sqlx_copy ORDER BY a) TO STDOUT (FORMAT csv, HEADER)").await?;
    check("out as CSV", String::from_utf8(taken)?, "a,b\n1,x\ty\n2,\n3,\"it\"\"s, é\"\n")?;
    connection.execute("DROP TABLE sqlx_copy").await?;
    Ok(())
}

/// What comes out as binary goes in as binary.
pub async fn binary(server: &Server) -> Outcome {
    let mut connection = connect(server).await?;
    connection
        .execute("DROP TABLE IF EXISTS sqlx_copy; CREATE TABLE sqlx_copy (a BIGINT, b TEXT, c REAL[], d TIMESTAMP, e NUMERIC(10,2))")
        .await?;
    connection
        .execute(
            "INSERT INTO sqlx_copy SELECT g, 'user ' || g, ARRAY[g::real, NULL], TIMESTAMP '2024-02-29 12:34:56.5', g / 4.0
             FROM generate_series(1::bigint, 5000) AS s(g)",
        )
        .await?;
    let rows = "SELECT * FROM sqlx_copy ORDER BY a";
    let taken = copy_out(&mut connection, &format!("COPY ({rows}) TO STDOUT (FORMAT binary)")).await?;
    check("head", &taken[..21], &b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x05"[..21])?;
    let before = copy_out(&mut connection, &format!("COPY ({rows}) TO STDOUT")).await?;
    connection.execute("DROP TABLE sqlx_copy; CREATE TABLE sqlx_copy (a BIGINT, b TEXT, c REAL[], d TIMESTAMP, e NUMERIC(10,2))").await?;
    let mut copy: PgCopyIn<_> = connection.copy_in_raw("COPY sqlx_copy FROM STDIN (FORMAT binary)").await?;
    check("format", copy.is_textual(), false)?;
    for piece in taken.chunks(10_000) {
        copy.send(piece).await?;
    }
    check("copied in", copy.finish().await?, 5000)?;
    check("as before", copy_out(&mut connection, &format!("COPY ({rows}) TO STDOUT")).await? == before, true)?;
    connection.execute("DROP TABLE sqlx_copy").await?;
    Ok(())
}

/// Of a COPY that fails or is given up nothing stays.
pub async fn failures(server: &Server) -> Outcome {
    let mut connection = connect(server).await?;
    connection.execute("DROP TABLE IF EXISTS sqlx_copy; CREATE TABLE sqlx_copy (a BIGINT, b TEXT)").await?;
    let mut copy = connection.copy_in_raw("COPY sqlx_copy FROM STDIN").await?;
    copy.send(&b"1\tx\nno number\ty\n"[..]).await?;
    check("a wrong number", code(copy.finish().await).as_deref(), Some("22P02"))?;
    let mut copy = connection.copy_in_raw("COPY sqlx_copy FROM STDIN").await?;
    copy.send(&b"1\tx\n"[..]).await?;
    copy.abort("given up").await?;
    let mut other = connect(server).await?;
    let mut copy = other.copy_in_raw("COPY sqlx_copy FROM STDIN").await?;
    copy.send(&b"1\tx\n"[..]).await?;
    drop(copy); // sends CopyFail; the driver takes the answer for the next query's, so nothing is asked on this connection
    drop(other);
    check("nothing is there", sqlx::query_scalar::<_, i64>("SELECT count(*) FROM sqlx_copy").fetch_one(&mut connection).await?, 0)?;
    check("no table", code(connection.copy_in_raw("COPY nothing_there FROM STDIN").await.map(|_| ())).as_deref(), Some("42P01"))?;
    let failed = copy_out(&mut connection, "COPY (SELECT 10 / (100 - g) FROM generate_series(1::bigint, 200) AS s(g)) TO STDOUT").await;
    check("fails on the way", code(failed).as_deref(), Some("22012"))?;
    connection.execute("DROP TABLE sqlx_copy").await?;
    Ok(())
}
