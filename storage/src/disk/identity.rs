//! Who a disk is, and the lock against two processes.
//!
//! A directory is a disk of this store when its file `identity` says so. Nothing is ever written
//! into a directory whose identity was not read first, so a mount that is missing, a disk of
//! another store or somebody's photographs are left alone and told in a sentence.
//!
//! **Birth.** Empty directories become disks only together, at a store's first start. Each gets an
//! identity that is not yet *born*; when the metadata groups have committed, all are marked born,
//! and only then the first request is answered. Power goes before that: nothing was acknowledged,
//! and the next start makes disks of the directories that are still empty. Power goes between two
//! marks: one born disk is enough to know that the birth was complete.

use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use crate::env::Env;
use crate::types::DiskId;

const FILE: &str = "identity";
/// The same again, for when a bit of the first has flipped.
const COPY_FILE: &str = "identity.copy";
const NEW_FILE: &str = "identity.new";
const LOCK_FILE: &str = "lock";
const SHARDS: &str = "shards";
/// What an empty directory may hold: the file system's own, and what a cut birth leaves.
const IN_EMPTY: [&str; 4] = ["lost+found", NEW_FILE, COPY_FILE, LOCK_FILE];

const MAGIC: [u8; 8] = *b"\x89ecdisk\n";
const VERSION: u16 = 1;
const BORN: u16 = 1;
const LEN: usize = 104;

/// The content of the file `identity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub cluster: [u8; 16],
    pub node: [u8; 16],
    pub disk: DiskId,
    /// Names the first start that made this disk, and how many it was to make.
    pub birth: [u8; 16],
    pub birth_disks: u32,
    /// Counts how often the disk was made anew under its id.
    pub generation: u64,
    /// Counts the store's reforms: a disk of a lower one comes back as an empty one.
    pub epoch: u64,
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

/// A directory whose identity is known, locked by this process while this lives.
#[derive(Debug)]
pub struct Settled {
    pub dir: PathBuf,
    pub identity: Identity,
    _lock: File,
}

/// What the given directories are.
#[derive(Debug)]
pub struct Found {
    /// In the order given.
    pub disks: Vec<Settled>,
    /// Directories that should be disks of this store and are not usable, and why.
    pub lost: Vec<IdentityError>,
    /// No disk is born yet: the metadata is to be made.
    pub birth: bool,
}

/// Reads the identities in `dirs`, makes the disks of a birth, and locks them all.
pub fn settle(dirs: &[PathBuf], env: &dyn Env) -> Result<Found, IdentityError> {
    if dirs.is_empty() {
        return Err(IdentityError::None);
    }
    refuse_twice(dirs)?;
    let mut looks: Vec<Look> = dirs
        .iter()
        .map(|dir| look(dir).unwrap_or_else(Look::Unreadable))
        .collect();
    refuse_mixed(dirs, &looks)?;
    let known: Vec<Identity> = looks.iter().filter_map(Look::identity).collect();
    let birth = known.iter().all(|identity| !identity.born);
    if birth {
        give_birth(dirs, &mut looks, known.first(), env)?;
    }
    let mut found = Found {
        disks: Vec::new(),
        lost: Vec::new(),
        birth,
    };
    for (dir, look) in dirs.iter().zip(looks) {
        match look {
            Look::Disk(identity) => {
                let dir = dir.clone();
                let _lock = lock(&dir)?;
                // Another start may have come in between the look and the lock.
                if self::look(&dir).ok().and_then(|look| look.identity()) != Some(identity) {
                    return Err(IdentityError::Locked { dir });
                }
                mend(&dir, &identity);
                found.disks.push(Settled {
                    dir,
                    identity,
                    _lock,
                });
            }
            other => found.lost.extend(other.unusable(dir)),
        }
    }
    Ok(found)
}

