"""obstore, Rust's object_store in Python: conditional writes by many, ranges, lists, streams, links."""

import concurrent.futures
import datetime

import boto3
import obstore
from obstore.exceptions import AlreadyExistsError, PreconditionError
from obstore.store import S3Store

from tree import ENDPOINT, fetch, make_file, same

BUCKET = "obstore-round"
WRITERS = 8
ADDS = 10

# obstore has no call for it.
boto3.client("s3", endpoint_url=ENDPOINT).create_bucket(Bucket=BUCKET)
# What is said of copies is what S3 itself needs, too: by parts, as they are completed on a condition.
store = S3Store(BUCKET, endpoint=ENDPOINT, client_options={"allow_http": True}, copy_if_not_exists="multipart")


def body_of(key):
    return bytes(obstore.get(store, key).bytes())


def create(writer):
    try:
        obstore.put(store, "race", f"{writer}".encode(), mode="create")
        return [writer]
    except AlreadyExistsError:
        return []


def add(_):
    """Adds one, as often as it is told that another was faster."""
    for _ in range(ADDS):
        while True:
            now = obstore.get(store, "counter")
            more = int(bytes(now.bytes())) + 1
            try:
                obstore.put(store, "counter", f"{more}".encode(), mode={"e_tag": now.meta["e_tag"]})
                break
            except PreconditionError:
                pass


with concurrent.futures.ThreadPoolExecutor(WRITERS) as pool:
    won = sum(pool.map(create, range(WRITERS)), [])
    same(len(won), 1, "winners")
    same(body_of("race"), f"{won[0]}".encode(), "the winner's body")
    obstore.put(store, "counter", b"0")
    list(pool.map(add, range(WRITERS)))
    same(body_of("counter"), f"{WRITERS * ADDS}".encode(), "counted")

big = make_file("big", 23_000_001).read_bytes()
obstore.put(store, "all/big", big, chunk_size=5 << 20, max_concurrency=3)
same(body_of("all/big") == big, True, "big")
same(bytes(obstore.get_range(store, "all/big", start=7, end=17)), big[7:17], "a range")
ranges = obstore.get_ranges(store, "all/big", starts=[0, 9_000_000, 22_999_999], lengths=[5, 5, 2])
same([bytes(part) for part in ranges], [big[:5], big[9_000_000:9_000_005], big[-2:]], "ranges")
suffix = obstore.get(store, "all/big", options={"range": {"suffix": 5}})
same(bytes(suffix.bytes()), big[-5:], "the end")
same(b"".join(map(bytes, obstore.get(store, "all/big").stream(min_chunk_size=1 << 20))) == big, True, "a stream")
with obstore.open_writer(store, "all/written", buffer_size=6 << 20, attributes={"colour": "grey"}) as file:
    for at in range(0, len(big), 1_000_000):
        file.write(big[at : at + 1_000_000])
same(body_of("all/written") == big, True, "written in parts")
same(obstore.get(store, "all/written").attributes["colour"], "grey", "metadata")
obstore.put(store, "all/ü +%41", b"name")
same(body_of("all/ü +%41"), b"name", "a name")

obstore.copy(store, "all/big", "all/copy")
try:
    obstore.copy(store, "all/big", "all/copy", overwrite=False)
    raise SystemExit("copied over what is there")
except AlreadyExistsError:
    pass
obstore.rename(store, "all/copy", "all/dir/moved")
listed = [item["path"] for page in obstore.list(store, "all/", chunk_size=2) for item in page]
same(sorted(listed), ["all/big", "all/dir/moved", "all/written", "all/ü +%41"], "listed")
same(obstore.list_with_delimiter(store, "all/")["common_prefixes"], ["all/dir"], "prefixes")
after = obstore.list(store, "all/", offset="all/dir/moved")
same([item["path"] for page in after for item in page], ["all/written", "all/ü +%41"], "listed from the middle")
link = obstore.sign(store, "GET", "all/big", datetime.timedelta(minutes=1))
same(fetch(link) == big, True, "link")
obstore.delete(store, listed)
same([item for page in obstore.list(store, "all/") for item in page], [], "left")
