"""AWS's SDK for Go: runs the program of `go_sdk/` and compares the tree sent with the one read back."""

from tree import digests, make_tree, run, same

make_tree("up")
run("go_sdk")
same(digests("down"), digests("up"), "the tree that came back")
