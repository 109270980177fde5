//! A copy of a stopped disk's database. Writes to the copy leave the disk unchanged.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use super::{Db, DbError, DbShared, Purpose};

/// Files that RocksDB never changes after writing them, but only removes. In the copy they are
/// symbolic links, so removing one leaves the file alone.
const UNCHANGING: [&str; 2] = ["sst", "blob"];

impl Db {
    /// Opens a copy of the database in `dir` in `scratch`, an empty directory. Nothing in `dir` is
    /// changed. Only the WAL and later writes take space of their own.
    pub fn open_copy(dir: &Path, scratch: &Path, shared: &DbShared) -> Result<Arc<Db>, DbError> {
        copy(dir, scratch).map_err(|e| DbError::Failed(e.to_string().into()))?;
        Db::open_with(scratch, shared, Purpose::Copy)
    }
}

fn copy(dir: &Path, scratch: &Path) -> io::Result<()> {
    let (from, to) = (
        fs::canonicalize(dir.join("rocksdb"))?,
        scratch.join("rocksdb"),
    );
    fs::create_dir_all(&to)?;
    for entry in fs::read_dir(&from)? {
        let name = entry?.file_name();
        let (source, target) = (from.join(&name), to.join(&name));
        let extension = source.extension().unwrap_or_default();
        let text = name.to_string_lossy();
        if UNCHANGING.iter().any(|unchanging| extension == *unchanging) {
            symlink(source, target)?;
        } else if !text.starts_with("LOG") && text != "LOCK" {
            fs::copy(source, target)?;
        }
    }
    fs::copy(dir.join("synced"), scratch.join("synced")).map(drop)
}
