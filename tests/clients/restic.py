"""restic's usual round: backup, restore, check, forget and prune."""

import json
import os
import pathlib

from tree import ENDPOINT, digests, make_file, make_tree, run, same

os.environ.update(
    RESTIC_REPOSITORY=f"s3:{ENDPOINT}/restic-round/repository",
    RESTIC_PASSWORD="a stone",
    RESTIC_CACHE_DIR=str(pathlib.Path("cache").absolute()),
)

run("restic", "init")
make_tree("up")
make_file("up/big", 33_000_001)
run("restic", "backup", "up")
before = digests("up")
pathlib.Path("up/big").unlink()
make_file("up/other", 9_000_001)
run("restic", "backup", "up")
snapshots = json.loads(run("restic", "snapshots", "--json"))
same(len(snapshots), 2, "snapshots")
run("restic", "restore", snapshots[0]["id"], "--target", "first")
same(digests("first/up"), before, "the first snapshot")
run("restic", "check", "--read-data")
run("restic", "forget", "--keep-last", "1", "--prune")
run("restic", "restore", "latest", "--target", "last")
same(digests("last/up"), digests("up"), "the last snapshot")
run("restic", "check", "--read-data")
same(run("restic", "list", "locks").strip(), "", "locks left")
