-- The same questions in three dialects; `behavior.rs` asks the first, `peers/behavior.py` the others. {events} is the log. An
-- engine without a way to ask is left out. Answers are small and equal, but for rounding: `compare` looks.

-- query: funnel
-- portrait
SELECT level, count(*) AS users
FROM (SELECT user_id, window_funnel(INTERVAL '7 days', event_time, event_type = 'view', event_type = 'cart',
             event_type = 'purchase', event_type = 'view' AND price > 50) AS level
      FROM events GROUP BY user_id)
GROUP BY level ORDER BY level
-- duckdb
WITH a AS (SELECT user_id, event_time AS t, event_type = 'view' AS c1, event_type = 'cart' AS c2, event_type = 'purchase' AS c3,
                  event_type = 'view' AND price > 50 AS c4 FROM {events}),
     b AS (SELECT *, max(t) FILTER (c1) OVER w AS s1 FROM a WINDOW w AS (PARTITION BY user_id ORDER BY t RANGE UNBOUNDED PRECEDING)),
     c AS (SELECT *, max(s1) FILTER (c2 AND t - s1 <= INTERVAL 7 DAY) OVER w AS s2
           FROM b WINDOW w AS (PARTITION BY user_id ORDER BY t RANGE UNBOUNDED PRECEDING)),
     d AS (SELECT *, max(s2) FILTER (c3 AND t - s2 <= INTERVAL 7 DAY) OVER w AS s3
           FROM c WINDOW w AS (PARTITION BY user_id ORDER BY t RANGE UNBOUNDED PRECEDING)),
     e AS (SELECT user_id, max(CASE WHEN c4 AND t - s3 <= INTERVAL 7 DAY THEN 4 WHEN s3 IS NOT NULL THEN 3 WHEN s2 IS NOT NULL THEN 2
                                    WHEN s1 IS NOT NULL THEN 1 ELSE 0 END) AS level FROM d GROUP BY user_id)
SELECT level, count(*) FROM e GROUP BY level ORDER BY level
-- clickhouse
SELECT level, count() FROM (SELECT user_id, windowFunnel(604800000000)(toUInt64(toUnixTimestamp64Micro(event_time)), event_type = 'view',
  event_type = 'cart', event_type = 'purchase', event_type = 'view' AND price > 50) AS level FROM {events} GROUP BY user_id)
GROUP BY level ORDER BY level

-- query: funnel strict_order
-- portrait
SELECT level, count(*) AS users
FROM (SELECT user_id, window_funnel(INTERVAL '7 days', 'strict_order', event_time, event_type = 'view', event_type = 'cart',
             event_type = 'purchase') AS level
      FROM events GROUP BY user_id)
GROUP BY level ORDER BY level
-- clickhouse
SELECT level, count() FROM (SELECT user_id, windowFunnel(604800000000, 'strict_order')(toUInt64(toUnixTimestamp64Micro(event_time)),
  event_type = 'view', event_type = 'cart', event_type = 'purchase') AS level FROM {events} GROUP BY user_id)
GROUP BY level ORDER BY level

-- query: funnel strict_increase
-- portrait
SELECT level, count(*) AS users
FROM (SELECT user_id, window_funnel(INTERVAL '7 days', 'strict_increase', event_time, event_type = 'view', event_type = 'cart',
             event_type = 'purchase', event_type = 'view' AND price > 50) AS level
      FROM events GROUP BY user_id)
GROUP BY level ORDER BY level
-- clickhouse
SELECT level, count() FROM (SELECT user_id, windowFunnel(604800000000, 'strict_increase')(toUInt64(toUnixTimestamp64Micro(event_time)),
  event_type = 'view', event_type = 'cart', event_type = 'purchase', event_type = 'view' AND price > 50) AS level
  FROM {events} GROUP BY user_id)
GROUP BY level ORDER BY level

