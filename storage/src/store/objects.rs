//! Objects: writing, opening and deleting their versions.

use async_trait::async_trait;

use crate::body::{Body, BodyReader};
use crate::error::Result;
use crate::types::{
    Attributes, BucketId, ByteRange, Checksum, ETag, ObjectPart, ObjectVersion, RangeSpec, Tags,
    Timestamp, Version, VersionId, VersionSelector,
};

/// The largest number of keys in one `delete_objects`.
pub const DELETE_LEN_MAX: usize = 1000;

/// The bytes that a version is opened for. Opening it reads no more of the metadata than these
/// need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadScope {
    /// No bytes: the version alone, and its part list.
    Nothing,
    /// A range. If the object has none of it, this is `Nothing`.
    Range(RangeSpec),
    /// The part with this number. An object that was written in one request is its own part 1.
    Part(u16),
    /// Any bytes.
    Whole,
}

/// One version opened for reading. It stays readable, and the same, while the handle lives.
#[async_trait]
pub trait ObjectHandle: Send + Sync {
    fn version(&self) -> &Version;

    /// Returns the version's object. There always is one, as a delete marker is never opened.
    fn object(&self) -> &ObjectVersion;

    /// Returns the number of parts the object was made of; 0 when it was written in one request.
    fn parts_count(&self) -> u32 {
        self.object().etag.parts
    }

    /// Returns the part that was uploaded under this number, and `None` if there is none.
    async fn part(&self, number: u16) -> Result<Option<ObjectPart>>;

    /// Returns up to `max` parts with numbers above `after`, ascending.
    async fn parts(&self, after: u16, max: usize) -> Result<Vec<ObjectPart>>;

    /// Reads a range, which must lie within the object and within the bytes that it was opened for.
    async fn read(&self, range: ByteRange) -> Result<Box<dyn BodyReader>>;
}

/// Conditions on the current version of the key written to, checked where the order is decided.
/// A delete marker counts as no version. A delete that names a version is also checked against the
/// current one.
///
/// The conditions are checked in the order of the fields; the first that fails is the answer.
/// Without a current version `if_match` is refused with `NoSuchKey`, and the others hold. Every
/// other failure is `PreconditionFailed`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct WriteCondition {
    pub if_match: Option<ETagCondition>,
    pub if_none_match: Option<ETagCondition>,
    pub if_match_size: Option<u64>,
    /// Compared in whole seconds.
    pub if_match_modified: Option<Timestamp>,
}

/// The ETags that a condition names.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ETagCondition {
    Any,
    OneOf(Vec<ETag>),
}

/// A request to write an object.
#[derive(Clone, Debug)]
pub struct PutObject {
    pub key: String,
    pub attributes: Attributes,
    pub condition: WriteCondition,
}

/// The answer to a write that made a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// `None` in a bucket that never was versioned, `null` in a suspended one.
    pub version_id: Option<VersionId>,
    pub etag: ETag,
    pub size: u64,
    pub checksum: Option<Checksum>,
    pub modified: Timestamp,
}

/// A request to delete an object or one version of it.
#[derive(Clone, Debug)]
pub struct DeleteObject {
    pub key: String,
    /// `Latest` removes the object in a bucket that never was versioned, and otherwise makes a
    /// delete marker, also where the key has no version yet or a marker already. In a suspended
    /// bucket the marker is the `null` version and replaces the one there was.
    pub version: VersionSelector,
    pub condition: WriteCondition,
}

/// The answer to a delete.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Deleted {
    /// The version named, whether it existed or not, or the marker made; `None` where the latest
    /// was removed in a bucket that never was versioned.
    pub version_id: Option<VersionId>,
    /// Whether a delete marker was made, or the version removed was one.
    pub is_marker: bool,
}

/// The objects of a store, by bucket, key and version.
///
/// # What an implementation must guarantee
///
/// Besides what the crate's page says of all traits:
///
/// - **Latest is the newest in the order of writes**: the version that was committed last is the
///   one that a reader without a version id gets, whatever the clocks say.
/// - **A handle pins its version**: an open handle stays readable while the version is overwritten
///   or deleted.
/// - **The body is read to its end** before the conditions and the quota decide.
#[async_trait]
pub trait Objects: Send + Sync + 'static {
    /// Writes an object. A body that fails leaves nothing, and its error is the answer before any
    /// refusal.
    async fn put_object(
        &self,
        bucket: BucketId,
        request: PutObject,
        body: &mut dyn Body,
    ) -> Result<Written>;

    /// Opens a version to read what is in `scope`. A delete marker is `Refusal::DeleteMarker`. A
    /// version that doesn't exist is `NoSuchVersion`, also where the key has none at all. Where no
    /// version is named and the key has none, it is `NoSuchKey`.
    async fn open_object(
        &self,
        bucket: BucketId,
        key: &str,
        version: VersionSelector,
        scope: ReadScope,
    ) -> Result<Box<dyn ObjectHandle>>;

    /// Removes a version or makes a marker: see `DeleteObject::version`. Succeeds where there is
    /// nothing to remove.
    async fn delete_object(&self, bucket: BucketId, request: DeleteObject) -> Result<Deleted>;

    /// Deletes many keys, each decided alone. The answers come in the order of the requests.
    async fn delete_objects(
        &self,
        bucket: BucketId,
        requests: Vec<DeleteObject>,
    ) -> Result<Vec<Result<Deleted>>>;

    /// Makes a version that shares the source's bytes, ETag, checksum and parts; no byte is read.
    /// `source` must be opened from the same bucket. Refused with `Refusal::Conflict` when no
    /// version has its bytes any more: open it again. (A copy to another bucket or class is
    /// `put_object` with the source's reader.)
    async fn link_object(
        &self,
        bucket: BucketId,
        source: &dyn ObjectHandle,
        request: PutObject,
    ) -> Result<Written>;

    /// Replaces the tags of a version and nothing else. Returns the id of the version that was
    /// changed, and `None` in a bucket that never was versioned. Refused as `open_object` refuses.
    async fn put_object_tags(
        &self,
        bucket: BucketId,
        key: &str,
        version: VersionSelector,
        tags: Tags,
    ) -> Result<Option<VersionId>>;
}
