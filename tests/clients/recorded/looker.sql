-- client: Looker (pgjdbc): connection test, schema browser, explores, kill of queries
-- Written down after what Looker asks: the same functions, views and forms of queries.

-- send: extended
SET extra_float_digits = 3

-- send: extended
SELECT 1

-- send: extended
-- rows: nonempty
SELECT pg_backend_pid()

-- send: extended
SELECT current_setting('TIMEZONE')

-- send: extended
SELECT table_schema AS schema, table_name AS name, table_type FROM information_schema.tables WHERE table_schema = 'public' ORDER BY table_name

-- send: extended
SELECT column_name, data_type, is_nullable, ordinal_position, character_maximum_length, numeric_precision, numeric_scale FROM information_schema.columns WHERE table_schema = 'public' AND table_name = 'recorded_orders' ORDER BY ordinal_position

-- send: extended
SELECT
    (DATE(recorded_orders."ordered_at")) AS "recorded_orders.ordered_date",
    COUNT(*) AS "recorded_orders.count",
    COALESCE(SUM(recorded_orders."price"), 0) AS "recorded_orders.total_price"
FROM
    "public"."recorded_orders" AS "recorded_orders"
    LEFT JOIN "public"."recorded_people" AS "recorded_people" ON "recorded_orders"."user_id" = "recorded_people"."user_id"
WHERE ((( recorded_orders."ordered_at" ) >= ((SELECT (DATE_TRUNC('day', TIMESTAMP '2024-05-01') + (-29 || ' day')::INTERVAL)))))
GROUP BY
    1
ORDER BY
    1 DESC
FETCH NEXT 500 ROWS ONLY

-- send: extended
WITH people AS (SELECT user_id, name FROM recorded_people WHERE active)
SELECT
    people.name AS "people.name",
    TO_CHAR(DATE_TRUNC('month', recorded_orders.ordered_at), 'YYYY-MM') AS "recorded_orders.ordered_month",
    COUNT(DISTINCT people.user_id) AS "people.count"
FROM people
INNER JOIN recorded_orders ON recorded_orders.user_id = people.user_id
GROUP BY
    1,
    2
HAVING COUNT(DISTINCT people.user_id) > 0
ORDER BY
    2 DESC
LIMIT 500

-- send: extended
-- rows: nonempty
SELECT pid, usename, query FROM pg_stat_activity WHERE pid = pg_backend_pid()

-- send: extended
SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'nobody'
