//! Errors that say nothing about the content of a file or a database: the machine, its setup or the
//! way to the disk keeps it from being opened or read. Treating one as damage would throw a good
//! database away, and rebuild good shards.

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
    /// The disk, or the way to it, is not there.
    Unreachable,
}

/// The system's errors, the texts that the C library has for them, and what each means.
const HINDRANCES: [(Errno, &str, Hindrance); 21] = {
    use Hindrance::{Descriptors, Memory, Permission, ReadOnly, Space, Unreachable};
    [
        (Errno::MFILE, "Too many open files", Descriptors),
        (Errno::NFILE, "Too many open files in system", Descriptors),
        (Errno::NOMEM, "Cannot allocate memory", Memory),
        (Errno::ACCESS, "Permission denied", Permission),
        (Errno::PERM, "Operation not permitted", Permission),
        (Errno::ROFS, "Read-only file system", ReadOnly),
        (Errno::NOSPC, "No space left on device", Space),
        (Errno::DQUOT, "Disk quota exceeded", Space),
        (Errno::STALE, "Stale file handle", Unreachable),
        (Errno::NODEV, "No such device", Unreachable),
        (Errno::NXIO, "No such device or address", Unreachable),
        (
            Errno::NOTCONN,
            "Transport endpoint is not connected",
            Unreachable,
        ),
        (
            Errno::SHUTDOWN,
            "Cannot send after transport endpoint shutdown",
            Unreachable,
        ),
        (
            Errno::CONNABORTED,
            "Software caused connection abort",
            Unreachable,
        ),
        (Errno::CONNRESET, "Connection reset by peer", Unreachable),
        (Errno::HOSTDOWN, "Host is down", Unreachable),
        (Errno::HOSTUNREACH, "No route to host", Unreachable),
        (Errno::TIMEDOUT, "Connection timed out", Unreachable),
        (Errno::TIME, "Timer expired", Unreachable),
        (Errno::NOLINK, "Link has been severed", Unreachable),
        (Errno::REMOTEIO, "Remote I/O error", Unreachable),
    ]
};

/// Returns whether the error says that bytes of a file cannot be read, if the disk works otherwise.
pub fn is_unreadable(error: &io::Error) -> bool {
    // The last two are file systems' own words for a checksum or a structure that is wrong.
    const UNREADABLE: [Errno; 4] = [Errno::IO, Errno::ILSEQ, Errno::BADMSG, Errno::UCLEAN];
    let code = Errno::from_io_error(error);
    code.is_some_and(|code| UNREADABLE.contains(&code))
        || error.kind() == io::ErrorKind::UnexpectedEof
}

impl Hindrance {
    /// Returns whether the whole process suffers from it, and not this disk alone.
    pub fn is_of_process(self) -> bool {
        use Hindrance::{Descriptors, InUse, Memory, Permission, ReadOnly, Space, Unreachable};
        match self {
            Descriptors | Memory | InUse => true,
            Permission | ReadOnly | Space | Unreachable => false,
        }
    }

    /// Returns whether an error is for want of something of the process or the machine. The disk
    /// is not to blame.
    pub fn is_scarcity(error: &io::Error) -> bool {
        let hindrance = Hindrance::of_io(error);
        matches!(hindrance, Some(Hindrance::Descriptors | Hindrance::Memory))
    }

    pub fn of_io(error: &io::Error) -> Option<Hindrance> {
        let code = Errno::from_io_error(error)?;
        let known = HINDRANCES.iter().find(|(errno, ..)| *errno == code);
        known.map(|(_, _, hindrance)| *hindrance)
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
        let text = text.trim_end();
        let known = HINDRANCES.iter().find(|(_, end, _)| text.ends_with(end));
        known.map(|(_, _, hindrance)| *hindrance)
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
            Hindrance::Unreachable => {
                "its disk does not answer: look at its cable, its network or its mount"
            }
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
