-- What Superset will show: the events, and a row per customer with segment and prediction.
CREATE EXTERNAL TABLE IF NOT EXISTS events STORED AS PARQUET LOCATION 'online_retail/events/';

SELECT model, version, metric, test, baseline, message
FROM train_profile_model('superset_shopper', 'events', target => 'purchase', horizon => '30 days', arch => 'logreg', activate => 'always');

DROP MATERIALIZED VIEW IF EXISTS customer_scores;
CREATE MATERIALIZED VIEW customer_scores AS
SELECT s.user_id,
       c.country,
       replace(coalesce(r.segment, 'no purchase yet'), '_', ' ') AS segment,
       CASE s.intent WHEN 'purchase' THEN 'will buy' ELSE 'will not buy' END AS prediction,
       CASE s.intent WHEN 'purchase' THEN s.probability ELSE s.runner_up_probability END AS purchase_probability,
       c.spent,
       s.n_events,
       s.last_event
FROM score_users('superset_shopper') AS s
LEFT JOIN rfm_scores('events', event => 'purchase') AS r ON r.user_id = s.user_id
LEFT JOIN (
  SELECT user_id, max(country) AS country, sum(price * quantity) AS spent FROM events GROUP BY user_id
) AS c ON c.user_id = s.user_id;

SELECT prediction, count(*) AS customers, round(avg(purchase_probability), 3) AS purchase_probability
FROM customer_scores GROUP BY 1 ORDER BY 1;
