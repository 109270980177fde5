//! Replaces disks while writers write: everything has its full redundancy again, as a check of the
//! stopped store shows.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use drystone_storage::engine::{Engine, Options};
use drystone_storage::fsck::report::{Report, Verdict};
use drystone_store::env::SystemEnv;
use drystone_store::error::Error;
use drystone_store::instance::Instance as _;
use drystone_store::objects::Objects as _;
use drystone_store::operator::{DiskState, Operator as _, ReplaceError, Status, UpkeepChange};

use crate::body::{TestBody, get, pattern, put, request};
use crate::buckets::create;
use crate::losses::{Ledger, Life, Writers, check, empty, newborn, runtime, shard_files};
use crate::patience::until;

/// Asks again until it succeeds: a request may fail while a leader is lost.
fn asked<T>(mut ask: impl FnMut() -> Result<T, ReplaceError>) -> Result<T, ReplaceError> {
    let mut answer = None;
    until(|| {
        let refused = |a: &_| matches!(a, Err(ReplaceError::Store(Error::Unavailable(_))));
        answer = Some(ask()).filter(|answer| !refused(answer));
        answer.is_some()
    });
    answer.unwrap()
}

pub fn status(life: &Life) -> Status {
    let status = || Ok(life.runtime.block_on(life.engine.status())?);
    asked(status).unwrap()
}

fn replace(life: &Life, old: &Path, new: Option<&Path>) -> Result<String, ReplaceError> {
    let old = old.to_str().unwrap();
    let replaced = asked(|| life.runtime.block_on(life.engine.replace_disk(old, new)));
    replaced.map(|disk| disk.id)
}

fn is_offline(life: &Life, directory: &Path) -> bool {
    let disks = status(life).disks;
    let mut in_dir = disks.iter().filter(|disk| disk.directory == directory);
    in_dir.any(|disk| disk.state == DiskState::Offline)
}

/// Waits until nothing is left to heal.
pub fn healed(life: &Life) {
    until(|| {
        let Status { heal, advice, .. } = status(life);
        let left = heal.queued_shards + heal.undersized_writes;
        left == 0 && !heal.queueing && advice.is_empty()
    });
    // All metadata groups have as many voters as they should.
    until(|| {
        let status = status(life);
        status.metadata_voters_alive == 4
    });
}

/// Checks a store that was closed just now: its disks are released a little later.
pub fn census(directories: &[PathBuf]) -> Report {
    let mut found = None;
    until(|| {
        match drystone_storage::fsck::check(Arc::new(SystemEnv), directories, 20) {
            Ok(report) => found = Some(report),
            Err(error) if error.to_string().contains("in use") => {}
            Err(error) => panic!("{error}"),
        }
        found.is_some()
    });
    found.unwrap()
}

fn assert_whole(directories: &[PathBuf]) {
    let report = census(directories);
    assert_eq!(report.verdict, Verdict::Whole, "{report:#?}");
}

/// Replaces disks, named by their places, one after the other: the second only when the first is
/// healed.
fn replaced_under_load(disks: [usize; 2]) {
    let root = tempfile::tempdir().unwrap();
    let (life, directories) = newborn(root.path());
    let ledger = Ledger::default();
    for disk in disks {
        let round = format!("round{disk}");
        let writers = Writers::start(&life, &ledger, &round, usize::MAX);
        writers.go_on(200);
        empty(&directories[disk]);
        until(|| is_offline(&life, &directories[disk]));
        let new = replace(&life, &directories[disk], None).unwrap();
        writers.go_on(200);
        writers.stop(&life);
        let now = status(&life);
        let of_dir = |state| {
            let in_dir = now
                .disks
                .iter()
                .filter(|d| d.directory == directories[disk]);
            let ids: Vec<_> = in_dir
                .filter(|d| d.state == state)
                .map(|d| d.id.clone())
                .collect();
            ids
        };
        assert_eq!(of_dir(DiskState::Up), std::slice::from_ref(&new));
        assert_eq!(of_dir(DiskState::Removed).len(), 1);
        healed(&life);
        check(&life, &ledger);
    }
    let health = life.runtime.block_on(life.engine.health());
    assert_eq!((health.disks_online, health.disks_offline), (4, 0));
    life.close();
    assert_whole(&directories);
    // With all of them it is still the same store.
    let life = Life::begin(&directories);
    check(&life, &ledger);
    life.close();
}

