//! Objects written while disks are offline are undersized: they have fewer shards than their class.
//! Once the disks are back the objects are re-encoded, whatever refers to them and whatever
//! interrupts it, and tolerate as many losses as their class.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use drystone_storage::engine::{Engine, Options};
use drystone_storage::fsck::report::Verdict;
use drystone_store::objects::{Objects as _, ReadScope};
use drystone_store::operator::{HealStatus, Operator as _, Status, UpkeepChange};
use drystone_store::types::{BucketId, VersionSelector};

use crate::body::{get, pattern, put, read_all, request};
use crate::buckets::create;
use crate::losses::{Life, runtime};
use crate::multipart::{MIN, complete, part, start};
use crate::objects::delete;
use crate::patience::until;
use crate::replaced::{census, healed, status};

const BUCKET: &str = "stones";
const LATEST: VersionSelector = VersionSelector::Latest;
const GC_EVERY: Duration = Duration::from_millis(250);
/// Sizes of single objects: in the metadata, of one stripe, of several.
const SIZES: [usize; 4] = [3_000, 40_000, 300_001, 1_000_000];

/// A store some of whose disks can be removed while it is stopped.
struct Disks {
    root: tempfile::TempDir,
    directories: Vec<PathBuf>,
}

impl Disks {
    /// Returns the disks of a new store with one bucket.
    fn new(count: usize) -> (Disks, BucketId) {
        let root = tempfile::tempdir().unwrap();
        let directories = (1..=count).map(|n| root.path().join(format!("disk{n}")));
        let directories = directories.collect();
        let disks = Disks { root, directories };
        let life = disks.begin();
        let bucket = life.runtime.block_on(create(&*life.engine, BUCKET));
        life.close();
        (disks, bucket)
    }

    fn begin(&self) -> Life {
        Life::begin_with(&self.directories, GC_EVERY)
    }

    fn aside(&self, disk: usize) -> PathBuf {
        self.root.path().join(format!("aside{disk}"))
    }

    fn take(&self, disks: &[usize]) {
        for disk in disks {
            fs::rename(&self.directories[*disk], self.aside(*disk)).unwrap();
        }
    }

    fn give_back(&self, disks: &[usize]) {
        for disk in disks {
            fs::rename(self.aside(*disk), &self.directories[*disk]).unwrap();
        }
    }

    fn files(&self) -> usize {
        let all = self.directories.iter().map(|disk| shard_files(disk).len());
        all.sum()
    }
}

fn shard_files(disk: &Path) -> Vec<PathBuf> {
    let folders = fs::read_dir(disk.join("shards")).unwrap();
    let files = folders.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap());
    files.map(|file| file.unwrap().path()).collect()
}

/// The written bytes, by key.
#[derive(Default)]
struct Kept(BTreeMap<String, Bytes>);

impl Kept {
    /// Writes objects, one that a second name refers to, and one of parts.
    fn fill(&mut self, life: &Life, bucket: BucketId) {
        let engine = &*life.engine;
        life.runtime.block_on(async {
            for (n, size) in SIZES.into_iter().enumerate() {
                let (key, bytes) = (format!("alone{n}"), pattern(n as u64, size));
                put(engine, bucket, &key, bytes.clone()).await;
                self.0.insert(key, bytes);
            }
            let source = engine
                .open_object(bucket, "alone2", LATEST, ReadScope::Whole)
                .await
                .unwrap();
            let linked = engine
                .link_object(bucket, &*source, request("linked"))
                .await;
            linked.unwrap();
            self.0.insert("linked".into(), self.0["alone2"].clone());
            let upload = start(engine, bucket, "parts").await;
            let pieces = [pattern(8, MIN), pattern(9, 70_000)];
            let mut parts = Vec::new();
            for (number, piece) in (1..).zip(&pieces) {
                parts.push(part(engine, bucket, &upload, number, piece.clone()).await);
            }
            complete(engine, bucket, &upload, &parts).await;
            self.0.insert("parts".into(), pieces.concat().into());
        });
    }

    fn check(&self, life: &Life, bucket: BucketId) {
        for (key, bytes) in &self.0 {
            let read = life.runtime.block_on(get(&*life.engine, bucket, key));
            assert!(read == *bytes, "{key} differs");
        }
    }
}

/// Undersized writes: three of `SIZES` and two parts.
const UNDERSIZED: u64 = 5;

fn heal(life: &Life) -> HealStatus {
    status(life).heal
}

