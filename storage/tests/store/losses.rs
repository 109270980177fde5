//! Loses disks while writers write, crashes stores, and brings disks back: everything acknowledged
//! is there, byte by byte.
//!
//! Ending the runtime it lives in crashes a store: nothing of it is closed or flushed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use drystone_storage::engine::{Engine, OpenError, Options};
use drystone_store::ObjectStore;
use drystone_store::body::Body;
use drystone_store::buckets::Buckets as _;
use drystone_store::error::{Error, Result};
use drystone_store::instance::Instance as _;
use drystone_store::listings::ListObjects;
use drystone_store::objects::{Objects as _, ReadScope};
use drystone_store::types::{BucketId, Digest, VersionSelector};
use tokio::runtime::Runtime;

use crate::body::{TestBody, get, pattern, put, read_all, request};
use crate::buckets::create;
use crate::objects::delete;
use crate::patience::{PATIENCE, until};
use crate::versions::all_objects;

const WHOLE: ReadScope = ReadScope::Whole;
const LATEST: VersionSelector = VersionSelector::Latest;
pub const BUCKET: &str = "stones";
const DISKS: usize = 4;
const WRITERS: usize = 16;
const BEGIN_TRIES: usize = 200;
const LISTINGS: usize = 40;
const RECOVER_AFTER: Duration = Duration::from_millis(200);
/// One of this many writes is too large to lie in the metadata.
const LARGE_EVERY: u64 = 25;

/// One life of a store: from its opening until it crashes or is closed.
pub struct Life {
    pub runtime: Runtime,
    pub engine: Arc<Engine>,
}

pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

impl Life {
    /// Opens the store with all disks that are there. The disks of a crashed life are released a
    /// little later than its end; a process would release them when it ends.
    pub fn begin(directories: &[PathBuf]) -> Life {
        Life::begin_with(directories, Duration::from_secs(600))
    }

    pub fn begin_with(directories: &[PathBuf], gc_every: Duration) -> Life {
        let there = directories.iter().filter(|dir| has_content(dir)).count();
        Life::begin_when(directories, gc_every, there)
    }

    /// Opens the store as `begin` does, while `refused` of the disks that are there are not usable.
    pub fn begin_refusing(directories: &[PathBuf], refused: usize) -> Life {
        let there = directories.iter().filter(|dir| has_content(dir)).count();
        Life::begin_when(directories, Duration::from_secs(600), there - refused)
    }

    fn begin_when(directories: &[PathBuf], gc_every: Duration, there: usize) -> Life {
        for _ in 0..BEGIN_TRIES {
            let runtime = runtime();
            let options = Options {
                gc_every,
                recover_after: RECOVER_AFTER,
                ..Options::new(directories.to_vec())
            };
            let opened = runtime.block_on(Engine::open(options));
            if let Ok(engine) = opened {
                let online = runtime.block_on(engine.health()).disks_online;
                let life = Life { runtime, engine };
                if there == 0 || online == there {
                    return life;
                }
                life.cut();
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        panic!("the store does not open with {there} disks");
    }

    /// Crashes the store as a kill would: nothing is closed.
    pub fn cut(self) {
        drop(self.engine);
        self.runtime.shutdown_timeout(PATIENCE);
    }

    pub fn close(self) {
        self.runtime.block_on(self.engine.close());
        self.cut();
    }

    pub fn bucket(&self) -> BucketId {
        let found = self.runtime.block_on(self.engine.bucket(BUCKET));
        found.unwrap().id
    }
}

fn has_content(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some())
}

fn directories(root: &Path) -> Vec<PathBuf> {
    (1..=DISKS).map(|n| root.join(format!("disk{n}"))).collect()
}

pub fn empty(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        // The store may still be creating files in it.
        while path.exists() {
            match path.is_dir() {
                true => fs::remove_dir_all(&path).ok(),
                false => fs::remove_file(&path).ok(),
            };
        }
    }
}

/// A refusal that comes before this has no reason; only a store on a machine that is too slow to
/// recover in time reaches its deadline.
const DEADLINE_MIN: Duration = Duration::from_secs(5);

