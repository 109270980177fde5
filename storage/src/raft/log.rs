//! The Raft log and vote of one replica, in its disk's database.
//!
//! An append only queues: the entries are readable at once, from memory. The disk's log thread
//! tells openraft that they are durable after the sync, which all replicas of the disk share
//! (B-60). Votes and truncations are durable when they return. All writes of a replica take effect
//! in the order in which they were made, because they go through one queue.
//!
//! The newest entries stay in memory, so that replication and the state machine rarely read them
//! back from the database.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{EntryPayload, LogIdOptionExt as _, OptionalSend, RaftLogReader};
use rocksdb::{Direction, IteratorMode, ReadOptions, WriteBatch};
use tokio::sync::watch;

use super::types::{
    Entry, LogId, ReplicaId, Types, Vote, decode_entry, decode_vote, encode_entry, encode_log_id,
    encode_vote, seal, split_log_id, unseal,
};
use crate::db::{Db, DbError, Family, log_tag};
use drystone_store::crash::{CommandPoint, Point};
use drystone_store::lock::Mutex;

/// The most bytes of a replica's entries that stay in memory after they are written.
const TAIL_BYTES_MAX: usize = 2 << 20;
/// The most bytes that one read of the log brings into memory.
const READ_BYTES_MAX: usize = 1 << 20;
/// The bytes appended on a disk before its replicas flush their states and drop log.
const LOG_BYTES_BEFORE_FLUSH: u64 = 32 << 20;

/// Counts the bytes that the replicas of one disk append.
pub struct LogMeter {
    bytes: AtomicU64,
    /// The number of times that `LOG_BYTES_BEFORE_FLUSH` were appended.
    full: watch::Sender<u64>,
}

impl Default for LogMeter {
    fn default() -> LogMeter {
        LogMeter {
            bytes: AtomicU64::new(0),
            full: watch::Sender::new(0),
        }
    }
}

impl LogMeter {
    fn add(&self, bytes: u64) {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let times = (before + bytes) / LOG_BYTES_BEFORE_FLUSH;
        if times != before / LOG_BYTES_BEFORE_FLUSH {
            self.full.send_replace(times);
        }
    }

    /// Returns a receiver that changes whenever it is time to flush.
    pub fn full(&self) -> watch::Receiver<u64> {
        self.full.subscribe()
    }
}

/// The kinds of a replica's rows in [`Family::Log`]: the byte after the replica's id.
const VOTE: u8 = 0;
const PURGED: u8 = 1;
const ENTRY: u8 = 2;

fn row_key(replica: ReplicaId, row: u8) -> Vec<u8> {
    let mut key = Vec::with_capacity(18);
    key.push(log_tag::RAFT);
    key.extend_from_slice(&replica.0.to_be_bytes());
    key.push(row);
    key
}

pub(super) fn entry_key(replica: ReplicaId, index: u64) -> Vec<u8> {
    let mut key = row_key(replica, ENTRY);
    key.extend_from_slice(&index.to_be_bytes());
    key
}

/// Removes the whole log of a replica that has ended.
pub fn delete_log(db: &Db, batch: &mut WriteBatch, replica: ReplicaId) {
    let (from, to) = (row_key(replica, VOTE), row_key(replica, ENTRY + 1));
    batch.delete_range_cf(db.family(Family::Log), from, to);
}

/// Writes the log of a new replica that begins where the applied log of another replica ended.
pub fn put_beginning(
    db: &Db,
    batch: &mut WriteBatch,
    replica: ReplicaId,
    vote: &Vote,
    applied: &LogId,
) {
    let cf = db.family(Family::Log);
    let purged = seal(replica.0, encode_log_id(applied).to_vec());
    batch.put_cf(cf, row_key(replica, VOTE), encode_vote(replica, vote));
    batch.put_cf(cf, row_key(replica, PURGED), purged);
}

/// Cheap to clone: the log and its readers share all state.
#[derive(Clone)]
pub struct RaftLog(Arc<LogInner>);

struct LogInner {
    db: Arc<Db>,
    replica: ReplicaId,
    meter: Arc<LogMeter>,
    memory: Mutex<Memory>,
    /// All entries below this index are flushed with the state.
    state_flushed: AtomicU64,
}

