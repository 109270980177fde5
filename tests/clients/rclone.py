"""rclone's usual round, with `check`."""

import os
import pathlib

from tree import ACCESS_KEY, ENDPOINT, SECRET_KEY, digests, fetch, make_file, make_tree, run, same

BUCKET = "rclone-round"

# Just what a user gives: no quirk flags.
os.environ.update(
    {
        "RCLONE_CONFIG": "/dev/null",
        "RCLONE_CONFIG_S_TYPE": "s3",
        "RCLONE_CONFIG_S_PROVIDER": "Other",
        "RCLONE_CONFIG_S_ENDPOINT": ENDPOINT,
        "RCLONE_CONFIG_S_ACCESS_KEY_ID": ACCESS_KEY,
        "RCLONE_CONFIG_S_SECRET_ACCESS_KEY": SECRET_KEY,
        "RCLONE_CONFIG_S_CHUNK_SIZE": "5Mi",
        "RCLONE_CONFIG_S_UPLOAD_CUTOFF": "6Mi",
        "RCLONE_RETRIES": "1",
        "RCLONE_LOW_LEVEL_RETRIES": "1",
    }
)


def rclone(*words, ok=True):
    return run("rclone", *words, ok=ok)


remote = f"s:{BUCKET}"
rclone("mkdir", remote)
assert BUCKET in rclone("lsd", "s:")

make_tree("up")
big = make_file("up/big", 17_000_001)
os.utime("up/big", (1_000_000_000, 1_000_000_000))
rclone("sync", "up", f"{remote}/tree")
rclone("check", "up", f"{remote}/tree")
rclone("check", "--download", "up", f"{remote}/tree")
same(len(rclone("lsf", "-R", "--files-only", f"{remote}/tree").splitlines()), len(digests("up")), "lsf")
assert "2001-09-09" in rclone("lsl", f"{remote}/tree/big"), "modification time"
rclone("sync", f"{remote}/tree", "down")
same(digests("down"), digests("up"), "the tree that came back")

rclone("copyto", f"{remote}/tree/big", f"{remote}/copy")
rclone("moveto", f"{remote}/copy", f"{remote}/moved")
same(rclone("cat", "--offset", "10", "--count", "0", f"{remote}/moved"), "", "cat nothing")
rclone("copyto", "--multi-thread-cutoff", "1Mi", f"{remote}/moved", "moved")
same(pathlib.Path("moved").read_bytes() == big.read_bytes(), True, "moved")

url = rclone("link", f"{remote}/tree/plain.txt").strip()
same(fetch(url), pathlib.Path("up/plain.txt").read_bytes(), "presigned GET")

pathlib.Path("up/plain.txt").write_text("changed")
pathlib.Path("up/percent%41.txt").unlink()
rclone("check", "up", f"{remote}/tree", ok=False)
rclone("sync", "up", f"{remote}/tree")
rclone("check", "up", f"{remote}/tree")

rclone("backend", "versioning", remote, "Enabled")
rclone("copyto", "up/folder/in/folder.txt", f"{remote}/versioned")
rclone("copyto", "--ignore-times", "up/plain.txt", f"{remote}/versioned")
rclone("deletefile", f"{remote}/versioned")
names = rclone("lsf", "--s3-versions", remote, "--files-only").splitlines()
same(len([name for name in names if name.startswith("versioned-v")]), 2, "versions")
rclone("backend", "versioning", remote, "Suspended")

rclone("purge", remote)
same(BUCKET in rclone("lsd", "s:"), False, "the bucket after purge")
