//! One replica of a group on one disk, and its state machine as openraft sees it.
//!
//! A disk's replica rows name its replicas and their states. A replica ends with the first error of
//! its disk's database and never ends the process. It does not come back under its id.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{Stream, StreamExt as _};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use rocksdb::WriteBatch;
use tokio::sync::watch;

use super::agreement::Checkpoints;
use super::log::{RaftLog, delete_log};
use super::replica_row::{ReplicaRow, delete_replica_row, encode_applied};
use super::snapshot::{
    self, ReceiveError, SnapshotData, put_applied, put_membership, read_applied, switch_state,
};
use super::types::{Answer, LogId, ReplicaId, Snapshot, SnapshotMeta, StoredMembership, Types};
use crate::db::{Db, DbError, Family, StateId};
use crate::meta::state_machine::State;
use crate::meta::states::{STATE_FAMILIES, delete_state};
use drystone_store::crash::{CommandPoint, DiskPoint, Point};
use drystone_store::error::Error;
use drystone_store::lock::RwLock;

/// The most committed entries that are applied without releasing the thread.
const APPLY_AT_ONCE_MAX: usize = 256;

/// Removes a replica's rows, log and state, after it has ended.
///
/// Power goes after the batch: no row names its state, and the next start removes the state.
pub async fn delete_replica(
    db: &Arc<Db>,
    replica: ReplicaId,
    row: ReplicaRow,
) -> Result<(), DbError> {
    db.synced(|batch| {
        delete_replica_row(db, batch, replica);
        delete_log(db, batch, replica);
    })
    .await?;
    db.crash().pass_disk(DiskPoint::ReplicaDropped);
    db.run_blocking(move |db| delete_state(db, row.state)).await
}

/// A replica's state, shared by the applier and the readers.
pub struct SharedState {
    pub db: Arc<Db>,
    pub replica: ReplicaId,
    /// The state in use. A snapshot from the leader replaces it.
    current: RwLock<(ReplicaRow, State)>,
    /// The replica has ended, and its state may have been removed.
    retired: AtomicBool,
    /// The state's changes at some entries, for comparing them with other replicas'.
    checkpoints: Checkpoints,
}

impl SharedState {
    pub fn new(db: Arc<Db>, replica: ReplicaId, row: ReplicaRow) -> SharedState {
        let tables = State::new(db.clone(), row.state);
        SharedState {
            db,
            replica,
            current: RwLock::new((row, tables)),
            retired: AtomicBool::new(false),
            checkpoints: Checkpoints::default(),
        }
    }

    pub fn retire(&self) {
        self.retired.store(true, Ordering::SeqCst);
    }

    /// Returns whether `state` is in use. Called after a read: if it is not, the result is not
    /// valid.
    pub fn has(&self, state: StateId) -> bool {
        !self.retired.load(Ordering::SeqCst) && self.row().state == state
    }

    /// Makes another state the one in use. Its predecessor may be removed only after this: a read
    /// checks at its end whether the state that it has read is in use.
    fn put_in_use(&self, row: ReplicaRow) {
        let tables = State::new(self.db.clone(), row.state);
        *self.current.write() = (row, tables);
    }

    pub fn state(&self) -> State {
        self.current.read().1.clone()
    }

    pub fn row(&self) -> ReplicaRow {
        self.current.read().0
    }

    pub fn checkpoints(&self) -> &Checkpoints {
        &self.checkpoints
    }
}

/// The replica's state machine as openraft drives it.
pub struct Applier {
    shared: Arc<SharedState>,
    log: RaftLog,
    applied: Option<LogId>,
    membership: StoredMembership,
    /// Dropped together with this.
    running: watch::Sender<()>,
}

impl Applier {
    /// Reads the last entry that the state has applied. Blocks.
    pub fn open(shared: Arc<SharedState>, log: RaftLog) -> Result<Applier, DbError> {
        let db = shared.db.clone();
        let get = |key: &[u8]| {
            db.rocks()
                .get_cf(db.family(Family::State), key)
                .map_err(|e| db.failed(e))
        };
        let (applied, membership) = read_applied(&db, shared.row().state, get)?;
        if applied < log.purged() {
            return Err(db.corrupt(format!("replica {} lost its state", shared.replica)));
        }
        Ok(Applier {
            shared,
            log,
            applied,
            membership,
            running: watch::Sender::new(()),
        })
    }

    /// Returns a receiver whose `changed` fails once this is dropped.
    pub fn running(&self) -> watch::Receiver<()> {
        self.running.subscribe()
    }

