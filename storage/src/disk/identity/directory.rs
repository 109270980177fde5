//! Directories: their content, and the lock on them.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::IdentityError;
use super::file::{self, Content, Identity};
use drystone_store::env::{File, Files, OpenMode};
use drystone_store::types::DiskId;

pub(super) const LOCK_FILE: &str = "lock";
pub(super) const SHARDS: &str = "shards";
/// Names that may lie in an empty directory: the file system's own, and leftovers of an interrupted
/// birth.
const IN_EMPTY: [&str; 4] = ["lost+found", file::NEW_FILE, file::COPY_FILE, LOCK_FILE];

/// A directory whose identity is known, locked by this process while this or a clone of it lives.
#[derive(Clone, Debug)]
pub struct DiskDirectory {
    pub dir: PathBuf,
    pub identity: Identity,
    pub(super) _lock: Arc<dyn File>,
}

/// Returns whether the directory still is the disk that it was. An error means that nobody can
/// know.
pub fn is_still(files: &dyn Files, dir: &Path, disk: DiskId) -> io::Result<bool> {
    use io::ErrorKind::{NotADirectory, NotFound};
    match file::read(files, dir) {
        Ok(Content::Known(identity)) => Ok(identity.disk == disk),
        Ok(Content::Newer(_) | Content::Damaged) => Ok(false),
        Err(e) if matches!(e.kind(), NotADirectory | NotFound) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Drops what memory has of a disk's identity, so that the next look at it asks the disk.
pub fn forget_identity(files: &dyn Files, dir: &Path) -> io::Result<()> {
    files
        .open(&dir.join(file::FILE), OpenMode::Read)?
        .drop_cache()
}

/// Returns the folder of the shards whose write id begins with this byte.
pub fn shard_folder(dir: &Path, first: u8) -> PathBuf {
    dir.join(SHARDS).join(format!("{first:02x}"))
}

pub(super) enum DirectoryState {
    Disk(Identity),
    Missing,
    Empty,
    Foreign,
    Damaged,
    /// A newer version of the program wrote it, in this format version.
    Newer(u16),
    Unreadable(io::Error),
}

impl DirectoryState {
    pub(super) fn identity(&self) -> Option<Identity> {
        match self {
            DirectoryState::Disk(identity) => Some(*identity),
            _ => None,
        }
    }

    /// Returns why the directory cannot be used as a disk; `None` if it can.
    pub(super) fn unusable(self, dir: &Path) -> Option<IdentityError> {
        let dir = dir.to_owned();
        Some(match self {
            DirectoryState::Disk(_) => return None,
            DirectoryState::Missing => IdentityError::Missing { dir },
            DirectoryState::Empty => IdentityError::Empty { dir },
            DirectoryState::Foreign => IdentityError::Foreign { dir },
            DirectoryState::Damaged => IdentityError::Damaged { dir },
            DirectoryState::Newer(version) => newer(&dir, version),
            DirectoryState::Unreadable(source) => IdentityError::Io { dir, source },
        })
    }
}

pub(super) fn inspect(files: &dyn Files, dir: &Path) -> io::Result<DirectoryState> {
    match file::read(files, dir) {
        Ok(content) => {
            return Ok(match content {
                Content::Known(identity) => DirectoryState::Disk(identity),
                Content::Newer(version) => DirectoryState::Newer(version),
                Content::Damaged => DirectoryState::Damaged,
            });
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // A component of the path is a file, or the disk does not answer.
        Err(error) => return Err(error),
    }
    let names = match files.list(dir) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(DirectoryState::Missing);
        }
        Err(error) => return Err(error),
    };
    for name in names {
        let name = name?;
        if !IN_EMPTY.iter().any(|allowed| name == *allowed) {
            return Ok(DirectoryState::Foreign);
        }
    }
    Ok(DirectoryState::Empty)
}

/// Inspects directories that may be those of one store, but for those that are `silent`.
pub(super) fn inspect_all(
    files: &dyn Files,
    dirs: &[PathBuf],
    silent: &[PathBuf],
) -> Result<Vec<DirectoryState>, IdentityError> {
    if dirs.is_empty() {
        return Err(IdentityError::None);
    }
    refuse_twice(files, dirs, silent)?;
    let look = |dir: &PathBuf| match silent.contains(dir) {
        true => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "its disk does not answer",
        )),
        false => inspect(files, dir),
    };
    let states: Vec<DirectoryState> = dirs
        .iter()
        .map(|dir| look(dir).unwrap_or_else(DirectoryState::Unreadable))
        .collect();
    for (dir, state) in dirs.iter().zip(&states) {
        if let DirectoryState::Newer(version) = state {
            // One such disk is enough: the others may have rows of that version as well.
            return Err(newer(dir, *version));
        }
    }
    refuse_mixed(dirs, &states)?;
    Ok(states)
}

pub(super) fn newer(dir: &Path, found: u16) -> IdentityError {
    IdentityError::Newer {
        dir: dir.to_owned(),
        found,
        known: file::VERSION,
    }
}

fn refuse_twice(
    files: &dyn Files,
    dirs: &[PathBuf],
    silent: &[PathBuf],
) -> Result<(), IdentityError> {
    let mut seen = HashSet::new();
    let mut paths = HashSet::new();
    for dir in dirs {
        // A directory that does not exist yet, or whose disk hangs, can only be compared by its
        // path.
        let id = (!silent.contains(dir)).then(|| files.identify(dir));
        let is_new = match id {
            Some(Ok(id)) => seen.insert(id),
            Some(Err(_)) | None => paths.insert(dir),
        };
        if !is_new {
            return Err(IdentityError::Twice { dir: dir.clone() });
        }
    }
    Ok(())
}

fn refuse_mixed(dirs: &[PathBuf], states: &[DirectoryState]) -> Result<(), IdentityError> {
    let disks: Vec<(&PathBuf, Identity)> = dirs
        .iter()
        .zip(states)
        .filter_map(|(dir, look)| Some((dir, look.identity()?)))
        .collect();
    for (n, (dir, identity)) in disks.iter().enumerate() {
        let (first, one) = &disks[0];
        if identity.cluster != one.cluster {
            let (one, other) = (first.to_path_buf(), dir.to_path_buf());
            return Err(IdentityError::OtherStore { one, other });
        }
        if let Some((original, _)) = disks[..n].iter().find(|(_, i)| i.disk == identity.disk) {
            let (original, copy) = (original.to_path_buf(), dir.to_path_buf());
            return Err(IdentityError::Copy { original, copy });
        }
    }
    Ok(())
}

pub(super) fn lock(files: &dyn Files, dir: &Path) -> Result<Arc<dyn File>, IdentityError> {
    let open = files.open(&dir.join(LOCK_FILE), OpenMode::Create);
    take(dir, open.map_err(|source| IdentityError::io(dir, source))?)
}

pub(super) fn take(dir: &Path, file: Arc<dyn File>) -> Result<Arc<dyn File>, IdentityError> {
    match file.try_lock() {
        Ok(true) => Ok(file),
        Ok(false) => Err(IdentityError::Locked {
            dir: dir.to_owned(),
        }),
        Err(source) => Err(IdentityError::io(dir, source)),
    }
}
