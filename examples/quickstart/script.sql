-- From a directory of Parquet events to scored users.
DROP TABLE IF EXISTS scored;
DROP TABLE IF EXISTS events;

-- 1. Point at the files. Nothing is copied.
CREATE EXTERNAL TABLE events STORED AS PARQUET LOCATION 'online_retail/events/';

-- What does Portrait see in them?
SELECT role, column_name, decision FROM describe_events('events');

-- 2. Train: will a customer purchase within 30 days? Split by time, so the test is the future.
SELECT model, version, arch, metric, test, baseline, message
FROM train_profile_model('shopper', 'events', target => 'purchase', horizon => '30 days', activate => 'always');

-- 3. How good is it, beside always guessing the base rate?
SELECT metric, class, value, baseline, n FROM evaluate_model('shopper');

-- 4. Score everybody; the result is an ordinary table.
CREATE TABLE scored AS SELECT * FROM score_users('shopper');

SELECT user_id, intent, round(probability, 3) AS probability, n_events FROM scored ORDER BY probability DESC NULLS LAST, user_id LIMIT 5;

-- And in plain SELECTs.
SELECT user_id, predict_intent('shopper', user_id) AS intent, round(predict_intent_proba('shopper', user_id, 'purchase'), 3) AS p
FROM (VALUES (17850), (12347), (99999999), (NULL)) AS u(user_id);
