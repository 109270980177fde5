//! The state file: what a store notes outside its disks.
//!
//! All disks may be missing at a start at once, because no mount came up, and empty directories lie
//! in their places. The disks cannot tell that from a first start, and a new store would be born,
//! which answers 404 to everything. The state file can tell: it has the directories of the store,
//! each with its file system.
//!
//! On disks that are all empty, a store is born again if each directory that the file has is on the
//! file system that it was on: somebody emptied it. If one is on another, its mount is missing, and
//! the start is refused until an operator says that a new store is meant.
//!
//! The numbers of a file system may change when the machine starts again. So the file also has
//! whether a directory was on the state file's own file system. If it was, and is, its file system
//! is here.
//!
//! The file is text, one line for each directory; bytes other than printable ASCII are written as
//! in a URL.

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use super::directory::{DirectoryState, inspect};
use super::error::IdentityError;
use super::file;
use drystone_store::env::{FileSystem, Files, OpenMode};

const ABOUT: &str = "# The directories of a store, as they were when all was well. Keep this file: \
                     if all disks are missing, it keeps a new store from being created.";
const STORE: &str = "store ";
const DISK: &str = "disk ";
const BESIDE: &str = "beside";
const APART: &str = "apart";

/// A directory of a store, and its file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub directory: PathBuf,
    pub file_system: FileSystem,
    /// It is on the file system that the state file is on.
    pub is_beside: bool,
}

impl Place {
    /// Returns whether the directory is still on the file system that it was on.
    fn is_on_same(&self, now: &Place) -> bool {
        let (was, is) = (&self.file_system, &now.file_system);
        match (self.is_beside, now.is_beside) {
            (true, true) => true,
            (false, false) => was.device == is.device && was.id == is.id,
            _ => false,
        }
    }
}

/// The content of a state file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Content {
    /// The store's id.
    store: [u8; 16],
    places: Vec<Place>,
}

/// A directory that the state file has, as a start finds it.
struct Found {
    before: Place,
    now: Place,
    is_disk: bool,
}

/// The reason why no store is born in empty directories.
#[derive(Debug, PartialEq, Eq)]
enum Objection {
    /// This directory is on another file system than it was.
    NotMounted(PathBuf),
    /// This directory, which was not given, still is a disk.
    Elsewhere(PathBuf),
}

/// Decides whether a store may be born although the state file has one.
fn objection(found: &[Found]) -> Option<Objection> {
    let elsewhere = found.iter().find(|found| found.is_disk);
    if let Some(Found { before, .. }) = elsewhere {
        return Some(Objection::Elsewhere(before.directory.clone()));
    }
    let moved = found.iter().find(|at| !at.before.is_on_same(&at.now));
    moved.map(|at| Objection::NotMounted(at.before.directory.clone()))
}

/// Fails if no directory is a disk, and the state file knows a store whose disks are missing.
pub fn refuse_second_birth(
    path: &Path,
    dirs: &[PathBuf],
    files: &dyn Files,
) -> Result<(), IdentityError> {
    let is_blank = |dir: &PathBuf| {
        let state = inspect(files, dir);
        matches!(state, Ok(DirectoryState::Missing | DirectoryState::Empty))
    };
    if !dirs.iter().all(is_blank) {
        return Ok(());
    }
    let unreadable = |source| IdentityError::StateFile {
        path: path.to_owned(),
        source,
    };
    let Some(content) = read(path, files).map_err(unreadable)? else {
        return Ok(());
    };
    let mut found = Vec::new();
    for before in content.places {
        let now = place(path, &before.directory, files).map_err(unreadable)?;
        found.push(Found {
            is_disk: file::read(files, &before.directory).is_ok(),
            before,
            now,
        });
    }
    let state_file = path.to_owned();
    match objection(&found) {
        None => {
            tracing::warn!(state_file = %path.display(),
                "all disks were emptied: a new store is created in their place");
            Ok(())
        }
        Some(Objection::NotMounted(dir)) => Err(IdentityError::NotMounted { dir, state_file }),
        Some(Objection::Elsewhere(dir)) => Err(IdentityError::Elsewhere { dir, state_file }),
    }
}

/// Writes down the directories of a store that are its disks now, `here`. Those that are missing
/// now, but are among the `given` ones, stay as they were noted.
///
/// Power goes before the rename: the old file, or none, and a temporary one, which the next start
/// overwrites.
pub fn note(
    path: &Path,
    store: [u8; 16],
    given: &[PathBuf],
    here: &[PathBuf],
    files: &dyn Files,
) -> io::Result<()> {
    let before = read(path, files).unwrap_or_else(|error| {
        tracing::warn!(%error, state_file = %path.display(), "the state file is written again");
        None
    });
    let parent = path.parent().unwrap_or(Path::new("/"));
    if !files.exists(parent) {
        files.create_dir_all(parent)?;
    }
    let places = here.iter().map(|dir| place(path, dir, files));
    let mut places = places.collect::<io::Result<Vec<_>>>()?;
    let old = before.iter().filter(|before| before.store == store);
    for old in old.flat_map(|before| &before.places) {
        if given.contains(&old.directory) && !here.contains(&old.directory) {
            places.push(old.clone());
        }
    }
    let content = Content { store, places };
    if before.as_ref() == Some(&content) {
        return Ok(());
    }
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = Path::new(&new);
    let file = files.open(new, OpenMode::CreateEmpty)?;
    file.write_all_at(encode(&content).as_bytes(), 0)?;
    file.sync_all()?;
    files.rename(new, path)?;
    files.sync_dir(parent)
}

