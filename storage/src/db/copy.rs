//! A copy of a stopped disk's database, to be written to without a trace on the disk.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use super::{Db, DbError, DbShared, Use};

/// Files that are never changed once they are written, only removed: the copy's name of one is a
/// symbolic link, and to remove it leaves the file alone.
const UNCHANGING: [&str; 2] = ["sst", "blob"];

impl Db {
    /// Opens the database in `dir` as a copy in `scratch`, an empty directory. Nothing in `dir` is
    /// changed. What the copy has of its own are the WAL and what is written to it from now on.
    pub fn open_copy(dir: &Path, scratch: &Path, shared: &DbShared) -> Result<Arc<Db>, DbError> {
        copy(dir, scratch).map_err(|e| DbError::Failed(e.to_string().into()))?;
        Db::open_with(scratch, shared, Use::Copy)
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
