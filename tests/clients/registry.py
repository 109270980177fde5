"""docker-registry on S3: a layer pushed in pieces, an image pulled back through redirects."""

import contextlib
import hashlib
import json
import pathlib
import socket
import subprocess
import time
import urllib.error
import urllib.request

import boto3

from tree import ACCESS_KEY, ENDPOINT, SECRET_KEY, SECURE, make_file, same, without_aws_bundle

boto3.client("s3", endpoint_url=ENDPOINT).create_bucket(Bucket="registry-round")
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
pathlib.Path("registry.yml").write_text(
    f"""
version: 0.1
storage:
  s3:
    accesskey: "{ACCESS_KEY}"
    secretkey: "{SECRET_KEY}"
    region: us-east-1
    regionendpoint: "{ENDPOINT}"
    bucket: registry-round
    secure: {str(SECURE).lower()}
    chunksize: 5242880
    rootdirectory: /root
  delete: {{ enabled: true }}
http: {{ addr: "127.0.0.1:{port}" }}
log: {{ level: warn }}
"""
)
base = f"http://127.0.0.1:{port}"


def call(method, url, data=None, **headers):
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    url = url if url.startswith("http") else base + url
    request = urllib.request.Request(url, data=data, method=method, headers=names)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.headers, answer.read()


def until_up(process):
    for _ in range(200):
        same(process.poll(), None, "the registry runs")
        with contextlib.suppress(urllib.error.URLError):
            call("GET", "/v2/")
            return
        time.sleep(0.05)
    raise AssertionError("the registry does not answer")


def push(blob):
    digest = "sha256:" + hashlib.sha256(blob).hexdigest()
    location = call("POST", "/v2/stone/wall/blobs/uploads/")[0]["Location"]
    for at in range(0, len(blob), 7_000_000):
        piece = blob[at : at + 7_000_000]
        span = f"{at}-{at + len(piece) - 1}"
        location = call(
            "PATCH", location, piece, Content_Range=span, Content_Type="application/octet-stream"
        )[0]["Location"]
    call("PUT", location + ("&" if "?" in location else "?") + "digest=" + digest)
    return {"digest": digest, "size": len(blob)}


registry = subprocess.Popen(["docker-registry", "serve", "registry.yml"], env=without_aws_bundle())
try:
    until_up(registry)
    layer, config = make_file("layer", 23_000_001).read_bytes(), b"{}"
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    manifest = {
        "schemaVersion": 2,
        "mediaType": kind,
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json", **push(config)},
        "layers": [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", **push(layer)}],
    }
    call("PUT", "/v2/stone/wall/manifests/latest", json.dumps(manifest).encode(), Content_Type=kind)
    _, pulled = call("GET", "/v2/stone/wall/manifests/latest", Accept=kind)
    same(json.loads(pulled), manifest, "manifest")
    for blob, want in [(manifest["layers"][0], layer), (manifest["config"], config)]:
        _, got = call("GET", f"/v2/stone/wall/blobs/{blob['digest']}")
        same(got == want, True, "blob")
    same(json.loads(call("GET", "/v2/stone/wall/tags/list")[1])["tags"], ["latest"], "tags")
    same(json.loads(call("GET", "/v2/_catalog")[1])["repositories"], ["stone/wall"], "catalog")
finally:
    registry.terminate()
    registry.wait(30)
