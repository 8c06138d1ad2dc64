-- How values look.
\pset null 'NULL'
SELECT true AS b, 1::smallint AS i2, 2 AS i4, 3::bigint AS i8, 1.5::real AS f4, 1e20::double precision AS f8, 'é' AS t;
SELECT NULL AS n, ''::text AS empty, x'00ff'::bytea AS bytes;
SELECT 12.50::decimal(10,2) AS d, -0.05::decimal(5,3) AS small;
SELECT DATE '2024-02-29' AS d, TIMESTAMP '2024-02-29 12:34:56.5' AS ts, INTERVAL '1 year 2 months 3 days 04:05:06' AS i;
SELECT ARRAY[1, NULL, 3] AS numbers, ARRAY['a b', 'c"d', NULL, ''] AS texts;
SET TimeZone = 'Asia/Kolkata';
SELECT '2024-02-29 12:00:00+00'::timestamptz AS tz;
\pset format csv
SELECT 1 AS a, 'x,y' AS b;
