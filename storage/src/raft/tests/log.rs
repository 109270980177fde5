//! The log and the state machine as openraft sees them: openraft's own suite, and tests of what it
//! leaves out, that answers follow a sync.

use std::sync::atomic::{AtomicU64, Ordering};

use openraft::storage::{
    IOFlushed, RaftLogStorage as _, RaftLogStorageExt as _, RaftStateMachine as _,
};
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
        let log = log.allowing_holes();
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

fn new_db() -> (tempfile::TempDir, Arc<Db>) {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::create(dir.path(), &DbShared::system()).unwrap();
    (dir, db)
}

/// Found by reading: openraft checks this in builds with its debug assertions alone, and a hole
/// would have made a replica that silently differs from the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b_62_a_log_accepts_no_hole() {
    let (_dir, db) = new_db();
    let mut log = open_log(&db);
    log.blocking_append((0..10).map(|n| entry(n, "x")))
        .await
        .unwrap();
    for index in [11, 9, 0] {
        let appended = log.append([entry(index, "x")], IOFlushed::noop()).await;
        assert!(appended.is_err(), "entry {index} after the ninth");
    }
    log.purge(log_id(1, 4)).await.unwrap();
    // Later entries must not be given in the place of those that are asked for.
    assert!(log.limited_get_log_entries(3, 8).await.is_err());
    let first = |entries: Vec<Entry>| entries[0].log_id.index;
    assert_eq!(first(log.limited_get_log_entries(5, 8).await.unwrap()), 5);
    assert!(log.limited_get_log_entries(3, 3).await.unwrap().is_empty());
    log.blocking_append([entry(10, "x")]).await.unwrap();
    assert!(db.failure().borrow().is_none());
}

fn open_applier(db: &Arc<Db>, log: &RaftLog) -> Applier {
    let row = ReplicaRow {
        group: OBJECT_GROUP,
        incarnation: 0,
        state: StateId(7),
    };
    let shared = Arc::new(SharedState::new(db.clone(), ReplicaId(7), row));
    Applier::open(shared, log.clone()).unwrap()
}

async fn apply(applier: &mut Applier, entries: Vec<Entry>) -> std::io::Result<()> {
    let entries = entries.into_iter().map(|entry| Ok((entry, None)));
    let entries = futures_util::stream::iter(entries);
    applier.apply(entries).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b_62_a_state_skips_no_entry() {
    let (_dir, db) = new_db();
    let log = open_log(&db);
    let mut applier = open_applier(&db, &log);
    let entries = |indexes: &[u64]| indexes.iter().map(|n| entry(*n, "x")).collect();
    assert!(apply(&mut applier, entries(&[1])).await.is_err());
    apply(&mut applier, entries(&[0, 1])).await.unwrap();
    for wrong in [&[3][..], &[1], &[2, 4]] {
        assert!(
            apply(&mut applier, entries(wrong)).await.is_err(),
            "{wrong:?}"
        );
    }
    let applied = applier.applied_state().await.unwrap().0;
    assert_eq!(applied, Some(log_id(1, 1)));
}

/// Found by reading: a reader that came between the removal of the rows and the end of its sync
/// took the purge for lost entries, and the database for damaged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b_62_purged_entries_are_known_as_purged_before_they_are_removed() {
    let (_dir, db) = new_db();
    let mut log = open_log(&db);
    log.blocking_append((0..10).map(|n| entry(n, "x")))
        .await
        .unwrap();
    let upto = log_id(1, 4);
    log.state_flushed(Some(&upto));
    // As far as it comes without waiting: its rows are on their way out.
    drop(futures_util::FutureExt::now_or_never(log.purge(upto)));
    let state = log.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id, Some(upto));
    let left = log.try_get_log_entries(0..10).await.unwrap();
    assert_eq!(left[0].log_id.index, 5);
}

