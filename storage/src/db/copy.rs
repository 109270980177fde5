//! A copy of a stopped disk's database. Writes to the copy leave the disk unchanged.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{Db, DbError, DbShared, Purpose};
use drystone_store::env::Files;

/// Files that RocksDB never changes after writing them, but only removes. In the copy they are
/// symbolic links, so removing one leaves the file alone.
const UNCHANGING: [&str; 2] = ["sst", "blob"];

impl Db {
    /// Opens a copy of the database in `dir` in `scratch`, an empty directory. Nothing in `dir` is
    /// changed. Only the WAL and later writes take space of their own.
    pub fn open_copy(dir: &Path, scratch: &Path, shared: &DbShared) -> Result<Arc<Db>, DbError> {
        copy(shared.env.files(), dir, scratch)
            .map_err(|e| DbError::Failed(e.to_string().into()))?;
        Db::open_with(scratch, shared, Purpose::Copy)
    }
}

fn copy(files: &dyn Files, dir: &Path, scratch: &Path) -> io::Result<()> {
    let (from, to) = (
        files.canonicalize(&dir.join("rocksdb"))?,
        scratch.join("rocksdb"),
    );
    files.create_dir_all(&to)?;
    for name in files.list(&from)? {
        let name = name?;
        let (source, target) = (from.join(&name), to.join(&name));
        let extension = source.extension().unwrap_or_default();
        let text = name.to_string_lossy();
        if UNCHANGING.iter().any(|unchanging| extension == *unchanging) {
            files.symlink(&source, &target)?;
        } else if !text.starts_with("LOG") && text != "LOCK" {
            files.copy(&source, &target)?;
        }
    }
    files.copy(&dir.join("synced"), &scratch.join("synced"))
}
