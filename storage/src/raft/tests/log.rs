//! The log and the state machine as openraft sees them: openraft's own suite, and tests of what it
//! leaves out, that answers follow a sync.

use std::sync::atomic::{AtomicU64, Ordering};

use openraft::storage::{IOFlushed, RaftLogStorage as _, RaftLogStorageExt as _};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::vote::RaftLeaderId as _;
use openraft::{EntryPayload, RaftLogReader as _, StorageError};

use super::*;
use crate::raft::log::RaftLog;
use crate::raft::replica::{Applier, SharedState};
use crate::raft::replica_row::{OBJECT_GROUP, ReplicaRow};
use crate::raft::types::{Entry, LogId, Proposal, ReplicaId, Types, Vote};

fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(
        openraft::impls::leader_id_adv::LeaderId::new(term, ReplicaId(7)),
        index,
    )
}

fn entry(index: u64, name: &str) -> Entry {
    let proposal = Proposal::new(put("a", name));
    Entry {
        log_id: log_id(1, index),
        payload: EntryPayload::Normal(proposal),
    }
}

fn open_log(db: &Arc<Db>) -> RaftLog {
    RaftLog::open(db.clone(), ReplicaId(7), Arc::default()).unwrap()
}

struct SuiteBuilder {
    db: Arc<Db>,
    replicas: AtomicU64,
}

impl StoreBuilder<Types, RaftLog, Applier> for SuiteBuilder {
    async fn build(&self) -> Result<((), RaftLog, Applier), StorageError<Types>> {
        // All of the suite's stores live in one database, as groups do.
        let n = self.replicas.fetch_add(1, Ordering::Relaxed);
        let (db, replica) = (self.db.clone(), ReplicaId(n));
        let row = ReplicaRow {
            group: OBJECT_GROUP,
            incarnation: 0,
            state: StateId(n),
        };
        let log = RaftLog::open(db.clone(), replica, Arc::default()).unwrap();
        let shared = Arc::new(SharedState::new(db, replica, row));
        let applier = Applier::open(shared, log.clone()).unwrap();
        Ok(((), log, applier))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_04_openrafts_own_suite() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::create(dir.path(), &DbShared::system()).unwrap();
    Suite::test_all(SuiteBuilder {
        db,
        replicas: AtomicU64::new(1),
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b_60_vote_and_append_are_synced_before_they_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::create(dir.path(), &DbShared::system()).unwrap();
    let mut log = open_log(&db);

    let before = db.wal_syncs();
    log.save_vote(&Vote {
        leader_id: log_id(1, 0).leader_id,
        committed: false,
    })
    .await
    .unwrap();
    assert!(
        db.wal_syncs() > before,
        "a vote was answered without a sync"
    );

    for n in 0..20 {
        let before = db.wal_syncs();
        log.blocking_append([entry(n, "x")]).await.unwrap();
        assert!(
            db.wal_syncs() > before,
            "append {n} was answered without a sync"
        );
    }

    let before = db.wal_syncs();
    log.truncate_after(Some(log_id(1, 10))).await.unwrap();
    assert!(
        db.wal_syncs() > before,
        "a truncation was answered without a sync"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appended_entries_are_readable_before_they_are_durable() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::create(dir.path(), &DbShared::system()).unwrap();
    let mut log = open_log(&db);
    for n in 0..50 {
        log.append([entry(n, "x")], IOFlushed::noop())
            .await
            .unwrap();
        let read = log.try_get_log_entries(0..=n).await.unwrap();
        assert_eq!(read.len() as u64, n + 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reopened_log_has_all_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let shared = DbShared::system();
    let db = Db::create(dir.path(), &shared).unwrap();
    let mut log = open_log(&db);
    let vote = Vote {
        leader_id: log_id(1, 0).leader_id,
        committed: true,
    };
    log.save_vote(&vote).await.unwrap();
    // More than stays in memory.
    let name = "x".repeat(8 << 10);
    for n in 0..100 {
        let entries = (0..10).map(|m| entry(n * 10 + m, &name));
        log.blocking_append(entries).await.unwrap();
    }
    log.truncate_after(Some(log_id(1, 989))).await.unwrap();
    log.purge(log_id(1, 9)).await.unwrap();
    for reopened in [false, true] {
        if reopened {
            drop(log);
            let db = Arc::into_inner(db).unwrap();
            drop(db);
            let db = Db::open(dir.path(), &shared).unwrap();
            log = open_log(&db);
            check(&mut log, vote).await;
            return;
        }
        check(&mut log, vote).await;
    }
}

async fn check(log: &mut RaftLog, vote: Vote) {
    assert_eq!(log.read_vote().await.unwrap(), Some(vote));
    let state = log.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id, Some(log_id(1, 9)));
    assert_eq!(state.last_log_id, Some(log_id(1, 989)));
    let all = log.try_get_log_entries(0..2000).await.unwrap();
    let indexes: Vec<_> = all.iter().map(|entry| entry.log_id.index).collect();
    assert_eq!(indexes, (10..990).collect::<Vec<_>>());
    let some = log.limited_get_log_entries(100, 900).await.unwrap();
    assert_eq!(some[0].log_id.index, 100);
    assert!(
        (1..800).contains(&some.len()),
        "{} entries in one piece",
        some.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_06_a_damaged_entry_ends_the_use_of_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let shared = DbShared::system();
    let db = Db::create(dir.path(), &shared).unwrap();
    let mut log = open_log(&db);
    log.blocking_append((0..10).map(|n| entry(n, "x")))
        .await
        .unwrap();
    // The row that another replica would have written here.
    let mut key = vec![1];
    key.extend_from_slice(&7u64.to_be_bytes());
    key.push(2);
    key.extend_from_slice(&5u64.to_be_bytes());
    let row = crate::raft::types::encode_entry(ReplicaId(8), &entry(5, "x"));
    assert!(
        db.rocks()
            .get_cf(db.family(Family::Log), &key)
            .unwrap()
            .is_some()
    );
    db.synced(|batch| batch.put_cf(db.family(Family::Log), &key, row))
        .await
        .unwrap();
    let mut log = open_log(&db);
    assert!(log.try_get_log_entries(0..10).await.is_err());
    assert!(db.failure().borrow().is_some());
}
