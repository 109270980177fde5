//! The crash points of upkeep: a store's birth, disks that are added, removed and replaced,
//! databases that are rebuilt, metadata that is recovered, scrub and heal. The server ends itself
//! at each point and starts again: everything acknowledged is there; interrupted work completes by
//! itself, or by the same request again; and a check from outside finds the store whole.
//!
//! [`works`] says which work passes a point; a new point needs a row there.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use drystone_store::crash::{CommandKind, CommandPoint, CrashAt, DiskPoint, Point};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::s3::Client;
use crate::server::{self, Disks, command};

const STORES: usize = 4;
const DISKS: usize = 4;
const SIGABRT: i32 = 6;
/// How long to wait for the next batch of a work that may have no more.
const BATCH_PATIENCE: Duration = Duration::from_secs(30);
/// In the whole form: the last batch of a log at which each work is crashed.
const BATCHES_VARIABLE: &str = "DRYSTONE_TEST_CRASH_BATCHES";
/// Names the only point to crash at, for looking at one.
const ONLY_VARIABLE: &str = "DRYSTONE_TEST_CRASH_ONLY";

/// Sizes of an object in a value and of one in shards.
const SIZES: [usize; 2] = [3_000, 60_000];

/// The work a server does until it crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// A store is created.
    Birth,
    /// A start without one disk, and one with it again.
    Offline,
    /// Settings, a pass of scrub, and shards that are suspected and found whole.
    Settings,
    /// A disk is emptied under the server and replaced.
    Replace,
    /// Most databases are damaged: the metadata is recovered, and then they are rebuilt.
    Damage,
    /// A disk is replaced by an older copy of itself.
    Older,
    /// Two disks are emptied under the server, which recovers its metadata, and are replaced.
    Half,
}

/// Returns the works that pass a point and the passings at which to crash. An empty list: only
/// changes of objects pass it ([`crate::crash_points`]).
fn works(point: Point) -> &'static [(Work, &'static [u32])] {
    use Work::{Birth, Damage, Half, Offline, Older, Replace, Settings};
    match point {
        Point::Command(kind, step) => match kind {
            CommandKind::RegisterDisks => &[(Birth, &[1]), (Offline, &[1])],
            CommandKind::MarkOffline => &[(Offline, &[1])],
            CommandKind::SetUpkeep | CommandKind::NoteScrub | CommandKind::SettleHeals => {
                &[(Settings, &[1])]
            }
            // Replacing a disk that has a replica on a minority of logs, and on a majority.
            CommandKind::ReplaceDisk if step == CommandPoint::Logged => &[(Replace, &[1, 3])],
            CommandKind::ReplaceDisk | CommandKind::RemoveDisk | CommandKind::QueueDisk => {
                &[(Replace, &[1])]
            }
            _ => &[],
        },
        Point::Disk(point) => match point {
            // Each of two files of each disk; after the files of a birth come those that mark it
            // complete.
            DiskPoint::IdentityWritten | DiskPoint::IdentityRenamed => {
                &[(Birth, &[1, 9]), (Replace, &[1, 3])]
            }
            DiskPoint::IdentityDurable => &[(Birth, &[1, 5]), (Replace, &[1, 2])],
            DiskPoint::FoldersMade => &[(Birth, &[1]), (Replace, &[1])],
            DiskPoint::DatabaseCreated => &[(Birth, &[1]), (Replace, &[1]), (Damage, &[1])],
            DiskPoint::DatabaseListed
            | DiskPoint::DatabaseAside
            | DiskPoint::DatabaseRenamed
            | DiskPoint::DatabaseRemoved => &[(Damage, &[1])],
            DiskPoint::StartStamped => &[(Birth, &[1]), (Offline, &[1, 3])],
            DiskPoint::StartKnown => &[(Birth, &[1]), (Damage, &[2])],
            DiskPoint::ReplicaMade => &[(Birth, &[1, 3]), (Replace, &[1]), (Damage, &[2])],
            DiskPoint::SeatsChanged => &[(Replace, &[1, 2]), (Damage, &[1, 3])],
            DiskPoint::ReplicaDropped => &[(Older, &[1, 2])],
            DiskPoint::SnapshotReceived | DiskPoint::SnapshotSwitched => &[(Damage, &[1])],
            DiskPoint::RecoveryPrepared
            | DiskPoint::RecoveryFormed
            | DiskPoint::RecoveryDeclared => &[(Damage, &[1, 2]), (Half, &[1])],
            _ => &[],
        },
    }
}

/// Returns whether only upkeep passes the point.
pub fn is_of_upkeep(point: Point) -> bool {
    !works(point).is_empty()
}

type Place = (Work, CrashAt);