/// Reads the identities in `dirs` and locks the disks, without a change to anything: for a look at
/// a store that is stopped. Directories that are no disk of it are given with the reason.
pub fn hold(dirs: &[PathBuf]) -> Result<(Vec<Settled>, Vec<IdentityError>), IdentityError> {
    if dirs.is_empty() {
        return Err(IdentityError::None);
    }
    refuse_twice(dirs)?;
    let looks: Vec<Look> = dirs
        .iter()
        .map(|dir| look(dir).unwrap_or_else(Look::Unreadable))
        .collect();
    refuse_mixed(dirs, &looks)?;
    let (mut disks, mut lost) = (Vec::new(), Vec::new());
    for (dir, look) in dirs.iter().zip(looks) {
        match look {
            Look::Disk(identity) => {
                let open = File::open(dir.join(LOCK_FILE));
                let _lock = take(dir, open.map_err(|source| at(dir, source))?)?;
                let dir = dir.clone();
                disks.push(Settled {
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
pub fn adopt(dir: &Path, of: &Identity, env: &dyn Env) -> Result<Settled, IdentityError> {
    let looked = look(dir).map_err(|source| at(dir, source))?;
    let (dir, begun) = (dir.to_owned(), looked.identity());
    let identity = match looked {
        Look::Empty => Identity {
            disk: DiskId(env.random()),
            generation: 0,
            born: false,
            ..*of
        },
        Look::Disk(disk) if !disk.born && disk.cluster == of.cluster => disk,
        Look::Disk(_) => return Err(IdentityError::Used { dir }),
        Look::Missing => return Err(IdentityError::Missing { dir }),
        Look::Foreign => return Err(IdentityError::Foreign { dir }),
        Look::Damaged => return Err(IdentityError::Damaged { dir }),
        Look::Unreadable(source) => return Err(at(&dir, source)),
    };
    let _lock = lock(&dir)?;
    // Another process may have come in between the look and the lock.
    let now = look(&dir).map_err(|source| at(&dir, source))?;
    if now.identity() != begun {
        return Err(IdentityError::Locked { dir });
    }
    write(&dir, &identity)?;
    make_folders(std::slice::from_ref(&dir))?;
    Ok(Settled {
        dir,
        identity,
        _lock,
    })
}

/// Marks a disk as born, once the metadata is committed.
pub fn mark_born(disk: &mut Settled) -> Result<(), IdentityError> {
    let identity = Identity {
        born: true,
        ..disk.identity
    };
    write(&disk.dir, &identity)?;
    disk.identity = identity;
    Ok(())
}

/// Whether the directory still is the disk that it was. An error: it could not be asked.
pub fn is_still(dir: &Path, disk: DiskId) -> io::Result<bool> {
    use io::ErrorKind::{NotADirectory, NotFound};
    match read(dir) {
        Ok(identity) => Ok(identity.is_some_and(|identity| identity.disk == disk)),
        Err(e) if matches!(e.kind(), NotADirectory | NotFound) => Ok(false),
        Err(e) => Err(e),
    }
}

/// The folder of the shards whose write id begins with this byte.
pub fn shard_folder(dir: &Path, first: u8) -> PathBuf {
    dir.join(SHARDS).join(format!("{first:02x}"))
}

pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

enum Look {
    Disk(Identity),
    Missing,
    Empty,
    Foreign,
    Damaged,
    Unreadable(io::Error),
}

impl Look {
    fn identity(&self) -> Option<Identity> {
        match self {
            Look::Disk(identity) => Some(*identity),
            _ => None,
        }
    }

    /// Why the directory is no disk to use; `None` if it is one.
    fn unusable(self, dir: &Path) -> Option<IdentityError> {
        let dir = dir.to_owned();
        Some(match self {
            Look::Disk(_) => return None,
            Look::Missing => IdentityError::Missing { dir },
            Look::Empty => IdentityError::Empty { dir },
            Look::Foreign => IdentityError::Foreign { dir },
            Look::Damaged => IdentityError::Damaged { dir },
            Look::Unreadable(source) => IdentityError::Io { dir, source },
        })
    }
}

/// `None`: it is damaged, and its copy as well. The copy is of no use where the first is not even
/// there: what was taken away is not to be found again in a corner.
fn read(dir: &Path) -> io::Result<Option<Identity>> {
    match decode(&fs::read(dir.join(FILE))?) {
        Some(identity) => Ok(Some(identity)),
        None => Ok(read_copy(dir)),
    }
}

fn read_copy(dir: &Path) -> Option<Identity> {
    decode(&fs::read(dir.join(COPY_FILE)).ok()?)
}

/// Writes a disk's identity again if it or its copy is not as it was read.
fn mend(dir: &Path, identity: &Identity) {
    let first = fs::read(dir.join(FILE)).ok();
    let whole = first.and_then(|bytes| decode(&bytes)) == Some(*identity);
    if whole && read_copy(dir) == Some(*identity) {
        return;
    }
    match write(dir, identity) {
        Ok(()) => tracing::warn!(dir = %dir.display(), "a disk's identity is written again"),
        Err(error) => tracing::warn!(%error, "a disk's identity stays damaged"),
    }
}

fn look(dir: &Path) -> io::Result<Look> {
    match read(dir) {
        Ok(identity) => return Ok(identity.map_or(Look::Damaged, Look::Disk)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // The path goes through a file, or the disk does not answer.
        Err(error) => return Err(error),
    }
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Look::Missing),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let name = entry?.file_name();
        if !IN_EMPTY.iter().any(|allowed| name == *allowed) {
            return Ok(Look::Foreign);
        }
    }
    Ok(Look::Empty)
}

fn refuse_twice(dirs: &[PathBuf]) -> Result<(), IdentityError> {
    let mut seen = HashSet::new();
    let mut paths = HashSet::new();
    for dir in dirs {
        // A directory that is not there yet can only be compared by its path.
        let is_new = match fs::metadata(dir) {
            Ok(meta) => seen.insert((meta.dev(), meta.ino())),
            Err(_) => paths.insert(dir),
        };
        if !is_new {
            return Err(IdentityError::Twice { dir: dir.clone() });
        }
    }
    Ok(())
}

fn refuse_mixed(dirs: &[PathBuf], looks: &[Look]) -> Result<(), IdentityError> {
    let disks: Vec<(&PathBuf, Identity)> = dirs
        .iter()
        .zip(looks)
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

/// Makes disks of the directories that are none yet. `begun`: one that an earlier start, cut
/// before its end, has made.
fn give_birth(
    dirs: &[PathBuf],
    looks: &mut [Look],
    begun: Option<&Identity>,
    env: &dyn Env,
) -> Result<(), IdentityError> {
    if let Some(begun) = begun
        && begun.birth_disks as usize != dirs.len()
    {
        let (expected, given) = (begun.birth_disks, dirs.len());
        return Err(IdentityError::OtherBirth { expected, given });
    }
    // All are looked at before the first is touched.
    for (dir, look) in dirs.iter().zip(&mut *looks) {
        match look {
            Look::Foreign => return Err(IdentityError::Foreign { dir: dir.clone() }),
            Look::Damaged => return Err(IdentityError::Damaged { dir: dir.clone() }),
            Look::Unreadable(error) => {
                let source = std::mem::replace(error, io::ErrorKind::Other.into());
                return Err(at(dir, source));
            }
            Look::Disk(_) | Look::Missing | Look::Empty => {}
        }
    }
    let template = begun.copied().unwrap_or_else(|| Identity {
        cluster: env.random(),
        node: env.random(),
        disk: DiskId([0; 16]),
        birth: env.random(),
        birth_disks: u32::try_from(dirs.len()).expect("the configuration bounds directories"),
        generation: 0,
        epoch: 0,
        born: false,
    });
    for (dir, look) in dirs.iter().zip(looks) {
        if let Look::Missing | Look::Empty = look {
            let identity = Identity {
                disk: DiskId(env.random()),
                ..template
            };
            create_dir(dir)?;
            let _lock = lock(dir)?;
            // Another start may have made it a disk, and even used it, since the look above.
            if !matches!(self::look(dir), Ok(Look::Empty)) {
                return Err(IdentityError::Locked { dir: dir.clone() });
            }
            write(dir, &identity)?;
            *look = Look::Disk(identity);
        }
    }
    make_folders(dirs)
}

/// Makes the folders of shards, also those that a cut birth left out. They come after the
/// identity, so that a cut leaves no folder that nobody owns.
fn make_folders(dirs: &[PathBuf]) -> Result<(), IdentityError> {
    let make = |dir: &PathBuf| -> io::Result<()> {
        create_if_missing(&dir.join(SHARDS))?;
        for first in 0..=u8::MAX {
            create_if_missing(&shard_folder(dir, first))?;
        }
        sync_folder(&dir.join(SHARDS))?;
        sync_folder(dir)
    };
    // Side by side: each disk costs a few syncs, and a first start is waited for.
    std::thread::scope(|scope| {
        let made: Vec<_> = dirs
            .iter()
            .map(|dir| scope.spawn(move || make(dir).map_err(|source| at(dir, source))))
            .collect();
        made.into_iter()
            .try_for_each(|thread| thread.join().expect("making folders does not panic"))
    })
}

fn create_if_missing(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Power goes here: a folder without an identity, which counts as empty.
fn create_dir(dir: &Path) -> Result<(), IdentityError> {
    fs::create_dir_all(dir).map_err(|source| at(dir, source))?;
    // The folders above may be new as well; each is durable once its parent is synced.
    let absolute = fs::canonicalize(dir).map_err(|source| at(dir, source))?;
    for parent in absolute.ancestors().skip(1) {
        match File::open(parent).and_then(|folder| folder.sync_all()) {
            Ok(()) => {}
            // What we may not even open, we have not changed.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => break,
            Err(source) => return Err(at(dir, source)),
        }
    }
    Ok(())
}

fn lock(dir: &Path) -> Result<File, IdentityError> {
    let open = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(dir.join(LOCK_FILE));
    take(dir, open.map_err(|source| at(dir, source))?)
}

fn take(dir: &Path, file: File) -> Result<File, IdentityError> {
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(IdentityError::Locked {
            dir: dir.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(at(dir, source)),
    }
}

/// Power goes before the first rename: the old identity, or none, and `identity.new`, which the
/// next writing replaces. After it: the new one, or the old one until the folder is synced; an
/// older copy, which counts only where the first is damaged, is written again at the next start.
fn write(dir: &Path, identity: &Identity) -> Result<(), IdentityError> {
    let write = || -> io::Result<()> {
        let new = dir.join(NEW_FILE);
        for name in [FILE, COPY_FILE] {
            let mut file = File::create(&new)?;
            file.write_all(&encode(identity))?;
            file.sync_all()?;
            fs::rename(&new, dir.join(name))?;
        }
        File::open(dir)?.sync_all()
    };
    write().map_err(|source| at(dir, source))
}

fn at(dir: &Path, source: io::Error) -> IdentityError {
    IdentityError::Io {
        dir: dir.to_owned(),
        source,
    }
}

fn encode(identity: &Identity) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    bytes[0..8].copy_from_slice(&MAGIC);
    bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
    bytes[10..12].copy_from_slice(&if identity.born { BORN } else { 0 }.to_le_bytes());
    bytes[12..28].copy_from_slice(&identity.cluster);
    bytes[28..44].copy_from_slice(&identity.node);
    bytes[44..60].copy_from_slice(&identity.disk.0);
    bytes[60..76].copy_from_slice(&identity.birth);
    bytes[76..80].copy_from_slice(&identity.birth_disks.to_le_bytes());
    bytes[80..88].copy_from_slice(&identity.generation.to_le_bytes());
    bytes[88..96].copy_from_slice(&identity.epoch.to_le_bytes());
    let checksum = xxh3_64(&bytes[..96]);
    bytes[96..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Identity> {
    let bytes: &[u8; LEN] = bytes.try_into().ok()?;
    let array16 = |at: usize| -> [u8; 16] { bytes[at..at + 16].try_into().expect("16 bytes") };
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
    let short = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    if bytes[..8] != MAGIC || short(8) != VERSION || number(96) != xxh3_64(&bytes[..96]) {
        return None;
    }
    Some(Identity {
        cluster: array16(12),
        node: array16(28),
        disk: DiskId(array16(44)),
        birth: array16(60),
        birth_disks: u32::from_le_bytes(bytes[76..80].try_into().expect("4 bytes")),
        generation: number(80),
        epoch: number(88),
        born: short(10) & BORN != 0,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::env::SystemEnv;

    fn dirs(root: &Path, count: usize) -> Vec<PathBuf> {
        (0..count).map(|n| root.join(format!("d{n}"))).collect()
    }

    fn born(dirs: &[PathBuf]) {
        let mut found = settle(dirs, &SystemEnv).unwrap();
        found
            .disks
            .iter_mut()
            .for_each(|disk| mark_born(disk).unwrap());
    }

    fn refused(dirs: &[PathBuf]) -> IdentityError {
        settle(dirs, &SystemEnv).unwrap_err()
    }

    #[test]
    fn a_birth_makes_disks_of_one_store_and_they_are_found_again() {
        let root = tempfile::tempdir().unwrap();
        let dirs = dirs(root.path(), 4);
        let first = settle(&dirs, &SystemEnv).unwrap();
        assert!(first.birth && first.lost.is_empty());
        let ids: HashSet<_> = first.disks.iter().map(|disk| disk.identity.disk).collect();
        assert_eq!(ids.len(), 4);
        drop(first);
        born(&dirs);
        let again = settle(&dirs, &SystemEnv).unwrap();
        assert!(!again.birth);
        assert_eq!(
            again
                .disks
                .iter()
                .map(|d| d.identity.disk)
                .collect::<HashSet<_>>(),
            ids
        );
    }

    #[test]
    fn f_14_an_emptied_or_missing_directory_is_lost_and_never_made_anew() {
        let root = tempfile::tempdir().unwrap();
        let dirs = dirs(root.path(), 4);
        born(&dirs);
        fs::remove_dir_all(&dirs[1]).unwrap();
        fs::remove_dir_all(&dirs[2]).unwrap();
        fs::create_dir(&dirs[2]).unwrap();
        let found = settle(&dirs, &SystemEnv).unwrap();
        assert_eq!(found.disks.len(), 2);
        assert!(matches!(found.lost[0], IdentityError::Missing { .. }));
        assert!(matches!(found.lost[1], IdentityError::Empty { .. }));
        assert_eq!(fs::read_dir(&dirs[2]).unwrap().count(), 0);
        assert!(!dirs[1].exists());
    }

    #[test]
    fn a_birth_that_was_cut_is_finished_with_the_same_directories_only() {
        let root = tempfile::tempdir().unwrap();
        let dirs = dirs(root.path(), 4);
        drop(settle(&dirs, &SystemEnv).unwrap());
        // The fourth was cut before its identity, the first after it.
        fs::remove_file(dirs[3].join(FILE)).unwrap();
        fs::remove_dir_all(dirs[3].join(SHARDS)).unwrap();
        fs::write(dirs[3].join(NEW_FILE), b"cut").unwrap();
        fs::remove_dir_all(shard_folder(&dirs[0], 7)).unwrap();
        assert!(matches!(
            refused(&dirs[..3]),
            IdentityError::OtherBirth { .. }
        ));
        let found = settle(&dirs, &SystemEnv).unwrap();
        assert!(found.birth && found.disks.len() == 4);
        assert!(dirs.iter().all(|dir| shard_folder(dir, 7).is_dir()));
        let cluster = found.disks[0].identity.cluster;
        assert!(
            found
                .disks
                .iter()
                .all(|disk| disk.identity.cluster == cluster)
        );
    }

    #[test]
    fn f_39_foreign_mixed_copied_and_repeated_directories_are_refused_untouched() {
        let root = tempfile::tempdir().unwrap();
        let all = dirs(root.path(), 4);
        fs::create_dir(&all[0]).unwrap();
        fs::write(all[0].join("photo"), b"x").unwrap();
        assert!(matches!(refused(&all[..2]), IdentityError::Foreign { .. }));
        assert!(!all[1].exists(), "nothing was made");
        assert!(matches!(
            refused(&[all[1].clone(), all[1].clone()]),
            IdentityError::Twice { .. }
        ));
        born(&all[1..2]);
        born(&all[2..3]);
        assert!(matches!(
            refused(&all[1..3]),
            IdentityError::OtherStore { .. }
        ));
        fs::create_dir(&all[3]).unwrap();
        fs::copy(all[1].join(FILE), all[3].join(FILE)).unwrap();
        let copied = [all[1].clone(), all[3].clone()];
        assert!(matches!(refused(&copied), IdentityError::Copy { .. }));
    }

    #[test]
    fn two_processes_cannot_have_one_disk() {
        let root = tempfile::tempdir().unwrap();
        let dirs = dirs(root.path(), 1);
        let first = settle(&dirs, &SystemEnv).unwrap();
        assert!(matches!(refused(&dirs), IdentityError::Locked { .. }));
        drop(first);
        settle(&dirs, &SystemEnv).unwrap();
    }

    #[test]
    fn of_two_racing_births_the_second_never_writes_over_the_first() {
        let root = tempfile::tempdir().unwrap();
        let dirs = dirs(root.path(), 2);
        // Looked at before the other start came, and gone on with after it has ended.
        let mut looks = vec![Look::Missing, Look::Missing];
        born(&dirs);
        let before: Vec<_> = dirs
            .iter()
            .map(|dir| fs::read(dir.join(FILE)).unwrap())
            .collect();
        let refused = give_birth(&dirs, &mut looks, None, &SystemEnv).unwrap_err();
        assert!(matches!(refused, IdentityError::Locked { .. }), "{refused}");
        let after: Vec<_> = dirs
            .iter()
            .map(|dir| fs::read(dir.join(FILE)).unwrap())
            .collect();
        assert_eq!(before, after);
    }

    #[test]
    fn f_05_every_flipped_bit_of_an_identity_is_seen() {
        let root = tempfile::tempdir().unwrap();
        let dirs = dirs(root.path(), 1);
        born(&dirs);
        let bytes = fs::read(dirs[0].join(FILE)).unwrap();
        let identity = decode(&bytes).unwrap();
        assert!(is_still(&dirs[0], identity.disk).unwrap());
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&flipped), None, "bit {bit}");
        }
        // One of the two is enough, and the other is made good.
        for name in [FILE, COPY_FILE] {
            fs::write(dirs[0].join(name), &bytes[..50]).unwrap();
            assert!(is_still(&dirs[0], identity.disk).unwrap());
            let found = settle(&dirs, &SystemEnv).unwrap();
            assert_eq!(found.disks[0].identity, identity);
            assert_eq!(fs::read(dirs[0].join(name)).unwrap(), bytes);
        }
        for name in [FILE, COPY_FILE] {
            fs::write(dirs[0].join(name), &bytes[..50]).unwrap();
        }
        assert!(!is_still(&dirs[0], identity.disk).unwrap());
        assert!(matches!(
            settle(&dirs, &SystemEnv).unwrap_err(),
            IdentityError::Damaged { .. }
        ));
    }
}
