//! An open version, and reading ranges of it.
//!
//! A handle holds an epoch from before its version was read: whatever is deleted or overwritten
//! meanwhile, gc leaves the shards and the part list alone until the handle is dropped. So an open
//! version never changes, although the places of a multipart object's parts are read page by page.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::meta::view::View;
use crate::meta::view::content::{Content, Place, PlacedPart};
use crate::raft::epochs::EpochGuard;
use crate::raft::group::Group;
use crate::shards::Shards;
use drystone_store::body::BodyReader;
use drystone_store::checksum::Hasher;
use drystone_store::error::{Error, Result};
use drystone_store::objects::ObjectHandle;
use drystone_store::shard_set::ShardSet;
use drystone_store::types::{
    BucketId, ByteRange, ChecksumAlgorithm, ChecksumType, ObjectPart, ObjectVersion, Version,
    WriteId,
};

/// An open version. See [`ObjectHandle`].
pub(super) struct Handle {
    pub version: Version,
    /// `None` if it was opened for none of its bytes.
    pub content: Option<Content>,
    pub source: Source,
}

/// The things that reading needs besides the places of the bytes.
#[derive(Clone)]
pub(super) struct Source {
    pub bucket: BucketId,
    pub group: Group,
    pub shards: Arc<Shards>,
    /// Guards what is read from gc.
    pub _epoch: Arc<EpochGuard>,
}

impl Handle {
    /// Reads from the part list; `None` for an object that was written in one request.
    async fn read_list<T, F>(&self, read: F) -> Result<Option<T>>
    where
        T: Send + 'static,
        F: Fn(&View<'_>, WriteId) -> Result<T> + Send + Sync + 'static,
    {
        if self.parts_count() == 0 {
            return Ok(None);
        }
        let list = self.object().write_id;
        let read = self.source.group.read(move |view| read(view, list));
        read.await.map(Some)
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
        if let Some(Content::Parts(parts)) = &self.content
            && let Some(known) = parts.iter().find(|placed| placed.part.number == number)
        {
            return Ok(Some(known.part.clone().into_object_part()));
        }
        let part = self.read_list(move |view, list| view.part(list, number));
        Ok(part.await?.flatten().map(|part| part.into_object_part()))
    }

    async fn parts(&self, after: u16, max: usize) -> Result<Vec<ObjectPart>> {
        let parts = self.read_list(move |view, list| view.parts(list, after, max));
        let parts = parts.await?.unwrap_or_default().into_iter();
        Ok(parts.map(|part| part.into_object_part()).collect())
    }

    async fn read(&self, range: ByteRange) -> Result<Box<dyn BodyReader>> {
        let object = self.object();
        assert!(
            range.end <= object.size,
            "the caller keeps within the object"
        );
        let mut reader = Reader {
            segments: VecDeque::new(),
            list: None,
            paging: None,
            opening: None,
            current: None,
            failed: false,
            check: WholeCheck::of(object, range),
            source: self.source.clone(),
        };
        match &self.content {
            None => {
                let what = "the version was not opened for its bytes";
                return Err(Error::Io(std::io::Error::other(what)));
            }
            Some(Content::OneWrite(place)) => {
                let (write_id, size) = (object.write_id, object.size);
                let segment = Segment::new(place, write_id, size, range);
                reader.segments.push_back(segment);
            }
            Some(Content::Parts(parts)) => {
                let mut list = PartList {
                    write_id: object.write_id,
                    rest: range,
                };
                // Without the first byte among them, they are of no use.
                list.take(parts, &mut reader.segments);
                reader.list = Some(list);
            }
        }
        Ok(Box::new(reader))
    }
}

/// A part list that is being read.
struct PartList {
    write_id: WriteId,
    /// The part of the range for which no segment has been made.
    rest: ByteRange,
}

impl PartList {
    /// Makes the segments of the next parts, as far as `parts` has them without a hole.
    fn take(&mut self, parts: &[PlacedPart], segments: &mut VecDeque<Segment>) {
        for PlacedPart { part, place } in parts {
            let (of_part, rest) = (part.range(), self.rest);
            if rest.is_empty() || of_part.end <= rest.start {
                continue;
            }
            if of_part.start > rest.start {
                return;
            }
            let within = ByteRange {
                start: rest.start - part.offset,
                end: rest.end.min(of_part.end) - part.offset,
            };
            segments.push_back(Segment::new(place, part.write_id, part.size, within));
            self.rest.start = rest.end.min(of_part.end);
        }
    }
}

enum Segment {
    Inline(Bytes),
    Shards {
        write_id: WriteId,
        size: u64,
        set: ShardSet,
        range: ByteRange,
    },
}

impl Segment {
    /// Makes the segment of a range of one write, which has `size` bytes.
    fn new(place: &Place, write_id: WriteId, size: u64, range: ByteRange) -> Segment {
        match place {
            Place::Inline(bytes) => {
                Segment::Inline(bytes.slice(range.start as usize..range.end as usize))
            }
            Place::Shards(set) => Segment::Shards {
                write_id,
                size,
                set: set.clone(),
                range,
            },
        }
    }
}

type Opening = BoxFuture<'static, Result<Box<dyn BodyReader>>>;
type Paging = BoxFuture<'static, Result<Vec<PlacedPart>>>;

/// Reads the segments one after the other. A caller that stopped waiting for a piece gets it at
/// its next call: an opening that is under way is kept, so that no byte is ever left out.
struct Reader {
    segments: VecDeque<Segment>,
    /// The list that further segments come from, if it is a multipart object.
    list: Option<PartList>,
    paging: Option<Paging>,
    opening: Option<Opening>,
    current: Option<Box<dyn BodyReader>>,
    failed: bool,
    check: Option<WholeCheck>,
    source: Source,
}

impl Reader {
    fn open(&self, write_id: WriteId, size: u64, set: ShardSet, range: ByteRange) -> Opening {
        let (shards, bucket) = (self.source.shards.clone(), self.source.bucket);
        Box::pin(async move { shards.read(write_id, bucket, size, &set, range).await })
    }

