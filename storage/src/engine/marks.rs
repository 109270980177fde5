//! The operator's override for marks: a stopped store's disks note on each other that a database
//! must not be trusted any more, and an operator who knows better may lift that.
//!
//! A mark outlives its cause. If a fault of the program or of the machine made disks mark each
//! other although their databases are whole, no start would trust them again without this.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::db::{Db, DbError, DbShared, Resources};
use crate::disk::identity::{self, DiskDirectory, IdentityError};
use crate::raft::recovery::roster::{self, DatabaseFault, Roster};
use drystone_store::env::{Env, ScratchDir};
use drystone_store::types::DiskId;

use super::databases::DATABASE;

/// A mark: `by` notes that the database of `of` must not be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    pub of: PathBuf,
    pub by: PathBuf,
    pub fault: MarkedFault,
}

/// The fault that a mark gives as its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkedFault {
    /// It failed to write once. It counts only if the others are too few.
    Unwritable,
    /// It returned bytes that were not written. It never counts.
    Damaged,
}

/// The reason why marks cannot be read or lifted.
#[derive(Debug, thiserror::Error)]
pub enum MarksError {
    #[error(transparent)]
    Directories(#[from] IdentityError),
    #[error("{}: {source}", dir.display())]
    Database { dir: PathBuf, source: DbError },
    #[error("{}: is none of the given disks", dir.display())]
    OtherDisk { dir: PathBuf },
    #[error("{}: no disk has a mark of it", dir.display())]
    NotMarked { dir: PathBuf },
    #[error("temporary files: {0}")]
    Scratch(#[from] std::io::Error),
}

/// A disk of a stopped store, locked, with its roster.
struct StoppedDisk {
    directory: DiskDirectory,
    roster: Roster,
}

impl StoppedDisk {
    fn id(&self) -> DiskId {
        self.directory.identity.disk
    }
}

/// Returns the marks of databases that the disks have now. Changes nothing. Blocks.
pub fn marks(env: Arc<dyn Env>, directories: &[PathBuf]) -> Result<Vec<Mark>, MarksError> {
    Ok(marks_of(&read(env, directories)?))
}

/// Lifts all marks of the database of the disk in `of`. Returns the lifted marks. Blocks.
///
/// Power goes between two disks: some marks are left, and the same call lifts them.
pub fn lift(
    env: Arc<dyn Env>,
    directories: &[PathBuf],
    of: &Path,
) -> Result<Vec<Mark>, MarksError> {
    let shared = shared(&env, of)?;
    let disks = read(env, directories)?;
    let marked = disks.iter().find(|disk| disk.directory.dir == of);
    let other = || MarksError::OtherDisk { dir: of.to_owned() };
    let marked = marked.ok_or_else(other)?.id();
    let mut lifted = marks_of(&disks);
    lifted.retain(|mark| mark.of == of);
    if lifted.is_empty() {
        return Err(MarksError::NotMarked { dir: of.to_owned() });
    }
    for disk in &disks {
        let keys: Vec<_> = disk.roster.marks.keys().collect();
        let own: Vec<_> = keys.into_iter().filter(|(of, _)| *of == marked).collect();
        if own.is_empty() {
            continue;
        }
        let dir = &disk.directory.dir;
        let failed = |source| MarksError::Database {
            dir: dir.clone(),
            source,
        };
        let db = Db::open(&dir.join(DATABASE), &shared).map_err(failed)?;
        roster::lift(&db, own.into_iter().copied()).map_err(failed)?;
        db.close();
        tracing::error!(disk = %marked, on = %disk.id(), "an operator has lifted a mark");
    }
    Ok(lifted)
}

fn shared(env: &Arc<dyn Env>, dir: &Path) -> Result<DbShared, MarksError> {
    DbShared::new(env.clone(), Resources::SMALL).map_err(|source| MarksError::Database {
        dir: dir.to_owned(),
        source,
    })
}

/// Reads the rosters of all given disks, from copies of their databases. A disk whose database
/// cannot be read has no marks that could be lifted, and is left out.
fn read(env: Arc<dyn Env>, directories: &[PathBuf]) -> Result<Vec<StoppedDisk>, MarksError> {
    let (disks, unusable) = identity::lock_only(directories, env.as_ref())?;
    for error in unusable {
        tracing::warn!(%error, "a directory is left out");
    }
    let mut read = Vec::new();
    for directory in disks {
        let scratch = ScratchDir::create(env.clone(), "marks-")?;
        let shared = shared(&env, &directory.dir)?;
        let db = Db::open_copy(&directory.dir.join(DATABASE), scratch.path(), &shared);
        let roster = db.and_then(|db| roster::read(&db, directory.identity.disk));
        match roster {
            Ok(roster) => read.push(StoppedDisk { directory, roster }),
            Err(error) => {
                tracing::warn!(%error, dir = %directory.dir.display(), "a disk is left out");
            }
        }
    }
    Ok(read)
}

fn marks_of(disks: &[StoppedDisk]) -> Vec<Mark> {
    let mut marks = Vec::new();
    for by in disks {
        for ((of, database), fault) in &by.roster.marks {
            let marked = disks.iter().find(|disk| disk.id() == *of);
            let own = marked.and_then(|disk| disk.roster.own.as_ref());
            // A mark of a database that was replaced since does no harm.
            let Some(marked) = marked.filter(|_| own.is_some_and(|own| own.database == *database))
            else {
                continue;
            };
            marks.push(Mark {
                of: marked.directory.dir.clone(),
                by: by.directory.dir.clone(),
                fault: match fault {
                    DatabaseFault::Unwritable => MarkedFault::Unwritable,
                    DatabaseFault::Damaged => MarkedFault::Damaged,
                },
            });
        }
    }
    marks
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::engine::{Engine, OpenError, Options};
    use crate::raft::disk::OpenDisk;
    use drystone_store::accounts::Accounts as _;
    use drystone_store::env::SystemEnv;
    use drystone_store::instance::Instance as _;
    use drystone_store::types::{Account, AccountId};

    fn account() -> Account {
        Account {
            id: AccountId("a".into()),
            canonical_id: String::new(),
            display_name: "a".into(),
        }
    }

    /// Retries while the last user of the disks has not released them yet.
    async fn stopped<T>(mut act: impl FnMut() -> Result<T, MarksError>) -> Result<T, MarksError> {
        loop {
            match act() {
                Err(MarksError::Directories(IdentityError::Locked { .. })) => {}
                Err(MarksError::Database { source, .. })
                    if source.to_string().contains("in use") => {}
                done => return done,
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// Makes each disk mark the databases of all others.
    async fn mark_all(directories: &[PathBuf]) {
        let (disks, _) = identity::lock_only(directories, &SystemEnv).unwrap();
        for by in &disks {
            let id = by.identity.disk;
            let db = Db::open(&by.dir.join(DATABASE), &DbShared::system()).unwrap();
            let by = OpenDisk { id, db };
            for of in disks.iter().filter(|of| of.identity.disk != id) {
                let marked = roster::mark_known(&by, of.identity.disk, DatabaseFault::Damaged);
                marked.await.unwrap();
            }
            by.db.close();
        }
    }

    /// Found by reading: a store whose disks had marked each other by a fault of the program
    /// refused each start, with all data and metadata intact, and there was nothing that an
    /// operator could say against it.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn b_66_an_operator_lifts_marks_that_are_wrong() {
        let root = tempfile::tempdir().unwrap();
        let directories: Vec<_> = (0..3).map(|n| root.path().join(format!("{n}"))).collect();
        let options = Options::new(directories.clone());
        let engine = Engine::open(options.clone()).await.unwrap();
        engine.put_account(account()).await.unwrap();
        engine.close().await;
        drop(engine);
        let env: Arc<dyn Env> = Arc::new(SystemEnv);
        let found = stopped(|| marks(env.clone(), &directories)).await;
        assert_eq!(found.unwrap(), []);
        mark_all(&directories).await;
        let refused = Engine::open(options.clone()).await.map(drop);
        assert!(
            matches!(refused, Err(OpenError::NoMajority { .. })),
            "{refused:?}"
        );

        let found = stopped(|| marks(env.clone(), &directories)).await.unwrap();
        assert_eq!(found.len(), 6);
        for of in &directories {
            let lifted = stopped(|| lift(env.clone(), &directories, of))
                .await
                .unwrap();
            assert!(lifted.len() == 2 && lifted.iter().all(|mark| mark.of == *of));
            let again = stopped(|| lift(env.clone(), &directories, of)).await;
            assert!(matches!(again, Err(MarksError::NotMarked { .. })));
        }
        let elsewhere = stopped(|| lift(env.clone(), &directories, root.path())).await;
        assert!(matches!(elsewhere, Err(MarksError::OtherDisk { .. })));
        let engine = Engine::open(options).await.unwrap();
        let found = engine.account(&account().id).await.unwrap();
        assert_eq!(found, Some(account()));
        engine.close().await;
    }
}
