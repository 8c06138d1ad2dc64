-- client: Grafana's PostgreSQL data source: health check, version, query builder, macros of panels and alerts
-- Written down after what the data source asks: the same views, functions and constructs. It sends statements without
-- parameters; older versions (lib/pq) by the simple protocol, newer ones (pgx) prepare and take binary results.

-- send: simple
SELECT 1

-- send: simple
-- rows: nonempty
SELECT current_setting('server_version_num')::int/100 as version

-- send: simple
SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'

-- send: simple
-- rows: nonempty
SELECT schema_name AS "name"
FROM information_schema.schemata
WHERE schema_name NOT IN ('information_schema', 'pg_catalog', 'pg_toast', '_timescaledb_cache', '_timescaledb_internal')
ORDER BY schema_name

-- send: simple
SELECT quote_ident(table_name) AS "table"
FROM information_schema.tables
WHERE quote_ident(table_schema) = 'public'
ORDER BY 1

-- send: simple
SELECT
    CASE WHEN quote_ident(table_schema) IN (
          SELECT CASE WHEN trim(s[i]) = '"$user"' THEN user ELSE trim(s[i]) END
          FROM
            generate_series(
              array_lower(string_to_array(current_setting('search_path'),','),1),
              array_upper(string_to_array(current_setting('search_path'),','),1)
            ) as i,
            string_to_array(current_setting('search_path'),',') s
          )
      THEN quote_ident(table_name)
      ELSE quote_ident(table_schema) || '.' || quote_ident(table_name)
    END AS "table"
FROM information_schema.tables
WHERE quote_ident(table_schema) NOT IN ('information_schema', 'pg_catalog', 'ml', '_timescaledb_cache')
ORDER BY CASE WHEN quote_ident(table_schema) IN (
          SELECT CASE WHEN trim(s[i]) = '"$user"' THEN user ELSE trim(s[i]) END
          FROM
            generate_series(
              array_lower(string_to_array(current_setting('search_path'),','),1),
              array_upper(string_to_array(current_setting('search_path'),','),1)
            ) as i,
            string_to_array(current_setting('search_path'),',') s
          ) THEN 0 ELSE 1 END, 1

-- send: simple
SELECT quote_ident(column_name) AS "column", data_type AS "type"
FROM information_schema.columns
WHERE
  CASE WHEN array_length(parse_ident('recorded_people'),1) = 2
    THEN quote_ident(table_schema) = (parse_ident('recorded_people'))[1]
      AND quote_ident(table_name) = (parse_ident('recorded_people'))[2]
    ELSE quote_ident(table_name) = 'recorded_people'
      AND quote_ident(table_schema) IN (
        SELECT CASE WHEN trim(s[i]) = '"$user"' THEN user ELSE trim(s[i]) END
        FROM
          generate_series(
            array_lower(string_to_array(current_setting('search_path'),','),1),
            array_upper(string_to_array(current_setting('search_path'),','),1)
          ) as i,
          string_to_array(current_setting('search_path'),',') s
      )
  END

-- send: simple
SELECT ordered_at AS "time", price FROM recorded_orders WHERE ordered_at BETWEEN '2024-05-01T00:00:00Z' AND '2024-05-02T00:00:00Z' ORDER BY 1

-- send: simple
SELECT floor(extract(epoch from ordered_at)/900)*900 AS "time", avg(price) AS "price"
FROM recorded_orders
WHERE ordered_at BETWEEN '2024-05-01T00:00:00Z' AND '2024-05-03T00:00:00Z'
GROUP BY 1
ORDER BY 1

-- send: extended binary
-- ignore: time
SELECT extract(epoch from updated_at) as "time", name AS metric, score AS value FROM recorded_people WHERE extract(epoch from updated_at) >= 1714521600 AND extract(epoch from updated_at) <= 1714780800 ORDER BY 1

-- send: extended binary
SELECT date_trunc('day', updated_at) AS time, count(*) AS value FROM recorded_people WHERE updated_at >= '2024-05-01T00:00:00Z' AND name IN ('Ann','Bert') GROUP BY 1 ORDER BY 1

-- send: extended binary
SELECT AVG(price), user_id FROM public.recorded_orders WHERE (price > 5 AND user_id IS NOT NULL) GROUP BY user_id LIMIT 50

-- send: extended binary
SELECT DISTINCT name FROM recorded_people WHERE name ILIKE 'a%'
