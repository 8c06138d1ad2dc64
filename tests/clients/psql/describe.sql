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
