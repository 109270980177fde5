//! Disks that come and go while the store is open.
//!
//! Which disks are the store's stands in group 0. A directory takes the place of a lost disk in
//! these steps:
//!
//! 1. Its identity, not born, its folders and its database. Power goes here: a disk that group 0
//!    does not know; a start leaves it alone, and the same request goes on with it.
//! 2. One command: the old disk is gone, the new one is up. Power goes here: a start finds it, if
//!    its directory is given, and marks it born.
//! 3. It is marked born and takes shards and replicas. What the old one had is queued for heal, in
//!    steps that group 1 remembers (`workers::disks`).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::Engine;
use super::databases::DATABASE;
use super::disk_set::directory_of;
use crate::db::Db;
use crate::disk::Disk;
use crate::disk::identity::{self, DiskDirectory};
use crate::disk::local::{LocalDisk, Reserve};
use crate::meta::command::Change;
use crate::meta::view::{Availability, DiskRow};
use crate::raft::disk::OpenDisk;
use crate::raft::recovery::start::Groups;
use crate::workers::mounts::Replace;
use drystone_store::env::Files;
use drystone_store::error::{Error, Refusal, Result};
use drystone_store::operator::ReplaceError;
use drystone_store::types::DiskId;

/// Replicas and reads that use a lost disk's database end within this.
const LET_GO_MAX: Duration = Duration::from_secs(15);

impl Engine {
    /// Gives the new disk's id.
    pub(super) async fn replace(
        &self,
        old: &str,
        new: Option<&Path>,
    ) -> Result<DiskId, ReplaceError> {
        let _one = self.disks.replacing.lock().await;
        let known = self.workers.disks.known().await?;
        let (old, row) = find(&known, old)?;
        let here = self.shards.disks();
        if here
            .iter()
            .any(|disk| disk.id() == old && disk.state().borrow().is_up())
        {
            return Err(ReplaceError::Works(row.directory.into()));
        }
        if let Some(by) = row.replaced_by
            && here.iter().any(|disk| disk.id() == by)
        {
            return Err(ReplaceError::Replaced(by.to_string()));
        }
        let own = Path::new(&row.directory);
        // What can still be read of the old disk is given up only for a place that will do.
        let elsewhere = match new {
            Some(new) if !is_one_place(self.env.files(), new, own) => Some(self.adopt(new).await?),
            _ => None,
        };
        self.shards.take_offline(old);
        // Among them may be the one whose last hold is waited for.
        drop(here);
        match self.let_go(old).await {
            Ok(()) => {}
            // The new database lies where the old one does.
            Err(error) if elsewhere.is_none() => return Err(error.into()),
            Err(error) => tracing::warn!(%error, %old, "a disk that hangs is replaced elsewhere"),
        }
        self.disks.handles().retain(|handle| handle.id() != old);
        let (settled, db) = match elsewhere {
            Some(made) => made,
            None => self.adopt(own).await?,
        };
        let disk = settled.identity.disk;
        let new = Some((disk, directory_of(&settled)));
        match self
            .workers
            .disks
            .change(Change::ReplaceDisk { old, new })
            .await
        {
            Ok(_) => {}
            Err(Error::Refused(Refusal::Conflict)) => {
                let what = format!("{}: is a disk of the store already", settled.dir.display());
                return Err(ReplaceError::Directory(what));
            }
            Err(error) => return Err(error.into()),
        }
        tracing::info!(%old, new = %disk, dir = %settled.dir.display(), "a disk is replaced");
        self.disks.refused().remove(&directory_of(&settled));
        self.join(settled, db).await?;
        self.shards.remove_disk(old);
        self.workers.disks.wake();
        Ok(disk)
    }

    /// A disk in `directory` that is not born, and its database.
    async fn adopt(&self, directory: &Path) -> Result<(DiskDirectory, Arc<Db>), ReplaceError> {
        let (directory, template) = (directory.to_owned(), self.disks.template);
        let shared = self.disks.db_shared.clone();
        let made = self.env.spawn_blocking(move || {
            let env = shared.env().as_ref();
            let settled = identity::adopt(&directory, &template, env, shared.crash());
            let settled = settled.map_err(|e| ReplaceError::Directory(e.to_string()))?;
            let db = Db::create(&settled.dir.join(DATABASE), &shared);
            let db = db.map_err(|e| ReplaceError::Store(e.into()))?;
            Ok((settled, db))
        });
        made.await.map_err(|_| Error::Closing)?
    }