struct Memory {
    vote: Option<Vote>,
    purged: Option<LogId>,
    last: Option<LogId>,
    /// The index of the oldest entry, if there is one.
    first: Option<u64>,
    /// The newest entries with their sizes, without a hole, up to `last`.
    tail: VecDeque<(Entry, usize)>,
    tail_bytes: usize,
    /// RocksDB has all entries below this index.
    written: u64,
}

impl Memory {
    /// Drops old entries that can be read from RocksDB.
    fn trim(&mut self) {
        while self.tail_bytes > TAIL_BYTES_MAX
            && let Some((entry, bytes)) = self.tail.front()
            && entry.log_id.index < self.written
        {
            self.tail_bytes -= bytes;
            self.tail.pop_front();
        }
    }

    /// Returns the index of the first entry in memory.
    fn tail_start(&self) -> u64 {
        match self.tail.front() {
            Some((entry, _)) => entry.log_id.index,
            None => self.last.next_index(),
        }
    }
}

impl RaftLog {
    /// Opens the log of `replica` and reads its vote and bounds. Blocks.
    pub fn open(db: Arc<Db>, replica: ReplicaId, meter: Arc<LogMeter>) -> Result<RaftLog, DbError> {
        let get = |row| {
            let key = row_key(replica, row);
            db.rocks()
                .get_pinned_cf(db.family(Family::Log), key)
                .map_err(|e| db.failed(e))
        };
        let vote = match get(VOTE)? {
            Some(row) => Some(
                decode_vote(replica, &row)
                    .ok_or_else(|| db.corrupt(format!("vote of replica {replica}")))?,
            ),
            None => None,
        };
        let purged = match get(PURGED)? {
            Some(row) => Some(
                unseal(replica.0, &row)
                    .and_then(split_log_id)
                    .map(|(id, _)| id)
                    .ok_or_else(|| db.corrupt(format!("purged row of replica {replica}")))?,
            ),
            None => None,
        };
        let (mut first, mut last) = (None, purged);
        let end = entry_key(replica, u64::MAX);
        let mode = IteratorMode::From(&end, Direction::Reverse);
        if let Some(row) = db.rocks().iterator_cf(db.family(Family::Log), mode).next() {
            let (key, value) = row.map_err(|e| db.failed(e))?;
            if key.starts_with(&row_key(replica, ENTRY)) {
                last = last.max(Some(decode(&db, replica, &key, &value)?.log_id));
            }
        }
        let start = entry_key(replica, 0);
        let mode = IteratorMode::From(&start, Direction::Forward);
        if let Some(row) = db.rocks().iterator_cf(db.family(Family::Log), mode).next() {
            let (key, value) = row.map_err(|e| db.failed(e))?;
            if key.starts_with(&row_key(replica, ENTRY)) {
                first = Some(decode(&db, replica, &key, &value)?.log_id.index);
            }
        }
        if purged.is_some() && first.is_some_and(|first| first != purged.next_index()) {
            return Err(db.corrupt(format!(
                "log of replica {replica} does not begin at its start"
            )));
        }
        let written = last.next_index();
        let memory = Memory {
            vote,
            purged,
            first,
            last,
            tail: VecDeque::new(),
            tail_bytes: 0,
            written,
        };
        Ok(RaftLog(Arc::new(LogInner {
            db,
            replica,
            meter,
            memory: Mutex::new(memory),
            state_flushed: AtomicU64::new(0),
        })))
    }

    pub fn last_log_id(&self) -> Option<LogId> {
        self.0.memory.lock().last
    }

    pub fn vote(&self) -> Option<Vote> {
        self.0.memory.lock().vote
    }

    pub fn purged(&self) -> Option<LogId> {
        self.0.memory.lock().purged
    }

    /// Notes that the state's tables up to `applied` are in synced files.
    pub fn state_flushed(&self, applied: Option<&LogId>) {
        let next = applied.map_or(0, |id| id.index + 1);
        self.0.state_flushed.fetch_max(next, Ordering::Relaxed);
    }

