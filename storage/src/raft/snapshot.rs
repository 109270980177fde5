//! Snapshots: a flush when taken, a stream of rows when sent.
//!
//! A state is always in its disk's database, so that taking a snapshot copies nothing. To send
//! one, a blocking thread walks a RocksDB snapshot of the state's rows and hands them out in
//! bounded chunks; the receiver writes them under a **new** state id, beside the state it has, and
//! [`switch_state`] then makes the replica's row name the new one.

use std::sync::Arc;

use rocksdb::{Direction, IteratorMode, ReadOptions, WriteBatch};
use tokio::sync::{mpsc, oneshot};

use super::log::run_blocking;
use super::replica_row::{ReplicaRow, decode_applied, encode_applied, put_replica_row};
use super::types::{
    LogId, ReplicaId, SnapshotMeta, StoredMembership, decode_stored_membership,
    encode_stored_membership,
};
use crate::db::{Db, DbError, Family, StateId};
use crate::meta::keys::Keys;
use crate::meta::states::{STATE_FAMILIES, delete_state, unused_state};
use drystone_store::crash::DiskPoint;

/// Rows of a snapshot in memory: one chunk is read, one is on its way and one is written.
const CHUNK_BYTES: usize = 256 << 10;
const CHUNKS_WAITING_MAX: usize = 1;

/// What openraft hands from the one to the other.
pub enum SnapshotData {
    /// A sender's, on its way.
    Outgoing(Outgoing),
    /// A receiver's, complete but not in use yet.
    Received(Received),
}

/// Rows of a state, without its id, in the order of their keys.
pub struct Outgoing {
    chunks: mpsc::Receiver<Result<Chunk, DbError>>,
}

#[derive(Default)]
struct Chunk {
    rows: Vec<(Family, Vec<u8>, Vec<u8>)>,
    bytes: usize,
}

/// A state beside the one in use. It is removed again unless it is taken.
pub struct Received {
    db: Arc<Db>,
    state: Option<StateId>,
}

impl Received {
    fn take(mut self) -> Option<StateId> {
        self.state.take()
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        if let Some(state) = self.state
            && let Err(error) = delete_state(&self.db, state)
        {
            tracing::warn!(%error, ?state, "received state stays until the next start");
        }
    }
}

/// Begins to send `state` as it is now.
pub async fn send(db: Arc<Db>, state: StateId) -> Result<(SnapshotMeta, Outgoing), DbError> {
    let (meta_tx, meta_rx) = oneshot::channel();
    let (chunk_tx, chunks) = mpsc::channel(CHUNKS_WAITING_MAX);
    tokio::task::spawn_blocking(move || {
        let snapshot = db.rocks().snapshot();
        let get = |key: &[u8]| {
            let row = snapshot.get_cf(db.family(Family::State), key);
            row.map_err(|e| db.failed(e))
        };
        let meta = read_applied(&db, state, get);
        if meta_tx.send(meta).is_ok()
            && let Err(Stop::Failed(error)) = send_rows(&db, state, &snapshot, &chunk_tx)
        {
            chunk_tx.blocking_send(Err(error)).ok();
        }
    });
    let (last_log_id, last_membership) = meta_rx.await.unwrap_or(Err(DbError::Closed))?;
    let meta = SnapshotMeta {
        last_log_id,
        last_membership,
    };
    Ok((meta, Outgoing { chunks }))
}

/// Why the sending of rows ended early.
enum Stop {
    Failed(DbError),
    NobodyListens,
}

