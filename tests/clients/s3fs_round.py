"""s3fs and fsspec: files as Python opens them."""

import pathlib

import fsspec
import s3fs

from tree import ENDPOINT, digests, fetch, make_file, make_tree, same

BUCKET = "s3fs-round"

files = s3fs.S3FileSystem(endpoint_url=ENDPOINT, version_aware=True)
files.mkdir(BUCKET)
same(files.exists(BUCKET), True, "the bucket")

make_tree("up")
files.put("up", f"{BUCKET}/tree", recursive=True)
names = [path.removeprefix(f"{BUCKET}/tree/") for path in files.find(f"{BUCKET}/tree")]
same(names, sorted(digests("up")), "files listed")
files.get(f"{BUCKET}/tree", "down", recursive=True)
same(digests("down"), digests("up"), "the tree that came back")
same(files.isdir(f"{BUCKET}/tree/many"), True, "a folder")
same(len(files.glob(f"{BUCKET}/tree/many/*/file*")), 40, "glob")

big = make_file("big", 23_000_001).read_bytes()
files.put("big", f"{BUCKET}/fs/big", chunksize=5 << 20)
same(files.cat_file(f"{BUCKET}/fs/big") == big, True, "big")
same(files.cat_file(f"{BUCKET}/fs/big", start=-5, end=None), big[-5:], "the end")
with files.open(f"{BUCKET}/fs/big", block_size=1 << 20) as file:
    file.seek(12_345_678)
    same(file.read(100), big[12_345_678:12_345_778], "a range")
ranges = files.cat_ranges([f"{BUCKET}/fs/big"] * 3, [0, 6_000_000, 22_999_990], [10, 6_000_010, 23_000_001])
same(ranges, [big[:10], big[6_000_000:6_000_010], big[22_999_990:]], "ranges")
with files.open(f"{BUCKET}/fs/written", "wb", block_size=5 << 20) as file:
    for at in range(0, len(big), 1_000_000):
        file.write(big[at : at + 1_000_000])
same(files.cat_file(f"{BUCKET}/fs/written") == big, True, "written in parts")
with files.open(f"{BUCKET}/fs/text", "w", encoding="utf-8") as file:
    file.write("ümläut\n")
with fsspec.open(f"s3://{BUCKET}/fs/text", "r", encoding="utf-8", endpoint_url=ENDPOINT) as file:
    same(file.read(), "ümläut\n", "text")
files.mv(f"{BUCKET}/fs/big", f"{BUCKET}/fs/moved")
same(files.checksum(f"{BUCKET}/fs/moved") == files.checksum(f"{BUCKET}/fs/written"), False, "checksums")
same(sorted(pathlib.Path(name).name for name in files.ls(f"{BUCKET}/fs")), ["moved", "text", "written"], "moved")
same(fetch(files.sign(f"{BUCKET}/fs/text")), "ümläut\n".encode(), "link")
files.setxattr(f"{BUCKET}/fs/text", colour="grey")
same(files.getxattr(f"{BUCKET}/fs/text", "colour"), "grey", "metadata")
files.put_tags(f"{BUCKET}/fs/text", {"a": "1"})
same(files.get_tags(f"{BUCKET}/fs/text"), {"a": "1"}, "tags")

files.pipe_file(f"{BUCKET}/once", b"first", mode="create")
try:
    files.pipe_file(f"{BUCKET}/once", b"second", mode="create")
    raise SystemExit("created twice")
except FileExistsError:
    pass
try:
    files.put_file("big", f"{BUCKET}/once", chunksize=5 << 20, mode="create")
    raise SystemExit("created twice, in parts")
except FileExistsError:
    pass
same(files.cat_file(f"{BUCKET}/once"), b"first", "once")
try:
    files.cat_file(f"{BUCKET}/not-there")
    raise SystemExit("read what is not there")
except FileNotFoundError:
    pass

files.make_bucket_versioned(BUCKET, True)
versions = []
for n in range(3):
    files.pipe_file(f"{BUCKET}/versioned", f"{n}".encode())
    versions.append(files.info(f"{BUCKET}/versioned")["VersionId"])
listed = [version["VersionId"] for version in files.object_version_info(f"{BUCKET}/versioned")]
same(listed, versions[::-1], "versions")
for n, version in enumerate(versions):
    with files.open(f"{BUCKET}/versioned", version_id=version) as file:
        same(file.read(), f"{n}".encode(), "version")

plain = s3fs.S3FileSystem(endpoint_url=ENDPOINT, skip_instance_cache=True)
plain.rm(f"{BUCKET}/tree", recursive=True)
same(plain.exists(f"{BUCKET}/tree"), False, "the tree")
