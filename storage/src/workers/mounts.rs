//! Mounts: an empty disk that is mounted in the place of a lost one is its replacement.
//!
//! It happens as if an operator had asked for it, so power may go at any point of it. A directory
//! that does not answer is not looked at again for a while.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;

use super::disks::Disks;
use crate::disk::identity::new_mount::is_empty_new_mount;
use crate::meta::view::{Availability, DiskRow};
use crate::shards::Shards;
use drystone_store::env::Env;
use drystone_store::error::{Error, Result};
use drystone_store::operator::ReplaceError;
use drystone_store::types::DiskId;
use drystone_store::workers::{Next, StepError, Wakeup, Worker};

/// The pause between two looks at the directories of lost disks.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long a look may take.
const LOOK_MAX: Duration = Duration::from_secs(10);
/// The pause after a directory that did not answer: each look at it holds a thread.
const LOOK_AFTER_HANG: Duration = Duration::from_secs(600);

/// The one who replaces a lost disk: the store.
#[async_trait]
pub trait Replace: Send + Sync {
    /// Makes the empty directory of a lost disk a disk in its place.
    async fn replace_in_place(&self, directory: &str) -> Result<DiskId, ReplaceError>;
}

/// The directories of the disks that this process was started with, and the state file.
pub struct Places {
    pub state_file: PathBuf,
    pub directories: Vec<PathBuf>,
}

pub struct Mounts {
    env: Arc<dyn Env>,
    disks: Arc<Disks>,
    shards: Arc<Shards>,
    places: Places,
    store: Weak<dyn Replace>,
    wakeup: Wakeup,
}

impl Mounts {
    pub fn new(
        env: Arc<dyn Env>,
        disks: Arc<Disks>,
        shards: Arc<Shards>,
        places: Places,
        store: Weak<dyn Replace>,
    ) -> Mounts {
        Mounts {
            env,
            disks,
            shards,
            places,
            store,
            wakeup: Wakeup::default(),
        }
    }

    /// Returns whether an empty disk is mounted at a lost disk's directory.
    async fn look(&self, directory: &Path) -> Result<bool> {
        let (state_file, directory) = (self.places.state_file.clone(), directory.to_owned());
        let env = self.env.clone();
        let looked = self
            .env
            .spawn_blocking(move || is_empty_new_mount(&state_file, &directory, env.files()));
        let looked = self.env.timeout(LOOK_MAX, looked).await;
        let looked = looked.map_err(|_| Error::Unavailable("it does not answer".into()))?;
        // If it cannot be looked at, because it is missing for example, it is no new disk.
        Ok(looked.map_err(|_| Error::Closing)?.unwrap_or(false))
    }
}

#[async_trait]
impl Worker for Mounts {
    fn name(&self) -> &'static str {
        "mounts"
    }

    async fn step(&self) -> Result<Next, StepError> {
        let (known, up) = (self.disks.known().await?, self.shards.up());
        let mut pause = LOOK_EVERY;
        for directory in &self.places.directories {
            let name = directory.display().to_string();
            if !is_lost(&known, &name, |disk| up.contains(disk)) {
                continue;
            }
            match self.look(directory).await {
                Ok(true) => {}
                Ok(false) => continue,
                Err(why) => {
                    tracing::warn!(dir = name, %why, "a lost disk's directory is not looked at");
                    pause = LOOK_AFTER_HANG;
                    continue;
                }
            }
            let Some(store) = self.store.upgrade() else {
                return Ok(Next::WhenWoken);
            };
            tracing::warn!(
                dir = name,
                "an empty disk is mounted in a lost one's place: it is used"
            );
            store.replace_in_place(&name).await?;
        }
        Ok(Next::At(self.env.after(pause)))
    }

    fn wakeup(&self) -> &Wakeup {
        &self.wakeup
    }
}

/// Returns whether the directory had a disk that is not up, and that no other disk replaced.
fn is_lost(known: &[(DiskId, DiskRow)], directory: &str, is_up: impl Fn(&DiskId) -> bool) -> bool {
    let mut own = known.iter().filter(|(_, row)| row.directory == directory);
    let is_waiting = |(disk, row): &(DiskId, DiskRow)| match row.availability {
        Availability::Up | Availability::Offline => !is_up(disk),
        Availability::Removed => row.replaced_by.is_none(),
    };
    let is_served = own.clone().any(|(disk, _)| is_up(disk));
    !is_served && own.any(is_waiting)
}

#[cfg(test)]
mod tests {
    use super::*;
    use drystone_store::types::Timestamp;

    const UP: Availability = Availability::Up;
    const OFFLINE: Availability = Availability::Offline;
    const REMOVED: Availability = Availability::Removed;

    #[test]
    fn f_14_a_directory_waits_for_a_disk_if_its_own_was_lost_and_not_replaced() {
        let disk = |n: u8| DiskId([n; 16]);
        let row = |n, availability, replaced_by: Option<u8>| {
            let row = DiskRow {
                directory: "/mnt/disk1".into(),
                availability,
                since: Timestamp(0),
                replaced_by: replaced_by.map(disk),
            };
            (disk(n), row)
        };
        // Disk 1 is up.
        for (rows, expected) in [
            (vec![], false),
            (vec![row(1, UP, None)], false),
            (vec![row(2, UP, None)], true),
            (vec![row(2, OFFLINE, None)], true),
            (vec![row(2, REMOVED, None)], true),
            // By a disk in another place.
            (vec![row(2, REMOVED, Some(3))], false),
            // By one in the same place, which is up, or was lost as well.
            (vec![row(2, REMOVED, Some(1)), row(1, UP, None)], false),
            (vec![row(2, REMOVED, Some(3)), row(3, OFFLINE, None)], true),
            (vec![row(2, REMOVED, None), row(1, OFFLINE, None)], false),
        ] {
            let found = is_lost(&rows, "/mnt/disk1", |id| *id == disk(1));
            assert_eq!(found, expected, "{rows:?}");
            assert!(!is_lost(&rows, "/mnt/disk2", |id| *id == disk(1)));
        }
    }
}