fn send_rows(
    db: &Db,
    state: StateId,
    snapshot: &rocksdb::Snapshot<'_>,
    chunks: &mpsc::Sender<Result<Chunk, DbError>>,
) -> Result<(), Stop> {
    let range = Keys(state).state();
    // These rows come from the receiver's own hand, with its metadata.
    let applied = Keys(state).applied();
    let mut chunk = Chunk::default();
    for family in STATE_FAMILIES {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(range.to.clone());
        options.fill_cache(false);
        let mode = IteratorMode::From(&range.from, Direction::Forward);
        for row in snapshot.iterator_cf_opt(db.family(family), options, mode) {
            let (key, value) = row.map_err(|e| Stop::Failed(db.failed(e)))?;
            if family == Family::State && key.starts_with(&applied) {
                continue;
            }
            let rest = key[range.from.len()..].to_vec();
            chunk.bytes += rest.len() + value.len();
            chunk.rows.push((family, rest, value.into_vec()));
            if chunk.bytes >= CHUNK_BYTES {
                let full = std::mem::take(&mut chunk);
                chunks
                    .blocking_send(Ok(full))
                    .map_err(|_| Stop::NobodyListens)?;
            }
        }
    }
    // An empty chunk is the end: a sender that dies says nothing.
    for last in [chunk, Chunk::default()] {
        chunks
            .blocking_send(Ok(last))
            .map_err(|_| Stop::NobodyListens)?;
    }
    Ok(())
}

/// Takes a whole state into `db`, under a new id.
///
/// Power goes at any time before [`switch_state`]: no replica's row names the new id, and the next
/// start removes its rows ([`delete_unused_states`](crate::meta::states::delete_unused_states)).
pub async fn receive(db: Arc<Db>, mut outgoing: Outgoing) -> Result<Received, ReceiveError> {
    let state = unused_state(&db)?;
    let received = Received {
        db: db.clone(),
        state: Some(state),
    };
    let prefix = Keys(state).state().from;
    loop {
        let chunk = match outgoing.chunks.recv().await {
            Some(Ok(chunk)) => chunk,
            Some(Err(error)) => return Err(ReceiveError::Sender(error.to_string())),
            None => return Err(ReceiveError::Sender("sender is gone".into())),
        };
        if chunk.rows.is_empty() {
            db.crash().pass_disk(DiskPoint::SnapshotReceived);
            return Ok(received);
        }
        let (db, prefix) = (db.clone(), prefix.clone());
        run_blocking(move || {
            let mut batch = WriteBatch::default();
            for (family, rest, value) in chunk.rows {
                batch.put_cf(db.family(family), [&prefix[..], &rest].concat(), value);
            }
            db.write_unsynced(batch)
        })
        .await?;
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The other side's trouble: it may be asked again.
    #[error("snapshot: {0}")]
    Sender(String),
    #[error(transparent)]
    Receiver(#[from] DbError),
}

/// Makes `received` the state of `replica`.
///
/// One synced batch says where the replica's state is and what it has applied; all rows of the new
/// state lie before it in the same WAL. Power goes before it: the old state is in use. After it:
/// the new one is, and the old one's rows are removed at the next start.
pub async fn switch_state(
    db: &Arc<Db>,
    replica: ReplicaId,
    row: ReplicaRow,
    received: Received,
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
    let (db, old) = (db.clone(), row.state);
    run_blocking(move || delete_state(&db, old)).await?;
    Ok(new_row)
}

/// What a state says of itself: its last applied entry and membership.
pub fn read_applied(
    db: &Db,
    state: StateId,
    get: impl Fn(&[u8]) -> Result<Option<Vec<u8>>, DbError>,
) -> Result<(Option<LogId>, StoredMembership), DbError> {
    let bad = || db.corrupt(format!("applied rows of {state:?}"));
    let applied = match get(&Keys(state).applied())? {
        Some(row) => Some(decode_applied(&row).ok_or_else(bad)?),
        None => None,
    };
    let membership = match get(&membership_key(state))? {
        Some(row) => decode_stored_membership(&row).ok_or_else(bad)?,
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

/// Beside the applied row, because it changes so much less often.
fn membership_key(state: StateId) -> Vec<u8> {
    let mut key = Keys(state).applied();
    key.push(1);
    key
}