fn places() -> Vec<Place> {
    let mut places = Vec::new();
    for point in Point::all() {
        for (work, nths) in works(point) {
            let cuts = nths.iter().map(|nth| (*work, CrashAt { point, nth: *nth }));
            places.extend(cuts);
        }
    }
    if let Ok(only) = std::env::var(ONLY_VARIABLE) {
        places.retain(|(_, at)| at.point.to_string() == only);
    }
    places
}

/// Crashes each work after each batch that it syncs, for any purpose.
fn batches(most: u32) -> Vec<Place> {
    use Work::{Birth, Damage, Half, Older, Replace};
    let cut = |work, nth| {
        let point = Point::Disk(DiskPoint::LogSynced);
        (work, CrashAt { point, nth })
    };
    let works = [Birth, Replace, Damage, Older, Half].into_iter();
    works
        .flat_map(|work| (1..=most).map(move |nth| cut(work, nth)))
        .collect()
}

/// `Err`: the server has crashed.
type Alive = io::Result<()>;

struct UpkeepStore {
    disks: Disks,
    /// Seeds and sizes of acknowledged objects, by path.
    kept: BTreeMap<String, (u64, usize)>,
    child: Option<Child>,
    client: Client,
    round: u64,
    /// How long to wait for work that no request waits for.
    patience: Duration,
    /// Since when disk 3 has its present state, as the server reports it.
    since: Value,
}

fn body(seed: u64, size: usize) -> Vec<u8> {
    let mut body = vec![0; size];
    StdRng::seed_from_u64(seed).fill_bytes(&mut body);
    body
}

impl UpkeepStore {
    fn new(patience: Duration) -> UpkeepStore {
        let mut store = UpkeepStore {
            disks: Disks::fresh(DISKS),
            kept: BTreeMap::new(),
            child: None,
            client: Client::new(0, "", ""),
            round: 0,
            patience,
            since: Value::Null,
        };
        store.recover("birth");
        store
    }

