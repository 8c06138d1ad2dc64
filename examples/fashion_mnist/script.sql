-- A convolutional network over product pictures: PNG in a bytea column, a label beside it.
DROP TABLE IF EXISTS garments_test;
DROP TABLE IF EXISTS garments_train;

CREATE EXTERNAL TABLE garments_train STORED AS PARQUET LOCATION 'fashion_mnist/train.parquet';
CREATE EXTERNAL TABLE garments_test STORED AS PARQUET LOCATION 'fashion_mnist/test.parquet';

-- Without `columns` the id would be a feature; `image=image` learns from the pictures alone.
SELECT model, version, arch, train_rows, epochs, metric, test, baseline, seconds
FROM train_profile_model('garments', 'garments_train', target => 'column(label)', columns => 'image=image', arch => 'cnn', activate => 'always');

-- The official test pictures, which the training has not seen.
SELECT metric, class, round(value, 4) AS value, round(baseline, 4) AS baseline, n
FROM evaluate_model('garments', 'garments_test')
WHERE metric IN ('accuracy', 'log_loss', 'f1');

-- One picture, or all of them.
SELECT id, label, predict_intent('garments', named_struct('image', image)) AS seen_as FROM garments_test ORDER BY id LIMIT 5;

SELECT label, intent AS seen_as, count(*) AS pictures
FROM score_rows('garments', 'garments_test')
WHERE label <> intent GROUP BY label, intent ORDER BY pictures DESC, label, intent LIMIT 5;