#[test]
fn b_12_f_14_disks_replaced_under_load_end_with_a_full_census() {
    replaced_under_load([1, 3]);
}

#[test]
fn b_12_f_14_the_first_disk_replaced_is_like_any_other() {
    replaced_under_load([0, 2]);
}

#[test]
fn f_24_a_heal_that_crashes_again_and_again_continues_where_it_was() {
    let root = tempfile::tempdir().unwrap();
    let (mut life, directories) = newborn(root.path());
    let ledger = Ledger::default();
    Writers::start(&life, &ledger, "before", 40).end(&life);
    empty(&directories[2]);
    until(|| is_offline(&life, &directories[2]));
    replace(&life, &directories[2], None).unwrap();
    for round in 0..4u64 {
        std::thread::sleep(Duration::from_millis(20 + 60 * round));
        life.cut();
        life = Life::begin(&directories);
    }
    healed(&life);
    check(&life, &ledger);
    life.close();
    // Shards of interrupted writes are unconfirmed, and gc will remove them.
    let report = census(&directories);
    assert_eq!(report.verdict, Verdict::Whole, "{report:#?}");
}

fn put_large(life: &Life, keys: std::ops::Range<u64>) {
    let bucket = life.bucket();
    for n in keys {
        let key = n.to_string();
        let put = put(&*life.engine, bucket, &key, pattern(n, 50_000));
        life.runtime.block_on(put);
    }
}

fn check_large(life: &Life, keys: std::ops::Range<u64>) {
    let bucket = life.bucket();
    for n in keys {
        let got = life
            .runtime
            .block_on(get(&*life.engine, bucket, &n.to_string()));
        assert!(got == pattern(n, 50_000), "{n}");
    }
}

/// Formerly only scrub would have found out, after a fortnight.
#[test]
fn f_14_shards_that_an_older_copy_of_a_disk_lacks_are_rebuilt_at_once() {
    let root = tempfile::tempdir().unwrap();
    let (life, directories) = newborn(root.path());
    put_large(&life, 0..5);
    until(|| status(&life).scrub.finished_ms.is_some());
    life.close();
    let copy = root.path().join("copy");
    let mut cp = std::process::Command::new("cp");
    cp.arg("-r").arg(&directories[1]).arg(&copy);
    assert!(cp.status().unwrap().success());
    let life = Life::begin(&directories);
    put_large(&life, 5..40);
    life.close();
    fs::remove_dir_all(&directories[1]).unwrap();
    fs::rename(&copy, &directories[1]).unwrap();

    // A crash during the inventory makes the next start take it again.
    Life::begin(&directories).cut();
    let life = Life::begin(&directories);
    healed(&life);
    check_large(&life, 0..40);
    life.close();
    assert_whole(&directories);
}

#[test]
fn b_13_f_14_a_disk_that_was_replaced_is_refused_when_it_comes_back() {
    let root = tempfile::tempdir().unwrap();
    let (life, mut directories) = newborn(root.path());
    let ledger = Ledger::default();
    Writers::start(&life, &ledger, "before", 20).end(&life);
    life.close();
    // The disk is offline, and another directory takes its place.
    let old = directories[1].clone();
    let away = root.path().join("away");
    fs::rename(&old, &away).unwrap();
    let life = Life::begin(&directories);
    until(|| {
        status(&life)
            .disks
            .iter()
            .any(|disk| disk.state == DiskState::Offline)
    });
    let advice = status(&life).advice;
    let told = |advice: &String| advice.contains("admin disk replace");
    assert!(advice.iter().any(told), "{advice:?}");
    let new = root.path().join("new");
    assert!(matches!(
        replace(&life, &old, Some(&new)),
        Err(ReplaceError::Directory(_))
    ));
    fs::create_dir(&new).unwrap();
    replace(&life, &old, Some(&new)).unwrap();
    assert!(matches!(
        replace(&life, &old, Some(&new)),
        Err(ReplaceError::Replaced(_) | ReplaceError::Directory(_))
    ));
    healed(&life);
    // Written and deleted while the disk was offline: it must bring nothing back.
    Writers::start(&life, &ledger, "before", 5).end(&life);
    life.close();

    directories[1] = new;
    let life = Life::begin(&directories);
    check(&life, &ledger);
    life.close();
    assert_whole(&directories);

    fs::rename(&away, &old).unwrap();
    let given: Vec<PathBuf> = directories.iter().cloned().chain([old.clone()]).collect();
    let life = Life::begin_refusing(&given, 1);
    let status = status(&life);
    let up = status
        .disks
        .iter()
        .filter(|disk| disk.state == DiskState::Up);
    assert_eq!(up.count(), 4);
    assert!(
        status
            .advice
            .iter()
            .any(|advice| advice.contains("was rebuilt")),
        "{:?}",
        status.advice
    );
    assert!(matches!(
        replace(&life, &old, None),
        Err(ReplaceError::Replaced(_) | ReplaceError::Directory(_))
    ));
    check(&life, &ledger);
    life.close();
}

