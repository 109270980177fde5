//! Snapshots: a flush when taken, a stream of rows when sent.
//!
//! A state is always in its disk's database, so taking a snapshot copies nothing. To send one, a
//! blocking thread walks a RocksDB snapshot of the state's rows and sends them in bounded batches.
//! The receiver writes them under a **new** state id, beside the state that it has. Then
//! [`switch_state`] makes the replica's row name the new state.

use std::sync::Arc;

use rocksdb::{Direction, IteratorMode, ReadOptions, WriteBatch};
use tokio::sync::{mpsc, oneshot};

use super::replica_row::{ReplicaRow, decode_applied, encode_applied, put_replica_row};
use super::types::{
    LogId, ReplicaId, RowFault, SnapshotMeta, StoredMembership, decode_stored_membership,
    encode_stored_membership,
};
use crate::db::{Db, DbError, Family, StateId};
use crate::meta::keys::Keys;
use crate::meta::states::{STATE_FAMILIES, delete_state, unused_state};
use drystone_store::crash::DiskPoint;

/// Bounds on the rows in memory: one batch is being read, one waits and one is being written.
const BATCH_BYTES: usize = 256 << 10;
const BATCHES_WAITING_MAX: usize = 1;

/// The data that openraft passes from sender to receiver.
pub enum SnapshotData {
    /// A state that is being sent.
    Outgoing(OutgoingState),
    /// A state that was received completely and is not in use yet.
    Received(ReceivedState),
}

/// The rows of a state, with keys without the state id, in the order of their keys.
pub struct OutgoingState {
    batches: mpsc::Receiver<Result<RowBatch, DbError>>,
}

#[derive(Default)]
struct RowBatch {
    rows: Vec<(Family, Vec<u8>, Vec<u8>)>,
    bytes: usize,
}

/// A state beside the one in use. Dropping it removes the state, unless it was taken.
pub struct ReceivedState {
    db: Arc<Db>,
    state: Option<StateId>,
}

impl ReceivedState {
    fn take(mut self) -> Option<StateId> {
        self.state.take()
    }
}

impl Drop for ReceivedState {
    fn drop(&mut self) {
        let Some(state) = self.state else {
            return;
        };
        // The drop may happen on a thread that must not block.
        let db = self.db.clone();
        self.db.env().start_work(Box::new(move || {
            if let Err(error) = delete_state(&db, state) {
                tracing::warn!(%error, ?state, "a received state stays until the next start");
            }
        }));
    }
}

/// Starts to send `state` as it is now.
pub async fn send(db: Arc<Db>, state: StateId) -> Result<(SnapshotMeta, OutgoingState), DbError> {
    let (meta_tx, meta_rx) = oneshot::channel();
    let (batch_tx, batches) = mpsc::channel(BATCHES_WAITING_MAX);
    let env = db.env().clone();
    env.spawn_blocking(move || {
        let snapshot = db.rocks().snapshot();
        let get = |key: &[u8]| {
            let row = snapshot.get_cf(db.family(Family::State), key);
            row.map_err(|e| db.failed(e))
        };
        let meta = read_applied(&db, state, get);
        if meta_tx.send(meta).is_ok()
            && let Err(SendStop::Failed(error)) = send_rows(&db, state, &snapshot, &batch_tx)
        {
            batch_tx.blocking_send(Err(error)).ok();
        }
    });
    let (last_log_id, last_membership) = meta_rx.await.unwrap_or(Err(DbError::Closed))?;
    let meta = SnapshotMeta {
        last_log_id,
        last_membership,
    };
    Ok((meta, OutgoingState { batches }))
}

/// The reason why sending rows ended early.
enum SendStop {
    Failed(DbError),
    ReceiverDropped,
}

fn send_rows(
    db: &Db,
    state: StateId,
    snapshot: &rocksdb::Snapshot<'_>,
    batches: &mpsc::Sender<Result<RowBatch, DbError>>,
) -> Result<(), SendStop> {
    let range = Keys(state).state();
    // The receiver writes these rows itself, from the snapshot's metadata.
    let applied = Keys(state).applied();
    let mut batch = RowBatch::default();
    for family in STATE_FAMILIES {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(range.to.clone());
        options.fill_cache(false);
        let mode = IteratorMode::From(&range.from, Direction::Forward);
        for row in snapshot.iterator_cf_opt(db.family(family), options, mode) {
            let (key, value) = row.map_err(|e| SendStop::Failed(db.failed(e)))?;
            if family == Family::State && key.starts_with(&applied) {
                continue;
            }
            let rest = key[range.from.len()..].to_vec();
            batch.bytes += rest.len() + value.len();
            batch.rows.push((family, rest, value.into_vec()));
            if batch.bytes >= BATCH_BYTES {
                let full = std::mem::take(&mut batch);
                batches
                    .blocking_send(Ok(full))
                    .map_err(|_| SendStop::ReceiverDropped)?;
            }
        }
    }
    // An empty batch marks the end; a sender that dies does not send it.
    for last in [batch, RowBatch::default()] {
        batches
            .blocking_send(Ok(last))
            .map_err(|_| SendStop::ReceiverDropped)?;
    }
    Ok(())
}

