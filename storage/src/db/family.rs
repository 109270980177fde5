//! The families of a disk's database, and the kinds of keys in them.

/// The first byte of a key in [`Family::Log`]: the kind of its row.
pub mod log_tag {
    /// A replica that this disk has.
    pub const REPLICA: u8 = 0;
    /// A replica's Raft log and vote.
    pub const RAFT: u8 = 1;
    /// The disk's list of shards that no commit has confirmed yet.
    pub const UNCONFIRMED: u8 = 2;
    /// The disk's records of itself and of the other disks of its store.
    pub const ROSTER: u8 = 3;
    /// An inventory of the disk's shards is due.
    pub const INVENTORY: u8 = 4;
}

/// Names one state on one disk: the first eight bytes, big-endian, of its keys in
/// [`Family::State`] and [`Family::Values`]. A replica that receives a snapshot gets a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateId(pub u64);

/// The families of a disk's database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Rows that are synced: Raft logs, votes, replica rows, unconfirmed shards.
    Log,
    /// All tables of all states, without inline bytes.
    State,
    /// Inline bytes of objects, in blob files.
    Values,
}

impl Family {
    pub(super) const ALL: [Family; 3] = [Family::Log, Family::State, Family::Values];

    pub fn name(self) -> &'static str {
        match self {
            Family::Log => "log",
            Family::State => "state",
            Family::Values => "values",
        }
    }
}
