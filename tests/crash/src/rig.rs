//! A server on disks of its own, and the means to damage both.
//!
//! Disks are directories, or XFS on loop files, which can lose power: bytes that were not synced
//! are gone at the next mount. The mounts live in this process's own mount namespace and the server
//! dies with this process, so nothing is left behind however it ends; the next run removes the
//! folder of one that was killed.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use crate::s3::Client;

const ACCESS_KEY: &str = "EXAMINER";
const SECRET_KEY: &str = "a secret that only the examiner knows";
/// How long a start may take on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(240);
const FOLDER_PREFIX: &str = "examiner-";
/// Room for the bytes that two hundred rounds leave behind: on full disks a round tries little. The
/// images are sparse.
const IMAGE_BYTES: u64 = 4 << 30;
/// Sizes of the files that fill such a disk, whatever is on it: each about half of the space that
/// may still be free.
const BALLASTS: [&str; 11] = [
    "2g", "1g", "500m", "250m", "120m", "60m", "30m", "15m", "7m", "3m", "1m",
];
/// Marks a process that is within a namespace of its own.
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
    /// The file that sets the server's clock.
    clock: Option<PathBuf>,
    skew: Arc<AtomicI64>,
    /// The point at which the server is to end itself.
    armed: Option<String>,
    child: Option<Child>,
    port: u16,
    /// The disk that hangs.
    frozen: Option<FrozenDisk>,
}

/// A disk that hangs: `xfs_io`, which waits for commands. It has the disk open, because a disk
/// without power can't be opened any more.
struct FrozenDisk {
    tool: Child,
    /// Kept, as it would end if nobody could read what it says.
    _answers: BufReader<ChildStdout>,
}

impl FrozenDisk {
    fn new(mount_point: &Path) -> FrozenDisk {
        // Without stdbuf it would keep its answers until its end.
        let mut tool = Command::new("stdbuf");
        tool.args(["-oL", "xfs_io", "-x"]).arg(mount_point);
        let tool = tool.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut tool = tool.unwrap();
        let commands = tool.stdin.as_mut().unwrap();
        // The answer to the second says that the disk is frozen, too.
        commands.write_all(b"freeze\nstatfs\n").unwrap();
        let mut answers = BufReader::new(tool.stdout.take().unwrap());
        let mut answer = String::new();
        answers.read_line(&mut answer).unwrap();
        assert!(answer.contains("fd.path"), "xfs_io does not answer");
        FrozenDisk {
            tool,
            _answers: answers,
        }
    }

    fn thaw(mut self) {
        let commands = self.tool.stdin.as_mut().unwrap();
        commands.write_all(b"thaw\n").unwrap();
        // It ends with its commands.
        let status = self.tool.wait().unwrap();
        assert!(status.success(), "xfs_io did not thaw");
    }
}

/// Runs this program again within a mount namespace of its own, or says why that is impossible.
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

/// Removes the folders of runs whose processes have ended.
fn sweep(root: &Path) {
    fs::create_dir_all(root).unwrap();
    for entry in fs::read_dir(root).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(FOLDER_PREFIX);
        if let Some(pid) = owner
            && !Path::new("/proc").join(pid).exists()
        {
            // Another run may be sweeping as well.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

impl Rig {
    pub fn new(binary: &Path, root: &Path, disks: Disks, count: usize) -> Rig {
        sweep(root);
        let folder = root.join(format!("{FOLDER_PREFIX}{}", std::process::id()));
        // An earlier run of this process may have left it.
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
            frozen: None,
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

    /// Returns the directory that the server gets: below the mount point, so a missing mount is no
    /// disk.
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

    /// Makes the server's clock adjustable, where libfaketime is installed.
    pub fn with_clock(mut self) -> Option<Rig> {
        let library = fake_time_library()?;
        let clock = self.folder.join("clock");
        fs::write(&clock, "+0").unwrap();
        self.clock = Some(library);
        Some(self)
    }

    /// Sets the server's clock off by `skew` seconds.
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

    /// Arms the point from the next start on.
    pub fn arm(&mut self, point: Option<String>) {
        self.armed = point;
    }

    pub fn armed(&self) -> Option<&str> {
        self.armed.as_deref()
    }

    /// Returns whether the server ends by itself within `patience`.
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

    /// Kills the server. A disk that hangs answers again then: a process that waits for one does
    /// not end.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            self.thaw();
            let _ = child.wait();
        }
    }

    /// Stops the server as an operator does.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            self.thaw();
            run("kill", &["-TERM", &child.id().to_string()]);
            child.wait().unwrap();
        }
    }

    /// Cuts the power of all disks and the server at once. On return power is back and the disks
    /// are mounted.
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
        // What waited for a disk that hung fails now.
        self.kill();
        for number in 1..=self.count {
            self.unmount(number);
            self.mount(number);
        }
    }

    /// Makes a disk hang: whoever writes to it or syncs it waits.
    pub fn freeze(&mut self, number: usize) {
        self.frozen = Some(FrozenDisk::new(&self.mount_point(number)));
    }

    /// Makes the disk that hangs answer again.
    pub fn thaw(&mut self) {
        if let Some(disk) = self.frozen.take() {
            disk.thaw();
        }
    }

    fn unmount(&self, number: usize) {
        run("umount", &[self.mount_point(number).to_str().unwrap()]);
    }

    /// Removes everything in a disk's directory; the directory stays, like a missing mount.
    pub fn empty(&self, number: usize) {
        for _ in 0..10 {
            let Ok(entries) = fs::read_dir(self.disk(number)) else {
                return;
            };
            // A running server creates some of it again.
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

    /// Fills a disk, or frees its space again.
    pub fn fill(&self, number: usize, full: bool) {
        for size in BALLASTS {
            let ballast = self.mount_point(number).join(format!("ballast-{size}"));
            let _ = match full {
                true => Command::new("fallocate")
                    .args(["-l", size, ballast.to_str().unwrap()])
                    .stderr(Stdio::null())
                    .status()
                    .map(drop),
                // There may have been no room for the file.
                false => fs::remove_file(ballast),
            };
        }
    }

    /// Runs `fsck` on the stopped store and returns its status and its summary.
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
        self.thaw();
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
