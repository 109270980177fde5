//! Shard sets: writing a body as one and reading ranges of one.
//!
//! [`Shards::write`] and [`Shards::read`] hold the rules of what must succeed; each says in its
//! module what is promised. Here are the disks, the geometry of each storage class, and the
//! upkeep of shards that gc asks for. What shards mean is the metadata's.

pub mod erasure;
mod placement;
mod read;
mod rebuild;
mod reencode;
#[cfg(test)]
mod tests;
mod write;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::sync::{Notify, Semaphore, mpsc};

use crate::disk::{BLOCK_SIZE_BYTES, Disk, DiskError, Space};
use crate::shards::erasure::{Codecs, Geometry, Layout};
use crate::shards::placement::Candidate;
use drystone_store::body::{Body, BodyReader};
use drystone_store::env::{Env, Instant};
use drystone_store::error::{Error, Result};
use drystone_store::shard_set::{ShardAt, ShardId, ShardPlace, ShardSet};
use drystone_store::types::{BucketId, ByteRange, DiskId, Epoch, WriteId};

pub use self::rebuild::{HealError, ShardCondition, ShardRef};
pub use self::reencode::WriteToReencode;
pub use crate::disk::{ShardName, UnconfirmedShard};

/// A disk that does not answer within this time misses its part in a read or write.
const DEADLINE: Duration = Duration::from_secs(20);
/// For so long nothing is asked of a disk that missed its deadline, if others will do.
const SUSPECT_FOR: Duration = Duration::from_secs(30);
/// Places for reports that nobody has taken yet; past it they are dropped, as the next reader of
/// the shard will report again.
pub const DAMAGE_QUEUE_LEN_MAX: usize = 1024;

/// The geometry of each storage class.
#[derive(Clone, Debug)]
pub struct Classes {
    /// For STANDARD and every class without one of its own.
    pub default: Geometry,
    pub by_name: HashMap<String, Geometry>,
}

impl Classes {
    /// So many lost disks cost no class a byte, but those with less parity.
    pub fn losses(&self) -> usize {
        let named = self.by_name.values().map(|geometry| geometry.parity());
        named.fold(self.default.parity(), usize::max)
    }

    fn geometry(&self, class: &str) -> Geometry {
        *self.by_name.get(class).unwrap_or(&self.default)
    }
}

/// What became of the shards of a write that were to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RemovalOutcome {
    /// No shard is left.
    All,
    /// Shards are left on disks that are offline or down.
    ButOffline,
    /// A disk did not do it, and may the next time.
    Failed,
}

/// The disks of a node and what is written and read on them.
pub struct Shards {
    env: Arc<dyn Env>,
    disk_set: RwLock<Arc<DiskSet>>,
    classes: Classes,
    codecs: Codecs,
    suspects: Arc<Suspects>,
    /// The damaged and missing shards that readers meet.
    damage: mpsc::Sender<ShardId>,
    /// Places for rebuilds, by disk.
    rebuilds: Mutex<HashMap<DiskId, Arc<Semaphore>>>,
    /// Something was refused for want of room.
    starved: Notify,
}

/// The disks of the moment. Who reads and writes takes a copy.
#[derive(Clone, Default)]
struct DiskSet {
    disks: Vec<Arc<dyn Disk>>,
    /// Disks that never come back: their shards are missing, not offline.
    removed: HashSet<DiskId>,
    changes: u64,
}

impl DiskSet {
    fn disk(&self, id: DiskId) -> Option<&Arc<dyn Disk>> {
        self.disks.iter().find(|disk| disk.id() == id)
    }

    fn holder(&self, id: DiskId) -> Holder {
        match self.disk(id) {
            _ if self.removed.contains(&id) => Holder::Removed,
            Some(disk) => Holder::Present(disk.clone()),
            None => Holder::Offline,
        }
    }
}

/// The disk that a row names for a shard.
enum Holder {
    Present(Arc<dyn Disk>),
    /// It may come back, with the shard.
    Offline,
    /// It never comes back.
    Removed,
}

