//! Disks that hang: no request waits for one for long, and nothing waits for one forever.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::testing::{PATIENCE, Whole, check, create_bucket, is_whole, until, write};
use super::{Engine, Options};
use crate::db::testing::Gate;
use crate::disk::DiskState;
use crate::meta::command::Change;
use crate::raft::group::Group;
use crate::shards::DEADLINE;
use crate::workers::watchdog::Watchdog;
use drystone_store::error::Error;
use drystone_store::instance::Instance as _;
use drystone_store::objects::{DeleteObject, ETagCondition, Objects as _, WriteCondition};
use drystone_store::operator::Operator as _;
use drystone_store::types::{BucketId, DiskId, VersionSelector};

fn options(root: &Path) -> Options {
    let directories = (0..4).map(|n| root.join(n.to_string())).collect();
    Options {
        renew_after: Duration::from_millis(100),
        look_every: Duration::from_millis(100),
        ..Options::new(directories)
    }
}

/// A disk of an engine that can be made to hang.
struct HungDisk {
    id: DiskId,
    gate: Arc<Gate>,
}

impl HungDisk {
    fn new(engine: &Engine, id: DiskId) -> HungDisk {
        let handles = engine.disks.handles();
        let handle = handles.iter().find(|handle| handle.id() == id).unwrap();
        let gate = handle.db.as_ref().unwrap().gate().clone();
        gate.set_shut(true);
        HungDisk { id, gate }
    }

    fn has_failed(&self, engine: &Engine) -> bool {
        let disks = engine.shards.disks();
        let disk = disks.iter().find(|disk| disk.id() == self.id);
        disk.is_some_and(|disk| matches!(*disk.state().borrow(), DiskState::Failed(_)))
    }
}

impl Drop for HungDisk {
    fn drop(&mut self) {
        self.gate.set_shut(false);
    }
}

fn leader(group: &Group) -> Option<DiskId> {
    group.status().leader
}

/// Writes objects and reads them back, all acknowledged.
async fn use_store(engine: &Engine, bucket: BucketId, numbers: std::ops::Range<usize>) {
    write(engine, bucket, numbers.clone()).await;
    check(engine, bucket, numbers).await;
}

/// The disk with the leader of the objects' group, and then one without.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b_52_r_21_a_disk_that_hangs_stops_no_request_and_returns_when_it_answers() {
    let root = tempfile::tempdir().unwrap();
    let engine = Engine::open(options(root.path())).await.unwrap();
    let bucket = create_bucket(&engine).await;
    use_store(&engine, bucket, 0..8).await;
    let mut written = 8;
    for leads in [true, false] {
        let leader_disk = leader(&engine.objects.group).unwrap();
        let disks = engine.shards.disks();
        let mut ids = disks.iter().map(|disk| disk.id());
        let id = ids.find(|id| (*id == leader_disk) == leads).unwrap();
        drop(disks);
        let hung = HungDisk::new(&engine, id);
        let used = use_store(&engine, bucket, written..written + 8);
        timeout(PATIENCE, used).await.expect("a request hangs");
        written += 8;
        for group in [&engine.system.group, &engine.objects.group] {
            until(&engine, async || {
                leader(group).is_some_and(|leader| leader != id)
            })
            .await;
        }
        timeout(PATIENCE, engine.status()).await.unwrap().unwrap();
        until(&engine, async || hung.has_failed(&engine)).await;
        timeout(PATIENCE, check(&engine, bucket, 0..written))
            .await
            .expect("a read hangs");
        drop(hung);
        until(&engine, async || is_whole(&engine).await).await;
    }
    check(&engine, bucket, 0..written).await;
    engine.close().await;
}

/// Nothing looks at the disks here: a read does not need to know that one hangs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_17_a_shard_that_does_not_come_soon_is_read_elsewhere() {
    let root = tempfile::tempdir().unwrap();
    let options = Options {
        look_every: Duration::from_secs(3600),
        ..options(root.path())
    };
    let engine = Engine::open(options).await.unwrap();
    let bucket = create_bucket(&engine).await;
    use_store(&engine, bucket, 0..8).await;
    let leaders = [&engine.system.group, &engine.objects.group].map(leader);
    let disks = engine.shards.disks();
    let mut ids = disks.iter().map(|disk| disk.id());
    let id = ids.find(|id| !leaders.contains(&Some(*id))).unwrap();
    let _hung = HungDisk::new(&engine, id);
    // All of it takes less time than one read that waits for its deadline.
    let read = timeout(DEADLINE / 2, check(&engine, bucket, 0..8)).await;
    read.expect("a read waits for the disk");
    engine.close().await;
}

