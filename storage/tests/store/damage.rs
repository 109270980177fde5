//! Stores whose metadata is damaged on some disks, by flipped bits and truncated files, or whose
//! disks are replaced by older copies of themselves: damaged data never answers and is rebuilt from
//! the rest, and everything acknowledged is there, byte by byte.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use drystone_store::buckets::Buckets as _;
use drystone_store::error::Error;
use drystone_store::instance::Instance as _;
use drystone_store::objects::{Objects as _, ReadScope};
use drystone_store::types::VersionSelector;

use crate::body::{pattern, put, read_all};
use crate::losses::{BUCKET, Ledger, Life, Writers, check, empty, newborn, until_online};
use crate::patience::until;

const REPAIRS_MAX: usize = 4;

/// Returns the files of a kind in a disk's database, the newest last.
fn files(disk: &Path, of: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(disk.join("meta/rocksdb")).unwrap();
    let mut files: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| of(path.file_name().unwrap().to_str().unwrap()))
        .collect();
    files.sort();
    files
}

fn flip_in_middle(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    // Preallocated space at the end of a log was never written.
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    bytes[used / 2] ^= 0x10;
    fs::write(file, bytes).unwrap();
}

fn cut_in_middle(file: &Path) {
    let bytes = fs::read(file).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    fs::write(file, &bytes[..used / 2]).unwrap();
}

/// Reads as a client does: a read that is refused for the moment is repeated.
fn read(life: &Life, key: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    until(|| {
        let read = life.runtime.block_on(async {
            let bucket = life.engine.bucket(BUCKET).await?.id;
            let latest = VersionSelector::Latest;
            let opened = life
                .engine
                .open_object(bucket, key, latest, ReadScope::Whole)
                .await?;
            Ok(read_all(&*opened).await)
        });
        match read {
            Ok(read) => bytes = read,
            Err(Error::Unavailable(_)) => return false,
            Err(other) => panic!("{key}: {other}"),
        }
        true
    });
    bytes
}

