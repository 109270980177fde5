"""pgBackRest: PostgreSQL's log pushed while it is written, backups, and a restore. Over TLS alone.

Runs in the unpacked Debian, as its user `postgres`.
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

import boto3

from tree import ACCESS_KEY, CA_FILE, ENDPOINT, HOST, SECRET_KEY, run, same

BUCKET = "pgbackrest-round"
ROWS = 20_000
SUMS = "SELECT count(*), sum(hashtextextended(t::text, 0)) FROM t"

debian = pathlib.Path(os.environ["ROUND_HOME"], "trixie")
s3 = boto3.client("s3", endpoint_url=ENDPOINT)
s3.create_bucket(Bucket=BUCKET)
folder = pathlib.Path(tempfile.mkdtemp(dir=debian / "tmp"))
inside = pathlib.Path("/") / folder.relative_to(debian)


command = ["/usr/sbin/chroot", "--userspec=postgres:postgres", debian, "env", "-i", "LANG=C.UTF-8"]
command.append("PATH=/usr/lib/postgresql/17/bin:/usr/bin:/bin")


def as_postgres(*words):
    return run(*command, *words)


def pgbackrest(*words):
    return as_postgres("pgbackrest", f"--config={inside}/pgbackrest.conf", "--stanza=stone", *words)


def sql(words):
    return as_postgres("psql", "-h", inside, "-U", "postgres", "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", words).strip()


def writable():
    try:
        return sql("SELECT pg_is_in_recovery()") == "f"
    except AssertionError:
        return False


@contextlib.contextmanager
def serving():
    """PostgreSQL, from when it takes writes: what was restored is whole by then."""
    with subprocess.Popen([*command, "postgres", "-D", inside / "data"]) as server:
        try:
            while not writable():
                same(server.poll(), None, "PostgreSQL runs")
                time.sleep(0.1)
            yield
        finally:
            server.send_signal(signal.SIGINT)


def more(since):
    sql(f"INSERT INTO t SELECT n, repeat(md5(n::text), 10) FROM generate_series({since}, {since + ROWS - 1}) n")
    sql("SELECT pg_switch_wal()")
    return sql(SUMS)


def restore(*words):
    shutil.rmtree(folder / "data")
    (folder / "data").mkdir(mode=0o700)
    shutil.chown(folder / "data", *owner)
    pgbackrest(*words, "restore")


def settings():
    host, port = HOST.split(":")
    (folder / "pgbackrest.conf").write_text(
        f"""
[global]
repo1-type = s3
repo1-path = /backups
repo1-s3-bucket = {BUCKET}
repo1-s3-endpoint = {host}
repo1-s3-uri-style = path
repo1-s3-region = us-east-1
repo1-s3-key = {ACCESS_KEY}
repo1-s3-key-secret = {SECRET_KEY}
repo1-storage-port = {port}
repo1-storage-ca-file = {inside}/authority.pem
repo1-retention-full = 1
log-path = {inside}
lock-path = {inside}
spool-path = {inside}
start-fast = y
process-max = 2

[stone]
pg1-path = {inside}/data
pg1-socket-path = {inside}
"""
    )
    push = f"pgbackrest --config={inside}/pgbackrest.conf --stanza=stone archive-push %p"
    with (folder / "data/postgresql.conf").open("a") as file:
        file.write(
            f"""
listen_addresses = ''
unix_socket_directories = '{inside}'
dynamic_shared_memory_type = mmap
archive_mode = on
archive_command = '{push}'
"""
        )


def rounds():
    with serving():
        pgbackrest("stanza-create")
        pgbackrest("check")
        sql("CREATE TABLE t (n int, word text)")
        first = more(0)
        pgbackrest("--type=full", "backup")
        more(ROWS)
        pgbackrest("--type=incr", "backup")
        last = more(2 * ROWS)
    # All that was pushed, up to the last row, which no backup has.
    restore()
    with serving():
        same(sql(SUMS), last, "the last state")
    backups = json.loads(pgbackrest("--output=json", "info"))[0]
    same(backups["status"]["code"], 0, "status")
    same([backup["type"] for backup in backups["backup"]], ["full", "incr"], "backups")
    full = backups["backup"][0]["label"]
    restore(f"--set={full}", "--type=immediate", "--target-action=promote")
    with serving():
        same(sql(SUMS), first, "the first state")
        assert "status: ok" in pgbackrest("--output=text", "--verbose", "verify")
        # With small files in bundles, and of large ones only what changed; what is older expires.
        pgbackrest("--type=full", "--repo1-bundle", "--repo1-block", "backup")
    backups = json.loads(pgbackrest("--output=json", "info"))[0]
    same([backup["type"] for backup in backups["backup"]], ["full"], "backups after the next full one")
    restore()
    with serving():
        same(sql(SUMS), first, "the state of the bundles")
    left = s3.list_objects_v2(Bucket=BUCKET, Prefix=f"backups/backup/stone/{full}/")
    same(left["KeyCount"], 0, "objects of the expired backup")


about = (debian / "var/lib/postgresql").stat()
owner = about.st_uid, about.st_gid
try:
    shutil.copy(CA_FILE, folder / "authority.pem")
    shutil.chown(folder, *owner)
    as_postgres("initdb", "-D", inside / "data", "-U", "postgres", "-A", "trust", "--no-sync")
    settings()
    rounds()
finally:
    shutil.rmtree(folder)
