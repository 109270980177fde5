//! Snapshots: a flush when taken, a stream of rows when sent.
//!
//! A state is always in its disk's database, so taking a snapshot copies nothing. To send one, a
//! blocking thread walks a RocksDB snapshot of the state's rows and sends them in bounded batches,
//! and at the end their checksum. The receiver writes them into table files of a **new** state,
//! beside the state that it has, reads them back and compares the checksum. Then [`switch_state`]
//! makes the replica's row name the new state.
//!
//! A transfer that breaks begins from the start: under load, the rows of the next one are others.
//! Within one process it breaks only if a disk or the leadership is lost.

use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::vec;

use rocksdb::{Direction, IteratorMode, ReadOptions, WriteBatch};
use tokio::sync::{mpsc, oneshot, watch};
use xxhash_rust::xxh3::Xxh3;

use super::replica_row::{ReplicaRow, decode_applied, encode_applied, put_replica_row};
use super::types::{
    LogId, ReplicaId, RowFault, SnapshotMeta, StoredMembership, decode_stored_membership,
    encode_stored_membership,
};
use crate::db::{Db, DbError, Family, StateId, TABLE_BYTES};
use crate::meta::keys::Keys;
use crate::meta::states::{STATE_FAMILIES, delete_state, unused_state};
use drystone_store::crash::DiskPoint;

/// Bounds on the rows in memory: one piece is being read, one waits and one is being written.
const PIECE_BYTES: usize = 256 << 10;
const PIECES_WAITING_MAX: usize = 1;

/// The data that openraft passes from sender to receiver.
pub enum SnapshotData {
    /// A state that is being sent.
    Outgoing(OutgoingState),
    /// A state that was received completely and is not in use yet.
    Received(ReceivedState),
}

/// The rows of a state, with keys without the state id, in the order of their keys.
pub struct OutgoingState {
    pieces: mpsc::Receiver<Result<Piece, DbError>>,
}

/// A family, a key without the state id, and a value.
type Row = (Family, Vec<u8>, Vec<u8>);

/// A piece of a state on its way.
enum Piece {
    Rows(Vec<Row>),
    /// The end, with the checksum of all rows. A sender that dies does not send it.
    End(u128),
}

/// The checksum of rows in their order.
#[derive(Default)]
struct Checksum(Xxh3);

impl Checksum {
    fn add(&mut self, family: Family, rest: &[u8], value: &[u8]) {
        self.0.update(family.name().as_bytes());
        for bytes in [rest, value] {
            self.0.update(&(bytes.len() as u64).to_le_bytes());
            self.0.update(bytes);
        }
    }

    fn value(&self) -> u128 {
        self.0.digest128()
    }
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
    let (piece_tx, pieces) = mpsc::channel(PIECES_WAITING_MAX);
    let env = db.env().clone();
    env.spawn_blocking(move || {
        let snapshot = db.rocks().snapshot();
        let get = |key: &[u8]| {
            let row = snapshot.get_cf(db.family(Family::State), key);
            row.map_err(|e| db.failed(e))
        };
        let meta = read_applied(&db, state, get);
        if meta_tx.send(meta).is_ok()
            && let Err(SendStop::Failed(error)) = send_rows(&db, state, &snapshot, &piece_tx)
        {
            piece_tx.blocking_send(Err(error)).ok();
        }
    });
    let (last_log_id, last_membership) = meta_rx.await.unwrap_or(Err(DbError::Closed))?;
    let meta = SnapshotMeta {
        last_log_id,
        last_membership,
    };
    Ok((meta, OutgoingState { pieces }))
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
    pieces: &mpsc::Sender<Result<Piece, DbError>>,
) -> Result<(), SendStop> {
    let send = |piece| {
        let sent = pieces.blocking_send(Ok(piece));
        sent.map_err(|_| SendStop::ReceiverDropped)
    };
    let (mut rows, mut bytes, mut checksum) = (Vec::new(), 0, Checksum::default());
    let iterator = |family, options| {
        let from = Keys(state).state().from;
        let mode = IteratorMode::From(&from, Direction::Forward);
        snapshot.iterator_cf_opt(db.family(family), options, mode)
    };
    for row in rows_of(db, state, iterator) {
        let (family, rest, value) = row.map_err(SendStop::Failed)?;
        checksum.add(family, &rest, &value);
        bytes += rest.len() + value.len();
        rows.push((family, rest, value));
        if bytes >= PIECE_BYTES {
            send(Piece::Rows(std::mem::take(&mut rows)))?;
            bytes = 0;
        }
    }
    send(Piece::Rows(rows))?;
    send(Piece::End(checksum.value()))
}

