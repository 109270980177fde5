//! Examining one shard of a write, and rebuilding it.
//!
//! A shard is rebuilt from any k others, block by block, with every block verified. It goes to a
//! disk that has no other shard of this write; if there is no such disk, it goes to its own disk
//! under a new name. It is synced, read back and compared before the caller gets its place and
//! commits it. If power fails before that commit, the new shard is in its disk's list of
//! unconfirmed shards, and gc asks the metadata whether a row names it.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::disk_set::{Holder, within_deadline};
use super::placement::{self, Candidate};
use super::plane::{Shards, shard_name};
use super::read::{WriteShape, layout_of};
use super::reservations::Reservation;
use crate::disk::{
    BLOCK_SIZE_BYTES, Disk, DiskError, ShardHeader, ShardName, ShardReader, ShardShape,
    ShardWriter, blocks_of,
};
use drystone_store::env::Env;
use drystone_store::error::{Error, Result};
use drystone_store::shard_set::{ShardAt, ShardSet};
use drystone_store::types::{BucketId, DiskId, Epoch, WriteId};
use drystone_store::workers::{Pace, Pause};

/// The blocks of each shard that are rebuilt or verified at once.
const STEP_BLOCKS: u64 = 32;

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
    /// Every block, the header and the footer are as they were written.
    Whole,
    /// It is certainly not there as it was written.
    Damaged(String),
    /// Its disk is offline and may come back with it.
    Offline,
    /// Its disk is present and did not answer.
    Unknown(String),
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

/// The place where a shard should be.
struct ShardLocation {
    disk: Arc<dyn Disk>,
    name: ShardName,
    shape: ShardShape,
    checksum: u64,
}

/// A shard that is being rebuilt.
struct RebuildTarget {
    disk: DiskId,
    writer: Box<dyn ShardWriter>,
    /// Its space on the disk.
    reserved: Vec<Reservation>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RebuiltShard {
    pub at: ShardAt,
    pub checksum: u64,
}

/// The reason why a shard was not rebuilt. Nothing is left of the attempt.
#[derive(Debug, thiserror::Error)]
pub enum HealError {
    #[error(transparent)]
    Paused(#[from] Pause),
    /// Fewer good shards are left than data shards, and all disks that are not removed were asked.
    #[error("lost: {0}")]
    Lost(String),
    /// Too few disks answer now.
    #[error("{0}")]
    Unavailable(String),
    #[error("no disk without another shard of the write has room")]
    NoDisk,
    #[error("disk {disk}: {error}")]
    Disk { disk: DiskId, error: DiskError },
}

impl ShardRef<'_> {
    fn at(&self) -> ShardAt {
        self.set.shards[usize::from(self.rank)].at()
    }

    fn shape(&self) -> Result<WriteShape> {
        Ok(WriteShape {
            write_id: self.write_id,
            bucket: self.bucket,
            layout: layout_of(self.write_id, self.size, self.set)?,
        })
    }
}

impl Shards {
    /// Reads a whole shard where its row says it is.
    pub async fn examine(&self, shard: ShardRef<'_>, pace: &Pace) -> Result<ShardCondition, Pause> {
        let ShardLocation {
            disk,
            name,
            shape,
            checksum,
        } = match self.location(shard) {
            Ok(location) => location,
            Err(found) => return Ok(found),
        };
        match verify(
            self.env.as_ref(),
            disk.as_ref(),
            name,
            shape,
            checksum,
            pace,
        )
        .await
        {
            Ok(()) => Ok(ShardCondition::Whole),
            Err(VerifyError::Paused(paused)) => Err(paused),
            Err(VerifyError::Disk(error)) => Ok(error.into()),
        }
    }

    /// Checks that a shard's file is where its row says, with the right length and with the header
    /// and footer that were committed. It reads no blocks, so they may be damaged.
    pub async fn find(&self, shard: ShardRef<'_>) -> ShardCondition {
        let ShardLocation {
            disk,
            name,
            shape,
            checksum,
        } = match self.location(shard) {
            Ok(location) => location,
            Err(found) => return found,
        };
        let found = async {
            let reader = within_deadline(self.env.as_ref(), disk.open(name, shape)).await?;
            see_seal(self.env.as_ref(), reader.as_ref(), checksum).await
        };
        found
            .await
            .map_or_else(ShardCondition::from, |()| ShardCondition::Whole)
    }

