//! Ingestion: many rows become table files that the database then has at once.
//!
//! That costs about as much as copying the files. Rows that go through the WAL and the memtables
//! are written three times, and compacted later.

use std::io;
use std::iter::Peekable;
use std::path::PathBuf;

use rocksdb::{IngestExternalFileOptions, SstFileWriter};

use super::{Db, DbError, Family, INCOMING, options};

/// The size from which a table file is complete.
pub const TABLE_BYTES: u64 = 32 << 20;

impl Db {
    /// Adds rows, which must come in the order of their keys. Nothing in the family may have a key
    /// between the first and the last of them. Blocks.
    ///
    /// Power goes anywhere: a file is durable before the database has it, and the next start
    /// removes the files that it does not have. Files that it has already stay.
    pub fn ingest<E: From<DbError>>(
        &self,
        family: Family,
        table_bytes: u64,
        rows: impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), E>>,
    ) -> Result<(), E> {
        let mut rows = rows.peekable();
        while rows.peek().is_some() {
            let file = self.incoming_file(family)?;
            let written = self.write_table(&file, family, table_bytes, &mut rows);
            let added = written.and_then(|()| Ok(self.add_table(&file, family)?));
            if added.is_err() {
                // If this fails too, the next start does it.
                self.env().files().remove_file(&file).ok();
            }
            added?;
        }
        Ok(())
    }

    fn incoming_file(&self, family: Family) -> Result<PathBuf, DbError> {
        let folder = self.core.dir.join(INCOMING);
        let made = self.env().files().create_dir_all(&folder);
        made.map_err(|e: io::Error| self.core.fail(e.to_string()))?;
        let number = self.env().random_id();
        Ok(folder.join(format!("{}-{number:016x}.sst", family.name())))
    }

    /// Writes rows into a file until it has `table_bytes`, and syncs it.
    fn write_table<E: From<DbError>>(
        &self,
        file: &PathBuf,
        family: Family,
        table_bytes: u64,
        rows: &mut Peekable<impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), E>>>,
    ) -> Result<(), E> {
        let options = options::of_family(Some(family), &self.core.cache, &self.core.resources);
        let mut table = SstFileWriter::create(&options);
        table.open(file).map_err(|e| self.failed(e))?;
        // Compression makes the file shorter than what has been put into it, and its last blocks
        // are not written yet: both only make it a little longer than asked.
        while table.file_size() < table_bytes
            && let Some(row) = rows.next()
        {
            let (key, value) = row?;
            table.put(key, value).map_err(|e| self.failed(e))?;
        }
        let _operation = self.core.operations.begin();
        Ok(table.finish().map_err(|e| self.failed(e))?)
    }

    fn add_table(&self, file: &PathBuf, family: Family) -> Result<(), DbError> {
        self.core.usable(&self.core.queue.lock())?;
        let _operation = self.core.operations.begin();
        #[cfg(test)]
        self.core.faults.check().map_err(|e| self.core.fail(e))?;
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        // No snapshot can have seen a row of this range.
        options.set_snapshot_consistency(false);
        let added =
            self.core
                .rocks
                .ingest_external_file_cf_opts(self.family(family), &options, vec![file]);
        added.map_err(|e| self.failed(e))
    }
}