    /// When this returns, nothing of this process has the disk's database, which may lie where the
    /// new one's will, and which would remove the files there that it does not know.
    pub(super) async fn let_go(&self, disk: DiskId) -> Result<()> {
        for proposer in [&self.system, &self.objects] {
            proposer.group.remove_disk(disk);
        }
        let (db, mut failure) = {
            let mut handles = self.disks.handles();
            let Some(handle) = handles.iter_mut().find(|handle| handle.id() == disk) else {
                return Ok(());
            };
            (handle.db.take(), handle.failure.clone())
        };
        // The last handle waits for its log thread.
        self.env.spawn_blocking(move || drop(db));
        let ended = async { while failure.changed().await.is_ok() {} };
        let ended = self.env.timeout(LET_GO_MAX, ended).await;
        ended.map_err(|_| {
            Error::Unavailable("the lost disk's database is still in use: ask again".into())
        })
    }

    pub(super) fn groups(&self) -> Groups {
        Groups {
            system: self.system.group.clone(),
            objects: self.objects.group.clone(),
        }
    }

    /// A disk that group 0 knows takes its part.
    pub(super) async fn join(&self, mut settled: DiskDirectory, db: Arc<Db>) -> Result<()> {
        let id = settled.identity.disk;
        let (env, crash) = (self.env.clone(), db.crash().clone());
        let born = self.env.spawn_blocking(move || {
            if settled.identity.born {
                return settled;
            }
            if let Err(error) = identity::mark_born(&mut settled, env.as_ref(), &crash) {
                // The next start marks it.
                tracing::warn!(%error, "a disk is not marked born");
            }
            settled
        });
        let settled = born.await.map_err(|_| Error::Closing)?;
        self.disks.add(settled.clone(), db.clone());
        self.disks.note(vec![settled.dir.clone()]).await;
        let joining = OpenDisk { id, db: db.clone() };
        self.groups().join_running(&joining).await?;
        let for_disk = db.clone();
        let opening = self
            .env
            .spawn_blocking(move || LocalDisk::open(settled, for_disk, Reserve::default()));
        let disk = opening.await.map_err(|_| Error::Closing)??;
        let disk: Arc<dyn Disk> = Arc::new(disk);
        self.workers.losses.watch(disk.as_ref());
        // Nobody sees it up and thinks that it lacks nothing.
        let announced = self.workers.inventory.announce();
        self.shards.add_disk(disk);
        self.workers.inventory.begin(announced, id, &db);
        self.workers.healer.wake_all();
        Ok(())
    }
}

#[async_trait]
impl Replace for Engine {
    async fn replace_in_place(&self, directory: &str) -> Result<DiskId, ReplaceError> {
        self.replace(directory, None).await
    }
}

/// Reports whether two paths lead to one directory, by links as well.
fn is_one_place(files: &dyn Files, a: &Path, b: &Path) -> bool {
    let found = |path: &Path| {
        files
            .canonicalize(path)
            .or_else(|_| std::path::absolute(path))
    };
    found(a).ok() == found(b).ok()
}

/// The disk that an operator names: by directory the one that is not gone, or went last.
fn find(known: &[(DiskId, DiskRow)], named: &str) -> Result<(DiskId, DiskRow), ReplaceError> {
    let directory = std::path::absolute(named).map(|path| path.display().to_string());
    let in_it = |row: &DiskRow| directory.as_ref().is_ok_and(|path| row.directory == *path);
    let by_directory = known.iter().filter(|(_, row)| in_it(row));
    let best =
        by_directory.max_by_key(|(_, row)| (row.availability != Availability::Removed, row.since));
    if let Some((disk, row)) = best {
        return Ok((*disk, row.clone()));
    }
    let mut by_id = known
        .iter()
        .filter(|(disk, _)| !named.is_empty() && disk.to_string().starts_with(named));
    match (by_id.next(), by_id.next()) {
        (Some((disk, row)), None) => Ok((*disk, row.clone())),
        (Some(_), Some(_)) => Err(ReplaceError::Ambiguous(named.to_owned())),
        (None, _) => Err(ReplaceError::Unknown(named.to_owned())),
    }
}