    /// Returns where a shard should be, or its condition if that is known without reading it.
    fn location(&self, shard: ShardRef<'_>) -> Result<ShardLocation, ShardCondition> {
        let place = &shard.set.shards[usize::from(shard.rank)];
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
            checksum: place.checksum,
        })
    }

    /// Rebuilds a shard on another disk. The caller must hold `epoch` until the command that names
    /// the shard is applied.
    pub async fn rebuild(
        &self,
        shard: ShardRef<'_>,
        epoch: Epoch,
        pace: &Pace,
    ) -> Result<RebuiltShard, HealError> {
        let wanted = shard.shape().map_err(|e| HealError::Lost(e.to_string()))?;
        let len = wanted.layout.shard_len();
        let (disk, _permit) = self.choose_disk(shard, len).await?;
        let reserved = self
            .reservations
            .reserve(std::slice::from_ref(&disk), len)
            .ok_or(HealError::NoDisk)?;
        let header = ShardHeader {
            name: shard_name(shard.write_id, shard.rank, shard.at()),
            epoch,
            bucket: shard.bucket,
            data_shards: shard.set.data_shards,
            parity_shards: shard.set.parity_shards,
            chunk_size: shard.set.chunk_size,
        };
        let at_disk = |error| HealError::Disk {
            disk: disk.id(),
            error,
        };
        let (name, writer) = create(self.env.as_ref(), disk.as_ref(), header)
            .await
            .map_err(at_disk)?;
        let made = async {
            let target = RebuildTarget {
                disk: disk.id(),
                writer,
                reserved,
            };
            let checksum = self.fill(shard, wanted, target, pace).await?;
            match verify(
                self.env.as_ref(),
                disk.as_ref(),
                name,
                wanted.shape(),
                checksum,
                pace,
            )
            .await
            {
                Ok(()) => Ok(checksum),
                Err(VerifyError::Paused(paused)) => Err(paused.into()),
                Err(VerifyError::Disk(error)) => Err(at_disk(error)),
            }
        };
        match made.await {
            Ok(checksum) => Ok(RebuiltShard {
                at: ShardAt {
                    disk: disk.id(),
                    generation: name.generation,
                },
                checksum,
            }),
            Err(error) => {
                // No row names it. If it stays on the disk all the same, it is in the disk's list.
                if let Err(error) =
                    within_deadline(self.env.as_ref(), disk.remove(vec![name])).await
                {
                    tracing::debug!(%error, disk = %disk.id(), "unreferenced shard left to gc");
                }
                Err(error)
            }
        }
    }

    /// Chooses the disk for a new shard and waits for one of its slots for rebuilds.
    async fn choose_disk(
        &self,
        shard: ShardRef<'_>,
        len: u64,
    ) -> Result<(Arc<dyn Disk>, OwnedSemaphorePermit), HealError> {
        let has_other = |disk: DiskId| {
            let places = (0..).zip(&shard.set.shards);
            places
                .into_iter()
                .any(|(rank, place): (u8, _)| rank != shard.rank && place.disk == disk)
        };
        let spaces = self.spaces();
        let candidates: Vec<Candidate> = spaces
            .iter()
            .filter(|(disk, space)| space.above_reserve >= len.max(1) && !has_other(disk.id()))
            .map(|(disk, space)| Candidate {
                disk: disk.id(),
                weight: space.above_reserve,
            })
            .collect();
        let mut order = placement::order(shard.write_id, &candidates);
        // The shard's own disk comes last.
        order.sort_by_key(|disk| *disk == shard.at().disk);
        let first = order.first().ok_or(HealError::NoDisk)?;
        let disk = spaces.into_iter().find(|(disk, _)| disk.id() == *first);
        let (disk, _) = disk.ok_or(HealError::NoDisk)?;
        let places = self.rebuild_slots(disk.id());
        let permit = places.acquire_owned().await;
        let permit = permit.map_err(|e| HealError::Unavailable(e.to_string()))?;
        Ok((disk, permit))
    }

    /// Rebuilds the shard's blocks and writes them. Returns the shard's checksum.
    async fn fill(
        &self,
        shard: ShardRef<'_>,
        wanted: WriteShape,
        target: RebuildTarget,
        pace: &Pace,
    ) -> Result<u64, HealError> {
        let RebuildTarget {
            disk,
            mut writer,
            mut reserved,
        } = target;
        let at_disk = |error| HealError::Disk { disk, error };
        let codec = self.codecs.get(wanted.layout.geometry());
        let mut source = self.source(wanted, shard.set, Some(shard.rank));
        for blocks in steps(wanted.layout.shard_len()) {
            let bytes = (blocks.end - blocks.start) * u64::from(BLOCK_SIZE_BYTES);
            pace.take(bytes).await?;
            let rows = source.rows(blocks).await.map_err(|error| match error {
                Error::Corrupt(what) => HealError::Lost(what),
                other => HealError::Unavailable(other.to_string()),
            })?;
            let rebuilt = rows.into_iter().map(|row| {
                let block = codec.reconstruct_rank(row, usize::from(shard.rank));
                block.map(Bytes::from)
            });
            let rebuilt = rebuilt.collect::<Result<Vec<_>, _>>();
            let rebuilt = rebuilt.map_err(|e| HealError::Lost(e.to_string()))?;
            within_deadline(self.env.as_ref(), writer.write(rebuilt))
                .await
                .map_err(at_disk)?;
            reserved.iter_mut().for_each(|one| one.used(bytes));
        }
        within_deadline(self.env.as_ref(), writer.finish(shard.size))
            .await
            .map_err(at_disk)
    }
}

