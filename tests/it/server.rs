//! A server process of a test's own: started on fresh disks and a free port, stopped, killed,
//! started again.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::s3::Client;

const BINARY: &str = env!("CARGO_BIN_EXE_drystone");
pub const ACCESS_KEY: &str = "TESTROOT";
pub const SECRET_KEY: &str = "a secret that only tests know";

/// How long anything may take on a busy machine: an action that takes longer hangs.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// The folder of shards below a disk's directory.
const SHARDS: &str = "shards";

/// A folder that holds a server's disks; removed with its owner.
pub struct Disks {
    folder: tempfile::TempDir,
    count: usize,
}

impl Disks {
    /// Creates the folder on the build's file system, not in memory, so that syncs are real.
    pub fn fresh(count: usize) -> Disks {
        let folder = tempfile::Builder::new()
            .prefix("disks-")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .unwrap();
        Disks { folder, count }
    }

    pub fn path(&self, number: usize) -> PathBuf {
        assert!((1..=self.count).contains(&number));
        self.folder.path().join(format!("disk{number}"))
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// Returns the disks as the command line names them.
    pub fn argument(&self) -> String {
        let folder = self.folder.path().display();
        match self.count {
            1 => format!("{folder}/disk1"),
            count => format!("{folder}/disk{{1...{count}}}"),
        }
    }

    pub fn shard_files(&self, number: usize) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut folders = vec![self.path(number).join(SHARDS)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => files.push(path),
                }
            }
        }
        files
    }

    pub fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Removes everything in the disk's directory; the directory stays, like a missing mount.
    pub fn empty(&self, number: usize) {
        for entry in fs::read_dir(self.path(number)).unwrap() {
            let path = entry.unwrap().path();
            // The server may be writing: the next round removes what it creates meanwhile.
            eventually("it is empty", || {
                let removed = match path.is_dir() {
                    true => fs::remove_dir_all(&path),
                    false => fs::remove_file(&path),
                };
                removed.is_ok() || !path.exists()
            });
        }
    }
}

/// Returns `drystone` without any of the caller's environment that could configure it.
pub fn command() -> Command {
    let mut command = Command::new(BINARY);
    without_settings(&mut command);
    command
}

fn without_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("DRYSTONE_") || name.starts_with("MINIO_") {
            command.env_remove(name);
        }
    }
}

pub struct Server {
    pub disks: Disks,
    pub port: u16,
    /// The ready line.
    pub ready: Value,
    child: Child,
}

impl Server {
    /// Starts on this number of fresh disks.
    pub fn fresh(disks: usize) -> Server {
        Server::on(Disks::fresh(disks))
    }

    pub fn on(disks: Disks) -> Server {
        Server::configured(disks, &[])
    }

    /// Starts with variables that its first start reads.
    pub fn configured(disks: Disks, variables: &[(&str, &str)]) -> Server {
        let (child, ready) = start(&disks, variables);
        Server {
            port: port(&ready),
            disks,
            ready,
            child,
        }
    }

    /// Starts on fresh disks, with these variables.
    pub fn with(variables: &[(&str, &str)], disks: usize) -> Server {
        Server::configured(Disks::fresh(disks), variables)
    }

