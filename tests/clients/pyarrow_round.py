"""pyarrow's S3 file system and Parquet data sets."""

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow import fs

from tree import ACCESS_KEY, CA_FILE, ENDPOINT, SECRET_KEY, done, make_file, same

s3 = fs.S3FileSystem(
    access_key=ACCESS_KEY,
    secret_key=SECRET_KEY,
    endpoint_override=ENDPOINT,
    tls_ca_file_path=CA_FILE or None,
    allow_bucket_creation=True,
    allow_bucket_deletion=True,
)
BUCKET = "pyarrow-round"

s3.create_dir(BUCKET)
table = pa.table({"n": list(range(200_000)), "part": [n % 3 for n in range(200_000)]})
pq.write_table(table, f"{BUCKET}/table.parquet", filesystem=s3)
same(pq.read_table(f"{BUCKET}/table.parquet", filesystem=s3, columns=["n"]).num_rows, 200_000, "rows")
ds.write_dataset(table, f"{BUCKET}/set", filesystem=s3, format="parquet", partitioning=["part"])
same(ds.dataset(f"{BUCKET}/set", filesystem=s3, partitioning=["part"]).count_rows(), 200_000, "rows of the set")

big = make_file("big", 23_000_001).read_bytes()
with s3.open_output_stream(f"{BUCKET}/folder/big") as stream:
    for at in range(0, len(big), 1_000_000):
        stream.write(big[at : at + 1_000_000])
with s3.open_input_file(f"{BUCKET}/folder/big") as file:
    same(file.size(), len(big), "size")
    same(file.read_at(100, 12_345_678), big[12_345_678:12_345_778], "a range")
    file.seek(0)
    same(file.read() == big, True, "the whole")
s3.copy_file(f"{BUCKET}/folder/big", f"{BUCKET}/folder/copy")
s3.move(f"{BUCKET}/folder/copy", f"{BUCKET}/folder/moved")
names = sorted(info.base_name for info in s3.get_file_info(fs.FileSelector(f"{BUCKET}/folder")))
same(names, ["big", "moved"], "listed")
same(s3.get_file_info(f"{BUCKET}/not-there").type, fs.FileType.NotFound, "what is not there")
s3.create_dir(f"{BUCKET}/empty/dir", recursive=True)
same(s3.get_file_info(f"{BUCKET}/empty/dir").type, fs.FileType.Directory, "an empty directory")
s3.delete_dir(BUCKET)
done()
