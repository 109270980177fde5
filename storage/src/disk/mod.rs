//! Disks: the places where shards lie.
//!
//! A disk stores shards under their names, returns their blocks and keeps a list of those that no
//! commit has confirmed. The meaning of a shard, and which disks belong together, are the business
//! of others. [`local`] is a directory of this machine.

pub mod identity;
mod io;
pub mod local;
pub mod pending;
pub mod shard_file;

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

use drystone_store::env::Operations;
use drystone_store::measure::Measure;
use drystone_store::types::{BucketId, DiskId, Epoch, WriteId};

/// The bytes that one checksum covers. Part of the format: chunk sizes are multiples of it.
pub const BLOCK_SIZE_BYTES: u32 = 32 << 10;

/// Returns the blocks that hold a span of a shard's payload.
pub fn blocks_of(span: &Range<u64>) -> Range<u64> {
    let block = u64::from(BLOCK_SIZE_BYTES);
    span.start / block..span.end.div_ceil(block)
}

/// Returns a block's span in a payload of that length; empty past its end.
pub fn block_span(block: u64, shard_len: u64) -> Range<u64> {
    let size = u64::from(BLOCK_SIZE_BYTES);
    (block * size).min(shard_len)..((block + 1) * size).min(shard_len)
}

/// Names one shard on one disk; used once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardName {
    pub write_id: WriteId,
    pub rank: u8,
    /// Counts the shard's moves: a healed shard never meets its old file.
    pub generation: u32,
}

/// The header of a shard: its own description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardHeader {
    pub name: ShardName,
    pub epoch: Epoch,
    pub bucket: BucketId,
    pub data_shards: u8,
    pub parity_shards: u8,
    pub chunk_size: u32,
}

/// A reader's knowledge of a shard before it opens it; a shard that differs is corrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardShape {
    pub bucket: BucketId,
    pub data_shards: u8,
    pub parity_shards: u8,
    /// Bytes of its payload.
    pub len: u64,
}

/// A shard on this disk that no commit has confirmed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnconfirmedShard {
    pub disk: DiskId,
    pub epoch: Epoch,
    pub bucket: BucketId,
    pub write_id: WriteId,
    pub rank: u8,
    pub generation: u32,
}

