#![allow(clippy::unwrap_used)]
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rocksdb::WriteBatch;

use super::report::{ReplicaState, Report, Verdict};
use super::scan::{Scan, key, table};
use super::{OBJECT_GROUP, SYSTEM_GROUP, check};
use crate::db::{Db, DbShared, Family, StateId};
use crate::disk::identity;
use crate::engine::testing::{self, Whole};
use crate::engine::{Engine, Options};
use crate::meta::record::{
    BucketRow, CountersRow, CurrentRow, DataKind, DataRow, EpochsRow, FinishedTimeRow, GarbageRow,
    GarbageShard, HealRow, NameRow, OverQuotaRow, PartRow, QueueProgress, Record, RemovedDisk,
    RemovedDisksRow, UsageRow, VersionRow,
};
use crate::raft::disk::OpenDisk;
use crate::raft::inspect::replicas;
use crate::raft::recovery::roster;
use drystone_store::env::SystemEnv;
use drystone_store::instance::Instance as _;
use drystone_store::types::{BucketId, Epoch, Order, Timestamp, WriteId};
use drystone_store::uploads::Uploads as _;

fn body(len: usize) -> Whole {
    Whole::new(vec![7; len])
}

/// A stopped store on two disks with an inline object, one in shards, and an upload with a part.
struct Stopped {
    _root: tempfile::TempDir,
    directories: Vec<PathBuf>,
}

impl Stopped {
    async fn new() -> Stopped {
        let root = tempfile::tempdir().unwrap();
        let directories: Vec<_> = (0..2).map(|n| root.path().join(format!("{n}"))).collect();
        let engine = Engine::open(Options::new(directories.clone()))
            .await
            .unwrap();
        let bucket = testing::create_bucket(&engine).await;
        for (key, len) in [("a", 100), ("b", 300_000)] {
            testing::put(&engine, bucket, key, &mut body(len)).await;
        }
        let upload = testing::create_upload(&engine, bucket, "c").await;
        let mut part = body(300_000);
        let put = engine.upload_part(bucket, "c", upload, 1, &mut part);
        put.await.unwrap();
        engine.close().await;
        drop(engine);
        Stopped {
            _root: root,
            directories,
        }
    }

    /// Checks the store as soon as the last user has released the disks.
    async fn check(&self) -> Report {
        loop {
            match check(Arc::new(SystemEnv), &self.directories, 10) {
                Err(super::Error::Directories(crate::disk::identity::IdentityError::Locked {
                    ..
                })) => tokio::time::sleep(Duration::from_millis(20)).await,
                report => return report.unwrap(),
            }
        }
    }

    /// Applies the batch of `change` to the states of the objects' group on the first `disks`
    /// disks.
    async fn write(&self, disks: usize, change: Change) {
        self.write_in(OBJECT_GROUP, disks, change).await;
    }

    async fn write_in(
        &self,
        group: u64,
        disks: usize,
        change: impl Fn(&Db, StateId) -> WriteBatch,
    ) {
        for directory in &self.directories[..disks] {
            let db = database(directory).await;
            for replica in replicas(&db).unwrap() {
                if replica.group() == group {
                    let batch = change(&db, replica.state());
                    assert!(!batch.is_empty());
                    db.write_unsynced(batch).unwrap();
                }
            }
        }
    }
}

/// Opens the database as soon as the last user of the disk has released it.
async fn database(directory: &Path) -> Arc<Db> {
    let shared = DbShared::system();
    loop {
        match Db::open(&directory.join("meta"), &shared) {
            Err(error) if error.to_string().contains("lock hold by") => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            opened => return opened.unwrap(),
        }
    }
}

type Change = fn(&Db, StateId) -> WriteBatch;

/// Returns the keys and records of a table.
fn rows<R: Record>(db: &Db, state: StateId, table: u8) -> Vec<(Vec<u8>, R)> {
    let mut rows = Scan::of_table(db, state, table, &[]);
    let mut found = Vec::new();
    while let Some((row, value)) = rows.next().unwrap() {
        found.push((key(state, table, &row), R::decode(&value).unwrap()));
    }
    found
}

