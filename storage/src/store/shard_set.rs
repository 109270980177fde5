//! Shard sets: which shards hold the bytes of a write, and on which disks. The metadata keep one
//! for each write.

use serde::{Deserialize, Serialize};

use crate::types::{DiskId, WriteId};

/// The shards that hold the bytes of one write id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardSet {
    pub data_shards: u8,
    pub parity_shards: u8,
    /// The bytes of a chunk in every stripe but the last.
    pub chunk_size: u32,
    /// The storage class of the write, so that heal knows which geometry it should have.
    pub class: String,
    /// It has fewer shards than its class, as disks were missing or full. The command that names
    /// it also queues it for re-encoding.
    pub undersized: bool,
    /// The shards by rank, data shards first: as many as data and parity shards together.
    pub shards: Vec<ShardPlace>,
}

impl ShardSet {
    /// Returns the places of its shards, by rank.
    pub fn places(&self) -> impl Iterator<Item = ShardAt> {
        self.shards.iter().map(ShardPlace::at)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardPlace {
    pub disk: DiskId,
    /// 0 for the first shard of a rank. Each rebuilt or re-encoded one gets a new random number, so
    /// that heal can swap shards by compare-and-set.
    pub generation: u32,
    /// The checksum over the whole shard file, seeded like those of its blocks.
    #[serde(with = "eight_bytes")]
    pub checksum: u64,
    /// The CRC64NVME of its payload, taken when the write was encoded. It stays when the shard is
    /// rebuilt, and proves what was rebuilt.
    #[serde(with = "eight_bytes")]
    pub payload_checksum: u64,
    /// The shard was not synced when the row was committed. It is in the heal queue.
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

/// The place of a shard. Heal swaps a shard only if it is at the expected place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardAt {
    pub disk: DiskId,
    pub generation: u32,
}

/// Encodes a number as eight bytes, because it has no small values.
pub mod eight_bytes {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub fn serialize<S: Serializer>(number: &u64, to: S) -> Result<S::Ok, S::Error> {
        number.to_le_bytes().serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        <[u8; 8]>::deserialize(from).map(u64::from_le_bytes)
    }
}