/// Returns what the state file says about a directory; `None` if it does not know it.
pub fn noted(path: &Path, directory: &Path, files: &dyn Files) -> io::Result<Option<Place>> {
    let content = read(path, files)?;
    let mut places = content.into_iter().flat_map(|content| content.places);
    Ok(places.find(|place| place.directory == directory))
}

/// Returns the file system that a directory is on, or would be made on.
fn place(state_file: &Path, directory: &Path, files: &dyn Files) -> io::Result<Place> {
    let of_state_file = nearest(state_file.parent().unwrap_or(state_file), files)?;
    let file_system = nearest(directory, files)?;
    Ok(Place {
        directory: directory.to_owned(),
        file_system,
        is_beside: file_system.device == of_state_file.device,
    })
}

fn nearest(path: &Path, files: &dyn Files) -> io::Result<FileSystem> {
    let mut last = io::Error::from(ErrorKind::NotFound);
    for ancestor in path.ancestors() {
        match files.file_system(ancestor) {
            Err(error) if error.kind() == ErrorKind::NotFound => last = error,
            found => return found,
        }
    }
    Err(last)
}

fn read(path: &Path, files: &dyn Files) -> io::Result<Option<Content>> {
    let bytes = match files.read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let text = std::str::from_utf8(&bytes).ok();
    let content = text.and_then(decode);
    let damaged = || io::Error::new(ErrorKind::InvalidData, "is no state file, or damaged");
    content.map(Some).ok_or_else(damaged)
}

fn encode(content: &Content) -> String {
    let store = u128::from_be_bytes(content.store);
    let mut text = format!("{ABOUT}\n{STORE}{store:032x}\n");
    for place in &content.places {
        let FileSystem {
            device,
            id,
            made_ns,
        } = place.file_system;
        let made = made_ns.map_or("-".to_owned(), |made| made.to_string());
        let side = if place.is_beside { BESIDE } else { APART };
        let path = escaped(&place.directory);
        text.push_str(&format!("{DISK}{device} {id} {made} {side} {path}\n"));
    }
    // A file that was cut short lacks it.
    text.push_str("end\n");
    text
}

fn decode(text: &str) -> Option<Content> {
    let (mut store, mut places) = (None, Vec::new());
    let mut lines = text.strip_suffix("\nend\n")?.lines();
    lines.try_for_each(|line| {
        if let Some(id) = line.strip_prefix(STORE) {
            store = Some(u128::from_str_radix(id, 16).ok()?.to_be_bytes());
        } else if let Some(disk) = line.strip_prefix(DISK) {
            places.push(decode_place(disk)?);
        } else if !line.starts_with('#') {
            return None;
        }
        Some(())
    })?;
    let store = store?;
    Some(Content { store, places })
}

fn decode_place(line: &str) -> Option<Place> {
    let fields: Vec<&str> = line.splitn(5, ' ').collect();
    let [device, id, made, side, path] = fields[..] else {
        return None;
    };
    Some(Place {
        directory: unescaped(path)?,
        file_system: FileSystem {
            device: device.parse().ok()?,
            id: id.parse().ok()?,
            made_ns: match made {
                "-" => None,
                made => Some(made.parse().ok()?),
            },
        },
        is_beside: match side {
            BESIDE => true,
            APART => false,
            _ => return None,
        },
    })
}

fn escaped(path: &Path) -> String {
    let mut text = String::new();
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'%' | 0..b' ' | 0x7f.. => text.push_str(&format!("%{byte:02X}")),
            _ => text.push(char::from(byte)),
        }
    }
    text
}

