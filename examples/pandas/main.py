"""Train, evaluate and score from Python; then a data frame of users with their embeddings.

Usage: main.py "CONNECTION STRING"
"""

import sys

import pandas as pd
import psycopg


def frame(connection, sql, parameters=None):
    with connection.cursor(binary=True) as cursor:
        cursor.execute(sql, parameters)
        return pd.DataFrame(cursor.fetchall(), columns=[column.name for column in cursor.description])


def main():
    with psycopg.connect(sys.argv[1], autocommit=True) as connection:
        connection.add_notice_handler(lambda notice: print(notice.message_primary, file=sys.stderr))
        connection.execute("CREATE EXTERNAL TABLE IF NOT EXISTS events STORED AS PARQUET LOCATION 'online_retail/events/'")
        trained = frame(
            connection,
            "SELECT * FROM train_profile_model('pandas_shopper', 'events', target => 'purchase', horizon => '30 days',"
            " arch => 'logreg', activate => 'always')",
        )
        print(trained[["model", "version", "metric", "test", "baseline"]].to_string(index=False))

        scores = frame(
            connection,
            "SELECT user_id, intent, probability, n_events FROM score_users('pandas_shopper') WHERE probability IS NOT NULL",
        )
        print(scores.describe().round(3).to_string())

        users = scores.sort_values("probability", ascending=False).head(5)["user_id"].tolist()
        embeddings = frame(
            connection,
            "SELECT user_id, embed_user('pandas_shopper', user_id) AS embedding FROM score_users('pandas_shopper') WHERE user_id = ANY(%s)",
            (users,),
        )
        matrix = pd.DataFrame(embeddings["embedding"].tolist(), index=embeddings["user_id"])
        print(f"embeddings: {matrix.shape[0]} users x {matrix.shape[1]} dimensions")
        assert len(scores) > 1000 and matrix.shape[0] == 5, "the log has more users than that"


if __name__ == "__main__":
    main()
