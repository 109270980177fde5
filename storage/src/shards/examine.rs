//! Examining the shards of a write: each by itself, or all of them side by side.
//!
//! A shard is whole if every block verifies, the header and the footer are those that were
//! committed, and the payload has the checksum that the row has for it. Nothing is said of a shard
//! on a disk that is not up: it may be whole. The bytes are read from the disk, not from memory.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;

use super::disk_set::{Holder, within_deadline};
use super::payload::Payloads;
use super::plane::{Shards, shard_name};
use super::read::{WriteShape, layout_of};
use crate::disk::{
    BLOCK_SIZE_BYTES, Blocks, Disk, DiskError, DiskState, ShardName, ShardReader, ShardShape,
    blocks_of,
};
use drystone_store::env::Env;
use drystone_store::error::Result;
use drystone_store::shard_set::{ShardAt, ShardPlace, ShardSet};
use drystone_store::types::{BucketId, WriteId};
use drystone_store::workers::{Pace, Pause};

/// The blocks of a shard that are rebuilt or verified at once.
const STEP_BLOCKS: u64 = 32;
/// The blocks of all shards of a write that are read at once.
const WRITE_STEP_BLOCKS: u64 = 128;

/// A write and its shards.
#[derive(Clone, Copy, Debug)]
pub struct WriteRef<'a> {
    pub write_id: WriteId,
    pub bucket: BucketId,
    pub size: u64,
    pub set: &'a ShardSet,
}

/// One shard of a write, with what its row says of the write.
#[derive(Clone, Copy, Debug)]
pub struct ShardRef<'a> {
    pub write_id: WriteId,
    pub bucket: BucketId,
    pub size: u64,
    pub set: &'a ShardSet,
    pub rank: u8,
}

/// The condition in which a shard was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShardCondition {
    /// Every block, the header, the footer and the payload are as they were written.
    Whole,
    /// It is certainly not there as it was written.
    Damaged(String),
    /// Its disk is offline or down and may come back with it.
    Offline,
    /// Its disk is present and did not answer.
    Unknown(String),
}

/// The condition in which a write was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteCondition {
    /// By rank. `None`: the row says that the shard was never written.
    pub shards: Vec<Option<ShardCondition>>,
    /// All shards are whole, and the parity is not the code of the data: it was wrong when it was
    /// written.
    pub has_wrong_parity: bool,
}

impl From<DiskError> for ShardCondition {
    fn from(error: DiskError) -> ShardCondition {
        match error {
            DiskError::Missing | DiskError::Corrupt(_) => {
                ShardCondition::Damaged(error.to_string())
            }
            DiskError::Down(_) => ShardCondition::Offline,
            DiskError::Io(_) | DiskError::Full => ShardCondition::Unknown(error.to_string()),
        }
    }
}

/// The place where a shard should be, and what should be there.
pub(super) struct ShardLocation {
    pub disk: Arc<dyn Disk>,
    pub name: ShardName,
    pub shape: ShardShape,
    pub place: ShardPlace,
}

impl ShardRef<'_> {
    pub(super) fn place(&self) -> &ShardPlace {
        &self.set.shards[usize::from(self.rank)]
    }

    pub(super) fn at(&self) -> ShardAt {
        self.place().at()
    }

    pub(super) fn shape(&self) -> Result<WriteShape> {
        Ok(WriteShape {
            write_id: self.write_id,
            bucket: self.bucket,
            layout: layout_of(self.write_id, self.size, self.set)?,
        })
    }
}

impl<'a> WriteRef<'a> {
    fn shard(self, rank: u8) -> ShardRef<'a> {
        ShardRef {
            write_id: self.write_id,
            bucket: self.bucket,
            size: self.size,
            set: self.set,
            rank,
        }
    }
}

impl Shards {
    /// Reads a whole shard where its row says it is.
    pub async fn examine(&self, shard: ShardRef<'_>, pace: &Pace) -> Result<ShardCondition, Pause> {
        let location = match self.location(shard) {
            Ok(location) => location,
            Err(found) => return Ok(found),
        };
        match verify(self.env.as_ref(), &location, pace).await {
            Ok(()) => Ok(ShardCondition::Whole),
            Err(VerifyError::Paused(paused)) => Err(paused),
            Err(VerifyError::Disk(error)) => Ok(error.into()),
        }
    }

