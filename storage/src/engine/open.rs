//! From directories to a store that answers.
//!
//! Identities and locks, the disks' databases, the metadata groups, and only then the disks as
//! disks for shards and the upkeep. At the store's first start the groups commit before any disk
//! is marked born: power before that, and the next start makes what is missing; after the first
//! mark, an empty directory is a lost disk.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::databases::{self, Broken, Databases, Ready};
use super::disk_set::{DiskSet, directory_of};
use super::names::Names;
use super::open_error::{Hindered, OpenError};
use super::workers::Workers;
use super::{Engine, Options};
use crate::db::DbShared;
use crate::disk::Disk;
use crate::disk::identity::{self, Identity, IdentityError, StoreDirectories, state_file};
use crate::disk::local::{LocalDisk, Reserve};
use crate::meta::command::Change;
use crate::meta::view::{Availability, DiskRow};
use crate::raft::disk::OpenDisk;
use crate::raft::proposer::Proposer;
use crate::raft::recovery::decision::StartError;
use crate::raft::recovery::recover::Standstill;
use crate::raft::recovery::start::{GroupStart, Groups, StartOutcome, start_groups};
use crate::shards::{DAMAGE_QUEUE_LEN_MAX, Shards};
use drystone_store::env::Env;
use drystone_store::error::Error;
use drystone_store::types::DiskId;

impl Engine {
    /// Returns once the store answers reads and writes.
    pub async fn open(options: Options) -> Result<Arc<Engine>, OpenError> {
        let classes = options.geometries()?;
        let shared = DbShared::new(options.env.clone(), options.resources());
        let shared = shared.map_err(Error::from)?;
        let shared = shared.with_crash(options.crash.clone());
        let opened = open_metadata(&options, &shared, classes.losses()).await?;
        let Opened {
            mut ready,
            groups,
            birth,
            lost,
        } = opened;
        let system = Proposer::new(options.env.clone(), groups.system.clone()).await?;
        let objects = Proposer::new(options.env.clone(), groups.objects.clone()).await?;
        let mut refused = BTreeMap::new();
        ready = roll_call(ready, &groups, &system, &mut refused).await?;
        let disk_set = DiskSet::new(&options, &ready, shared, refused, lost)?;
        ready = mark_born(options.env.as_ref(), ready, birth).await?;
        for disk in &ready {
            disk_set.add(disk.settled.clone(), disk.db.clone());
        }
        let directories = ready.iter().map(|disk| disk.settled.dir.clone());
        disk_set.note(directories.collect()).await;
        let opening = options.env.spawn_blocking(move || open_disks(ready));
        let disks = opening.await.map_err(|_| Error::Closing)??;
        let (damage, damaged) = mpsc::channel(DAMAGE_QUEUE_LEN_MAX);
        let shards = Arc::new(Shards::new(options.env.clone(), disks, classes, damage));
        let workers = Workers::new(&system, &objects, &shards, options.renew_after).await?;
        let engine = Arc::new(Engine {
            env: options.env.clone(),
            system,
            objects,
            shards,
            names: Names::default(),
            disks: disk_set,
            workers,
        });
        engine.finish_deletions().await?;
        engine.workers.start(&engine, &options, damaged);
        Ok(engine)
    }
}

async fn settle(options: &Options) -> Result<StoreDirectories, OpenError> {
    let Options {
        directories,
        state_file,
        new_store,
        env,
        crash,
        ..
    } = options.clone();
    let silent = identity::find_silent(&directories, &env).await;
    let for_work = env.clone();
    let found = env.spawn_blocking(move || {
        // A disk that does not answer may hold the store.
        if let Some(path) = state_file.filter(|_| !new_store && silent.is_empty()) {
            state_file::refuse_second_birth(&path, &directories, for_work.files())?;
        }
        identity::claim_all(&directories, &silent, for_work.as_ref(), &crash)
    });
    Ok(found.await.map_err(|_| Error::Closing)??)
}

/// The disks and groups of a store that answers.
struct Opened {
    ready: Vec<Ready>,
    groups: Groups,
    /// It is the store's first start.
    birth: bool,
    /// The directories that are no disks now, and why.
    lost: Vec<(PathBuf, String)>,
}

