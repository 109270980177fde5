//! The promises of a disk's database, across kills, truncated files and faults.

#![allow(clippy::unwrap_used)]

use std::fs;

use super::*;

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn put<'a>(db: &'a Db, key: &'a [u8], value: &'a [u8]) -> impl FnOnce(&mut WriteBatch) + 'a {
    move |batch| batch.put_cf(db.family(Family::Log), key, value)
}

fn newest_wal(dir: &Path) -> std::path::PathBuf {
    let mut wals: Vec<_> = fs::read_dir(dir.join("rocksdb"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "log"))
        .collect();
    wals.sort();
    wals.pop().unwrap()
}

#[tokio::test]
async fn b_60_an_answer_follows_a_sync_of_the_wal() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::create(dir.path(), &DbShared::system()).unwrap();
    let before = db.wal_syncs();
    let (tx, rx) = tokio::sync::oneshot::channel();
    let seen = db.clone();
    let done = move |result: Result<(), DbError>| {
        tx.send((result.is_ok(), seen.wal_syncs())).ok();
    };
    db.write_synced(put(&db, b"k", b"v"), done).await;
    let (ok, after) = rx.await.unwrap();
    assert!(
        ok && after > before,
        "{before} syncs before, {after} at the answer"
    );
}

#[tokio::test]
async fn answers_come_in_order_and_share_syncs() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::create(dir.path(), &DbShared::system()).unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let before = db.syncs().durations().count();
    // Makes the log thread wait until all writes are queued, however fast syncs are.
    let (release, released) = std::sync::mpsc::channel::<()>();
    db.write_synced(put(&db, b"first", b"v"), move |_| {
        released.recv().ok();
    })
    .await;
    for n in 0..200u32 {
        let order = order.clone();
        let done = move |_| order.lock().push(n);
        db.write_synced(put(&db, &n.to_be_bytes(), b"v"), done)
            .await;
    }
    drop(release);
    db.synced(put(&db, b"last", b"v")).await.unwrap();
    assert_eq!(*order.lock(), (0..200).collect::<Vec<_>>());
    // One for the first write, one for those queued before the thread waited, one for the rest.
    assert!(db.syncs().durations().count() - before <= 3);
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let shared = DbShared::system();
    let db = Db::create(&dir.path().join("a"), &shared).unwrap();
    for n in 0..20u32 {
        db.synced(put(&db, &n.to_be_bytes(), b"v")).await.unwrap();
    }
    // The directory now holds the files that a killed process leaves.
    copy_dir(&dir.path().join("a"), &dir.path().join("b"));
    let again = Db::open(&dir.path().join("b"), &shared).unwrap();
    for n in 0..20u32 {
        let value = again
            .rocks()
            .get_cf(again.family(Family::Log), n.to_be_bytes())
            .unwrap();
        assert_eq!(value.as_deref(), Some(&b"v"[..]));
    }
}

#[tokio::test]
async fn b_67_a_wal_that_lost_synced_records_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let shared = DbShared::system();
    let db = Db::create(&dir.path().join("a"), &shared).unwrap();
    for n in 0..20u32 {
        db.synced(put(&db, &n.to_be_bytes(), &[7; 100]))
            .await
            .unwrap();
    }
    let wal = fs::read(newest_wal(&dir.path().join("a"))).unwrap();
    let used = wal.iter().rposition(|b| *b != 0).unwrap() + 1;
    for (name, truncate) in [("truncate", true), ("flip", false)] {
        for at in [used - 1, used - 60, used / 2] {
            let image = dir.path().join(format!("{name}{at}"));
            copy_dir(&dir.path().join("a"), &image);
            let mut bytes = wal.clone();
            if truncate {
                bytes.truncate(at)
            } else {
                bytes[at] ^= 0x10
            }
            fs::write(newest_wal(&image), bytes).unwrap();
            assert!(
                Db::open(&image, &shared).is_err(),
                "{name} at {at} of {used}"
            );
        }
    }
}

