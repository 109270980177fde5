//! Re-encoding: writes the bytes of an undersized write again, as a whole new set of shards in the
//! geometry of its class.
//!
//! A write that was made while disks were missing or full has fewer shards than its class and
//! tolerates fewer failures. Its bytes are read as for a client, with every block and the payload
//! of every data shard verified, and written like a body, under the same write id and a generation
//! that none of its shards has had. Each new shard is synced, and read back from the disk, before
//! the set is returned; the caller commits it. If power fails before that commit, the new shards
//! are in their disks' lists of unconfirmed shards, and gc asks the metadata whether a row names
//! them.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::erasure::{CHUNK_SIZE_BYTES, Geometry, Layout};
use super::examine::{ShardLocation, VerifyError, WriteRef, verify};
use super::placement::{self, Candidate};
use super::plan::Plan;
use super::plane::{Shards, shard_name};
use super::read::{WriteShape, layout_of};
use super::rebuild::{HealError, fresh_generation};
use super::reservations::Reservation;
use super::write::{Write, WriteLabel};
use crate::disk::Disk;
use drystone_store::body::{Body, BodyReader};
use drystone_store::error::{Error, Result};
use drystone_store::shard_set::ShardSet;
use drystone_store::types::{ByteRange, Digest, Epoch, WriteId};
use drystone_store::workers::{Pace, Pause};

/// Re-encoding leaves this fraction of each disk free for clients: the old shards stay until the
/// floor has passed them.
const LEFT_FREE_PART: u64 = 64;

impl Shards {
    /// Returns whether enough disks are up for a write of some class to have all its shards.
    pub async fn can_reencode(&self) -> bool {
        let up = self.spaces().len();
        let named = self.classes.by_name.values();
        let mut all = named.chain([&self.classes.default]);
        all.any(|geometry| geometry.total() <= up)
    }

    /// Writes the bytes of `write` again with all the shards of its class. Returns `None` if the
    /// set has as many shards as its class has now.
    ///
    /// The caller must hold `epoch` from before it read the old set until the command that names
    /// the new one is applied.
    pub async fn reencode(
        &self,
        write: WriteRef<'_>,
        epoch: Epoch,
        pace: &Pace,
    ) -> Result<Option<ShardSet>, HealError> {
        let wanted = self.classes.geometry(&write.set.class);
        if write.set.shards.len() >= wanted.total() {
            return Ok(None);
        }
        let layout = layout_of(write.write_id, write.size, write.set);
        layout.map_err(lost)?;
        let layout = Layout::new(wanted, CHUNK_SIZE_BYTES, write.size);
        let layout = layout.ok_or_else(|| HealError::Lost("no layout".into()))?;
        let (disks, _permits) = self.choose_disks(write, layout).await?;
        let reserved = self.reservations.reserve(&disks, layout.shard_len());
        let reserved = reserved.ok_or(HealError::NoDisk)?;
        let disks = disks.into_iter().zip(reserved).collect();
        let known: Vec<u32> = write.set.places().map(|at| at.generation).collect();
        let label = WriteLabel {
            write_id: write.write_id,
            epoch,
            bucket: write.bucket,
            generation: fresh_generation(self.env.as_ref(), &known),
        };
        let set = self.write_again(write, label, wanted, disks, pace).await?;
        match self.read_back(write, layout, &set, pace).await {
            Ok(()) => Ok(Some(set)),
            Err(error) => {
                self.drop_unnamed(write.write_id, &set).await;
                Err(error)
            }
        }
    }

    /// Chooses a disk with room for each new shard and waits for one of its slots for rebuilds.
    async fn choose_disks(
        &self,
        write: WriteRef<'_>,
        layout: Layout,
    ) -> Result<(Vec<Arc<dyn Disk>>, Vec<OwnedSemaphorePermit>), HealError> {
        let len = layout.shard_len().max(1);
        let spaces = self.spaces();
        let candidates: Vec<Candidate> = spaces
            .iter()
            .filter(|(_, space)| space.above_reserve >= len + space.total / LEFT_FREE_PART)
            .map(|(disk, space)| Candidate {
                disk: disk.id(),
                weight: space.above_reserve,
            })
            .collect();
        let mut order = placement::order(write.write_id, &candidates);
        order.truncate(layout.geometry().total());
        let chosen = order.iter().filter_map(|id| {
            let found = spaces.iter().find(|(disk, _)| disk.id() == *id);
            found.map(|(disk, _)| Arc::clone(disk))
        });
        let chosen: Vec<_> = chosen.collect();
        if chosen.len() < layout.geometry().total() {
            return Err(HealError::NoDisk);
        }
        // All tasks acquire slots in the same order of disks, so they cannot deadlock.
        order.sort_unstable();
        let mut permits = Vec::with_capacity(order.len());
        for disk in order {
            let permit = self.rebuild_slots(disk).acquire_owned().await;
            permits.push(permit.map_err(|e| HealError::Unavailable(e.to_string()))?);
        }
        Ok((chosen, permits))
    }

