//! The part of a pass of scrub that reads the disks themselves, after their shards.
//!
//! Their **metadata** is read again from the files of each disk's database.
//!
//! **Strays** are files of shards that neither the disk's list of unconfirmed shards nor any row
//! names, so that gc never met them. Scrub puts them on the list, and gc decides: it asks again
//! whether a row names them, and only below the floor.

use std::sync::atomic::Ordering;

use crate::meta::view::Availability;
use crate::shards::ShardName;
use crate::workers::scrub::Scrubber;
use drystone_store::error::Result;
use drystone_store::shard_set::ShardAt;
use drystone_store::types::{DiskId, Timestamp};
use drystone_store::workers::Pause;

/// The bytes of a database that are read at once.
const METADATA_STEP_BYTES: u64 = 1 << 20;
/// The number of names that are looked up at once.
const STEP_NAMES: usize = 1000;
/// About what looking up a name costs of the pace: its entry, its row, its part of the folder.
const NAME_BYTES: u64 = 1 << 10;

impl Scrubber {
    /// Reads the disks. `started` names the pass.
    pub(super) async fn disks(&self, started: Timestamp) -> Result<Result<(), Pause>> {
        let here = self.shards.up();
        let own = self.system.group.read(|view| view.disks()).await?;
        let own = own
            .iter()
            .filter(|(_, row)| row.availability != Availability::Removed);
        let unread = own.filter(|(disk, _)| !here.contains(disk)).count() as u64;
        self.note_unread(started, 0, unread);
        for disk in self.shards.disks() {
            if self.read_metadata(disk.id()).await.is_err() {
                return Ok(Err(Pause));
            }
            for folder in 0..=u8::MAX {
                if self.find_strays(disk.id(), folder).await?.is_err() {
                    return Ok(Err(Pause));
                }
            }
        }
        Ok(Ok(()))
    }

    /// Reads a disk's metadata again. A damaged database is not used again, and is rebuilt from the
    /// other disks.
    async fn read_metadata(&self, disk: DiskId) -> Result<(), Pause> {
        let mut at = None;
        loop {
            let group = &self.objects.group;
            let read = group.read_again(disk, at, METADATA_STEP_BYTES).await;
            let (read, next) = match read {
                Ok(read) => read,
                Err(error) => {
                    tracing::error!(%error, %disk, "a disk's metadata cannot be read again");
                    self.counts.findings.fetch_add(1, Ordering::Relaxed);
                    return Ok(());
                }
            };
            self.pace.take(read).await?;
            at = match next {
                Some(next) => Some(next),
                None => return Ok(()),
            };
        }
    }

    async fn find_strays(&self, disk: DiskId, folder: u8) -> Result<Result<(), Pause>> {
        let names = match self.shards.unlisted(disk, folder).await {
            Ok(names) => names,
            // One bad folder does not hold up the pass: the next pass looks again.
            Err(error) => {
                tracing::warn!(%error, folder, "a folder of shards is not looked through");
                return Ok(Ok(()));
            }
        };
        let cost = (names.len() as u64 + 1) * NAME_BYTES;
        if self.pace.take(cost).await.is_err() {
            return Ok(Err(Pause));
        }
        for names in names.chunks(STEP_NAMES) {
            let names = names.to_vec();
            let strays = self
                .objects
                .group
                .read(move |view| {
                    let mut strays = Vec::new();
                    for name in &names {
                        let generation = name.generation;
                        let at = ShardAt { disk, generation };
                        if !view.refers_to(name.write_id, name.rank, at)? {
                            strays.push(*name);
                        }
                    }
                    Ok(strays)
                })
                .await?;
            if !strays.is_empty() {
                self.list_strays(disk, strays).await?;
            }
        }
        Ok(Ok(()))
    }

    /// Puts strays on the disk's list. A reader that may still use one of them began in this epoch
    /// or before, and the floor guards it.
    async fn list_strays(&self, disk: DiskId, strays: Vec<ShardName>) -> Result<()> {
        tracing::warn!(%disk, count = strays.len(), "unreferenced shards are left to gc");
        let epoch = self.objects.epochs.begin();
        self.shards
            .mark_unconfirmed(disk, strays, epoch.epoch())
            .await
    }
}
