//! The walk over a disk's files, for shards that its list lost and that nothing names.
//!
//! A file can come to that by what this store does not do itself: a file put back from elsewhere,
//! a list that was damaged or is older than the files.

use super::LocalDisk;
use crate::disk::identity::shard_folder;
use crate::disk::pending::parse_name;
use crate::disk::{DiskError, ShardName};
use drystone_store::types::Epoch;

impl LocalDisk {
    pub(super) async fn find_unlisted(&self, folder: u8) -> Result<Vec<ShardName>, DiskError> {
        self.inner.writable()?;
        let inner = self.inner.clone();
        let found = self.inner.pool.run(move || {
            let folder = shard_folder(&inner.dir, folder);
            let files = inner.env.files().list(&folder).and_then(|files| {
                let names = files.map(|file| Ok(file?.to_str().and_then(parse_name)));
                names.filter_map(Result::transpose).collect()
            });
            // The files first: a shard is on the list before it has one.
            inner
                .pending
                .without_listed(files.map_err(|e| inner.after_read(e.into()))?)
                .map_err(|e| inner.after_db(e))
        });
        found.await?
    }

    pub(super) async fn put_on_list(
        &self,
        shards: Vec<ShardName>,
        epoch: Epoch,
    ) -> Result<(), DiskError> {
        self.inner.writable()?;
        let inner = self.inner.clone();
        let listed = self.inner.pool.run(move || {
            let listed = inner.pending.add_again(&shards, epoch);
            listed.map_err(|e| inner.after_db(e))
        });
        listed.await?
    }
}
