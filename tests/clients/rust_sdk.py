"""AWS's SDK for Rust: runs the program of `rust_sdk/` and compares the tree sent with the one read back."""

import pathlib

from tree import digests, fetch, make_file, make_tree, run, same

make_tree("up")
big = make_file("big", 17_000_001)
run("rust_sdk")
same(digests("down"), digests("up"), "the tree that came back")
same(fetch(pathlib.Path("link").read_text()) == big.read_bytes(), True, "link")
run("rust_sdk", "end")