-- query: retention
-- portrait
SELECT period, CAST(sum(retained) AS BIGINT) AS retained
FROM retention_matrix('events', periods => ARRAY[0, 1, 3, 7, 14, 30]) GROUP BY period ORDER BY period
-- duckdb
WITH d AS (SELECT DISTINCT user_id, CAST(event_time AS DATE) AS day FROM {events}),
     f AS (SELECT user_id, min(day) AS cohort FROM d GROUP BY user_id)
SELECT day - cohort AS period, count(*) FROM d JOIN f USING (user_id) WHERE day - cohort IN (0, 1, 3, 7, 14, 30) GROUP BY period ORDER BY period
-- clickhouse
SELECT p, count() FROM (SELECT arrayJoin(arrayMap(x -> x - first, days)) AS p
  FROM (SELECT groupUniqArray(toUInt32(toDate(event_time))) AS days, arrayMin(days) AS first FROM {events} GROUP BY user_id))
WHERE p IN (0, 1, 3, 7, 14, 30) GROUP BY p ORDER BY p

-- query: sessions
-- portrait
SELECT CAST(sum(sessions) AS BIGINT) AS sessions
FROM (SELECT max(session) AS sessions
      FROM (SELECT user_id, sessionize(event_time, INTERVAL '30 minutes') OVER (PARTITION BY user_id ORDER BY event_time) AS session FROM events)
      GROUP BY user_id)
