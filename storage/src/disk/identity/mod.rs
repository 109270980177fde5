//! Who a disk is, and the lock against two processes.
//!
//! A directory is a disk of this store when its file `identity` says so. Nothing is ever written
//! into a directory whose identity was not read first, so a mount that is missing, a disk of
//! another store or somebody's photographs are left alone and told in a sentence.

mod birth;
mod file;

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::birth::{give_birth, make_folders};
use drystone_store::crash::Crash;
use drystone_store::env::{Env, File, Files, OpenMode};
use drystone_store::types::DiskId;

const LOCK_FILE: &str = "lock";
const SHARDS: &str = "shards";
/// What an empty directory may hold: the file system's own, and what a cut birth leaves.
const IN_EMPTY: [&str; 4] = ["lost+found", file::NEW_FILE, file::COPY_FILE, LOCK_FILE];

/// The content of the file `identity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub cluster: [u8; 16],
    pub node: [u8; 16],
    pub disk: DiskId,
    /// Names the first start that made this disk, and how many it was to make; none, if the disk
    /// came later.
    pub birth: [u8; 16],
    pub birth_disks: u32,
    /// Counts how often the disk was made anew under its id.
    pub generation: u64,
    /// Counts the store's recoveries: a disk of a lower one comes back as an empty one.
    pub incarnation: u64,
    pub born: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("{}: {source}", dir.display())]
    Io { dir: PathBuf, source: io::Error },
    #[error("{}: given twice; give each directory once", dir.display())]
    Twice { dir: PathBuf },
    #[error(
        "{}: holds other files; give an empty directory, or a new one inside it",
        dir.display()
    )]
    Foreign { dir: PathBuf },
    #[error(
        "{}: its identity is damaged; leave it out, or empty it and say `admin disk replace` \
         replaced",
        dir.display()
    )]
    Damaged { dir: PathBuf },
    #[error(
        "{}: is empty, but the other directories hold a store; is its disk mounted? If it is to \
         take the place of a lost one, say `admin disk replace`",
        dir.display()
    )]
    Empty { dir: PathBuf },
    #[error("{}: is not there; is its disk mounted?", dir.display())]
    Missing { dir: PathBuf },
    #[error(
        "{} and {} belong to different stores; start each store with its own directories",
        one.display(),
        other.display()
    )]
    OtherStore { one: PathBuf, other: PathBuf },
    #[error(
        "{} and {} each went on alone when other disks of the store were lost; start with the \
         disks that went on with the one or with the other, never with both",
        one.display(),
        other.display()
    )]
    TwoHalves { one: PathBuf, other: PathBuf },
    #[error(
        "{} is a copy of {}; start with one of the two",
        copy.display(),
        original.display()
    )]
    Copy { original: PathBuf, copy: PathBuf },
    #[error(
        "the store's first start was cut while it made {expected} disks, but {given} directories \
         are given; give the same ones again"
    )]
    OtherBirth { expected: u32, given: usize },
    #[error("{}: is a disk already; empty it first if nothing on it is needed", dir.display())]
    Used { dir: PathBuf },
    #[error("{}: is in use by another process", dir.display())]
    Locked { dir: PathBuf },
    #[error("no directory was given")]
    None,
}

impl IdentityError {
    /// The directory that is to blame, or one of them.
    pub fn dir(&self) -> &Path {
        match self {
            IdentityError::Io { dir, .. }
            | IdentityError::Twice { dir }
            | IdentityError::Foreign { dir }
            | IdentityError::Damaged { dir }
            | IdentityError::Empty { dir }
            | IdentityError::Missing { dir }
            | IdentityError::Used { dir }
            | IdentityError::Locked { dir }
            | IdentityError::OtherStore { one: dir, .. }
            | IdentityError::TwoHalves { one: dir, .. }
            | IdentityError::Copy { copy: dir, .. } => dir,
            IdentityError::OtherBirth { .. } | IdentityError::None => Path::new(""),
        }
    }
}

/// A directory whose identity is known, locked by this process while this or a clone of it lives.
#[derive(Clone, Debug)]
pub struct DiskDirectory {
    pub dir: PathBuf,
    pub identity: Identity,
    _lock: Arc<dyn File>,
}

/// What the given directories are.
#[derive(Debug)]
pub struct StoreDirectories {
    /// In the order given.
    pub disks: Vec<DiskDirectory>,
    /// Directories that should be disks of this store and are not usable, and why.
    pub lost: Vec<IdentityError>,
    /// No disk is born yet: the metadata is to be made.
    pub birth: bool,
}

