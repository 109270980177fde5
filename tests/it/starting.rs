//! Tests what a start logs and keeps, what it refuses, and how it ends.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::metrics::least;
use crate::s3::{Begun, Client, anonymous};
use crate::server::{
    ACCESS_KEY, Disks, SECRET_KEY, Server, arguments, command, eventually, ready_line,
    ready_line_within, signal, skipped, wait,
};
use crate::small_disks::run;

#[test]
fn s_103_the_ready_line_and_the_banner() {
    for disks in [1, 4] {
        let server = Server::fresh(disks);
        assert_eq!(server.ready["disks"], disks);
        assert_eq!(server.ready["pid"], server.pid());
        assert_eq!(server.ready["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(
            server.ready["address"],
            format!("127.0.0.1:{}", server.port)
        );
        let banner = format!("Status:         {disks} Online, 0 Offline.");
        assert!(server.log().lines().any(|line| line == banner));
    }
}

#[test]
fn s_103_health_paths_answer_without_credentials() {
    let server = Server::fresh(4);
    for path in [
        "/minio/health/live",
        "/minio/health/ready",
        "/minio/health/cluster",
        "/minio/health/cluster/read",
        "/health/live",
        "/health/ready",
    ] {
        for method in ["GET", "HEAD"] {
            let answer = anonymous(server.port, method, path).unwrap();
            assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
        }
    }
    let address = format!("127.0.0.1:{}", server.port);
    let status = command()
        .args(["healthcheck", "--address", &address])
        .status();
    assert!(status.unwrap().success());
}

#[test]
fn a_46_generated_keys_work_stay_and_are_private() {
    let disks = Disks::fresh(2);
    let kept = disks.folder().join("disk1.keys");
    let mut first = None;
    for _ in 0..2 {
        let log = fs::File::create(disks.log()).unwrap();
        let port_file = disks.folder().join("port");
        let mut child = command()
            .args(arguments(&disks))
            .arg("--port-file")
            .arg(&port_file)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let ready = ready_line(&mut child).expect("gets ready");
        let port: u16 = fs::read_to_string(&port_file)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        assert_eq!(ready["port"], port);
        let text = fs::read_to_string(&kept).unwrap();
        let value = |at: usize| {
            text.lines()
                .nth(at)
                .unwrap()
                .split_once('=')
                .unwrap()
                .1
                .to_owned()
        };
        let keys = (value(0), value(1));
        assert_eq!(fs::metadata(&kept).unwrap().mode() & 0o777, 0o600);
        Client::new(port, &keys.0, &keys.1)
            .get("/")
            .unwrap()
            .expect(200);
        Client::new(port, &keys.0, "another secret")
            .get("/")
            .unwrap()
            .expect(403);
        let log = fs::read_to_string(disks.log()).unwrap();
        assert!(
            log.contains(kept.to_str().unwrap()),
            "the place is told: {log}"
        );
        assert!(!log.contains(&keys.1), "the secret isn't");
        assert_eq!(*first.get_or_insert(keys.clone()), keys);
        signal(child.id(), "TERM");
        assert!(wait(&mut child).success());
    }
}

#[test]
fn sigterm_ends_it_and_nothing_is_lost() {
    let mut server = Server::fresh(4);
    server.client().put("/kept", b"").unwrap().expect(200);
    server
        .client()
        .put("/kept/key", b"value")
        .unwrap()
        .expect(200);
    assert_eq!(server.stop().code(), Some(0));
    server.start_again();
    assert_eq!(
        server.client().get("/kept/key").unwrap().expect(200).body,
        b"value"
    );
}

/// Asks a server to end while it receives an object; it accepts no more connections then.
fn told_to_end_in_a_put(server: &Server) -> Begun {
    server.client().put("/kept", b"").unwrap().expect(200);
    let are_under_way = |count| least(server, "drystone_s3_requests_in_flight") == Some(count);
    eventually("nothing is under way", || are_under_way(0.0));
    let begun = server.client().begin_put("/kept/slow", b"slow");
    eventually("the request is taken in", || are_under_way(1.0));
    server.signal("TERM");
    while TcpStream::connect(("127.0.0.1", server.port)).is_ok() {
        std::thread::yield_now();
    }
    begun
}

#[test]
fn b_08_sigterm_lets_a_request_finish() {
    let mut server = Server::fresh(1);
    let begun = told_to_end_in_a_put(&server);
    begun.finish().unwrap().expect(200);
    assert_eq!(server.wait().code(), Some(0));
    server.start_again();
    let answer = server.client().get("/kept/slow").unwrap();
    assert_eq!(answer.expect(200).body, b"slow");
}

#[test]
fn a_second_signal_stops_at_once() {
    for (name, code) in [("TERM", 143), ("INT", 130)] {
        let mut server = Server::fresh(1);
        let begun = told_to_end_in_a_put(&server);
        server.signal(name);
        assert_eq!(server.wait().code(), Some(code));
        assert!(begun.finish().is_err());
    }
}

/// A closed terminal window sends SIGHUP to its process; other servers read the certificate again
/// on SIGHUP.
#[test]
fn a_closed_terminal_ends_it() {
    let disks = Disks::fresh(1);
    let (port_file, log) = (disks.folder().join("port"), disks.log());
    let server = command();
    let mut line = format!("exec {}", server.get_program().display());
    for argument in arguments(&disks) {
        line.push_str(&format!(" '{argument}'"));
    }
    line.push_str(&format!(" --port-file '{}'", port_file.display()));
    line.push_str(&format!(" >/dev/null 2>'{}'", log.display()));
    let mut terminal = Command::new("script");
    terminal
        .args(["--quiet", "--command", &line, "/dev/null"])
        .env("SHELL", "/bin/sh")
        .env("DRYSTONE_ROOT_USER", ACCESS_KEY)
        .env("DRYSTONE_ROOT_PASSWORD", SECRET_KEY)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let Ok(mut terminal) = terminal.spawn() else {
        return skipped("no script, which makes a terminal");
    };
    let port = || {
        fs::read_to_string(&port_file)
            .ok()?
            .trim()
            .parse::<u16>()
            .ok()
    };
    eventually("it is ready", || port().is_some());
    terminal.kill().unwrap();
    terminal.wait().unwrap();
    let connected = || TcpStream::connect(("127.0.0.1", port().unwrap()));
    eventually("it has ended", || connected().is_err());
    eventually("it ended properly", || {
        fs::read_to_string(&log).unwrap().contains("stopped")
    });
}

#[test]
fn f_08_a_log_that_cannot_be_written_stops_nothing() {
    let mut server = Server::without_log(4);
    let client = server.client();
    assert_eq!(client.put("/bucket", b"").unwrap().status, 200);
    assert_eq!(client.put("/bucket/key", b"x").unwrap().status, 200);
    // Much is logged about a lost disk, and none of it by a request.
    server.disks.empty(2);
    eventually("the loss was noticed", || {
        assert_eq!(client.put("/bucket/key", b"y").unwrap().status, 200);
        least(&server, "drystone_disk_up") == Some(0.0)
    });
    assert_eq!(client.get("/bucket/key").unwrap().body, b"y");
    assert!(server.stop().success());
}

#[test]
fn two_processes_never_share_a_disk() {
    let server = Server::fresh(1);
    let output = command().args(arguments(&server.disks)).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains(server.disks.path(1).to_str().unwrap()),
        "{told}"
    );
    server.client().get("/").unwrap().expect(200);
}