    /// Starts the server and returns whether it became ready.
    fn start(&mut self, at: Option<CrashAt>) -> bool {
        let at = at.map(|at| at.to_string());
        let variables = at.iter().map(|at| ("DRYSTONE_CRASH_AT", at.as_str()));
        let variables: Vec<_> = variables.collect();
        let (child, ready) = server::try_start(&self.disks, &variables);
        self.child = Some(child);
        if let Some(ready) = &ready {
            assert_eq!(ready["crash_at"].as_str(), at.as_deref());
            self.client = server::client(ready);
        }
        ready.is_some()
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            // Until the process has ended, it holds the disks.
            let _ = child.wait();
        }
    }

    fn log(&self) -> String {
        let log = fs::read_to_string(self.disks.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// Crashes the work at `at` and continues from there. Returns false if the work completed
    /// without passing it.
    fn cut(&mut self, work: Work, at: CrashAt) -> bool {
        self.round += 1;
        self.prepare(work);
        let mut ready = self.start(Some(at));
        if ready && self.go_through(work).is_ok() {
            if work == Work::Offline {
                self.kill();
                self.bring_back();
                ready = self.start(Some(at));
            }
            if ready && !self.ends_by_itself() {
                self.kill();
                self.recover(&format!("{work:?} without {at}"));
                return false;
            }
        }
        let mut child = self.child.take().unwrap();
        let status = server::wait(&mut child);
        assert_eq!(status.signal(), Some(SIGABRT), "{status}\n{}", self.log());
        self.bring_back();
        self.recover(&format!("{work:?} cut at {at}"));
        true
    }

    fn ends_by_itself(&mut self) -> bool {
        let child = self.child.as_mut().unwrap();
        let start = Instant::now();
        while start.elapsed() < self.patience {
            if child.try_wait().unwrap().is_some() {
                return true;
            }
            thread::sleep(Duration::from_millis(20));
        }
        false
    }

    fn aside(&self, name: &str) -> PathBuf {
        self.disks.folder().join(name)
    }

    /// Prepares what the server is to find at its start.
    fn prepare(&mut self, work: Work) {
        // The two disks differ from round to round.
        let (one, other) = self.two();
        match work {
            Work::Birth => {
                (self.disks, self.kept) = (Disks::fresh(DISKS), BTreeMap::new());
            }
            Work::Offline => fs::rename(self.disks.path(3), self.aside("offline")).unwrap(),
            Work::Damage => {
                for disk in [one, other] {
                    let current = self.disks.path(disk).join("meta/rocksdb/CURRENT");
                    fs::write(current, "").unwrap();
                }
            }
            Work::Older => {
                let (disk, copy) = (self.disks.path(one), self.aside("copy"));
                let copied = Command::new("cp").arg("-r").arg(&disk).arg(&copy).status();
                assert!(copied.unwrap().success());
                assert!(self.start(None), "{}", self.log());
                self.write("before").unwrap();
                self.kill();
                fs::remove_dir_all(&disk).unwrap();
                fs::rename(copy, disk).unwrap();
            }
            Work::Settings | Work::Replace | Work::Half => {}
        }
    }

    /// Returns two disks, others in each round.
    fn two(&self) -> (usize, usize) {
        let n = self.round as usize;
        let one = n % DISKS;
        let other = (one + 1 + n / DISKS % (DISKS - 1)) % DISKS;
        (one + 1, other + 1)
    }

    /// Moves back the directory of the disk that is offline and the shards that are hidden.
    fn bring_back(&self) {
        let (offline, hidden) = (self.aside("offline"), self.aside("hidden"));
        if offline.exists() {
            fs::rename(offline, self.disks.path(3)).unwrap();
        }
        if hidden.exists() {
            self.unhide(&hidden);
        }
    }

    fn hide(&self, hidden: &Path) {
        fs::create_dir(hidden).unwrap();
        for file in self.disks.shard_files(1) {
            // gc may have removed the file.
            let _ = fs::rename(&file, hidden.join(file.file_name().unwrap()));
        }
    }

    fn unhide(&self, hidden: &Path) {
        for file in fs::read_dir(hidden).unwrap() {
            let file = file.unwrap();
            let name = file.file_name().into_string().unwrap();
            // A shard lies in the folder that its name begins with.
            let folder = self.disks.path(1).join("shards").join(&name[..2]);
            fs::rename(file.path(), folder.join(name)).unwrap();
        }
        fs::remove_dir(hidden).unwrap();
    }

    /// Does the work; `Ok` means that it completed without a crash.
    fn go_through(&mut self, work: Work) -> Alive {
        if work == Work::Birth {
            self.client.put("/kept", b"")?.expect(200);
        }
        self.write("work")?;
        match work {
            Work::Birth | Work::Older => Ok(()),
            Work::Damage => self.until_well(),
            Work::Offline => {
                let since = self.since.clone();
                self.until(
                    "the metadata record that a disk is offline",
                    |status, store| status_of(status, &store.disks.path(3))["since_ms"] != since,
                )
            }
            Work::Settings => self.settings(),
            Work::Replace => self.emptied_and_replaced(&[self.two().0]),
            Work::Half => self.emptied_and_replaced(&[self.two().0, self.two().1]),
        }
    }

    fn emptied_and_replaced(&mut self, disks: &[usize]) -> Alive {
        disks.iter().for_each(|disk| self.disks.empty(*disk));
        self.until("the loss is noticed", |status, store| {
            let lost =
                |disk: &&usize| status_of(status, &store.disks.path(**disk))["state"] != "up";
            disks.iter().filter(lost).count() == disks.len()
        })?;
        self.write("without")?;
        self.until_well()
    }

    fn settings(&mut self) -> Alive {
        let hidden = self.aside("hidden");
        self.post("settings", &json!({ "heal_paused": true }))?;
        self.hide(&hidden);
        // Reads may not need the missing shards.
        self.post("scrub/start", &json!({}))?;
        self.until("what is missed is queued", |status, _| {
            status["heal"]["queued_shards"] != 0
        })?;
        self.unhide(&hidden);
        self.post("settings", &json!({ "heal_paused": false }))?;
        self.post("scrub/start", &json!({}))?;
        self.until("all was read again", |status, _| {
            status["scrub"]["finished_ms"].is_number()
        })?;
        self.until_well()
    }

    /// Writes objects; one that is not acknowledged may be there or not.
    fn write(&mut self, what: &str) -> Alive {
        for size in SIZES {
            let seed = self.round << 8 | self.kept.len() as u64;
            let path = format!("/kept/{}-{what}-{size}", self.round);
            if self.client.put(&path, &body(seed, size))?.status == 200 {
                self.kept.insert(path, (seed, size));
            }
        }
        Ok(())
    }

    fn audit(&self) -> Alive {
        for (path, (seed, size)) in &self.kept {
            let answer = self.client.get(path)?.expect(200);
            assert!(answer.body == body(*seed, *size), "{path} differs");
        }
        Ok(())
    }

    /// Waits until objects that were written while disks were missing are re-encoded: they tolerate
    /// fewer losses, and the next round may remove two of their disks.
    fn widen(&self) {
        let prefix = format!("/kept/{}-", self.round);
        let of_round = self
            .kept
            .iter()
            .filter(|(path, _)| path.starts_with(&prefix));
        for (path, (seed, size)) in of_round {
            let put = self.client.put(path, &body(*seed, *size));
            put.unwrap().expect(200);
        }
    }

    fn status(&self) -> io::Result<Option<Value>> {
        let answer = self.client.get("/_admin/v1/status")?;
        // Without a leader of the metadata, the answer is 503.
        let told = (answer.status == 200).then_some(answer.body);
        Ok(told.map(|told| serde_json::from_slice(&told).unwrap()))
    }

    fn post(&self, path: &str, what: &Value) -> io::Result<bool> {
        let path = format!("/_admin/v1/{path}");
        let told = self
            .client
            .send("POST", &path, &[], what.to_string().as_bytes())?;
        Ok(told.status == 200)
    }

    #[track_caller]
    fn until(&self, what: &str, mut so: impl FnMut(&Value, &UpkeepStore) -> bool) -> Alive {
        let begun = Instant::now();
        loop {
            let status = self.status()?;
            if status.as_ref().is_some_and(|status| so(status, self)) {
                return Ok(());
            }
            assert!(
                begun.elapsed() < server::PATIENCE,
                "still not: {what}: {:#}",
                status.unwrap_or_default()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Repeats the requests of before the crash, as far as they are still needed.
    #[track_caller]
    fn until_well(&self) -> Alive {
        self.until("all is well", |status, store| {
            for n in 1..=DISKS {
                let directory = store.disks.path(n);
                if status_of(status, &directory)["state"] != "up" {
                    // Refused until the loss is recorded.
                    let _ = store.post("disks/replace", &json!({ "old": directory }));
                }
            }
            if status["heal"]["paused"] == true {
                let _ = store.post("settings", &json!({ "heal_paused": false }));
            }
            is_well(status)
        })
    }

    /// After a crash: checks that everything is there and becomes whole.
    fn recover(&mut self, what: &str) {
        assert!(self.start(None), "{what}\n{}", self.log());
        if self.kept.is_empty() {
            self.client.put("/kept", b"").unwrap();
            self.write("first").unwrap();
            assert_eq!(self.kept.len(), SIZES.len(), "{what}");
        }
        self.audit().unwrap();
        self.until_well().unwrap();
        self.audit().unwrap();
        self.widen();
        let status = self.status().unwrap().unwrap_or_default();
        self.since = status_of(&status, &self.disks.path(3))["since_ms"].clone();
        self.kill();
        let mut fsck = command();
        fsck.args(["fsck", "--json"]).arg(self.disks.argument());
        let report = fsck.stdout(Stdio::piped()).output().unwrap();
        let report: Value = serde_json::from_slice(&report.stdout).unwrap();
        assert_eq!(report["verdict"], "whole", "{what}: {report:#}");
    }
}

impl Drop for UpkeepStore {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            println!("the server's log ends:\n{}", self.log());
        }
    }
}

/// Returns the status of the disk in this directory, or of the last one removed from it.
fn status_of<'a>(status: &'a Value, directory: &Path) -> &'a Value {
    let disks = status["disks"].as_array().unwrap();
    let of = disks
        .iter()
        .filter(|disk| disk["directory"].as_str() == directory.to_str());
    let of = of.max_by_key(|disk| (disk["state"] != "removed", disk["since_ms"].as_i64()));
    of.unwrap_or(&Value::Null)
}