/// Iterates over the rows of a state, but for those that the receiver writes itself from the
/// snapshot's metadata.
fn rows_of<I: Iterator<Item = Result<(Box<[u8]>, Box<[u8]>), rocksdb::Error>>>(
    db: &Db,
    state: StateId,
    iterator: impl Fn(Family, ReadOptions) -> I,
) -> impl Iterator<Item = Result<Row, DbError>> {
    let range = Keys(state).state();
    let (applied, id_len) = (Keys(state).applied(), range.from.len());
    STATE_FAMILIES.into_iter().flat_map(move |family| {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(range.to.clone());
        options.fill_cache(false);
        let applied = applied.clone();
        iterator(family, options)
            .filter(move |row| {
                let is_own = |key: &[u8]| family == Family::State && key.starts_with(&applied);
                !row.as_ref().is_ok_and(|(key, _)| is_own(key))
            })
            .map(move |row| {
                let (key, value) = row.map_err(|e| db.failed(e))?;
                Ok((family, key[id_len..].to_vec(), value.into_vec()))
            })
    })
}

/// Writes a whole state to `db`, under a new id. `progress` counts the pieces.
///
/// Power goes at any time before [`switch_state`]: no replica's row names the new id, and the next
/// start removes its rows ([`delete_unused_states`](crate::meta::states::delete_unused_states)).
pub async fn receive(
    db: Arc<Db>,
    outgoing: OutgoingState,
    progress: watch::Sender<u64>,
) -> Result<ReceivedState, ReceiveError> {
    let is_cancelled = Arc::new(AtomicBool::new(false));
    let _cancel = CancelOnDrop(is_cancelled.clone());
    let receiving = db.run_blocking(move |db| {
        let incoming = IncomingState {
            pieces: outgoing.pieces,
            rows: Vec::new().into_iter(),
            checksum: None,
            progress,
            is_cancelled,
        };
        Ok(incoming.receive(db, TABLE_BYTES))
    });
    let received = receiving.await??;
    db.crash().pass_disk(DiskPoint::SnapshotReceived);
    Ok(received)
}

/// Ends the work of a blocking thread when nobody waits for it any more.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A state that is being received.
struct IncomingState {
    pieces: mpsc::Receiver<Result<Piece, DbError>>,
    /// The rest of the last piece.
    rows: vec::IntoIter<Row>,
    /// The checksum of all rows, after the last one.
    checksum: Option<u128>,
    progress: watch::Sender<u64>,
    is_cancelled: Arc<AtomicBool>,
}

impl IncomingState {
    /// Writes the rows, and proves that the database has what was sent. Blocks.
    fn receive(mut self, db: &Arc<Db>, table_bytes: u64) -> Result<ReceivedState, ReceiveError> {
        let state = unused_state(db)?;
        let received = ReceivedState {
            db: db.clone(),
            state: Some(state),
        };
        let prefix = Keys(state).state().from;
        for family in STATE_FAMILIES {
            let rows = iter::from_fn(|| self.next_of(family).transpose());
            let with_prefix = |(_, rest, value): Row| ([&prefix[..], &rest].concat(), value);
            db.ingest(family, table_bytes, rows.map(|row| row.map(with_prefix)))?;
        }
        self.fill()?;
        let Some(sent) = self.checksum else {
            return Err(ReceiveError::Sender("its rows are not in order".into()));
        };
        if self.checksum_of(db, state)? != sent {
            return Err(ReceiveError::Differs);
        }
        Ok(received)
    }