    /// Checks that a shard's file is where its row says, with the right length and with the header
    /// and footer that were committed. It reads no blocks, so they may be damaged.
    pub async fn find(&self, shard: ShardRef<'_>) -> ShardCondition {
        let location = match self.location(shard) {
            Ok(location) => location,
            Err(found) => return found,
        };
        let (env, ShardLocation { name, shape, .. }) = (self.env.as_ref(), &location);
        let found = async {
            let reader = within_deadline(env, location.disk.open(*name, *shape)).await?;
            see_seal(env, &location, reader.as_ref()).await
        };
        found
            .await
            .map_or_else(ShardCondition::from, |()| ShardCondition::Whole)
    }

    /// Returns where a shard should be, or its condition if that is known without reading it.
    fn location(&self, shard: ShardRef<'_>) -> Result<ShardLocation, ShardCondition> {
        let place = shard.place();
        if place.missing {
            return Err(ShardCondition::Damaged("it was never written".into()));
        }
        let disk = match self.disk_set().holder(place.disk) {
            Holder::Present(disk) => disk,
            Holder::Removed => return Err(ShardCondition::Damaged("its disk was removed".into())),
            Holder::Offline => return Err(ShardCondition::Offline),
        };
        let wanted = shard.shape();
        let wanted = wanted.map_err(|error| ShardCondition::Unknown(error.to_string()))?;
        Ok(ShardLocation {
            disk,
            name: shard_name(shard.write_id, shard.rank, place.at()),
            shape: wanted.shape(),
            place: place.clone(),
        })
    }

    /// Reads all shards of a write side by side, and compares the parity with the data.
    pub async fn examine_write(
        &self,
        write: WriteRef<'_>,
        pace: &Pace,
    ) -> Result<WriteCondition, Pause> {
        let ranks = (0..).zip(&write.set.shards);
        let begun = ranks.map(|(rank, place)| async move {
            if place.missing {
                return Examination::Ended(None);
            }
            match self.begin(write.shard(rank)).await {
                Ok(reading) => reading,
                Err(found) => Examination::Ended(Some(found)),
            }
        });
        let mut ranks = join_all(begun).await;
        let mut has_wrong_parity = false;
        if let Ok(wanted) = write.shard(0).shape() {
            let (len, total) = (wanted.layout.shard_len(), ranks.len());
            let codec = self.codecs.get(wanted.layout.geometry());
            let mut payloads = Payloads::new(total, len);
            for blocks in steps(len, (WRITE_STEP_BLOCKS / total as u64).max(1)) {
                let read = self.read_step(&mut ranks, blocks, pace).await?;
                for (rank, bytes) in read.iter().enumerate() {
                    bytes.iter().for_each(|bytes| payloads.add(rank, bytes));
                }
                let all: Option<Vec<Bytes>> = read.into_iter().collect();
                has_wrong_parity |= all.is_some_and(|row| !codec.is_coded(&row));
            }
            self.end(&mut ranks, &payloads).await;
        }
        let shards: Vec<_> = ranks.into_iter().map(Examination::condition).collect();
        let is_whole = |found: &Option<_>| *found == Some(ShardCondition::Whole);
        Ok(WriteCondition {
            has_wrong_parity: has_wrong_parity && shards.iter().all(is_whole),
            shards,
        })
    }

    async fn begin(&self, shard: ShardRef<'_>) -> Result<Examination, ShardCondition> {
        let location = self.location(shard)?;
        let reader = open_uncached(self.env.as_ref(), &location).await?;
        Ok(Examination::Reading(location, reader))
    }

    /// Reads the same blocks of all shards that are still being read. Returns the bytes by rank.
    async fn read_step(
        &self,
        ranks: &mut [Examination],
        blocks: Range<u64>,
        pace: &Pace,
    ) -> Result<Vec<Option<Bytes>>, Pause> {
        let reading = ranks.iter().filter(|rank| rank.is_reading()).count() as u64;
        pace.take(bytes_of(&blocks) * reading).await?;
        let reads = ranks.iter().map(|rank| {
            let blocks = blocks.clone();
            async move {
                match rank {
                    Examination::Ended(_) => None,
                    Examination::Reading(location, reader) => {
                        Some(read_whole(self.env.as_ref(), location, reader.as_ref(), blocks).await)
                    }
                }
            }
        });
        let reads = join_all(reads).await;
        let bytes = ranks.iter_mut().zip(reads).map(|(rank, read)| match read {
            None => None,
            Some(Ok(bytes)) => Some(bytes),
            Some(Err(error)) => {
                *rank = Examination::Ended(Some(error.into()));
                None
            }
        });
        Ok(bytes.collect())
    }

