"""pyiceberg, through both of its file systems: two writers of one table; the later one gets an error."""

import multiprocessing
import pathlib

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException, ValidationException
from pyiceberg.expressions import EqualTo, GreaterThanOrEqual
from pyiceberg.io import load_file_io

from tree import ENDPOINT, done, same

BUCKET = "pyiceberg-round"
FILE_SYSTEMS = {
    "fsspec": "pyiceberg.io.fsspec.FsspecFileIO",
    "pyarrow": "pyiceberg.io.pyarrow.PyArrowFileIO",
}
ROWS = 50_000
APPENDS = 6


def rows(writer, n=0):
    return pa.table({"writer": pa.array([writer] * ROWS, pa.int64()), "n": range(n * ROWS, (n + 1) * ROWS)})


def catalog_of(kind):
    catalog = pathlib.Path(f"{kind}.db").absolute()
    return SqlCatalog(
        "round",
        **{
            "uri": f"sqlite:///{catalog}",
            "warehouse": f"s3://{BUCKET}/{kind}",
            "py-io-impl": FILE_SYSTEMS[kind],
            "s3.endpoint": ENDPOINT,
        },
    )


def keys(kind):
    s3 = boto3.client("s3", endpoint_url=ENDPOINT)
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{kind}/")
    return {item["Key"] for page in pages for item in page["Contents"]}


def append(kind, writer):
    """As a job would: read the table and try again when another was faster."""
    catalog = catalog_of(kind)
    for n in range(APPENDS):
        while True:
            try:
                catalog.load_table("stone.wall").append(rows(writer, n))
                break
            except CommitFailedException:
                pass


def one_writer(kind):
    catalog = catalog_of(kind)
    catalog.create_namespace("stone")
    table = catalog.create_table("stone.wall", schema=rows(0).schema)
    table.append(rows(0))
    table.append(rows(0, 1))
    found = table.scan(row_filter=GreaterThanOrEqual("n", 2 * ROWS - 3)).to_arrow()
    same(found["n"].to_pylist(), [2 * ROWS - 3, 2 * ROWS - 2, 2 * ROWS - 1], "rows by a predicate")
    first = table.history()[0].snapshot_id
    same(table.scan(snapshot_id=first).to_arrow().num_rows, ROWS, "rows of the first snapshot")

    # Every file that the table names holds what it should, by another client too.
    s3 = boto3.client("s3", endpoint_url=ENDPOINT)
    total = []
    for path in table.inspect.files()["file_path"].to_pylist():
        key = path.removeprefix(f"s3://{BUCKET}/")
        body = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        with load_file_io(table.io.properties, path).new_input(path).open() as file:
            same(file.read() == body, True, path)
        total += pq.read_table(pa.BufferReader(body))["n"].to_pylist()
    same(sorted(total), list(range(2 * ROWS)), "rows of the files")

    # A second writer that began from the same state: what it wants to replace is no longer all.
    late = catalog_of(kind).load_table("stone.wall")
    table.delete(EqualTo("n", 7))
    try:
        late.overwrite(rows(9))
        raise SystemExit("a commit was lost")
    except ValidationException:
        pass
    same(late.refresh().scan().to_arrow().num_rows, 2 * ROWS - 1, "rows after the refused commit")


def two_writers(kind):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=append, args=(kind, writer)) for writer in (1, 2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    same([writer.exitcode for writer in writers], [0, 0], "exit codes")
    table = catalog_of(kind).load_table("stone.wall")
    for writer in (1, 2):
        found = table.scan(row_filter=EqualTo("writer", writer)).to_arrow()["n"].to_pylist()
        same(sorted(found), list(range(APPENDS * ROWS)), f"rows of writer {writer}")
    table.overwrite(rows(3))
    same(table.scan().to_arrow().num_rows, ROWS, "rows after the overwrite")
    named = {path.removeprefix(f"s3://{BUCKET}/") for path in table.inspect.all_data_files()["file_path"].to_pylist()}
    same(named <= keys(kind), True, "data before the purge")
    catalog_of(kind).purge_table("stone.wall")
    same(named & keys(kind), set(), "data left after the purge")


if __name__ == "__main__":
    boto3.client("s3", endpoint_url=ENDPOINT).create_bucket(Bucket=BUCKET)
    for kind in FILE_SYSTEMS:
        one_writer(kind)
        two_writers(kind)
    done()
