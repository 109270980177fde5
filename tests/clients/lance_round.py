"""Lance: two processes write one table; each commit creates a manifest that may not be there yet."""

import datetime
import multiprocessing
import random

import boto3
import pyarrow as pa

from tree import ENDPOINT, same

BUCKET = "lance-round"
TABLE = f"s3://{BUCKET}/table.lance"
OPTIONS = {"aws_endpoint": ENDPOINT, "allow_http": "true"}
ROWS = 500
APPENDS = 12


def rows(writer, n=0):
    source = random.Random(writer * 1000 + n)
    return pa.table(
        {
            "writer": pa.array([writer] * ROWS, pa.int32()),
            "n": pa.array(range(n * ROWS, (n + 1) * ROWS), pa.int64()),
            "bytes": pa.array([source.randbytes(2000) for _ in range(ROWS)], pa.large_binary()),
        }
    )


def append(writer):
    import lance

    for n in range(APPENDS):
        lance.write_dataset(rows(writer, n), TABLE, mode="append", storage_options=OPTIONS)


def is_whole(table, writer, appends):
    found = table.to_table(filter=f"writer = {writer}").sort_by("n")
    wanted = pa.concat_tables([rows(writer, n) for n in range(appends)])
    same(found.equals(wanted), True, f"rows of writer {writer}")


if __name__ == "__main__":
    import lance

    s3 = boto3.client("s3", endpoint_url=ENDPOINT)
    s3.create_bucket(Bucket=BUCKET)
    first = lance.write_dataset(rows(0), TABLE, storage_options=OPTIONS)
    is_whole(first, 0, 1)
    try:
        lance.write_dataset(rows(0), TABLE, storage_options=OPTIONS)
        raise SystemExit("created twice")
    except OSError:
        pass

    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=append, args=(writer,)) for writer in (1, 2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    same([writer.exitcode for writer in writers], [0, 0], "exit codes")
    table = lance.dataset(TABLE, storage_options=OPTIONS)
    same(table.version, 1 + 2 * APPENDS, "commits")
    for writer in (1, 2):
        is_whole(table, writer, APPENDS)
    manifests = s3.list_objects_v2(Bucket=BUCKET, Prefix="table.lance/_versions/")["Contents"]
    same(len([item for item in manifests if item["Key"].endswith(".manifest")]), 1 + 2 * APPENDS, "manifests")
    same(lance.dataset(TABLE, version=1, storage_options=OPTIONS).count_rows(), ROWS, "rows of version 1")

    # A commit that began from a version which another one has replaced since.
    late = lance.dataset(TABLE, storage_options=OPTIONS)
    table.update({"n": "n + 1"}, where="writer = 0")
    try:
        late.update({"n": "n + 2"}, where="writer = 0", conflict_retries=0)
        raise SystemExit("an update was lost")
    except OSError as error:
        assert "concurrent writers" in str(error), error
    found = lance.dataset(TABLE, storage_options=OPTIONS).to_table(filter="writer = 0")["n"].to_pylist()
    same(sorted(found), list(range(1, ROWS + 1)), "rows after the refused update")

    table = lance.dataset(TABLE, storage_options=OPTIONS)
    table.delete("writer = 1")
    table.optimize.compact_files()
    table.create_scalar_index("n", "BTREE")
    table.cleanup_old_versions(older_than=datetime.timedelta(0))
    is_whole(lance.dataset(TABLE, storage_options=OPTIONS), 2, APPENDS)
    found = lance.dataset(TABLE, storage_options=OPTIONS).to_table(filter="n = 77 AND writer = 2")
    same(found.column("bytes").to_pylist(), [rows(2)["bytes"][77].as_py()], "a row by the index")
