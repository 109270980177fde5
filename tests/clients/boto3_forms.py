"""Forms that boto3 signs, sent as browsers and curl do."""

import shutil
import subprocess

import boto3
import urllib3
from botocore.config import Config

from tree import ENDPOINT, make_file, same

BUCKET = "boto3-forms"
MIB = 1 << 20

# SigV2 unless configured otherwise.
by_default = boto3.client("s3", endpoint_url=ENDPOINT)
by_v4 = boto3.client("s3", endpoint_url=ENDPOINT, config=Config(signature_version="s3v4"))


def body_of(key):
    return by_default.get_object(Bucket=BUCKET, Key=key)["Body"].read()


def send(post, name, content, **more):
    fields = {**post["fields"], **more, "file": (name, content)}
    return urllib3.request("POST", post["url"], fields=fields, redirect=False, timeout=60)


def by_library(s3):
    post = s3.generate_presigned_post(BUCKET, "plain")
    answer = send(post, "any", b"from a form")
    same(answer.status, 204, "plain")
    same(body_of("plain"), b"from a form", "plain")

    fields = {"success_action_status": "201", "Content-Type": "text/x-stone"}
    conditions = [{name: value} for name, value in fields.items()]
    conditions.append(["content-length-range", 1, 20 * MIB])
    big = make_file("big", 6 * MIB + 1).read_bytes()
    post = s3.generate_presigned_post(
        BUCKET, "up/${filename}", Fields=fields, Conditions=conditions
    )
    answer = send(post, "grün.bin", big)
    same(answer.status, 201, "by file name")
    same(b"<Key>up/gr\xc3\xbcn.bin</Key>" in answer.data, True, answer.data)
    same(body_of("up/grün.bin") == big, True, "by file name")
    head = s3.head_object(Bucket=BUCKET, Key="up/grün.bin")
    same(head["ContentType"], "text/x-stone", "type")

    same(send(post, "empty", b"").status, 400, "too small")
    same(send(post, "x", b"x", acl="private").status, 403, "a field that is not signed")
    old = s3.generate_presigned_post(BUCKET, "old", ExpiresIn=-1)
    answer = send(old, "old", b"x")
    same((answer.status, b"Policy expired." in answer.data), (403, True), answer.data)


def by_curl(s3):
    fields = {"success_action_redirect": "http://nowhere.test/done?x=1"}
    post = s3.generate_presigned_post(
        BUCKET, "curl/${filename}", Fields=fields, Conditions=[fields]
    )
    small = make_file("small", 1000)
    command = ["curl", "-sS", "--max-time", "60", "-w", "%{http_code} %{redirect_url}"]
    for name, value in post["fields"].items():
        command += ["-F", f"{name}={value}"]
    command += ["-F", f'file=@{small};filename="a b.bin"', post["url"]]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    etag = s3.head_object(Bucket=BUCKET, Key="curl/a b.bin")["ETag"].strip('"')
    same(
        told,
        "303 http://nowhere.test/done?x=1"
        f"&bucket={BUCKET}&key=curl%2Fa+b.bin&etag=%22{etag}%22",
        "redirect",
    )
    same(body_of("curl/a b.bin") == small.read_bytes(), True, "by curl")


by_default.create_bucket(Bucket=BUCKET)
for client in [by_default, by_v4]:
    by_library(client)
    if shutil.which("curl"):
        by_curl(client)
