-- What a person at psql looks at first.
CREATE TABLE events (user_id BIGINT NOT NULL, event_time TIMESTAMP, event_type TEXT, amount DECIMAL(10,2), score REAL);
CREATE VIEW buyers AS SELECT DISTINCT user_id FROM events WHERE event_type = 'buy';
\l
\dn
\dt
\dv
\d
\d events
\d buyers
\du
\dt nothing_there
\d nothing_there
DROP VIEW buyers;
DROP TABLE events;
-- Row policies and grants
CREATE TABLE guarded (user_id bigint, city text);
CREATE ROLE psql_reader;
GRANT SELECT ON guarded TO psql_reader;
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON guarded FOR SELECT TO psql_reader USING (city = 'a');
\d guarded
\dp guarded
DROP TABLE guarded;
DROP ROLE psql_reader;
-- Default privileges, what is left to an owner, and the options of a view
CREATE ROLE psql_reader;
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO psql_reader;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT INSERT ON TABLES TO psql_reader WITH GRANT OPTION;
\ddp
CREATE TABLE granted (user_id bigint, city text);
REVOKE DELETE, TRUNCATE ON granted FROM portrait;
\dp granted
CREATE VIEW cities WITH (security_invoker = true, security_barrier) AS SELECT city FROM granted;
\d+ cities
CREATE OR REPLACE VIEW cities AS SELECT user_id FROM granted;
DROP VIEW cities;
DROP TABLE granted;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM psql_reader;
ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE ALL ON TABLES FROM psql_reader;
DROP ROLE psql_reader;
\ddp