/// Heal finds no disk for a shard while the only disk for it is suspect.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b_52_heal_continues_at_once_on_a_disk_that_answers_again() {
    let root = tempfile::tempdir().unwrap();
    let options = Options {
        look_every: Duration::from_secs(3600),
        ..options(root.path())
    };
    let engine = Engine::open(options.clone()).await.unwrap();
    let bucket = create_bucket(&engine).await;
    use_store(&engine, bucket, 0..4).await;
    let id = engine.disks.handles()[0].id();
    engine.shards.set_slow(&[id].into());
    let shards = options.directories[0].join("shards");
    let folders = fs::read_dir(&shards).unwrap();
    let files = folders.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap());
    for file in files {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    engine.begin_scrub().await.unwrap();
    let healer = &engine.workers.healer;
    until(&engine, async || healer.summary().no_disk > 0).await;
    let watchdog = Watchdog::new(
        engine.env.clone(),
        engine.groups(),
        engine.shards.clone(),
        healer.clone(),
        Duration::from_secs(3600),
    );
    watchdog.look().await;
    // Sooner than a shard without a disk is tried again by itself.
    let whole = until(&engine, async || is_whole(&engine).await);
    timeout(Duration::from_secs(50), whole)
        .await
        .expect("heal is not woken");
    engine.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b_52_a_store_with_a_disk_that_hangs_can_be_closed() {
    let root = tempfile::tempdir().unwrap();
    let engine = Engine::open(options(root.path())).await.unwrap();
    let bucket = create_bucket(&engine).await;
    use_store(&engine, bucket, 0..4).await;
    let id = leader(&engine.objects.group).unwrap();
    let _hung = HungDisk::new(&engine, id);
    timeout(PATIENCE, engine.close())
        .await
        .expect("it does not close");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b_52_a_disk_that_hangs_can_be_replaced() {
    let root = tempfile::tempdir().unwrap();
    let options = Options {
        renew_after: Duration::from_secs(600),
        ..options(root.path())
    };
    let engine = Engine::open(options).await.unwrap();
    let bucket = create_bucket(&engine).await;
    use_store(&engine, bucket, 0..8).await;
    let id = leader(&engine.objects.group).unwrap();
    let hung = HungDisk::new(&engine, id);
    let used = use_store(&engine, bucket, 8..12);
    timeout(PATIENCE, used).await.expect("a request hangs");
    until(&engine, async || hung.has_failed(&engine)).await;
    let new = root.path().join("new");
    std::fs::create_dir(&new).unwrap();
    let old = id.to_string();
    let replaced = engine.replace_disk(&old, Some(&new));
    let replaced = timeout(PATIENCE, replaced)
        .await
        .expect("the replacement hangs");
    replaced.unwrap();
    until(&engine, async || is_whole(&engine).await).await;
    check(&engine, bucket, 0..12).await;
    engine.close().await;
}

fn files(dir: &Path) -> usize {
    let folders = std::fs::read_dir(dir.join("shards")).unwrap();
    let files = folders.map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap().count());
    files.sum()
}

/// Found by reading: gc removed row after row, and waited for the disk that hangs with each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b_52_gc_removes_from_the_other_disks_while_one_hangs() {
    let root = tempfile::tempdir().unwrap();
    let options = Options {
        gc_every: Duration::from_millis(100),
        look_every: Duration::from_millis(500),
        ..options(root.path())
    };
    let engine = Engine::open(options).await.unwrap();
    let bucket = create_bucket(&engine).await;
    write(&engine, bucket, 0..12).await;
    let leaders = [&engine.system.group, &engine.objects.group].map(leader);
    let (id, dir) = {
        let handles = engine.disks.handles();
        let mut handles = handles.iter();
        let follower = handles.find(|handle| !leaders.contains(&Some(handle.id())));
        let follower = follower.unwrap();
        (follower.id(), follower.settled.dir.clone())
    };
    let hung = HungDisk::new(&engine, id);
    let keys = (0..12).map(|n| DeleteObject {
        key: n.to_string(),
        version: VersionSelector::Latest,
        condition: WriteCondition::default(),
    });
    let deleted = engine.delete_objects(bucket, keys.collect()).await.unwrap();
    assert!(deleted.iter().all(Result::is_ok));
    let dirs = (0..4).map(|n| root.path().join(n.to_string()));
    let others: Vec<_> = dirs.filter(|other| *other != dir).collect();
    until(&engine, async || others.iter().all(|dir| files(dir) == 0)).await;
    assert!(!hung.has_failed(&engine), "gc waited until it was given up");
    drop(hung);
    until(&engine, async || files(&dir) == 0).await;
    engine.close().await;
}

/// Found by reading: a refusal was told only after its shards were removed from every disk. Nothing
/// looks at the disks here, so nobody knows that one hangs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b_52_a_refusal_does_not_wait_for_the_removal_of_its_shards() {
    let root = tempfile::tempdir().unwrap();
    let options = Options {
        look_every: Duration::from_secs(3600),
        ..options(root.path())
    };
    let engine = Engine::open(options).await.unwrap();
    let bucket = create_bucket(&engine).await;
    write(&engine, bucket, 2..3).await;
    let epoch = engine.objects.epochs.begin();
    let mut body = Whole::new(vec![1; 100_000]);
    let written = engine.write_body(&epoch, bucket, "", &mut body).await;
    let (data, digest) = written.unwrap();
    let leaders = [&engine.system.group, &engine.objects.group].map(leader);
    let disks = engine.shards.disks();
    let mut ids = disks.iter().map(|disk| disk.id());
    let id = ids.find(|id| !leaders.contains(&Some(*id))).unwrap();
    let hung = HungDisk::new(&engine, id);
    let change = Change::PutObject {
        bucket,
        key: "2".into(),
        attributes: Default::default(),
        condition: WriteCondition {
            if_none_match: Some(ETagCondition::Any),
            ..WriteCondition::default()
        },
        data: data.clone(),
        digest,
        nonce: 0,
    };
    let refused = engine.commit_data(epoch, data, change);
    let refused = timeout(DEADLINE / 2, refused).await;
    let refused = refused.expect("it waits for the disk that hangs");
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
    // What is left is of the object, and one shard on the disk that hangs.
    let all = || (0..4).map(|n| files(&root.path().join(n.to_string())));
    until(&engine, async || all().sum::<usize>() == 4 + 1).await;
    timeout(PATIENCE, engine.close())
        .await
        .expect("it does not close");
    drop(hung);
}
