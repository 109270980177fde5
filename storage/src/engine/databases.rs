//! The disks' databases: opened, and rebuilt where one is not trusted.
//!
//! A database that is damaged, or failed to write once, is replaced by a new one on the same disk:
//! the shards beside it are as good as before. What is lost with it are its replicas, which the
//! groups make again under new ids, and the list of unconfirmed shards, which is made from the
//! files ([`crate::disk::pending::relist`]). It is replaced only when the groups answer without it:
//! at the start, or while the store is open (`renew`).

use std::io;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::join_all;

use super::open_error::{Hindered, OpenError};
use crate::db::{Db, DbError, DbShared, Hindrance};
use crate::disk::identity::DiskDirectory;
use crate::disk::local::probe;
use crate::disk::pending::relist;
use drystone_store::crash::DiskPoint;
use drystone_store::env::Files;
use drystone_store::error::Error;
use drystone_store::types::{DiskId, Epoch};

/// The part of a disk's directory that holds its database; one being made; one that was replaced.
pub(super) const DATABASE: &str = "meta";
const NEW_DATABASE: &str = "meta.new";
const OLD_DATABASE: &str = "meta.old";

/// A disk whose database is open.
pub(super) struct Ready {
    pub settled: DiskDirectory,
    pub db: Arc<Db>,
}

impl Ready {
    /// Why the database that does not work may be whole all the same.
    fn hindrance(&self) -> Option<Hindrance> {
        match *self.db.failure().borrow() {
            Some(DbError::Hindered(hindrance, _)) => Some(hindrance),
            _ => None,
        }
    }
}

/// A disk whose database is not to be used, and why.
pub(super) struct Broken {
    pub settled: DiskDirectory,
    pub why: String,
}

/// The disks of a start, by their databases.
pub(super) struct Databases {
    pub ready: Vec<Ready>,
    pub broken: Vec<Broken>,
    pub hindered: Vec<Hindered>,
}

impl Databases {
    /// Ends the start if the whole process lacks something, or too many disks do.
    pub fn refuse(&mut self, rest_will_do: bool) -> Result<(), OpenError> {
        let mut hindered = self.hindered.iter();
        let ends = |hindered: &Hindered| !rest_will_do || hindered.hindrance.is_of_process();
        match hindered.position(ends) {
            Some(at) => Err(self.hindered.swap_remove(at).into()),
            None => Ok(()),
        }
    }

    /// Takes out the disks whose databases could not be read since they were opened.
    pub fn take_hindered(&mut self) {
        let is_hindered = |disk: &mut Ready| disk.hindrance().is_some();
        for disk in self.ready.extract_if(.., is_hindered) {
            let hindrance = disk.hindrance();
            let hindered = hindrance.map(|hindrance| Hindered {
                dir: disk.settled.dir,
                hindrance,
            });
            self.hindered.extend(hindered);
        }
    }

    /// Takes out the disks whose databases have failed since they were opened. Gives those that
    /// are not to be used again.
    pub fn take_failed(&mut self) -> Vec<DiskId> {
        self.take_hindered();
        let has_failed = |disk: &mut Ready| disk.db.failure().borrow().is_some();
        let before = self.broken.len();
        for Ready { settled, db } in self.ready.extract_if(.., has_failed) {
            let why = db.failure().borrow().as_ref().map(ToString::to_string);
            let why = why.unwrap_or_default();
            self.broken.push(Broken { settled, why });
        }
        let failed = self.broken[before..].iter();
        failed.map(|disk| disk.settled.identity.disk).collect()
    }
}

/// Opens all at once. After the birth, a disk whose database does not open is to get another, if
/// nothing else keeps it from being opened.
pub(super) async fn open_all(
    disks: Vec<DiskDirectory>,
    birth: bool,
    shared: &DbShared,
) -> Result<Databases, OpenError> {
    let opened = join_all(disks.into_iter().map(|settled| {
        let env = shared.env();
        let shared = shared.clone();
        env.spawn_blocking(move || {
            let dir = settled.dir.join(DATABASE);
            let db = match birth {
                true => Db::create(&dir, &shared),
                false => finish_replacing(shared.env().files(), &settled.dir)
                    .map_err(|e| DbError::of_opening(&e))
                    .and_then(|()| Db::open(&dir, &shared)),
            };
            (settled, db)
        })
    }));
    let (mut ready, mut broken, mut hindered) = (Vec::new(), Vec::new(), Vec::new());
    for opened in opened.await {
        let (settled, db) = opened.map_err(|_| Error::Closing)?;
        match db {
            Ok(db) => ready.push(Ready { settled, db }),
            Err(error) if birth => {
                return Err(OpenError::Disk {
                    dir: settled.dir,
                    source: error.into(),
                });
            }
            Err(DbError::Hindered(hindrance, what)) => {
                let dir = settled.dir;
                tracing::error!(%hindrance, %what, dir = %dir.display(), "a disk is left out");
                hindered.push(Hindered { dir, hindrance });
            }
            Err(error) => {
                tracing::error!(%error, dir = %settled.dir.display(),
                    "a disk's database is not usable");
                let why = error.to_string();
                broken.push(Broken { settled, why });
            }
        }
    }
    Ok(Databases {
        ready,
        broken,
        hindered,
    })
}

/// Completes or removes what a crash left of [`replace`]. A new database gets its name only once
/// it is complete.
fn finish_replacing(files: &dyn Files, dir: &Path) -> io::Result<()> {
    if let Err(error) = probe::clean(files, dir) {
        tracing::warn!(%error, dir = %dir.display(), "what a probe left stays");
    }
    let [database, new, old] = [DATABASE, NEW_DATABASE, OLD_DATABASE].map(|name| dir.join(name));
    if !files.exists(&database) && files.exists(&old) && files.exists(&new) {
        files.rename(&new, &database)?;
        files.sync_dir(dir)?;
    }
    if files.exists(&database) {
        remove(files, &new)?;
        remove(files, &old)?;
    }
    Ok(())
}

