//! Looking at one shard of a write, and making it anew.
//!
//! A shard is rebuilt from any k others, block by block, each verified, onto a disk that has none
//! of this write's shards (or, where there is no such disk, onto its own under a new name). It is
//! synced, read back and compared before it is given; what it then means is the caller's to commit.
//! Power goes in between: the new shard is in its disk's list of unconfirmed ones, and gc asks the
//! metadata whether it was named.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::disk_set::{Holder, within_deadline};
use super::placement::{self, Candidate};
use super::plane::{Shards, shard_name};
use super::read::{WriteShape, layout_of};
use crate::disk::{
    BLOCK_SIZE_BYTES, Disk, DiskError, ShardHeader, ShardName, ShardReader, ShardShape,
    ShardWriter, blocks_of,
};
use drystone_store::env::Env;
use drystone_store::error::{Error, Result};
use drystone_store::shard_set::{ShardAt, ShardSet};
use drystone_store::types::{BucketId, DiskId, Epoch, WriteId};
use drystone_store::workers::{Pace, Pause};

/// Blocks of each shard that are rebuilt or verified at once.
const STEP_BLOCKS: u64 = 32;

/// A shard to be looked at or made anew.
#[derive(Clone, Copy, Debug)]
pub struct ShardRef<'a> {
    pub write_id: WriteId,
    pub bucket: BucketId,
    pub size: u64,
    pub set: &'a ShardSet,
    pub rank: u8,
}

/// What was found of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShardCondition {
    /// Every block, header and footer are what was written.
    Whole,
    /// It surely is not there as it was written.
    Damaged(String),
    /// Its disk is offline and may come back with it.
    Offline,
    /// The disk is here and did not tell.
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

/// Where a shard should be.
struct ShardLocation {
    disk: Arc<dyn Disk>,
    name: ShardName,
    shape: ShardShape,
    checksum: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RebuiltShard {
    pub at: ShardAt,
    pub checksum: u64,
}

/// Why a shard was not made anew. Nothing is left of the try.
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
    #[error("no disk has room for it that has no other shard of the same write")]
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
    /// Reads all of a shard where its row says it is.
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

    /// Sees that a shard has its file where its row says, as long as it was and with the header and
    /// footer that it was committed with. Whether its blocks are good, only a reader of them knows.
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

    /// Where a shard should be, or what is known of it without a look.
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

    /// Makes a shard anew on another disk. The caller holds `epoch` until it has named it.
    pub async fn rebuild(
        &self,
        shard: ShardRef<'_>,
        epoch: Epoch,
        pace: &Pace,
    ) -> Result<RebuiltShard, HealError> {
        let wanted = shard.shape().map_err(|e| HealError::Lost(e.to_string()))?;
        let len = wanted.layout.shard_len();
        let (disk, _permit) = self.choose_disk(shard, len).await?;
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
            let checksum = self.fill(shard, wanted, writer, disk.id(), pace).await?;
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
                // Surely named by nothing. What stays all the same is on the disk's list.
                if let Err(error) =
                    within_deadline(self.env.as_ref(), disk.remove(vec![name])).await
                {
                    tracing::debug!(%error, disk = %disk.id(), "an unnamed shard is left to gc");
                }
                Err(error)
            }
        }
    }

    /// The disk for a new shard, and one of its places for those.
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
        let spaces = self.spaces().await;
        let candidates: Vec<Candidate> = spaces
            .iter()
            .filter(|(disk, space)| space.above_reserve >= len.max(1) && !has_other(disk.id()))
            .map(|(disk, space)| Candidate {
                disk: disk.id(),
                weight: space.above_reserve,
            })
            .collect();
        let mut order = placement::order(shard.write_id, &candidates);
        // Its own disk only where there is no other.
        order.sort_by_key(|disk| *disk == shard.at().disk);
        let first = order.first().ok_or(HealError::NoDisk)?;
        let disk = spaces.into_iter().find(|(disk, _)| disk.id() == *first);
        let (disk, _) = disk.ok_or(HealError::NoDisk)?;
        let places = self.rebuild_slots(disk.id());
        let permit = places.acquire_owned().await;
        let permit = permit.map_err(|e| HealError::Unavailable(e.to_string()))?;
        Ok((disk, permit))
    }

    /// Rebuilds the shard's blocks and writes them; gives its checksum.
    async fn fill(
        &self,
        shard: ShardRef<'_>,
        wanted: WriteShape,
        mut writer: Box<dyn ShardWriter>,
        disk: DiskId,
        pace: &Pace,
    ) -> Result<u64, HealError> {
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
        }
        within_deadline(self.env.as_ref(), writer.finish(shard.size))
            .await
            .map_err(at_disk)
    }
}

/// All blocks of a shard, in steps.
fn steps(shard_len: u64) -> impl Iterator<Item = Range<u64>> {
    let end = blocks_of(&(0..shard_len)).end;
    let starts = (0..end).step_by(STEP_BLOCKS as usize);
    starts.map(move |start| start..(start + STEP_BLOCKS).min(end))
}

/// Begins the shard under a name that no try before this one can have had: gc, who takes what such
/// a try has left on the disk's list, goes by names.
async fn create(
    env: &dyn Env,
    disk: &dyn Disk,
    mut header: ShardHeader,
) -> Result<(ShardName, Box<dyn ShardWriter>), DiskError> {
    header.name.generation = fresh_generation(env, &[header.name.generation]);
    let writer = within_deadline(env, disk.create(header)).await?;
    Ok((header.name, writer))
}

/// One that no shard has had: by chance, but for those that are known.
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

/// Reads a shard from end to end.
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
        false => Err(DiskError::Corrupt(
            "it is not the one that was committed".into(),
        )),
    }
}
