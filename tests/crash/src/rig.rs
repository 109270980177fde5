//! A server on disks of its own, and the means to hurt both.
//!
//! Disks are directories, or XFS on loop files, which can lose power: what was not synced is gone
//! at the next mount. The mounts live in this process's own mount namespace and the server dies
//! with this process, so that nothing is left behind however it ends; the folder of one that was
//! killed is removed by the next.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use crate::s3::Client;

const ACCESS_KEY: &str = "EXAMINER";
const SECRET_KEY: &str = "a secret that only the examiner knows";
/// A start on a machine that does much else.
const START_LIMIT: Duration = Duration::from_secs(240);
const FOLDER_PREFIX: &str = "examiner-";
/// Room for what two hundred rounds leave behind: on full disks a round tries little. The images
/// are sparse.
const IMAGE_BYTES: u64 = 4 << 30;
/// What fills such a disk, whatever is on it: each about half of what may still be free.
const BALLASTS: [&str; 11] = [
    "2g", "1g", "500m", "250m", "120m", "60m", "30m", "15m", "7m", "3m", "1m",
];
/// Tells the process that it is within a namespace of its own.
const INSIDE: &str = "EXAMINER_INSIDE";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disks {
    Directories,
    Xfs,
}

pub struct Rig {
    binary: PathBuf,
    pub folder: PathBuf,
    pub count: usize,
    disks: Disks,
    /// What the server's clock is told by.
    clock: Option<PathBuf>,
    skew: Arc<AtomicI64>,
    /// Where the server is to cut itself off.
    armed: Option<String>,
    child: Option<Child>,
    port: u16,
}

/// Runs this program again within a mount namespace of its own, or says why that can't be.
pub fn enter_namespace() -> Result<(), String> {
    if std::env::var_os(INSIDE).is_some() {
        return Ok(());
    }
    can_cut_power()?;
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let error = Command::new("unshare")
        .args(["--mount", "--propagation", "private"])
        .arg(own)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .exec();
    Err(format!("unshare: {error}"))
}

fn can_cut_power() -> Result<(), String> {
    for tool in [
        "unshare", "setpriv", "mkfs.xfs", "xfs_io", "mount", "losetup",
    ] {
        if !has(tool) {
            return Err(format!("{tool} is not installed"));
        }
    }
    let quiet = |program: &str, arguments: &[&str]| {
        let status = Command::new(program)
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    };
    if !quiet("unshare", &["--mount", "--propagation", "private", "true"]) {
        return Err("mount namespaces need root".to_owned());
    }
    if !quiet("losetup", &["--find"]) {
        return Err("there are no loop devices".to_owned());
    }
    Ok(())
}

pub fn has(tool: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut folders = std::env::split_paths(&paths).chain(usual);
    folders.any(|folder| folder.join(tool).exists())
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
}

