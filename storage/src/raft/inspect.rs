//! Replicas on the disks of a stopped store, for checks from outside and for recovery.
//!
//! Works on databases that nobody else uses, best on copies ([`Db::open_copy`]): [`catch_up`]
//! applies the entries that a start would apply. It does not decide which of them are committed.

use std::sync::Arc;

use rocksdb::{Direction, IteratorMode, WriteBatch};

use super::log::{RaftLog, decode_at, entry_key};
use super::replica_row::{ReplicaRow, encode_applied, replica_rows};
use super::snapshot::{put_applied, put_membership, read_applied};
use super::types::{Entry, LogId, Membership, ReplicaId};
use crate::db::{Db, DbError, Family, StateId};
use crate::meta::state_machine::State;
use drystone_store::error::{Error, Result};
use drystone_store::types::DiskId;

/// A position in a group's log. A later one is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub term: u64,
    pub leader: u64,
    pub index: u64,
}

impl Position {
    pub(super) fn of(id: LogId) -> Position {
        Position {
            term: id.leader_id.term,
            leader: id.leader_id.node_id.0,
            index: id.index,
        }
    }
}

/// A replica on a disk.
#[derive(Clone)]
pub struct Replica {
    db: Arc<Db>,
    id: ReplicaId,
    row: ReplicaRow,
    /// The term in which it voted last.
    vote_term: u64,
    /// The end of its log, if it has one. Entries that its state has applied count as logged.
    pub log_end: Option<Position>,
}

impl Replica {
    pub fn id(&self) -> u64 {
        self.id.0
    }

    pub fn group(&self) -> u64 {
        self.row.group.0
    }

    /// Returns the number of recoveries of its group.
    pub fn incarnation(&self) -> u64 {
        self.row.incarnation
    }

    pub fn state(&self) -> StateId {
        self.row.state
    }

    pub fn db(&self) -> &Arc<Db> {
        &self.db
    }

    pub(super) fn replica(&self) -> ReplicaId {
        self.id
    }

    pub(super) fn row(&self) -> ReplicaRow {
        self.row
    }

    pub(super) fn vote_term(&self) -> u64 {
        self.vote_term
    }

    /// Returns the membership in force as far as this replica knows: the last one in its log,
    /// applied or not.
    pub(super) fn newest_membership(&self) -> Result<Membership, DbError> {
        let (applied, stored) = self.read_applied()?;
        let mut newest = stored.membership().clone();
        for entry in self.entries(applied.map_or(0, |id| id.index + 1)) {
            if let openraft::EntryPayload::Membership(membership) = entry?.payload {
                newest = membership;
            }
        }
        Ok(newest)
    }

    /// Returns its log's entries from `start` on.
    fn entries(&self, start: u64) -> impl Iterator<Item = Result<Entry, DbError>> + '_ {
        let (first, end) = (entry_key(self.id, start), entry_key(self.id, u64::MAX));
        let mode = IteratorMode::From(&first, Direction::Forward);
        let rows = self
            .db
            .rocks()
            .iterator_cf(self.db.family(Family::Log), mode);
        rows.map(|row| row.map_err(|e| self.db.failed(e)))
            .take_while(move |row| {
                row.as_ref().is_ok_and(|(key, _)| key[..] < end[..]) || row.is_err()
            })
            .map(|row| {
                let (key, value) = row?;
                decode_at(&self.db, self.id, &key, &value)
            })
    }

    fn entry(&self, index: u64) -> Result<Option<LogId>, DbError> {
        let entry = self.entries(index).next().transpose()?;
        Ok(entry
            .map(|entry| entry.log_id)
            .filter(|id| id.index == index))
    }

    /// Returns the position of the state's last applied entry.
    pub fn applied(&self) -> Result<Option<Position>, DbError> {
        Ok(self.read_applied()?.0.map(Position::of))
    }

    /// Returns the voters that the state knows of, and their disks.
    pub fn voters(&self) -> Result<Vec<(u64, DiskId)>, DbError> {
        let stored = self.read_applied()?.1;
        let membership = stored.membership();
        let seat = |voter: ReplicaId| Some((voter.0, membership.get_node(&voter)?.disk));
        Ok(membership.voter_ids().filter_map(seat).collect())
    }

    pub(super) fn read_applied(
        &self,
    ) -> Result<(Option<LogId>, super::types::StoredMembership), DbError> {
        let get = |key: &[u8]| {
            let row = self.db.rocks().get_cf(self.db.family(Family::State), key);
            row.map_err(|e| self.db.failed(e))
        };
        read_applied(&self.db, self.row.state, get)
    }
}

