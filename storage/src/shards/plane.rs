//! The data plane of a node: its disks and what all reads and writes of shards share.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tokio::sync::{Notify, Semaphore, mpsc};

use super::background::Background;
use super::classes::Classes;
use super::disk_set::{DiskSet, Holder, Suspects};
use super::erasure::{Codecs, Geometry};
use super::reservations::Reservations;
use crate::disk::{Disk, ShardName, Space};
use drystone_store::env::Env;
use drystone_store::error::{Error, Result};
use drystone_store::lock::{Mutex, RwLock};
use drystone_store::shard_set::{ShardAt, ShardId};
use drystone_store::types::{DiskId, WriteId};

/// The most damage reports that wait for heal. Further ones are dropped: the next reader of the
/// shard reports it again.
pub const DAMAGE_QUEUE_LEN_MAX: usize = 1024;
/// The most shards that are rebuilt at once on one disk.
const REBUILDS_PER_DISK_MAX: usize = 2;

/// The disks of a node, and the writes and reads of shards on them.
pub struct Shards {
    pub(super) env: Arc<dyn Env>,
    pub(super) disk_set: RwLock<Arc<DiskSet>>,
    pub(super) classes: Classes,
    pub(super) codecs: Codecs,
    pub(super) suspects: Arc<Suspects>,
    /// The damaged and missing shards that readers find.
    pub(super) damage: mpsc::Sender<ShardId>,
    /// The slots for rebuilds on each disk.
    pub(super) rebuilds: Mutex<HashMap<DiskId, Arc<Semaphore>>>,
    pub(super) background: Arc<Background>,
    pub(super) reservations: Arc<Reservations>,
    /// Notified when a write is refused because disks are full.
    pub(super) starved: Notify,
}

impl Shards {
    /// Creates the data plane on `disks`. The channel `damage` should hold [`DAMAGE_QUEUE_LEN_MAX`]
    /// reports.
    pub fn new(
        env: Arc<dyn Env>,
        disks: Vec<Arc<dyn Disk>>,
        classes: Classes,
        damage: mpsc::Sender<ShardId>,
    ) -> Shards {
        let disk_set = DiskSet {
            disks,
            ..DiskSet::default()
        };
        Shards {
            disk_set: RwLock::new(Arc::new(disk_set)),
            classes,
            codecs: Codecs::default(),
            suspects: Arc::new(Suspects::new(env.clone())),
            background: Arc::new(Background::new(env.clone())),
            reservations: Arc::default(),
            env,
            damage,
            rebuilds: Mutex::default(),
            starved: Notify::new(),
        }
    }

    pub(super) fn rebuild_slots(&self, disk: DiskId) -> Arc<Semaphore> {
        let mut places = self.rebuilds.lock();
        let places = places.entry(disk);
        places
            .or_insert_with(|| Arc::new(Semaphore::new(REBUILDS_PER_DISK_MAX)))
            .clone()
    }

    pub fn disks(&self) -> Vec<Arc<dyn Disk>> {
        self.disk_set().disks.clone()
    }

    pub(super) fn disk_set(&self) -> Arc<DiskSet> {
        let disk_set = self.disk_set.read();
        Arc::clone(&disk_set)
    }

    pub(super) fn change_disk_set(&self, change: impl FnOnce(&mut DiskSet)) {
        let mut disk_set = self.disk_set.write();
        let mut changed = DiskSet::clone(&disk_set);
        change(&mut changed);
        changed.changes += 1;
        *disk_set = Arc::new(changed);
    }

    /// Adds a disk for reads and writes. It replaces the disk object of the same id, if there is
    /// one.
    pub fn add_disk(&self, disk: Arc<dyn Disk>) {
        self.change_disk_set(|disk_set| {
            disk_set.disks.retain(|old| old.id() != disk.id());
            disk_set.disks.push(disk);
        });
    }

    /// Drops the disk object: from now on the disk counts as offline.
    pub fn take_offline(&self, id: DiskId) {
        self.change_disk_set(|disk_set| disk_set.disks.retain(|disk| disk.id() != id));
    }

    /// Removes the disk for good: nothing is read from it any more. Returns false if it was removed
    /// before.
    pub fn remove_disk(&self, id: DiskId) -> bool {
        if self.disk_set().removed.contains(&id) {
            return false;
        }
        self.change_disk_set(|disk_set| {
            disk_set.disks.retain(|disk| disk.id() != id);
            disk_set.removed.insert(id);
        });
        true
    }

