#![allow(clippy::unwrap_used)]

mod proof;
mod space;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::disk_set::DEADLINE;
use super::erasure::{CHUNK_SIZE_BYTES, Geometry};
use super::{
    Classes, DAMAGE_QUEUE_LEN_MAX, HealError, RemovalOutcome, ShardCondition, ShardRef, Shards,
    UnconfirmedShard,
};
use crate::db::{Db, DbShared};
use crate::disk::identity::{claim_all, mark_born, shard_folder};
use crate::disk::local::{LocalDisk, Reserve};
use crate::disk::{BLOCK_SIZE_BYTES, Disk};
use drystone_store::body::Body;
use drystone_store::crash::Crash;
use drystone_store::env::{Env, SystemEnv};
use drystone_store::error::{Error, Result};
use drystone_store::shard_set::{ShardId, ShardPlace, ShardSet};
use drystone_store::types::{BucketId, ByteRange, Digest, DiskId, Epoch, WriteId};
use drystone_store::workers::Pace;

const BUCKET: BucketId = BucketId(3);
const BLOCK: u64 = BLOCK_SIZE_BYTES as u64;
const CHUNK: u64 = CHUNK_SIZE_BYTES as u64;

/// Shards on some disks in a temporary folder.
struct Bench {
    root: tempfile::TempDir,
    shards: Shards,
    damage: mpsc::Receiver<ShardId>,
}

impl Bench {
    fn new(disks: usize) -> Bench {
        Bench::with(disks, Geometry::default_for(disks), Reserve::default())
    }

    fn with(disks: usize, default: Geometry, reserve: Reserve) -> Bench {
        let root = tempfile::tempdir().unwrap();
        let dirs: Vec<PathBuf> = (0..disks)
            .map(|n| root.path().join(format!("d{n}")))
            .collect();
        let shared = DbShared::system();
        let open = |mut settled| -> Arc<dyn Disk> {
            mark_born(&mut settled, &SystemEnv, &Crash::default()).unwrap();
            let db = Db::create(&settled.dir.join("meta"), &shared).unwrap();
            Arc::new(LocalDisk::open(settled, db, reserve).unwrap())
        };
        let found = claim_all(&dirs, &[], &SystemEnv, &Crash::default()).unwrap();
        let disks = found.disks.into_iter().map(open).collect();
        let (damage, reports) = mpsc::channel(DAMAGE_QUEUE_LEN_MAX);
        let by_name = HashMap::new();
        Bench {
            root,
            shards: Shards::new(
                Arc::new(SystemEnv),
                disks,
                Classes { default, by_name },
                damage,
            ),
            damage: reports,
        }
    }

    fn dir(&self, disk: usize) -> PathBuf {
        self.root.path().join(format!("d{disk}"))
    }

    /// Empties a disk's directory without telling the disk object.
    fn empty(&self, disk: usize) {
        fs::rename(
            self.dir(disk),
            self.root.path().join(format!("emptied{disk}")),
        )
        .unwrap();
        fs::create_dir(self.dir(disk)).unwrap();
    }

    async fn write_body(&self, body: &mut TestBody<'_>) -> Result<(WriteId, u64, ShardSet)> {
        let write_id = SystemEnv.write_id();
        let (epoch, prefix) = (Epoch(5), Bytes::new());
        let (size, set) = self
            .shards
            .write(write_id, epoch, BUCKET, "", prefix, body)
            .await?;
        Ok((write_id, size, set))
    }

    async fn write(&self, bytes: &Bytes) -> (WriteId, ShardSet) {
        let (write_id, size, set) = self.write_body(&mut TestBody::new(bytes)).await.unwrap();
        assert_eq!(size, bytes.len() as u64);
        (write_id, set)
    }

    /// Writes a body that fails after half of its bytes.
    async fn write_half(&self, bytes: &Bytes) {
        let mut body = TestBody::watched(bytes, |given| match given > bytes.len() / 2 {
            true => Err(Error::Body("interrupted".into())),
            false => Ok(()),
        });
        let failed = self.write_body(&mut body).await;
        assert!(matches!(failed, Err(Error::Body(_))));
    }

