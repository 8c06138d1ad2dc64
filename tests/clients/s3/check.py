"""A server whose tables, audiences and models lie in S3, and which reads events from there: against moto, on loopback.

Usage: check.py PORTRAIT-BINARY WORK-FOLDER
"""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import boto3
import psycopg

portrait, work = sys.argv[1], pathlib.Path(sys.argv[2])
examples = pathlib.Path(__file__).resolve().parents[3] / "examples/data"
SECRET = "wJalrXUtnFEMI-very-secret"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(port, process, what):
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.1)
    raise SystemExit(f"{what} did not start")


s3_port = free_port()
endpoint = f"http://127.0.0.1:{s3_port}"
aws = {
    "AWS_ACCESS_KEY_ID": "portrait-test-key",
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_REGION": "us-east-1",
    "AWS_ENDPOINT_URL": endpoint,
    "AWS_ALLOW_HTTP": "true",
}
moto = subprocess.Popen(
    [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(s3_port)],
    stdout=(work / "moto.log").open("w"), stderr=subprocess.STDOUT,
)
wait_for(s3_port, moto, "moto")
s3 = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id=aws["AWS_ACCESS_KEY_ID"], aws_secret_access_key=SECRET)
for bucket in ("logs", "portrait"):
    s3.create_bucket(Bucket=bucket)
for file in sorted((examples / "online_retail/events").glob("*.parquet")):
    s3.upload_file(str(file), "logs", f"retail/events/{file.name}")
for country, rows in (("DE", "user_id,price\n1,2.5\n2,3.5\n"), ("FR", "user_id,price\n3,4.5\n")):
    s3.put_object(Bucket="logs", Key=f"retail/prices/country={country}/part.csv", Body=rows.encode())
s3.put_object(Bucket="logs", Key="retail/lines.jsonl", Body=b'{"a": 1}\n{"a": 2}\n')
s3.put_object(Bucket="logs", Key="private/secret.csv", Body=b"a\n1\n")

servers = []


class Server:
    def __init__(self, data="data", roots=("s3://logs/retail",), store="s3://portrait/main", extra=(), env=aws):
        self.port, self.data = free_port(), work / data
        self.log = (work / f"{data}-{self.port}.log").open("w+")
        command = [portrait, "serve", "--data-dir", str(self.data), "--auth", "trust", "--listen", f"127.0.0.1:{self.port}"]
        command += [word for root in roots for word in ("--data-root", root)] + (["--store", store] if store else []) + list(extra)
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PORTRAIT_"))}
        self.process = subprocess.Popen(command, env={**clean, **env}, stdout=self.log, stderr=subprocess.STDOUT)
        servers.append(self)

    def connect(self):
        wait_for(self.port, self.process, "portrait")
        self.connection = psycopg.connect(host="127.0.0.1", port=self.port, user="portrait", dbname="portrait", autocommit=True)
        return self

    def run(self, sql):
        cursor = self.connection.execute(sql)
        return cursor.fetchall() if cursor.description else cursor.statusmessage

    def fails(self, sql, code, words):
        begin = time.monotonic()
        try:
            found = self.run(sql)
        except psycopg.Error as error:
            text = f"{error.diag.message_primary} {error.diag.message_detail} {error.diag.message_hint}"
            assert error.sqlstate == code and words in text, f"{sql}: {error.sqlstate} {text}"
            assert SECRET not in text
            print(f"  {time.monotonic() - begin:5.1f} s  {error.sqlstate} {error.diag.message_primary}")
            return
        raise SystemExit(f"{sql}: {found}")

    def ends(self):
        """The output of a server that does not start."""
        assert self.process.wait(timeout=120) != 0
        return self.output()

    def output(self):
        self.log.seek(0)
        return self.log.read()

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        return self.process.wait(timeout=60)