    /// Begins to read the next page of the part list. Returns false after the last part.
    fn turn_page(&mut self) -> bool {
        let Some(list) = self.list.as_ref().filter(|list| !list.rest.is_empty()) else {
            return false;
        };
        let (group, write_id, rest) = (self.source.group.clone(), list.write_id, list.rest);
        self.paging = Some(Box::pin(async move {
            let read = move |view: &View<'_>| view.placed_parts(write_id, rest);
            group.read(read).await
        }));
        true
    }

    fn accept_page(&mut self, parts: &[PlacedPart]) -> Result<()> {
        let Some(list) = &mut self.list else {
            return Ok(());
        };
        let start = list.rest.start;
        list.take(parts, &mut self.segments);
        match list.rest.start > start {
            true => Ok(()),
            false => Err(Error::Corrupt(format!(
                "the part list {} has no part with byte {start}",
                list.write_id
            ))),
        }
    }

    async fn piece(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(paging) = &mut self.paging {
                let parts = paging.await?;
                self.paging = None;
                self.accept_page(&parts)?;
            }
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
                None if self.turn_page() => {}
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
        let mut piece = self.piece().await;
        if let (Ok(Some(bytes)), Some(check)) = (&piece, &mut self.check)
            && let Err(error) = check.accept(bytes)
        {
            piece = Err(error);
        }
        self.failed = piece.is_err();
        piece
    }
}

/// Compares all bytes of an object with the checksum that was taken when they came. The last
/// piece is returned only if they agree, so a client never gets all of a wrong body.
struct WholeCheck {
    write_id: WriteId,
    /// `None` after the last byte.
    hasher: Option<Hasher>,
    expected: Vec<u8>,
    left: u64,
}

impl WholeCheck {
    /// Returns the check of a read of all bytes, if the object has a checksum of them that costs
    /// little. The others cost more than the rest of the read; the payloads of the shards are
    /// compared in any case.
    fn of(object: &ObjectVersion, range: ByteRange) -> Option<WholeCheck> {
        use ChecksumAlgorithm::{Crc32, Crc32c, Crc64Nvme, XxHash3, XxHash64, XxHash128};
        let checksum = object.checksum.as_ref()?;
        let is_cheap = matches!(
            checksum.algorithm,
            Crc32 | Crc32c | Crc64Nvme | XxHash3 | XxHash64 | XxHash128
        );
        let is_of_all = checksum.kind == ChecksumType::FullObject && range.len() == object.size;
        (is_cheap && is_of_all).then(|| WholeCheck {
            write_id: object.write_id,
            hasher: Some(Hasher::new(checksum.algorithm)),
            expected: checksum.value.clone(),
            left: object.size,
        })
    }

