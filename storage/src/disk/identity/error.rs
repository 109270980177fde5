//! Why directories cannot be used as the disks of a store.

use std::io;
use std::path::{Path, PathBuf};

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
        "{}: its identity is damaged; leave it out, or empty it and run `admin disk replace` \
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
        "{} and {} each continued alone when other disks of the store were lost; start with the \
         disks that continued with the first or with the second, never with both",
        one.display(),
        other.display()
    )]
    SplitBrain { one: PathBuf, other: PathBuf },
    #[error(
        "{} is a copy of {}; start with one of the two",
        copy.display(),
        original.display()
    )]
    Copy { original: PathBuf, copy: PathBuf },
    #[error(
        "the store's first start was interrupted while it created {expected} disks, but {given} \
         directories are given; give the same ones again"
    )]
    OtherBirth { expected: u32, given: usize },
    #[error("{}: is already a disk; if nothing on it is needed, empty it first", dir.display())]
    Used { dir: PathBuf },
    #[error(
        "{}: a newer version of the program wrote this store (format {found}; this one knows \
         formats up to {known}); start that version again",
        dir.display()
    )]
    Newer {
        dir: PathBuf,
        found: u16,
        known: u16,
    },
    #[error("{}: is in use by another process", dir.display())]
    Locked { dir: PathBuf },
    #[error(
        "{}: is empty, but {} knows a store there, on another file system: are all disks mounted? \
         To create a new store all the same, start with --new-store",
        dir.display(),
        state_file.display()
    )]
    NotMounted { dir: PathBuf, state_file: PathBuf },
    #[error(
        "the given directories are empty, but {} knows a store in {}: give the directories of that \
         store. To create a new one all the same, start with --new-store",
        state_file.display(),
        dir.display()
    )]
    Elsewhere { dir: PathBuf, state_file: PathBuf },
    #[error(
        "{}: {source}; all disks are empty, and this file says whether they held a store. To \
         create a new store all the same, start with --new-store",
        path.display()
    )]
    StateFile { path: PathBuf, source: io::Error },
    #[error("no directory was given")]
    None,
}

impl IdentityError {
    pub(super) fn io(dir: &Path, source: io::Error) -> IdentityError {
        IdentityError::Io {
            dir: dir.to_owned(),
            source,
        }
    }

    /// Returns the directory that caused the error, or one of them.
    pub fn dir(&self) -> &Path {
        match self {
            IdentityError::Io { dir, .. }
            | IdentityError::Twice { dir }
            | IdentityError::Foreign { dir }
            | IdentityError::Damaged { dir }
            | IdentityError::Empty { dir }
            | IdentityError::Missing { dir }
            | IdentityError::Newer { dir, .. }
            | IdentityError::Used { dir }
            | IdentityError::Locked { dir }
            | IdentityError::OtherStore { one: dir, .. }
            | IdentityError::SplitBrain { one: dir, .. }
            | IdentityError::NotMounted { dir, .. }
            | IdentityError::Elsewhere { dir, .. }
            | IdentityError::StateFile { path: dir, .. }
            | IdentityError::Copy { copy: dir, .. } => dir,
            IdentityError::OtherBirth { .. } | IdentityError::None => Path::new(""),
        }
    }
}
