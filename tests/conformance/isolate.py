"""For pytest: no test of the suite stands in another one's way.

The suite deletes the buckets of each test, but not the uploads in them, and a bucket with an upload
can't be deleted. One that is left would be in the lists of buckets of later tests, and as all tests
name their buckets by one prefix, each of them would fail to delete it.
"""

import pytest
import s3tests.functional as suite


def pytest_runtest_setup(item):
    if suite.prefix is not None:
        suite.prefix = suite.choose_bucket_prefix("conf-{random}-")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item):
    for client in (suite.get_client(), suite.get_alt_client()):
        for bucket in suite.get_buckets_list(client):
            for upload in client.list_multipart_uploads(Bucket=bucket).get("Uploads", []):
                client.abort_multipart_upload(
                    Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                )
