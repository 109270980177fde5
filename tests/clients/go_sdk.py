"""AWS's SDK for Go: the program of `go_sdk/`, between the tree that it sends and the one that it brings back."""

from tree import digests, make_tree, run, same

make_tree("up")
run("go_sdk")
same(digests("down"), digests("up"), "the tree that came back")
