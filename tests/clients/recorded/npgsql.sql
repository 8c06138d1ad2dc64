-- client: Npgsql 6 to 10, the driver of .NET: start-up, type loading, commands, schema collections, return to the pool
-- Written down after what the driver asks: the same relations, columns by position, and constructs. Npgsql is PostgreSQL-licensed.
-- Results other than those of type loading are binary.
-- let people: SELECT 'recorded_people'::regclass::oid

-- send: simple
-- rows: nonempty
SELECT version();

SELECT ns.nspname, t.oid, t.typname, t.typtype, t.typnotnull, t.elemtypoid
FROM (
    -- An array is told by the function that receives it; its element comes with it.
    SELECT
        typ.oid, typ.typnamespace, typ.typname, typ.typtype, typ.typrelid, typ.typnotnull, typ.relkind,
        elemtyp.oid AS elemtypoid, elemtyp.typname AS elemtypname, elemcls.relkind AS elemrelkind,
        CASE WHEN elemproc.proname='array_recv' THEN 'a' ELSE elemtyp.typtype END AS elemtyptype
    FROM (
        SELECT typ.oid, typnamespace, typname, typrelid, typnotnull, relkind, typelem AS elemoid,
            CASE WHEN proc.proname='array_recv' THEN 'a' ELSE typ.typtype END AS typtype,
            CASE
                WHEN proc.proname='array_recv' THEN typ.typelem
                WHEN typ.typtype='r' THEN rngsubtype
                WHEN typ.typtype='m' THEN (SELECT rngtypid FROM pg_range WHERE rngmultitypid = typ.oid)
                WHEN typ.typtype='d' THEN typ.typbasetype
            END AS elemtypoid
        FROM pg_type AS typ
        LEFT JOIN pg_class AS cls ON (cls.oid = typ.typrelid)
        LEFT JOIN pg_proc AS proc ON proc.oid = typ.typreceive
        LEFT JOIN pg_range ON (pg_range.rngtypid = typ.oid)
    ) AS typ
    LEFT JOIN pg_type AS elemtyp ON elemtyp.oid = elemtypoid
    LEFT JOIN pg_class AS elemcls ON (elemcls.oid = elemtyp.typrelid)
    LEFT JOIN pg_proc AS elemproc ON elemproc.oid = elemtyp.typreceive
) AS t
JOIN pg_namespace AS ns ON (ns.oid = typnamespace)
WHERE
    typtype IN ('b', 'r', 'm', 'e', 'd') OR
    (typtype = 'c' AND relkind='c') OR
    (typtype = 'p' AND typname IN ('record', 'void', 'unknown')) OR
    (typtype = 'a' AND (
        elemtyptype IN ('b', 'r', 'm', 'e', 'd') OR
        (elemtyptype = 'p' AND elemtypname IN ('record', 'void')) OR
        (elemtyptype = 'c' AND elemrelkind='c')
    ))
ORDER BY CASE
       WHEN typtype IN ('b', 'e', 'p') THEN 0
       WHEN typtype = 'r' THEN 1
       WHEN typtype = 'm' THEN 2
       WHEN typtype = 'c' THEN 3
       WHEN typtype = 'd' AND elemtyptype <> 'a' THEN 4
       WHEN typtype = 'a' THEN 5
       WHEN typtype = 'd' AND elemtyptype = 'a' THEN 6
END;

-- Fields of composite types that stand for themselves
SELECT typ.oid, att.attname, att.atttypid
FROM pg_type AS typ
JOIN pg_namespace AS ns ON (ns.oid = typ.typnamespace)
JOIN pg_class AS cls ON (cls.oid = typ.typrelid)
JOIN pg_attribute AS att ON (att.attrelid = typ.typrelid)
WHERE
  (typ.typtype = 'c' AND cls.relkind='c') AND
  attnum > 0 AND
  NOT attisdropped
ORDER BY typ.oid, att.attnum;

-- Labels of enums
SELECT pg_type.oid, enumlabel
FROM pg_enum
JOIN pg_type ON pg_type.oid=enumtypid
ORDER BY oid, enumsortorder;

-- send: simple
SET TimeZone='UTC'

-- send: extended binary
-- parameter: 20 binary 0000000000000002
SELECT user_id, name, level, score, weight, balance, born, seen_at, updated_at, active, tags FROM recorded_people WHERE user_id <= $1

-- send: extended binary
-- parameter: 25 Ann
SELECT count(*) FROM recorded_people WHERE name = $1

-- send: extended binary
-- parameter: 1114 binary 0002bb3b3b2f8000
SELECT order_id, price FROM recorded_orders WHERE ordered_at < $1

-- send: extended binary
-- parameter: 1016 binary 0000000100000000000000140000000200000001000000080000000000000001000000080000000000000002
SELECT user_id, name FROM recorded_people WHERE user_id = ANY($1)

