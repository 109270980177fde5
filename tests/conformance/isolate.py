"""For pytest: each test of the suite names its buckets by a prefix of its own.

The suite takes one prefix for all and empties what bears it before each test, so a bucket that one
test leaves behind, with an upload in it, would fail every test after it.
"""

import s3tests.functional as suite


def pytest_runtest_setup(item):
    if suite.prefix is not None:
        suite.prefix = suite.choose_bucket_prefix("conf-{random}-")
