//! Which shards hold the bytes of a write, and on which disks: what metadata keep of data.

use serde::{Deserialize, Serialize};

use crate::types::{DiskId, WriteId};

/// The shards that hold the bytes of one write id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardSet {
    pub data_shards: u8,
    pub parity_shards: u8,
    /// Bytes of a chunk in every stripe but the last.
    pub chunk_size: u32,
    /// The storage class it was written for, so that heal knows what it should be.
    pub class: String,
    /// It has fewer shards than its class, as disks were missing or full. The command that names
    /// it also queues it for re-encoding.
    pub undersized: bool,
    /// By rank: data shards first. As many as data and parity shards together.
    pub shards: Vec<ShardPlace>,
}

impl ShardSet {
    /// Where its shards are, by rank.
    pub fn places(&self) -> impl Iterator<Item = ShardAt> {
        self.shards.iter().map(ShardPlace::at)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardPlace {
    pub disk: DiskId,
    /// Counts the shard's moves: heal swaps it by compare-and-set.
    pub generation: u32,
    /// Over the whole shard file, seeded as its blocks are.
    pub checksum: u64,
    /// Not synced when the row was committed: owed to the heal queue.
    pub missing: bool,
}

impl ShardPlace {
    pub fn at(&self) -> ShardAt {
        ShardAt {
            disk: self.disk,
            generation: self.generation,
        }
    }
}

/// A shard of a write, wherever it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ShardId {
    pub write_id: WriteId,
    pub rank: u8,
}

/// Where a shard is, by which heal swaps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardAt {
    pub disk: DiskId,
    pub generation: u32,
}