/// Opens disks and groups until they answer.
///
/// Where a majority is missing, but the disks that are here could go on by themselves, those that
/// are not are waited for once.
async fn open_metadata(
    options: &Options,
    shared: &DbShared,
    losses: usize,
) -> Result<Opened, OpenError> {
    let given = options.directories.len();
    let mut waited = false;
    loop {
        let StoreDirectories { disks, lost, birth } = settle(options).await?;
        for error in &lost {
            tracing::error!(%error, "a disk is lost");
        }
        let mut databases = databases::open_all(disks, birth, shared).await?;
        databases.refuse(true)?;
        // Where it is only for databases that are damaged, waiting brings nothing.
        let all_here = lost.is_empty() && databases.hindered.is_empty();
        let may_recover = waited || (all_here && !databases.broken.is_empty());
        let start = if birth {
            GroupStart::Birth
        } else {
            GroupStart::Restart { may_recover }
        };
        // Each turn but the last finds another database that fails as it is used.
        let started = loop {
            let (open, damaged) = (open(&databases.ready), damage(&databases.broken));
            let started = start_groups(&open, damaged, start, losses).await;
            drop(open);
            match started {
                Ok(started) if !answers(&started.groups, &mut databases).await? => {}
                started => break started,
            }
            databases.refuse(true)?;
        };
        match started {
            Ok(started) => {
                let mut lost: Vec<_> = lost
                    .iter()
                    .map(|error| (error.dir().to_owned(), error.to_string()))
                    .collect();
                let (ready, groups) = complete(databases, started, shared, &mut lost).await?;
                return Ok(Opened {
                    ready,
                    groups,
                    birth,
                    lost,
                });
            }
            Err(StartError::Standstill(Standstill::NoMajority)) if !waited => {
                tracing::error!(up = databases.ready.len(), given, wait = ?options.recover_after,
                    "most copies of the metadata are missing: waiting for their disks, and then \
                     going on from the others alone");
                drop(databases);
                options.env.sleep(options.recover_after).await;
                waited = true;
            }
            Err(error) => {
                databases.refuse(false)?;
                return Err(refused(error, &databases.ready, given));
            }
        }
    }
}

/// Waits until both groups answer. False: a database failed instead, as one does that is damaged
/// where nobody looked before; it is marked, if it is not to be used again, and all must be thought
/// over without it.
///
/// Power goes before it is marked: the next start finds it so again.
async fn answers(groups: &Groups, databases: &mut Databases) -> Result<bool, OpenError> {
    let failures = databases.ready.iter().map(|disk| {
        let mut failure = disk.db.failure();
        Box::pin(async move { failure.wait_for(Option::is_some).await.is_ok() })
    });
    let failure = futures_util::future::select_all(failures);
    let both = async { futures_util::try_join!(groups.system.ready(), groups.objects.ready()) };
    tokio::select! {
        biased;
        _ = failure => {}
        answered = both => return Ok(answered.map(|_| true)?),
    }
    for disk in databases.take_failed() {
        groups.mark(disk).await;
    }
    groups.system.shutdown().await;
    groups.objects.shutdown().await;
    Ok(false)
}

fn refused(error: StartError, ready: &[Ready], given: usize) -> OpenError {
    match error {
        StartError::Standstill(source @ Standstill::TooFew { .. }) => {
            let up = ready.len();
            OpenError::NoMajority { up, given, source }
        }
        StartError::Standstill(Standstill::SplitBrain { one, other }) => {
            let dir = |disk| {
                let is = |ready: &&Ready| ready.settled.identity.disk == disk;
                let found = ready.iter().find(is);
                found.map_or_else(PathBuf::new, |ready| ready.settled.dir.clone())
            };
            let (one, other) = (dir(one), dir(other));
            OpenError::Directories(IdentityError::SplitBrain { one, other })
        }
        StartError::Standstill(standstill) => OpenError::Metadata(standstill),
        StartError::Store(error) => OpenError::Store(error),
    }
}

fn open(ready: &[Ready]) -> Vec<OpenDisk> {
    let open = |ready: &Ready| OpenDisk {
        id: ready.settled.identity.disk,
        db: ready.db.clone(),
    };
    ready.iter().map(open).collect()
}

fn damage(broken: &[Broken]) -> Vec<(DiskId, String)> {
    let damage = |broken: &Broken| (broken.settled.identity.disk, broken.why.clone());
    broken.iter().map(damage).collect()
}

