"""polars: tables written and scanned; columns and rows that the query leaves out are not read."""

import io
import pathlib

import boto3
import polars as pl

from tree import ENDPOINT, same

BUCKET = "polars-round"
ROWS = 300_000
OPTIONS = {"aws_endpoint_url": ENDPOINT, "aws_allow_http": "true"}

s3 = boto3.client("s3", endpoint_url=ENDPOINT)
s3.create_bucket(Bucket=BUCKET)


def at(name):
    return f"s3://{BUCKET}/{name}"


def body_of(key):
    return s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()


frame = pl.DataFrame({"n": range(ROWS)}).with_columns(
    part=pl.col("n") % 5, word=pl.format("ümläut {}", pl.col("n").hash(7))
)
wanted = frame.filter((pl.col("n") >= 200_000) & (pl.col("part") == 3)).select("word")

for kind in ["parquet", "ipc", "csv"]:
    write = getattr(frame, f"write_{kind}")
    write(at(f"one.{kind}"), storage_options=OPTIONS)
    write(pathlib.Path(f"one.{kind}"))
    same(body_of(f"one.{kind}") == pathlib.Path(f"one.{kind}").read_bytes(), True, f"bytes of {kind}")
    whole = getattr(pl, f"read_{kind}")(at(f"one.{kind}"), storage_options=OPTIONS)
    same(whole.equals(frame), True, kind)
    scan = getattr(pl, f"scan_{kind}")(at(f"one.{kind}"), storage_options=OPTIONS)
    found = scan.filter((pl.col("n") >= 200_000) & (pl.col("part") == 3)).select("word").collect()
    same(found.equals(wanted), True, f"a scan of {kind} with a predicate")

# In parts, from a stream: the table is not held in memory.
frame.lazy().sink_parquet(at("stream.parquet"), storage_options=OPTIONS, row_group_size=20_000)
same(pl.read_parquet(io.BytesIO(body_of("stream.parquet"))).equals(frame), True, "a stream")
lazy = pl.scan_parquet(at("stream.parquet"), storage_options=OPTIONS)
same(lazy.filter(pl.col("n") == 123_456).collect().rows(), [frame.row(123_456)], "one row of a stream")
same(lazy.select(pl.len()).collect().item(), ROWS, "rows of a stream")

# A folder for each part.
frame.write_parquet(at("set/"), partition_by="part", storage_options=OPTIONS)
listed = s3.list_objects_v2(Bucket=BUCKET, Prefix="set/", Delimiter="/")
folders = [item["Prefix"] for item in listed["CommonPrefixes"]]
same(folders, [f"set/part={n}/" for n in range(5)], "folders")
lazy = pl.scan_parquet(at("set/**/*.parquet"), storage_options=OPTIONS, hive_partitioning=True)
found = lazy.filter((pl.col("n") >= 200_000) & (pl.col("part") == 3)).sort("n").select("word").collect()
same(found.equals(wanted), True, "a scan of the set")
same(lazy.select(pl.col("n").sum()).collect().item(), ROWS * (ROWS - 1) // 2, "sum of the set")

try:
    pl.read_parquet(at("not-there.parquet"), storage_options=OPTIONS)
    raise SystemExit("read what is not there")
except FileNotFoundError:
    pass
