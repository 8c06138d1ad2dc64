-- Temporary tables as psql shows them, and what a block does to them.
CREATE LOCAL TEMPORARY TABLE "#Tableau_1" ("X" bigint, "Y" text) ON COMMIT PRESERVE ROWS;
INSERT INTO "#Tableau_1" VALUES (1, 'a'), (2, NULL);
\copy "#Tableau_1" FROM stdin (FORMAT csv)
3,c
\.
BEGIN;
CREATE TEMP TABLE psql_temporary ON COMMIT DROP AS SELECT "X" AS x FROM "#Tableau_1";
ROLLBACK;
BEGIN;
INSERT INTO "#Tableau_1" VALUES (4, 'd');
SAVEPOINT s;
DROP TABLE "#Tableau_1";
ROLLBACK TO s;
SELECT count(*) FROM "#Tableau_1";
ROLLBACK;
SELECT * FROM "#Tableau_1" ORDER BY 1;
\copy (SELECT * FROM pg_temp."#Tableau_1" ORDER BY 1) TO stdout (FORMAT csv, HEADER)
SELECT c.relpersistence, c.oid = '"#Tableau_1"'::regclass AS same FROM pg_class c WHERE relname = '#Tableau_1';
CREATE TEMP TABLE "#Tableau_1" (a int);
CREATE TEMP TABLE public.psql_temporary (a int);
CREATE MATERIALIZED VIEW psql_temporary AS SELECT "X" FROM "#Tableau_1";
DISCARD ALL;
SELECT * FROM "#Tableau_1";