/// Once the groups answer: takes in the disks that they were to answer without.
async fn complete(
    mut found: Databases,
    mut started: StartOutcome,
    shared: &DbShared,
    lost: &mut Vec<(PathBuf, String)>,
) -> Result<(Vec<Ready>, Groups), OpenError> {
    let groups = started.groups.clone();
    let epoch = groups.objects.read(|view| view.epochs()).await?.epoch;
    // Those that were not to be read count as damaged so far.
    found.take_hindered();
    let Databases {
        ready,
        mut broken,
        hindered,
    } = found;
    lost.extend(
        hindered
            .into_iter()
            .map(|Hindered { dir, hindrance }| (dir, hindrance.to_string())),
    );
    let (mut usable, mut databases) = (Vec::new(), Vec::new());
    for Ready { settled, db } in ready {
        let id = settled.identity.disk;
        match started.damaged.iter().find(|(disk, _)| *disk == id) {
            Some((_, why)) => {
                let why = why.clone();
                broken.push(Broken { settled, why });
            }
            None => usable.push(Ready { settled, db }),
        }
    }
    let (stale, mut unlisted) = (started.stale(), Vec::new());
    for disk in usable
        .iter()
        .filter(|disk| stale.contains(&disk.settled.identity.disk))
    {
        tracing::warn!(dir = %disk.settled.dir.display(),
            "a disk is an older copy of itself: its metadata is rebuilt");
        if let Err(error) = databases::list_again(disk, epoch).await {
            tracing::error!(%error, dir = %disk.settled.dir.display(), "a disk is lost");
            unlisted.push(disk.settled.identity.disk);
        }
    }
    usable.retain(|disk| !unlisted.contains(&disk.settled.identity.disk));
    started.exclude(&unlisted);
    started.admit_leftovers().await?;
    for broken in broken {
        match databases::replace(broken, shared, epoch).await {
            Ok(disk) => databases.push(disk),
            Err((settled, error)) => {
                tracing::error!(%error, dir = %settled.dir.display(), "a disk is lost");
            }
        }
    }
    for disk in open(&databases) {
        started.join(&disk).await?;
    }
    usable.extend(databases);
    Ok((usable, groups))
}

/// Leaves out the disks that group 0 does not count among its own, and writes down the others.
///
/// Power goes before a birth's disks are written down: none is marked born, and the next start does
/// it. So once there are rows, a disk without one that is not born was to replace another, and its
/// making was cut before it was the store's.
async fn roll_call(
    ready: Vec<Ready>,
    groups: &Groups,
    system: &Proposer,
    refused: &mut BTreeMap<String, String>,
) -> Result<Vec<Ready>, Error> {
    let known: HashMap<DiskId, DiskRow> = {
        let rows = groups.system.read(|view| view.disks()).await?;
        rows.into_iter().collect()
    };
    let mut own = Vec::new();
    for disk in ready {
        let Identity { disk: id, born, .. } = disk.settled.identity;
        let why = match known.get(&id) {
            Some(row) if row.availability == Availability::Removed => {
                "it was replaced or removed, and what it had was rebuilt: empty it to use it \
                 again"
            }
            None if !known.is_empty() && !born => {
                "it was to replace another disk and that was not finished: repeat the command"
            }
            _ => {
                own.push(disk);
                continue;
            }
        };
        tracing::error!(disk = %id, dir = %disk.settled.dir.display(), why, "a disk is not used");
        for group in [&groups.system, &groups.objects] {
            group.remove_disk(id);
        }
        refused.insert(directory_of(&disk.settled), why.to_owned());
    }
    let here = own
        .iter()
        .map(|d| (d.settled.identity.disk, directory_of(&d.settled)));
    let news = |(id, directory): &(DiskId, String)| {
        let row = known.get(id);
        !row.is_some_and(|row| row.availability == Availability::Up && row.directory == *directory)
    };
    let disks: Vec<_> = here.filter(news).collect();
    if !disks.is_empty() {
        system.propose(Change::RegisterDisks { disks }).await?;
    }
    Ok(own)
}

