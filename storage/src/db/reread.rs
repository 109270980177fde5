//! Reads a database again from its files, so that what rots while nobody reads it is found.
//!
//! RocksDB checks each block and each value's blob as it reads them; one that is not what was
//! written ends the use of the database. Blocks that lie in the cache were checked as they came
//! there, and are read again by a later pass.

use rocksdb::ReadOptions;

use super::{Db, DbError, Family};

/// Where to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadAt {
    family: usize,
    key: Vec<u8>,
}

impl Db {
    /// Reads rows from `at` on, or from the first one, until they come to about `bytes`. Gives what
    /// they came to, and where to go on if that was not all. Blocks.
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
