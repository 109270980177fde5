//! The geometry and the disks of a write that is about to begin.

use std::sync::Arc;

use super::erasure::Geometry;
use super::placement::{self, Candidate};
use super::plane::Shards;
use super::reservations::Reservation;
use crate::disk::Disk;
use drystone_store::error::{Error, Result};
use drystone_store::types::WriteId;

/// The geometry and disks of one write.
pub(super) struct Plan {
    pub geometry: Geometry,
    /// The geometry has fewer shards than that of the class.
    pub undersized: bool,
    /// One disk for each shard by rank, with the shard's space on it.
    pub disks: Vec<(Arc<dyn Disk>, Reservation)>,
    pub spares: Vec<Arc<dyn Disk>>,
    pub size_hint: Option<u64>,
}

impl Shards {
    /// Chooses the geometry and the disks of a write from the disks that are up and have room, and
    /// reserves the room. Full disks are left out like missing ones, so the write gets as many
    /// shards as the others allow.
    pub(super) fn plan(&self, write_id: WriteId, class: &str, hint: Option<u64>) -> Result<Plan> {
        loop {
            let (geometry, mut disks) = self.choose(write_id, class, hint)?;
            let spares = disks.split_off(geometry.total());
            let len = geometry.shard_len(hint);
            // Another write may have reserved the room just now; then there are fewer candidates.
            if let Some(reserved) = self.reservations.reserve(&disks, len) {
                return Ok(Plan {
                    geometry,
                    undersized: geometry.total() < self.classes.geometry(class).total(),
                    disks: disks.into_iter().zip(reserved).collect(),
                    spares,
                    size_hint: hint,
                });
            }
        }
    }

    /// Returns the geometry of a write, and at least as many disks that have room for its shards,
    /// in the order in which it prefers them.
    fn choose(
        &self,
        write_id: WriteId,
        class: &str,
        hint: Option<u64>,
    ) -> Result<(Geometry, Vec<Arc<dyn Disk>>)> {
        let wanted = self.classes.geometry(class);
        let mut up = self.spaces();
        if wanted.fit(up.len()).is_none() {
            // A disk that answers late is better than none.
            up = self.all_spaces();
        }
        let mut geometry = wanted.fit(up.len()).ok_or_else(|| {
            let (up, of) = (up.len(), self.disks().len());
            Error::Unavailable(format!("{up} of {of} disks are up"))
        })?;
        let candidates = loop {
            let shard = geometry.shard_len(hint);
            let candidates: Vec<Candidate> = up
                .iter()
                .filter(|(_, space)| space.above_reserve >= shard.max(1))
                .map(|(disk, space)| Candidate {
                    disk: disk.id(),
                    weight: space.above_reserve,
                })
                .collect();
            if candidates.len() >= geometry.total() {
                break candidates;
            }
            // With fewer shards each one is longer, so fewer disks may have room for it.
            geometry = wanted.fit(candidates.len()).ok_or_else(|| {
                let (room, of) = (candidates.len(), self.disks().len());
                self.no_room(format!("{room} of {of} disks have room"))
            })?;
        };
        let order = placement::order(write_id, &candidates);
        let disk = |id| up.iter().find(|(disk, _)| disk.id() == id);
        let disks = order.into_iter().filter_map(|id| Some(disk(id)?.0.clone()));
        Ok((geometry, disks.collect()))
    }
}

impl Geometry {
    /// Returns the bytes of a shard's payload, or 0 if nobody knows the size of the body.
    pub(super) fn shard_len(self, size: Option<u64>) -> u64 {
        size.map_or(0, |size| size.div_ceil(self.data() as u64))
    }
}
