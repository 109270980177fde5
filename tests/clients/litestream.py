"""litestream: a SQLite database replicated while it is written, and restored."""

import pathlib
import sqlite3
import subprocess
import time

import boto3

from tree import ENDPOINT, run, same, without_aws_bundle

s3 = boto3.client("s3", endpoint_url=ENDPOINT)
s3.create_bucket(Bucket="litestream-round")
pathlib.Path("litestream.yml").write_text(
    f"""
dbs:
  - path: {pathlib.Path("a.db").absolute()}
    replica:
      type: s3
      bucket: litestream-round
      path: a
      endpoint: {ENDPOINT}
      region: us-east-1
      sync-interval: 100ms
"""
)
db = sqlite3.connect("a.db", isolation_level=None)
db.execute("PRAGMA journal_mode = wal")
db.execute("CREATE TABLE t (n INTEGER)")
process = subprocess.Popen(["litestream", "replicate", "-config", "litestream.yml"], env=without_aws_bundle())
for n in range(200):
    db.execute("INSERT INTO t VALUES (?)", (n,))
    time.sleep(0.005)
db.execute("INSERT INTO t VALUES (1000)")
time.sleep(2)
process.terminate()
process.wait(30)
assert s3.list_objects_v2(Bucket="litestream-round").get("KeyCount", 0) > 0, "nothing replicated"
restore = ["litestream", "restore", "-config", "litestream.yml", "-o", "b.db", pathlib.Path("a.db").absolute()]
run(*restore, env=without_aws_bundle())
rows = sqlite3.connect("b.db").execute("SELECT count(*), max(n) FROM t").fetchone()
same(rows, (201, 1000), "restored")