/// Returns the replicas that a disk has.
pub fn replicas(db: &Arc<Db>) -> Result<Vec<Replica>, DbError> {
    let replica = |(id, row)| {
        let log = RaftLog::open(db.clone(), id, Arc::default())?;
        let mut replica = Replica {
            db: db.clone(),
            id,
            row,
            vote_term: log.vote().map_or(0, |vote| vote.leader_id.term),
            log_end: log.last_log_id().map(Position::of),
        };
        // Power went after a received state was put into use, before the log was dropped for it.
        replica.log_end = replica.log_end.max(replica.applied()?);
        Ok(replica)
    };
    replica_rows(db)?.into_iter().map(replica).collect()
}

/// Applies the replica's log entries beyond its state, as far as they agree with `newest`, the log
/// that a start would keep. Returns the last applied entry.
pub fn catch_up(replica: &Replica, newest: &Replica) -> Result<Option<Position>> {
    let (applied, _) = replica.read_applied()?;
    let first = applied.map_or(0, |id| id.index + 1);
    let tables = State::new(replica.db.clone(), replica.row.state);
    for (next, entry) in (first..).zip(replica.entries(first)) {
        let entry = entry?;
        let id = entry.log_id;
        if id.index != next {
            return Err(Error::Unfit(format!("log entry {next} is missing")));
        }
        // An entry that the newest log has dropped already was committed.
        let same = newest.entry(id.index)?.is_none_or(|other| other == id);
        if !same || Some(Position::of(id)) > newest.log_end {
            break;
        }
        apply(replica, &tables, entry)?;
    }
    Ok(replica.applied()?)
}

fn apply(replica: &Replica, tables: &State, entry: Entry) -> Result<()> {
    let (db, id) = (&replica.db, entry.log_id);
    let mut batch = WriteBatch::default();
    put_applied(db, &mut batch, replica.row.state, Some(&id));
    match entry.payload {
        openraft::EntryPayload::Normal(proposal) => {
            // Refused or not: every replica of the group comes to the same answer.
            let _ = tables.apply(id.index, proposal.command(), &encode_applied(&id))?;
            return Ok(());
        }
        openraft::EntryPayload::Membership(membership) => {
            let stored = super::types::StoredMembership::new(Some(id), membership);
            put_membership(db, &mut batch, replica.row.state, &stored);
        }
        openraft::EntryPayload::Blank => {}
    }
    Ok(db.write_unsynced(batch)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::replica_row::{OBJECT_GROUP, put_replica_row};
    use super::*;
    use crate::db::DbShared;
    use crate::raft::types::split_log_id;

    #[tokio::test]
    async fn f_23_a_state_that_is_ahead_of_its_log_counts_whole() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::create(dir.path(), &DbShared::system()).unwrap();
        let row = ReplicaRow {
            group: OBJECT_GROUP,
            incarnation: 0,
            state: StateId(7),
        };
        let bytes: Vec<u8> = [3u64, 1, 50].iter().flat_map(|n| n.to_be_bytes()).collect();
        let (id, _) = split_log_id(&bytes).unwrap();
        db.synced(|batch| {
            put_replica_row(&db, batch, ReplicaId(9), &row);
            put_applied(&db, batch, row.state, Some(&id));
        })
        .await
        .unwrap();
        let replica = replicas(&db).unwrap().pop().unwrap();
        assert_eq!(replica.log_end, Some(Position::of(id)));
        assert_eq!(catch_up(&replica, &replica).unwrap(), replica.log_end);
    }
}
