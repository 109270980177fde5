"""awscli's usual round."""

import json
import pathlib

from tree import ENDPOINT, digests, fetch, make_file, make_tree, run, same

BUCKET = "awscli-round"


def s3(*words, ok=True):
    return run("aws", "--endpoint-url", ENDPOINT, "s3", *words, ok=ok)


def api(*words, ok=True):
    out = run("aws", "--endpoint-url", ENDPOINT, "--output", "json", "s3api", *words, ok=ok)
    return json.loads(out) if ok and out.strip() else out


def tree():
    make_tree("up")
    s3("sync", "up", f"s3://{BUCKET}/tree")
    same(s3("sync", "up", f"s3://{BUCKET}/tree"), "", "a second sync has nothing to do")
    listed = s3("ls", "--recursive", f"s3://{BUCKET}/tree/")
    same(len(listed.splitlines()), len(digests("up")), "files listed")
    s3("sync", f"s3://{BUCKET}/tree", "down")
    same(digests("down"), digests("up"), "the tree that came back")
    assert "PRE folder/" in s3("ls", f"s3://{BUCKET}/tree/")
    pathlib.Path("up/plain.txt").unlink()
    s3("sync", "--delete", "up", f"s3://{BUCKET}/tree")
    listed = s3("ls", "--recursive", f"s3://{BUCKET}/tree/")
    same(len(listed.splitlines()), len(digests("up")), "files left after sync --delete")


def multipart():
    big = make_file("big", 20_000_001)
    s3("cp", "big", f"s3://{BUCKET}/big")
    s3("cp", f"s3://{BUCKET}/big", "big.back")
    same(pathlib.Path("big.back").read_bytes() == big.read_bytes(), True, "big")
    assert api("head-object", "--bucket", BUCKET, "--key", "big")["ETag"].endswith('-3"')
    s3("cp", f"s3://{BUCKET}/big", f"s3://{BUCKET}/copy of big")
    s3("mv", f"s3://{BUCKET}/copy of big", "moved")
    same(pathlib.Path("moved").read_bytes() == big.read_bytes(), True, "moved")
    s3("cp", f"s3://{BUCKET}/copy of big", "none", ok=False)
    part = api(
        "get-object", "--bucket", BUCKET, "--key", "big", "--range", "bytes=8388600-8388619", "part"
    )
    same(part["ContentLength"], 20, "range length")
    same(pathlib.Path("part").read_bytes(), big.read_bytes()[8388600:8388620], "range")
    url = s3("presign", f"s3://{BUCKET}/big", "--expires-in", "60").strip()
    same(fetch(url) == big.read_bytes(), True, "presigned GET")
    same(run("curl", "-sSf", "-o", "curled", url), "", "curl's output")
    same(pathlib.Path("curled").read_bytes() == big.read_bytes(), True, "presigned GET by curl")


def versions():
    key = ["--bucket", BUCKET, "--key", "versioned"]
    api(
        "put-bucket-versioning",
        *["--bucket", BUCKET, "--versioning-configuration", "Status=Enabled"],
    )
    same(api("get-bucket-versioning", "--bucket", BUCKET)["Status"], "Enabled", "versioning")
    make_file("one", 100)
    make_file("two", 200)
    first = api("put-object", *key, "--body", "one")["VersionId"]
    second = api("put-object", *key, "--body", "two")["VersionId"]
    marker = api("delete-object", *key)
    same(marker["DeleteMarker"], True, "marker")
    assert "404" in api("head-object", *key, ok=False)
    listed = api("list-object-versions", "--bucket", BUCKET, "--prefix", "versioned")
    same([v["VersionId"] for v in listed["Versions"]], [second, first], "versions")
    same(len(listed["DeleteMarkers"]), 1, "markers")
    api("get-object", *key, "--version-id", first, "one.back")
    same(pathlib.Path("one.back").read_bytes(), pathlib.Path("one").read_bytes(), "first")
    api("delete-object", *key, "--version-id", marker["VersionId"])
    same(api("head-object", *key)["VersionId"], second, "latest after the marker's removal")
    api("delete-object", *key, "--version-id", first)
    api("delete-object", *key, "--version-id", second)
    api(
        "put-bucket-versioning",
        *["--bucket", BUCKET, "--versioning-configuration", "Status=Suspended"],
    )


def conditions_and_tags():
    key = ["--bucket", BUCKET, "--key", "once"]
    make_file("once", 10)
    api("put-object", *key, "--body", "once", "--if-none-match", "*")
    told = api("put-object", *key, "--body", "once", "--if-none-match", "*", ok=False)
    assert "PreconditionFailed" in told, told
    api("put-object-tagging", *key, "--tagging", "TagSet=[{Key=colour,Value=grey}]")
    tags = api("get-object-tagging", *key)["TagSet"]
    same(tags, [{"Key": "colour", "Value": "grey"}], "tags")
    api("put-object", *key, "--body", "once", "--checksum-algorithm", "SHA256")
    head = api("head-object", *key, "--checksum-mode", "ENABLED")
    assert head["ChecksumSHA256"], head


def empty_versions():
    """What the rounds left: with versions, `rm` leaves markers."""
    while True:
        listed = api("list-object-versions", "--bucket", BUCKET)
        listed = listed or {}
        left = listed.get("Versions", []) + listed.get("DeleteMarkers", [])
        if not left:
            return
        objects = [{"Key": v["Key"], "VersionId": v["VersionId"]} for v in left]
        pathlib.Path("delete.json").write_text(json.dumps({"Objects": objects, "Quiet": True}))
        api("delete-objects", "--bucket", BUCKET, "--delete", "file://delete.json")


s3("mb", f"s3://{BUCKET}")
assert BUCKET in s3("ls")
tree()
multipart()
versions()
conditions_and_tags()
s3("rb", f"s3://{BUCKET}", ok=False)
s3("rm", "--recursive", f"s3://{BUCKET}")
empty_versions()
s3("rb", f"s3://{BUCKET}")
assert BUCKET not in s3("ls")
