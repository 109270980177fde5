#![allow(clippy::unwrap_used)]

mod deleted;
mod scrub;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use md5::{Digest as _, Md5};

use super::*;
use crate::disk::identity::shard_folder;
use crate::engine::testing;
use crate::engine::{Engine, Options};
use crate::meta::view::DataKind;
use drystone_store::body::Body;
use drystone_store::env::{Env as _, SystemEnv};
use drystone_store::instance::Instance as _;
use drystone_store::objects::{Objects as _, ReadScope};
use drystone_store::operator::{HealStatus, Operator as _};
use drystone_store::shard_set::ShardSet;
use drystone_store::types::{BucketId, ByteRange, Digest, VersionSelector};

const PAUSE: Duration = Duration::from_millis(20);
/// The number of pauses after which a test stops waiting.
const PAUSES_MAX: u32 = 6000;
/// More than a write keeps in memory, so that a failed shard can't start again elsewhere.
const LARGE: usize = 6 << 20;

/// Gives its bytes in pieces; `at_half` is called when half of them are given.
struct Pieces<'a> {
    rest: Bytes,
    half: usize,
    at_half: Option<Box<dyn FnOnce() + Send + 'a>>,
}

#[async_trait::async_trait]
impl Body for Pieces<'_> {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.rest.len() <= self.half
            && let Some(at_half) = self.at_half.take()
        {
            at_half();
        }
        let piece = self.rest.split_to(self.rest.len().min(100_003));
        Ok(Some(piece).filter(|piece| !piece.is_empty()))
    }

    fn digest(&mut self) -> Digest {
        Digest {
            md5: Md5::digest(b"").into(),
            checksum: None,
            crc64nvme: None,
        }
    }

    fn size_hint(&self) -> Option<u64> {
        None
    }
}

