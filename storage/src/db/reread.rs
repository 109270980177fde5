//! Reads a database again from its files, so that silent damage is found.
//!
//! RocksDB verifies each block and each value's blob as it reads them. A checksum that does not
//! match ends the use of the database. Blocks in the cache were verified when they were read from
//! the file; a later pass reads them again.

use rocksdb::ReadOptions;

use super::{Db, DbError, Family};

/// The position at which to continue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadAt {
    family: usize,
    key: Vec<u8>,
}

impl Db {
    /// Reads about `bytes` of rows, from `at` on or from the first one. Returns the bytes read, and
    /// where to continue if there are more rows. Blocks.
    pub fn read_again(
        &self,
        at: Option<ReadAt>,
        bytes: u64,
    ) -> Result<(u64, Option<ReadAt>), DbError> {
        let ReadAt { family, key } = at.unwrap_or(ReadAt {
            family: 0,
            key: Vec::new(),
        });
        let mut options = ReadOptions::default();
        options.set_verify_checksums(true);
        options.fill_cache(false);
        let handle = self.family(Family::ALL[family]);
        let mut rows = self.rocks().raw_iterator_cf_opt(handle, options);
        rows.seek(&key);
        let mut read = 0;
        while let Some((key, value)) = rows.item() {
            if read >= bytes {
                let key = key.to_vec();
                return Ok((read, Some(ReadAt { family, key })));
            }
            read += (key.len() + value.len()) as u64;
            rows.next();
        }
        rows.status().map_err(|e| self.failed(e))?;
        let next = ReadAt {
            family: family + 1,
            key: Vec::new(),
        };
        Ok((read, (next.family < Family::ALL.len()).then_some(next)))
    }
}