    /// Applies committed entries. Blocks.
    fn apply_batch(
        shared: &SharedState,
        entries: Vec<EntryResponder<Types>>,
        membership: &mut StoredMembership,
    ) -> Result<Option<LogId>, DbError> {
        let (tables, state, db) = (shared.state(), shared.row().state, &shared.db);
        let mut applied = None;
        // Entries without a command change only the applied row, which the next write includes.
        let mut unwritten = None;
        for (entry, responder) in entries {
            let id = entry.log_id;
            let answer = match entry.payload {
                EntryPayload::Blank => {
                    unwritten = Some(id);
                    None
                }
                EntryPayload::Normal(proposal) => {
                    unwritten = None;
                    let command = proposal.command();
                    let outcome = tables.apply(id.index, command, &encode_applied(&id));
                    let kind = command.change.kind();
                    db.crash().pass(Point::Command(kind, CommandPoint::Applied));
                    // After any error, continuing would make this replica differ from the others.
                    Some(outcome.map_err(|error| failure(db, error))?)
                }
                EntryPayload::Membership(new) => {
                    unwritten = None;
                    *membership = StoredMembership::new(Some(id), new);
                    let mut batch = WriteBatch::default();
                    put_applied(db, &mut batch, state, Some(&id));
                    put_membership(db, &mut batch, state, membership);
                    db.write_unsynced(batch)?;
                    None
                }
            };
            if Checkpoints::is_due(id.index)
                && let Some(changes) = tables.changes().map_err(|error| failure(db, error))?
            {
                shared.checkpoints.add(id.index, changes);
            }
            if let Some(responder) = responder {
                responder.send(Answer(answer));
            }
            applied = Some(id);
        }
        if let Some(id) = unwritten {
            let mut batch = WriteBatch::default();
            put_applied(db, &mut batch, state, Some(&id));
            db.write_unsynced(batch)?;
        }
        Ok(applied)
    }
}

/// Returns the reason why a replica ends: its disk, or metadata that it cannot continue with.
fn failure(db: &Db, error: Error) -> DbError {
    let failed = db.failure().borrow().clone();
    match error {
        Error::Unfit(what) => DbError::Unfit(what.into()),
        Error::Closing => DbError::Closed,
        other => failed.unwrap_or_else(|| db.give_up(&other.to_string())),
    }
}

impl RaftStateMachine<Types> for Applier {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = SnapshotTaker;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        let mut batches = entries.ready_chunks(APPLY_AT_ONCE_MAX);
        while let Some(batch) = batches.next().await {
            let batch = batch.into_iter().collect::<Result<Vec<_>, _>>()?;
            let mut last = self.applied;
            for (entry, _) in &batch {
                self.log.check_follows("applied", last, entry.log_id)?;
                last = Some(entry.log_id);
            }
            let shared = self.shared.clone();
            let mut membership = self.membership.clone();
            let work = move |_: &Arc<Db>| {
                let applied = Self::apply_batch(&shared, batch, &mut membership)?;
                Ok((applied, membership))
            };
            let applied = self.shared.db.run_blocking(work).await;
            let (applied, membership) = applied.map_err(|error| self.log.note(error))?;
            self.membership = membership;
            self.applied = applied.or(self.applied.take());
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<SnapshotTaker> {
        (force || self.applied.is_some()).then(|| SnapshotTaker {
            shared: self.shared.clone(),
            log: self.log.clone(),
        })
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotTaker {
        SnapshotTaker {
            shared: self.shared.clone(),
            log: self.log.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        data: SnapshotData,
    ) -> Result<(), io::Error> {
        let (db, replica) = (&self.shared.db, self.shared.replica);
        let received = match data {
            SnapshotData::Received(received) => received,
            SnapshotData::Outgoing(outgoing) => {
                let received =
                    snapshot::receive(db.clone(), outgoing, watch::Sender::default()).await;
                received.map_err(|e: ReceiveError| io::Error::other(e))?
            }
        };
        let old = self.shared.row();
        let row = switch_state(db, replica, old, received, meta).await?;
        self.shared.put_in_use(row);
        if row.state != old.state {
            db.run_blocking(move |db| delete_state(db, old.state))
                .await?;
        }
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<SnapshotData>>, io::Error> {
        let row = self.shared.row();
        let (meta, outgoing) = snapshot::send(self.shared.db.clone(), row.state).await?;
        let snapshot = SnapshotData::Outgoing(outgoing);
        Ok((meta.last_log_id.is_some()).then_some(Snapshot { meta, snapshot }))
    }
}

/// Takes a snapshot: flushes the state, so that its applied entries are not needed in the log.
pub struct SnapshotTaker {
    shared: Arc<SharedState>,
    log: RaftLog,
}

impl RaftSnapshotBuilder<Types> for SnapshotTaker {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<Snapshot<SnapshotData>, io::Error> {
        let db = self.shared.db.clone();
        let (meta, outgoing) = snapshot::send(db.clone(), self.shared.row().state).await?;
        db.run_blocking(|db| db.flush(&STATE_FAMILIES)).await?;
        self.log.state_flushed(meta.last_log_id.as_ref());
        Ok(Snapshot {
            meta,
            snapshot: SnapshotData::Outgoing(outgoing),
        })
    }
}