    async fn read(&self, of: &(WriteId, ShardSet), size: u64, range: ByteRange) -> Result<Vec<u8>> {
        let mut reader = self.shards.read(of.0, BUCKET, size, &of.1, range).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = reader.next().await? {
            assert!(!piece.is_empty());
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    async fn assert_reads_back(&self, of: &(WriteId, ShardSet), bytes: &Bytes) {
        let end = bytes.len() as u64;
        let read = self
            .read(of, end, ByteRange { start: 0, end })
            .await
            .unwrap();
        assert!(read == bytes[..], "{} of {end} bytes", read.len());
    }

    /// Returns the path of a shard's file.
    fn file(&self, of: &(WriteId, ShardSet), rank: usize) -> PathBuf {
        let id = of.1.shards[rank].disk;
        let disk = self
            .shards
            .disks()
            .iter()
            .position(|d| d.id() == id)
            .unwrap();
        shard_folder(&self.dir(disk), of.0.0[0]).join(format!("{}.{rank:02x}.0", of.0))
    }

    /// Returns at most `max` unconfirmed shards of each disk.
    async fn unconfirmed(&self, below: u64, max: usize) -> Vec<UnconfirmedShard> {
        let mut all = Vec::new();
        for disk in self.shards.disks() {
            let listed = self.shards.unconfirmed(disk.id(), Epoch(below), max);
            all.extend(listed.await.unwrap());
        }
        all
    }

    /// Counts the files of shards on all disks.
    fn files(&self) -> usize {
        let dirs = (0..self.shards.disks().len()).map(|disk| self.dir(disk));
        let folders =
            dirs.flat_map(|dir| (0..=u8::MAX).map(move |first| shard_folder(&dir, first)));
        folders
            .map(|folder| fs::read_dir(folder).unwrap().count())
            .sum()
    }

    fn reported(&mut self) -> HashSet<u8> {
        let mut ranks = HashSet::new();
        while let Ok(report) = self.damage.try_recv() {
            ranks.insert(report.rank);
        }
        ranks
    }
}

/// A body in pieces of odd sizes. `before` is called before each piece.
struct TestBody<'a> {
    rest: Bytes,
    before: Box<dyn FnMut(usize) -> Result<()> + Send + 'a>,
    given: usize,
    size_hint: Option<u64>,
}

impl<'a> TestBody<'a> {
    fn new(bytes: &Bytes) -> TestBody<'a> {
        TestBody::watched(bytes, |_| Ok(()))
    }

    /// Makes a body whose `before` gets the number of bytes returned so far.
    fn watched(bytes: &Bytes, before: impl FnMut(usize) -> Result<()> + Send + 'a) -> TestBody<'a> {
        TestBody {
            rest: bytes.clone(),
            before: Box::new(before),
            given: 0,
            size_hint: None,
        }
    }
}

#[async_trait]
impl Body for TestBody<'_> {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        (self.before)(self.given)?;
        let len = self.rest.len().min(50_021);
        self.given += len;
        let piece = self.rest.split_to(len);
        Ok((len > 0).then_some(piece))
    }

    fn digest(&mut self) -> Digest {
        unreachable!("shards ask for no digest")
    }

    fn size_hint(&self) -> Option<u64> {
        self.size_hint
    }
}

fn bytes(len: u64) -> Bytes {
    let word = |i: u64| {
        (i + len)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29)
    };
    let mut bytes: Vec<u8> = (0..len.div_ceil(8))
        .flat_map(|i| word(i).to_le_bytes())
        .collect();
    bytes.truncate(len as usize);
    bytes.into()
}

#[derive(Clone, Copy, Debug)]
enum Harm {
    Remove,
    Cut,
    Flip,
    FlipEveryBlock,
}

fn harm(path: &Path, how: Harm) {
    let mut file = fs::read(path).unwrap();
    match how {
        Harm::Remove => return fs::remove_file(path).unwrap(),
        Harm::Cut => file.truncate(file.len() / 2),
        Harm::Flip => {
            let middle = file.len() / 2;
            file[middle] ^= 0x20;
        }
        Harm::FlipEveryBlock => file
            .iter_mut()
            .skip(100)
            .step_by(BLOCK as usize)
            .for_each(|b| *b ^= 1),
    }
    fs::write(path, file).unwrap();
}