/// Writes a whole state to `db`, under a new id.
///
/// Power goes at any time before [`switch_state`]: no replica's row names the new id, and the next
/// start removes its rows ([`delete_unused_states`](crate::meta::states::delete_unused_states)).
pub async fn receive(
    db: Arc<Db>,
    mut outgoing: OutgoingState,
) -> Result<ReceivedState, ReceiveError> {
    let state = db.run_blocking(|db| unused_state(db)).await?;
    let received = ReceivedState {
        db: db.clone(),
        state: Some(state),
    };
    let prefix = Keys(state).state().from;
    loop {
        let rows = match outgoing.batches.recv().await {
            Some(Ok(batch)) => batch.rows,
            Some(Err(error)) => return Err(ReceiveError::Sender(error.to_string())),
            None => return Err(ReceiveError::Sender("the sender has ended".into())),
        };
        if rows.is_empty() {
            db.crash().pass_disk(DiskPoint::SnapshotReceived);
            return Ok(received);
        }
        let prefix = prefix.clone();
        db.run_blocking(move |db| {
            let mut batch = WriteBatch::default();
            for (family, rest, value) in rows {
                batch.put_cf(db.family(family), [&prefix[..], &rest].concat(), value);
            }
            db.write_unsynced(batch)
        })
        .await?;
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The sender failed. It may be asked again.
    #[error("snapshot: {0}")]
    Sender(String),
    #[error(transparent)]
    Receiver(#[from] DbError),
}

/// Makes `received` the state of `replica`. The caller removes the old state.
///
/// One synced batch names the replica's new state and the last entry that it has applied. All rows
/// of the new state lie before it in the same WAL. Power goes before the batch: the old state is in
/// use. After it: the new state is in use, and the next start removes the old one's rows.
pub async fn switch_state(
    db: &Arc<Db>,
    replica: ReplicaId,
    row: ReplicaRow,
    received: ReceivedState,
    meta: &SnapshotMeta,
) -> Result<ReplicaRow, DbError> {
    let Some(state) = received.take() else {
        return Ok(row);
    };
    let new_row = ReplicaRow { state, ..row };
    db.synced(|batch| {
        put_applied(db, batch, state, meta.last_log_id.as_ref());
        put_membership(db, batch, state, &meta.last_membership);
        put_replica_row(db, batch, replica, &new_row);
    })
    .await?;
    db.crash().pass_disk(DiskPoint::SnapshotSwitched);
    Ok(new_row)
}

/// Reads a state's last applied entry and membership.
pub fn read_applied(
    db: &Db,
    state: StateId,
    get: impl Fn(&[u8]) -> Result<Option<Vec<u8>>, DbError>,
) -> Result<(Option<LogId>, StoredMembership), DbError> {
    // RocksDB verifies its own checksums: what does not decode was written so.
    let unfit = || RowFault::Unfit.into_error(db, format!("applied row of {state:?}"));
    let applied = match get(&Keys(state).applied())? {
        Some(row) => Some(decode_applied(&row).ok_or_else(unfit)?),
        None => None,
    };
    let membership = match get(&membership_key(state))? {
        Some(row) => decode_stored_membership(&row).ok_or_else(unfit)?,
        None => StoredMembership::default(),
    };
    Ok((applied, membership))
}

pub fn put_applied(db: &Db, batch: &mut WriteBatch, state: StateId, id: Option<&LogId>) {
    if let Some(id) = id {
        batch.put_cf(
            db.family(Family::State),
            Keys(state).applied(),
            encode_applied(id),
        );
    }
}

pub fn put_membership(db: &Db, batch: &mut WriteBatch, state: StateId, m: &StoredMembership) {
    let row = encode_stored_membership(m);
    batch.put_cf(db.family(Family::State), membership_key(state), row);
}

/// Returns the key of the membership row. It is not part of the applied row, because it changes
/// much less often.
fn membership_key(state: StateId) -> Vec<u8> {
    let mut key = Keys(state).applied();
    key.push(1);
    key
}