    /// Reads entries from `start` on, in order and without a gap: all below `end`. If `limited`,
    /// stops after `READ_BYTES_MAX`, but not before the first entry.
    async fn read(&self, start: u64, end: u64, limited: bool) -> Result<Vec<Entry>, DbError> {
        let limit = if limited { READ_BYTES_MAX } else { usize::MAX };
        let (mut newest, start, split) = {
            let memory = self.0.memory.lock();
            let Some(first) = memory.first else {
                return Ok(Vec::new());
            };
            let start = start.max(first);
            let end = end.min(memory.last.next_index());
            let split = memory.tail_start().max(start);
            let skipped = split - memory.tail_start().min(split);
            let newest = memory
                .tail
                .iter()
                .skip(skipped as usize)
                .take(end.saturating_sub(split) as usize)
                .scan(0, |bytes, (entry, size)| {
                    let before = *bytes;
                    *bytes += size;
                    (before < limit).then(|| entry.clone())
                })
                .collect::<Vec<_>>();
            (newest, start, split.min(end))
        };
        if start >= split {
            return Ok(newest);
        }
        // Entries that are not in memory any more are written, and are not purged while openraft
        // may ask for them.
        let inner = self.0.clone();
        let read = move |_: &Arc<Db>| inner.read_written(start, split, limit);
        let mut entries = self.0.db.run_blocking(read).await?;
        if entries.len() as u64 == split - start && !limited {
            entries.append(&mut newest);
        }
        Ok(entries)
    }

    async fn write(
        &self,
        fill: impl FnOnce(&mut WriteBatch, &rocksdb::ColumnFamily),
    ) -> Result<(), io::Error> {
        let db = &self.0.db;
        Ok(db
            .synced(|batch| fill(batch, db.family(Family::Log)))
            .await?)
    }
}

fn decode(db: &Db, replica: ReplicaId, key: &[u8], value: &[u8]) -> Result<Entry, DbError> {
    decode_entry(replica, value)
        .filter(|entry| key == entry_key(replica, entry.log_id.index))
        .ok_or_else(|| db.corrupt(format!("log entry {key:02x?} of replica {replica}")))
}

impl LogInner {
    fn read_written(&self, start: u64, end: u64, limit: usize) -> Result<Vec<Entry>, DbError> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(entry_key(self.replica, end));
        let first = entry_key(self.replica, start);
        let mode = IteratorMode::From(&first, Direction::Forward);
        let rows = self
            .db
            .rocks()
            .iterator_cf_opt(self.db.family(Family::Log), options, mode);
        let (mut entries, mut bytes) = (Vec::new(), 0);
        for row in rows {
            let (key, value) = row.map_err(|e| self.db.failed(e))?;
            let entry = decode(&self.db, self.replica, &key, &value)?;
            if entry.log_id.index != start + entries.len() as u64 {
                break;
            }
            entries.push(entry);
            bytes += value.len();
            if bytes >= limit {
                return Ok(entries);
            }
        }
        let found = start + entries.len() as u64;
        // A purge may have come in between. Any other missing entry was lost.
        if found < end && self.memory.lock().first.is_some_and(|first| first <= found) {
            return Err(self
                .db
                .corrupt(format!("log entry {found} of {} is missing", self.replica)));
        }
        Ok(entries)
    }
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(n) => *n,
        Bound::Excluded(n) => n.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(n) => n.saturating_add(1),
        Bound::Excluded(n) => *n,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

impl RaftLogReader<Types> for RaftLog {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry>, io::Error> {
        let (start, end) = bounds(&range);
        Ok(self.read(start, end, false).await?)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        Ok(self.read(start, end, true).await?)
    }

    /// Reads piece by piece, because this may be the whole log after a restart.
    async fn entries_stream<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend {
        let (start, end) = bounds(&range);
        let log = self.clone();
        let pieces = stream::try_unfold(start, move |start| {
            let log = log.clone();
            async move {
                let piece = log.read(start, end, true).await?;
                let next = piece.last().map(|entry| entry.log_id.index + 1);
                Ok::<_, io::Error>(next.map(|next| (stream::iter(piece).map(Ok), next)))
            }
        });
        Box::pin(pieces.try_flatten())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.0.memory.lock().vote)
    }
}