/// Changes or removes each record of a table.
fn each<R: Record>(
    db: &Db,
    state: StateId,
    table: u8,
    change: impl Fn(R) -> Option<R>,
) -> WriteBatch {
    let mut batch = WriteBatch::default();
    let family = db.family(Family::State);
    for (row, record) in rows::<R>(db, state, table) {
        match change(record) {
            Some(record) => batch.put_cf(family, row, record.encode()),
            None => batch.delete_cf(family, row),
        }
    }
    batch
}

/// Changes that break a rule, each with a part of the sentence that reports it.
const CONTRADICTIONS: &[(&str, Change)] = &[
    ("current is not the newest", |db, state| {
        each::<CurrentRow>(db, state, table::CURRENT, |_| None)
    }),
    ("current is not the newest", |db, state| {
        each::<CurrentRow>(db, state, table::CURRENT, |row| {
            Some(CurrentRow {
                order: Order(row.order.0 + 1),
                ..row
            })
        })
    }),
    ("has no version", |db, state| {
        let (mut row, record) = rows::<CurrentRow>(db, state, table::CURRENT).remove(0);
        row.push(b'x');
        let mut batch = WriteBatch::default();
        batch.put_cf(db.family(Family::State), row, record.encode());
        batch
    }),
    ("counts 2 references, has 1", |db, state| {
        each::<DataRow>(db, state, table::DATA, |row| {
            Some(DataRow { refs: 2, ..row })
        })
    }),
    ("has 0", |db, state| {
        let (row, record) = rows::<DataRow>(db, state, table::DATA).remove(0);
        let mut batch = WriteBatch::default();
        let row = [&row[..9], &[5; 16]].concat();
        batch.put_cf(db.family(Family::State), row, record.encode());
        batch
    }),
    ("give different sizes", |db, state| {
        each::<VersionRow>(db, state, table::VERSIONS, |mut row| {
            row.object.as_mut().unwrap().size += 1;
            Some(row)
        })
    }),
    ("counts UsageRow", |db, state| {
        each::<UsageRow>(db, state, table::USAGE, |row| {
            Some(UsageRow { objects: 9, ..row })
        })
    }),
    ("counts UsageRow", |db, state| {
        each::<UsageRow>(db, state, table::USAGE, |row| {
            Some(UsageRow {
                part_bytes: 9,
                ..row
            })
        })
    }),
    ("its soft quota and the table", |db, state| {
        each::<BucketRow>(db, state, table::BUCKETS, |mut row| {
            row.quota.soft_objects = Some(0);
            Some(row)
        })
    }),
    ("is in the table over-quota", |db, state| {
        let mut batch = WriteBatch::default();
        let row = key(state, table::OVER_QUOTA, &77u64.to_be_bytes());
        let since = drystone_store::types::Timestamp(0);
        batch.put_cf(
            db.family(Family::State),
            row,
            OverQuotaRow { since }.encode(),
        );
        batch
    }),
    ("is not found by its id", |db, state| {
        each::<crate::meta::record::OrderRow>(db, state, table::IDS, |_| None)
    }),
    ("is not found by its id", |db, state| {
        each::<crate::meta::record::UploadAt>(db, state, table::UPLOAD_IDS, |_| None)
    }),
    ("which does not exist", |db, state| {
        each::<crate::meta::record::UploadRow>(db, state, table::UPLOADS, |_| None)
    }),
    ("part list 0505", |db, state| {
        let mut batch = WriteBatch::default();
        let (_, version) = rows::<VersionRow>(db, state, table::VERSIONS).remove(0);
        let part = PartRow {
            write_id: version.object.unwrap().write_id,
            size: 1,
            etag: rows::<CurrentRow>(db, state, table::CURRENT)[0].1.etag,
            checksum: None,
        };
        let row = key(
            state,
            table::PARTS,
            &[[5; 16].as_slice(), &[0; 10]].concat(),
        );
        batch.put_cf(db.family(Family::State), row, part.encode());
        batch
    }),
    ("is also garbage", |db, state| {
        let mut batch = WriteBatch::default();
        for (row, record) in rows::<DataRow>(db, state, table::DATA) {
            if let DataKind::Shards(shards) = record.kind {
                let bucket = record.bucket;
                let row = key(state, table::GARBAGE, &[&[0; 8], &row[9..]].concat());
                let shards = GarbageShard::all_of(&shards);
                let garbage = GarbageRow {
                    bucket,
                    shards,
                    is_part_list: false,
                };
                batch.put_cf(db.family(Family::State), row, garbage.encode());
            }
        }
        batch
    }),
    ("was never written and is not queued", |db, state| {
        each::<DataRow>(db, state, table::DATA, |mut row| {
            if let DataKind::Shards(shards) = &mut row.kind {
                shards.shards[0].missing = true;
            }
            Some(row)
        })
    }),
    ("has no valid place", |db, state| {
        each::<DataRow>(db, state, table::DATA, |mut row| {
            if let DataKind::Shards(shards) = &mut row.kind {
                shards.shards[0].disk = shards.shards[1].disk;
            }
            Some(row)
        })
    }),
    ("its bucket does not exist", |db, state| {
        each::<crate::meta::record::BucketRow>(db, state, table::BUCKETS, |_| None)
    }),
    ("a limit above its epoch", |db, state| {
        each::<EpochsRow>(db, state, table::EPOCHS, |row| {
            let floor = Epoch(row.epoch.0 + 1);
            Some(EpochsRow { floor, ..row })
        })
    }),
    ("is out of order", |db, state| {
        let mut batch = WriteBatch::default();
        let etag = rows::<CurrentRow>(db, state, table::CURRENT)[0].1.etag;
        for (offset, number) in [(0u64, 2u16), (1, 1)] {
            let part = PartRow {
                write_id: WriteId([6; 16]),
                size: 1,
                etag,
                checksum: None,
            };
            let at = [&[5; 16][..], &offset.to_be_bytes(), &number.to_be_bytes()];
            let row = key(state, table::PARTS, &at.concat());
            batch.put_cf(db.family(Family::State), row, part.encode());
        }
        batch
    }),
    ("queued for heal and does not exist", |db, state| {
        let mut batch = WriteBatch::default();
        for (row, record) in rows::<DataRow>(db, state, table::DATA) {
            let heal = HealRow {
                bucket: record.bucket,
                since: Timestamp(0),
            };
            let row = key(state, table::HEAL, &[&row[9..], &[77]].concat());
            batch.put_cf(db.family(Family::State), row, heal.encode());
        }
        batch
    }),
    ("was finished and has no outcome", |db, state| {
        let mut batch = WriteBatch::default();
        let row = key(state, table::FINISHED_TIMES, &[0; 24]);
        batch.put_cf(db.family(Family::State), row, FinishedTimeRow.encode());
        batch
    }),
    ("does not lead to it", |db, state| {
        each::<crate::meta::record::BucketRow>(db, state, table::BUCKETS, |row| {
            let name = "sticks".into();
            Some(crate::meta::record::BucketRow { name, ..row })
        })
    }),
];

