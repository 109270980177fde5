//! The types that openraft is used with, and their bytes on disk.
//!
//! They stay inside `raft`. FORMAT.md has every layout: integers are big-endian, and rows that must
//! not be taken for another replica's carry, beside RocksDB's own checksums, one that is seeded by
//! the owner.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use openraft::type_config::alias::{
    EntryOf, LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf, VoteOf,
};
use openraft::{EntryPayload, vote::RaftLeaderId as _};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::db::{Db, DbError};
use crate::meta::command::{Command, Outcome};
use crate::meta::record::{First, Record};
use drystone_store::env::Env;
use drystone_store::types::DiskId;

openraft::declare_raft_types!(
    /// The types of every group's raft.
    pub Types:
        D = Proposal,
        R = Answer,
        NodeId = ReplicaId,
        Node = Seat,
);

pub type LogId = LogIdOf<Types>;
pub type Vote = VoteOf<Types>;
pub type Entry = EntryOf<Types>;
pub type Membership = openraft::Membership<ReplicaId, Seat>;
pub type StoredMembership = StoredMembershipOf<Types>;
pub type SnapshotMeta = SnapshotMetaOf<Types>;
pub type Snapshot<T> = SnapshotOf<Types, T>;
type LeaderId = <Types as openraft::RaftTypeConfig>::LeaderId;

/// A replica's random id. It is used once: a replica that comes back without its log gets a new id.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct ReplicaId(pub u64);

impl ReplicaId {
    pub fn random(env: &dyn Env) -> ReplicaId {
        ReplicaId(env.random_id())
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl From<u64> for ReplicaId {
    fn from(id: u64) -> ReplicaId {
        ReplicaId(id)
    }
}

/// A member's seat: the disk of its replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seat {
    pub disk: DiskId,
}

impl Default for Seat {
    fn default() -> Seat {
        Seat {
            disk: DiskId([0; 16]),
        }
    }
}

/// A command on its way through the log. It is encoded once for all replicas.
#[derive(Clone, Debug)]
pub struct Proposal(Arc<(Command, Vec<u8>)>);

impl Proposal {
    pub fn new(command: Command) -> Proposal {
        let encoded = command.encode();
        Proposal(Arc::new((command, encoded)))
    }

    pub fn command(&self) -> &Command {
        &self.0.0
    }

    fn encoded(&self) -> &[u8] {
        &self.0.1
    }

    fn decode(bytes: &[u8]) -> Option<Proposal> {
        let command = Command::decode(bytes).ok()?;
        Some(Proposal(Arc::new((command, bytes.to_vec()))))
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.command().request, f)
    }
}

/// The answer of an applied entry; `None` for an entry without a command.
#[derive(Clone, Debug)]
pub struct Answer(pub Option<Outcome>);

/// Bytes of an encoded log id.
pub const LOG_ID_BYTES: usize = 24;
const SEAL_BYTES: usize = 8;
const ENTRY_VERSION: u8 = 1;
const VOTE_VERSION: u8 = 1;

const BLANK: u8 = 0;
const COMMAND: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// Appends a checksum seeded by `owner`.
pub fn seal(owner: u64, mut bytes: Vec<u8>) -> Vec<u8> {
    let checksum = xxh3_64_with_seed(&bytes, owner);
    bytes.extend_from_slice(&checksum.to_be_bytes());
    bytes
}

/// Returns the bytes that were sealed by `owner`; `None` if they are not what was written.
pub fn unseal(owner: u64, sealed: &[u8]) -> Option<&[u8]> {
    let (bytes, checksum) = sealed.split_last_chunk::<SEAL_BYTES>()?;
    (xxh3_64_with_seed(bytes, owner) == u64::from_be_bytes(*checksum)).then_some(bytes)
}

/// The reason why a sealed row is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowFault {
    /// It is not what its owner wrote.
    Damaged,
    /// Its owner wrote it, and this program does not know what it means: another version of the
    /// program was the owner.
    Unfit,
}

impl RowFault {
    /// Makes the error of a row. Damage ends the use of the database.
    pub fn into_error(self, db: &Db, what: String) -> DbError {
        match self {
            RowFault::Damaged => db.corrupt(what),
            RowFault::Unfit => {
                DbError::Unfit(format!("{what} is of a version that is not known").into())
            }
        }
    }
}

/// Decodes what `owner` has sealed.
pub fn decode_sealed<'a, T>(
    owner: u64,
    sealed: &'a [u8],
    decode: impl FnOnce(&'a [u8]) -> Option<T>,
) -> Result<T, RowFault> {
    let bytes = unseal(owner, sealed).ok_or(RowFault::Damaged)?;
    decode(bytes).ok_or(RowFault::Unfit)
}

/// Returns the first eight bytes as a number, and the rest.
pub fn split_u64(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (first, rest) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*first), rest))
}

pub fn encode_log_id(id: &LogId) -> [u8; LOG_ID_BYTES] {
    let mut bytes = [0; LOG_ID_BYTES];
    bytes[..8].copy_from_slice(&id.leader_id.term.to_be_bytes());
    bytes[8..16].copy_from_slice(&id.leader_id.node_id.0.to_be_bytes());
    bytes[16..].copy_from_slice(&id.index.to_be_bytes());
    bytes
}

