//! Each type through a driver, in binary; and the catalogs that drivers read.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Server;

#[test]
fn results_of_each_type_in_binary() {
    let server = Server::start();
    server.run(async {
        let client = server.connect("ann").await;
        let row = client
            .query_one(
                "SELECT true, 1::smallint, 2::int, 3::bigint, 1.5::real, 2.5::double precision, 'é'::text, x'00ff'::bytea, \
                 TIMESTAMP '2024-02-29 12:00:00', ARRAY[1.5::real, 2.5::real], ARRAY['a', NULL], NULL::int, ARRAY[1, 2]",
                &[],
            )
            .await
            .unwrap();
        assert!(row.get::<_, bool>(0));
        assert_eq!((row.get::<_, i16>(1), row.get::<_, i32>(2), row.get::<_, i64>(3)), (1, 2, 3));
        assert_eq!((row.get::<_, f32>(4), row.get::<_, f64>(5)), (1.5, 2.5));
        assert_eq!((row.get::<_, &str>(6), row.get::<_, &[u8]>(7)), ("é", &[0, 255][..]));
        assert_eq!(row.get::<_, SystemTime>(8), UNIX_EPOCH + Duration::from_secs(1_709_208_000));
        assert_eq!(row.get::<_, Vec<f32>>(9), [1.5, 2.5]);
        assert_eq!(row.get::<_, Vec<Option<&str>>>(10), [Some("a"), None]);
        assert_eq!(row.get::<_, Option<i32>>(11), None);
        assert_eq!(row.get::<_, Vec<i64>>(12), [1, 2]);
    });
}

#[test]
fn parameters_of_each_type() {
    let server = Server::start();
    server.run(async {
        let client = server.connect("ann").await;
        let now = UNIX_EPOCH + Duration::from_micros(1_720_000_000_123_456);
        let row = client
            .query_one(
                "SELECT $1::boolean, $2::smallint, $3::int, $4::bigint, $5::real, $6::double precision, $7::text, $8::bytea, \
                 $9::timestamp, $10::real[], $11::text[]",
                &[
                    &true,
                    &1_i16,
                    &2_i32,
                    &3_i64,
                    &1.5_f32,
                    &2.5_f64,
                    &"x",
                    &&b"\x00\xff"[..],
                    &now,
                    &vec![1.0_f32, 2.0],
                    &vec![Some("a"), None],
                ],
            )
            .await
            .unwrap();
        assert!(row.get::<_, bool>(0));
        assert_eq!((row.get::<_, i16>(1), row.get::<_, i32>(2), row.get::<_, i64>(3)), (1, 2, 3));
        assert_eq!((row.get::<_, f32>(4), row.get::<_, f64>(5)), (1.5, 2.5));
        assert_eq!((row.get::<_, &str>(6), row.get::<_, &[u8]>(7)), ("x", &[0, 255][..]));
        assert_eq!(row.get::<_, SystemTime>(8), now);
        assert_eq!(row.get::<_, Vec<f32>>(9), [1.0, 2.0]);
        assert_eq!(row.get::<_, Vec<Option<&str>>>(10), [Some("a"), None]);
    });
}

#[test]
fn the_catalog_knows_tables_columns_and_types() {
    let server = Server::start();
    server.run(async {
        let client = server.connect("ann").await;
        client.batch_execute("CREATE TABLE \"Events\" (user_id BIGINT NOT NULL, amount DECIMAL(10,2), tags TEXT[])").await.unwrap();
        let rows = client
            .query(
                "SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull, a.atttypid \
                 FROM pg_catalog.pg_attribute a JOIN pg_class c ON a.attrelid = c.oid \
                 WHERE c.relname = 'Events' AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
                &[],
            )
            .await
            .unwrap();
        let rows: Vec<(String, String, bool, u32)> = rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect();
        let expected = [("user_id", "bigint", true, 20), ("amount", "numeric(10,2)", false, 1700), ("tags", "text[]", false, 1009)];
        assert_eq!(rows, expected.map(|(name, r#type, required, oid)| (name.to_owned(), r#type.to_owned(), required, oid)));
        let row =
            client.query_one("SELECT data_type, udt_name FROM information_schema.columns WHERE column_name = 'tags'", &[]).await.unwrap();
        assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), ("ARRAY", "_text"));
        let row = client.query_one("SELECT '\"Events\"'::regclass = c.oid FROM pg_class c WHERE relname = 'Events'", &[]).await.unwrap();
        assert!(row.get::<_, bool>(0));
        let version = client.query_one("SELECT version()", &[]).await.unwrap().get::<_, String>(0);
        assert!(version.starts_with("PostgreSQL 15."), "{version}");
    });
}
