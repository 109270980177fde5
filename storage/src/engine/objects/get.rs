//! An open version, and reading ranges of it.
//!
//! A handle holds an epoch from before its version was read: whatever is deleted or overwritten
//! meanwhile, gc leaves the shards alone until the handle is dropped. The list of shards that hold
//! the bytes is read together with the version, so that an open version never changes.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::meta::view::{DataKind, PartEntry, View};
use crate::raft::epochs::EpochGuard;
use crate::shards::Shards;
use drystone_store::body::BodyReader;
use drystone_store::error::{Error, Result};
use drystone_store::objects::ObjectHandle;
use drystone_store::shard_set::ShardSet;
use drystone_store::types::{BucketId, ByteRange, ObjectPart, ObjectVersion, Version, WriteId};
use drystone_store::uploads::PART_NUMBER_MAX;

/// The largest length of a part list.
const PARTS_MAX: usize = PART_NUMBER_MAX as usize;

/// The place of a version's bytes.
pub(super) enum Content {
    Inline(Bytes),
    Shards(ShardSet),
    /// The whole list is read at once, as the rows of a list are removed with its last version.
    Parts(Vec<PartContent>),
}

pub(super) struct PartContent {
    part: PartEntry,
    content: Content,
}

impl Content {
    /// Reads the place of the bytes that `write_id` names.
    pub fn read(view: &View<'_>, write_id: WriteId) -> Result<Content> {
        let row = view.data(write_id)?.ok_or_else(|| {
            Error::Corrupt(format!(
                "a version or part names {write_id}, which has no data row"
            ))
        })?;
        Ok(match row.kind {
            DataKind::Inline => Content::Inline(view.value(write_id)?.into()),
            DataKind::Shards(set) => Content::Shards(set),
            DataKind::Parts { .. } => {
                let parts = view.parts(write_id, 0, PARTS_MAX)?.into_iter().map(|part| {
                    let content = Content::read(view, part.write_id)?;
                    Ok(PartContent { part, content })
                });
                Content::Parts(parts.collect::<Result<_>>()?)
            }
        })
    }

    /// Appends the segments that `range` of these bytes consists of; `size` is the number of bytes.
    fn segments(&self, write_id: WriteId, size: u64, range: ByteRange, into: &mut Segments) {
        match self {
            Content::Inline(bytes) => {
                let bytes = bytes.slice(range.start as usize..range.end as usize);
                into.push_back(Segment::Inline(bytes));
            }
            Content::Shards(set) => {
                into.push_back(Segment::Shards {
                    write_id,
                    size,
                    set: set.clone(),
                    range,
                });
            }
            Content::Parts(parts) => {
                let first = parts.partition_point(|p| p.part.offset + p.part.size <= range.start);
                for PartContent { part, content } in &parts[first..] {
                    if part.offset >= range.end {
                        break;
                    }
                    let start = range.start.max(part.offset) - part.offset;
                    let end = range.end.min(part.offset + part.size) - part.offset;
                    content.segments(part.write_id, part.size, ByteRange { start, end }, into);
                }
            }
        }
    }
}

/// An open version. See [`ObjectHandle`].
pub(super) struct Handle {
    pub version: Version,
    pub content: Content,
    pub bucket: BucketId,
    pub shards: Arc<Shards>,
    pub epoch: Arc<EpochGuard>,
}

impl Handle {
    fn part_list(&self) -> &[PartContent] {
        match &self.content {
            Content::Parts(parts) => parts,
            Content::Inline(_) | Content::Shards(_) => &[],
        }
    }
}

#[async_trait]
impl ObjectHandle for Handle {
    fn version(&self) -> &Version {
        &self.version
    }

    fn object(&self) -> &ObjectVersion {
        self.version
            .object
            .as_ref()
            .expect("only versions with bytes are opened")
    }

    async fn part(&self, number: u16) -> Result<Option<ObjectPart>> {
        let parts = self.part_list();
        let found = parts
            .binary_search_by_key(&number, |part| part.part.number)
            .ok();
        Ok(found.map(|at| parts[at].part.clone().into_object_part()))
    }

    async fn parts(&self, after: u16, max: usize) -> Result<Vec<ObjectPart>> {
        let parts = self.part_list();
        let first = parts.partition_point(|part| part.part.number <= after);
        Ok(parts[first..]
            .iter()
            .take(max)
            .map(|p| p.part.clone().into_object_part())
            .collect())
    }

    async fn read(&self, range: ByteRange) -> Result<Box<dyn BodyReader>> {
        let object = self.object();
        assert!(
            range.end <= object.size,
            "the caller keeps within the object"
        );
        let mut segments = Segments::new();
        self.content
            .segments(object.write_id, object.size, range, &mut segments);
        Ok(Box::new(Reader {
            segments,
            opening: None,
            current: None,
            failed: false,
            bucket: self.bucket,
            shards: self.shards.clone(),
            _epoch: self.epoch.clone(),
        }))
    }
}

type Segments = VecDeque<Segment>;

