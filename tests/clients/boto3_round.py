"""boto3's usual round."""

import concurrent.futures
import io
import urllib.request

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

from tree import ENDPOINT, digests, fetch, make_file, make_tree, same

BUCKET = "boto3-round"
MIB = 1 << 20

s3 = boto3.client("s3", endpoint_url=ENDPOINT, config=Config(retries={"max_attempts": 1}))
# Links are signed by SigV2 unless configured otherwise.
signing_v4 = boto3.client("s3", endpoint_url=ENDPOINT, config=Config(signature_version="s3v4"))


def code_of(call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        return error.response["Error"]["Code"]
    raise AssertionError("the call did not fail")


def tree():
    root = make_tree("up")
    names = list(digests(root))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: s3.upload_file(str(root / n), BUCKET, f"tree/{n}"), names))
    pages = s3.get_paginator("list_objects_v2").paginate(
        Bucket=BUCKET, Prefix="tree/", PaginationConfig={"PageSize": 7}
    )
    listed = [item["Key"] for page in pages for item in page["Contents"]]
    wanted = [f"tree/{n}" for n in names]
    same(listed, sorted(wanted, key=str.encode), "keys listed")
    for name in names:
        body = s3.get_object(Bucket=BUCKET, Key=f"tree/{name}")["Body"].read()
        same(body == (root / name).read_bytes(), True, name)
    page = s3.list_objects_v2(Bucket=BUCKET, Prefix="tree/", Delimiter="/")
    same([p["Prefix"] for p in page["CommonPrefixes"]], ["tree/folder/", "tree/many/"], "prefixes")


def transfer():
    big = make_file("big", 17 * MIB + 3)
    config = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB)
    extra = {"Metadata": {"colour": "grey"}, "ContentType": "text/x-stone"}
    s3.upload_file(str(big), BUCKET, "big", Config=config, ExtraArgs=extra)
    back = io.BytesIO()
    s3.download_fileobj(BUCKET, "big", back, Config=config)
    same(back.getvalue() == big.read_bytes(), True, "big")
    head = s3.head_object(Bucket=BUCKET, Key="big")
    same((head["Metadata"], head["ContentType"]), (extra["Metadata"], "text/x-stone"), "head")
    part = s3.get_object(Bucket=BUCKET, Key="big", PartNumber=2)
    same(part["PartsCount"], 4, "parts")
    same(part["Body"].read() == big.read_bytes()[5 * MIB : 10 * MIB], True, "part 2")
    s3.copy({"Bucket": BUCKET, "Key": "big"}, BUCKET, "copy", Config=config)
    same(s3.head_object(Bucket=BUCKET, Key="copy")["ContentLength"], 17 * MIB + 3, "copy")
    stream = s3.get_object(Bucket=BUCKET, Key="copy", Range="bytes=-5")["Body"]
    same(stream.read(), big.read_bytes()[-5:], "suffix of the copy")


def uploads():
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="upload")["UploadId"]
    key = {"Bucket": BUCKET, "Key": "upload", "UploadId": upload}
    first = s3.upload_part(**key, PartNumber=1, Body=b"a" * 5 * MIB)["ETag"]
    s3.upload_part(**key, PartNumber=2, Body=b"to be replaced")
    second = s3.upload_part(**key, PartNumber=2, Body=b"b")["ETag"]
    parts = s3.list_parts(**key)["Parts"]
    same([(p["PartNumber"], p["Size"]) for p in parts], [(1, 5 * MIB), (2, 1)], "parts")
    listed = s3.list_multipart_uploads(Bucket=BUCKET)["Uploads"]
    same([u["UploadId"] for u in listed], [upload], "uploads")
    chosen = [{"PartNumber": 1, "ETag": first}, {"PartNumber": 2, "ETag": second}]
    s3.complete_multipart_upload(**key, MultipartUpload={"Parts": chosen})
    body = s3.get_object(Bucket=BUCKET, Key="upload")["Body"].read()
    same(body == b"a" * 5 * MIB + b"b", True, "upload")
    aborted = s3.create_multipart_upload(Bucket=BUCKET, Key="aborted")["UploadId"]
    key = {"Bucket": BUCKET, "Key": "aborted", "UploadId": aborted}
    s3.upload_part(**key, PartNumber=1, Body=b"gone")
    s3.abort_multipart_upload(**key)
    same(code_of(s3.list_parts, **key), "NoSuchUpload", "after the abort")


def presigned():
    key = {"Bucket": BUCKET, "Key": "presigned"}
    for n, links in enumerate([s3, signing_v4]):
        # Named, as urllib would add a type that is not signed.
        kind = {"ContentType": "text/x-stone"}
        url = links.generate_presigned_url("put_object", Params=key | kind)
        request = urllib.request.Request(
            url,
            data=f"by link {n}".encode(),
            headers={"Content-Type": "text/x-stone"},
            method="PUT",
        )
        same(urllib.request.urlopen(request, timeout=60).status, 200, "presigned PUT")
        url = links.generate_presigned_url("get_object", Params=key)
        same(fetch(url), f"by link {n}".encode(), "presigned GET")


def racing_creators():
    def create(n):
        key = {"Bucket": BUCKET, "Key": "race", "IfNoneMatch": "*"}
        try:
            s3.put_object(**key, Body=f"{n}".encode())
            return n
        except ClientError as error:
            code = error.response["Error"]["Code"]
            assert code in ("PreconditionFailed", "ConditionalRequestConflict"), code
            return None

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        won = [n for n in pool.map(create, range(16)) if n is not None]
    same(len(won), 1, "winners")
    body = s3.get_object(Bucket=BUCKET, Key="race")["Body"].read()
    same(body, f"{won[0]}".encode(), "the winner's body")


def versions():
    enabled = {"Status": "Enabled"}
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration=enabled)
    ids = [
        s3.put_object(Bucket=BUCKET, Key="versions", Body=f"{n}".encode())["VersionId"]
        for n in range(5)
    ]
    s3.delete_object(Bucket=BUCKET, Key="versions")
    same(code_of(s3.get_object, Bucket=BUCKET, Key="versions"), "NoSuchKey", "behind a marker")
    pages = s3.get_paginator("list_object_versions").paginate(
        Bucket=BUCKET, Prefix="versions", PaginationConfig={"PageSize": 2}
    )
    listed = [v["VersionId"] for page in pages for v in page.get("Versions", [])]
    same(listed, ids[::-1], "versions listed")
    for n, version in enumerate(ids):
        got = s3.get_object(Bucket=BUCKET, Key="versions", VersionId=version)
        same(got["Body"].read(), f"{n}".encode(), "version")


def delete_everything():
    while True:
        page = s3.list_object_versions(Bucket=BUCKET)
        left = page.get("Versions", []) + page.get("DeleteMarkers", [])
        if not left:
            break
        objects = [{"Key": v["Key"], "VersionId": v["VersionId"]} for v in left]
        deleted = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": objects})
        same(len(deleted["Deleted"]), len(objects), "deleted")
    s3.delete_bucket(Bucket=BUCKET)
    same(code_of(s3.head_bucket, Bucket=BUCKET), "404", "after the end")


s3.create_bucket(Bucket=BUCKET)
same(code_of(s3.create_bucket, Bucket="No_Bucket"), "InvalidBucketName", "bad name")
tree()
transfer()
uploads()
presigned()
racing_creators()
versions()
same(code_of(s3.delete_bucket, Bucket=BUCKET), "BucketNotEmpty", "not empty")
delete_everything()