#[tokio::test]
async fn b_24_f_35_sizes_and_ranges_at_boundaries_read_back() {
    let bench = Bench::new(4);
    let stripe = 2 * CHUNK;
    let mut sizes = vec![0, 1, 8193];
    for edge in [BLOCK, 2 * BLOCK, CHUNK, stripe, 9 * stripe] {
        sizes.extend([edge - 1, edge, edge + 1]);
    }
    for size in sizes {
        let object = bytes(size);
        let written = bench.write(&object).await;
        bench.assert_reads_back(&written, &object).await;
        let cuts = [
            0,
            1,
            BLOCK,
            CHUNK - 1,
            CHUNK,
            stripe + 7,
            size.saturating_sub(1),
        ];
        for start in cuts.into_iter().filter(|start| *start < size) {
            for len in [1, BLOCK + 1, stripe, size] {
                let end = (start + len).min(size);
                let read = bench.read(&written, size, ByteRange { start, end }).await;
                assert!(read.unwrap() == object[start as usize..end as usize]);
            }
        }
    }
}

#[tokio::test]
async fn f_04_any_two_of_four_shards_may_be_harmed() {
    let mut bench = Bench::new(4);
    let object = bytes(5 * CHUNK + 77);
    for how in [Harm::Remove, Harm::Cut, Harm::Flip, Harm::FlipEveryBlock] {
        for pair in [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]] {
            let written = bench.write(&object).await;
            pair.iter()
                .for_each(|rank| harm(&bench.file(&written, *rank), how));
            bench.assert_reads_back(&written, &object).await;
            let range = ByteRange {
                start: 2 * CHUNK + 5,
                end: 3 * CHUNK + 100,
            };
            let read = bench.read(&written, object.len() as u64, range).await;
            assert!(read.unwrap() == object[range.start as usize..range.end as usize]);
            let reported = bench.reported();
            let data_ranks = pair.iter().filter(|rank| **rank < 2);
            for rank in data_ranks {
                assert!(reported.contains(&(*rank as u8)), "{how:?} {pair:?}");
            }
        }
    }
}

#[tokio::test]
async fn b_42_a_third_harmed_shard_is_an_error_and_never_a_short_body() {
    let bench = Bench::new(4);
    let size = 24 * CHUNK + 1;
    let object = bytes(size);
    let range = ByteRange {
        start: 0,
        end: size,
    };
    for how in [Harm::Remove, Harm::Cut, Harm::Flip] {
        let written = bench.write(&object).await;
        for rank in [0, 1, 3] {
            harm(&bench.file(&written, rank), how);
        }
        let read = bench.read(&written, size, range).await;
        assert!(matches!(read, Err(Error::Corrupt(_))), "{how:?}");
    }
}

#[tokio::test]
async fn f_04_single_flips_in_all_shards_are_made_up_for_row_by_row() {
    let bench = Bench::new(4);
    let object = bytes(16 * CHUNK);
    let written = bench.write(&object).await;
    for rank in 0..4 {
        let path = bench.file(&written, rank);
        let mut file = fs::read(&path).unwrap();
        file[64 + 500 + rank * 5 * BLOCK as usize] ^= 1;
        fs::write(&path, file).unwrap();
    }
    bench.assert_reads_back(&written, &object).await;
}

#[tokio::test]
async fn f_07_files_swapped_between_objects_and_ranks_are_never_served() {
    let bench = Bench::new(4);
    let (one, other) = (bytes(300_000), Bytes::from(vec![7; 300_000]));
    let written = [bench.write(&one).await, bench.write(&other).await];
    for rank in [0, 2] {
        let paths = [0, 1].map(|n| bench.file(&written[n], rank));
        let files = [0, 1].map(|n: usize| fs::read(&paths[n]).unwrap());
        fs::write(&paths[0], &files[1]).unwrap();
        fs::write(&paths[1], &files[0]).unwrap();
    }
    bench.assert_reads_back(&written[0], &one).await;
    bench.assert_reads_back(&written[1], &other).await;

    let written = bench.write(&one).await;
    let paths = [0, 1].map(|rank| bench.file(&written, rank));
    let files = [0, 1].map(|n: usize| fs::read(&paths[n]).unwrap());
    fs::write(&paths[0], &files[1]).unwrap();
    fs::write(&paths[1], &files[0]).unwrap();
    bench.assert_reads_back(&written, &one).await;
}

#[tokio::test]
async fn a_disk_emptied_between_writes_costs_no_write() {
    for large in [false, true] {
        let bench = Bench::new(4);
        let object = bytes(if large { 30 * CHUNK } else { 100_000 });
        let before = bench.write(&object).await;
        bench.empty(1);
        let during = bench.write(&object).await;
        let missing: Vec<bool> = during.1.shards.iter().map(|s| s.missing).collect();
        assert!(missing.iter().filter(|m| **m).count() <= 1);
        let after = bench.write(&object).await;
        assert_eq!((after.1.data_shards, after.1.parity_shards), (2, 1));
        for written in [before, during, after] {
            bench.assert_reads_back(&written, &object).await;
        }
        assert!(bench.shards.can_write());
    }
}