async fn answered<T>(ask: impl AsyncFn() -> Result<T>) -> T {
    loop {
        let begun = Instant::now();
        match ask().await {
            Err(Error::Unavailable(_)) if begun.elapsed() > DEADLINE_MIN => {}
            answer => return answer.unwrap(),
        }
    }
}

/// The writes of each key: the number of those acknowledged, and of those tried.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<BTreeMap<String, (u64, u64)>>>);

fn content(key: &str, turn: u64) -> Vec<u8> {
    let len = match turn % LARGE_EVERY {
        0 => 40_000 + (turn as usize % 7) * 30_011,
        _ => 7_000 + turn as usize % 1000,
    };
    let mut bytes = turn.to_be_bytes().to_vec();
    let seed = key.bytes().fold(turn, |seed, byte| {
        seed.wrapping_mul(31).wrapping_add(u64::from(byte))
    });
    bytes.extend_from_slice(&pattern(seed, len));
    bytes
}

impl Ledger {
    /// Makes the next write of `key`; returns false when it was not acknowledged.
    pub async fn write(&self, store: &dyn ObjectStore, bucket: BucketId, key: &str) -> bool {
        let turn = {
            let mut keys = self.0.lock().unwrap();
            let (_, tried) = keys.entry(key.to_owned()).or_default();
            *tried += 1;
            *tried
        };
        let mut body = TestBody::new(content(key, turn));
        let answer = store.put_object(bucket, request(key), &mut body).await;
        match answer {
            Ok(_) => self.0.lock().unwrap().get_mut(key).unwrap().0 = turn,
            Err(Error::Unavailable(_) | Error::Closing) => return false,
            Err(other) => panic!("{key}: {other}"),
        }
        true
    }

    /// Checks that each key has the write that was acknowledged last, or one that was tried after
    /// it.
    async fn check(&self, store: &dyn ObjectStore, bucket: BucketId) {
        let keys = self.0.lock().unwrap().clone();
        let mut listed = Vec::new();
        loop {
            let page = ListObjects {
                prefix: String::new(),
                delimiter: String::new(),
                after: listed.last().cloned().unwrap_or_default(),
                max: 1000,
            };
            let page = answered(async || store.list_objects(bucket, page.clone()).await).await;
            listed.extend(page.objects.into_iter().map(|object| object.key));
            if page.next.is_none() {
                break;
            }
        }
        for (key, (acknowledged, tried)) in keys {
            if acknowledged == 0 && !listed.contains(&key) {
                continue;
            }
            let opened =
                answered(async || store.open_object(bucket, &key, LATEST, WHOLE).await).await;
            let bytes = read_all(&*opened).await;
            let turn = u64::from_be_bytes(bytes[..8].try_into().unwrap());
            assert!(
                (acknowledged..=tried).contains(&turn),
                "{key}: {turn} instead of {acknowledged}..={tried}"
            );
            assert!(bytes == content(&key, turn), "{key} differs");
            assert!(listed.contains(&key), "{key} is not listed");
        }
    }
}

