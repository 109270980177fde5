//! The identity of a disk, and the lock against two processes.
//!
//! A directory is a disk of this store when its file `identity` says so. Nothing is ever written
//! into a directory whose identity was not read first. A mount that is missing, a disk of another
//! store or somebody's photographs are left alone and reported.

mod answer;
mod birth;
mod directory;
mod error;
mod file;
pub mod new_mount;
pub mod state_file;

use std::path::{Path, PathBuf};

use self::birth::{create_disks, make_folders};
use self::directory::{DirectoryState, LOCK_FILE, inspect, inspect_all, lock, newer, take};
use drystone_store::crash::Crash;
use drystone_store::env::{Env, Files, OpenMode};
use drystone_store::types::DiskId;

pub use self::answer::find_silent;
pub use self::directory::{DiskDirectory, forget_identity, is_still, shard_folder};
pub use self::error::IdentityError;
pub use self::file::Identity;

/// The state of the given directories.
#[derive(Debug)]
pub struct StoreDirectories {
    /// In the order given.
    pub disks: Vec<DiskDirectory>,
    /// Directories that should be disks of this store and are not usable, and why.
    pub lost: Vec<IdentityError>,
    /// No disk is born yet: the metadata has to be created.
    pub birth: bool,
}

/// Reads the identities in `dirs`, creates the disks of a birth, and locks them all. Those that are
/// `silent` are not touched.
pub fn claim_all(
    dirs: &[PathBuf],
    silent: &[PathBuf],
    env: &dyn Env,
    crash: &Crash,
) -> Result<StoreDirectories, IdentityError> {
    let mut states = inspect_all(env.files(), dirs, silent)?;
    let known: Vec<Identity> = states.iter().filter_map(DirectoryState::identity).collect();
    let begun = |identity: &Identity| !identity.born && identity.birth_disks > 0;
    let birth = known.iter().all(begun);
    if birth {
        create_disks(dirs, &mut states, known.first(), env, crash)?;
    }
    let mut found = StoreDirectories {
        disks: Vec::new(),
        lost: Vec::new(),
        birth,
    };
    for (dir, look) in dirs.iter().zip(states) {
        match look {
            DirectoryState::Disk(identity) => match claim_disk(env.files(), dir, identity, crash) {
                Ok(disk) => found.disks.push(disk),
                // The disk can be read but not written (F-09): the others work without it. A birth
                // needs all.
                Err(error @ IdentityError::Io { .. }) if !birth => found.lost.push(error),
                Err(error) => return Err(error),
            },
            other => found.lost.extend(other.unusable(dir)),
        }
    }
    Ok(found)
}

fn claim_disk(
    files: &dyn Files,
    dir: &Path,
    identity: Identity,
    crash: &Crash,
) -> Result<DiskDirectory, IdentityError> {
    let dir = dir.to_owned();
    let _lock = lock(files, &dir)?;
    // Another start may have run between the inspection and the lock.
    let now = inspect(files, &dir).map_err(|source| IdentityError::io(&dir, source))?;
    if now.identity() != Some(identity) {
        return Err(IdentityError::Locked { dir });
    }
    file::repair(files, &dir, &identity, crash);
    Ok(DiskDirectory {
        dir,
        identity,
        _lock,
    })
}

/// Reads the identities in `dirs` and locks the disks without changing anything, for an examination
/// of a stopped store. Directories that are no disk of it are returned with the reason.
pub fn lock_only(
    dirs: &[PathBuf],
    env: &dyn Env,
) -> Result<(Vec<DiskDirectory>, Vec<IdentityError>), IdentityError> {
    let files = env.files();
    let (mut disks, mut lost) = (Vec::new(), Vec::new());
    for (dir, look) in dirs.iter().zip(inspect_all(files, dirs, &[])?) {
        match look {
            DirectoryState::Disk(identity) => {
                let open = files.open(&dir.join(LOCK_FILE), OpenMode::Read);
                let _lock = take(dir, open.map_err(|source| IdentityError::io(dir, source))?)?;
                let dir = dir.clone();
                disks.push(DiskDirectory {
                    dir,
                    identity,
                    _lock,
                });
            }
            other => lost.extend(other.unusable(dir)),
        }
    }
    Ok((disks, lost))
}

/// Turns an empty directory into a disk of the store that `of` is a disk of. The disk is not born,
/// and unusable, until the store has recorded it as its own; a repeated call before that returns
/// the same disk.
///
/// Power goes here: an identity that the store does not know, which no start uses.
pub fn adopt(
    dir: &Path,
    of: &Identity,
    env: &dyn Env,
    crash: &Crash,
) -> Result<DiskDirectory, IdentityError> {
    let files = env.files();
    let state = inspect(files, dir).map_err(|source| IdentityError::io(dir, source))?;
    let (dir, begun) = (dir.to_owned(), state.identity());
    let identity = match state {
        DirectoryState::Empty => Identity {
            disk: DiskId(env.random()),
            birth_disks: 0,
            generation: 0,
            born: false,
            ..*of
        },
        DirectoryState::Disk(disk) if !disk.born && disk.cluster == of.cluster => disk,
        DirectoryState::Disk(_) => return Err(IdentityError::Used { dir }),
        DirectoryState::Missing => return Err(IdentityError::Missing { dir }),
        DirectoryState::Foreign => return Err(IdentityError::Foreign { dir }),
        DirectoryState::Damaged => return Err(IdentityError::Damaged { dir }),
        DirectoryState::Newer(version) => return Err(newer(&dir, version)),
        DirectoryState::Unreadable(source) => return Err(IdentityError::io(&dir, source)),
    };
    let _lock = lock(files, &dir)?;
    // Another process may have come between the inspection and the lock.
    let now = inspect(files, &dir).map_err(|source| IdentityError::io(&dir, source))?;
    if now.identity() != begun {
        return Err(IdentityError::Locked { dir });
    }
    file::write(files, &dir, &identity, crash)?;
    make_folders(std::slice::from_ref(&dir), env, crash)?;
    Ok(DiskDirectory {
        dir,
        identity,
        _lock,
    })
}

/// Marks a disk as born, once the metadata is committed.
pub fn mark_born(
    disk: &mut DiskDirectory,
    env: &dyn Env,
    crash: &Crash,
) -> Result<(), IdentityError> {
    let identity = Identity {
        born: true,
        ..disk.identity
    };
    file::write(env.files(), &disk.dir, &identity, crash)?;
    disk.identity = identity;
    Ok(())
}

#[cfg(test)]
mod tests;
