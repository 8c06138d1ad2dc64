-- Errors, with what psql shows of them; the session goes on after each.
\set VERBOSITY verbose
\set SHOW_CONTEXT never
SELECT * FROM nothing_there;
SELECT nothing_there FROM (VALUES (1)) AS t(a);
SELCT 1;
SELECT 1/0;
SELECT 'abc'::int;
BEGIN;
SELECT 1/0;
SELECT 1 AS a;
ROLLBACK;
SELECT 1 AS a;
DROP TABLE IF EXISTS nothing_there;
SET statement_timeout = '100ms';
SELECT pg_sleep(10);
RESET statement_timeout;
SELECT 2 AS a;