fn is_well(status: &Value) -> bool {
    let up = status["disks"].as_array().unwrap().iter();
    up.filter(|disk| disk["state"] == "up").count() == DISKS
        && status["advice"].as_array().unwrap().is_empty()
        && status["heal"]["paused"] == false
        && status["heal"]["queueing"] == false
        && status["heal"]["queued_shards"] == 0
        && status["metadata_voters"] == DISKS
        && status["metadata_voters_alive"] == DISKS
}

/// Crashes at each place, in stores with disks of their own. Returns the places that were not
/// reached.
fn cut_at_each(places: &[Place], patience: Duration) -> Vec<Place> {
    thread::scope(|scope| {
        let threads = (0..STORES).map(|number| {
            scope.spawn(move || {
                let mut store = UpkeepStore::new(patience);
                let mut missed = Vec::new();
                for (work, at) in places.iter().skip(number).step_by(STORES) {
                    let begun = Instant::now();
                    if !store.cut(*work, *at) {
                        missed.push((*work, *at));
                    }
                    println!("store {number}: {work:?} at {at} in {:?}", begun.elapsed());
                }
                missed
            })
        });
        let threads: Vec<_> = threads.collect();
        let missed = threads.into_iter().map(|thread| thread.join().unwrap());
        missed.flatten().collect()
    })
}

#[test]
fn f_01_every_crash_point_of_upkeep_is_reached_and_upkeep_comes_to_its_end() {
    assert_eq!(cut_at_each(&places(), server::PATIENCE), []);
    if let Ok(most) = std::env::var(BATCHES_VARIABLE) {
        // The number of batches differs from work to work.
        let missed = cut_at_each(&batches(most.parse().unwrap()), BATCH_PATIENCE);
        println!("without so many batches: {missed:?}");
    }
}