    fn accept(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(hasher) = &mut self.hasher else {
            return Ok(());
        };
        hasher.update(bytes);
        self.left = self.left.saturating_sub(bytes.len() as u64);
        if self.left > 0 {
            return Ok(());
        }
        let found = self.hasher.take().map(Hasher::finish);
        if found.is_some_and(|found| found.value == self.expected) {
            return Ok(());
        }
        let what = format!(
            "the bytes of {} are not those of its checksum",
            self.write_id
        );
        Err(Error::Corrupt(what))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::engine::testing::{self, Whole};
    use crate::engine::{Engine, Options};
    use crate::meta::view::PartEntry;
    use drystone_store::body::Body;
    use drystone_store::checksum::checksum;
    use drystone_store::instance::Instance as _;
    use drystone_store::objects::{Objects as _, ReadScope};
    use drystone_store::types::{Digest, ETag, VersionSelector};
    use drystone_store::uploads::{PART_NUMBER_MAX, PART_SIZE_MAX_BYTES};

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
    fn largest() -> Vec<PlacedPart> {
        let parts = (1..=PART_NUMBER_MAX).map(|number| PlacedPart {
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
            place: Place::Shards(set()),
        });
        parts.collect()
    }

    /// Returns the number of each part that a range is read from, and the range within it.
    fn segments(parts: &[PlacedPart], start: u64, end: u64) -> Vec<(u128, u64, u64)> {
        let mut found = VecDeque::new();
        let mut list = PartList {
            write_id: WriteId([0; 16]),
            rest: ByteRange { start, end },
        };
        list.take(parts, &mut found);
        assert!(list.rest.is_empty());
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

    /// A body with the checksum of other bytes.
    struct Lying(Whole);

    #[async_trait]
    impl Body for Lying {
        async fn next(&mut self) -> Result<Option<Bytes>> {
            self.0.next().await
        }

        fn digest(&mut self) -> Digest {
            Digest {
                checksum: Some(checksum(ChecksumAlgorithm::Crc64Nvme, b"other bytes")),
                ..self.0.digest()
            }
        }

        fn size_hint(&self) -> Option<u64> {
            None
        }
    }

    /// Once nothing compared what was read with what the client had sent.
    #[tokio::test]
    async fn r_10_a_whole_read_that_differs_from_the_objects_checksum_never_ends_well() {
        let root = tempfile::tempdir().unwrap();
        let directories = (0..2).map(|n| root.path().join(format!("{n}"))).collect();
        let engine = Engine::open(Options::new(directories)).await.unwrap();
        let bucket = testing::create_bucket(&engine).await;
        for size in [100_u64, 3_000_000] {
            let mut body = Lying(Whole::new(vec![7; size as usize]));
            testing::put(&engine, bucket, "k", &mut body).await;
            let handle = engine.open_object(bucket, "k", VersionSelector::Latest, ReadScope::Whole);
            let handle = handle.await.unwrap();
            let read = async |start, end| {
                let mut reader = handle.read(ByteRange { start, end }).await.unwrap();
                let mut len = 0;
                loop {
                    match reader.next().await {
                        Ok(Some(piece)) => len += piece.len() as u64,
                        Ok(None) => return Ok(len),
                        Err(error) => {
                            assert!(len < end - start, "all was returned");
                            return Err(error);
                        }
                    }
                }
            };
            assert!(matches!(read(0, size).await, Err(Error::Corrupt(_))));
            // Nothing is known of a range.
            assert_eq!(read(1, size).await.unwrap(), size - 1);
        }
        engine.close().await;
    }
}
