//! Opening a version: the places of its bytes, as far as a request needs them.
//!
//! A multipart object has up to 10,000 parts. Their places are read in pages of [`PARTS_AT_ONCE`],
//! from the part with the first byte that is wanted. The rows of a part list, and the data rows of
//! its parts, stay until the floor has passed the epoch in which the object was deleted. So a
//! reader that holds an epoch finds the next page, whatever happened to the object meanwhile.

use bytes::Bytes;

use super::{DataKind, PartEntry, View};
use drystone_store::error::{Error, Refusal, Result};
use drystone_store::objects::ReadScope;
use drystone_store::shard_set::ShardSet;
use drystone_store::types::{
    BucketId, ByteRange, ObjectVersion, Version, VersionSelector, WriteId,
};

/// The number of parts whose places are read at once. With up to 32 shards each, a page has about
/// 64 KiB in memory.
pub const PARTS_AT_ONCE: usize = 32;

/// The place of the bytes of one write.
#[derive(Clone, Debug)]
pub enum Place {
    Inline(Bytes),
    Shards(ShardSet),
}

/// A part of a multipart object, with the place of its bytes.
#[derive(Clone, Debug)]
pub struct PlacedPart {
    pub part: PartEntry,
    pub place: Place,
}

/// The places of the bytes of a version.
#[derive(Clone, Debug)]
pub enum Content {
    OneWrite(Place),
    /// Some of its parts, without a hole. Others are read when their bytes are.
    Parts(Vec<PlacedPart>),
}

impl View<'_> {
    /// Opens a version. Refused like `Objects::open_object`. Without bytes in `scope` there is no
    /// content.
    pub fn open(
        &self,
        bucket: BucketId,
        key: &str,
        selector: VersionSelector,
        scope: ReadScope,
    ) -> Result<(Version, Option<Content>)> {
        let version = self.version(bucket, key, selector)?;
        let object = version.object.as_ref().ok_or(Refusal::NoSuchKey)?;
        let range = self.range_of(object, scope)?;
        let content = range.map(|range| self.content(object.write_id, range));
        let content = content.transpose()?;
        Ok((version, content))
    }

    fn range_of(&self, object: &ObjectVersion, scope: ReadScope) -> Result<Option<ByteRange>> {
        let all = ByteRange {
            start: 0,
            end: object.size,
        };
        Ok(match scope {
            ReadScope::Nothing => None,
            ReadScope::Whole => Some(all),
            ReadScope::Range(spec) => spec.within(object.size),
            ReadScope::Part(number) if object.etag.parts == 0 => (number == 1).then_some(all),
            ReadScope::Part(number) => {
                let part = self.part(object.write_id, number)?;
                part.map(|part| part.range())
            }
        })
    }

    fn content(&self, write_id: WriteId, range: ByteRange) -> Result<Content> {
        Ok(match self.named_data(write_id)? {
            DataKind::Parts { .. } => Content::Parts(self.placed_parts(write_id, range)?),
            kind => Content::OneWrite(self.place(write_id, kind)?),
        })
    }

    /// Returns the first parts that hold bytes of the range: at most [`PARTS_AT_ONCE`]. Parts
    /// without bytes are left out.
    pub fn placed_parts(&self, list: WriteId, range: ByteRange) -> Result<Vec<PlacedPart>> {
        let parts = self.parts_within(list, range, PARTS_AT_ONCE)?.into_iter();
        let placed = parts.filter(|part| part.size > 0).map(|part| {
            let kind = self.named_data(part.write_id)?;
            let place = self.place(part.write_id, kind)?;
            Ok(PlacedPart { part, place })
        });
        placed.collect()
    }

    fn named_data(&self, write_id: WriteId) -> Result<DataKind> {
        let row = self.data(write_id)?.ok_or_else(|| {
            Error::Corrupt(format!(
                "a version or part names {write_id}, which has no data row"
            ))
        })?;
        Ok(row.kind)
    }

    fn place(&self, write_id: WriteId, kind: DataKind) -> Result<Place> {
        match kind {
            DataKind::Inline => Ok(Place::Inline(self.value(write_id)?.into())),
            DataKind::Shards(set) => Ok(Place::Shards(set)),
            DataKind::Parts { .. } => Err(Error::Corrupt(format!(
                "a part list names another one, {write_id}"
            ))),
        }
    }
}
