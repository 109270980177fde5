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

use super::placement::{self, Candidate};
use super::read::Wanted;
use super::{Holder, Shards, layout_of, shard_name, within_deadline};
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
/// Shards made anew at once on one disk.
pub const REBUILDS_PER_DISK_MAX: usize = 2;

/// A shard to be looked at or made anew.
#[derive(Clone, Copy, Debug)]
pub struct Owing<'a> {
    pub write_id: WriteId,
    pub bucket: BucketId,
    pub size: u64,
    pub set: &'a ShardSet,
    pub rank: u8,
}

/// What was found of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Examined {
    /// Every block, header and footer are what was written.
    Whole,
    /// It surely is not there as it was written.
    Damaged(String),
    /// Its disk is not here; with the disk it may come back.
    Away,
    /// The disk is here and did not tell.
    Unknown(String),
}

impl From<DiskError> for Examined {
    fn from(error: DiskError) -> Examined {
        match error {
            DiskError::Missing | DiskError::Corrupt(_) => Examined::Damaged(error.to_string()),
            DiskError::Down(_) => Examined::Away,
            DiskError::Io(_) | DiskError::Full => Examined::Unknown(error.to_string()),
        }
    }
}

/// Where a shard should be.
struct Placed {
    disk: Arc<dyn Disk>,
    name: ShardName,
    shape: ShardShape,
    checksum: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rebuilt {
    pub at: ShardAt,
    pub checksum: u64,
}

/// Why a shard was not made anew. Nothing is left of the try.
#[derive(Debug, thiserror::Error)]
pub enum Unhealed {
    #[error(transparent)]
    Paused(#[from] Pause),
    /// Fewer good shards are left than it takes, and all that are not gone were asked.
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

impl Owing<'_> {
    fn at(&self) -> ShardAt {
        self.set.shards[usize::from(self.rank)].at()
    }

    fn wanted(&self) -> Result<Wanted> {
        Ok(Wanted {
            write_id: self.write_id,
            bucket: self.bucket,
            layout: layout_of(self.write_id, self.size, self.set)?,
        })
    }
}

impl Shards {
    /// Reads all of a shard where its row says it is.
    pub async fn examine(&self, shard: Owing<'_>, pace: &Pace) -> Result<Examined, Pause> {
        let Placed {
            disk,
            name,
            shape,
            checksum,
        } = match self.placed(shard) {
            Ok(placed) => placed,
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
            Ok(()) => Ok(Examined::Whole),
            Err(Verify::Paused(paused)) => Err(paused),
            Err(Verify::Disk(error)) => Ok(error.into()),
        }
    }

    /// Sees that a shard has its file where its row says, as long as it was and with the header and
    /// footer that it was committed with. Whether its blocks are good, only a reader of them knows.
    pub async fn find(&self, shard: Owing<'_>) -> Examined {
        let Placed {
            disk,
            name,
            shape,
            checksum,
        } = match self.placed(shard) {
            Ok(placed) => placed,
            Err(found) => return found,
        };
        let found = async {
            let reader = within_deadline(self.env.as_ref(), disk.open(name, shape)).await?;
            see_seal(self.env.as_ref(), reader.as_ref(), checksum).await
        };
        found
            .await
            .map_or_else(Examined::from, |()| Examined::Whole)
    }

    /// Where a shard should be, or what is known of it without a look.
    fn placed(&self, shard: Owing<'_>) -> Result<Placed, Examined> {
        let place = &shard.set.shards[usize::from(shard.rank)];
        if place.missing {
            return Err(Examined::Damaged("it was never written".into()));
        }
        let disk = match self.roster().holder(place.disk) {
            Holder::Here(disk) => disk,
            Holder::Gone => return Err(Examined::Damaged("its disk is gone".into())),
            Holder::Away => return Err(Examined::Away),
        };
        let wanted = shard.wanted();
        let wanted = wanted.map_err(|error| Examined::Unknown(error.to_string()))?;
        Ok(Placed {
            disk,
            name: shard_name(shard.write_id, shard.rank, place.at()),
            shape: wanted.shape(),
            checksum: place.checksum,
        })
    }