impl Shards {
    /// `damage` should have [`DAMAGE_QUEUE_LEN_MAX`] places.
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
            env,
            damage,
            rebuilds: Mutex::default(),
            starved: Notify::new(),
        }
    }

    fn rebuild_places(&self, disk: DiskId) -> Arc<Semaphore> {
        let mut places = self.rebuilds.lock().unwrap_or_else(PoisonError::into_inner);
        let places = places.entry(disk);
        places
            .or_insert_with(|| Arc::new(Semaphore::new(rebuild::REBUILDS_PER_DISK_MAX)))
            .clone()
    }

    pub fn disks(&self) -> Vec<Arc<dyn Disk>> {
        self.disk_set().disks.clone()
    }

    fn disk_set(&self) -> Arc<DiskSet> {
        let disk_set = self.disk_set.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&disk_set)
    }

    fn change_disk_set(&self, change: impl FnOnce(&mut DiskSet)) {
        let mut disk_set = self
            .disk_set
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let mut changed = DiskSet::clone(&disk_set);
        change(&mut changed);
        changed.changes += 1;
        *disk_set = Arc::new(changed);
    }

    /// From now on the disk takes shards, in the place of one of its id.
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

    pub fn default_geometry(&self) -> Geometry {
        self.classes.default
    }

    /// Returns when something was refused for want of room since the last call.
    pub async fn starved(&self) {
        self.starved.notified().await;
    }

    /// Whether the disk missed a deadline lately and is passed over.
    pub fn is_suspect(&self, disk: DiskId) -> bool {
        self.suspects.contains(disk)
    }

    /// Whether enough disks are up for a write of the default class.
    pub fn can_write(&self) -> bool {
        let disk_set = self.disk_set();
        let up = disk_set.disks.iter().filter(|d| d.state().borrow().is_up());
        self.classes.default.fit(up.count()).is_some()
    }

    /// Reads `body` to its end and writes it, after the bytes of `prefix`, as shards. See
    /// [`write`] for what is promised. Gives the size, too.
    pub async fn write(
        &self,
        write_id: WriteId,
        epoch: Epoch,
        bucket: BucketId,
        class: &str,
        prefix: Bytes,
        body: &mut dyn Body,
    ) -> Result<(u64, ShardSet)> {
        let plan = self.plan(write_id, class, body.size_hint()).await?;
        let codec = self.codecs.get(plan.geometry);
        let mut write = write::Write::begin(
            write::WriteLabel {
                write_id,
                epoch,
                bucket,
                generation: 0,
            },
            plan,
            codec,
            Arc::clone(&self.suspects),
        );
        let written = async {
            let size = write.stream(prefix, body).await?;
            Ok((size, write.finish(size, class).await?))
        };
        written.await.map_err(|error| match error {
            Error::Full(why) => self.no_room(why),
            other => other,
        })
    }

    /// What a full disk makes of a write; gc hears of it.
    fn no_room(&self, why: String) -> Error {
        self.starved.notify_one();
        Error::Full(why)
    }

    /// Opens a range of a write's bytes. See [`read`] for what is promised.
    pub async fn read(
        &self,
        write_id: WriteId,
        bucket: BucketId,
        size: u64,
        set: &ShardSet,
        range: ByteRange,
    ) -> Result<Box<dyn BodyReader>> {
        let wanted = read::WriteShape {
            write_id,
            bucket,
            layout: layout_of(write_id, size, set)?,
        };
        let source = self.source(wanted, set, None);
        Ok(Box::new(read::RangeReader::open(source, range).await?))
    }

    /// The shards of a set as a reader's source, without the one of rank `without`.
    fn source(
        &self,
        wanted: read::WriteShape,
        set: &ShardSet,
        without: Option<u8>,
    ) -> read::ShardSource {
        let disk_set = self.disk_set();
        let holder = |(place, rank): (&ShardPlace, u8)| match without == Some(rank) {
            true => Holder::Removed,
            false => disk_set.holder(place.disk),
        };
        let holders = set.shards.iter().zip(0..).map(holder);
        read::ShardSource::new(
            wanted,
            set.shards.iter().zip(holders),
            self.codecs.get(wanted.layout.geometry()),
            Arc::clone(&self.suspects),
            self.damage.clone(),
        )
    }

    /// Removes shards of a write.
    pub async fn remove(
        &self,
        write_id: WriteId,
        shards: impl IntoIterator<Item = (u8, ShardAt)>,
    ) -> RemovalOutcome {
        let disk_set = self.disk_set();
        let removals = shards.into_iter().map(|(rank, at)| {
            let (holder, name) = (disk_set.holder(at.disk), shard_name(write_id, rank, at));
            async move {
                match holder {
                    Holder::Present(disk) if disk.state().borrow().is_up() => {
                        match within_deadline(self.env.as_ref(), disk.remove(vec![name])).await {
                            Ok(()) => RemovalOutcome::All,
                            Err(_) => RemovalOutcome::Failed,
                        }
                    }
                    Holder::Present(_) | Holder::Offline => RemovalOutcome::ButOffline,
                    Holder::Removed => RemovalOutcome::All,
                }
            }
        });
        let removed = join_all(removals).await.into_iter().max();
        removed.unwrap_or(RemovalOutcome::All)
    }

    /// Takes the shards of a committed write off the lists of unconfirmed ones, some time later.
    pub fn confirm(&self, write_id: WriteId, set: &ShardSet) {
        for (rank, place) in (0..).zip(&set.shards).filter(|(_, place)| !place.missing) {
            self.confirm_shard(write_id, rank, place.at());
        }
    }

    /// The same for one shard.
    pub fn confirm_shard(&self, write_id: WriteId, rank: u8, at: ShardAt) {
        if let Some(disk) = self.disk_set().disk(at.disk) {
            disk.confirm(&[shard_name(write_id, rank, at)]);
        }
    }

    /// Up to `max` unconfirmed shards below the epoch, of all disks that are up.
    pub async fn unconfirmed(&self, below: Epoch, max: usize) -> Result<Vec<UnconfirmedShard>> {
        let mut entries = Vec::new();
        for disk in self.disks() {
            if !disk.state().borrow().is_up() {
                continue;
            }
            let room = max - entries.len();
            match within_deadline(self.env.as_ref(), disk.unconfirmed(below, room)).await {
                Ok(more) => entries.extend(more),
                Err(e) => tracing::warn!(disk = %disk.id(), error = %e, "no unconfirmed list"),
            }
        }
        Ok(entries)
    }

    /// The shards in one of a disk's folders that are not on its list; none of a disk that is not
    /// up.
    pub async fn unlisted(&self, disk: DiskId, folder: u8) -> Result<Vec<ShardName>> {
        let disk_set = self.disk_set();
        let disk = disk_set.disk(disk);
        let Some(disk) = disk.filter(|disk| disk.state().borrow().is_up()) else {
            return Ok(Vec::new());
        };
        let found = within_deadline(self.env.as_ref(), disk.unlisted(folder)).await;
        found.map_err(|e| Error::Unavailable(format!("disk {}: {e}", disk.id())))
    }

    /// Puts shards back on a disk's list of unconfirmed ones, as of `epoch`.
    pub async fn list_again(&self, on: DiskId, shards: Vec<ShardName>, epoch: Epoch) -> Result<()> {
        let disk_set = self.disk_set();
        let Some(disk) = disk_set.disk(on) else {
            return Ok(());
        };
        let listed = within_deadline(self.env.as_ref(), disk.list_again(shards, epoch)).await;
        listed.map_err(|e| Error::Unavailable(format!("disk {on}: {e}")))
    }

    /// Removes shards that nothing names, then their entries. A disk that does not do it keeps
    /// nobody else from it.
    pub async fn drop_orphans(&self, orphans: Vec<UnconfirmedShard>) -> Result<()> {
        let mut kept = Ok(());
        for (disk, names) in self.by_disk(&orphans) {
            match within_deadline(self.env.as_ref(), disk.remove(names.clone())).await {
                // Power goes here: the entries are met again, their files are gone.
                Ok(()) => disk.confirm(&names),
                Err(e) => kept = Err(Error::Unavailable(format!("orphans stay: {e}"))),
            }
        }
        kept
    }

    /// Takes entries off their lists that turned out to be named.
    pub async fn confirm_entries(&self, entries: Vec<UnconfirmedShard>) -> Result<()> {
        for (disk, names) in self.by_disk(&entries) {
            disk.confirm(&names);
        }
        Ok(())
    }

    fn by_disk(&self, entries: &[UnconfirmedShard]) -> Vec<(Arc<dyn Disk>, Vec<ShardName>)> {
        let names = |disk: &Arc<dyn Disk>| -> Vec<ShardName> {
            let own = entries.iter().filter(|entry| entry.disk == disk.id());
            own.map(UnconfirmedShard::name).collect()
        };
        let lists = self.disks().into_iter().map(|disk| {
            let names = names(&disk);
            (disk, names)
        });
        lists.filter(|(_, names)| !names.is_empty()).collect()
    }

    /// Fails when one of `disks`, which hold metadata, has no room left for more of it: every write
    /// adds rows to each of them, and one that is full is lost to the metadata (F-08). Half of its
    /// reserve is still there for what makes room: deletes and gc.
    pub async fn room_for_metadata(&self, disks: &[DiskId]) -> Result<()> {
        let spaces = self.spaces().await;
        let full = spaces
            .iter()
            .find(|(disk, space)| disks.contains(&disk.id()) && space.for_metadata == 0);
        match full {
            Some((disk, _)) => Err(self.no_room(format!("disk {} with metadata", disk.id()))),
            None => Ok(()),
        }
    }

    /// A disk's space, if it tells within the deadline; one that missed it lately is not asked.
    pub async fn space(&self, disk: &dyn Disk) -> Option<Space> {
        if self.suspects.contains(disk.id()) {
            return None;
        }
        let space = within_deadline(self.env.as_ref(), disk.space()).await;
        if space.as_ref().is_err_and(is_late) {
            self.suspects.add(disk.id());
        }
        space.ok()
    }

    /// The disks that are up and not suspect, and their space.
    async fn spaces(&self) -> Vec<(Arc<dyn Disk>, Space)> {
        let spaces = self.disks().into_iter().map(|disk| async move {
            let space = self.space(disk.as_ref()).await?;
            Some((disk, space))
        });
        join_all(spaces).await.into_iter().flatten().collect()
    }

    /// Decides geometry and disks of a write by what is up now and has room. Disks that are full
    /// are passed by as lost ones are: the write is as wide as the others allow.
    async fn plan(&self, write_id: WriteId, class: &str, hint: Option<u64>) -> Result<write::Plan> {
        let up = self.spaces().await;
        let wanted = self.classes.geometry(class);
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
            // Fewer shards are longer ones, for which fewer disks may have room.
            geometry = wanted.fit(candidates.len()).ok_or_else(|| {
                let (room, of) = (candidates.len(), self.disks().len());
                self.no_room(format!("{room} of {of} disks have room"))
            })?;
        };
        let order = placement::order(write_id, &candidates);
        let disk = |id| up.iter().find(|(disk, _)| disk.id() == id);
        let disks = order.into_iter().filter_map(|id| Some(disk(id)?.0.clone()));
        Ok(write::Plan {
            geometry,
            undersized: geometry.total() < wanted.total(),
            disks: disks.collect(),
            size_hint: hint,
        })
    }
}