fn unescaped(text: &str) -> Option<PathBuf> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            let (digits, after) = rest.split_at_checked(2)?;
            let digits = std::str::from_utf8(digits).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = after;
        } else {
            bytes.push(byte);
        }
    }
    Some(OsString::from_vec(bytes).into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;
    use crate::disk::identity::{claim_all, mark_born};
    use drystone_store::crash::Crash;
    use drystone_store::env::{Env as _, SystemEnv};

    fn at(device: u64, id: u64, is_beside: bool) -> Place {
        Place {
            directory: "/mnt/disk1".into(),
            file_system: FileSystem {
                device,
                id,
                made_ns: None,
            },
            is_beside,
        }
    }

    #[test]
    fn f_14_a_store_is_born_again_only_where_all_its_file_systems_are() {
        // On the file system of the state file: another number is another start of the machine.
        let beside = |device| at(device, 7, true);
        let apart = |device, id| at(device, id, false);
        for (before, now, may) in [
            (beside(1), beside(1), true),
            (beside(1), beside(2), true),
            (apart(5, 9), apart(5, 9), true),
            // The mount is missing: what is left lies on the file system of the state file.
            (apart(5, 9), beside(1), false),
            // In a container it may be any other.
            (apart(5, 9), apart(6, 9), false),
            (apart(5, 9), apart(5, 8), false),
            // An empty disk was mounted over the store.
            (beside(1), apart(5, 9), false),
        ] {
            let found = Found {
                before: before.clone(),
                now: now.clone(),
                is_disk: false,
            };
            let refused = objection(&[found]);
            let expected = (!may).then(|| Objection::NotMounted("/mnt/disk1".into()));
            assert_eq!(refused, expected, "{before:?} {now:?}");
            let found = Found {
                before,
                now,
                is_disk: true,
            };
            let elsewhere = Objection::Elsewhere("/mnt/disk1".into());
            assert_eq!(objection(&[found]), Some(elsewhere));
        }
        assert_eq!(objection(&[]), None);
    }

    #[test]
    fn f_14_one_missing_mount_of_several_is_enough_to_refuse() {
        let found = |before: Place, now: Place| Found {
            before,
            now,
            is_disk: false,
        };
        let emptied = || found(at(5, 9, false), at(5, 9, false));
        let missing = found(at(6, 9, false), at(1, 7, true));
        assert_eq!(objection(&[emptied(), emptied()]), None);
        assert!(objection(&[emptied(), missing]).is_some());
    }

    #[test]
    fn f_14_a_state_file_reads_back_and_a_damaged_one_is_refused() {
        let mut strange = at(5, u64::MAX, false);
        strange.directory = OsString::from_vec(b"/mnt/a %\n\xff b".to_vec()).into();
        strange.file_system.made_ns = Some(1_700_000_000_000_000_001);
        let content = Content {
            store: [0xab; 16],
            places: vec![at(1, 0, true), strange],
        };
        let text = encode(&content);
        assert!(text.is_ascii());
        assert_eq!(decode(&text), Some(content));
        for end in 0..text.len() {
            assert_eq!(decode(&text[..end]), None, "{end}");
        }
        assert_eq!(decode(&text.replace("apart", "away")), None);
        assert_eq!(decode(&text.replace("%FF", "%FX")), None);
        assert_eq!(decode(&text.replace("disk ", "disc ")), None);
    }

    #[test]
    fn f_14_empty_directories_are_no_first_start_once_their_store_is_elsewhere() {
        let root = tempfile::tempdir().unwrap();
        let files = SystemEnv.files();
        let dirs = |name: &str| -> Vec<PathBuf> {
            let dirs = (0..2).map(|n| root.path().join(format!("{name}{n}")));
            dirs.collect()
        };
        let (path, own, other) = (root.path().join("state/store"), dirs("d"), dirs("e"));
        refuse_second_birth(&path, &own, files).unwrap();
        let mut found = claim_all(&own, &[], &SystemEnv, &Crash::default()).unwrap();
        for disk in &mut found.disks {
            mark_born(disk, &SystemEnv, &Crash::default()).unwrap();
        }
        let store = found.disks[0].identity.cluster;
        note(&path, store, &own, &own, files).unwrap();
        // The disks are here.
        refuse_second_birth(&path, &own, files).unwrap();
        let refused = refuse_second_birth(&path, &other, files).unwrap_err();
        assert!(matches!(&refused, IdentityError::Elsewhere { dir, .. } if *dir == own[0]));
        // They were emptied, one to its last file and one with its directory.
        drop(found);
        own.iter().for_each(|dir| fs::remove_dir_all(dir).unwrap());
        fs::create_dir(&own[0]).unwrap();
        refuse_second_birth(&path, &own, files).unwrap();
        fs::write(&path, "something else").unwrap();
        let refused = refuse_second_birth(&path, &own, files).unwrap_err();
        assert!(matches!(refused, IdentityError::StateFile { .. }));
        // It is written again by the next store.
        note(&path, [1; 16], &own, &own, files).unwrap();
        refuse_second_birth(&path, &own, files).unwrap();
    }

    #[test]
    fn f_14_a_disk_that_is_missing_stays_noted_until_it_is_not_given_any_more() {
        let root = tempfile::tempdir().unwrap();
        let files = SystemEnv.files();
        let dirs: Vec<PathBuf> = (0..3).map(|n| root.path().join(n.to_string())).collect();
        dirs.iter().for_each(|dir| fs::create_dir(dir).unwrap());
        let path = root.path().join("0.state");
        let known = || {
            let known = |dir: &&PathBuf| noted(&path, dir, files).unwrap().is_some();
            dirs.iter().filter(known).count()
        };
        note(&path, [1; 16], &dirs, &dirs, files).unwrap();
        assert_eq!(known(), 3);
        note(&path, [1; 16], &dirs, &dirs[..2], files).unwrap();
        assert_eq!(known(), 3);
        note(&path, [1; 16], &dirs[..2], &dirs[..1], files).unwrap();
        assert_eq!(known(), 2);
        // Another store has no use for what was noted of this one.
        note(&path, [2; 16], &dirs, &dirs[..1], files).unwrap();
        assert_eq!(known(), 1);
    }
}
