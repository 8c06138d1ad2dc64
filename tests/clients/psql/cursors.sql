-- psql reads by cursor, describes without running, copies both ways, and runs each row of a result.
\set FETCH_COUNT 3
SELECT n, 'row ' || n AS name FROM generate_series(1, 7) AS n ORDER BY n;
SELECT 1/(4 - n) AS v FROM generate_series(1, 7) AS n;
\unset FETCH_COUNT
SELECT 1::int AS a, 'x' AS b, now() AS c, '{1}'::int[] AS d, '{}'::json AS e \gdesc
CREATE TABLE psql_t (a BIGINT, b TEXT);
\copy psql_t FROM stdin (FORMAT csv)
1,"a,b"
2,
\.
\copy (SELECT * FROM psql_t ORDER BY a) TO stdout (FORMAT csv, HEADER)
\copy (SELECT * FROM psql_t ORDER BY a) TO stdout
SELECT 'SELECT ' || a FROM psql_t ORDER BY a \gexec
SELECT a AS found FROM psql_t WHERE b IS NOT NULL \gset
\echo :found
BEGIN;
DECLARE c CURSOR FOR SELECT a FROM psql_t ORDER BY a;
FETCH 1 FROM c;
MOVE ALL FROM c;
CLOSE c;
COMMIT;
DROP TABLE psql_t;