def main():
    server = Server().connect()
    # The four statements of the README.
    server.run("CREATE EXTERNAL TABLE events STORED AS PARQUET LOCATION 's3://logs/retail/events/'")
    expected = duckdb_count()
    assert server.run("SELECT count(*) FROM events") == [(expected,)]
    for setting in ("ml.epochs = 1", "ml.hidden_dim = 8"):
        server.run(f"SET {setting}")
    server.run("SELECT * FROM train_profile_model('shopper', 'events', target => 'purchase', horizon => '30 days', activate => 'always')")
    assert server.run("SELECT count(*) > 0 FROM evaluate_model('shopper')") == [(True,)]
    server.run("CREATE TABLE scored AS SELECT * FROM score_users('shopper')")
    scored = server.run("SELECT count(*), sum(user_id) FROM scored")
    assert scored[0][0] > 100, scored

    # Files of other kinds, hive folders, globs, a path in the place of a table.
    server.run("CREATE EXTERNAL TABLE prices STORED AS CSV LOCATION 's3://logs/retail/prices/' OPTIONS (has_header true)")
    assert server.run("SELECT country, sum(price) FROM prices GROUP BY country ORDER BY country") == [("DE", 6.0), ("FR", 4.5)]
    assert server.run('SELECT sum(a) FROM "s3://logs/retail/*.jsonl"') == [(3,)]
    first = server.run("SELECT count(*) FROM 's3://logs/retail/events/2010-12.parquet'")
    assert 0 < first[0][0] < expected
    s3.put_object(Bucket="logs", Key="retail/prices/country=DE/part.csv", Body=b"user_id,price\n1,20.5\n")
    assert server.run("SELECT sum(price) FROM prices") == [(25.0,)], "a changed object is read anew"
    server.fails("SELECT * FROM 's3://logs/private/secret.csv'", "42501", "permission denied for location")
    server.fails("SELECT * FROM 's3://else/where.csv'", "42501", "s3://logs/retail")
    server.fails("SELECT * FROM 's3://logs/retail/none.parquet'", "22023", "no PARQUET files")

    # Writing.
    server.run("CREATE TABLE plain (x int, word text)")
    assert server.run("INSERT INTO plain VALUES (1, 'a'), (2, 'b')") == "INSERT 0 2"
    with server.connection.cursor().copy("COPY plain FROM STDIN (FORMAT csv)") as copy:
        copy.write("3,c\n4,d\n")
    server.run("CREATE TABLE log (id text, user_id bigint, at timestamptz) WITH (user_column = user_id, time_column = at, event_id = id)")
    for _ in range(2):
        with server.connection.cursor().copy("COPY log FROM STDIN (FORMAT csv)") as copy:
            copy.write("".join(f"e{n},{n % 500},2024-05-01 00:00:{n % 60:02}+00\n" for n in range(20_000)))
    server.run("INSERT INTO log SELECT 'f' || v, v % 7, '2024-05-02'::timestamptz FROM generate_series(1, 100) AS g(v)")
    server.run("OPTIMIZE log")
    server.run("VACUUM log RETAIN 0 HOURS")
    server.run("CREATE AUDIENCE few AS SELECT user_id FROM log WHERE user_id < 10")
    server.run("CREATE TABLE wide AS SELECT v, repeat(md5(v::text), 20) AS filler FROM generate_series(1, 60000) AS g(v)")
    removed = server.run("SELECT sum(removed) FROM erase_user('499') WHERE object = 'log'")
    assert removed == [(40,)], removed
    seen = {
        "SELECT sum(x), count(*) FROM plain": [(10, 4)],
        "SELECT count(*), count(DISTINCT id) FROM log": [(20_060, 20_060)],
        "SELECT bitmap_cardinality(audience_bitmap('few'))": [(10,)],
        "SELECT count(*), count(DISTINCT filler) FROM wide": [(60_000, 60_000)],
        "SELECT count(*), sum(user_id) FROM scored": scored,
    }
    def check(server):
        for query, rows in seen.items():
            assert server.run(query) == rows, f"{query}: {server.run(query)}"

    check(server)
    assert not (server.data / "tables").exists(), "tables lie in the bucket"
    kept = [object["Key"] for object in s3.list_objects_v2(Bucket="portrait", Prefix="main/")["Contents"]]
    assert "main/catalog/catalog.json" in kept and not any(".portrait-probe" in key for key in kept)

    # Another server is refused while this one runs; after a kill the same one comes back, after a stop any other.
    other = Server("other").ends()
    assert "in use by another server" in other and "--take-over" in other, other
    assert server.stop(signal.SIGKILL) != 0
    server = Server().connect()
    check(server)
    server.run("INSERT INTO plain VALUES (5, 'e')")
    seen["SELECT sum(x), count(*) FROM plain"] = [(15, 5)]
    assert server.stop() == 0
    server = Server("other").connect()
    check(server)
    predicted = server.run("SELECT count(predict_intent('shopper', user_id)) FROM scored")
    assert predicted[0][0] > 100, "the model came along"

    # What goes wrong is told, soon, and without secrets.
    print("errors:")
    lost = Server("lost", roots=("s3://logs/retail", "s3://nosuchbucket/x"), store=None).connect()
    lost.fails("SELECT * FROM 's3://nosuchbucket/x/a.parquet'", "22023", "does not exist")
    output = Server("nowhere", store="s3://nosuchbucket/x").ends()
    assert "nosuchbucket" in output and "does not exist" in output, output
    output = Server("anonymous", env={"AWS_ENDPOINT_URL": endpoint}).ends()
    assert "there are no credentials" in output, output
    # From now on moto looks at keys, and knows none.
    plain = {"Content-Type": "text/plain"}
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/moto-api/reset-auth", data=b"0", headers=plain, method="POST"))
    server.fails("SELECT count(*) FROM events", "42501", "AWS_SECRET_ACCESS_KEY")
    output = Server("stranger").ends()
    assert "refuses this server's access" in output and SECRET not in output, output
    moto.terminate()
    moto.wait()
    server.fails("SELECT count(*) FROM events", "58030", "cannot be reached")
    server.fails("INSERT INTO plain VALUES (6, 'f')", "58030", "cannot be reached")
    assert server.run("SELECT 1") == [(1,)]
    output = Server("early").ends()
    assert "cannot be reached" in output, output
    for server in servers:
        assert SECRET not in server.output()
    print("s3: reading, writing, restarts and errors")


def duckdb_count():
    import duckdb
    return duckdb.sql(f"SELECT count(*) FROM read_parquet('{examples}/online_retail/events/*.parquet')").fetchall()[0][0]


try:
    main()
except BaseException:
    for server in servers:
        print(f"== {server.data.name}\n{server.output()[-4000:]}", file=sys.stderr)
    raise
finally:
    for server in servers:
        if server.process.poll() is None:
            server.process.kill()
    moto.kill()
