//! The checksums of payloads, taken while the shards of a write are read.

use drystone_store::checksum::Crc64;
use drystone_store::shard_set::ShardPlace;

/// Filled into the end of data shards if the object ends before.
const ZEROS: [u8; 4 << 10] = [0; 4 << 10];

/// The payloads of a write's shards as far as they were read, each from its beginning.
pub(super) struct Payloads {
    /// The checksum of each, by rank, and the number of its bytes.
    shards: Vec<(Crc64, u64)>,
    /// The bytes of each whole payload.
    len: u64,
}

impl Payloads {
    pub fn new(shards: usize, len: u64) -> Payloads {
        Payloads {
            shards: vec![(Crc64::default(), 0); shards],
            len,
        }
    }

    /// Adds the next bytes of a payload.
    pub fn add(&mut self, rank: usize, bytes: &[u8]) {
        let (sum, len) = &mut self.shards[rank];
        sum.update(bytes);
        *len += bytes.len() as u64;
    }

    /// Adds the zeros after the last byte of the object.
    pub fn fill_up(&mut self, rank: usize) {
        while let missing @ 1.. = self.len.saturating_sub(self.shards[rank].1) {
            let zeros = missing.min(ZEROS.len() as u64) as usize;
            self.add(rank, &ZEROS[..zeros]);
        }
    }

    /// Returns whether a payload was read to its end and is not the one that was committed.
    pub fn differs(&self, rank: usize, place: &ShardPlace) -> bool {
        let (sum, len) = &self.shards[rank];
        *len == self.len && sum.value() != place.payload_checksum
    }
}
