//! A shard of a local disk opened for reading.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;

use super::core::DiskCore;
use crate::disk::shard_file::Reader;
use crate::disk::{Blocks, DiskError, ShardReader};

pub(super) struct LocalReader {
    pub core: Arc<DiskCore>,
    pub reader: Arc<Reader>,
}

#[async_trait]
impl ShardReader for LocalReader {
    async fn read(&self, blocks: Range<u64>) -> Result<Blocks, DiskError> {
        self.core.readable()?;
        let (core, reader) = (self.core.clone(), self.reader.clone());
        let read = self
            .core
            .pool
            .run(move || reader.read(blocks).map_err(|e| core.after_read(e.into())));
        read.await?
    }

    async fn seal(&self) -> Result<u64, DiskError> {
        self.core.readable()?;
        let (core, reader) = (self.core.clone(), self.reader.clone());
        let read = self
            .core
            .pool
            .run(move || reader.footer().map_err(|e| core.after_read(e)));
        read.await?
    }

    async fn drop_cache(&self) -> Result<(), DiskError> {
        let (core, reader) = (self.core.clone(), self.reader.clone());
        let dropped = self
            .core
            .pool
            .run(move || reader.drop_cache().map_err(|e| core.after_read(e.into())));
        dropped.await?
    }
}