#[tokio::test]
async fn a_disk_that_fails_on_the_way_leaves_a_set_that_can_lose_one_more() {
    let bench = Bench::new(4);
    let object = bytes(40 * CHUNK);
    let mut body = TestBody::watched(&object, |given| {
        if given > object.len() / 2 {
            bench.shards.disks()[2].fail("as a test");
        }
        Ok(())
    });
    let (write_id, _, set) = bench.write_body(&mut body).await.unwrap();
    let missing = |place: &ShardPlace| place.missing && place.disk == bench.shards.disks()[2].id();
    assert_eq!(set.shards.iter().filter(|place| missing(place)).count(), 1);
    let written = (write_id, set);
    let left = (0..4)
        .find(|rank| !written.1.shards[*rank].missing)
        .unwrap();
    harm(&bench.file(&written, left), Harm::Remove);
    bench.assert_reads_back(&written, &object).await;
}

#[tokio::test]
async fn a_write_that_could_not_lose_one_more_disk_fails() {
    let bench = Bench::new(4);
    let object = bytes(40 * CHUNK);
    let mut body = TestBody::watched(&object, |given| {
        if given > object.len() / 2 {
            [1, 2]
                .iter()
                .for_each(|n| bench.shards.disks()[*n].fail("as a test"));
        }
        Ok(())
    });
    let failed = bench.write_body(&mut body).await;
    assert!(matches!(failed, Err(Error::Unavailable(_))), "{failed:?}");
    // Half of the disks are left, and the next write is undersized.
    let written = bench.write(&object).await;
    assert_eq!((written.1.data_shards, written.1.parity_shards), (1, 1));
}

#[tokio::test]
async fn a_spare_disk_stands_in_while_the_bytes_are_at_hand() {
    let bench = Bench::with(5, Geometry::new(2, 2).unwrap(), Reserve::default());
    let object = bytes(3 * CHUNK);
    for disk in 0..2 {
        let mut body = TestBody::watched(&object, |given| {
            if given > object.len() / 2 {
                bench.shards.disks()[disk].fail("as a test");
            }
            Ok(())
        });
        let (write_id, _, set) = bench.write_body(&mut body).await.unwrap();
        // In the first round the shard moves to the fifth disk, or the failed disk had none.
        let missing = set.shards.iter().filter(|place| place.missing).count();
        assert!(missing <= disk, "{set:?}");
        let disks: HashSet<DiskId> = set.shards.iter().map(|place| place.disk).collect();
        assert_eq!(disks.len(), 4);
        bench.assert_reads_back(&(write_id, set), &object).await;
    }
}

#[tokio::test]
async fn one_disk_left_of_several_accepts_no_writes() {
    let bench = Bench::new(2);
    bench.shards.disks()[0].fail("as a test");
    let failed = bench.write_body(&mut TestBody::new(&bytes(9000))).await;
    assert!(matches!(failed, Err(Error::Unavailable(_))));
    assert!(!bench.shards.can_write());
}

#[tokio::test]
async fn a_single_disk_without_parity_serves_and_sees_damage() {
    let bench = Bench::new(1);
    let object = bytes(300_000);
    let written = bench.write(&object).await;
    bench.assert_reads_back(&written, &object).await;
    harm(&bench.file(&written, 0), Harm::Flip);
    let range = ByteRange {
        start: 0,
        end: 300_000,
    };
    let read = bench.read(&written, 300_000, range).await;
    assert!(matches!(read, Err(Error::Corrupt(_))));
}

#[tokio::test]
async fn f_08_below_the_reserve_a_write_is_refused_as_full() {
    let reserve = Reserve {
        bytes: 0,
        percent: 200,
    };
    let bench = Bench::with(2, Geometry::default_for(2), reserve);
    let failed = bench.write_body(&mut TestBody::new(&bytes(9000))).await;
    assert!(matches!(failed, Err(Error::Full(_))), "{failed:?}");
    let disk = bench.shards.disks()[1].id();
    let failed = bench.shards.room_for_metadata(&[disk]);
    assert!(matches!(failed, Err(Error::Full(_))), "{failed:?}");
    bench.shards.room_for_metadata(&[]).unwrap();
}

