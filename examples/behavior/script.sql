-- What customers of a real shop do, and who they are: no model, no training.
DROP TABLE IF EXISTS events;
DROP TABLE IF EXISTS sessions;

CREATE EXTERNAL TABLE events STORED AS PARQUET LOCATION 'online_retail/events/';
CREATE EXTERNAL TABLE sessions STORED AS PARQUET LOCATION 'online_shoppers/sessions.parquet';

-- 1. A first look at the columns.
SELECT column_name, type, missing, distinct_values, min, max FROM profile_table('events');

-- 2. How many customers buy and then return something within a month? Steps are counted as reached-at-least.
SELECT step, event, users, round(of_first, 3) AS of_first
FROM funnel_steps('events', ARRAY['purchase', 'return'], window => '30 days');

-- 3. Who comes back, month by month?
SELECT cohort, period, users, retained
FROM retention_matrix('events', first => 'purchase', active => 'purchase', granularity => 'month', periods => ARRAY[0, 1, 2, 3])
WHERE cohort = '2010-12-01' ORDER BY period;

-- 4. Recency, frequency, money: five bins each, and what the combination is called.
SELECT segment, count(*) AS users, round(avg(monetary), 2) AS money
FROM rfm_scores('events', event => 'purchase') GROUP BY segment ORDER BY users DESC, segment;

-- 5. Who will still buy, and for how much (BG/NBD and Gamma-Gamma)?
SELECT user_id, round(p_alive, 3) AS p_alive, round(expected_purchases, 2) AS purchases, round(ltv, 2) AS ltv
FROM ltv_bgnbd('events', horizon => '180 days', event => 'purchase') ORDER BY ltv DESC NULLS LAST, user_id LIMIT 5;

-- 6. Do weekend visits convert better? One row for each variant, beside the control.
SELECT variant, n, round(mean, 4) AS mean, round(difference, 4) AS difference, round(p_value, 4) AS p_value
FROM ab_test((SELECT CASE WHEN "Weekend" THEN 'weekend' ELSE 'control' END AS variant, "Revenue" AS value FROM sessions), kind => 'proportion');

-- 7. One customer on a card.
SELECT profile_card(12347, source => 'events');
