-- One statement a line, each asked of both servers. A SET stays for the lines below it.
SELECT NULL AS v
SELECT NULL::int AS a, NULL::text AS b, NULL::timestamptz AS c, NULL::numeric(10,2) AS d, NULL::bytea AS e, NULL::interval AS f, NULL::real[] AS g
SELECT '' AS v
SELECT 'a' AS a, 'b' AS a, 'c' AS "A b"
SELECT true, 'x', NULL
SELECT 1.5::numeric(5,2) AS v UNION ALL SELECT 2.5::numeric(5,2) ORDER BY v
SELECT 1::bigint AS v WHERE false
SELECT
SELECT count(*) FROM (VALUES (1), (2)) AS t(x)
SELECT ARRAY[1::bigint, 2, NULL] AS v
SELECT 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'::uuid = '{a0eebc999c0b4ef8bb6d6bb9bd380a11}' AS v
SELECT v FROM (VALUES ('A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'::uuid), (NULL)) AS t(v) WHERE v IN ('{a0eebc999c0b4ef8bb6d6bb9bd380a11}')
SELECT ARRAY['a', NULL, 'NULL', '', 'b c', 'd,e', '"', '\', '{}'] AS v
SELECT ARRAY[ARRAY[1::int, 2::int], ARRAY[3::int, 4::int]] AS v
SELECT ARRAY[1.5::real, 'NaN'::real, 'Infinity'::real] AS v
SELECT ARRAY[DATE '2024-02-29', NULL] AS v
SELECT ARRAY['2024-02-29 12:00:00+00'::timestamptz] AS v
SELECT ARRAY[true, false, NULL] AS v
SELECT '{}'::text[] AS v
SELECT '{1,NULL,3}'::int[] AS v
SELECT upper('é') AS a, length('日本語') AS b, 'a' || 'b' AS c, lower('X') AS d
SELECT n FROM generate_series(1::bigint, 3::bigint) AS n
SELECT g.g FROM generate_series(1::bigint, 3::bigint) g ORDER BY g DESC
SELECT 'pg_x' LIKE 'pg/_%' ESCAPE '/' AS a, 'pgax' LIKE 'pg/_%' ESCAPE '/' AS b, 'a/b' LIKE 'a//b' ESCAPE '/' AS c, 'a%' LIKE 'a\%' AS d
SELECT DATE '2024-03-10' + INTERVAL '1 month' AS v
SELECT TIMESTAMP '2024-01-31 10:00:00' + INTERVAL '1 day 02:03:04' AS v
SELECT date_trunc('month', TIMESTAMP '2024-02-29 12:34:56') AS v
SELECT 7::bigint % 3::bigint AS a, -7::bigint / 2::bigint AS b
SELECT 1 AS v
SELECT 1.5 AS v
SELECT sum(x) AS a FROM (VALUES (1::bigint), (2::bigint)) AS t(x)
SELECT avg(x) AS a FROM (VALUES (1::int), (2::int)) AS t(x)
SELECT '{"b":1, "a":2}'::jsonb AS v
SELECT x::bytea AS v FROM (VALUES ('\x00')) AS t(x)
SELECT array_upper(ARRAY[1::int, 2::int], 1) AS a, array_lower(ARRAY[1::int], 1) AS b
SELECT current_database() AS a, current_schema() AS b, current_user AS c
SELECT 1/0 AS v
SELECT * FROM nothing_there
SELECT nothing_there FROM (SELECT 1 AS x) AS t
SELECT nothing_there(1)
SELCT 1
SELECT 'a'::int AS v
SELECT 10::smallint + 'x'::text AS v
SELECT 1::int = ANY('{1,2}') AS a, 'a'::text = ANY('{}') AS b, 1::int <> ALL('{2,NULL}') AS c, date '2024-01-01' = ANY('{2024-01-01}') AS d, 3::int > ALL('{1,2}') AS e
SELECT 'a'::text = ANY('abc') AS v
SHOW server_encoding
SHOW standard_conforming_strings
SET timezone = 'Europe/Berlin'
SELECT '2024-03-31 00:59:59+00'::timestamptz AS a, '2024-03-31 01:00:00+00'::timestamptz AS b, '2024-10-27 00:59:59+00'::timestamptz AS c, '2024-10-27 01:00:00+00'::timestamptz AS d
SELECT '2024-07-01 12:00:00'::timestamptz AS a, '2024-01-01 12:00:00'::timestamptz AS b, '1900-01-01 00:00:00+00'::timestamptz AS c
SET timezone = 'America/New_York'
SELECT '2024-03-10 06:59:59+00'::timestamptz AS a, '2024-03-10 07:00:00+00'::timestamptz AS b, '2024-11-03 05:59:59+00'::timestamptz AS c, '2024-11-03 06:00:00+00'::timestamptz AS d
SET timezone = 'Asia/Kolkata'
SELECT '2024-01-01 00:00:00+00'::timestamptz AS v
SET timezone = 'UTC'
CREATE TEMP TABLE IF NOT EXISTS compared (a bigint, b text) ON COMMIT DELETE ROWS
INSERT INTO compared VALUES (1, 'x')
SELECT * FROM compared
SELECT a, b FROM pg_temp.compared
CREATE TEMP TABLE compared (a bigint)
CREATE TEMP TABLE public.compared (a bigint)
CREATE TABLE compared_too (a bigint) ON COMMIT DROP
SELECT relpersistence = 't' AS a, pg_table_is_visible(oid) AS b, relnamespace = pg_my_temp_schema() AS c FROM pg_class WHERE relname = 'compared'
SELECT table_type::text AS a, is_insertable_into::text AS b FROM information_schema.tables WHERE table_name = 'compared'
CREATE MATERIALIZED VIEW compared_view AS SELECT a FROM compared
DROP TABLE pg_temp.compared_too