#[tokio::test]
async fn shards_of_a_failed_body_are_found_and_dropped_as_orphans() {
    let bench = Bench::new(4);
    let object = bytes(10 * CHUNK);
    bench.write_half(&object).await;
    bench.write_half(&object).await;
    let kept = bench.write(&object).await;
    bench.shards.confirm(kept.0, &kept.1);
    assert!(bench.unconfirmed(5, 100).await.is_empty());
    let orphans = bench.unconfirmed(6, 100).await;
    assert_eq!(orphans.len(), 8);
    assert!(
        orphans
            .iter()
            .all(|o| o.write_id != kept.0 && o.bucket == BUCKET)
    );
    assert_eq!(bench.unconfirmed(6, 1).await.len(), 4);
    for disk in bench.shards.disks() {
        let own = orphans.iter().filter(|o| o.disk == disk.id());
        let own: Vec<_> = own.copied().collect();
        bench.shards.drop_orphans(disk.id(), &own).await.unwrap();
    }
    assert!(bench.unconfirmed(6, 100).await.is_empty());
    assert_eq!(bench.files(), 4, "those of the write that was kept");
    bench.assert_reads_back(&kept, &object).await;

    let remove = || {
        let all = (0..).zip(kept.1.shards.iter().map(ShardPlace::at));
        bench.shards.remove(kept.0, all)
    };
    assert_eq!(remove().await, RemovalOutcome::All);
    assert_eq!(remove().await, RemovalOutcome::All, "again");
    bench.shards.disks()[3].fail("as a test");
    assert_eq!(remove().await, RemovalOutcome::ButOffline);
}

#[tokio::test]
async fn f_28_shards_of_a_failed_body_are_removed_at_once() {
    let bench = Bench::new(4);
    let object = bytes(10 * CHUNK);
    bench.write_half(&object).await;
    let removed = async {
        while bench.files() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, removed).await.unwrap();
}

/// Once the shards of a disk that had failed counted as damaged, and the read as damaged beyond
/// repair.
#[tokio::test]
async fn b_17_r_12_what_failed_disks_hold_is_unavailable_and_not_lost() {
    let object = bytes(5 * CHUNK + 77);
    let size = object.len() as u64;
    let range = ByteRange {
        start: 0,
        end: size,
    };
    for how in [Harm::Remove, Harm::Cut, Harm::Flip] {
        let mut bench = Bench::new(4);
        let written = bench.write(&object).await;
        for disk in bench.shards.disks().iter().take(3) {
            disk.fail("as a test");
            let rank = written.1.shards.iter().position(|p| p.disk == disk.id());
            harm(&bench.file(&written, rank.unwrap()), how);
        }
        let read = bench.read(&written, size, range).await;
        assert!(matches!(read, Err(Error::Unavailable(_))), "{how:?}");
        let up = bench.shards.disks()[3].id();
        let rank_up = written.1.shards.iter().position(|p| p.disk == up);
        assert!(bench.reported().is_empty(), "{how:?}");
        let pace = Pace::new(bench.shards.env.clone(), 0, false);
        for rank in 0..4 {
            let shard = ShardRef {
                write_id: written.0,
                bucket: BUCKET,
                size,
                set: &written.1,
                rank,
            };
            let expected = match Some(usize::from(rank)) == rank_up {
                true => ShardCondition::Whole,
                false => ShardCondition::Offline,
            };
            assert_eq!(bench.shards.examine(shard, &pace).await, Ok(expected));
            let rebuilt = bench.shards.rebuild(shard, Epoch(5), &pace).await;
            assert!(!matches!(rebuilt, Err(HealError::Lost(_))), "{rebuilt:?}");
        }
    }
}

/// Once the window that was read ahead was read to its end, without an epoch: it could meet files
/// that gc had removed, and report damage.
#[tokio::test]
async fn b_19_what_is_read_ahead_ends_with_its_reader() {
    let mut bench = Bench::new(4);
    let object = bytes(40 * CHUNK);
    let written = bench.write(&object).await;
    let (start, end) = (0, object.len() as u64);
    let range = ByteRange { start, end };
    let shards = &bench.shards;
    let reader = shards.read(written.0, BUCKET, end, &written.1, range);
    // The next window has a task, which has not begun: there is one thread.
    let reader = reader.await.unwrap();
    (0..4).for_each(|rank| harm(&bench.file(&written, rank), Harm::FlipEveryBlock));
    drop(reader);
    while Arc::strong_count(&bench.shards.suspects) > 1 {
        tokio::task::yield_now().await;
    }
    assert!(bench.reported().is_empty());
}