enum Segment {
    Inline(Bytes),
    Shards {
        write_id: WriteId,
        size: u64,
        set: ShardSet,
        range: ByteRange,
    },
}

type Opening = BoxFuture<'static, Result<Box<dyn BodyReader>>>;

/// Reads the segments one after the other. A caller that stopped waiting for a piece gets it at
/// its next call: an opening that is under way is kept, so that no byte is ever left out.
struct Reader {
    segments: Segments,
    opening: Option<Opening>,
    current: Option<Box<dyn BodyReader>>,
    failed: bool,
    bucket: BucketId,
    shards: Arc<Shards>,
    _epoch: Arc<EpochGuard>,
}

impl Reader {
    fn open(&self, write_id: WriteId, size: u64, set: ShardSet, range: ByteRange) -> Opening {
        let (shards, bucket) = (self.shards.clone(), self.bucket);
        Box::pin(async move { shards.read(write_id, bucket, size, &set, range).await })
    }

    async fn piece(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(opening) = &mut self.opening {
                self.current = Some(opening.await?);
                self.opening = None;
            }
            if let Some(reader) = &mut self.current {
                if let Some(piece) = reader.next().await? {
                    return Ok(Some(piece));
                }
                self.current = None;
            }
            match self.segments.pop_front() {
                None => return Ok(None),
                Some(Segment::Inline(bytes)) if bytes.is_empty() => {}
                Some(Segment::Inline(bytes)) => return Ok(Some(bytes)),
                Some(Segment::Shards { range, .. }) if range.is_empty() => {}
                Some(Segment::Shards {
                    write_id,
                    size,
                    set,
                    range,
                }) => self.opening = Some(self.open(write_id, size, set, range)),
            }
        }
    }
}

#[async_trait]
impl BodyReader for Reader {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.failed {
            return Err(Error::Unavailable("the read has failed before".into()));
        }
        let piece = self.piece().await;
        self.failed = piece.is_err();
        piece
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use drystone_store::types::ETag;
    use drystone_store::uploads::PART_SIZE_MAX_BYTES;

    fn set() -> ShardSet {
        ShardSet {
            data_shards: 1,
            parity_shards: 0,
            chunk_size: 1,
            class: String::new(),
            undersized: false,
            shards: Vec::new(),
        }
    }

    /// The largest object there can be: 10,000 parts of 5 GiB, 48.8 TiB.
    fn largest() -> Content {
        let parts = (1..=PART_NUMBER_MAX).map(|number| PartContent {
            part: PartEntry {
                number,
                offset: u64::from(number - 1) * PART_SIZE_MAX_BYTES,
                size: PART_SIZE_MAX_BYTES,
                etag: ETag {
                    md5: [0; 16],
                    parts: 0,
                },
                checksum: None,
                write_id: WriteId(u128::from(number).to_be_bytes()),
            },
            content: Content::Shards(set()),
        });
        Content::Parts(parts.collect())
    }

    /// Returns the number of each part that a range is read from, and the range within it.
    fn segments(content: &Content, start: u64, end: u64) -> Vec<(u128, u64, u64)> {
        let mut found = Segments::new();
        let size = u64::from(PART_NUMBER_MAX) * PART_SIZE_MAX_BYTES;
        content.segments(WriteId([0; 16]), size, ByteRange { start, end }, &mut found);
        let within = found.into_iter().map(|segment| match segment {
            Segment::Shards {
                write_id, range, ..
            } => (u128::from_be_bytes(write_id.0), range.start, range.end),
            Segment::Inline(_) => panic!("no part lies in the metadata"),
        });
        within.collect()
    }

    #[test]
    fn f_35_ranges_of_the_largest_object_fall_into_their_parts() {
        let content = largest();
        let part = PART_SIZE_MAX_BYTES;
        let end = u64::from(PART_NUMBER_MAX) * part;
        assert_eq!(segments(&content, 0, 1), [(1, 0, 1)]);
        assert_eq!(segments(&content, 0, part), [(1, 0, part)]);
        assert_eq!(
            segments(&content, part - 1, part + 1),
            [(1, part - 1, part), (2, 0, 1)]
        );
        // Past 100 GiB, past 2^32 and at the very end.
        for number in [1_u64, 20, 21, 4_000, 9_999] {
            let edge = number * part;
            let expected = [
                (u128::from(number), part - 2, part),
                (u128::from(number) + 1, 0, 3),
            ];
            assert_eq!(segments(&content, edge - 2, edge + 3), expected);
        }
        let last = u128::from(PART_NUMBER_MAX);
        assert_eq!(segments(&content, end - 1, end), [(last, part - 1, part)]);
        assert_eq!(segments(&content, end - part, end), [(last, 0, part)]);
        let all = segments(&content, 1, end - 1);
        assert_eq!(all.len(), usize::from(PART_NUMBER_MAX));
        assert_eq!((all[0], all[9_999]), ((1, 1, part), (last, 0, part - 1)));
    }
}
