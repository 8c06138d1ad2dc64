CREATE EXTERNAL TABLE IF NOT EXISTS events STORED AS PARQUET LOCATION 'online_retail/events/';

CREATE TABLE IF NOT EXISTS scores (
    user_id BIGINT, intent TEXT, probability DOUBLE PRECISION, as_of TIMESTAMP WITH TIME ZONE, model_version INT
);

CREATE OR REPLACE VIEW latest_scores AS
SELECT user_id, intent, probability, as_of, model_version
FROM (SELECT *, row_number() OVER (PARTITION BY user_id ORDER BY as_of DESC) AS nth FROM scores) AS ranked
WHERE nth = 1;

SELECT model, version, state, arch, metric, test, baseline, message
FROM train_profile_model('nightly', 'events', target => 'purchase', horizon => '30 days', arch => 'logreg', if_stale => '7 days');