/// Configures that disks are removed after a second offline.
fn remove_soon(life: &Life) {
    let soon = UpkeepChange {
        remove_after_seconds: Some(1),
        ..UpkeepChange::default()
    };
    let changed = life.engine.change_upkeep(soon);
    life.runtime.block_on(changed).unwrap();
}

#[test]
fn b_16_a_disk_is_removed_by_time_only_where_that_costs_nothing() {
    let root = tempfile::tempdir().unwrap();
    let (life, directories) = newborn(root.path());
    let ledger = Ledger::default();
    Writers::start(&life, &ledger, "before", 10).end(&life);
    remove_soon(&life);
    empty(&directories[3]);
    until(|| is_offline(&life, &directories[3]));
    std::thread::sleep(Duration::from_millis(2500));
    // With three of four disks nothing could be rebuilt: the disk stays offline.
    assert_eq!(status(&life).disks[3].state, DiskState::Offline);
    check(&life, &ledger);
    life.close();
}

/// Found by reading: only the parity of the default class was checked.
#[test]
fn b_16_a_disk_that_alone_has_an_object_is_not_removed_by_time() {
    let root = tempfile::tempdir().unwrap();
    let directories: Vec<PathBuf> = (0..3)
        .map(|n| root.path().join(format!("disk{n}")))
        .collect();
    let mut options = Options::new(directories.clone());
    options.classes.insert("STANDARD".into(), (1, 1));
    options.classes.insert("ONEZONE_IA".into(), (1, 0));
    let runtime = runtime();
    let engine = runtime.block_on(Engine::open(options)).unwrap();
    let life = Life { runtime, engine };
    life.runtime.block_on(async {
        let bucket = create(&*life.engine, "stones").await;
        // Whichever disks get the shards, the last disk gets one in the end.
        for n in (0..1000).take_while(|_| shard_files(&directories[2..]) == 0) {
            let mut request = request(&n.to_string());
            request.attributes.storage_class = "ONEZONE_IA".into();
            let mut body = TestBody::new(pattern(n, 50_000));
            let put = life.engine.put_object(bucket, request, &mut body);
            put.await.unwrap();
        }
    });
    remove_soon(&life);
    fs::rename(&directories[2], root.path().join("away")).unwrap();
    until(|| is_offline(&life, &directories[2]));
    std::thread::sleep(Duration::from_millis(2500));
    assert!(is_offline(&life, &directories[2]));
    life.close();
}

#[test]
fn f_14_a_working_disk_is_not_replaced_and_a_directory_with_files_replaces_none() {
    let root = tempfile::tempdir().unwrap();
    let (life, directories) = newborn(root.path());
    assert!(matches!(
        replace(&life, &directories[0], None),
        Err(ReplaceError::Works(_))
    ));
    assert!(matches!(
        replace(&life, Path::new("nobody"), None),
        Err(ReplaceError::Unknown(_))
    ));
    empty(&directories[2]);
    until(|| is_offline(&life, &directories[2]));
    let photos = root.path().join("photos");
    fs::create_dir(&photos).unwrap();
    fs::write(photos.join("cat"), b"x").unwrap();
    for wrong in [&photos, &directories[1], &root.path().join("nowhere")] {
        assert!(matches!(
            replace(&life, &directories[2], Some(wrong)),
            Err(ReplaceError::Directory(_))
        ));
    }
    assert_eq!(fs::read_dir(&photos).unwrap().count(), 1);
    assert_eq!(status(&life).disks[2].state, DiskState::Offline);
    life.close();
}