/// Makes a batch that restores all rows of a state.
fn copy(db: &Db, state: StateId) -> WriteBatch {
    let mut batch = WriteBatch::default();
    for family in [Family::State, Family::Values] {
        let prefix = state.0.to_be_bytes();
        let end = [&prefix[..], &[0xff]].concat();
        batch.delete_range_cf(db.family(family), &prefix[..], &end[..]);
        let mut rows = Scan::new(db, family, &prefix);
        while let Some((row, value)) = rows.next().unwrap() {
            batch.put_cf(db.family(family), [&prefix[..], &row].concat(), value);
        }
    }
    batch
}

async fn saved(directory: &Path) -> WriteBatch {
    let db = database(directory).await;
    let replicas = replicas(&db).unwrap();
    let own = replicas
        .iter()
        .find(|replica| replica.group() == OBJECT_GROUP);
    copy(&db, own.unwrap().state())
}

#[tokio::test]
async fn r_31_rows_that_contradict_each_other_are_reported() {
    let store = Stopped::new().await;
    let report = store.check().await;
    assert_eq!(report.verdict, Verdict::Whole, "{report:#?}");
    let mut all = Vec::new();
    for directory in &store.directories {
        all.push((directory, saved(directory).await));
    }
    for (word, change) in CONTRADICTIONS {
        store.write(2, *change).await;
        let report = store.check().await;
        let reported = report.problems.iter().any(|problem| problem.contains(word));
        assert!(reported, "{word}: {report:#?}");
        assert!(report.verdict >= Verdict::Inconsistent, "{word}");
        for (directory, saved) in &all {
            let db = database(directory).await;
            db.write_unsynced(WriteBatch::from_data(saved.data()))
                .unwrap();
        }
    }
    assert_eq!(store.check().await.verdict, Verdict::Whole);
}