fn bytes(len: usize) -> Bytes {
    let word = |i: usize| (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
    (0..len).map(|i| word(i) as u8).collect()
}

/// A store of class 2+2 on some disks.
struct Store {
    root: tempfile::TempDir,
    disks: usize,
    engine: Arc<Engine>,
    bucket: BucketId,
}

impl Store {
    async fn new(disks: usize) -> Store {
        let root = tempfile::tempdir().unwrap();
        let engine = Store::open(root.path(), disks).await;
        let bucket = testing::create_bucket(&engine).await;
        let store = Store {
            root,
            disks,
            engine,
            bucket,
        };
        // The first pass, of an empty store, is not to meet what follows.
        store.scrubbed().await;
        store
    }

    async fn close(self) -> Closed {
        self.engine.close().await;
        let Store {
            root,
            disks,
            bucket,
            ..
        } = self;
        Closed {
            root,
            disks,
            bucket,
        }
    }

    async fn open(root: &Path, disks: usize) -> Arc<Engine> {
        let directories = (0..disks).map(|n| root.join(format!("d{n}"))).collect();
        let mut options = Options::new(directories);
        options.classes.insert("STANDARD".into(), (2, 2));
        options.gc_every = PAUSE;
        // The tests say which disks are slow.
        options.look_every = Duration::from_secs(3600);
        for _ in 0..PAUSES_MAX {
            match Engine::open(options.clone()).await {
                Ok(engine) => return engine,
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
        panic!("the store does not open");
    }

    fn dir(&self, disk: usize) -> PathBuf {
        self.root.path().join(format!("d{disk}"))
    }

    async fn put(&self, key: &str, bytes: &Bytes) -> (WriteId, ShardSet) {
        self.put_watched(key, bytes, || {}).await
    }

    async fn put_watched(
        &self,
        key: &str,
        bytes: &Bytes,
        at_half: impl FnOnce() + Send,
    ) -> (WriteId, ShardSet) {
        let mut body = Pieces {
            rest: bytes.clone(),
            half: bytes.len() / 2,
            at_half: Some(Box::new(at_half)),
        };
        testing::put(&self.engine, self.bucket, key, &mut body).await;
        let handle = self.open_object(key).await;
        let write_id = handle.object().write_id;
        (write_id, self.set(write_id).await.unwrap())
    }

    async fn open_object(&self, key: &str) -> Box<dyn drystone_store::objects::ObjectHandle> {
        let latest = VersionSelector::Latest;
        let handle = self
            .engine
            .open_object(self.bucket, key, latest, ReadScope::Whole)
            .await;
        handle.unwrap()
    }

    async fn get(&self, key: &str) -> Vec<u8> {
        let handle = self.open_object(key).await;
        let end = handle.object().size;
        let reader = handle.read(ByteRange { start: 0, end }).await.unwrap();
        testing::rest(reader).await
    }

    async fn set(&self, write_id: WriteId) -> Option<ShardSet> {
        let data = self
            .engine
            .objects
            .group
            .read(move |view| view.data(write_id));
        match data.await.unwrap()?.kind {
            DataKind::Shards(set) => Some(set),
            other => panic!("{other:?}"),
        }
    }

    /// The files of a write's shard, of every generation and on every disk.
    fn files(&self, write_id: WriteId, rank: u8) -> Vec<PathBuf> {
        let folders = (0..self.disks).map(|disk| shard_folder(&self.dir(disk), write_id.0[0]));
        let entries = folders
            .filter_map(|folder| fs::read_dir(folder).ok())
            .flatten();
        let name = format!("{write_id}.{rank:02x}.");
        entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| {
                path.file_name()
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .starts_with(&name)
            })
            .collect()
    }

    async fn queue(&self, entries: Vec<ShardId>) {
        let change = Change::QueueHeal { entries };
        self.engine.objects.propose(change).await.unwrap();
        self.engine.workers.healer.wake_all();
    }

    async fn heal(&self) -> HealStatus {
        self.engine.status().await.unwrap().heal
    }

    async fn scrub(&self) -> drystone_store::operator::ScrubStatus {
        self.engine.status().await.unwrap().scrub
    }

    /// A whole pass.
    async fn scrub_through(&self) -> drystone_store::operator::ScrubStatus {
        self.engine.begin_scrub().await.unwrap();
        self.scrubbed().await
    }

    /// The pass that is under way, or the last.
    async fn scrubbed(&self) -> drystone_store::operator::ScrubStatus {
        for _ in 0..PAUSES_MAX {
            let scrub = self.scrub().await;
            if scrub.finished_ms.is_some() {
                return scrub;
            }
            tokio::time::sleep(PAUSE).await;
        }
        panic!("scrub does not end: {:?}", self.scrub().await);
    }

    async fn until(&self, so: impl Fn(&HealStatus) -> bool) -> HealStatus {
        for _ in 0..PAUSES_MAX {
            let heal = self.heal().await;
            if so(&heal) {
                return heal;
            }
            tokio::time::sleep(PAUSE).await;
        }
        panic!("it never came to be so: {:?}", self.heal().await);
    }

    async fn until_files(&self, write_id: WriteId, rank: u8, count: usize) {
        for _ in 0..PAUSES_MAX {
            if self.files(write_id, rank).len() == count {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
        panic!("{:?}", self.files(write_id, rank));
    }
}

/// A store that is not open.
struct Closed {
    root: tempfile::TempDir,
    disks: usize,
    bucket: BucketId,
}

impl Closed {
    fn dir(&self, disk: usize) -> PathBuf {
        self.root.path().join(format!("d{disk}"))
    }

    async fn open(self) -> Store {
        let engine = Store::open(self.root.path(), self.disks).await;
        Store {
            root: self.root,
            disks: self.disks,
            engine,
            bucket: self.bucket,
        }
    }
}

fn flip(path: &Path, at: impl Fn(usize) -> usize) {
    let mut file = fs::read(path).unwrap();
    let at = at(file.len());
    file[at] ^= 0x10;
    fs::write(path, file).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b_14_f_04_rot_in_any_place_is_found_and_rebuilt_under_a_new_name() {
    let store = Store::new(4).await;
    let object = bytes(700_001);
    type Place = fn(usize) -> usize;
    // A block, a block's checksum, the header and the footer.
    let places: [(u8, Place); 4] = [
        (0, |len| len / 2),
        (1, |_| 66),
        (2, |_| 20),
        (3, |len| len - 20),
    ];
    let (write_id, _) = store.put("k", &object).await;
    for (n, (rank, place)) in places.into_iter().enumerate() {
        let [file] = &store.files(write_id, rank)[..] else {
            panic!("one file for one shard");
        };
        flip(file, place);
        store.queue(vec![ShardId { write_id, rank }]).await;
        let healed = store.until(|heal| heal.healed_shards == n as u64 + 1).await;
        assert_eq!((healed.failures, healed.queued_shards), (0, 0));
        store.until_files(write_id, rank, 1).await;
        let [new] = &store.files(write_id, rank)[..] else {
            panic!("one file for one shard");
        };
        // Every disk has one: it stays where it was, and is another file.
        assert_eq!(new.parent(), file.parent());
        assert!(new.extension().unwrap() != "0" && file.extension().unwrap() == "0");
    }
    // All four are whole: any two may go.
    for rank in [0, 3] {
        fs::remove_file(&store.files(write_id, rank)[0]).unwrap();
    }
    assert!(store.get("k").await == object);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b_15_damage_that_a_reader_meets_is_classified_and_healed_elsewhere() {
    let store = Store::new(6).await;
    let object = bytes(300_000);
    let (write_id, set) = store.put("k", &object).await;
    let files: Vec<PathBuf> = (0..2)
        .map(|rank| store.files(write_id, rank)[0].clone())
        .collect();
    // One is missing on a disk that is surely itself, the other is cut short.
    fs::remove_file(&files[0]).unwrap();
    fs::write(&files[1], b"short").unwrap();
    assert!(store.get("k").await == object);
    store
        .until(|heal| heal.healed_shards == 2 && heal.queued_shards == 0)
        .await;
    let healed = store.set(write_id).await.unwrap();
    for rank in 0..2 {
        let (old, new) = (&set.shards[rank], &healed.shards[rank]);
        assert!(old.disk != new.disk && new.generation > 0 && !new.missing);
    }
    let disks: std::collections::BTreeSet<_> = healed.shards.iter().map(|p| p.disk).collect();
    assert_eq!(disks.len(), 4, "never two of one write on one disk");
    store.until_files(write_id, 1, 1).await;
    assert!(store.get("k").await == object);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b_25_r_23_a_shard_that_a_write_left_out_is_made_when_there_is_a_disk_for_it() {
    let store = Store::new(5).await;
    let object = bytes(LARGE);
    // Which disk is left out of five is known once it is under way: fail one that has a shard.
    let disks = store.engine.shards.disks();
    let folders: Vec<PathBuf> = (0..5).map(|disk| store.dir(disk)).collect();
    let has_any = |folder: &PathBuf| {
        (0..=255).any(|first| {
            let mut files = fs::read_dir(shard_folder(folder, first)).unwrap();
            files.next().is_some()
        })
    };
    let (write_id, set) = store
        .put_watched("k", &object, || {
            let n = folders.iter().position(has_any).unwrap();
            disks[n].fail("as a test");
        })
        .await;
    assert_eq!(set.shards.iter().filter(|place| place.missing).count(), 1);
    store
        .until(|heal| heal.healed_shards == 1 && heal.queued_shards == 0)
        .await;
    let healed = store.set(write_id).await.unwrap();
    assert!(healed.shards.iter().all(|place| !place.missing));
    assert!(store.get("k").await == object);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b_16_b_17_shards_on_an_offline_disk_wait_and_nothing_is_touched() {
    let store = Store::new(5).await;
    let object = bytes(200_000);
    let (write_id, set) = store.put("k", &object).await;
    let store = store.close().await;
    let disk = set.shards[1].disk;
    let away = (0..5)
        .find(|n| {
            let file = format!("{write_id}.01.0");
            shard_folder(&store.dir(*n), write_id.0[0])
                .join(file)
                .exists()
        })
        .unwrap();
    fs::rename(store.dir(away), store.root.path().join("away")).unwrap();
    let store = store.open().await;
    assert!(store.get("k").await == object);
    let entry = ShardId { write_id, rank: 1 };
    store.queue(vec![entry]).await;
    let heal = store.until(|heal| heal.waiting_shards == 1).await;
    assert_eq!(
        (heal.queued_shards, heal.healed_shards, heal.failures),
        (1, 0, 0)
    );
    assert_eq!(store.set(write_id).await.unwrap(), set);
    // Its end by another's word, and not before: now it is missing.
    store.engine.shards.remove_disk(disk);
    let change = Change::RemoveDisk { disk };
    store.engine.objects.propose(change).await.unwrap();
    store.engine.workers.healer.wake_all();
    store
        .until(|heal| heal.healed_shards == 1 && heal.queued_shards == 0)
        .await;
    let healed = store.set(write_id).await.unwrap();
    assert!(healed.shards[1].disk != disk);
    assert!(store.get("k").await == object);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_12_too_few_good_shards_stay_queued_and_are_reported_as_lost() {
    let store = Store::new(4).await;
    let object = bytes(100_000);
    let (write_id, set) = store.put("k", &object).await;
    let kept: Vec<_> = (0..3)
        .map(|rank| store.files(write_id, rank)[0].clone())
        .collect();
    let good: Vec<_> = kept.iter().map(|file| fs::read(file).unwrap()).collect();
    kept.iter().for_each(|file| fs::remove_file(file).unwrap());
    let entries = (0..3).map(|rank| ShardId { write_id, rank });
    store.queue(entries.collect()).await;
    let heal = store.until(|heal| heal.lost_shards == 3).await;
    assert_eq!((heal.queued_shards, heal.healed_shards), (3, 0));
    assert_eq!(store.set(write_id).await.unwrap(), set);
    assert_eq!(
        store.files(write_id, 3).len(),
        1,
        "what is left is left alone"
    );
    // One comes back: enough to make the others.
    fs::write(&kept[1], &good[1]).unwrap();
    store.engine.workers.healer.wake_all();
    let heal = store
        .until(|heal| heal.queued_shards == 0 && heal.lost_shards == 0)
        .await;
    assert_eq!(heal.healed_shards, 2);
    assert!(store.get("k").await == object);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_24_heal_beside_overwrites_and_deletes_leaves_nothing_behind() {
    let store = Store::new(6).await;
    let object = bytes(60_000);
    for round in 0..12 {
        let (write_id, _) = store.put("k", &object).await;
        let file = &store.files(write_id, 0)[0];
        flip(file, |len| len / 2);
        store.queue(vec![ShardId { write_id, rank: 0 }]).await;
        // Somewhere within the heal the bytes lose their name.
        tokio::time::sleep(Duration::from_millis(round)).await;
        if round % 3 == 0 {
            let key = drystone_store::objects::DeleteObject {
                key: "k".into(),
                version: VersionSelector::Latest,
                condition: Default::default(),
            };
            store.engine.delete_object(store.bucket, key).await.unwrap();
        }
    }
    let (write_id, _) = store.put("k", &object).await;
    store.until(|heal| heal.queued_shards == 0).await;
    let files = || -> usize {
        let folders = (0..6).flat_map(|disk| (0..=255).map(move |first| (disk, first)));
        let folders = folders.map(|(disk, first)| shard_folder(&store.dir(disk), first));
        folders
            .map(|folder| fs::read_dir(folder).unwrap().count())
            .sum()
    };
    for _ in 0..PAUSES_MAX {
        if files() == 4 {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    assert_eq!(files(), 4, "of the last write, and no other");
    for rank in 0..4 {
        assert_eq!(store.files(write_id, rank).len(), 1);
    }
    assert!(store.get("k").await == object);
    store.close().await;
}

/// Found by reading: gc, about to remove by its name what a try that failed had left on the list,
/// could have met the shard that the next try had made under the same name, and was named by then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b_19_a_try_after_one_that_failed_makes_its_shard_under_another_name() {
    let store = Store::new(4).await;
    let (write_id, set) = store.put("k", &bytes(100_000)).await;
    let shard = ShardRef {
        write_id,
        bucket: store.bucket,
        size: 100_000,
        set: &set,
        rank: 2,
    };
    let (shards, epoch) = (&store.engine.shards, store.engine.objects.epochs.begin());
    let pace = Pace::new(Arc::new(SystemEnv), 0, false);
    let first = shards.rebuild(shard, epoch.epoch(), &pace).await.unwrap();
    shards.remove(write_id, [(2, first.at)]).await;
    let second = shards.rebuild(shard, epoch.epoch(), &pace).await.unwrap();
    assert_eq!(first.at.disk, second.at.disk);
    assert_ne!(first.at.generation, second.at.generation);
    drop(epoch);
    // Nothing names the one or the other.
    store.until_files(write_id, 2, 1).await;
    assert_eq!(store.set(write_id).await.unwrap(), set);
    store.close().await;
}

/// Found by reading: the healer went round without a pause as soon as a shard that it had failed
/// on had left the queue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_failed_and_left_the_queue_is_forgotten() {
    let store = Store::new(4).await;
    let (write_id, _) = store.put("k", &bytes(100_000)).await;
    for rank in 0..3 {
        fs::remove_file(&store.files(write_id, rank)[0]).unwrap();
    }
    store.queue(vec![ShardId { write_id, rank: 0 }]).await;
    store.until(|heal| heal.lost_shards > 0).await;
    let key = drystone_store::objects::DeleteObject {
        key: "k".into(),
        version: VersionSelector::Latest,
        condition: Default::default(),
    };
    store.engine.delete_object(store.bucket, key).await.unwrap();
    let begun = SystemEnv.instant();
    while !store.engine.workers.healer.retries.is_empty() {
        assert!(
            begun.elapsed() < PAUSES_MAX * PAUSE,
            "it is never forgotten"
        );
        tokio::time::sleep(PAUSE).await;
    }
    store.close().await;
}

/// Found by reading: a shard that found no disk, as one was passed over for half a minute, waited
/// for the next start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_finds_no_disk_is_tried_again() {
    let store = Store::new(4).await;
    let (write_id, set) = store.put("k", &bytes(100_000)).await;
    // The only disk for the shard is passed over.
    store.engine.shards.set_slow(&[set.shards[0].disk].into());
    fs::remove_file(&store.files(write_id, 0)[0]).unwrap();
    store.queue(vec![ShardId { write_id, rank: 0 }]).await;
    let healer = &store.engine.workers.healer;
    let begun = SystemEnv.instant();
    while healer.summary().no_disk == 0 {
        assert!(begun.elapsed() < PAUSES_MAX * PAUSE, "it found one");
        tokio::time::sleep(PAUSE).await;
    }
    let left = healer.summary();
    assert!(
        healer
            .retries
            .next_due(SystemEnv.instant(), left.no_disk > 0)
            .is_some()
    );
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heal_waits_while_it_is_paused() {
    let store = Store::new(4).await;
    let (write_id, set) = store.put("k", &bytes(100_000)).await;
    store.engine.workers.healer.set_pace(0, true);
    fs::remove_file(&store.files(write_id, 0)[0]).unwrap();
    store.queue(vec![ShardId { write_id, rank: 0 }]).await;
    let heal = store.heal().await;
    assert!(heal.paused && heal.queued_shards == 1);
    tokio::time::sleep(5 * PAUSE).await;
    assert_eq!(store.set(write_id).await.unwrap(), set);
    store.engine.workers.healer.set_pace(0, false);
    store.until(|heal| heal.healed_shards == 1).await;
    store.close().await;
}
