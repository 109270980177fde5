"""s3cmd's usual round."""

import pathlib

from tree import ACCESS_KEY, CA_FILE, HOST, SECRET_KEY, SECURE
from tree import digests, fetch, make_file, make_tree, run, same

BUCKET = "s3cmd-round"

pathlib.Path(".s3cfg").write_text(
    f"""[default]
access_key = {ACCESS_KEY}
secret_key = {SECRET_KEY}
host_base = {HOST}
host_bucket = {HOST}
use_https = {SECURE}
ca_certs_file = {CA_FILE}
multipart_chunk_size_mb = 5
"""
)


def s3cmd(*words, ok=True):
    return run("s3cmd", "--no-progress", *words, ok=ok)


s3cmd("mb", f"s3://{BUCKET}")
assert f"s3://{BUCKET}" in s3cmd("ls")

make_tree("up")
s3cmd("sync", "up/", f"s3://{BUCKET}/tree/")
same(len(s3cmd("ls", "--recursive", f"s3://{BUCKET}/tree/").splitlines()), len(digests("up")), "ls")
pathlib.Path("down").mkdir()
s3cmd("sync", f"s3://{BUCKET}/tree/", "down/")
same(digests("down"), digests("up"), "the tree that came back")

big = make_file("big", 17_000_000)
s3cmd("put", "big", f"s3://{BUCKET}/big")
s3cmd("get", f"s3://{BUCKET}/big", "big.back")
same(pathlib.Path("big.back").read_bytes() == big.read_bytes(), True, "big")
assert "File size: 17000000" in s3cmd("info", f"s3://{BUCKET}/big")

s3cmd("cp", f"s3://{BUCKET}/big", f"s3://{BUCKET}/copy")
s3cmd("mv", f"s3://{BUCKET}/copy", f"s3://{BUCKET}/moved")
s3cmd("get", f"s3://{BUCKET}/moved", "moved")
same(pathlib.Path("moved").read_bytes() == big.read_bytes(), True, "moved")
s3cmd("get", f"s3://{BUCKET}/copy", "none", ok=False)

url = s3cmd("signurl", f"s3://{BUCKET}/tree/plain.txt", "+60").strip()
if "X-Amz-Signature" in url:
    same(fetch(url), pathlib.Path("up/plain.txt").read_bytes(), "presigned GET")

s3cmd("rb", f"s3://{BUCKET}", ok=False)
s3cmd("del", "--recursive", "--force", f"s3://{BUCKET}")
same(s3cmd("ls", f"s3://{BUCKET}"), "", "ls after del")
s3cmd("rb", f"s3://{BUCKET}")