/// Found by reading: a name that led nowhere was "whole", and so were ids that would be given
/// again.
#[tokio::test]
async fn r_31_names_and_ids_of_buckets_are_checked_from_the_system_s_group() {
    let changes: [(&str, Change); 2] = [
        ("which is not there", |db, state| {
            let mut batch = WriteBatch::default();
            let (_, row) = rows::<NameRow>(db, state, table::NAMES).remove(0);
            let row = NameRow {
                id: BucketId(row.id.0 + 77),
                ..row
            };
            let name = key(state, table::NAMES, b"nowhere");
            batch.put_cf(db.family(Family::State), name, row.encode());
            batch
        }),
        ("the next bucket gets the id 1", |db, state| {
            each::<CountersRow>(db, state, table::COUNTERS, |_| {
                let next_bucket = BucketId(1);
                Some(CountersRow { next_bucket })
            })
        }),
    ];
    for (word, change) in changes {
        let store = Stopped::new().await;
        store.write_in(SYSTEM_GROUP, 2, change).await;
        let report = store.check().await;
        let reported = report.problems.iter().any(|problem| problem.contains(word));
        assert!(reported, "{word}: {report:#?}");
    }
}

/// Once the first bad row ended the check with one sentence, and the tool that should say which
/// rows are bad said nothing of all others.
#[tokio::test]
async fn b_11_r_15_a_row_that_does_not_decode_is_reported_and_the_rest_is_checked() {
    let store = Stopped::new().await;
    let mut all = Vec::new();
    for directory in &store.directories {
        all.push((directory, saved(directory).await));
    }
    for bad in [
        table::EPOCHS,
        table::BUCKETS,
        table::USAGE,
        table::VERSIONS,
        table::CURRENT,
        table::IDS,
        table::DATA,
        table::UPLOADS,
        table::UPLOAD_IDS,
        table::UPLOAD_PARTS,
    ] {
        let spoil = |db: &Db, state| {
            let mut batch = WriteBatch::default();
            let row = Scan::of_table(db, state, bad, &[]).next().unwrap();
            let row = key(state, bad, &row.unwrap().0);
            batch.put_cf(db.family(Family::State), row, b"\x01");
            batch
        };
        store.write_in(OBJECT_GROUP, 2, spoil).await;
        let report = store.check().await;
        let is_reported = |problem: &String| problem.contains("does not decode");
        let reported = report.problems.iter().any(is_reported);
        assert!(reported, "{bad:02x}: {report:#?}");
        assert!(report.objects.whole >= 1, "{bad:02x}: {report:#?}");
        // The bad data row is that of the inline object, or of two shards.
        let shards = report.shards.whole;
        assert!(
            shards == 4 || bad == table::DATA && shards == 2,
            "{bad:02x}: {report:#?}"
        );
        for (directory, saved) in &all {
            let db = database(directory).await;
            db.write_unsynced(WriteBatch::from_data(saved.data()))
                .unwrap();
        }
    }
    assert_eq!(store.check().await.verdict, Verdict::Whole);
}

