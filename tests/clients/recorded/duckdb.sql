-- client: DuckDB 1.5.5, its postgres extension: ATTACH, tables and columns, scans by COPY in binary, a table made and dropped
-- Recorded. DuckDB and its extension are MIT-licensed. Scans of tables that have pages (by ctid), UPDATE and DELETE (by ctid) are left out.

-- send: simple
-- rows: nonempty
SELECT version(), (SELECT COUNT(*) FROM pg_settings WHERE name LIKE 'rds%')

-- send: simple
SELECT 1

-- send: simple
DISCARD ALL

-- send: simple
SELECT to_regclass('duckdb_secrets')

-- send: simple
-- rows: any
BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ;

SELECT oid, nspname
FROM pg_namespace

ORDER BY oid;

SELECT pg_namespace.oid AS namespace_id, relname, relpages, attname,
    pg_type.typname type_name, atttypmod type_modifier, pg_attribute.attndims ndim,
    attnum, pg_attribute.attnotnull AS notnull, NULL constraint_id,
    NULL constraint_type, NULL constraint_key, type_ns.nspname AS type_schema,
    col_desc.description AS column_comment,
    tbl_desc.description AS table_comment
FROM pg_class
JOIN pg_namespace ON relnamespace = pg_namespace.oid
JOIN pg_attribute ON pg_class.oid=pg_attribute.attrelid
JOIN pg_type ON atttypid=pg_type.oid
JOIN pg_namespace type_ns ON pg_type.typnamespace = type_ns.oid
LEFT JOIN pg_description col_desc ON col_desc.objoid=pg_class.oid AND col_desc.objsubid=pg_attribute.attnum
LEFT JOIN pg_description tbl_desc ON tbl_desc.objoid=pg_class.oid AND tbl_desc.objsubid=0
WHERE attnum > 0 AND relkind IN ('r', 'v', 'm', 'f', 'p') 
UNION ALL
SELECT pg_namespace.oid AS namespace_id, relname, NULL relpages, NULL attname, NULL type_name,
    NULL type_modifier, NULL ndim, NULL attnum, NULL AS notnull,
    pg_constraint.oid AS constraint_id, contype AS constraint_type,
    conkey AS constraint_key, NULL AS type_schema,
    NULL AS column_comment, NULL AS table_comment
FROM pg_class
JOIN pg_namespace ON relnamespace = pg_namespace.oid
JOIN pg_constraint ON (pg_class.oid=pg_constraint.conrelid)
WHERE relkind IN ('r', 'v', 'm', 'f', 'p') AND contype IN ('p', 'u') 
ORDER BY namespace_id, relname, attnum, constraint_id;

SELECT n.oid, enumtypid, typname, enumlabel
FROM pg_enum e
JOIN pg_type t ON e.enumtypid = t.oid
JOIN pg_namespace AS n ON (typnamespace=n.oid)

ORDER BY n.oid, enumtypid, enumsortorder;

SELECT n.oid, t.typrelid AS id, t.typname as type, pg_attribute.attname, sub_type.typname,
       sub_type_ns.nspname AS sub_type_schema
FROM pg_type t
JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
JOIN pg_class ON pg_class.oid = t.typrelid
JOIN pg_attribute ON attrelid=t.typrelid
JOIN pg_type sub_type ON (pg_attribute.atttypid=sub_type.oid)
JOIN pg_catalog.pg_namespace sub_type_ns ON sub_type_ns.oid = sub_type.typnamespace
WHERE pg_class.relkind IN ('c', 'r', 'v', 'm', 'f', 'p')
AND t.typtype='c'
AND pg_attribute.attnum > 0
AND NOT pg_attribute.attisdropped

ORDER BY n.oid, t.oid, attrelid, attnum;

SELECT pg_namespace.oid, tablename, indexname
FROM pg_indexes
JOIN pg_namespace ON (schemaname=nspname)

ORDER BY pg_namespace.oid;

-- send: simple
COMMIT

-- send: simple
BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ

-- send: simple
COPY (SELECT "user_id", "name", "level", "score", "weight", "balance", "born", "seen_at", "updated_at", "active", "tags" FROM "public"."recorded_people" ) TO STDOUT (FORMAT "binary");

-- send: simple
COMMIT

-- send: simple
BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ

-- send: simple
COPY (SELECT "user_id", "name" FROM "public"."recorded_people" ) TO STDOUT (FORMAT "binary");

-- send: simple
COPY (SELECT "user_id", "price" FROM "public"."recorded_orders" WHERE "price" > '5.0') TO STDOUT (FORMAT "binary");

-- send: simple
COMMIT

-- send: simple
BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ

-- send: simple
COPY (SELECT "user_id", "name" FROM "public"."recorded_active" ) TO STDOUT (FORMAT "binary");

-- send: simple
COMMIT

-- send: simple
BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ

-- send: simple
COPY (SELECT "n" FROM (SELECT count(*) AS n FROM recorded_people) AS __unnamed_subquery ) TO STDOUT (FORMAT "binary");

-- send: simple
COMMIT

-- send: simple
BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ;

SELECT pg_namespace.oid AS namespace_id, relname, relpages, attname,
    pg_type.typname type_name, atttypmod type_modifier, pg_attribute.attndims ndim,
    attnum, pg_attribute.attnotnull AS notnull, NULL constraint_id,
    NULL constraint_type, NULL constraint_key, type_ns.nspname AS type_schema,
    col_desc.description AS column_comment,
    tbl_desc.description AS table_comment
FROM pg_class
JOIN pg_namespace ON relnamespace = pg_namespace.oid
JOIN pg_attribute ON pg_class.oid=pg_attribute.attrelid
JOIN pg_type ON atttypid=pg_type.oid
JOIN pg_namespace type_ns ON pg_type.typnamespace = type_ns.oid
LEFT JOIN pg_description col_desc ON col_desc.objoid=pg_class.oid AND col_desc.objsubid=pg_attribute.attnum
LEFT JOIN pg_description tbl_desc ON tbl_desc.objoid=pg_class.oid AND tbl_desc.objsubid=0
WHERE attnum > 0 AND relkind IN ('r', 'v', 'm', 'f', 'p') AND pg_namespace.nspname IN ('public')AND relname='recorded_copy'
UNION ALL
SELECT pg_namespace.oid AS namespace_id, relname, NULL relpages, NULL attname, NULL type_name,
    NULL type_modifier, NULL ndim, NULL attnum, NULL AS notnull,
    pg_constraint.oid AS constraint_id, contype AS constraint_type,
    conkey AS constraint_key, NULL AS type_schema,
    NULL AS column_comment, NULL AS table_comment
FROM pg_class
JOIN pg_namespace ON relnamespace = pg_namespace.oid
JOIN pg_constraint ON (pg_class.oid=pg_constraint.conrelid)
WHERE relkind IN ('r', 'v', 'm', 'f', 'p') AND contype IN ('p', 'u') AND pg_namespace.nspname IN ('public')AND relname='recorded_copy'
ORDER BY namespace_id, relname, attnum, constraint_id;

-- send: simple
CREATE TABLE "public"."recorded_copy"("a" BIGINT, "b" VARCHAR);

-- send: simple
COPY "public"."recorded_copy" FROM STDIN (FORMAT BINARY)

-- send: simple
COMMIT

-- send: simple
BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ

-- send: simple
COPY (SELECT "a", "b" FROM "public"."recorded_copy" ) TO STDOUT (FORMAT "binary");

-- send: simple
COMMIT

-- send: simple
BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ;
DROP Table "public"."recorded_copy"

-- send: simple
COMMIT
