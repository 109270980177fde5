//! The geometry and the disks of a write that is about to begin.

use std::sync::Arc;

use super::erasure::Geometry;
use super::placement::{self, Candidate};
use super::plane::Shards;
use crate::disk::Disk;
use drystone_store::error::{Error, Result};
use drystone_store::types::WriteId;

/// The geometry and disks of one write.
pub(super) struct Plan {
    pub geometry: Geometry,
    /// The geometry has fewer shards than that of the class.
    pub undersized: bool,
    /// One disk for each shard by rank, then the spare disks.
    pub disks: Vec<Arc<dyn Disk>>,
    pub size_hint: Option<u64>,
}

impl Shards {
    /// Chooses the geometry and the disks of a write from the disks that are up and have room. Full
    /// disks are left out like missing ones, so the write gets as many shards as the others allow.
    pub(super) async fn plan(
        &self,
        write_id: WriteId,
        class: &str,
        hint: Option<u64>,
    ) -> Result<Plan> {
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
            let shard = hint.unwrap_or(1).div_ceil(geometry.data() as u64);
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
        Ok(Plan {
            geometry,
            undersized: geometry.total() < wanted.total(),
            disks: disks.collect(),
            size_hint: hint,
        })
    }
}