    /// Makes a shard anew on another disk. The caller holds `epoch` until it has named it.
    pub async fn rebuild(
        &self,
        shard: Owing<'_>,
        epoch: Epoch,
        pace: &Pace,
    ) -> Result<Rebuilt, Unhealed> {
        let wanted = shard.wanted().map_err(|e| Unhealed::Lost(e.to_string()))?;
        let len = wanted.layout.shard_len();
        let (disk, _permit) = self.target(shard, len).await?;
        let header = ShardHeader {
            name: shard_name(shard.write_id, shard.rank, shard.at()),
            epoch,
            bucket: shard.bucket,
            data_shards: shard.set.data_shards,
            parity_shards: shard.set.parity_shards,
            chunk_size: shard.set.chunk_size,
        };
        let at_disk = |error| Unhealed::Disk {
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
                Err(Verify::Paused(paused)) => Err(paused.into()),
                Err(Verify::Disk(error)) => Err(at_disk(error)),
            }
        };
        match made.await {
            Ok(checksum) => Ok(Rebuilt {
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
    async fn target(
        &self,
        shard: Owing<'_>,
        len: u64,
    ) -> Result<(Arc<dyn Disk>, OwnedSemaphorePermit), Unhealed> {
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
        let first = order.first().ok_or(Unhealed::NoDisk)?;
        let disk = spaces.into_iter().find(|(disk, _)| disk.id() == *first);
        let (disk, _) = disk.ok_or(Unhealed::NoDisk)?;
        let places = self.rebuild_places(disk.id());
        let permit = places.acquire_owned().await;
        let permit = permit.map_err(|e| Unhealed::Unavailable(e.to_string()))?;
        Ok((disk, permit))
    }

    /// Rebuilds the shard's blocks and writes them; gives its checksum.
    async fn fill(
        &self,
        shard: Owing<'_>,
        wanted: Wanted,
        mut writer: Box<dyn ShardWriter>,
        disk: DiskId,
        pace: &Pace,
    ) -> Result<u64, Unhealed> {
        let at_disk = |error| Unhealed::Disk { disk, error };
        let codec = self.codecs.get(wanted.layout.geometry());
        let mut source = self.source(wanted, shard.set, Some(shard.rank));
        for blocks in steps(wanted.layout.shard_len()) {
            let bytes = (blocks.end - blocks.start) * u64::from(BLOCK_SIZE_BYTES);
            pace.take(bytes).await?;
            let rows = source.rows(blocks).await.map_err(|error| match error {
                Error::Corrupt(what) => Unhealed::Lost(what),
                other => Unhealed::Unavailable(other.to_string()),
            })?;
            let rebuilt = rows.into_iter().map(|row| {
                let block = codec.reconstruct_rank(row, usize::from(shard.rank));
                block.map(Bytes::from)
            });
            let rebuilt = rebuilt.collect::<Result<Vec<_>, _>>();
            let rebuilt = rebuilt.map_err(|e| Unhealed::Lost(e.to_string()))?;
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

pub(super) enum Verify {
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
) -> Result<(), Verify> {
    let reader = within_deadline(env, disk.open(name, shape)).await;
    let reader = reader.map_err(Verify::Disk)?;
    for blocks in steps(shape.len) {
        let bytes = (blocks.end - blocks.start) * u64::from(BLOCK_SIZE_BYTES);
        pace.take(bytes).await.map_err(Verify::Paused)?;
        let read = within_deadline(env, reader.read(blocks)).await;
        if !read.map_err(Verify::Disk)?.is_intact() {
            let what = DiskError::Corrupt("blocks do not verify".into());
            return Err(Verify::Disk(what));
        }
    }
    let sealed = see_seal(env, reader.as_ref(), checksum).await;
    sealed.map_err(Verify::Disk)
}

async fn see_seal(env: &dyn Env, shard: &dyn ShardReader, checksum: u64) -> Result<(), DiskError> {
    match within_deadline(env, shard.seal()).await? == checksum {
        true => Ok(()),
        false => Err(DiskError::Corrupt(
            "it is not the one that was committed".into(),
        )),
    }
}