impl RaftLogStorage<Types> for RaftLog {
    type LogReader = RaftLog;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let memory = self.0.memory.lock();
        Ok(LogState {
            last_purged_log_id: memory.purged,
            last_log_id: memory.last,
        })
    }

    async fn get_log_reader(&mut self) -> RaftLog {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let row = encode_vote(self.0.replica, vote);
        self.write(|batch, cf| batch.put_cf(cf, row_key(self.0.replica, VOTE), row))
            .await?;
        self.0.memory.lock().vote = Some(*vote);
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let crash = self.0.db.crash().clone();
        let mut kinds = Vec::new();
        let mut rows = Vec::new();
        let mut bytes = 0;
        let mut next = 0;
        {
            let mut memory = self.0.memory.lock();
            for entry in entries {
                if crash.is_armed()
                    && let EntryPayload::Normal(proposal) = &entry.payload
                {
                    kinds.push(proposal.command().change.kind());
                }
                let row = encode_entry(self.0.replica, &entry);
                next = entry.log_id.index + 1;
                bytes += row.len();
                memory.tail_bytes += row.len();
                memory.last = Some(entry.log_id);
                memory.first.get_or_insert(entry.log_id.index);
                memory.tail.push_back((entry, row.len()));
                rows.push((next - 1, row));
            }
        }
        let inner = self.0.clone();
        let written = move |result: Result<(), DbError>| {
            if result.is_ok() {
                for kind in kinds {
                    crash.pass(Point::Command(kind, CommandPoint::Logged));
                }
                let mut memory = inner.memory.lock();
                memory.written = memory.written.max(next);
                memory.trim();
            }
            callback.io_completed(result.map_err(io::Error::from));
        };
        let db = &self.0.db;
        let fill = |batch: &mut WriteBatch| {
            for (index, row) in &rows {
                batch.put_cf(
                    db.family(Family::Log),
                    entry_key(self.0.replica, *index),
                    row,
                );
            }
        };
        db.write_synced(fill, written).await;
        self.0.meter.add(bytes as u64);
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let from = last.next_index();
        if self.0.memory.lock().last.next_index() <= from {
            return Ok(());
        }
        let (first, end) = (
            entry_key(self.0.replica, from),
            entry_key(self.0.replica, u64::MAX),
        );
        // Power goes before the sync: the entries may still be there, and the leader causes the
        // truncation again.
        self.write(|batch, cf| batch.delete_range_cf(cf, first, end))
            .await?;
        let mut memory = self.0.memory.lock();
        while memory
            .tail
            .back()
            .is_some_and(|(entry, _)| entry.log_id.index >= from)
        {
            let (_, bytes) = memory.tail.pop_back().expect("there is a back");
            memory.tail_bytes -= bytes;
        }
        memory.first = memory.first.filter(|first| *first < from);
        memory.last = last;
        memory.written = memory.written.min(from);
        Ok(())
    }

    /// Drops only entries that the state has in synced files. If some are only in the WAL, flushes
    /// the state first, even if openraft assumes that this was done.
    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        if self.0.state_flushed.load(Ordering::Relaxed) <= upto.index {
            let flush = |db: &Arc<Db>| db.flush(&[Family::State, Family::Values]);
            self.0.db.run_blocking(flush).await?;
            self.state_flushed(Some(&upto));
        }
        let replica = self.0.replica;
        let row = seal(replica.0, encode_log_id(&upto).to_vec());
        let (first, end) = (entry_key(replica, 0), entry_key(replica, upto.index + 1));
        // One batch: power leaves either all of the old log, or a log with its new start.
        self.write(|batch, cf| {
            batch.put_cf(cf, row_key(replica, PURGED), row);
            batch.delete_range_cf(cf, first, end);
        })
        .await?;
        let mut memory = self.0.memory.lock();
        while memory
            .tail
            .front()
            .is_some_and(|(entry, _)| entry.log_id.index <= upto.index)
        {
            let (_, bytes) = memory.tail.pop_front().expect("there is a front");
            memory.tail_bytes -= bytes;
        }
        memory.last = memory.last.take().max(Some(upto));
        let next = upto.index + 1;
        memory.first = memory
            .last
            .as_ref()
            .filter(|last| last.index >= next)
            .map(|_| next);
        memory.written = memory.written.max(upto.index + 1);
        memory.purged = Some(upto);
        Ok(())
    }
}