fn shard_name(write_id: WriteId, rank: u8, at: ShardAt) -> ShardName {
    ShardName {
        write_id,
        rank,
        generation: at.generation,
    }
}

fn layout_of(write_id: WriteId, size: u64, set: &ShardSet) -> Result<Layout> {
    let geometry = Geometry::new(set.data_shards, set.parity_shards)
        .filter(|geometry| geometry.total() == set.shards.len())
        .filter(|_| set.chunk_size.is_multiple_of(BLOCK_SIZE_BYTES));
    let layout = geometry.and_then(|g| Layout::new(g, set.chunk_size, size));
    layout
        .ok_or_else(|| Error::Corrupt(format!("the data row of {write_id} has no valid geometry")))
}

/// An answer that comes too late is an i/o error; what was asked may still happen.
async fn within_deadline<T>(
    env: &dyn Env,
    answer: impl Future<Output = Result<T, DiskError>>,
) -> Result<T, DiskError> {
    match env.timeout(DEADLINE, answer).await {
        Ok(answer) => answer,
        Err(late) => Err(DiskError::Io(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            late,
        ))),
    }
}

fn is_late(error: &DiskError) -> bool {
    matches!(error, DiskError::Io(e) if e.kind() == std::io::ErrorKind::TimedOut)
}

/// Disks that missed a deadline lately.
struct Suspects {
    env: Arc<dyn Env>,
    until: Mutex<HashMap<DiskId, Instant>>,
}

impl Suspects {
    fn new(env: Arc<dyn Env>) -> Suspects {
        let until = Mutex::default();
        Suspects { env, until }
    }

    fn add(&self, disk: DiskId) {
        tracing::warn!(%disk, "disk is slow or failing, passed over for a while");
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.insert(disk, self.env.after(SUSPECT_FOR));
    }

    fn contains(&self, disk: DiskId) -> bool {
        let until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until
            .get(&disk)
            .is_some_and(|until| self.env.instant() < *until)
    }
}
