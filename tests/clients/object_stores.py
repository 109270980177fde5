"""Readers and writers on Rust's object_store and on fsspec: polars, obstore, s3fs, pyiceberg's IO."""

import obstore
import polars
import s3fs
from obstore.store import S3Store

from tree import ACCESS_KEY, ENDPOINT, SECRET_KEY, make_file, same

BUCKET = "object-stores-round"
OPTIONS = {"aws_endpoint_url": ENDPOINT, "aws_allow_http": "true"}

files = s3fs.S3FileSystem(key=ACCESS_KEY, secret=SECRET_KEY, endpoint_url=ENDPOINT)
files.mkdir(BUCKET)
big = make_file("big", 23_000_001)
files.put(str(big), f"{BUCKET}/fs/big", chunksize=5 << 20)
same(files.cat_file(f"{BUCKET}/fs/big", start=-5, end=None), big.read_bytes()[-5:], "the end")
with files.open(f"{BUCKET}/fs/big", block_size=1 << 20) as file:
    file.seek(12_345_678)
    same(file.read(100), big.read_bytes()[12_345_678:12_345_778], "a range")
files.mv(f"{BUCKET}/fs/big", f"{BUCKET}/fs/moved")
same(files.find(f"{BUCKET}/fs"), [f"{BUCKET}/fs/moved"], "found")

store = S3Store(BUCKET, endpoint=ENDPOINT, client_options={"allow_http": True})
obstore.put(store, "obstore/one", b"1", mode="create")
try:
    obstore.put(store, "obstore/one", b"2", mode="create")
    raise SystemExit("created twice")
except obstore.exceptions.AlreadyExistsError:
    pass
first = obstore.head(store, "obstore/one")
obstore.put(store, "obstore/one", b"2", mode={"e_tag": first["e_tag"]})
try:
    obstore.put(store, "obstore/one", b"3", mode={"e_tag": first["e_tag"]})
    raise SystemExit("an update was lost")
except obstore.exceptions.PreconditionError:
    pass
obstore.put(store, "obstore/big", big.read_bytes(), chunk_size=5 << 20)
same(bytes(obstore.get(store, "obstore/big").bytes()) == big.read_bytes(), True, "big")
same(bytes(obstore.get_range(store, "obstore/big", start=7, end=17)), big.read_bytes()[7:17], "range")
obstore.copy(store, "obstore/one", "obstore/copy")
same(len([item for page in obstore.list(store, "obstore/", chunk_size=2) for item in page]), 3, "listed")
obstore.delete(store, ["obstore/one", "obstore/copy", "obstore/big"])

frame = polars.DataFrame({"n": range(100_000)})
frame.write_parquet(f"s3://{BUCKET}/polars.parquet", storage_options=OPTIONS)
total = polars.scan_parquet(f"s3://{BUCKET}/polars.parquet", storage_options=OPTIONS).sum().collect().item()
same(total, 4_999_950_000, "sum")
files.rm(BUCKET, recursive=True)