/// Writers, each with some keys of its own, that write until `stop` or until each has done `turns`.
pub struct Writers {
    pub stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Writers {
    pub fn start(life: &Life, ledger: &Ledger, round: &str, turns: usize) -> Writers {
        let bucket = life.bucket();
        let stop = Arc::new(AtomicBool::new(false));
        let (acknowledged, refused) = (Arc::<AtomicUsize>::default(), Arc::default());
        let tasks = (0..WRITERS).map(|writer| {
            let (engine, ledger) = (life.engine.clone(), ledger.clone());
            let (stop, acknowledged, refused): (_, _, Arc<AtomicUsize>) =
                (stop.clone(), acknowledged.clone(), Arc::clone(&refused));
            let round = round.to_owned();
            life.runtime.spawn(async move {
                for turn in 0..turns {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let key = format!("{round}/{writer}/{}", turn % 9);
                    let count = match ledger.write(&*engine, bucket, &key).await {
                        true => &acknowledged,
                        false => &refused,
                    };
                    count.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        Writers {
            tasks: tasks.collect(),
            stop,
            acknowledged,
            refused,
        }
    }

    /// Waits until `writes` more are acknowledged, however fast that is.
    pub fn go_on(&self, writes: usize) {
        let done = || self.acknowledged.load(Ordering::Relaxed);
        let goal = done() + writes;
        until(|| done() >= goal);
    }

    /// Ends like `end`, before the writers have done all their turns.
    pub fn stop(self, life: &Life) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.end(life)
    }

    /// Waits for the writers and returns the number of writes that were not acknowledged.
    pub fn end(self, life: &Life) -> usize {
        life.runtime.block_on(async {
            for task in self.tasks {
                task.await.unwrap();
            }
        });
        self.refused.load(Ordering::Relaxed)
    }
}

pub fn newborn(root: &Path) -> (Life, Vec<PathBuf>) {
    let directories = directories(root);
    let life = Life::begin(&directories);
    life.runtime.block_on(create(&*life.engine, BUCKET));
    (life, directories)
}

pub fn check(life: &Life, ledger: &Ledger) {
    let bucket = life.bucket();
    life.runtime.block_on(ledger.check(&*life.engine, bucket));
}

/// Waits until the store has noticed how many of its disks are online.
pub fn until_online(life: &Life, disks: usize) {
    until(|| life.runtime.block_on(life.engine.health()).disks_online == disks);
}

fn emptied_under_load(disk: usize) {
    let root = tempfile::tempdir().unwrap();
    let (life, directories) = newborn(root.path());
    let ledger = Ledger::default();
    let writers = Writers::start(&life, &ledger, "running", usize::MAX);
    writers.go_on(1000);
    empty(&directories[disk]);
    // Enough writes to fill memtables and switch logs after the loss.
    writers.go_on(2500);
    until_online(&life, DISKS - 1);
    let refused = writers.stop(&life);
    assert!(refused <= WRITERS, "{refused} writes were not acknowledged");
    check(&life, &ledger);
    let health = life.runtime.block_on(life.engine.health());
    assert_eq!((health.disks_online, health.can_write), (DISKS - 1, true));
    assert_eq!(fs::read_dir(&directories[disk]).unwrap().count(), 0);
    life.cut();

    let life = Life::begin(&directories);
    check(&life, &ledger);
    assert_eq!(Writers::start(&life, &ledger, "again", 5).end(&life), 0);
    check(&life, &ledger);
    life.close();
}

#[test]
fn f_14_the_first_disk_is_emptied_under_load() {
    emptied_under_load(0);
}

#[test]
fn f_14_the_last_disk_is_emptied_under_load() {
    emptied_under_load(3);
}

/// The disk returns with a replica whose log the others have already dropped, and it must count as
/// a voter.
#[test]
fn f_14_a_disk_that_was_offline_returns() {
    let root = tempfile::tempdir().unwrap();
    let (life, directories) = newborn(root.path());
    let ledger = Ledger::default();
    Writers::start(&life, &ledger, "first", 10).end(&life);
    life.close();

    let away = root.path().join("away");
    fs::rename(&directories[1], &away).unwrap();
    let life = Life::begin(&directories);
    check(&life, &ledger);
    // More writes than the logs keep: entries are dropped from where the disk's log ends.
    assert_eq!(Writers::start(&life, &ledger, "first", 300).end(&life), 0);
    life.close();

    fs::rename(&away, &directories[1]).unwrap();
    let life = Life::begin(&directories);
    check(&life, &ledger);
    assert_eq!(Writers::start(&life, &ledger, "third", 5).end(&life), 0);
    // Without another disk, every majority includes the one that returned.
    empty(&directories[0]);
    Writers::start(&life, &ledger, "first", 10).end(&life);
    until_online(&life, DISKS - 1);
    assert_eq!(Writers::start(&life, &ledger, "last", 5).end(&life), 0);
    check(&life, &ledger);
    life.cut();
    let life = Life::begin(&directories);
    check(&life, &ledger);
    life.close();
}

/// Listings of another store showed the state of whichever disk happened to answer.
#[test]
fn b_35_listings_are_alike_while_a_disk_is_stale() {
    let root = tempfile::tempdir().unwrap();
    let (life, directories) = newborn(root.path());
    let bucket = life.bucket();
    let each = async |life: &Life, keys: &[&str], removed: bool| {
        let store = &*life.engine;
        for key in keys {
            match removed {
                true => drop(
                    store
                        .delete_object(bucket, delete(key, LATEST))
                        .await
                        .unwrap(),
                ),
                false => drop(put(store, bucket, key, "x").await),
            }
        }
    };
    let old = ["a", "b/1", "b/2", "c", "d"];
    life.runtime.block_on(each(&life, &old, false));
    life.close();

    let away = root.path().join("away");
    fs::rename(&directories[1], &away).unwrap();
    let life = Life::begin(&directories);
    life.runtime.block_on(each(&life, &["a", "b/2", "d"], true));
    life.runtime.block_on(each(&life, &["b/3", "e"], false));
    life.close();

    fs::rename(&away, &directories[1]).unwrap();
    let life = Life::begin(&directories);
    for _ in 0..LISTINGS {
        let listed = life.runtime.block_on(all_objects(&*life.engine, bucket));
        assert_eq!(listed, ["b/1", "b/3", "c", "e"]);
    }
    life.close();
}

#[test]
fn f_01_every_acknowledged_write_survives_crash_after_crash() {
    let root = tempfile::tempdir().unwrap();
    let (mut life, directories) = newborn(root.path());
    let ledger = Ledger::default();
    for round in 0..6 {
        let writers = Writers::start(&life, &ledger, "cut", usize::MAX);
        std::thread::sleep(Duration::from_millis(400 + 171 * round));
        if round % 2 == 0 {
            writers.stop.store(true, Ordering::Relaxed);
        }
        life.cut();
        life = Life::begin(&directories);
        check(&life, &ledger);
    }
    life.close();
}

#[test]
fn s_90_a_start_without_a_majority_says_so_and_harms_nothing() {
    let root = tempfile::tempdir().unwrap();
    let (life, directories) = newborn(root.path());
    let ledger = Ledger::default();
    Writers::start(&life, &ledger, "all", 5).end(&life);
    life.cut();

    for disk in [0, 1, 2] {
        fs::rename(&directories[disk], root.path().join(disk.to_string())).unwrap();
    }
    let refusing = runtime();
    let refused = refusing.block_on(Engine::open(Options::new(directories.clone())));
    match refused {
        Err(OpenError::NoMajority {
            up: 1, given: 4, ..
        }) => {}
        other => panic!("{:?}", other.map(drop)),
    }
    refusing.shutdown_timeout(PATIENCE);
    assert!(
        !directories[1].exists(),
        "nothing is made where a disk is missing"
    );

    for disk in [0, 1, 2] {
        fs::rename(root.path().join(disk.to_string()), &directories[disk]).unwrap();
    }
    let life = Life::begin(&directories);
    check(&life, &ledger);
    life.close();
}

/// Returns the number of files in a disk's folders of shards.
pub fn shard_files(directories: &[PathBuf]) -> usize {
    let folders = directories
        .iter()
        .flat_map(|dir| fs::read_dir(dir.join("shards")).unwrap());
    folders
        .map(|folder| fs::read_dir(folder.unwrap().path()).unwrap().count())
        .sum()
}

/// A body so slow that epochs pass while it is written.
struct SlowBody(TestBody);

#[async_trait::async_trait]
impl Body for SlowBody {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        tokio::time::sleep(5 * GC_EVERY).await;
        self.0.next().await
    }

    fn digest(&mut self) -> Digest {
        self.0.digest()
    }

    fn size_hint(&self) -> Option<u64> {
        None
    }
}

const GC_EVERY: Duration = Duration::from_millis(20);

/// Writes, links, reads slowly, deletes and aborts, while gc removes everything it may.
async fn one_of_each(engine: &Engine, bucket: BucketId, name: &str, turn: u64) {
    let (key, linked) = (format!("{name}/k"), format!("{name}/linked"));
    let bytes = pattern(turn, 50_000 + (turn as usize % 5) * 70_001);
    put(engine, bucket, &key, bytes.clone()).await;
    let handle = engine
        .open_object(bucket, &key, LATEST, WHOLE)
        .await
        .unwrap();
    let link = engine.link_object(bucket, &*handle, request(&linked)).await;
    link.unwrap();
    // The bytes lose their first name, and then all references but the open handle.
    let mut slow = SlowBody(TestBody::new(pattern(turn + 1, 150_000)));
    let written = engine.put_object(bucket, request(&key), &mut slow).await;
    written.unwrap();
    tokio::time::sleep(3 * GC_EVERY).await;
    assert!(get(engine, bucket, &linked).await == bytes);
    engine
        .delete_object(bucket, delete(&linked, LATEST))
        .await
        .unwrap();
    tokio::time::sleep(3 * GC_EVERY).await;
    assert!(read_all(&*handle).await == bytes);
    drop(handle);
    let mut broken = TestBody::new(bytes).interrupted();
    let refused = engine.put_object(bucket, request(&key), &mut broken).await;
    assert!(matches!(refused, Err(Error::Body(_))));
    // The caller of this one is dropped.
    let mut late = SlowBody(TestBody::new(pattern(turn + 2, 150_000)));
    let gone = engine.put_object(bucket, request(&linked), &mut late);
    tokio::time::timeout(7 * GC_EVERY, gone).await.ok();
    assert!(get(engine, bucket, &key).await == pattern(turn + 1, 150_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b_19_b_20_gc_removes_all_that_nothing_references_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let directories = directories(root.path());
    let options = Options {
        gc_every: GC_EVERY,
        ..Options::new(directories.clone())
    };
    let engine = Engine::open(options).await.unwrap();
    let bucket = create(&*engine, BUCKET).await;
    let kept = pattern(7, 100_000);
    put(&*engine, bucket, "kept", kept.clone()).await;
    let writers = (0..6u64).map(|writer| {
        let engine = engine.clone();
        tokio::spawn(async move {
            for turn in 0..6 {
                let name = format!("{writer}");
                one_of_each(&engine, bucket, &name, writer * 100 + turn).await;
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    for writer in 0..6 {
        for key in ["k", "linked"] {
            let key = delete(&format!("{writer}/{key}"), LATEST);
            engine.delete_object(bucket, key).await.unwrap();
        }
    }
    let emptied = async {
        while shard_files(&directories) > DISKS {
            tokio::time::sleep(GC_EVERY).await;
        }
    };
    let emptied = tokio::time::timeout(PATIENCE, emptied).await;
    assert!(
        emptied.is_ok(),
        "{} shards are left",
        shard_files(&directories)
    );
    assert!(get(&*engine, bucket, "kept").await == kept);
    assert_eq!(shard_files(&directories), DISKS);
    engine.close().await;
}

#[test]
fn b_17_the_garbage_of_a_disk_that_was_offline_is_removed_when_it_is_back() {
    let root = tempfile::tempdir().unwrap();
    let (life, directories) = newborn(root.path());
    let bucket = life.bucket();
    let bytes = pattern(3, 200_000);
    for key in ["gone", "kept"] {
        life.runtime
            .block_on(put(&*life.engine, bucket, key, bytes.clone()));
    }
    life.close();

    let away = root.path().join("away");
    fs::rename(&directories[3], &away).unwrap();
    let life = Life::begin_with(&directories, GC_EVERY);
    let deleted = life.engine.delete_object(bucket, delete("gone", LATEST));
    life.runtime.block_on(deleted).unwrap();
    until(|| shard_files(&directories[..3]) == 3);
    assert_eq!(shard_files(std::slice::from_ref(&away)), 2);
    life.close();

    fs::rename(&away, &directories[3]).unwrap();
    let life = Life::begin_with(&directories, GC_EVERY);
    until(|| shard_files(&directories[3..]) == 1);
    let read = life.runtime.block_on(get(&*life.engine, bucket, "kept"));
    assert!(read == bytes);
    life.close();
}