fn upkeep(life: &Life, change: UpkeepChange) {
    let changed = life.runtime.block_on(life.engine.change_upkeep(change));
    changed.unwrap();
}

fn pause(life: &Life, paused: bool) {
    let heal_paused = Some(paused);
    upkeep(
        life,
        UpkeepChange {
            heal_paused,
            ..UpkeepChange::default()
        },
    );
}

/// Reads everything byte by byte without the shards of two disks, for each pair of disks.
fn any_two_may_go(disks: &Disks, life: &Life, bucket: BucketId, kept: &Kept) {
    pause(life, true);
    let hidden = disks.root.path().join("hidden");
    fs::create_dir(&hidden).unwrap();
    let count = disks.directories.len();
    for apart in [1, count / 2] {
        for first in 0..count / apart {
            let pair = [first, (first + apart) % count];
            let of_pair = pair.map(|disk| shard_files(&disks.directories[disk]));
            let files = of_pair.concat();
            let place = |file: &Path| {
                let disk = file.ancestors().nth(3).unwrap().file_name().unwrap();
                let name = file.file_name().unwrap();
                hidden.join(format!("{}{}", disk.display(), name.display()))
            };
            for file in &files {
                fs::rename(file, place(file)).unwrap();
            }
            kept.check(life, bucket);
            for file in &files {
                fs::rename(place(file), file).unwrap();
            }
        }
    }
    pause(life, false);
    healed_of(life);
}

/// Waits until no undersized write is left, and scrub, which begins with the store, has finished as
/// well.
fn healed_of(life: &Life) {
    until(|| {
        let Status { heal, scrub, .. } = status(life);
        heal.queued_shards + heal.undersized_writes == 0 && scrub.finished_ms.is_some()
    });
}

/// Checks that everything has one geometry, each shard is there once, and nothing else is.
fn assert_all_are(disks: &Disks, geometry: &str, shards: usize) {
    until(|| disks.files() == UNDERSIZED as usize * shards);
    let report = census(&disks.directories);
    assert_eq!(report.verdict, Verdict::Whole, "{report:#?}");
    let expected = BTreeMap::from([(geometry.to_owned(), UNDERSIZED)]);
    assert_eq!(report.geometries, expected);
    assert_eq!((report.undersized, report.heal_queue), (0, 0));
}

fn written_undersized_and_reencoded(count: usize, missing: &[usize], undersized: &str, full: &str) {
    let (disks, bucket) = Disks::new(count);
    let mut kept = Kept::default();
    disks.take(missing);
    let life = disks.begin();
    kept.fill(&life, bucket);
    // The re-encoding waits, and the status says so.
    until(|| heal(&life).undersized_waiting);
    let now = status(&life);
    assert_eq!(
        (now.heal.undersized_writes, now.heal.queued_shards),
        (UNDERSIZED, 0)
    );
    let told = now.advice.iter().find(|a| a.contains("re-encoded"));
    assert!(told.is_some_and(|a| a.starts_with("5 objects")), "{now:?}");
    kept.check(&life, bucket);
    life.close();
    let report = census(&disks.directories);
    assert_eq!(
        (report.verdict, report.undersized),
        (Verdict::Degraded, UNDERSIZED)
    );
    assert_eq!(
        report.geometries.get(undersized),
        Some(&UNDERSIZED),
        "{report:#?}"
    );
    assert_eq!(report.problem_count, 0, "{report:#?}");

    disks.give_back(missing);
    let life = disks.begin();
    until(|| heal(&life).undersized_writes == 0);
    assert_eq!(heal(&life).reencoded_writes, UNDERSIZED);
    assert_eq!(heal(&life).failures, 0);
    kept.check(&life, bucket);
    until(|| disks.files() == UNDERSIZED as usize * count);
    any_two_may_go(&disks, &life, bucket, &kept);
    // Shards that readers missed are queued a little later, and found whole.
    until(|| status(&life).advice.is_empty());
    life.close();
    assert_all_are(&disks, full, count);
}

#[test]
fn b_25_r_23_writes_without_one_of_four_disks_are_reencoded_and_tolerate_any_two_losses() {
    written_undersized_and_reencoded(4, &[2], "2+1", "2+2");
}

#[test]
fn b_25_r_23_writes_without_two_of_six_disks_are_reencoded_and_tolerate_any_two_losses() {
    written_undersized_and_reencoded(6, &[0, 5], "2+2", "4+2");
}