    /// Returns the next row, if there is one in this family.
    fn next_of(&mut self, family: Family) -> Result<Option<Row>, ReceiveError> {
        self.fill()?;
        let is_next = self
            .rows
            .as_slice()
            .first()
            .is_some_and(|row| row.0 == family);
        Ok(if is_next { self.rows.next() } else { None })
    }

    /// Waits for a piece if all rows of the last one are used, unless it was the end.
    fn fill(&mut self) -> Result<(), ReceiveError> {
        while self.rows.len() == 0 && self.checksum.is_none() {
            self.go_on()?;
            match self.pieces.blocking_recv() {
                Some(Ok(Piece::Rows(rows))) => self.rows = rows.into_iter(),
                Some(Ok(Piece::End(checksum))) => self.checksum = Some(checksum),
                Some(Err(error)) => return Err(ReceiveError::Sender(error.to_string())),
                None => return Err(ReceiveError::Sender("the sender has ended".into())),
            }
        }
        Ok(())
    }

    /// Counts a piece. Fails if nobody waits for the state any more.
    fn go_on(&self) -> Result<(), ReceiveError> {
        self.progress.send_modify(|pieces| *pieces += 1);
        match self.is_cancelled.load(Ordering::Relaxed) {
            true => Err(ReceiveError::Cancelled),
            false => Ok(()),
        }
    }

