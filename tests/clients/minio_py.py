"""minio-py's usual round."""

import datetime
import io
import pathlib

from minio import Minio
from minio.commonconfig import ENABLED, CopySource, Tags
from minio.deleteobjects import DeleteObject
from minio.error import S3Error
from minio.versioningconfig import VersioningConfig

from tree import ACCESS_KEY, HOST, SECRET_KEY, SECURE, digests, fetch, make_file, make_tree, same

BUCKET = "minio-py-round"

client = Minio(HOST, access_key=ACCESS_KEY, secret_key=SECRET_KEY, secure=SECURE)


def code_of(call, *arguments):
    try:
        call(*arguments)
    except S3Error as error:
        return error.code
    raise AssertionError("the call did not fail")


def names(**arguments):
    return [item.object_name for item in client.list_objects(BUCKET, **arguments)]


client.make_bucket(BUCKET)
same(client.bucket_exists(BUCKET), True, "exists")
same(client.bucket_exists("not-there"), False, "exists")
assert BUCKET in [bucket.name for bucket in client.list_buckets()]

root = make_tree("up")
files = digests(root)
for name in files:
    client.fput_object(BUCKET, f"tree/{name}", str(root / name))
same(names(recursive=True), sorted((f"tree/{n}" for n in files), key=str.encode), "keys listed")
same([n for n in names(prefix="tree/") if n.endswith("/")], ["tree/folder/", "tree/many/"], "dirs")
for name in files:
    client.fget_object(BUCKET, f"tree/{name}", f"down/{name}")
same(digests("down"), files, "the tree that came back")

big = make_file("big", 17_000_000)
client.fput_object(BUCKET, "big", "big", part_size=5 << 20, metadata={"colour": "grey"})
stat = client.stat_object(BUCKET, "big")
same((stat.size, stat.metadata["x-amz-meta-colour"]), (17_000_000, "grey"), "stat")
client.fget_object(BUCKET, "big", "big.back")
same(pathlib.Path("big.back").read_bytes() == big.read_bytes(), True, "big")
part = client.get_object(BUCKET, "big", offset=5_242_870, length=20)
same(part.read(), big.read_bytes()[5_242_870:5_242_890], "range")
part.close()
client.put_object(BUCKET, "unknown length", io.BytesIO(b"x" * 6_000_000), -1, part_size=5 << 20)
same(client.stat_object(BUCKET, "unknown length").size, 6_000_000, "unknown length")

client.copy_object(BUCKET, "copy", CopySource(BUCKET, "tree/plain.txt"))
copied = client.get_object(BUCKET, "copy")
same(copied.read(), (root / "plain.txt").read_bytes(), "copy")
copied.close()
url = client.presigned_get_object(BUCKET, "copy", expires=datetime.timedelta(minutes=1))
same(fetch(url), (root / "plain.txt").read_bytes(), "presigned GET")

tags = Tags.new_object_tags()
tags["colour"] = "grey"
client.set_object_tags(BUCKET, "copy", tags)
same(client.get_object_tags(BUCKET, "copy")["colour"], "grey", "tags")

client.set_bucket_versioning(BUCKET, VersioningConfig(ENABLED))
first = client.put_object(BUCKET, "versioned", io.BytesIO(b"one"), 3).version_id
second = client.put_object(BUCKET, "versioned", io.BytesIO(b"two"), 3).version_id
client.remove_object(BUCKET, "versioned")
same(code_of(client.stat_object, BUCKET, "versioned"), "NoSuchKey", "behind a marker")
listed = list(client.list_objects(BUCKET, prefix="versioned", include_version=True))
ids = [item.version_id for item in listed if not item.is_delete_marker]
same(ids, [second, first], "versions listed")
old = client.get_object(BUCKET, "versioned", version_id=first)
same(old.read(), b"one", "first version")
old.close()

same(code_of(client.remove_bucket, BUCKET), "BucketNotEmpty", "not empty")
left = client.list_objects(BUCKET, recursive=True, include_version=True)
errors = client.remove_objects(
    BUCKET, [DeleteObject(item.object_name, item.version_id) for item in left]
)
same(list(errors), [], "errors of delete")
client.remove_bucket(BUCKET)
same(client.bucket_exists(BUCKET), False, "exists")
