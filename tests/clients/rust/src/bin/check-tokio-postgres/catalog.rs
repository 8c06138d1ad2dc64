//! What programs ask of the catalog, and what the driver asks of types that it does not know.

use portrait_rust_clients::{Outcome, Server, check};
use tokio_postgres::types::{Kind, Oid, Type};

use crate::connection::connect;

pub async fn tables(server: &Server) -> Outcome {
    let client = connect(server).await?;
    client.batch_execute("DROP TABLE IF EXISTS rust_catalog; CREATE TABLE rust_catalog (a BIGINT NOT NULL, b TEXT, c REAL[], d TIMESTAMP, e NUMERIC(10,2))").await?;
    let rows = client
        .query(
            "SELECT column_name::text, data_type::text, is_nullable::text, ordinal_position::int4 FROM information_schema.columns
             WHERE table_schema = $1 AND table_name = $2 ORDER BY ordinal_position",
            &[&"public", &"rust_catalog"],
        )
        .await?;
    let mut seen = Vec::new();
    for row in &rows {
        seen.push((row.try_get::<_, &str>(0)?, row.try_get::<_, &str>(1)?, row.try_get::<_, &str>(2)?, row.try_get::<_, i32>(3)?));
    }
    let expected = vec![
        ("a", "bigint", "NO", 1),
        ("b", "text", "YES", 2),
        ("c", "ARRAY", "YES", 3),
        ("d", "timestamp without time zone", "YES", 4),
        ("e", "numeric", "YES", 5),
    ];
    check("columns", seen, expected)?;

    let rows = client
        .query(
            "SELECT a.attname, a.attnum, a.attnotnull, a.atttypid, format_type(a.atttypid, a.atttypmod)
             FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON a.attrelid = c.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
            &[&"public", &"rust_catalog"],
        )
        .await?;
    let mut seen = Vec::new();
    for row in &rows {
        let found = Type::from_oid(row.try_get::<_, Oid>(3)?).ok_or("an unknown type")?;
        seen.push((row.try_get::<_, &str>(0)?, row.try_get::<_, i16>(1)?, row.try_get::<_, bool>(2)?, found, row.try_get::<_, &str>(4)?));
    }
    let expected = vec![
        ("a", 1, true, Type::INT8, "bigint"),
        ("b", 2, false, Type::TEXT, "text"),
        ("c", 3, false, Type::FLOAT4_ARRAY, "real[]"),
        ("d", 4, false, Type::TIMESTAMP, "timestamp without time zone"),
        ("e", 5, false, Type::NUMERIC, "numeric(10,2)"),
    ];
    check("attributes", seen, expected)?;

    let statement = client.prepare("SELECT * FROM rust_catalog").await?;
    let columns: Vec<_> = statement.columns().iter().map(|column| (column.name(), column.type_().clone())).collect();
    let expected = [("a", Type::INT8), ("b", Type::TEXT), ("c", Type::FLOAT4_ARRAY), ("d", Type::TIMESTAMP), ("e", Type::NUMERIC)];
    check("described", columns, expected.to_vec())?;
    check("modifier", statement.columns()[4].type_modifier(), (10 << 16 | 2) + 4)?;
    let query = "SELECT oid = 'rust_catalog'::regclass::oid, to_regclass('nothing_there') IS NULL FROM pg_class WHERE relname = $1";
    let row = client.query_one(query, &[&"rust_catalog"]).await?;
    check("regclass", (row.try_get::<_, bool>(0)?, row.try_get::<_, bool>(1)?), (true, true))?;
    client.batch_execute("DROP TABLE rust_catalog").await?;
    let row = client.query_one("SELECT current_schema()::text, current_user::text, version()", &[]).await?;
    check("schema", row.try_get::<_, &str>(0)?, "public")?;
    check("user", row.try_get::<_, &str>(1)?, &server.user)?;
    check("version", row.try_get::<_, &str>(2)?.starts_with("PostgreSQL 15."), true)
}

/// As the driver words it; it is asked of every type that is not built into it.
const TYPE: &str = "\
SELECT t.typname, t.typtype, t.typelem, r.rngsubtype, t.typbasetype, n.nspname, t.typrelid
FROM pg_catalog.pg_type t
LEFT OUTER JOIN pg_catalog.pg_range r ON r.rngtypid = t.oid
INNER JOIN pg_catalog.pg_namespace n ON t.typnamespace = n.oid
WHERE t.oid = $1
";
const LABELS: &str = "\
SELECT enumlabel
FROM pg_catalog.pg_enum
WHERE enumtypid = $1
ORDER BY enumsortorder
";
const ATTRIBUTES: &str = "\
SELECT attname, atttypid
FROM pg_catalog.pg_attribute
WHERE attrelid = $1
AND NOT attisdropped
AND attnum > 0
ORDER BY attnum
";

pub async fn types(server: &Server) -> Outcome {
    let client = connect(server).await?;
    let question = client.prepare(TYPE).await?;
    let columns: Vec<_> = question.columns().iter().map(|column| column.type_().clone()).collect();
    check("its columns", columns, vec![Type::NAME, Type::CHAR, Type::OID, Type::OID, Type::OID, Type::NAME, Type::OID])?;
    check("its parameters", question.params(), &[Type::OID][..])?;
    for known in [Type::INT8, Type::TEXT, Type::FLOAT4_ARRAY, Type::TEXT_ARRAY, Type::UUID, Type::JSON, Type::INT8_RANGE] {
        let row = client.query_one(&question, &[&known.oid()]).await?;
        let (element, subtype) = match known.kind() {
            Kind::Array(element) => (element.oid(), None),
            Kind::Range(subtype) => (0, Some(subtype.oid())),
            _ => (0, None),
        };
        let letter = if subtype.is_some() { b'r' } else { b'b' };
        check("typname", row.try_get::<_, String>(0)?, known.name())?;
        check("typtype", row.try_get::<_, i8>(1)?, i8::try_from(letter)?)?;
        check("typelem", row.try_get::<_, Oid>(2)?, element)?;
        check("rngsubtype", row.try_get::<_, Option<Oid>>(3)?, subtype)?;
        check("typbasetype", row.try_get::<_, Oid>(4)?, 0)?;
        check("nspname", row.try_get::<_, String>(5)?, "pg_catalog")?;
        check("typrelid", row.try_get::<_, Oid>(6)?, 0)?;
    }
    check("a type that is not there", client.query(&question, &[&4_000_000_000_u32]).await?.len(), 0)?;
    check("labels", client.query(LABELS, &[&Type::INT8.oid()]).await?.len(), 0)?;
    let attributes = client.query(ATTRIBUTES, &[&1259_u32]).await?; // pg_class
    let first = attributes.first().ok_or("pg_class has no columns")?;
    check("attributes", (first.try_get::<_, &str>(0)?, first.try_get::<_, Oid>(1)?), ("oid", Type::OID.oid()))?;
    client.clear_type_cache();

    let row = client
        .query_one("SELECT 'pg_class'::regclass::oid, 'int8'::regtype::oid, oid, typtype FROM pg_type WHERE typname = 'int8'", &[])
        .await?;
    let seen: Vec<_> = row.columns().iter().map(|column| column.type_().clone()).collect();
    check("types of names", seen, vec![Type::OID, Type::OID, Type::OID, Type::CHAR])?;
    let int8 = Type::INT8.oid();
    check("oids", (row.try_get::<_, Oid>(0)?, row.try_get::<_, Oid>(1)?, row.try_get::<_, Oid>(2)?), (1259, int8, int8))
}