-- duckdb
SELECT count(*) FROM (SELECT event_time - lag(event_time) OVER (PARTITION BY user_id ORDER BY event_time) AS gap FROM {events})
WHERE gap IS NULL OR gap > INTERVAL 30 MINUTE
-- clickhouse
SELECT count() FROM (SELECT event_time, lagInFrame(toNullable(event_time)) OVER (PARTITION BY user_id ORDER BY event_time
  ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS before FROM {events})
WHERE before IS NULL OR toUnixTimestamp64Micro(event_time) - toUnixTimestamp64Micro(assumeNotNull(before)) > 1800000000

-- query: paths
-- portrait
SELECT step, source, target, users FROM path_edges('events', depth => 3, session_gap => '1 day') WHERE target IS NOT NULL ORDER BY step, source, target
-- duckdb
WITH s AS (SELECT user_id, event_time AS t, event_type AS e,
                  event_time - lag(event_time) OVER (PARTITION BY user_id ORDER BY event_time, event_type) AS gap FROM {events}),
     v AS (SELECT *, sum(CASE WHEN gap IS NULL OR gap > INTERVAL 1 DAY THEN 1 ELSE 0 END)
                     OVER (PARTITION BY user_id ORDER BY t, e ROWS UNBOUNDED PRECEDING) AS visit FROM s),
     c AS (SELECT *, lag(e) OVER (PARTITION BY user_id, visit ORDER BY t, e) AS before FROM v),
     k AS (SELECT user_id, visit, t, e, row_number() OVER w AS step, lead(e) OVER w AS target
           FROM c WHERE before IS DISTINCT FROM e WINDOW w AS (PARTITION BY user_id, visit ORDER BY t, e))
SELECT step, e, target, count(DISTINCT user_id) FROM k WHERE step <= 3 AND target IS NOT NULL GROUP BY ALL ORDER BY ALL
-- clickhouse
SELECT edge.1, edge.2, edge.3, uniqExact(user_id) FROM (
  SELECT user_id, arrayJoin(arrayFlatten(arrayMap(v -> arrayMap(i -> (i, v[i], v[i + 1]), range(1, least(length(v), 4))), visits))) AS edge FROM (
    SELECT user_id, arrayMap(v -> arrayCompact(arrayMap(x -> x.2, v)), arraySplit((x, gap) -> gap, log,
      arrayMap((x, i) -> i > 1 AND x.1 - log[i - 1].1 > 86400000000, log, arrayEnumerate(log)))) AS visits
    FROM (SELECT user_id, arraySort(groupArray((toUnixTimestamp64Micro(event_time), event_type))) AS log FROM {events} GROUP BY user_id)))
GROUP BY edge ORDER BY edge

-- query: sequence with time
-- portrait
SELECT count(*) AS users
FROM (SELECT sequence_match('(?1)(?t<=86400)(?2).*(?3)', event_time, event_type = 'view', event_type = 'cart', event_type = 'purchase') AS found
      FROM events GROUP BY user_id) WHERE found
-- clickhouse
SELECT count() FROM (SELECT sequenceMatch('(?1)(?t<=86400)(?2).*(?3)')(toDateTime(event_time), event_type = 'view', event_type = 'cart',
  event_type = 'purchase') AS found FROM {events} GROUP BY user_id) WHERE found

-- query: rfm
-- The scores are asked for, or DuckDB leaves their windows out.
-- portrait
SELECT count(*) AS users, CAST(sum(frequency) AS BIGINT) AS purchases, round(sum(monetary), 2) AS money
FROM rfm_scores('events', event => 'purchase') WHERE r + f + m > 0
-- duckdb
SELECT count(*), sum(frequency), round(sum(monetary), 2) FROM (
  SELECT *, ntile(5) OVER (ORDER BY latest, user_id) AS r, ntile(5) OVER (ORDER BY frequency, user_id) AS f,
         ntile(5) OVER (ORDER BY monetary, user_id) AS m
  FROM (SELECT user_id, max(event_time) AS latest, count(*) AS frequency, sum(price) AS monetary FROM {events}
        WHERE event_type = 'purchase' GROUP BY user_id))
WHERE r + f + m > 0
-- clickhouse
SELECT count(), sum(frequency), round(sum(monetary), 2) FROM (
  SELECT *, ntile(5) OVER (ORDER BY latest, user_id) AS r, ntile(5) OVER (ORDER BY frequency, user_id) AS f,
         ntile(5) OVER (ORDER BY monetary, user_id) AS m
  FROM (SELECT user_id, max(event_time) AS latest, count() AS frequency, sum(price) AS monetary FROM {events}
        WHERE event_type = 'purchase' GROUP BY user_id))
WHERE r + f + m > 0

-- query: preferences
-- portrait
SELECT favourite, count(*) AS users
FROM (SELECT pref_top(category, 1.0, event_time, INTERVAL '30 days', TIMESTAMP '2025-07-01') AS favourite FROM events GROUP BY user_id)
GROUP BY favourite ORDER BY users DESC, favourite LIMIT 5
-- duckdb
SELECT favourite, count(*) AS users FROM (SELECT user_id, arg_max(category, (w, -substr(category, 2)::INT)) AS favourite FROM (
    SELECT user_id, category, sum(pow(2, -epoch(TIMESTAMP '2025-07-01' - event_time) / 2592000)) AS w FROM {events} GROUP BY user_id, category)
  GROUP BY user_id) GROUP BY favourite ORDER BY users DESC, favourite LIMIT 5
-- clickhouse
SELECT favourite, count() AS users FROM (SELECT user_id, argMax(category, w) AS favourite FROM (
    SELECT user_id, category, sum(exp2(-(1751328000000000 - toUnixTimestamp64Micro(event_time)) / 2592000000000)) AS w
    FROM {events} GROUP BY user_id, category)
  GROUP BY user_id) GROUP BY favourite ORDER BY users DESC, favourite LIMIT 5

-- query: features as of
-- portrait
SELECT count(*) AS labels, count(price) AS known, round(sum(price), 2) AS total
FROM features_asof((SELECT user_id, event_time AS label_time FROM events WHERE event_type = 'purchase'),
                   (SELECT user_id, event_time, price FROM events WHERE event_type = 'cart'))
-- duckdb
SELECT count(*), count(f.price), round(sum(f.price), 2)
FROM (SELECT user_id, event_time FROM {events} WHERE event_type = 'purchase') AS l
ASOF LEFT JOIN (SELECT user_id, event_time, price FROM {events} WHERE event_type = 'cart') AS f
ON l.user_id = f.user_id AND l.event_time >= f.event_time
-- clickhouse
SELECT count(), count(f.price), round(sum(f.price), 2)
FROM (SELECT user_id, event_time FROM {events} WHERE event_type = 'purchase') AS l
ASOF LEFT JOIN (SELECT user_id, event_time, toNullable(price) AS price FROM {events} WHERE event_type = 'cart') AS f
ON l.user_id = f.user_id AND l.event_time >= f.event_time SETTINGS join_use_nulls = 1

-- query: top categories
-- portrait
SELECT count(*) AS users, CAST(sum(array_length(top)) AS BIGINT) AS kept
FROM (SELECT top_k(category, 3) AS top FROM events GROUP BY user_id)
-- duckdb
SELECT count(DISTINCT user_id), count(*) FROM (SELECT user_id, row_number() OVER (PARTITION BY user_id ORDER BY n DESC, category) AS place FROM (
    SELECT user_id, category, count(*) AS n FROM {events} GROUP BY user_id, category)) WHERE place <= 3
-- clickhouse
SELECT uniqExact(user_id), count() FROM (SELECT user_id, category, count() AS n FROM {events} GROUP BY user_id, category
  ORDER BY user_id, n DESC, category LIMIT 3 BY user_id)

-- query: decayed sums
-- portrait
SELECT count(*) AS users, round(sum(recent), 1) AS total
FROM (SELECT time_decayed_sum(price, event_time, INTERVAL '7 days', TIMESTAMP '2025-07-01') AS recent FROM events GROUP BY user_id)
-- duckdb
SELECT count(*), round(sum(recent), 1) FROM (SELECT user_id,
  sum(price * pow(2, -epoch(TIMESTAMP '2025-07-01' - event_time) / 604800)) AS recent FROM {events} GROUP BY user_id)
-- clickhouse
SELECT count(), round(sum(recent), 1) FROM (SELECT user_id,
  sum(price * exp2(-(1751328000000000 - toUnixTimestamp64Micro(event_time)) / 604800000000)) AS recent FROM {events} GROUP BY user_id)

-- query: users by day and event
-- portrait
SELECT event_type, CAST(sum(users) AS BIGINT) AS users
FROM (SELECT date_trunc('day', event_time) AS day, event_type, count(DISTINCT user_id) AS users FROM events GROUP BY day, event_type)
GROUP BY event_type ORDER BY event_type
-- duckdb
SELECT event_type, sum(users) FROM (SELECT date_trunc('day', event_time) AS day, event_type, count(DISTINCT user_id) AS users
  FROM {events} GROUP BY day, event_type) GROUP BY event_type ORDER BY event_type
-- clickhouse
SELECT event_type, sum(users) FROM (SELECT toDate(event_time) AS day, event_type, uniqExact(user_id) AS users
  FROM {events} GROUP BY day, event_type) GROUP BY event_type ORDER BY event_type

-- query: experiment
-- portrait
SELECT round(t.statistic, 6) AS statistic
FROM (SELECT welch_t_test(revenue, variant) AS t
      FROM (SELECT user_id % 2 AS variant, sum(CASE WHEN event_type = 'purchase' THEN price ELSE 0 END) AS revenue FROM events GROUP BY user_id))
-- duckdb
SELECT round((avg(r) FILTER (v = 0) - avg(r) FILTER (v = 1))
  / sqrt(var_samp(r) FILTER (v = 0) / count(*) FILTER (v = 0) + var_samp(r) FILTER (v = 1) / count(*) FILTER (v = 1)), 6)
FROM (SELECT user_id % 2 AS v, sum(CASE WHEN event_type = 'purchase' THEN price ELSE 0 END) AS r FROM {events} GROUP BY user_id)
-- clickhouse
SELECT round(tupleElement(welchTTest(r, v), 1), 6)
FROM (SELECT user_id % 2 AS v, sum(if(event_type = 'purchase', price, 0)) AS r FROM {events} GROUP BY user_id)