-- send: extended binary
SELECT
     typ.oid AS typoid, nspname, relname, attname, attrelid, attnum, attnotnull,
     attidentity != '' AS isidentity,
     CASE WHEN typ.typtype = 'd' THEN typ.typtypmod ELSE atttypmod END AS typmod,
     CASE WHEN atthasdef THEN (SELECT pg_get_expr(adbin, cls.oid) FROM pg_attrdef WHERE adrelid = cls.oid AND adnum = attr.attnum) ELSE NULL END AS default,
     (cls.relkind IN ('r', 'p') OR (cls.relkind IN ('v', 'f') AND pg_column_is_updatable(cls.oid, attnum, false))) AS is_updatable,
     EXISTS (
       SELECT * FROM pg_index
       WHERE pg_index.indrelid = cls.oid AND
             pg_index.indisprimary AND
             attnum = ANY (indkey)
     ) AS isprimarykey,
     EXISTS (
       SELECT * FROM pg_index
       WHERE pg_index.indrelid = cls.oid AND
             pg_index.indisunique AND
             pg_index.indnkeyatts = 1 AND
             attnum = pg_index.indkey[0]
     ) AS isunique
FROM pg_attribute AS attr
JOIN pg_type AS typ ON attr.atttypid = typ.oid
JOIN pg_class AS cls ON cls.oid = attr.attrelid
JOIN pg_namespace AS ns ON ns.oid = cls.relnamespace
WHERE
     atttypid <> 0 AND
     relkind IN ('r', 'v', 'm') AND
     NOT attisdropped AND
     nspname NOT IN ('pg_catalog', 'information_schema') AND
     attnum > 0 AND
     ((attr.attrelid=${people} AND attr.attnum=1) OR (attr.attrelid=${people} AND attr.attnum=2))
ORDER BY attnum

-- send: extended binary
-- rows: nonempty
SELECT d.datname, u.usename, pg_catalog.pg_encoding_to_char(d.encoding) FROM pg_catalog.pg_database d LEFT JOIN pg_catalog.pg_user u ON d.datdba = u.usesysid

-- send: extended binary
-- rows: nonempty
SELECT * FROM (
    SELECT current_database() AS catalog_name, nspname AS schema_name, r.rolname AS schema_owner
    FROM pg_catalog.pg_namespace LEFT JOIN pg_catalog.pg_roles r ON r.oid = nspowner
) tmp

-- send: extended binary
-- parameter: 25 public
-- parameter: 25 BASE TABLE
SELECT table_catalog, table_schema, table_name, table_type
FROM information_schema.tables
WHERE table_type IN ('BASE TABLE', 'FOREIGN', 'FOREIGN TABLE') AND table_schema NOT IN ('pg_catalog', 'information_schema') AND table_schema = $1 AND table_type = $2

-- send: extended binary
-- ignore: is_updatable
-- parameter: 25 public
SELECT table_catalog, table_schema, table_name, check_option, is_updatable
FROM information_schema.views
WHERE table_schema NOT IN ('pg_catalog', 'information_schema') AND table_schema = $1

-- send: extended binary
-- parameter: 25 public
-- parameter: 25 recorded_people
SELECT
    table_catalog, table_schema, table_name, column_name, ordinal_position, column_default, is_nullable,
    udt_name::regtype::text AS data_type, character_maximum_length, character_octet_length, numeric_precision,
    numeric_precision_radix, numeric_scale, datetime_precision, character_set_catalog, character_set_schema,
    character_set_name, collation_catalog
FROM information_schema.columns
WHERE table_schema = $1 AND table_name = $2

-- send: extended binary
-- rows: nonempty
SELECT usename, usesysid FROM pg_catalog.pg_user

-- send: extended binary
SELECT current_database() AS table_catalog,
    n.nspname AS table_schema,
    t.relname AS table_name,
    i.relname AS index_name,
    '' AS type_desc
FROM
    pg_catalog.pg_class i
    JOIN pg_catalog.pg_index ix ON ix.indexrelid = i.oid
    JOIN pg_catalog.pg_class t ON ix.indrelid = t.oid
    LEFT JOIN pg_catalog.pg_user u ON u.usesysid = i.relowner
    LEFT JOIN pg_catalog.pg_namespace n ON n.oid = i.relnamespace
WHERE
    i.relkind = 'i' AND
    n.nspname NOT IN ('pg_catalog', 'pg_toast') AND
    t.relkind = 'r'

-- send: extended binary
SELECT
    current_database() AS constraint_catalog,
    ct_ns.nspname AS constraint_schema,
    conname AS constraint_name,
    current_database() AS table_catalog,
    t_ns.nspname AS table_schema,
    t.relname AS table_name,
    col.attname AS column_name,
    col.attnum AS ordinal_number,
    CASE ct.contype WHEN 'p' THEN 'PRIMARY KEY' WHEN 'f' THEN 'FOREIGN KEY' WHEN 'u' THEN 'UNIQUE KEY' ELSE 'CHECK' END AS constraint_type
FROM pg_constraint ct
INNER JOIN pg_namespace ct_ns ON ct.connamespace = ct_ns.oid
INNER JOIN pg_class t ON ct.conrelid = t.oid
INNER JOIN pg_namespace t_ns ON t.relnamespace = t_ns.oid
INNER JOIN pg_attribute col ON t.oid = col.attrelid AND col.attnum = ANY(ct.conkey)
WHERE t_ns.nspname NOT IN ('pg_catalog', 'information_schema')

-- send: simple
BEGIN TRANSACTION ISOLATION LEVEL READ COMMITTED

-- send: extended binary
SELECT 1::int4

-- send: simple
ROLLBACK

-- send: simple
DISCARD ALL