    /// Reads the state back.
    fn checksum_of(&self, db: &Arc<Db>, state: StateId) -> Result<u128, ReceiveError> {
        let (mut checksum, mut bytes) = (Checksum::default(), 0);
        let iterator = |family, options| {
            let from = Keys(state).state().from;
            let mode = IteratorMode::From(&from, Direction::Forward);
            db.rocks().iterator_cf_opt(db.family(family), options, mode)
        };
        for row in rows_of(db, state, iterator) {
            let (family, rest, value) = row?;
            checksum.add(family, &rest, &value);
            bytes += rest.len() + value.len();
            if bytes >= PIECE_BYTES {
                self.go_on()?;
                bytes = 0;
            }
        }
        Ok(checksum.value())
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The sender failed. It may be asked again.
    #[error("snapshot: {0}")]
    Sender(String),
    /// It may be sent again.
    #[error("snapshot: the rows that were written are not those that were sent")]
    Differs,
    #[error("snapshot: nobody waits for it any more")]
    Cancelled,
    #[error(transparent)]
    Receiver(#[from] DbError),
}

/// Makes `received` the state of `replica`. The caller removes the old state.
///
/// One synced batch names the replica's new state and the last entry that it has applied. All rows
/// of the new state are in synced files. Power goes before the batch: the old state is in use.
/// After it: the new state is in use, and the next start removes the old one's rows.
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use xxhash_rust::xxh3::xxh3_64_with_seed;

    use super::*;
    use crate::db::DbShared;

    const OLD: StateId = StateId(7);

    fn new_db() -> (tempfile::TempDir, Arc<Db>) {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::create(&dir.path().join("meta"), &DbShared::system()).unwrap();
        (dir, db)
    }

    /// Some rows in each family, which compression makes no shorter. The large values lie in blob
    /// files once compacted.
    fn rows() -> Vec<Row> {
        let value = |n: u16, words: u64| -> Vec<u8> {
            let words = (0..words).map(|word| xxh3_64_with_seed(&n.to_be_bytes(), word));
            words.flat_map(u64::to_be_bytes).collect()
        };
        let rows = |family, words| {
            (0..300_u16).map(move |n| {
                let key = [&[9][..], &n.to_be_bytes()].concat();
                (family, key, value(n, words))
            })
        };
        rows(Family::State, 12)
            .chain(rows(Family::Values, 400))
            .collect()
    }

    fn incoming(rows: Vec<Row>, checksum: u128) -> IncomingState {
        let (tx, pieces) = mpsc::channel(8);
        for piece in [Piece::Rows(rows), Piece::End(checksum)] {
            tx.try_send(Ok(piece)).ok().unwrap();
        }
        IncomingState {
            pieces,
            rows: Vec::new().into_iter(),
            checksum: None,
            progress: watch::Sender::default(),
            is_cancelled: Arc::default(),
        }
    }

    fn checksum(rows: &[Row]) -> u128 {
        let mut checksum = Checksum::default();
        for (family, rest, value) in rows {
            checksum.add(*family, rest, value);
        }
        checksum.value()
    }

    fn read(db: &Arc<Db>, state: StateId) -> Vec<Row> {
        let from = Keys(state).state().from;
        let iterator = |family, options| {
            let mode = IteratorMode::From(&from, Direction::Forward);
            db.rocks().iterator_cf_opt(db.family(family), options, mode)
        };
        rows_of(db, state, iterator).map(Result::unwrap).collect()
    }

    #[test]
    fn f_23_a_state_of_several_files_arrives_whole_and_survives_a_restart() {
        let (dir, db) = new_db();
        let rows = rows();
        let received = incoming(rows.clone(), checksum(&rows));
        let state = received.receive(&db, 4096).unwrap().take().unwrap();
        assert!(read(&db, state) == rows);
        let meta = dir.path().join("meta");
        let tables = std::fs::read_dir(meta.join("rocksdb")).unwrap();
        let is_table = |name: std::ffi::OsString| name.to_string_lossy().ends_with(".sst");
        let tables = tables.filter(|entry| is_table(entry.as_ref().unwrap().file_name()));
        assert!(tables.count() > 4);
        // As after a power failure: nothing was synced but by the transfer.
        let copy = tempfile::tempdir().unwrap();
        let copied = Db::open_copy(&meta, copy.path(), &DbShared::system()).unwrap();
        assert!(read(&copied, state) == rows);
    }

    #[test]
    fn f_23_a_state_that_arrives_changed_is_not_used() {
        let (_dir, db) = new_db();
        let (mut rows, sent) = (rows(), checksum(&rows()));
        rows[450].2[1000] ^= 1;
        let received = incoming(rows, sent).receive(&db, TABLE_BYTES);
        assert!(matches!(received.err(), Some(ReceiveError::Differs)));
    }

    #[test]
    fn f_23_a_transfer_that_ends_early_is_an_error() {
        let (_dir, db) = new_db();
        let mut early = incoming(rows(), 0);
        early.is_cancelled = Arc::new(AtomicBool::new(true));
        let cancelled = early.receive(&db, TABLE_BYTES);
        assert!(matches!(cancelled.err(), Some(ReceiveError::Cancelled)));
        let mut ended = incoming(rows(), 0);
        let (tx, pieces) = mpsc::channel(8);
        tx.try_send(Ok(Piece::Rows(rows()))).ok().unwrap();
        drop(tx);
        ended.pieces = pieces;
        let ended = ended.receive(&db, 4096);
        assert!(matches!(ended.err(), Some(ReceiveError::Sender(_))));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn f_23_a_transfer_counts_its_progress() {
        let (_dir, db) = new_db();
        let mut batch = WriteBatch::default();
        for (family, rest, value) in rows() {
            let key = [&Keys(OLD).state().from[..], &rest].concat();
            batch.put_cf(db.family(family), key, value);
        }
        db.write_unsynced(batch).unwrap();
        let (_, outgoing) = send(db.clone(), OLD).await.unwrap();
        let progress = watch::Sender::default();
        let received = receive(db.clone(), outgoing, progress.clone()).await;
        let state = received.unwrap().take().unwrap();
        assert!(read(&db, state) == rows());
        // About 900 KB, in pieces of 256 KiB, sent and then read back.
        assert!(*progress.borrow() >= 6);
    }
}
