//! A shard of a local disk opened for reading.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;

use super::Inner;
use crate::disk::shard_file::Reader;
use crate::disk::{Blocks, DiskError, ShardReader};

pub(super) struct LocalReader {
    pub inner: Arc<Inner>,
    pub reader: Arc<Reader>,
}

#[async_trait]
impl ShardReader for LocalReader {
    async fn read(&self, blocks: Range<u64>) -> Result<Blocks, DiskError> {
        self.inner.readable()?;
        let (inner, reader) = (self.inner.clone(), self.reader.clone());
        let read = self
            .inner
            .pool
            .run(move || reader.read(blocks).map_err(|e| inner.after_read(e.into())));
        read.await?
    }

    async fn seal(&self) -> Result<u64, DiskError> {
        self.inner.readable()?;
        let (inner, reader) = (self.inner.clone(), self.reader.clone());
        let read = self
            .inner
            .pool
            .run(move || reader.footer().map_err(|e| inner.after_read(e)));
        read.await?
    }
}