/// The folder in which runs make theirs; those of processes that are gone are removed.
fn sweep(root: &Path) {
    fs::create_dir_all(root).unwrap();
    for entry in fs::read_dir(root).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(FOLDER_PREFIX);
        if let Some(pid) = owner
            && !Path::new("/proc").join(pid).exists()
        {
            // Another run may be sweeping, too.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

impl Rig {
    pub fn new(binary: &Path, root: &Path, disks: Disks, count: usize) -> Rig {
        sweep(root);
        let folder = root.join(format!("{FOLDER_PREFIX}{}", std::process::id()));
        // Of an earlier run of this process.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let rig = Rig {
            binary: binary.to_owned(),
            folder,
            count,
            disks,
            clock: None,
            skew: Arc::default(),
            armed: None,
            child: None,
            port: 0,
        };
        for number in 1..=count {
            fs::create_dir_all(rig.mount_point(number)).unwrap();
            if disks == Disks::Xfs {
                let image = rig.image(number);
                File::create(&image).unwrap().set_len(IMAGE_BYTES).unwrap();
                run("mkfs.xfs", &["-q", image.to_str().unwrap()]);
                rig.mount(number);
            }
        }
        rig
    }

    fn image(&self, number: usize) -> PathBuf {
        self.folder.join(format!("image{number}"))
    }

    fn mount_point(&self, number: usize) -> PathBuf {
        self.folder.join(format!("disk{number}"))
    }

    /// What the server is given: below the mount point, so that a mount that is missing is none.
    pub fn disk(&self, number: usize) -> PathBuf {
        self.mount_point(number).join("store")
    }

    fn argument(&self) -> String {
        format!("{}/disk{{1...{}}}/store", self.folder.display(), self.count)
    }

    fn mount(&self, number: usize) {
        let (image, point) = (self.image(number), self.mount_point(number));
        let arguments = ["-o", "loop,noatime"];
        let paths = [image.to_str().unwrap(), point.to_str().unwrap()];
        run("mount", &[arguments.as_slice(), &paths].concat());
    }

    /// The server's clock can be set from now on, where libfaketime is installed.
    pub fn with_clock(mut self) -> Option<Rig> {
        let library = fake_time_library()?;
        let clock = self.folder.join("clock");
        fs::write(&clock, "+0").unwrap();
        self.clock = Some(library);
        Some(self)
    }

    /// Sets the server's clock so many seconds off.
    pub fn set_clock(&mut self, skew: i64) {
        fs::write(self.folder.join("clock"), format!("{skew:+}")).unwrap();
        self.skew.store(skew, Ordering::Relaxed);
    }

    pub fn client(&self) -> Client {
        let client = Client::new(self.port, ACCESS_KEY, SECRET_KEY);
        client.with_skew(Arc::clone(&self.skew))
    }

    /// Starts the server and waits until it is ready.
    pub fn start(&mut self) -> io::Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("log"))?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(&self.binary);
        command
            .args(["server", "--address", "127.0.0.1:0", &self.argument()])
            .env("DRYSTONE_ROOT_USER", ACCESS_KEY)
            .env("DRYSTONE_ROOT_PASSWORD", SECRET_KEY)
            .stdout(Stdio::piped())
            .stderr(log);
        if let Some(point) = &self.armed {
            command.env("DRYSTONE_CRASH_AT", point);
        }
        if let Some(library) = &self.clock {
            command
                .env("LD_PRELOAD", library)
                .env("FAKETIME_TIMESTAMP_FILE", self.folder.join("clock"))
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
                .env("FAKETIME_CACHE_DURATION", "1");
        }
        let mut child = command.spawn()?;
        let out = child.stdout.take().unwrap();
        self.child = Some(child);
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let line = receiver.recv_timeout(START_LIMIT);
        let line = line.map_err(|_| io::Error::other(self.log_tail()))?;
        let ready: Json = serde_json::from_str(&line).map_err(io::Error::other)?;
        self.port = ready["port"].as_u64().unwrap_or_default() as u16;
        Ok(())
    }

    pub fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(40)..].join("\n");
        format!("the server's log ends:\n{tail}")
    }

    /// From the next start on.
    pub fn arm(&mut self, point: Option<String>) {
        self.armed = point;
    }

    pub fn armed(&self) -> Option<&str> {
        self.armed.as_deref()
    }

    /// Whether the server ends by itself.
    pub fn dies_within(&mut self, patience: Duration) -> bool {
        let began = Instant::now();
        while began.elapsed() < patience {
            let ended = self.child.as_mut().map(Child::try_wait);
            if !matches!(ended, Some(Ok(None))) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        false
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// As an operator does.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            run("kill", &["-TERM", &child.id().to_string()]);
            child.wait().unwrap();
        }
    }

    /// All disks and the server at once. Power is back, and the disks are mounted, on return.
    pub fn cut_power(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
        }
        let cuts: Vec<Child> = (1..=self.count)
            .map(|number| {
                let point = self.mount_point(number);
                Command::new("xfs_io")
                    .args(["-x", "-c", "shutdown", point.to_str().unwrap()])
                    .spawn()
                    .unwrap()
            })
            .collect();
        for mut cut in cuts {
            assert!(cut.wait().unwrap().success(), "xfs_io did not shut down");
        }
        self.kill();
        for number in 1..=self.count {
            self.unmount(number);
            self.mount(number);
        }
    }

    fn unmount(&self, number: usize) {
        run("umount", &[self.mount_point(number).to_str().unwrap()]);
    }

    /// Everything in a disk's directory goes; the directory stays, as an empty mount would.
    pub fn empty(&self, number: usize) {
        for _ in 0..10 {
            let Ok(entries) = fs::read_dir(self.disk(number)) else {
                return;
            };
            // A server that runs makes some of it anew.
            for entry in entries.flatten() {
                let path = entry.path();
                let _ = match path.is_dir() {
                    true => fs::remove_dir_all(&path),
                    false => fs::remove_file(&path),
                };
            }
        }
    }

    pub fn shard_files(&self, number: usize) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut folders = vec![self.disk(number).join("shards")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                match entry.path().is_dir() {
                    true => folders.push(entry.path()),
                    false => files.push(entry.path()),
                }
            }
        }
        files.sort();
        files
    }

    /// Takes the space of a disk, or gives it back.
    pub fn fill(&self, number: usize, full: bool) {
        for size in BALLASTS {
            let ballast = self.mount_point(number).join(format!("ballast-{size}"));
            let _ = match full {
                true => Command::new("fallocate")
                    .args(["-l", size, ballast.to_str().unwrap()])
                    .stderr(Stdio::null())
                    .status()
                    .map(drop),
                // There may have been no room for it.
                false => fs::remove_file(ballast),
            };
        }
    }

    /// What `fsck` says of the stopped store, and its sentence.
    pub fn fsck(&self) -> (ExitStatus, String) {
        let output = Command::new(&self.binary)
            .args(["fsck", &self.argument()])
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status, String::from_utf8_lossy(&text).into_owned())
    }
}

fn fake_time_library() -> Option<PathBuf> {
    let folders = [
        "/usr/lib/x86_64-linux-gnu/faketime",
        "/usr/lib/aarch64-linux-gnu/faketime",
        "/usr/lib/faketime",
    ];
    let mut libraries = folders
        .iter()
        .map(|f| Path::new(f).join("libfaketimeMT.so.1"));
    libraries.find(|library| library.exists())
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.kill();
        if self.disks == Disks::Xfs {
            for number in 1..=self.count {
                let point = self.mount_point(number);
                let _ = Command::new("umount").arg(point).status();
            }
        }
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}