#[tokio::test]
async fn a_torn_tail_that_was_not_synced_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let shared = DbShared::system();
    let db = Db::create(&dir.path().join("a"), &shared).unwrap();
    db.synced(put(&db, b"synced", b"v")).await.unwrap();
    let mut batch = WriteBatch::default();
    batch.put_cf(db.family(Family::State), b"unsynced", [7; 100]);
    db.write_unsynced(batch).unwrap();
    let image = dir.path().join("b");
    copy_dir(&dir.path().join("a"), &image);
    let wal = fs::read(newest_wal(&image)).unwrap();
    let used = wal.iter().rposition(|b| *b != 0).unwrap() + 1;
    fs::write(newest_wal(&image), &wal[..used - 30]).unwrap();
    let again = Db::open(&image, &shared).unwrap();
    let get = |family, key: &[u8]| again.rocks().get_cf(again.family(family), key).unwrap();
    assert!(get(Family::Log, b"synced").is_some());
    assert!(get(Family::State, b"unsynced").is_none());
}

#[tokio::test]
async fn b_66_the_first_error_ends_all_writing() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::create(dir.path(), &DbShared::system()).unwrap();
    let mut failure = db.failure();
    assert!(failure.borrow().is_none());
    db.break_disk();
    assert!(db.synced(put(&db, b"a", b"v")).await.is_err());
    failure.changed().await.unwrap();
    let syncs = db.wal_syncs();
    assert!(db.synced(put(&db, b"b", b"v")).await.is_err());
    assert!(db.write_unsynced(WriteBatch::default()).is_err());
    assert_eq!(db.wal_syncs(), syncs, "no fsync is tried again");
}

/// Found by reading: later writers waited forever.
#[tokio::test]
async fn r_16_a_log_thread_that_panics_ends_the_use_of_its_database() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::create(dir.path(), &DbShared::system()).unwrap();
    db.write_synced(put(&db, b"a", b"1"), |_| panic!("as a test"))
        .await;
    for _ in 0..2 {
        let written = db.synced(put(&db, b"b", b"2"));
        let written = tokio::time::timeout(std::time::Duration::from_secs(120), written).await;
        assert!(written.unwrap().is_err());
    }
    assert!(db.failure().borrow().is_some());
}

#[tokio::test]
async fn closing_writes_what_waits() {
    let dir = tempfile::tempdir().unwrap();
    let shared = DbShared::system();
    let db = Db::create(dir.path(), &shared).unwrap();
    db.write_synced(put(&db, b"k", b"v"), |_| ()).await;
    db.close();
    assert!(matches!(
        db.synced(put(&db, b"l", b"v")).await,
        Err(DbError::Closed)
    ));
    drop(db);
    let db = Db::open(dir.path(), &shared).unwrap();
    assert!(
        db.rocks()
            .get_cf(db.family(Family::Log), b"k")
            .unwrap()
            .is_some()
    );
}

/// Changes a byte in the middle of a file of each kind.
#[tokio::test]
async fn f_05_r_22_reading_again_finds_what_rotted_in_a_file() {
    for kind in ["sst", "blob"] {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::create(dir.path(), &DbShared::system()).unwrap();
        let value = vec![7; 3000];
        db.synced(|batch| {
            for n in 0..500u32 {
                batch.put_cf(db.family(Family::State), n.to_be_bytes(), &value[..50]);
                batch.put_cf(db.family(Family::Values), n.to_be_bytes(), &value);
            }
        })
        .await
        .unwrap();
        db.flush(&Family::ALL).unwrap();
        let through = || {
            let (mut read, mut at) = (0, None);
            loop {
                let (bytes, next) = db.read_again(at, 10_000)?;
                read += bytes;
                match next {
                    Some(next) => at = Some(next),
                    None => return Ok::<u64, DbError>(read),
                }
            }
        };
        assert!(through().unwrap() >= 500 * 3050);
        let files = fs::read_dir(dir.path().join("rocksdb")).unwrap();
        let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|e| e == kind));
        files.sort_by_key(|path| fs::metadata(path).unwrap().len());
        let largest = files.pop().unwrap();
        let mut bytes = fs::read(&largest).unwrap();
        let middle = bytes.len() / 3;
        bytes[middle] ^= 1;
        fs::write(&largest, bytes).unwrap();
        assert!(matches!(through(), Err(DbError::Damaged(_))), "{kind}");
        assert!(db.failure().borrow().is_some());
    }
}