/// Returns a log id, and the bytes after it.
pub fn split_log_id(bytes: &[u8]) -> Option<(LogId, &[u8])> {
    let (term, bytes) = split_u64(bytes)?;
    let (replica, bytes) = split_u64(bytes)?;
    let (index, bytes) = split_u64(bytes)?;
    Some((
        LogId::new(LeaderId::new(term, ReplicaId(replica)), index),
        bytes,
    ))
}

pub fn encode_vote(owner: ReplicaId, vote: &Vote) -> Vec<u8> {
    let mut bytes = vec![VOTE_VERSION, u8::from(vote.committed)];
    bytes.extend_from_slice(&vote.leader_id.term.to_be_bytes());
    bytes.extend_from_slice(&vote.leader_id.node_id.0.to_be_bytes());
    seal(owner.0, bytes)
}

pub fn decode_vote(owner: ReplicaId, sealed: &[u8]) -> Result<Vote, RowFault> {
    decode_sealed(owner.0, sealed, vote)
}

fn vote(bytes: &[u8]) -> Option<Vote> {
    let [VOTE_VERSION, committed @ (0 | 1), rest @ ..] = bytes else {
        return None;
    };
    let (term, rest) = split_u64(rest)?;
    let (replica, rest) = split_u64(rest)?;
    let leader_id = LeaderId::new(term, ReplicaId(replica));
    rest.is_empty().then_some(Vote {
        leader_id,
        committed: *committed == 1,
    })
}

pub fn encode_entry(owner: ReplicaId, entry: &Entry) -> Vec<u8> {
    let membership;
    let (kind, payload) = match &entry.payload {
        EntryPayload::Blank => (BLANK, &[][..]),
        EntryPayload::Normal(proposal) => (COMMAND, proposal.encoded()),
        EntryPayload::Membership(m) => {
            membership = encode_membership(m);
            (MEMBERSHIP, &membership[..])
        }
    };
    let mut bytes = Vec::with_capacity(2 + LOG_ID_BYTES + payload.len() + SEAL_BYTES);
    bytes.extend_from_slice(&[ENTRY_VERSION, kind]);
    bytes.extend_from_slice(&encode_log_id(&entry.log_id));
    bytes.extend_from_slice(payload);
    seal(owner.0, bytes)
}

pub fn decode_entry(owner: ReplicaId, sealed: &[u8]) -> Result<Entry, RowFault> {
    decode_sealed(owner.0, sealed, entry)
}

fn entry(bytes: &[u8]) -> Option<Entry> {
    let [ENTRY_VERSION, kind, rest @ ..] = bytes else {
        return None;
    };
    let (log_id, payload) = split_log_id(rest)?;
    let payload = match *kind {
        BLANK if payload.is_empty() => EntryPayload::Blank,
        COMMAND => EntryPayload::Normal(Proposal::decode(payload)?),
        MEMBERSHIP => EntryPayload::Membership(decode_membership(payload)?),
        _ => return None,
    };
    Some(Entry { log_id, payload })
}

#[derive(Serialize, Deserialize)]
struct MembershipRecord {
    /// One set of voters, or two while they change.
    configs: Vec<BTreeSet<ReplicaId>>,
    /// Voters and learners.
    seats: BTreeMap<ReplicaId, Seat>,
}

impl From<First> for MembershipRecord {
    fn from(never: First) -> MembershipRecord {
        match never {}
    }
}

impl Record for MembershipRecord {
    const VERSION: u8 = 1;
    type Previous = First;
}

fn encode_membership(membership: &Membership) -> Vec<u8> {
    let record = MembershipRecord {
        configs: membership.get_joint_config().clone(),
        seats: membership.nodes().map(|(id, seat)| (*id, *seat)).collect(),
    };
    record.encode()
}

fn decode_membership(bytes: &[u8]) -> Option<Membership> {
    let record = MembershipRecord::decode(bytes).ok()?;
    // A new group has an empty membership, which `new` would refuse.
    if record.configs.is_empty() && record.seats.is_empty() {
        return Some(Membership::default());
    }
    Membership::new(record.configs, record.seats).ok()
}

/// Encodes a state's row with the last membership that it has applied.
pub fn encode_stored_membership(stored: &StoredMembership) -> Vec<u8> {
    let mut bytes = vec![ENTRY_VERSION, u8::from(stored.log_id().is_some())];
    if let Some(id) = stored.log_id() {
        bytes.extend_from_slice(&encode_log_id(id));
    }
    bytes.extend_from_slice(&encode_membership(stored.membership()));
    bytes
}

pub fn decode_stored_membership(bytes: &[u8]) -> Option<StoredMembership> {
    let [ENTRY_VERSION, has_id, rest @ ..] = bytes else {
        return None;
    };
    let (id, rest) = match has_id {
        0 => (None, rest),
        1 => split_log_id(rest).map(|(id, rest)| (Some(id), rest))?,
        _ => return None,
    };
    Some(StoredMembership::new(id, decode_membership(rest)?))
}
