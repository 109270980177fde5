//! Errors that say nothing about a database's content: the machine or its setup keeps it from being
//! opened. Treating one as damage would throw a good database away.

use std::fmt;
use std::io;

use rustix::io::Errno;

use super::DbError;

/// The resource or right that is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hindrance {
    Descriptors,
    Memory,
    InUse,
    Permission,
    ReadOnly,
    Space,
}

impl Hindrance {
    /// Returns whether the whole process suffers from it, and not this disk alone.
    pub fn is_of_process(self) -> bool {
        use Hindrance::{Descriptors, InUse, Memory, Permission, ReadOnly, Space};
        match self {
            Descriptors | Memory | InUse => true,
            Permission | ReadOnly | Space => false,
        }
    }

    pub fn of_io(error: &io::Error) -> Option<Hindrance> {
        Some(match Errno::from_io_error(error)? {
            Errno::MFILE | Errno::NFILE => Hindrance::Descriptors,
            Errno::NOMEM => Hindrance::Memory,
            Errno::ACCESS | Errno::PERM => Hindrance::Permission,
            Errno::ROFS => Hindrance::ReadOnly,
            Errno::NOSPC | Errno::DQUOT => Hindrance::Space,
            _ => return None,
        })
    }

    /// Recognizes an error of the system in RocksDB's error, whose text ends with the C library's.
    pub(super) fn of_rocks(error: &rocksdb::Error) -> Option<Hindrance> {
        let text = error.as_ref();
        if !text.starts_with("IO error") {
            return None;
        }
        if text.contains("lock hold by") || text.contains("While lock file") {
            return Some(Hindrance::InUse);
        }
        let ends = [
            ("Too many open files", Hindrance::Descriptors),
            ("Too many open files in system", Hindrance::Descriptors),
            ("Cannot allocate memory", Hindrance::Memory),
            ("Permission denied", Hindrance::Permission),
            ("Operation not permitted", Hindrance::Permission),
            ("Read-only file system", Hindrance::ReadOnly),
            ("No space left on device", Hindrance::Space),
            ("Disk quota exceeded", Hindrance::Space),
        ];
        let known = ends.iter().find(|(end, _)| text.trim_end().ends_with(end));
        known.map(|(_, hindrance)| *hindrance)
    }
}

impl fmt::Display for Hindrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Hindrance::Descriptors => {
                "the limit of open files is reached: raise it (ulimit -n, LimitNOFILE=)"
            }
            Hindrance::Memory => {
                "the limit of memory is reached: raise it (ulimit -v, MemoryMax=, the machine's)"
            }
            Hindrance::InUse => "it is in use by another process",
            Hindrance::Permission => {
                "this user may not read or write it: give its files to the user that runs the store"
            }
            Hindrance::ReadOnly => "its file system is read-only: mount it for writing",
            Hindrance::Space => "its disk is full: make room on it",
        })
    }
}

impl DbError {
    /// Makes the error of opening a database from an I/O error.
    pub fn of_opening(error: &io::Error) -> DbError {
        let what = error.to_string().into();
        match Hindrance::of_io(error) {
            Some(hindrance) => DbError::Hindered(hindrance, what),
            None => DbError::Failed(what),
        }
    }

    pub(super) fn of_rocks(error: rocksdb::Error) -> DbError {
        let hindrance = Hindrance::of_rocks(&error);
        let is_damage = error.kind() == rocksdb::ErrorKind::Corruption;
        let what = error.into_string().into();
        match hindrance {
            Some(hindrance) => DbError::Hindered(hindrance, what),
            None if is_damage => DbError::Damaged(what),
            None => DbError::Failed(what),
        }
    }
}
