-- A real PostgreSQL that mounts the server's tables: it imports their definitions, reads them by cursors, and writes rows.
CREATE EXTENSION postgres_fdw;
CREATE SERVER portrait FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host :'host', port :'port', dbname 'portrait', fetch_size '1000');
CREATE USER MAPPING FOR CURRENT_USER SERVER portrait OPTIONS (user :'user', password :'password');
CREATE SCHEMA remote;
IMPORT FOREIGN SCHEMA public LIMIT TO (fdw_t) FROM SERVER portrait INTO remote;
\d remote.fdw_t
SELECT * FROM remote.fdw_t WHERE a <= 3 ORDER BY a;
SELECT count(*), sum(a), max(b COLLATE "C"), min(d), bool_and(f) FROM remote.fdw_t;
SELECT r.a, l.x FROM remote.fdw_t AS r JOIN (VALUES (2, 'two'), (4, 'four')) AS l (n, x) ON l.n = r.a ORDER BY r.a;
SELECT a, b FROM remote.fdw_t WHERE b LIKE 'user 1__' AND d >= DATE '2024-01-01' ORDER BY a DESC LIMIT 2;
INSERT INTO remote.fdw_t VALUES (10001, 'é', 1.25, '9999-12-31', '2024-02-29 12:34:56.5', false, '{1.5,NULL}');
SELECT * FROM remote.fdw_t WHERE a > 10000;
SELECT 1/a FROM remote.fdw_t WHERE a = 0;
BEGIN;
SELECT a FROM remote.fdw_t ORDER BY a LIMIT 1;
SAVEPOINT s;
SELECT a FROM remote.fdw_t ORDER BY a DESC LIMIT 1;
ROLLBACK TO s;
COMMIT;
DELETE FROM remote.fdw_t WHERE a = 1;
