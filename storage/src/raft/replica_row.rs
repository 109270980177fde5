//! The rows of a disk's database that name its replicas and their states.

use rocksdb::{Direction, IteratorMode, WriteBatch};

use super::types::{
    LOG_ID_BYTES, LogId, ReplicaId, RowFault, decode_sealed, encode_log_id, seal, split_log_id,
    split_u64,
};
use crate::db::{Db, DbError, Family, StateId, log_tag};

/// Names a group. Group 0 is the system's; groups from 1 on hold objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u64);

pub const SYSTEM_GROUP: GroupId = GroupId(0);
pub const OBJECT_GROUP: GroupId = GroupId(1);
pub const GROUPS: [GroupId; 2] = [SYSTEM_GROUP, OBJECT_GROUP];

/// The group that a replica belongs to, and its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaRow {
    pub group: GroupId,
    /// Rises by one with each recovery of the group. Replicas of a lower one do not vote any more.
    pub incarnation: u64,
    pub state: StateId,
}

const ROW_VERSION: u8 = 1;

fn replica_key(replica: ReplicaId) -> [u8; 9] {
    let mut key = [log_tag::REPLICA; 9];
    key[1..].copy_from_slice(&replica.0.to_be_bytes());
    key
}

pub fn put_replica_row(db: &Db, batch: &mut WriteBatch, replica: ReplicaId, row: &ReplicaRow) {
    let mut bytes = vec![ROW_VERSION];
    bytes.extend_from_slice(&row.group.0.to_be_bytes());
    bytes.extend_from_slice(&row.incarnation.to_be_bytes());
    bytes.extend_from_slice(&row.state.0.to_be_bytes());
    batch.put_cf(
        db.family(Family::Log),
        replica_key(replica),
        seal(replica.0, bytes),
    );
}

pub type ReplicaRows = Vec<(ReplicaId, ReplicaRow)>;

pub fn delete_replica_row(db: &Db, batch: &mut WriteBatch, replica: ReplicaId) {
    batch.delete_cf(db.family(Family::Log), replica_key(replica));
}

fn row(bytes: &[u8]) -> Option<ReplicaRow> {
    let (version, rest) = bytes.split_first()?;
    let (group, rest) = split_u64(rest)?;
    let (incarnation, rest) = split_u64(rest)?;
    let (state, rest) = split_u64(rest)?;
    let row = ReplicaRow {
        group: GroupId(group),
        incarnation,
        state: StateId(state),
    };
    (*version == ROW_VERSION && rest.is_empty()).then_some(row)
}

/// Returns the replicas that a disk has. Blocks.
pub fn replica_rows(db: &Db) -> Result<ReplicaRows, DbError> {
    let mut rows = Vec::new();
    let mode = IteratorMode::From(&[log_tag::REPLICA], Direction::Forward);
    for found in db.rocks().iterator_cf(db.family(Family::Log), mode) {
        let (key, value) = found.map_err(|e| db.failed(e))?;
        let [log_tag::REPLICA, id @ ..] = &key[..] else {
            break;
        };
        let bad = |fault: RowFault| fault.into_error(db, format!("replica row {key:02x?}"));
        let id = id.try_into().map_err(|_| bad(RowFault::Damaged))?;
        let id = ReplicaId(u64::from_be_bytes(id));
        rows.push((id, decode_sealed(id.0, &value, row).map_err(bad)?));
    }
    Ok(rows)
}

/// The value of a state's applied row: the id of the last entry that the state has applied.
pub fn encode_applied(id: &LogId) -> [u8; 1 + LOG_ID_BYTES] {
    let mut bytes = [ROW_VERSION; 1 + LOG_ID_BYTES];
    bytes[1..].copy_from_slice(&encode_log_id(id));
    bytes
}

pub fn decode_applied(row: &[u8]) -> Option<LogId> {
    let [ROW_VERSION, rest @ ..] = row else {
        return None;
    };
    split_log_id(rest)
        .filter(|(_, rest)| rest.is_empty())
        .map(|(id, _)| id)
}