    /// Returns the peak memory of the process.
    pub fn peak_memory_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.unwrap().trim().strip_suffix(" kB").unwrap();
        kib.parse().unwrap()
    }

    /// Starts on fresh disks, with at most `count` open files.
    pub fn with_descriptors(count: usize, disks: usize) -> Server {
        Server::by_shell(&format!("ulimit -n {count}; exec \"$0\" \"$@\""), disks)
    }

    /// Starts on fresh disks, with a log that nothing can be written to.
    pub fn without_log(disks: usize) -> Server {
        Server::by_shell("exec \"$0\" \"$@\" 2>/dev/full", disks)
    }

    fn by_shell(script: &str, disks: usize) -> Server {
        let disks = Disks::fresh(disks);
        let mut command = Command::new("sh");
        command.args(["-c", script, BINARY]);
        without_settings(&mut command);
        let (child, ready) = run(command, &disks, &[]);
        let ready = ready.expect("it gets ready");
        Server {
            port: port(&ready),
            disks,
            ready,
            child,
        }
    }

    pub fn client(&self) -> Client {
        client(&self.ready)
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.disks.log()).unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills the process with SIGKILL and waits for its end.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts again on the same disks, after `kill` or `stop`.
    pub fn start_again(&mut self) {
        let (child, ready) = start(&self.disks, &[]);
        self.port = port(&ready);
        self.child = child;
        self.ready = ready;
    }

    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Sends SIGTERM and waits for the end.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    pub fn wait(&mut self) -> ExitStatus {
        wait(&mut self.child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.disks.log()).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines.len().saturating_sub(40);
            println!("the server's log ends:\n{}", lines[tail..].join("\n"));
        }
    }
}

pub fn signal(pid: u32, name: &str) {
    let kill = format!("kill -{name} {pid}");
    assert!(
        Command::new("sh")
            .args(["-c", &kill])
            .status()
            .unwrap()
            .success()
    );
}

/// Waits for a condition that no event announces; fails the test if it takes too long.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "still not: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits for the end of a process; fails the test if it takes too long.
pub fn wait(child: &mut Child) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if start.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("the process did not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Returns the arguments of a server on these disks and any free port.
pub fn arguments(disks: &Disks) -> Vec<String> {
    let address = "127.0.0.1:0".to_owned();
    vec![
        "server".to_owned(),
        "--address".to_owned(),
        address,
        disks.argument(),
    ]
}

/// Returns a client of the server that printed this ready line.
pub fn client(ready: &Value) -> Client {
    Client::new(port(ready), ACCESS_KEY, SECRET_KEY)
}

/// Starts a server and waits for its ready line.
pub fn start(disks: &Disks, variables: &[(&str, &str)]) -> (Child, Value) {
    let (mut child, ready) = try_start(disks, variables);
    if let Some(ready) = ready {
        return (child, ready);
    }
    let _ = child.kill();
    let status = child.wait().unwrap();
    let log = fs::read_to_string(disks.log()).unwrap();
    panic!("the server did not get ready: {status}\n{log}");
}

/// Starts a server that may end before it is ready.
pub fn try_start(disks: &Disks, variables: &[(&str, &str)]) -> (Child, Option<Value>) {
    run(command(), disks, variables)
}

fn run(mut command: Command, disks: &Disks, variables: &[(&str, &str)]) -> (Child, Option<Value>) {
    let log = File::options()
        .create(true)
        .append(true)
        .open(disks.log())
        .unwrap();
    command
        .args(arguments(disks))
        .env("DRYSTONE_ROOT_USER", ACCESS_KEY)
        .env("DRYSTONE_ROOT_PASSWORD", SECRET_KEY)
        .envs(variables.iter().copied())
        .stdout(Stdio::piped())
        .stderr(log);
    let mut child = command.spawn().unwrap();
    let ready = ready_line(&mut child);
    (child, ready)
}

pub fn ready_line(child: &mut Child) -> Option<Value> {
    ready_line_within(child, PATIENCE)
}

/// Returns `None` when the process ends or the limit passes before it is ready.
pub fn ready_line_within(child: &mut Child, limit: Duration) -> Option<Value> {
    let out = child.stdout.take().unwrap();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines() {
            if sender.send(line.unwrap()).is_err() {
                break;
            }
        }
    });
    let line = receiver.recv_timeout(limit).ok()?;
    let ready: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(ready["event"], "ready");
    Some(ready)
}

fn port(ready: &Value) -> u16 {
    ready["port"].as_u64().unwrap().try_into().unwrap()
}

/// Reports, past the test runner's capture, that something could not be tried here. With CI=true
/// that is a failure.
pub fn skipped(what: &str) {
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "{what}: nothing is skipped in CI"
    );
    let line = format!("\nskipped: {what}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}