#[test]
fn a_directory_that_holds_something_else_is_refused() {
    let disks = Disks::fresh(1);
    fs::create_dir(disks.path(1)).unwrap();
    fs::write(disks.path(1).join("letter.txt"), "dear reader").unwrap();
    let output = command().args(arguments(&disks)).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains(disks.path(1).to_str().unwrap()), "{told}");
    let left: Vec<_> = fs::read_dir(disks.path(1)).unwrap().collect();
    assert_eq!(left.len(), 1, "nothing was added");
}

fn databases(disks: &Disks) -> Vec<u64> {
    let database = |disk| fs::metadata(disks.path(disk).join("meta")).unwrap().ino();
    (1..=disks.count()).map(database).collect()
}

/// Found by reading: a limit that a database met when it opened was reported as damage.
#[test]
fn f_05_a_start_with_too_few_open_files_says_so_and_discards_no_database() {
    let mut server = Server::fresh(4);
    let client = server.client();
    client.put("/kept", b"").unwrap().expect(200);
    for n in 0..20 {
        let put = client.put(
            &format!("/kept/{n}"),
            &vec![n; 4_000 + 5_000 * usize::from(n)],
        );
        put.unwrap().expect(200);
    }
    server.stop();
    let (before, mut told) = (databases(&server.disks), String::new());
    for limit in [24, 40, 56, 72, 88, 104, 120] {
        let mut limited = Command::new("sh");
        let script = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
        limited.arg("-c").arg(script).arg(command().get_program());
        let output = server.disks.folder().join("limited");
        let mut child = limited
            .args(arguments(&server.disks))
            .env("DRYSTONE_ROOT_USER", ACCESS_KEY)
            .env("DRYSTONE_ROOT_PASSWORD", SECRET_KEY)
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&output).unwrap())
            .spawn()
            .unwrap();
        let _ = ready_line_within(&mut child, Duration::from_secs(10));
        let _ = child.kill();
        child.wait().unwrap();
        told += &fs::read_to_string(output).unwrap();
        assert_eq!(databases(&server.disks), before, "{limit}: {told}");
    }
    assert!(told.contains("raise it (ulimit -n"), "{told}");
    server.start_again();
    for n in 0..20 {
        let got = server
            .client()
            .get(&format!("/kept/{n}"))
            .unwrap()
            .expect(200);
        assert!(got.body == vec![n; 4_000 + 5_000 * usize::from(n)], "{n}");
    }
    server.stop();
    assert_eq!(databases(&server.disks), before);
}