    /// Ends the examination of the shards that were read to their ends.
    async fn end(&self, ranks: &mut [Examination], payloads: &Payloads) {
        for (number, rank) in ranks.iter_mut().enumerate() {
            let Examination::Reading(location, reader) = rank else {
                continue;
            };
            let differs = payloads.differs(number, &location.place);
            let ended = end(self.env.as_ref(), location, reader.as_ref(), differs).await;
            let found = ended.map_or_else(ShardCondition::from, |()| ShardCondition::Whole);
            *rank = Examination::Ended(Some(found));
        }
    }
}

/// One shard of a write that is examined.
enum Examination {
    Reading(ShardLocation, Box<dyn ShardReader>),
    Ended(Option<ShardCondition>),
}

impl Examination {
    fn is_reading(&self) -> bool {
        matches!(self, Examination::Reading(..))
    }

    fn condition(self) -> Option<ShardCondition> {
        match self {
            Examination::Ended(found) => found,
            Examination::Reading(..) => {
                Some(ShardCondition::Unknown("its write has no layout".into()))
            }
        }
    }
}

/// Returns all blocks of a shard, in steps.
pub(super) fn steps(shard_len: u64, step: u64) -> impl Iterator<Item = Range<u64>> {
    let end = blocks_of(&(0..shard_len)).end;
    let starts = (0..end).step_by(step as usize);
    starts.map(move |start| start..(start + step).min(end))
}

/// Returns all blocks of a shard, in steps for one shard at a time.
pub(super) fn shard_steps(shard_len: u64) -> impl Iterator<Item = Range<u64>> {
    steps(shard_len, STEP_BLOCKS)
}

pub(super) fn bytes_of(blocks: &Range<u64>) -> u64 {
    (blocks.end - blocks.start) * u64::from(BLOCK_SIZE_BYTES)
}

pub(super) enum VerifyError {
    Paused(Pause),
    Disk(DiskError),
}

/// Reads a shard from end to end and verifies it.
pub(super) async fn verify(
    env: &dyn Env,
    location: &ShardLocation,
    pace: &Pace,
) -> Result<(), VerifyError> {
    let opened = open_uncached(env, location).await;
    let reader = opened.map_err(VerifyError::Disk)?;
    let mut payloads = Payloads::new(1, location.shape.len);
    for blocks in shard_steps(location.shape.len) {
        let paced = pace.take(bytes_of(&blocks)).await;
        paced.map_err(VerifyError::Paused)?;
        let read = read_whole(env, location, reader.as_ref(), blocks).await;
        payloads.add(0, &read.map_err(VerifyError::Disk)?);
    }
    let differs = payloads.differs(0, &location.place);
    let ended = end(env, location, reader.as_ref(), differs).await;
    ended.map_err(VerifyError::Disk)
}

/// Opens a shard so that it is read from the disk, and not from what memory has of it since it was
/// written.
async fn open_uncached(
    env: &dyn Env,
    location: &ShardLocation,
) -> Result<Box<dyn ShardReader>, DiskError> {
    let open = location.disk.open(location.name, location.shape);
    let reader = within_deadline(env, open).await?;
    within_deadline(env, reader.drop_cache()).await?;
    Ok(reader)
}

/// Reads blocks, all of which must verify.
async fn read_whole(
    env: &dyn Env,
    location: &ShardLocation,
    reader: &dyn ShardReader,
    blocks: Range<u64>,
) -> Result<Bytes, DiskError> {
    let read: Blocks = within_deadline(env, reader.read(blocks)).await?;
    let bytes = read.whole();
    bytes.ok_or_else(|| damaged(location, "blocks do not verify"))
}

/// Checks the footer of a shard whose blocks were all read. Examined shards are seldom read soon
/// again, so they leave memory to others.
async fn end(
    env: &dyn Env,
    location: &ShardLocation,
    reader: &dyn ShardReader,
    payload_differs: bool,
) -> Result<(), DiskError> {
    see_seal(env, location, reader).await?;
    if payload_differs {
        return Err(damaged(
            location,
            "its payload is not the one that was committed",
        ));
    }
    within_deadline(env, reader.drop_cache()).await
}

/// Makes the error of a shard that does not verify. A disk that is not up says nothing of what it
/// holds.
fn damaged(location: &ShardLocation, what: &str) -> DiskError {
    match &*location.disk.state().borrow() {
        DiskState::Up => DiskError::Corrupt(what.into()),
        DiskState::Failed(why) | DiskState::Lost(why) => DiskError::Down(why.clone()),
    }
}

async fn see_seal(
    env: &dyn Env,
    location: &ShardLocation,
    reader: &dyn ShardReader,
) -> Result<(), DiskError> {
    match within_deadline(env, reader.seal()).await? == location.place.checksum {
        true => Ok(()),
        false => Err(damaged(location, "footer is not the committed one")),
    }
}
