//! Makes writes, syncs and reads of disks fail under the server. strace makes system calls fail; a
//! shutdown of its file system makes a whole disk fail. Where neither is possible, the tests are
//! skipped by name.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::replaced_disks::is_healed;
use crate::s3::Client;
use crate::server::{Server, command, eventually, signal, skipped};
use crate::small_disks::{LARGE, Small, run};

/// How long a server may take to heal everything; what is left then waits for the next start.
const LIFE_MAX: Duration = Duration::from_secs(20);

/// Makes system calls of a running server fail.
struct Strace {
    child: Child,
    log: PathBuf,
}

impl Strace {
    /// Injects `fault`, if it is not empty, into calls on `paths`, or on any path if there are
    /// none. Returns `None` where processes can't be traced.
    fn attach(server: &Server, fault: &str, paths: &[PathBuf], what: &str) -> Option<Strace> {
        let log = server.disks.folder().join("strace");
        let mut strace = Command::new("strace");
        let calls = "trace=fsync,fdatasync,sendto,sendmsg,write,writev";
        strace.args(["-f", "-y", "-e", calls, "-o"]).arg(&log);
        if !fault.is_empty() {
            strace.args(["-e", &format!("inject={fault}")]);
        }
        for path in paths {
            strace.arg("-P").arg(fs::canonicalize(path).unwrap());
        }
        strace.args(["-p", &server.pid().to_string()]);
        let child = strace.stderr(Stdio::piped()).spawn();
        let attached = child.ok().and_then(|mut child| {
            let mut told = BufReader::new(child.stderr.take()?).lines();
            let attached = told.any(|line| line.is_ok_and(|line| line.contains(" attached")));
            // Without a reader strace would stop at its next line.
            std::thread::spawn(move || told.for_each(drop));
            attached.then_some(child)
        });
        match attached {
            Some(child) => Some(Strace { child, log }),
            None => {
                skipped(&format!("{what}: processes can't be traced here"));
                None
            }
        }
    }

    /// Detaches from the server and returns the traced calls, in the order of their ends.
    fn detach(mut self) -> Vec<String> {
        signal(self.child.id(), "INT");
        self.child.wait().unwrap();
        let text = fs::read_to_string(&self.log).unwrap();
        let (mut calls, mut begun) = (Vec::new(), BTreeMap::new());
        for line in text.lines() {
            let (thread, call) = line.split_once(' ').unwrap();
            if let Some(call) = call.strip_suffix("<unfinished ...>") {
                begun.insert(thread, call);
            } else if let Some((_, end)) = call.split_once(" resumed>") {
                let start = begun.remove(thread).unwrap_or_default();
                calls.push(format!("{start}{end}"));
            } else if call.contains("sync(") || call.contains("write") || call.contains("send") {
                calls.push(call.to_owned());
            }
        }
        calls
    }
}

fn put(client: &Client, n: usize, len: usize) {
    let path = format!("/kept/{n}-{len}");
    client.put(&path, &vec![n as u8; len]).unwrap().expect(200);
}

fn check(client: &Client, numbers: std::ops::Range<usize>, len: usize) {
    for n in numbers {
        let answer = client.get(&format!("/kept/{n}-{len}")).unwrap().expect(200);
        assert!(answer.body == vec![n as u8; len], "{n}");
    }
}

/// Starts and stops the server until a check from outside finds nothing left to do.
fn healed(server: &mut Server) {
    eventually("everything is whole", || {
        server.start_again();
        let begun = Instant::now();
        while !is_healed(server) && begun.elapsed() < LIFE_MAX {
            std::thread::sleep(Duration::from_millis(50));
        }
        server.stop();
        let mut fsck = command();
        let status = fsck
            .arg("fsck")
            .arg(server.disks.argument())
            .stdout(Stdio::null());
        status.status().unwrap().success()
    });
}

fn newest_wal(disk: &Path) -> PathBuf {
    let files = fs::read_dir(disk.join("meta/rocksdb")).unwrap();
    let paths = files.map(|entry| entry.unwrap().path());
    let wals = paths.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    wals.max().unwrap()
}