    /// Reads the bytes of the write and writes them as new shards. On success all are durable.
    async fn write_again(
        &self,
        write: WriteRef<'_>,
        label: WriteLabel,
        geometry: Geometry,
        disks: Vec<(Arc<dyn Disk>, Reservation)>,
        pace: &Pace,
    ) -> Result<ShardSet, HealError> {
        let WriteRef {
            write_id,
            bucket,
            size,
            set,
        } = write;
        let whole = ByteRange {
            start: 0,
            end: size,
        };
        let reader = self.read(write_id, bucket, size, set, whole).await;
        let mut source = PacedBody {
            reader: reader.map_err(lost)?,
            geometry,
            size,
            pace,
            failed: None,
        };
        let plan = Plan {
            geometry,
            undersized: false,
            disks,
            spares: Vec::new(),
            size_hint: Some(size),
        };
        let mut written = Write::begin(self, label, plan);
        let streamed = written.stream(Bytes::new(), &mut source).await;
        if let Some(failed) = source.failed {
            return Err(failed);
        }
        let streamed = streamed.map_err(unwritten)?;
        if streamed != size {
            let what = format!("{streamed} bytes of {write_id} instead of {size}");
            return Err(HealError::Lost(what));
        }
        let new = written.finish(size, &set.class).await.map_err(unwritten)?;
        if new.shards.iter().any(|place| place.missing) {
            self.drop_unnamed(write_id, &new).await;
            let what = "a disk failed while a write was re-encoded".to_owned();
            return Err(HealError::Unavailable(what));
        }
        Ok(new)
    }

    async fn read_back(
        &self,
        write: WriteRef<'_>,
        layout: Layout,
        set: &ShardSet,
        pace: &Pace,
    ) -> Result<(), HealError> {
        let shape = WriteShape {
            write_id: write.write_id,
            bucket: write.bucket,
            layout,
        }
        .shape();
        let disk_set = self.disk_set();
        for (rank, place) in (0..).zip(&set.shards) {
            let location = ShardLocation {
                disk: disk_set.disk(place.disk).ok_or(HealError::NoDisk)?.clone(),
                name: shard_name(write.write_id, rank, place.at()),
                shape,
                place: place.clone(),
            };
            let read = verify(self.env.as_ref(), &location, pace).await;
            read.map_err(|error| match error {
                VerifyError::Paused(paused) => HealError::Paused(paused),
                VerifyError::Disk(error) => HealError::Disk {
                    disk: place.disk,
                    error,
                },
            })?;
        }
        Ok(())
    }

    /// Removes shards that no row names. Those that stay all the same are in their disks' lists.
    async fn drop_unnamed(&self, write_id: WriteId, set: &ShardSet) {
        self.remove(write_id, (0..).zip(set.places())).await;
    }
}

/// Translates the error of a failed read.
fn lost(error: Error) -> HealError {
    match error {
        Error::Corrupt(what) => HealError::Lost(what),
        other => HealError::Unavailable(other.to_string()),
    }
}

/// Translates the error of a failed write.
fn unwritten(error: Error) -> HealError {
    match error {
        Error::Full(_) => HealError::NoDisk,
        other => HealError::Unavailable(other.to_string()),
    }
}

/// The bytes that are read, as the body of the new write, at the pace of background work.
struct PacedBody<'a> {
    reader: Box<dyn BodyReader>,
    /// The geometry of the new write.
    geometry: Geometry,
    size: u64,
    pace: &'a Pace,
    /// The reason why it ended early.
    failed: Option<HealError>,
}

#[async_trait]
impl Body for PacedBody<'_> {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        let next = self.reader.next().await;
        let piece = match next {
            Ok(Some(piece)) => piece,
            Ok(None) => return Ok(None),
            Err(error) => return Err(self.fail(lost(error))),
        };
        let shards = self.geometry.total() as u64;
        let cost = piece.len() as u64 * shards / self.geometry.data() as u64;
        match self.pace.take(cost).await {
            Ok(()) => Ok(Some(piece)),
            Err(paused @ Pause) => Err(self.fail(paused.into())),
        }
    }

    fn digest(&mut self) -> Digest {
        unreachable!("re-encoded bytes keep their digest")
    }

    fn size_hint(&self) -> Option<u64> {
        Some(self.size)
    }
}

impl PacedBody<'_> {
    fn fail(&mut self, why: HealError) -> Error {
        let error = Error::Body(why.to_string().into());
        self.failed = Some(why);
        error
    }
}