/// Reads the identities in `dirs`, makes the disks of a birth, and locks them all.
pub fn claim_all(
    dirs: &[PathBuf],
    env: &dyn Env,
    crash: &Crash,
) -> Result<StoreDirectories, IdentityError> {
    let mut states = inspect_all(env.files(), dirs)?;
    let known: Vec<Identity> = states.iter().filter_map(DirectoryState::identity).collect();
    let begun = |identity: &Identity| !identity.born && identity.birth_disks > 0;
    let birth = known.iter().all(begun);
    if birth {
        give_birth(dirs, &mut states, known.first(), env, crash)?;
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
                // It can be read and not be written (F-09): the others go on without it. A birth
                // takes all.
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
    // Another start may have come in between the look and the lock.
    let now = inspect(files, &dir).map_err(|source| at(&dir, source))?;
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

/// Reads the identities in `dirs` and locks the disks, without a change to anything: for a look at
/// a store that is stopped. Directories that are no disk of it are given with the reason.
pub fn lock_only(
    dirs: &[PathBuf],
    env: &dyn Env,
) -> Result<(Vec<DiskDirectory>, Vec<IdentityError>), IdentityError> {
    let files = env.files();
    let (mut disks, mut lost) = (Vec::new(), Vec::new());
    for (dir, look) in dirs.iter().zip(inspect_all(files, dirs)?) {
        match look {
            DirectoryState::Disk(identity) => {
                let open = files.open(&dir.join(LOCK_FILE), OpenMode::Read);
                let _lock = take(dir, open.map_err(|source| at(dir, source))?)?;
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

/// Makes a disk of an empty directory for the store that `of` is a disk of. It is not born, and
/// of no use, until the store has written down that it is its own; asked again before that, it
/// gives the same disk.
///
/// Power goes here: an identity that the store does not know, which no start uses.
pub fn adopt(
    dir: &Path,
    of: &Identity,
    env: &dyn Env,
    crash: &Crash,
) -> Result<DiskDirectory, IdentityError> {
    let files = env.files();
    let state = inspect(files, dir).map_err(|source| at(dir, source))?;
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
        DirectoryState::Unreadable(source) => return Err(at(&dir, source)),
    };
    let _lock = lock(files, &dir)?;
    // Another process may have come in between the look and the lock.
    let now = inspect(files, &dir).map_err(|source| at(&dir, source))?;
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

/// Whether the directory still is the disk that it was. An error: it could not be asked.
pub fn is_still(files: &dyn Files, dir: &Path, disk: DiskId) -> io::Result<bool> {
    use io::ErrorKind::{NotADirectory, NotFound};
    match file::read(files, dir) {
        Ok(identity) => Ok(identity.is_some_and(|identity| identity.disk == disk)),
        Err(e) if matches!(e.kind(), NotADirectory | NotFound) => Ok(false),
        Err(e) => Err(e),
    }
}

/// The folder of the shards whose write id begins with this byte.
pub fn shard_folder(dir: &Path, first: u8) -> PathBuf {
    dir.join(SHARDS).join(format!("{first:02x}"))
}

enum DirectoryState {
    Disk(Identity),
    Missing,
    Empty,
    Foreign,
    Damaged,
    Unreadable(io::Error),
}

impl DirectoryState {
    fn identity(&self) -> Option<Identity> {
        match self {
            DirectoryState::Disk(identity) => Some(*identity),
            _ => None,
        }
    }

    /// Why the directory is no disk to use; `None` if it is one.
    fn unusable(self, dir: &Path) -> Option<IdentityError> {
        let dir = dir.to_owned();
        Some(match self {
            DirectoryState::Disk(_) => return None,
            DirectoryState::Missing => IdentityError::Missing { dir },
            DirectoryState::Empty => IdentityError::Empty { dir },
            DirectoryState::Foreign => IdentityError::Foreign { dir },
            DirectoryState::Damaged => IdentityError::Damaged { dir },
            DirectoryState::Unreadable(source) => IdentityError::Io { dir, source },
        })
    }
}

fn inspect(files: &dyn Files, dir: &Path) -> io::Result<DirectoryState> {
    match file::read(files, dir) {
        Ok(identity) => return Ok(identity.map_or(DirectoryState::Damaged, DirectoryState::Disk)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // The path goes through a file, or the disk does not answer.
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

/// Looks at directories that can be those of one store.
fn inspect_all(files: &dyn Files, dirs: &[PathBuf]) -> Result<Vec<DirectoryState>, IdentityError> {
    if dirs.is_empty() {
        return Err(IdentityError::None);
    }
    refuse_twice(files, dirs)?;
    let states: Vec<DirectoryState> = dirs
        .iter()
        .map(|dir| inspect(files, dir).unwrap_or_else(DirectoryState::Unreadable))
        .collect();
    refuse_mixed(dirs, &states)?;
    Ok(states)
}

fn refuse_twice(files: &dyn Files, dirs: &[PathBuf]) -> Result<(), IdentityError> {
    let mut seen = HashSet::new();
    let mut paths = HashSet::new();
    for dir in dirs {
        // A directory that is not there yet can only be compared by its path.
        let is_new = match files.identify(dir) {
            Ok(id) => seen.insert(id),
            Err(_) => paths.insert(dir),
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

fn lock(files: &dyn Files, dir: &Path) -> Result<Arc<dyn File>, IdentityError> {
    let open = files.open(&dir.join(LOCK_FILE), OpenMode::Create);
    take(dir, open.map_err(|source| at(dir, source))?)
}

fn take(dir: &Path, file: Arc<dyn File>) -> Result<Arc<dyn File>, IdentityError> {
    match file.try_lock() {
        Ok(true) => Ok(file),
        Ok(false) => Err(IdentityError::Locked {
            dir: dir.to_owned(),
        }),
        Err(source) => Err(at(dir, source)),
    }
}

fn at(dir: &Path, source: io::Error) -> IdentityError {
    IdentityError::Io {
        dir: dir.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
