"""DuckDB's httpfs: CSV and Parquet, written, globbed and read."""

import boto3
import duckdb
from duckdb_extensions import import_extension

from tree import ACCESS_KEY, CA_FILE, ENDPOINT, HOST, SECRET_KEY, SECURE, same

boto3.client("s3", endpoint_url=ENDPOINT).create_bucket(Bucket="duckdb-round")
import_extension("httpfs")
db = duckdb.connect()
db.execute("LOAD httpfs")
if SECURE:
    db.execute(f"SET ca_cert_file = '{CA_FILE}'")
    db.execute("SET enable_server_cert_verification = true")
db.execute(
    f"CREATE SECRET (TYPE s3, KEY_ID '{ACCESS_KEY}', SECRET '{SECRET_KEY}', "
    f"ENDPOINT '{HOST}', URL_STYLE 'path', USE_SSL {SECURE})"
)
db.execute("CREATE TABLE t AS SELECT range AS n, range % 7 AS part, repeat('x', 50) AS pad FROM range(300000)")
for kind in ["csv", "parquet"]:
    db.execute(f"COPY t TO 's3://duckdb-round/one.{kind}' (FORMAT {kind})")
    count, total = db.execute(f"SELECT count(*), sum(n) FROM 's3://duckdb-round/one.{kind}'").fetchone()
    same((count, total), (300000, 44999850000), kind)
db.execute("COPY t TO 's3://duckdb-round/set' (FORMAT parquet, PARTITION_BY (part))")
rows = db.execute(
    "SELECT part, count(*) FROM read_parquet('s3://duckdb-round/set/*/*.parquet', hive_partitioning = true) "
    "GROUP BY part ORDER BY part"
).fetchall()
same(sum(count for _, count in rows), 300000, "rows of the set")
same(len(db.execute("FROM glob('s3://duckdb-round/set/**/*.parquet')").fetchall()), len(rows), "glob")
