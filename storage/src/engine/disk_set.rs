//! The disks of this process, and the things that a new one needs to join them.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;

use super::Options;
use super::databases::Ready;
use crate::db::{Db, DbError, DbShared};
use crate::disk::identity::{DiskDirectory, Identity, state_file};
use drystone_store::env::Env;
use drystone_store::error::Error;
use drystone_store::lock::{Mutex, MutexGuard};
use drystone_store::types::DiskId;

/// A disk of this process.
pub(super) struct DiskHandle {
    /// None while the database is being replaced.
    pub db: Option<Arc<Db>>,
    /// The failure of the last database. Its sender is dropped when RocksDB has ended.
    pub failure: watch::Receiver<Option<DbError>>,
    pub settled: DiskDirectory,
}

impl DiskHandle {
    fn new(settled: DiskDirectory, db: Arc<Db>) -> DiskHandle {
        let failure = db.failure();
        let db = Some(db);
        DiskHandle {
            settled,
            db,
            failure,
        }
    }

    pub fn id(&self) -> DiskId {
        self.settled.identity.disk
    }
}

/// The disks of this process, and the directories that cannot be used as disks.
pub(super) struct DiskSet {
    handles: Mutex<Vec<DiskHandle>>,
    /// Locked while a disk, or its database, is replaced.
    pub replacing: tokio::sync::Mutex<()>,
    /// The caches and threads that all databases share, those of new disks too.
    pub db_shared: DbShared,
    /// An identity of this store, for new disks.
    pub template: Identity,
    /// Directories that hold disks that are not used, and why, until a usable disk replaces them.
    refused: Mutex<BTreeMap<String, String>>,
    /// The directories that were no disks at the start, and why.
    lost: HashMap<String, String>,
    env: Arc<dyn Env>,
    state_file: Option<PathBuf>,
    /// The directories that the process was started with.
    given: Vec<PathBuf>,
}

impl DiskSet {
    pub fn new(
        options: &Options,
        ready: &[Ready],
        db_shared: DbShared,
        refused: BTreeMap<String, String>,
        lost: Vec<(PathBuf, String)>,
    ) -> Result<DiskSet, Error> {
        let Some(first) = ready.first() else {
            return Err(Error::Unavailable("no disk is the store's".into()));
        };
        let lost = lost
            .into_iter()
            .map(|(dir, why)| (directory_named(&dir), why));
        Ok(DiskSet {
            handles: Mutex::default(),
            replacing: tokio::sync::Mutex::default(),
            db_shared,
            template: Identity {
                born: false,
                ..first.settled.identity
            },
            refused: Mutex::new(refused),
            lost: lost.collect(),
            env: options.env.clone(),
            state_file: options.state_file.clone(),
            given: options.directories.clone(),
        })
    }

    /// Adds a disk in place of the one with its id.
    pub fn add(&self, settled: DiskDirectory, db: Arc<Db>) {
        let new = DiskHandle::new(settled, db);
        let mut handles = self.handles();
        handles.retain(|handle| handle.id() != new.id());
        handles.push(new);
    }

    pub fn handles(&self) -> MutexGuard<'_, Vec<DiskHandle>> {
        self.handles.lock()
    }

    pub fn refused(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.refused.lock()
    }

    /// Notes in the state file that these directories are disks now.
    ///
    /// Power goes before this at a birth: the next start notes it.
    pub async fn note(&self, here: Vec<PathBuf>) {
        let Some(path) = self.state_file.clone() else {
            return;
        };
        let mut given = self.given.clone();
        given.extend(self.handles().iter().map(|disk| disk.settled.dir.clone()));
        let (env, store) = (self.env.clone(), self.template.cluster);
        let noted = self
            .env
            .spawn_blocking(move || state_file::note(&path, store, &given, &here, env.files()));
        if let (Ok(Err(error)), Some(path)) = (noted.await, &self.state_file) {
            tracing::warn!(%error, path = %path.display(),
                "the state file cannot be written: a start while all disks are missing would \
                 create a new store; name a folder for it with --state-dir");
        }
    }

    /// Returns why a directory was no disk at the start.
    pub fn lost_at_start(&self, directory: &str) -> Option<String> {
        self.lost.get(directory).cloned()
    }
}

/// Returns the name of a disk's directory in the metadata and in messages.
pub(super) fn directory_of(settled: &DiskDirectory) -> String {
    directory_named(&settled.dir)
}

fn directory_named(dir: &Path) -> String {
    let absolute = std::path::absolute(dir);
    absolute.as_deref().unwrap_or(dir).display().to_string()
}
