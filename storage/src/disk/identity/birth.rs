//! A store's birth: its directories become disks.
//!
//! Empty directories become disks only together, at a store's first start. Each gets an identity
//! that is not yet *born*; when the metadata groups have committed, all are marked born, and only
//! then the first request is answered. Power goes before that: nothing was acknowledged, and the
//! next start turns the directories that are still empty into disks. Power goes between two marks:
//! one born disk proves that the birth was complete.

use std::io;
use std::path::{Path, PathBuf};

use super::directory::{DirectoryState, SHARDS, inspect, lock, newer, shard_folder};
use super::error::IdentityError;
use super::file::{self, Identity};
use drystone_store::crash::{Crash, DiskPoint};
use drystone_store::env::{Env, Files};
use drystone_store::types::DiskId;

/// Turns the directories that are not disks yet into disks. `begun` is one that an earlier start
/// created before it crashed.
pub(super) fn create_disks(
    dirs: &[PathBuf],
    states: &mut [DirectoryState],
    begun: Option<&Identity>,
    env: &dyn Env,
    crash: &Crash,
) -> Result<(), IdentityError> {
    if let Some(begun) = begun
        && begun.birth_disks as usize != dirs.len()
    {
        let (expected, given) = (begun.birth_disks, dirs.len());
        return Err(IdentityError::OtherBirth { expected, given });
    }
    // All are inspected before the first is touched.
    for (dir, look) in dirs.iter().zip(&mut *states) {
        match look {
            DirectoryState::Foreign => return Err(IdentityError::Foreign { dir: dir.clone() }),
            DirectoryState::Damaged => return Err(IdentityError::Damaged { dir: dir.clone() }),
            DirectoryState::Newer(version) => return Err(newer(dir, *version)),
            DirectoryState::Unreadable(error) => {
                let source = std::mem::replace(error, io::ErrorKind::Other.into());
                return Err(IdentityError::io(dir, source));
            }
            DirectoryState::Disk(_) | DirectoryState::Missing | DirectoryState::Empty => {}
        }
    }
    let template = begun.copied().unwrap_or_else(|| Identity {
        cluster: env.random(),
        node: env.random(),
        disk: DiskId([0; 16]),
        birth: env.random(),
        birth_disks: u32::try_from(dirs.len()).expect("the configuration bounds directories"),
        generation: 0,
        incarnation: 0,
        born: false,
    });
    for (dir, state) in dirs.iter().zip(states) {
        if let DirectoryState::Missing | DirectoryState::Empty = state {
            let identity = Identity {
                disk: DiskId(env.random()),
                ..template
            };
            let files = env.files();
            create_dir(files, dir)?;
            let _lock = lock(files, dir)?;
            // Another start may have turned it into a disk, and even used it, since the inspection
            // above.
            if !matches!(inspect(files, dir), Ok(DirectoryState::Empty)) {
                return Err(IdentityError::Locked { dir: dir.clone() });
            }
            file::write(files, dir, &identity, crash)?;
            *state = DirectoryState::Disk(identity);
        }
    }
    make_folders(dirs, env, crash)
}

/// Creates the folders of shards, also those that an interrupted birth left out. They come after
/// the identity, so a crash leaves no folder without an owner.
pub(super) fn make_folders(
    dirs: &[PathBuf],
    env: &dyn Env,
    crash: &Crash,
) -> Result<(), IdentityError> {
    let files = env.files();
    let make = |dir: &PathBuf| -> io::Result<()> {
        create_if_missing(files, &dir.join(SHARDS))?;
        for first in 0..=u8::MAX {
            create_if_missing(files, &shard_folder(dir, first))?;
        }
        files.sync_dir(&dir.join(SHARDS))?;
        files.sync_dir(dir)?;
        crash.pass_disk(DiskPoint::FoldersMade);
        Ok(())
    };
    // In parallel: each disk costs a few syncs, and the operator waits for a first start.
    let jobs = dirs.iter().map(|dir| {
        let make = &make;
        move || make(dir).map_err(|source| IdentityError::io(dir, source))
    });
    env.run_side_by_side(jobs.collect()).into_iter().collect()
}

fn create_if_missing(files: &dyn Files, folder: &Path) -> io::Result<()> {
    match files.create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Power goes here: a folder without an identity, which counts as empty.
fn create_dir(files: &dyn Files, dir: &Path) -> Result<(), IdentityError> {
    files
        .create_dir_all(dir)
        .map_err(|source| IdentityError::io(dir, source))?;
    // Parent folders may be new as well; each is durable once its own parent is synced.
    let absolute = files
        .canonicalize(dir)
        .map_err(|source| IdentityError::io(dir, source))?;
    for parent in absolute.ancestors().skip(1) {
        match files.sync_dir(parent) {
            Ok(()) => {}
            // A folder that we may not open was not changed by us.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => break,
            Err(source) => return Err(IdentityError::io(dir, source)),
        }
    }
    Ok(())
}
