-- Tags and profiles of a real shop's customers: every usual kind of tag is one call, and a materialized view keeps it fresh.
CREATE TABLE purchases (user_id bigint, event_time timestamp, event_type text, item_id text, invoice_id text, quantity int, price double precision, country text)
WITH (user_column = user_id, time_column = event_time);
INSERT INTO purchases SELECT user_id, event_time, event_type, item_id, invoice_id, quantity, price, country, NULL
FROM "online_retail/events/2010-12.parquet" WHERE user_id IS NOT NULL;

-- 1. One row per customer. It is found by its key, and follows new events customer by customer.
CREATE MATERIALIZED VIEW profiles WITH (refresh = 'after ingest') AS
SELECT user_id,
  -- a rule
  sum(price * quantity) FILTER (WHERE event_type = 'purchase') > 1000 AS big_spender,
  -- bands of a metric
  width_bucket(count(*), 0, 100, 5) AS activity_band,
  price_band(avg(price), '1, 2, 5') AS price_band,
  -- the first and the last of something
  first_value(item_id ORDER BY event_time, item_id) AS first_item,
  last_value(item_id ORDER BY event_time, item_id) AS last_item,
  max(event_time) AS last_seen,
  -- preferences
  top_k(item_id, 3, quantity) AS favourite_items,
  pref_top(item_id, price * quantity, event_time, '30 days') AS likes_now,
  -- a distribution
  active_hours(event_time) AS hours,
  -- the stage of the life cycle
  lifecycle_stage(event_time, TIMESTAMP '2011-01-01', '15 days') AS stage
FROM purchases GROUP BY user_id;

-- 2. Recency, frequency, money: bins of all customers, so each refresh runs the whole query, and says so.
CREATE MATERIALIZED VIEW rfm WITH (refresh = '1 day') AS
SELECT user_id, r, f, m, segment FROM rfm_scores('purchases', event => 'purchase');

-- 3. Tags that somebody else made: a file.
CREATE TABLE imported AS SELECT user_id, 'vip' AS tag FROM purchases WHERE country = 'EIRE' GROUP BY user_id;

-- 4. Audiences are tags, too: of a query over all of them.
CREATE AUDIENCE champions AS
SELECT p.user_id FROM profiles p JOIN rfm USING (user_id) WHERE p.big_spender AND rfm.segment = 'champions';

SELECT stage, big_spender, count(*) AS customers, count(DISTINCT price_band) AS bands FROM profiles GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2;
SELECT name, version, users FROM ml.audiences WHERE name = 'champions';

-- New events: the profile is there with the next statement.
INSERT INTO purchases VALUES (12347, '2011-01-02 10:00:00', 'purchase', '22423', 'new', 4, 12.75, 'Iceland', NULL);
SELECT user_id, last_item, last_seen, stage FROM profiles WHERE user_id = 12347;
SELECT name, fresh, as_of, lag_seconds, last_refresh, users_refreshed, rows, reason FROM ml.profile_freshness ORDER BY name;
SELECT name, version, input, kind, version_read, changed FROM ml.profile_lineage ORDER BY name, input;