/// Power went while files were written that the database did not have yet.
#[test]
fn f_23_files_that_were_not_ingested_are_removed_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    drop(Db::create(dir.path(), &DbShared::system()).unwrap());
    let incoming = dir.path().join("incoming");
    fs::create_dir(&incoming).unwrap();
    fs::write(incoming.join("state-0000000000000001.sst"), b"half").unwrap();
    drop(Db::open(dir.path(), &DbShared::system()).unwrap());
    assert!(!incoming.exists());
}

/// Returns the number of entries in the memtables of the state, and the bytes of its tables.
fn entries(db: &Db) -> u64 {
    let state = db.family(Family::State);
    let of = |name: &str| db.rocks().property_int_value_cf(state, name);
    let names = [
        "rocksdb.num-entries-active-mem-table",
        "rocksdb.num-entries-imm-mem-tables",
        "rocksdb.total-sst-files-size",
    ];
    names.iter().map(|name| of(name).unwrap().unwrap()).sum()
}

/// Returns how long it takes to find that all rows are deleted.
fn scan(db: &Db) -> std::time::Duration {
    let begun = std::time::Instant::now();
    let mut rows = db.rocks().raw_iterator_cf(db.family(Family::State));
    rows.seek_to_first();
    assert!(!rows.valid());
    begun.elapsed()
}

/// The first scan takes as long as each one did before deleted rows were compacted away.
#[tokio::test]
#[ignore = "takes a minute; run by hand"]
async fn bench_scan_of_deleted_rows() {
    const ROWS: u32 = 1_000_000;
    let dir = tempfile::tempdir().unwrap();
    let db = Db::create(dir.path(), &DbShared::system()).unwrap();
    let state = db.family(Family::State);
    let empty = scan(&db);
    for is_deletion in [false, true] {
        for first in (0..ROWS).step_by(1000) {
            let mut batch = WriteBatch::default();
            for n in first..first + 1000 {
                match is_deletion {
                    false => batch.put_cf(state, n.to_be_bytes(), [7; 100]),
                    true => batch.delete_cf(state, n.to_be_bytes()),
                }
            }
            db.write_unsynced(batch).unwrap();
        }
    }
    let begun = std::time::Instant::now();
    println!(
        "{ROWS} rows deleted; a scan takes {:.1?} at once",
        scan(&db)
    );
    while entries(&db) > 1000 && begun.elapsed().as_secs() < 60 {
        let mut batch = WriteBatch::default();
        batch.delete_cf(state, b"none");
        db.write_unsynced(batch).unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        scan(&db);
    }
    let later = begun.elapsed();
    println!(
        "{later:.1?} later {:.1?}; without any rows {empty:.1?}",
        scan(&db)
    );
}

/// Once a scan of rows that were deleted stepped over each of them, however often it was repeated:
/// nothing flushed them, and nothing compacted them away.
#[tokio::test]
async fn deleted_rows_that_a_scan_meets_are_compacted_away() {
    const ROWS: u32 = 20_000;
    let dir = tempfile::tempdir().unwrap();
    let db = Db::create(dir.path(), &DbShared::system()).unwrap();
    let state = db.family(Family::State);
    let mut batch = WriteBatch::default();
    (0..ROWS).for_each(|n| batch.put_cf(state, n.to_be_bytes(), b"row"));
    db.write_unsynced(batch).unwrap();
    db.flush(&[Family::State]).unwrap();
    let mut batch = WriteBatch::default();
    (0..ROWS).for_each(|n| batch.delete_cf(state, n.to_be_bytes()));
    db.write_unsynced(batch).unwrap();
    assert!(entries(&db) > u64::from(ROWS));
    scan(&db);
    let begun = std::time::Instant::now();
    while entries(&db) > 100 {
        assert!(begun.elapsed().as_secs() < 120, "{} stay", entries(&db));
        // A memtable that is due is flushed with the next write.
        let mut batch = WriteBatch::default();
        batch.delete_cf(state, b"none");
        db.write_unsynced(batch).unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
