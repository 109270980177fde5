//! Walks over a disk's files, in search of shards that its list lost and that no metadata name.
//!
//! A file comes into this state by events outside the store: a file that was put back from
//! elsewhere, a list that was damaged or is older than the files.

use std::sync::Arc;

use super::core::DiskCore;
use crate::disk::identity::shard_folder;
use crate::disk::pending::parse_name;
use crate::disk::{DiskError, ShardName};
use drystone_store::types::Epoch;

impl DiskCore {
    pub(super) async fn find_unlisted(
        self: &Arc<Self>,
        folder: u8,
    ) -> Result<Vec<ShardName>, DiskError> {
        self.writable()?;
        let core = self.clone();
        let found = self.pool.run(move || {
            let folder = shard_folder(&core.dir, folder);
            let files = core.env.files().list(&folder).and_then(|files| {
                let names = files.map(|file| Ok(file?.to_str().and_then(parse_name)));
                names.filter_map(Result::transpose).collect()
            });
            // The files come first: a shard is on the list before it has one.
            core.pending
                .without_listed(files.map_err(|e| core.after_read(e.into()))?)
                .map_err(|e| core.after_db(e))
        });
        found.await?
    }

    pub(super) async fn relist(
        self: &Arc<Self>,
        shards: Vec<ShardName>,
        epoch: Epoch,
    ) -> Result<(), DiskError> {
        self.writable()?;
        let core = self.clone();
        let listed = self.pool.run(move || {
            let listed = core.pending.add_existing(&shards, epoch);
            listed.map_err(|e| core.after_db(e))
        });
        listed.await?
    }
}