/// B-01 acknowledged before anything was synced, B-02 did not sync the folders, B-06 synced all
/// disks but one.
#[test]
fn b_01_b_02_b_06_an_answer_follows_the_syncs_of_every_shard_its_folder_and_the_log() {
    let server = Server::fresh(4);
    let client = server.client();
    client.put("/kept", b"").unwrap().expect(200);
    let what = "the order of syncs and answer";
    let Some(strace) = Strace::attach(&server, "", &[], what) else {
        return;
    };
    put(&client, 1, 100_000);
    let calls = strace.detach();
    let answer = calls
        .iter()
        .position(|call| call.contains("\"HTTP/1.1 200 OK"));
    let before = &calls[..answer.expect("the answer was traced")];
    let synced = |call: &str, path: &Path| {
        let path = fs::canonicalize(path).unwrap();
        let done = call.ends_with("= 0") && call.contains("sync(");
        done && call.contains(&format!("<{}>", path.display()))
    };
    for disk in 1..=4 {
        let file = server.disks.shard_files(disk).remove(0);
        let at = before.iter().position(|call| synced(call, &file));
        let at = at.unwrap_or_else(|| panic!("{file:?} is not synced: {calls:#?}"));
        let folder = file.parent().unwrap();
        let folder = before[at..].iter().any(|call| synced(call, folder));
        assert!(
            folder,
            "the folder of {file:?} is not synced after it: {calls:#?}"
        );
    }
    // The command is logged after the shards, by a majority at least.
    let last = before
        .iter()
        .rposition(|call| call.contains("/shards/"))
        .unwrap();
    let synced = |disk: &usize| {
        let wal = newest_wal(&server.disks.path(*disk));
        before[last..].iter().any(|call| synced(call, &wal))
    };
    assert!((1..=4).filter(synced).count() >= 3, "{calls:#?}");
}

#[test]
fn b_66_f_11_a_failed_sync_of_the_log_is_not_repeated_and_costs_no_write() {
    let mut server = Server::fresh(4);
    let client = server.client();
    client.put("/kept", b"").unwrap().expect(200);
    let wal = newest_wal(&server.disks.path(2));
    let fault = "fdatasync:error=EIO:when=1";
    let what = "a failed sync of the log";
    let Some(strace) = Strace::attach(&server, fault, &[wal], what) else {
        return;
    };
    (0..10).for_each(|n| put(&client, n, 4_000));
    eventually("the disk is down", || {
        server.log().contains("disk's database failed")
    });
    (10..20).for_each(|n| put(&client, n, 100_000));
    let calls = strace.detach();
    let syncs = calls.iter().filter(|call| call.contains("sync(")).count();
    // On a slow machine a database may have been rebuilt meanwhile; its log has the same name.
    let rebuilt = server.log().contains("a disk's new database is made");
    assert!(syncs == 1 || rebuilt, "{calls:#?}");
    assert!(
        calls.iter().any(|call| call.contains("(INJECTED)")),
        "{calls:#?}"
    );
    server.kill();
    healed(&mut server);
    server.start_again();
    check(&server.client(), 0..10, 4_000);
    check(&server.client(), 10..20, 100_000);
}

/// Kills the server with SIGKILL while it rebuilds the database, at any time during it.
#[test]
fn f_11_r_03_a_server_killed_while_it_rebuilds_a_database_keeps_all() {
    let mut server = Server::fresh(4);
    server.client().put("/kept", b"").unwrap().expect(200);
    let mut written = 0;
    for pause in [0, 20, 60, 150] {
        let client = server.client();
        // While a replica is still being built, its database switches to another log.
        eventually("its databases are at rest", || is_healed(&server));
        let wal = newest_wal(&server.disks.path(2));
        let fault = "fdatasync:error=EIO:when=1";
        let what = "a server killed while it rebuilds a database";
        let Some(strace) = Strace::attach(&server, fault, &[wal], what) else {
            return;
        };
        let before = server.log().len();
        let told = |server: &Server, what: &str| server.log()[before..].contains(what);
        (written..written + 4).for_each(|n| put(&client, n, 50_000));
        written += 4;
        eventually("the disk is down", || {
            told(&server, "disk's database failed")
        });
        strace.detach();
        eventually("a database is rebuilt", || {
            told(&server, "a disk's new database is made")
        });
        std::thread::sleep(Duration::from_millis(pause));
        server.kill();
        server.start_again();
        check(&server.client(), 0..written, 50_000);
    }
    server.kill();
    healed(&mut server);
    server.start_again();
    check(&server.client(), 0..written, 50_000);
}

