//! Rebuilding one shard of a write.
//!
//! A shard is rebuilt from any k others, block by block, with every block verified. Its payload
//! must have the checksum that was taken when the write was encoded. It goes to a disk that has no
//! other shard of this write; if there is no such disk, it goes to its own disk under a new name.
//! It is synced, and read back from the disk and compared, before the caller gets its place and
//! commits it. If power fails before that commit, the new shard is in its disk's list of
//! unconfirmed shards, and gc asks the metadata whether a row names it.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::disk_set::within_deadline;
use super::examine::{ShardLocation, ShardRef, VerifyError, bytes_of, shard_steps, verify};
use super::payload::Payloads;
use super::placement::{self, Candidate};
use super::plane::{Shards, shard_name};
use super::read::WriteShape;
use super::reservations::Reservation;
use crate::disk::{Disk, DiskError, ShardHeader, ShardName, ShardWriter};
use drystone_store::env::Env;
use drystone_store::error::Error;
use drystone_store::shard_set::{ShardAt, ShardId, ShardPlace};
use drystone_store::types::{DiskId, Epoch};
use drystone_store::workers::{Pace, Pause};

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
    /// The rebuilt bytes are not those that were committed.
    #[error("not proven: {0}")]
    Unproven(String),
    #[error("no disk without another shard of the write has room")]
    NoDisk,
    #[error("disk {disk}: {error}")]
    Disk { disk: DiskId, error: DiskError },
}

impl Shards {
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
            let location = ShardLocation {
                disk: disk.clone(),
                name,
                shape: wanted.shape(),
                place: ShardPlace {
                    disk: disk.id(),
                    generation: name.generation,
                    checksum,
                    ..shard.place().clone()
                },
            };
            match verify(self.env.as_ref(), &location, pace).await {
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
        let (len, rank) = (wanted.layout.shard_len(), usize::from(shard.rank));
        let mut payloads = Payloads::new(shard.set.shards.len(), len);
        for blocks in shard_steps(len) {
            let bytes = bytes_of(&blocks);
            pace.take(bytes).await?;
            let rows = source.rows(blocks).await.map_err(|error| match error {
                Error::Corrupt(what) => HealError::Lost(what),
                other => HealError::Unavailable(other.to_string()),
            })?;
            let mut rebuilt = Vec::with_capacity(rows.len());
            for row in rows {
                for (source, block) in row.iter().enumerate() {
                    block.iter().for_each(|block| payloads.add(source, block));
                }
                let block = codec.reconstruct_rank(row, rank);
                let block = block.map_err(|e| HealError::Lost(e.to_string()))?;
                payloads.add(rank, &block);
                rebuilt.push(Bytes::from(block));
            }
            within_deadline(self.env.as_ref(), writer.write(rebuilt))
                .await
                .map_err(at_disk)?;
            reserved.iter_mut().for_each(|one| one.used(bytes));
        }
        self.prove(shard, &payloads)?;
        within_deadline(self.env.as_ref(), writer.finish(shard.size))
            .await
            .map_err(at_disk)
    }

    /// Compares a rebuilt payload with the one that was committed. If it differs, reports which of
    /// its sources do: they are healed first.
    fn prove(&self, shard: ShardRef<'_>, payloads: &Payloads) -> Result<(), HealError> {
        if !payloads.differs(usize::from(shard.rank), shard.place()) {
            return Ok(());
        }
        let write_id = shard.write_id;
        for (rank, place) in (0..).zip(&shard.set.shards) {
            if rank != shard.rank && payloads.differs(usize::from(rank), place) {
                tracing::error!(%write_id, rank, "a shard verifies and is not what was committed");
                // Dropped if heal has enough to do: scrub finds it, too.
                self.damage.try_send(ShardId { write_id, rank }).ok();
            }
        }
        let what = format!("rank {} of {write_id} came out otherwise", shard.rank);
        Err(HealError::Unproven(what))
    }
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
