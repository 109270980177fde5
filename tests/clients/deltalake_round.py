"""Delta Lake: two processes append to one table; each commit is a conditional PUT."""

import multiprocessing
import os

import boto3
import pyarrow as pa

from tree import ENDPOINT, done, same

TABLE = "s3://deltalake-round/table"
OPTIONS = {"AWS_ENDPOINT_URL": ENDPOINT, "AWS_ALLOW_HTTP": "true"}
APPENDS = 15


def append(writer):
    from deltalake import write_deltalake

    for n in range(APPENDS):
        rows = pa.table({"writer": [writer] * 10, "n": [n] * 10})
        write_deltalake(TABLE, rows, mode="append", storage_options=OPTIONS)


if __name__ == "__main__":
    from deltalake import DeltaTable

    os.environ.pop("AWS_S3_ALLOW_UNSAFE_RENAME", None)
    boto3.client("s3", endpoint_url=ENDPOINT).create_bucket(Bucket="deltalake-round")
    append(0)
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=append, args=(writer,)) for writer in (1, 2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    same([writer.exitcode for writer in writers], [0, 0], "exit codes")
    table = DeltaTable(TABLE, storage_options=OPTIONS)
    same(table.version(), 3 * APPENDS - 1, "commits")
    same(table.to_pyarrow_table().num_rows, 3 * APPENDS * 10, "rows")
    table.delete("writer = 1")
    table.optimize.compact()
    table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    same(DeltaTable(TABLE, storage_options=OPTIONS).to_pyarrow_table().num_rows, 2 * APPENDS * 10, "rows left")
    done()