fn voters_are_whole(life: &Life) -> bool {
    life.runtime.block_on(async {
        for _ in 0..600 {
            let measures = life.engine.measures().await;
            let alive = measures
                .iter()
                .filter(|measure| measure.name == "metadata_voters_alive");
            let alive: Vec<_> = alive
                .map(|measure| format!("{:?}", measure.value))
                .collect();
            if !alive.is_empty() && alive.iter().all(|value| value.contains('4')) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        false
    })
}

const KEYS: usize = 60;

fn content(n: usize) -> Vec<u8> {
    // Sizes of objects in tables, in blob files, and in shards.
    let sizes = [300, 3000, 7000, 60_000];
    pattern(n as u64, sizes[n % 4] + n).to_vec()
}

/// Creates a stopped store with something in every kind of file.
fn stopped(root: &Path) -> Vec<PathBuf> {
    let (life, directories) = newborn(root);
    let bucket = life.bucket();
    for n in 0..KEYS {
        let key = format!("{n}");
        life.runtime
            .block_on(put(&*life.engine, bucket, &key, content(n)));
    }
    life.close();
    // A start flushes the contents of the log into tables.
    let life = Life::begin(&directories);
    for n in KEYS..KEYS + 4 {
        let key = format!("{n}");
        life.runtime
            .block_on(put(&*life.engine, bucket, &key, content(n)));
    }
    life.close();
    directories
}

fn damaged_and_repaired(damage: impl Fn(&Path) -> bool) {
    let root = tempfile::tempdir().unwrap();
    let directories = stopped(root.path());
    let hit: Vec<_> = directories[1..3]
        .iter()
        .filter(|disk| damage(disk))
        .collect();
    assert_eq!(hit.len(), 2, "there is nothing to damage");
    for round in 0..REPAIRS_MAX {
        let life = Life::begin(&directories);
        for n in 0..KEYS + 4 {
            assert!(read(&life, &format!("{n}")) == content(n), "{n}");
        }
        let whole = voters_are_whole(&life);
        life.close();
        if whole {
            // The disks that were damaged hold the store alone now.
            for away in [0, 3] {
                fs::rename(&directories[away], root.path().join(away.to_string())).unwrap();
            }
            let life = Life::begin(&directories[1..3]);
            for n in 0..KEYS + 4 {
                assert!(read(&life, &format!("{n}")) == content(n), "{n}");
            }
            life.close();
            return;
        }
        assert!(round + 1 < REPAIRS_MAX, "it is not repaired");
    }
}

fn every(disk: &Path, of: impl Fn(&str) -> bool, damage: impl Fn(&Path)) -> bool {
    let files = files(disk, of);
    files.iter().for_each(|file| damage(file));
    !files.is_empty()
}

#[test]
fn f_05_bits_flipped_in_tables_are_found_and_repaired() {
    damaged_and_repaired(|disk| every(disk, |name| name.ends_with(".sst"), flip_in_middle));
}

#[test]
fn f_05_bits_flipped_in_blob_files_are_found_and_repaired() {
    damaged_and_repaired(|disk| every(disk, |name| name.ends_with(".blob"), flip_in_middle));
}

#[test]
fn f_06_bits_flipped_in_the_log_are_found_and_repaired() {
    damaged_and_repaired(|disk| every(disk, |name| name.ends_with(".log"), flip_in_middle));
}

#[test]
fn f_06_a_truncated_log_is_found_and_repaired() {
    damaged_and_repaired(|disk| every(disk, |name| name.ends_with(".log"), cut_in_middle));
}

#[test]
fn f_05_a_damaged_manifest_or_current_file_is_repaired() {
    damaged_and_repaired(|disk| every(disk, |name| name.starts_with("MANIFEST"), flip_in_middle));
    damaged_and_repaired(|disk| every(disk, |name| name == "CURRENT", cut_in_middle));
}

#[test]
fn f_05_a_missing_database_is_rebuilt() {
    damaged_and_repaired(|disk| fs::remove_dir_all(disk.join("meta")).is_ok());
}

/// Crashes between the two renames of a rebuilt database.
#[test]
fn f_01_a_rebuilt_database_takes_its_name_after_a_crash() {
    let root = tempfile::tempdir().unwrap();
    let directories = stopped(root.path());
    let disk = &directories[1];
    fs::rename(disk.join("meta"), disk.join("meta.new")).unwrap();
    fs::create_dir(disk.join("meta.old")).unwrap();
    let life = Life::begin(&directories);
    assert!(read(&life, "1") == content(1));
    life.close();
    assert!(disk.join("meta").exists());
    assert!(!disk.join("meta.new").exists() && !disk.join("meta.old").exists());
}

#[test]
fn f_16_two_of_four_emptied_under_load_cost_nothing_that_was_acknowledged() {
    let root = tempfile::tempdir().unwrap();
    let (life, directories) = newborn(root.path());
    let ledger = Ledger::default();
    let writers = Writers::start(&life, &ledger, "running", usize::MAX);
    writers.go_on(1000);
    empty(&directories[0]);
    empty(&directories[2]);
    writers.go_on(500);
    until_online(&life, 2);
    writers.stop(&life);
    assert_eq!(Writers::start(&life, &ledger, "after", 3).end(&life), 0);
    check(&life, &ledger);
    life.cut();

    let life = Life::begin(&directories);
    check(&life, &ledger);
    assert_eq!(Writers::start(&life, &ledger, "again", 3).end(&life), 0);
    check(&life, &ledger);
    life.close();
}

/// Nobody writes, so reads meet the databases whose files are gone.
#[test]
fn f_16_disks_emptied_at_rest_cost_no_read() {
    let root = tempfile::tempdir().unwrap();
    let (life, directories) = newborn(root.path());
    let ledger = Ledger::default();
    let writers = Writers::start(&life, &ledger, "before", usize::MAX);
    // Blob files that nobody has read from are opened by their first reader.
    let blobs = |disk: &PathBuf| files(disk, |name| name.ends_with(".blob"));
    until(|| directories.iter().all(|disk| !blobs(disk).is_empty()));
    writers.stop(&life);
    empty(&directories[0]);
    empty(&directories[2]);
    check(&life, &ledger);
    life.close();
}

#[test]
fn f_14_disks_offline_during_a_recovery_return_with_all_their_shards() {
    let root = tempfile::tempdir().unwrap();
    let (life, directories) = newborn(root.path());
    let ledger = Ledger::default();
    Writers::start(&life, &ledger, "first", 30).end(&life);
    life.close();
    let away = |n: usize| root.path().join(format!("away{n}"));
    for n in [0, 3] {
        fs::rename(&directories[n], away(n)).unwrap();
    }
    let life = Life::begin(&directories);
    check(&life, &ledger);
    assert_eq!(Writers::start(&life, &ledger, "second", 30).end(&life), 0);
    life.close();
    for n in [0, 3] {
        fs::rename(away(n), &directories[n]).unwrap();
    }
    let life = Life::begin(&directories);
    check(&life, &ledger);
    assert!(voters_are_whole(&life));
    life.close();
}