fn remove(files: &dyn Files, dir: &Path) -> io::Result<()> {
    match files.remove_dir_all(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Gives a disk a new database. Its shards are on the list as of `epoch`.
///
/// Power goes while the new one is made: the old one has the name still, and the next start does
/// all of it again. Between the two renames: the next start does the second one. After them: the
/// old one, set aside, goes at the next start.
pub(super) async fn replace(
    broken: Broken,
    shared: &DbShared,
    epoch: Epoch,
) -> Result<Ready, (DiskDirectory, Error)> {
    let Broken { settled, why } = broken;
    let env = shared.env();
    let shared = shared.clone();
    tracing::warn!(dir = %settled.dir.display(), why, "rebuilding a disk's database");
    let of = settled.clone();
    let made = env.spawn_blocking(move || {
        make(&of, &shared, epoch)?;
        put_in_place(&of, &shared)
    });
    match made.await.unwrap_or(Err(Error::Closing)) {
        Ok(db) => Ok(Ready { settled, db }),
        Err(error) => Err((settled, error)),
    }
}

/// The first half: a new database beside the old one, of which nothing is asked. Blocks.
pub(super) fn make(disk: &DiskDirectory, shared: &DbShared, epoch: Epoch) -> Result<(), Error> {
    let dir = &disk.dir;
    let new = dir.join(NEW_DATABASE);
    remove(shared.env().files(), &new)?;
    let db = Db::create(&new, shared)?;
    let shards = relist(dir, &db, epoch)?;
    db.close();
    tracing::info!(dir = %dir.display(), shards, "a disk's new database is made");
    shared.crash().pass_disk(DiskPoint::DatabaseListed);
    Ok(())
}

/// The second half: it takes the old one's place, which must be closed. Blocks.
pub(super) fn put_in_place(disk: &DiskDirectory, shared: &DbShared) -> Result<Arc<Db>, Error> {
    let (dir, files) = (&disk.dir, shared.env().files());
    let [database, new, old] = [DATABASE, NEW_DATABASE, OLD_DATABASE].map(|name| dir.join(name));
    remove(files, &old)?;
    if files.exists(&database) {
        files.rename(&database, &old)?;
    }
    shared.crash().pass_disk(DiskPoint::DatabaseAside);
    files.rename(&new, &database)?;
    shared.crash().pass_disk(DiskPoint::DatabaseRenamed);
    files.sync_dir(dir)?;
    remove(files, &old)?;
    shared.crash().pass_disk(DiskPoint::DatabaseRemoved);
    Ok(Db::open(&database, shared)?)
}

/// Lists the shards of a disk whose database may lack some.
pub(super) async fn list_again(disk: &Ready, epoch: Epoch) -> Result<(), Error> {
    let (dir, db) = (disk.settled.dir.clone(), disk.db.clone());
    let env = disk.db.env();
    let listed = env.spawn_blocking(move || relist(&dir, &db, epoch));
    listed.await.map_err(|_| Error::Closing)??;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use crate::engine::disk_set::DiskHandle;
    use crate::engine::{Engine, Options};
    use drystone_store::accounts::Accounts as _;
    use drystone_store::instance::Instance as _;
    use drystone_store::types::{Account, AccountId};

    fn account(name: &str) -> Account {
        Account {
            id: AccountId(name.into()),
            canonical_id: String::new(),
            display_name: name.into(),
        }
    }

    /// Once its fsync failed, and the restarted process took the same log under the same id.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn b_66_a_database_that_failed_is_rebuilt_at_the_next_start() {
        let root = tempfile::tempdir().unwrap();
        let directories: Vec<_> = (0..4).map(|n| root.path().join(format!("{n}"))).collect();
        let mut options = Options::new(directories.clone());
        options.renew_after = Duration::from_secs(600);
        let engine = Engine::open(options.clone()).await.unwrap();
        engine.put_account(account("a")).await.unwrap();
        let failing = {
            let handles = engine.disks.handles();
            let in_dir = |held: &&DiskHandle| held.settled.dir == directories[2];
            let held = handles.iter().find(in_dir).unwrap();
            held.db.as_ref().unwrap().break_disk();
            held.id()
        };
        for n in 0..20 {
            engine.put_account(account(&n.to_string())).await.unwrap();
        }
        // The others have noted it once the disk is known to be down.
        let disks = engine.shards.disks();
        let disk = disks.iter().find(|disk| disk.id() == failing).unwrap();
        let down = async {
            disk.state().wait_for(|state| !state.is_up()).await.unwrap();
            while engine
                .system
                .group
                .status()
                .voters
                .iter()
                .all(|voter| voter.alive)
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), down)
            .await
            .unwrap();
        engine.close().await;
        drop(disks);
        drop(engine);

        let engine = loop {
            match Engine::open(options.clone()).await {
                Ok(engine) if engine.health().await.disks_offline == 0 => break engine,
                Ok(engine) => engine.close().await,
                Err(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let whole = async {
            while engine
                .system
                .group
                .status()
                .voters
                .iter()
                .any(|voter| !voter.alive)
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), whole)
            .await
            .unwrap();
        assert_eq!(engine.system.group.status().voters.len(), 4);
        // One replica of each group was made: on the disk whose database is another.
        assert_eq!(engine.system.group.replica_changes().1, 1);
        for n in 0..20 {
            let id = AccountId(n.to_string());
            assert!(engine.account(&id).await.unwrap().is_some());
        }
        engine.close().await;
    }
}