#[test]
fn f_24_r_23_coding_again_goes_on_after_each_cut() {
    let (disks, bucket) = Disks::new(4);
    let mut kept = Kept::default();
    disks.take(&[1]);
    let life = disks.begin();
    kept.fill(&life, bucket);
    life.close();
    disks.give_back(&[1]);
    for round in 0..5u64 {
        let life = disks.begin();
        std::thread::sleep(Duration::from_millis(7 * round));
        life.cut();
    }
    let life = disks.begin();
    healed_of(&life);
    kept.check(&life, bucket);
    until(|| disks.files() == UNDERSIZED as usize * 4);
    life.close();
    assert_all_are(&disks, "2+2", 4);
}

/// A read that began before holds its epoch: the old shards stay until it has ended.
#[test]
fn b_19_b_20_a_reader_of_an_undersized_write_reads_it_to_its_end() {
    let (disks, bucket) = Disks::new(4);
    let mut kept = Kept::default();
    disks.take(&[3]);
    let life = disks.begin();
    pause(&life, true);
    kept.fill(&life, bucket);
    life.close();
    disks.give_back(&[3]);
    let life = disks.begin();
    let opened = life
        .engine
        .open_object(bucket, "parts", LATEST, ReadScope::Whole);
    let handle = life.runtime.block_on(opened).unwrap();
    let told = status(&life).advice;
    let resume = |advice: &String| advice.contains("admin heal resume");
    assert!(told.iter().any(resume), "{told:?}");
    pause(&life, false);
    healed_of(&life);
    // gc runs several rounds and may remove none of them.
    std::thread::sleep(6 * GC_EVERY);
    assert_eq!(disks.files(), UNDERSIZED as usize * 7);
    let read = life.runtime.block_on(read_all(&*handle));
    assert!(read == kept.0["parts"]);
    drop(handle);
    until(|| disks.files() == UNDERSIZED as usize * 4);
    kept.check(&life, bucket);
    life.close();
    assert_all_are(&disks, "2+2", 4);
}

#[test]
fn f_24_r_23_deletes_and_overwrites_beside_the_coding_leave_nothing_behind() {
    let (disks, bucket) = Disks::new(4);
    disks.take(&[0]);
    let life = disks.begin();
    pause(&life, true);
    let bytes = pattern(4, 200_000);
    let keys: Vec<String> = (0..24).map(|n| format!("{n}")).collect();
    for key in &keys {
        life.runtime
            .block_on(put(&*life.engine, bucket, key, bytes.clone()));
    }
    life.close();
    disks.give_back(&[0]);
    let life = disks.begin();
    pause(&life, false);
    let engine = &*life.engine;
    life.runtime.block_on(async {
        for (n, key) in keys.iter().enumerate() {
            tokio::time::sleep(Duration::from_millis(3)).await;
            match n % 3 {
                0 => drop(
                    engine
                        .delete_object(bucket, delete(key, LATEST))
                        .await
                        .unwrap(),
                ),
                1 => drop(put(engine, bucket, key, pattern(5, 90_000)).await),
                _ => {}
            }
        }
    });
    healed_of(&life);
    until(|| disks.files() == 16 * 4);
    for (n, key) in keys.iter().enumerate().filter(|(n, _)| n % 3 > 0) {
        let read = life.runtime.block_on(get(engine, bucket, key));
        let expected = if n % 3 == 1 {
            pattern(5, 90_000)
        } else {
            bytes.clone()
        };
        assert!(read == expected, "{key} differs");
    }
    healed(&life);
    life.close();
    assert_eq!(census(&disks.directories).verdict, Verdict::Whole);
}

/// The class itself has fewer shards now: there is nothing to re-encode.
#[test]
fn r_23_a_write_as_wide_as_its_class_is_now_is_not_reencoded() {
    let (disks, bucket) = Disks::new(4);
    let mut kept = Kept::default();
    disks.take(&[1]);
    let life = disks.begin();
    kept.fill(&life, bucket);
    life.close();
    disks.give_back(&[1]);
    let mut options = Options::new(disks.directories.clone());
    options.classes.insert("STANDARD".into(), (2, 1));
    let runtime = runtime();
    let engine = runtime.block_on(Engine::open(options)).unwrap();
    let life = Life { runtime, engine };
    healed_of(&life);
    assert_eq!(heal(&life).reencoded_writes, 0);
    kept.check(&life, bucket);
    life.close();
    assert_all_are(&disks, "2+1", 3);
}