impl UnconfirmedShard {
    pub fn name(&self) -> ShardName {
        ShardName {
            write_id: self.write_id,
            rank: self.rank,
            generation: self.generation,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskState {
    Up,
    /// A write or sync failed once: nothing is written to the disk any more, reads are still tried.
    Failed(Arc<str>),
    /// The disk is not there any more.
    Lost(Arc<str>),
}

impl DiskState {
    pub fn is_up(&self) -> bool {
        *self == DiskState::Up
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    pub total: u64,
    pub free: u64,
    /// Free bytes that shards may use.
    pub above_reserve: u64,
    /// Free bytes that new metadata may use: this includes half of the reserve. The rest is for
    /// deletes, gc and the database's own compactions.
    pub for_metadata: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error("shard is not there")]
    Missing,
    #[error("shard is damaged: {0}")]
    Corrupt(String),
    #[error("disk is full")]
    Full,
    /// The disk is down, and its state says so.
    #[error("disk is down: {0}")]
    Down(Arc<str>),
    /// This one operation failed; the disk stays in use.
    #[error("i/o: {0}")]
    Io(#[from] std::io::Error),
}

/// One disk.
///
/// # What an implementation must guarantee
///
/// - When [`ShardWriter::finish`] gives `Ok`, the shard survives a power cut.
/// - An entry in the list of unconfirmed shards is durable before anything of the shard is.
/// - A shard is never overwritten: `create` fails where one of its name is.
/// - A block that is given is the one that was written there under this name.
/// - After a failed write or sync the disk takes no more writes, and the sync is not repeated.
#[async_trait]
pub trait Disk: Send + Sync + 'static {
    fn id(&self) -> DiskId;

    /// Leaves `Up` at most once, and never comes back to it.
    fn state(&self) -> watch::Receiver<DiskState>;

    /// Takes the disk down, as a failed write would.
    #[cfg(test)]
    fn fail(&self, why: &str);

    /// Returns the measures of this disk alone.
    fn measures(&self) -> Vec<Measure> {
        Vec::new()
    }

    /// Returns the space as it was last looked at, less what was taken since. Never waits for the
    /// disk; begins another look if the last one is old.
    fn space(&self) -> Result<Space, DiskError>;

    /// Returns the operations in progress on the disk, those of its database included.
    fn operations(&self) -> Arc<Operations>;

    /// Returns the number of syncs so far and the seconds that they took together.
    fn syncs(&self) -> (u64, f64);

    /// Ends the use of a disk that hangs. Nobody waits for it any more; what it has begun may still
    /// happen, but nothing is acknowledged.
    fn give_up(&self, why: &str);

    async fn create(&self, header: ShardHeader) -> Result<Box<dyn ShardWriter>, DiskError>;

    async fn open(
        &self,
        name: ShardName,
        shape: ShardShape,
    ) -> Result<Box<dyn ShardReader>, DiskError>;

    /// Removes shards durably. A shard that isn't there counts as removed.
    async fn remove(&self, shards: Vec<ShardName>) -> Result<(), DiskError>;

    /// Returns up to `max` shards whose epoch lies below `below`, without those confirmed so far.
    async fn unconfirmed(
        &self,
        below: Epoch,
        max: usize,
    ) -> Result<Vec<UnconfirmedShard>, DiskError>;

    /// Returns the shards that have a file in one of the disk's folders and are not on the list:
    /// confirmed ones, and strays.
    async fn unlisted(&self, folder: u8) -> Result<Vec<ShardName>, DiskError>;

    /// Adds shards that `unlisted` returned to the list, as of `epoch`, which began later.
    async fn mark_unconfirmed(&self, shards: Vec<ShardName>, epoch: Epoch)
    -> Result<(), DiskError>;

    /// Removes shards from the list, some time later: gc meets one that stays on it again.
    fn confirm(&self, shards: &[ShardName]);
}

/// A shard being written. Dropped without `finish` it stays on the disk, unconfirmed.
#[async_trait]
pub trait ShardWriter: Send {
    /// Appends chunks. All but the shard's last are whole blocks.
    async fn write(&mut self, chunks: Vec<Bytes>) -> Result<(), DiskError>;

    /// Seals the shard and makes it durable; returns the checksum over all of it.
    async fn finish(self: Box<Self>, object_size: u64) -> Result<u64, DiskError>;
}

/// A shard opened for reading.
#[async_trait]
pub trait ShardReader: Send + Sync {
    /// Reads blocks and marks those that do not verify; an error means that none could be read.
    async fn read(&self, blocks: Range<u64>) -> Result<Blocks, DiskError>;

    /// Returns the checksum over the whole shard from its footer, which must verify.
    async fn seal(&self) -> Result<u64, DiskError>;

    /// Drops what memory has of the shard, so that the next reads are from the disk.
    async fn drop_cache(&self) -> Result<(), DiskError>;
}

/// Adjacent blocks of a shard, as read.
#[derive(Clone, Debug)]
pub struct Blocks {
    first: u64,
    payload: Bytes,
    /// The blocks that do not verify, ascending.
    bad: Vec<u64>,
}

impl Blocks {
    pub fn new(first: u64, payload: Bytes, bad: Vec<u64>) -> Blocks {
        Blocks {
            first,
            payload,
            bad,
        }
    }

    /// Returns all bytes, if every block verifies.
    pub fn whole(&self) -> Option<Bytes> {
        self.is_intact().then(|| self.payload.clone())
    }

    pub fn is_intact(&self) -> bool {
        self.bad.is_empty()
    }

    /// Returns the bytes of a span of the shard's payload, if all blocks that hold it are here and
    /// good.
    pub fn span(&self, span: &Range<u64>) -> Option<Bytes> {
        let blocks = blocks_of(span);
        if self.bad.iter().any(|bad| blocks.contains(bad)) {
            return None;
        }
        let origin = self.first * u64::from(BLOCK_SIZE_BYTES);
        let start = usize::try_from(span.start.checked_sub(origin)?).ok()?;
        let end = usize::try_from(span.end.checked_sub(origin)?).ok()?;
        (start <= end && end <= self.payload.len()).then(|| self.payload.slice(start..end))
    }
}