#[test]
fn f_05_a_database_that_may_not_be_written_is_left_out_and_kept() {
    let mut server = Server::fresh(4);
    let client = server.client();
    client.put("/kept", b"").unwrap().expect(200);
    client.put("/kept/key", b"value").unwrap().expect(200);
    server.stop();
    let before = databases(&server.disks);
    let folder = server.disks.path(2).join("meta/rocksdb");
    // Root may write anywhere but not into an immutable folder.
    if !run("chattr", &["+i", folder.to_str().unwrap()]) {
        return skipped("a database that may not be written: files can't be made immutable here");
    }
    server.start_again();
    let log = server.log();
    server
        .client()
        .put("/kept/more", b"value")
        .unwrap()
        .expect(200);
    server.stop();
    assert!(run("chattr", &["-i", folder.to_str().unwrap()]));
    assert!(
        log.contains("give its files to the user that runs the store"),
        "{log}"
    );
    assert_eq!(databases(&server.disks), before);
    server.start_again();
    assert_eq!(server.ready["disks"], 4);
    for key in ["key", "more"] {
        let got = server.client().get(&format!("/kept/{key}")).unwrap();
        assert_eq!(got.expect(200).body, b"value");
    }
}

#[test]
fn all_disks_lost_at_once_are_not_formatted_beside_one_that_is_left() {
    let mut server = Server::fresh(4);
    server.client().put("/kept", b"").unwrap().expect(200);
    server.stop();
    for disk in 2..=4 {
        server.disks.empty(disk);
    }
    let mut child = command()
        .args(arguments(&server.disks))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // The server refuses or waits for the others; it never serves an empty store.
    let ready = ready_line_within(&mut child, Duration::from_secs(3));
    let _ = child.kill();
    child.wait().unwrap();
    assert_eq!(ready, None);
    for disk in 2..=4 {
        assert_eq!(fs::read_dir(server.disks.path(disk)).unwrap().count(), 0);
    }
}
