"""mc's usual round."""

import json
import pathlib

from tree import ACCESS_KEY, ENDPOINT, SECRET_KEY, digests, fetch, make_file, make_tree, run, same

BUCKET = "s/mc-round"


def mc(*words, ok=True, **more):
    return run("mc", "--quiet", "--disable-pager", *words, ok=ok, **more)


def rows(*words):
    return [json.loads(line) for line in mc("--json", *words).splitlines()]


mc("alias", "set", "s", ENDPOINT, ACCESS_KEY, SECRET_KEY)
mc("ready", "s")
mc("ping", "--count", "1", "s")
mc("mb", BUCKET)
assert "mc-round/" in mc("ls", "s")
make_tree("up")
big = make_file("up/big", 17_000_001)
mc("mirror", "up", f"{BUCKET}/tree")
same(len(rows("ls", "--recursive", f"{BUCKET}/tree/")), len(digests("up")), "files listed")
same(mc("diff", "up", f"{BUCKET}/tree"), "", "difference")
mc("mirror", f"{BUCKET}/tree", "down")
same(digests("down"), digests("up"), "the tree that came back")

mc("cp", "--attr", "color=grey", "up/big", f"{BUCKET}/big")
mc("cp", f"{BUCKET}/big", f"{BUCKET}/copy")
mc("mv", f"{BUCKET}/copy", f"{BUCKET}/moved")
mc("get", f"{BUCKET}/moved", "moved")
same(pathlib.Path("moved").read_bytes() == big.read_bytes(), True, "moved")
stat = rows("stat", f"{BUCKET}/big")[0]
same((stat["size"], stat["metadata"]["X-Amz-Meta-Color"]), (17_000_001, "grey"), "stat")
mc("pipe", f"{BUCKET}/piped", input="from a pipe")
same(mc("cat", f"{BUCKET}/piped"), "from a pipe", "cat")
same(mc("head", "--lines", "1", f"{BUCKET}/piped").strip(), "from a pipe", "head")
assert "piped" in mc("find", BUCKET, "--name", "pip*")
same(rows("du", f"{BUCKET}/tree")[-1]["objects"], len(digests("up")), "du")

link = rows("share", "download", f"{BUCKET}/piped")[0]["share"]
same(fetch(link), b"from a pipe", "shared link")
mc("tag", "set", f"{BUCKET}/piped", "a=1&b=2")
same(rows("tag", "list", f"{BUCKET}/piped")[0]["tagset"], {"a": "1", "b": "2"}, "tags")
mc("tag", "set", BUCKET, "kind=round")
same(rows("tag", "list", BUCKET)[0]["tagset"], {"kind": "round"}, "bucket tags")

mc("version", "enable", BUCKET)
mc("pipe", f"{BUCKET}/piped", input="again")
mc("rm", f"{BUCKET}/piped")
same(len(rows("ls", "--versions", f"{BUCKET}/piped")), 3, "versions")
mc("undo", "--force", f"{BUCKET}/piped")
same(mc("cat", f"{BUCKET}/piped"), "again", "after undo")
mc("version", "suspend", BUCKET)
assert "suspended" in mc("version", "info", BUCKET).lower()
mc("cat", f"{BUCKET}/not-there", ok=False)
mc("quota", "set", BUCKET, "--size", "100MiB")
same(rows("quota", "info", BUCKET)[0]["quota"], 100 << 20, "quota")
mc("pipe", f"{BUCKET}/within", input="little")
mc("quota", "set", BUCKET, "--size", "1KiB")
mc("pipe", f"{BUCKET}/beyond", input="x" * 2000, ok=False)
mc("quota", "clear", BUCKET)
mc("pipe", f"{BUCKET}/beyond", input="x" * 2000)
mc("rb", "--force", BUCKET)