/// Found by reading: the old state was removed before the new one was in use, and a read in between
/// found nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_23_the_old_state_stays_until_the_new_one_is_in_use() {
    let (_dir, db) = new_db();
    let log = open_log(&db);
    let mut applier = open_applier(&db, &log);
    apply(&mut applier, vec![entry(0, "x")]).await.unwrap();
    let old = ReplicaRow {
        group: OBJECT_GROUP,
        incarnation: 0,
        state: StateId(7),
    };
    let (meta, outgoing) = crate::raft::snapshot::send(db.clone(), old.state)
        .await
        .unwrap();
    let received = crate::raft::snapshot::receive(db.clone(), outgoing, Default::default())
        .await
        .unwrap();
    let new = crate::raft::snapshot::switch_state(&db, ReplicaId(7), old, received, &meta)
        .await
        .unwrap();
    for state in [old.state, new.state] {
        let tables = crate::meta::state_machine::State::new(db.clone(), state);
        let account = tables.view().account(&AccountId("a".into())).unwrap();
        assert!(account.is_some(), "{state:?}");
    }
}

/// These bytes are in the logs of stores.
#[test]
fn f_36_frames_and_memberships_of_version_1_are_encoded_as_ever() {
    use crate::meta::keys::hex;
    use crate::raft::types::{Membership, Seat, decode_entry, encode_entry, encode_vote};
    let disk = DiskId([0xdd; 16]);
    let seats = [7, 8].map(|n| (ReplicaId(n), Seat { disk }));
    let voters = vec![[7, 8].map(ReplicaId).into()];
    let membership = Membership::new(voters, std::collections::BTreeMap::from(seats)).unwrap();
    let disk = "dd".repeat(16);
    let payloads = [
        (EntryPayload::Blank, "0100", String::new()),
        (
            EntryPayload::Membership(membership),
            "0102",
            format!("010102070802 07{disk}08{disk}").replace(' ', ""),
        ),
    ];
    let log_id_bytes = "000000000000000100000000000000070000000000000009";
    for (payload, head, rest) in payloads {
        let entry = Entry {
            log_id: log_id(1, 9),
            payload,
        };
        let bytes = encode_entry(ReplicaId(7), &entry);
        let (bytes_of_entry, _seal) = bytes.split_at(bytes.len() - 8);
        assert_eq!(hex(bytes_of_entry), format!("{head}{log_id_bytes}{rest}"));
        let decoded = decode_entry(ReplicaId(7), &bytes).unwrap();
        assert_eq!(decoded.log_id, entry.log_id);
    }
    let command = encode_entry(ReplicaId(7), &entry(9, "x"));
    assert!(hex(&command).starts_with(&format!("0101{log_id_bytes}01")));
    let vote = Vote {
        leader_id: log_id(1, 0).leader_id,
        committed: true,
    };
    let vote = hex(&encode_vote(ReplicaId(7), &vote));
    assert!(vote.starts_with(&format!("0101{}", &log_id_bytes[..32])));
}

/// An entry that verifies and does not decode was written by another version of the program: the
/// disk is not to blame, and the replica does not continue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_36_an_entry_of_a_newer_version_is_no_damage() {
    let (_dir, db) = new_db();
    let mut log = open_log(&db);
    log.blocking_append((0..10).map(|n| entry(n, "x")))
        .await
        .unwrap();
    let whole = crate::raft::types::encode_entry(ReplicaId(7), &entry(5, "x"));
    let mut newer = whole[..whole.len() - 8].to_vec();
    // The version of the command, after that of the frame, the kind and the log id.
    assert_eq!(newer[26], 1);
    newer[26] = 99;
    let newer = crate::raft::types::seal(7, newer);
    let mut key = vec![1];
    key.extend_from_slice(&7u64.to_be_bytes());
    key.push(2);
    key.extend_from_slice(&5u64.to_be_bytes());
    db.synced(|batch| batch.put_cf(db.family(Family::Log), &key, newer))
        .await
        .unwrap();
    let mut log = open_log(&db);
    assert!(log.try_get_log_entries(0..10).await.is_err());
    assert!(log.unfit().is_some());
    assert!(db.failure().borrow().is_none());
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
