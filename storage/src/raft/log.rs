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
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{EntryPayload, LogIdOptionExt as _, OptionalSend, RaftLogReader};
use rocksdb::{Direction, IteratorMode, ReadOptions, WriteBatch};

use super::log_meter::LogMeter;
use super::types::{
    Entry, LogId, ReplicaId, RowFault, Types, Vote, decode_entry, decode_sealed, decode_vote,
    encode_entry, encode_log_id, encode_vote, seal, split_log_id,
};
use crate::db::{Db, DbError, Family, log_tag};
use drystone_store::crash::{CommandPoint, Point};
use drystone_store::lock::Mutex;

/// The most bytes of a replica's entries that stay in memory after they are written.
const TAIL_BYTES_MAX: usize = 2 << 20;
/// The most bytes that one read of the log brings into memory.
const READ_BYTES_MAX: usize = 1 << 20;

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
    /// The reason why the replica cannot continue, although its disk works.
    unfit: OnceLock<Arc<str>>,
    /// openraft's own suite appends and applies entries with holes between them.
    #[cfg(test)]
    allows_holes: bool,
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

    /// Forgets the entries up to `upto`.
    fn purge(&mut self, upto: LogId) {
        while self
            .tail
            .front()
            .is_some_and(|(entry, _)| entry.log_id.index <= upto.index)
        {
            let (_, bytes) = self.tail.pop_front().expect("there is a front");
            self.tail_bytes -= bytes;
        }
        self.last = self.last.take().max(Some(upto));
        let next = upto.index + 1;
        let has_more = self.last.as_ref().is_some_and(|last| last.index >= next);
        self.first = has_more.then_some(next);
        self.written = self.written.max(next);
        self.purged = Some(upto);
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
                    .map_err(|fault| fault.into_error(&db, format!("vote of replica {replica}")))?,
            ),
            None => None,
        };
        let purged = match get(PURGED)? {
            Some(row) => {
                let id = decode_sealed(replica.0, &row, split_log_id).map_err(|fault| {
                    fault.into_error(&db, format!("purged row of replica {replica}"))
                });
                Some(id?.0)
            }
            None => None,
        };
        let (mut first, mut last) = (None, purged);
        let end = entry_key(replica, u64::MAX);
        let mode = IteratorMode::From(&end, Direction::Reverse);
        if let Some(row) = db.rocks().iterator_cf(db.family(Family::Log), mode).next() {
            let (key, value) = row.map_err(|e| db.failed(e))?;
            if key.starts_with(&row_key(replica, ENTRY)) {
                last = last.max(Some(decode_at(&db, replica, &key, &value)?.log_id));
            }
        }
        let start = entry_key(replica, 0);
        let mode = IteratorMode::From(&start, Direction::Forward);
        if let Some(row) = db.rocks().iterator_cf(db.family(Family::Log), mode).next() {
            let (key, value) = row.map_err(|e| db.failed(e))?;
            if key.starts_with(&row_key(replica, ENTRY)) {
                first = Some(decode_at(&db, replica, &key, &value)?.log_id.index);
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
            unfit: OnceLock::new(),
            #[cfg(test)]
            allows_holes: false,
        })))
    }

    /// Makes the log of openraft's own suite, in which entries may be missing.
    #[cfg(test)]
    pub fn allowing_holes(mut self) -> RaftLog {
        let inner = Arc::get_mut(&mut self.0).expect("just opened");
        inner.allows_holes = true;
        self
    }

    pub fn last_log_id(&self) -> Option<LogId> {
        self.0.memory.lock().last
    }

    /// Returns the number of entries.
    pub fn len(&self) -> u64 {
        let memory = self.0.memory.lock();
        let first = memory.first.unwrap_or(memory.last.next_index());
        memory.last.next_index() - first
    }

    pub fn vote(&self) -> Option<Vote> {
        self.0.memory.lock().vote
    }

    pub fn purged(&self) -> Option<LogId> {
        self.0.memory.lock().purged
    }

    /// Notes an error with which the replica cannot continue, if it is one.
    pub fn note(&self, error: DbError) -> DbError {
        if let DbError::Unfit(why) = &error {
            self.0.unfit.set(why.clone()).ok();
        }
        error
    }

    /// Returns the reason why the replica cannot continue, although its disk works.
    pub fn unfit(&self) -> Option<Arc<str>> {
        self.0.unfit.get().cloned()
    }

    /// Refuses an entry that does not follow immediately on `last` (B-62): openraft checks that
    /// only in builds with its debug assertions.
    pub fn check_follows(&self, what: &str, last: Option<LogId>, next: LogId) -> io::Result<()> {
        let expected = last.next_index();
        #[cfg(test)]
        if self.0.allows_holes {
            return Ok(());
        }
        match next.index == expected {
            true => Ok(()),
            false => Err(self.0.hole(format!(
                "entry {} is to be {what}, and {expected} is next",
                next.index
            ))),
        }
    }

    /// Notes that the state's tables up to `applied` are in synced files.
    pub fn state_flushed(&self, applied: Option<&LogId>) {
        let next = applied.map_or(0, |id| id.index + 1);
        self.0.state_flushed.fetch_max(next, Ordering::Relaxed);
    }

    /// Reads entries from `start` on, in order and without a gap: all below `end`. If `limited`,
    /// stops after `READ_BYTES_MAX`, but not before the first entry, and fails if `start` was
    /// purged. Otherwise purged entries are left out.
    async fn read(&self, start: u64, end: u64, limited: bool) -> Result<Vec<Entry>, io::Error> {
        let limit = if limited { READ_BYTES_MAX } else { usize::MAX };
        let (mut newest, start, split) = {
            let memory = self.0.memory.lock();
            if limited && start < end && start < memory.purged.next_index() {
                // Later entries in their place would make a hole in a follower's log (B-62).
                return Err(self
                    .0
                    .hole(format!("entry {start} is asked for and was purged")));
            }
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
        let entries = self.0.db.run_blocking(read).await;
        let mut entries = entries.map_err(|error| self.note(error))?;
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

/// Decodes the row of an entry, which must be of this replica and at its place.
pub(super) fn decode_at(
    db: &Db,
    replica: ReplicaId,
    key: &[u8],
    value: &[u8],
) -> Result<Entry, DbError> {
    let here = |entry: &Entry| key == entry_key(replica, entry.log_id.index);
    let entry = match decode_entry(replica, value) {
        Ok(entry) if here(&entry) => Ok(entry),
        Ok(_) => Err(RowFault::Damaged),
        Err(fault) => Err(fault),
    };
    entry
        .map_err(|fault| fault.into_error(db, format!("log entry {key:02x?} of replica {replica}")))
}

impl LogInner {
    /// Makes the error of a request that would leave a hole in a log.
    fn hole(&self, what: String) -> io::Error {
        tracing::error!(replica = %self.replica, what, "a request would leave a hole in a log");
        io::Error::other(format!("log of replica {}: {what}", self.replica))
    }

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
            let entry = decode_at(&self.db, self.replica, &key, &value)?;
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
        self.read(start, end, false).await
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        self.read(start, end, true).await
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
                self.check_follows("appended", memory.last, entry.log_id)?;
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
        // Before the rows are removed: a reader that finds none must know that they were purged.
        self.0.memory.lock().purge(upto);
        // One batch: power leaves either all of the old log, or a log with its new start.
        self.write(|batch, cf| {
            batch.put_cf(cf, row_key(replica, PURGED), row);
            batch.delete_range_cf(cf, first, end);
        })
        .await
    }
}
