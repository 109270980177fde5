"""AWS's SDK for Java: runs the program of `java_sdk/` and compares the tree sent with the one read back."""

import os
import pathlib

from tree import digests, make_tree, run, same

source = pathlib.Path(__file__).parent / "java_sdk/JavaSdk.java"
make_tree("up")
print(run("java", "-cp", f"{os.environ['ROUND_HOME']}/lib/*", source))
same(digests("down"), digests("up"), "the tree that came back")