/// Makes the first call of this kind on a shard's file or folder fail. That ends writing to the
/// disk, and heal rebuilds the shard once the disk is back.
fn a_failed_shard(fault: &str, what: &str) {
    let mut server = Server::fresh(4);
    let client = server.client();
    client.put("/kept", b"").unwrap().expect(200);
    (0..4).for_each(|n| put(&client, n, 100_000));
    let shards = server.disks.path(3).join("shards");
    let folders = fs::read_dir(shards)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let folders: Vec<PathBuf> = folders.collect();
    let Some(strace) = Strace::attach(&server, fault, &folders, what) else {
        return;
    };
    (4..12).for_each(|n| put(&client, n, 100_000));
    eventually("the disk is down", || server.log().contains("disk is down"));
    let calls = strace.detach();
    let failed = calls.iter().filter(|call| call.contains("(INJECTED)"));
    // The server probes the disk with files of another name.
    let failed = failed.filter(|call| !call.contains("probe")).count();
    // One failure for each time that the disk was up: on a slow machine it returned to service
    // meanwhile.
    let downs = server.log().matches("disk is down disk=").count();
    assert!(failed > 0 && failed <= downs, "{downs} times: {calls:#?}");
    eventually("the disk is taken back", || {
        let log = server.log();
        log.matches("a disk that failed is up again").count() == downs
    });
    put(&client, 12, 100_000);
    check(&client, 0..13, 100_000);
    server.kill();
    healed(&mut server);
    server.start_again();
    check(&server.client(), 0..13, 100_000);
}

#[test]
fn b_07_r_03_a_failed_sync_of_a_folder_ends_writing_and_is_healed() {
    a_failed_shard("fsync:error=EIO:when=1", "a failed sync of a folder");
}

/// Once such a disk stayed in use, although the kernel may have dropped what it could not write.
#[test]
fn r_03_a_sync_that_fails_for_want_of_room_ends_writing_too() {
    a_failed_shard("fsync:error=ENOSPC:when=1", "a sync without room");
}

#[test]
fn f_10_f_11_a_disk_whose_every_call_fails_costs_nothing_acknowledged() {
    let Some(mut small) = Small::new(4, &[], "a failing disk") else {
        return;
    };
    for n in 0..4 {
        small.put(&format!("before{n}"), LARGE).expect(200);
        small.put(&format!("small{n}"), 4_000).expect(200);
    }
    let path = small.server().disks.path(2);
    if !run(
        "xfs_io",
        &["-F", "-x", "-c", "shutdown", path.to_str().unwrap()],
    ) {
        return skipped("a failing disk: the file system can't be shut down here");
    }
    small.check();
    for n in 0..4 {
        small.put(&format!("after{n}"), LARGE).expect(200);
        small.put(&format!("inline{n}"), 4_000).expect(200);
    }
    small.check();
    eventually("the disk is down", || {
        small.server().log().contains("disk is down")
    });
    // First without the disk, then with it.
    small.server().kill();
    small.server().start_again();
    small.check();
    small.put("without", LARGE).expect(200);
    small.server().kill();
    small.mount_again(2);
    healed(small.server());
    small.server().start_again();
    small.check();
}

#[test]
fn f_09_a_folder_that_may_not_be_written_ends_writing_to_its_disk_alone() {
    let Some(mut small) = Small::new(4, &[], "forbidden folders") else {
        return;
    };
    let folders = small.server().disks.path(4).join("shards");
    // Root may write anywhere but not into an immutable folder.
    if !run("chattr", &["-R", "+i", folders.to_str().unwrap()]) {
        return skipped("forbidden folders: files can't be made immutable here");
    }
    for n in 0..6 {
        small.put(&format!("after{n}"), LARGE).expect(200);
    }
    small.check();
    eventually("the disk is down", || {
        small.server().log().contains("disk is down")
    });
    assert!(run("chattr", &["-R", "-i", folders.to_str().unwrap()]));
}