/// Once a database that no start would use spoke like any other.
#[tokio::test]
async fn r_31_metadata_that_a_start_would_not_use_say_nothing() {
    let store = Stopped::new().await;
    store.check().await;
    let (disks, _) = identity::lock_only(&store.directories, &SystemEnv).unwrap();
    let [by, of] = [0, 1].map(|n| disks[n].identity.disk);
    drop(disks);
    let db = database(&store.directories[0]).await;
    let by = OpenDisk { id: by, db };
    let marked = roster::mark_known(&by, of, roster::DatabaseFault::Damaged);
    marked.await.unwrap();
    by.db.close();
    drop(by);
    let report = store.check().await;
    let problem = report.disks[1].problem.clone().unwrap_or_default();
    assert!(problem.contains("marked"), "{report:#?}");
    for group in &report.groups {
        assert_eq!(group.replicas[1].state, ReplicaState::Stale);
    }
}

#[tokio::test]
async fn r_31_replicas_that_differ_are_reported() {
    let store = Stopped::new().await;
    let change: Change = |db, state| {
        each::<UsageRow>(db, state, table::USAGE, |row| {
            Some(UsageRow { objects: 9, ..row })
        })
    };
    store.write(1, change).await;
    let report = store.check().await;
    let differ = "rows differ from the other replicas in state 12";
    let reported = report
        .problems
        .iter()
        .any(|problem| problem.contains(differ));
    assert!(
        reported && report.verdict == Verdict::Inconsistent,
        "{report:#?}"
    );
}

#[tokio::test]
async fn r_31_bytes_missing_from_the_metadata_are_lost() {
    let changes: [(&str, Change); 2] = [
        ("its inline bytes are missing", |db, state| {
            let mut batch = WriteBatch::default();
            let mut rows = Scan::new(db, Family::Values, &state.0.to_be_bytes());
            while let Some((row, _)) = rows.next().unwrap() {
                let row = [&state.0.to_be_bytes()[..], &row].concat();
                batch.delete_cf(db.family(Family::Values), row);
            }
            batch
        }),
        ("no data row says where its bytes are", |db, state| {
            each::<DataRow>(db, state, table::DATA, |_| None)
        }),
    ];
    for (reason, change) in changes {
        let store = Stopped::new().await;
        store.write(2, change).await;
        let report = store.check().await;
        assert_eq!(report.verdict, Verdict::Lost, "{report:#?}");
        let damaged = &report.damaged[0];
        assert_eq!(
            (damaged.bucket.as_str(), damaged.key.as_str()),
            ("stones", "a")
        );
        assert_eq!(damaged.reasons, [reason]);
    }
}

#[tokio::test]
async fn r_31_shards_on_a_removed_disk_count_as_offline() {
    let store = Stopped::new().await;
    let change: Change = |db, state| {
        let shards = rows::<DataRow>(db, state, table::DATA).into_iter();
        let mut disks = shards.filter_map(|(_, row)| match row.kind {
            DataKind::Shards(shards) => Some(shards.shards.iter().map(|at| at.disk).min()),
            _ => None,
        });
        let disk = disks.next().flatten().unwrap();
        let progress = QueueProgress::Complete;
        let expelled = RemovedDisksRow(vec![RemovedDisk { disk, progress }]);
        let mut batch = WriteBatch::default();
        let row = key(state, table::REMOVED_DISKS, &[]);
        batch.put_cf(db.family(Family::State), row, expelled.encode());
        batch
    };
    store.write(2, change).await;
    let report = store.check().await;
    assert_eq!(report.verdict, Verdict::Degraded, "{report:#?}");
    assert_eq!((report.shards.offline, report.shards.whole), (2, 2));
    assert_eq!(report.files.unknown, 0);
}
