"""A small tree of files to send and compare, and how a round runs its client."""

import hashlib
import os
import pathlib
import random
import subprocess
import sys
import urllib.request

ENDPOINT = os.environ["ENDPOINT"]
ACCESS_KEY = os.environ["AWS_ACCESS_KEY_ID"]
SECRET_KEY = os.environ["AWS_SECRET_ACCESS_KEY"]

# For clients that want the endpoint in pieces.
SCHEME, HOST = ENDPOINT.split("://")
SECURE = SCHEME == "https"
# Who certified a server that is asked over TLS; most clients read it from a variable of their own.
CA_FILE = os.environ.get("CA_FILE", "")

# Names that clients and servers get wrong.
NAMES = [
    "plain.txt",
    "folder/in/folder.txt",
    "with space and +plus.txt",
    "ümläut-日本.txt",
    "quote'and&amp;.txt",
    "percent%41.txt",
    "(round) [square].txt",
]

# A while ago: S3 tells times in whole seconds, and what was changed in the second of its upload is
# newer than that.
WRITTEN = 1_700_000_000


def make_tree(folder, count=40):
    """Files of many sizes below `folder`: from none to a few hundred KiB."""
    root = pathlib.Path(folder)
    source = random.Random(1)
    names = NAMES + [f"many/{n % 7}/file{n}" for n in range(count)]
    for at, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.randbytes([0, 1, 1000, 9000, 300_000][at % 5]))
        os.utime(path, (WRITTEN, WRITTEN))
    return root


def make_file(name, size):
    path = pathlib.Path(name)
    path.write_bytes(random.Random(size).randbytes(size))
    os.utime(path, (WRITTEN, WRITTEN))
    return path


def digests(folder):
    """SHA-256 by relative name of every file below `folder`."""
    root = pathlib.Path(folder)
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def run(*command, ok=True, **more):
    """Runs a command and returns what it printed. With ok=False it has to fail."""
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, **more)
    if (done.returncode == 0) != ok:
        raise AssertionError(
            f"{' '.join(words)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
    return done.stdout if ok else done.stdout + done.stderr


def without_aws_bundle():
    """The environment for programs that stop at AWS_CA_BUNDLE: with a transport of their own, AWS's SDK
    for Go can't heed it. They read SSL_CERT_FILE."""
    return {name: value for name, value in os.environ.items() if name != "AWS_CA_BUNDLE"}


def fetch(url):
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.read()


def done():
    """Ends a round that used Arrow: its threads may abort in the interpreter's own end, after all is well
    (apache/arrow#34314)."""
    sys.stdout.flush()
    os._exit(0)


def same(left, right, what):
    assert left == right, f"{what}: {left!r} is not {right!r}"