    /// The number of times that a disk was added, taken offline or removed. When it changes, gc
    /// tries again what it left because a disk was offline.
    pub fn changes(&self) -> u64 {
        self.disk_set().changes
    }

    /// Returns whether the disk is not here, but may come back.
    pub fn is_offline(&self, disk: DiskId) -> bool {
        matches!(self.disk_set().holder(disk), Holder::Offline)
    }

    pub fn default_geometry(&self) -> Geometry {
        self.classes.default
    }

    /// Waits until a write is refused because disks are full. Returns at once if one was refused
    /// since the last call.
    pub async fn starved(&self) {
        self.starved.notified().await;
    }

    /// Sets the disks that do not answer now, or only slowly: they are avoided while others can
    /// serve.
    pub fn set_slow(&self, slow: &BTreeSet<DiskId>) {
        self.suspects.set_slow(slow);
    }

    /// Returns whether the disk does not answer in time and is avoided.
    pub fn is_suspect(&self, disk: DiskId) -> bool {
        self.suspects.contains(disk)
    }

    /// Returns whether enough disks are up for a write of the default class.
    pub fn can_write(&self) -> bool {
        let disk_set = self.disk_set();
        let up = disk_set.disks.iter().filter(|d| d.state().borrow().is_up());
        self.classes.default.fit(up.count()).is_some()
    }

    /// Returns the disks that are up.
    pub fn up(&self) -> BTreeSet<DiskId> {
        let disks = self.disks().into_iter();
        let up = disks.filter(|disk| disk.state().borrow().is_up());
        up.map(|disk| disk.id()).collect()
    }

    /// Returns the number of disks that are up and have room for shards.
    pub fn writable(&self) -> usize {
        let spaces = self.all_spaces().into_iter();
        spaces.filter(|(_, space)| space.above_reserve > 0).count()
    }

    /// Returns the least number of disks with room that a write of any class needs.
    pub fn needed_for_writes(&self) -> usize {
        self.classes.disks_min()
    }

    /// Fails if one of `disks`, which hold metadata, has no room for more metadata. Every write
    /// adds rows on each of them, and a full disk would lose its replica (F-08). Half of the disk's
    /// reserve is still free then, for deletes and gc, which make room.
    pub fn room_for_metadata(&self, disks: &[DiskId]) -> Result<()> {
        let spaces = self.spaces();
        let full = spaces
            .iter()
            .find(|(disk, space)| disks.contains(&disk.id()) && space.for_metadata == 0);
        match full {
            Some((disk, _)) => Err(self.no_room(format!("disk {} with metadata", disk.id()))),
            None => Ok(()),
        }
    }

    /// Returns a disk's space, or `None` if the disk is down or suspect.
    pub fn space(&self, disk: &dyn Disk) -> Option<Space> {
        match self.suspects.contains(disk.id()) {
            true => None,
            false => disk.space().ok(),
        }
    }

    /// Returns the disks that are up and not suspect, with their space.
    pub(super) fn spaces(&self) -> Vec<(Arc<dyn Disk>, Space)> {
        let mut spaces = self.all_spaces();
        spaces.retain(|(disk, _)| !self.suspects.contains(disk.id()));
        spaces
    }

    /// Returns the disks that are up with their space, suspect or not. What writes in progress have
    /// reserved for their shards is not free for other shards.
    pub(super) fn all_spaces(&self) -> Vec<(Arc<dyn Disk>, Space)> {
        let spaces = self.disks().into_iter().map(|disk| {
            let mut space = disk.space().ok()?;
            let reserved = self.reservations.on(disk.id());
            space.above_reserve = space.above_reserve.saturating_sub(reserved);
            Some((disk, space))
        });
        spaces.flatten().collect()
    }

    /// Makes the error of a write for which there is no room, and wakes gc.
    pub(super) fn no_room(&self, why: String) -> Error {
        self.starved.notify_one();
        Error::Full(why)
    }
}

pub(super) fn shard_name(write_id: WriteId, rank: u8, at: ShardAt) -> ShardName {
    ShardName {
        write_id,
        rank,
        generation: at.generation,
    }
}
