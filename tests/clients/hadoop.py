"""Hadoop's S3A: runs the program of `hadoop/` and compares the tree sent with the one read back."""

import os
import pathlib

import boto3

from tree import ENDPOINT, digests, make_tree, run, same

boto3.client("s3", endpoint_url=ENDPOINT).create_bucket(Bucket="hadoop-round")
source = pathlib.Path(__file__).parent / "hadoop/Hadoop.java"
make_tree("up")
# Names that Hadoop's shell takes for patterns or refuses.
for name in ["(round) [square].txt", "percent%41.txt", "quote'and&amp;.txt"]:
    pathlib.Path("up", name).unlink()
run("java", "-cp", f"{os.environ['ROUND_HOME']}/lib/*", source)
same(digests("down"), digests("up"), "the tree that came back")
