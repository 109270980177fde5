"""s5cmd's usual round."""

import pathlib

from tree import ENDPOINT, digests, fetch, make_file, make_tree, run, same

BUCKET = "s5cmd-round"


def s5(*words, ok=True):
    return run("s5cmd", "--endpoint-url", ENDPOINT, *words, ok=ok)


s5("mb", f"s3://{BUCKET}")
assert BUCKET in s5("ls")
make_tree("up")
big = make_file("up/big", 17_000_001)
s5("cp", "--part-size", "5", "up/", f"s3://{BUCKET}/tree/")
same(len(s5("ls", f"s3://{BUCKET}/tree/*").splitlines()), len(digests("up")), "files listed")
s5("cp", f"s3://{BUCKET}/tree/*", "down/")
same(digests("down"), digests("up"), "the tree that came back")
s5("sync", "--delete", "up/", f"s3://{BUCKET}/synced/")
same(s5("sync", "--delete", "up/", f"s3://{BUCKET}/synced/"), "", "a second sync")

s5("cp", f"s3://{BUCKET}/tree/big", f"s3://{BUCKET}/copy")
s5("mv", f"s3://{BUCKET}/copy", f"s3://{BUCKET}/moved")
s5("cp", f"s3://{BUCKET}/moved", "moved")
same(pathlib.Path("moved").read_bytes() == big.read_bytes(), True, "moved")
same(s5("cat", f"s3://{BUCKET}/tree/folder/in/folder.txt").encode(), pathlib.Path("up/folder/in/folder.txt").read_bytes(), "cat")
assert "17000001" in s5("head", f"s3://{BUCKET}/moved")
assert "17000001 bytes in 1 objects" in s5("du", f"s3://{BUCKET}/moved")
url = s5("presign", f"s3://{BUCKET}/tree/plain.txt").strip()
same(fetch(url), pathlib.Path("up/plain.txt").read_bytes(), "presigned GET")
s5("cat", f"s3://{BUCKET}/not-there", ok=False)

s5("bucket-version", "--set", "Enabled", f"s3://{BUCKET}")
s5("rm", f"s3://{BUCKET}/moved")
assert "moved" in s5("ls", "--all-versions", f"s3://{BUCKET}/moved")
s5("rm", "--all-versions", f"s3://{BUCKET}/*")
same(s5("ls", "--all-versions", f"s3://{BUCKET}/*", ok=False).count("moved"), 0, "versions left")
s5("rb", f"s3://{BUCKET}")