/// Returns all blocks of a shard, in steps.
fn steps(shard_len: u64) -> impl Iterator<Item = Range<u64>> {
    let end = blocks_of(&(0..shard_len)).end;
    let starts = (0..end).step_by(STEP_BLOCKS as usize);
    starts.map(move |start| start..(start + STEP_BLOCKS).min(end))
}

/// Creates the shard under a name that no earlier attempt can have had. gc removes by name what an
/// earlier attempt left on the disk's list, and must not remove this one.
async fn create(
    env: &dyn Env,
    disk: &dyn Disk,
    mut header: ShardHeader,
) -> Result<(ShardName, Box<dyn ShardWriter>), DiskError> {
    header.name.generation = fresh_generation(env, &[header.name.generation]);
    let writer = within_deadline(env, disk.create(header)).await?;
    Ok((header.name, writer))
}

/// Draws a generation that no shard of the write has had: none of `known`, and by chance no other.
pub(super) fn fresh_generation(env: &dyn Env, known: &[u32]) -> u32 {
    loop {
        let drawn = 1 + (env.nonce() % u64::from(u32::MAX)) as u32;
        if !known.contains(&drawn) {
            return drawn;
        }
    }
}

pub(super) enum VerifyError {
    Paused(Pause),
    Disk(DiskError),
}

/// Reads a shard from end to end and verifies it.
pub(super) async fn verify(
    env: &dyn Env,
    disk: &dyn Disk,
    name: ShardName,
    shape: ShardShape,
    checksum: u64,
    pace: &Pace,
) -> Result<(), VerifyError> {
    let reader = within_deadline(env, disk.open(name, shape)).await;
    let reader = reader.map_err(VerifyError::Disk)?;
    for blocks in steps(shape.len) {
        let bytes = (blocks.end - blocks.start) * u64::from(BLOCK_SIZE_BYTES);
        pace.take(bytes).await.map_err(VerifyError::Paused)?;
        let read = within_deadline(env, reader.read(blocks)).await;
        if !read.map_err(VerifyError::Disk)?.is_intact() {
            let what = DiskError::Corrupt("blocks do not verify".into());
            return Err(VerifyError::Disk(what));
        }
    }
    let sealed = see_seal(env, reader.as_ref(), checksum).await;
    sealed.map_err(VerifyError::Disk)
}

async fn see_seal(env: &dyn Env, shard: &dyn ShardReader, checksum: u64) -> Result<(), DiskError> {
    match within_deadline(env, shard.seal()).await? == checksum {
        true => Ok(()),
        false => Err(DiskError::Corrupt("footer is not the committed one".into())),
    }
}