/// Marks the disks that are not marked yet: at a birth all of them, later those that a cut birth
/// left out, so that none is ever taken for one of a store that never was.
async fn mark_born(
    env: &dyn Env,
    mut disks: Vec<Ready>,
    birth: bool,
) -> Result<Vec<Ready>, OpenError> {
    let marked = env.spawn_blocking(move || {
        let unmarked = disks.iter_mut().filter(|disk| !disk.settled.identity.born);
        for Ready { settled, db } in unmarked {
            match identity::mark_born(settled, db.env().as_ref(), db.crash()) {
                Err(error) if birth => return Err(error),
                Err(error) => tracing::warn!(%error, "a disk is not marked born"),
                Ok(()) => {}
            }
        }
        Ok::<_, IdentityError>(disks)
    });
    Ok(marked.await.map_err(|_| Error::Closing)??)
}

/// Opens the disks for shards. Blocks.
fn open_disks(ready: Vec<Ready>) -> Result<Vec<Arc<dyn Disk>>, OpenError> {
    let mut disks: Vec<Arc<dyn Disk>> = Vec::new();
    for Ready { settled, db } in ready {
        let dir = settled.dir.clone();
        let disk = LocalDisk::open(settled, db, Reserve::default());
        disks.push(Arc::new(disk.map_err(|e| OpenError::Disk {
            dir,
            source: e.into(),
        })?));
    }
    Ok(disks)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;
    use drystone_store::crash::Crash;
    use drystone_store::env::SystemEnv;
    use drystone_store::instance::Instance as _;

    #[tokio::test]
    async fn f_14_a_birth_cut_between_two_marks_is_finished_by_the_next_start() {
        let root = tempfile::tempdir().unwrap();
        let directories: Vec<_> = (0..4).map(|n| root.path().join(format!("{n}"))).collect();
        drop(identity::claim_all(&directories, &[], &SystemEnv, &Crash::default()).unwrap());
        let unmarked: Vec<_> = directories[1..]
            .iter()
            .map(|dir| {
                (
                    dir.join("identity"),
                    fs::read(dir.join("identity")).unwrap(),
                )
            })
            .collect();
        let options = Options::new(directories.clone());
        let engine = Engine::open(options.clone()).await.unwrap();
        engine.close().await;
        drop(engine);
        for (path, identity) in &unmarked {
            fs::write(path, identity).unwrap();
        }
        // A look at the disk that is still under way holds its lock.
        let engine = loop {
            match Engine::open(options.clone()).await {
                Err(
                    OpenError::Directories(IdentityError::Locked { .. })
                    | OpenError::Hindered { .. },
                ) => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                opened => break opened.unwrap(),
            }
        };
        engine.close().await;
        drop(engine);
        // Without the one that was marked, it is no birth all the same.
        fs::remove_dir_all(&directories[0]).unwrap();
        let found = loop {
            match identity::claim_all(&directories, &[], &SystemEnv, &Crash::default()) {
                Err(IdentityError::Locked { .. }) => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                found => break found.unwrap(),
            }
        };
        assert!(!found.birth && !directories[0].exists());
    }

    async fn reopened(options: &Options) -> Arc<Engine> {
        loop {
            // What is still under way in the last one holds locks.
            tokio::time::sleep(Duration::from_millis(200)).await;
            match Engine::open(options.clone()).await {
                Err(
                    OpenError::Directories(IdentityError::Locked { .. })
                    | OpenError::Hindered { .. },
                ) => {}
                opened => return opened.unwrap(),
            }
        }
    }

    /// StoreDirectories by reading: as its files could not be listed, no start came to its end.
    #[tokio::test]
    async fn f_14_an_older_copy_that_lacks_folders_costs_its_disk_and_no_more() {
        let root = tempfile::tempdir().unwrap();
        let directories: Vec<_> = (0..4).map(|n| root.path().join(format!("{n}"))).collect();
        let options = Options::new(directories.clone());
        let copy = root.path().join("copy");
        for _ in 0..2 {
            let engine = reopened(&options).await;
            engine.close().await;
            drop(engine);
            if !copy.exists() {
                let mut cp = std::process::Command::new("cp");
                cp.arg("-r").arg(&directories[1]).arg(&copy);
                assert!(cp.status().unwrap().success());
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        fs::remove_dir_all(&directories[1]).unwrap();
        fs::rename(&copy, &directories[1]).unwrap();
        fs::remove_dir(directories[1].join("shards/07")).unwrap();
        let engine = reopened(&options).await;
        let health = engine.health().await;
        assert_eq!((health.disks_online, health.can_write), (3, true));
        engine.close().await;
    }
}
