//! The public face of the storage engine: one trait, kept by the erasure-coded store and by the
//! in-memory model alike.
//!
//! Callers speak in buckets, keys, versions, parts and byte ranges. They have verified names and
//! limits, authenticated and authorised before they call; nothing here knows HTTP, XML or a policy.
//!
//! # What an implementation must guarantee
//!
//! - **Durable**: `Ok` from a method that changes something means the change survives a crash
//!   and the loss of as many disks as the geometry says.
//! - **Linearizable**: a read or listing sees every change acknowledged before it began.
//! - **All or nothing**: a version appears in one step; an error leaves nothing visible, and what
//!   was written of the bytes is collected later.
//! - **Decided once**: preconditions, versioning state and the bucket's existence are checked where
//!   the order is decided. Of racing conditional writers one wins.
//! - **Byte-exact or error**: a body is what was written, or the stream ends in an error; it never
//!   ends short.
//! - **Driven to the end**: once a change is proposed it is completed, even if the caller's future
//!   is dropped.

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::Result;
use crate::measure::Measure;
use crate::types::{
    Account, AccountId, Attributes, Bucket, BucketId, BucketSetting, ByteRange, Checksum,
    ChecksumAlgorithm, ChecksumType, Digest, ETag, ObjectPart, ObjectVersion, QuotaChange, Tags,
    Timestamp, Upload, UploadId, UploadedPart, Usage, Version, VersionId, VersionSelector,
    Versioning,
};

/// Parts of one upload are numbered 1 to this.
pub const PART_NUMBER_MAX: u16 = 10_000;
/// All parts but the last hold at least this much.
pub const PART_SIZE_MIN_BYTES: u64 = 5 << 20;
/// One request, and so one part, carries at most this much.
pub const PART_SIZE_MAX_BYTES: u64 = 5 << 30;
/// The most keys, uploads, parts or versions in one page.
pub const PAGE_LEN_MAX: usize = 1000;
/// The most keys one `delete_objects` takes.
pub const DELETE_LEN_MAX: usize = 1000;

/// The bytes of a PUT or of a part on their way in.
///
/// The front end verifies while it reads: lengths, signatures of chunks, digests. A body that
/// fails any check yields its error, at the latest in place of the final `None`.
#[async_trait]
pub trait Body: Send {
    /// The next piece, `None` after the last. Pieces may have any size but are never empty.
    async fn next(&mut self) -> Result<Option<Bytes>>;

    /// The digest of all bytes; asked for once, after `next` gave `None`.
    fn digest(&mut self) -> Digest;

    /// How many bytes will come, where that is known beforehand.
    fn size_hint(&self) -> Option<u64>;
}

/// The bytes of a range on their way out.
#[async_trait]
pub trait BodyReader: Send {
    /// The next piece, `None` after the last byte of the range. After an error nothing follows.
    async fn next(&mut self) -> Result<Option<Bytes>>;
}

/// One version opened for reading. It stays readable, and the same, while this lives.
#[async_trait]
pub trait ObjectHandle: Send + Sync {
    fn version(&self) -> &Version;
    /// What the version has, as it is no delete marker.
    fn object(&self) -> &ObjectVersion;
    /// How many parts the object was made of; 0 when it was written in one request.
    fn parts_count(&self) -> u32 {
        self.object().etag.parts
    }
    /// The `number`-th part, by the number it was uploaded under. `None` if there is none.
    async fn part(&self, number: u16) -> Result<Option<ObjectPart>>;
    /// Up to `max` parts with numbers above `after`, ascending.
    async fn parts(&self, after: u16, max: usize) -> Result<Vec<ObjectPart>>;
    /// `range` must lie within the object.
    async fn read(&self, range: ByteRange) -> Result<Box<dyn BodyReader>>;
}

/// Conditions on the current version of the key written to, checked where the order is decided.
/// A delete marker counts as no version, and a delete that names a version is held to the
/// conditions on the current one too.
///
/// Checked in the order of the fields; the first that fails is the answer. Without a current
/// version `if_match` is refused with `NoSuchKey`, and the others hold. All else that fails is
/// `PreconditionFailed`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct WriteCondition {
    pub if_match: Option<ETagCondition>,
    pub if_none_match: Option<ETagCondition>,
    pub if_match_size: Option<u64>,
    /// Compared in whole seconds.
    pub if_match_modified: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ETagCondition {
    Any,
    OneOf(Vec<ETag>),
}

#[derive(Clone, Debug)]
pub struct CreateBucket {
    pub name: String,
    pub owner: AccountId,
    pub location: String,
    /// What it has from its first moment on.
    pub settings: Vec<(BucketSetting, Vec<u8>)>,
}

#[derive(Clone, Debug)]
pub struct ListBuckets {
    /// Only those of this account; `None`: all.
    pub owner: Option<AccountId>,
    pub prefix: String,
    /// Names above this one.
    pub after: String,
    pub max: usize,
}

#[derive(Clone, Debug)]
pub struct PutObject {
    pub key: String,
    pub attributes: Attributes,
    pub condition: WriteCondition,
}

/// What is about to be written, for a look at the quota before its bytes come.
#[derive(Clone, Debug)]
pub struct Addition {
    pub of: AdditionOf,
    pub bytes: u64,
}

#[derive(Clone, Debug)]
pub enum AdditionOf {
    Object { key: String },
    Part { upload: UploadId, number: u16 },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// `None` in a bucket that never was versioned, `null` in a suspended one.
    pub version_id: Option<VersionId>,
    pub etag: ETag,
    pub size: u64,
    pub checksum: Option<Checksum>,
    pub modified: Timestamp,
}

#[derive(Clone, Debug)]
pub struct DeleteObject {
    pub key: String,
    /// `Latest` removes the object in a bucket that never was versioned, and otherwise makes a
    /// delete marker, also where the key has no version yet or a marker already. In a suspended
    /// bucket the marker is the `null` version and takes the place of the one there was.
    pub version: VersionSelector,
    pub condition: WriteCondition,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Deleted {
    /// The version named, whether it was there or not, or the marker made; `None` where the latest
    /// was removed of a bucket that never was versioned.
    pub version_id: Option<VersionId>,
    /// A delete marker was made, or the version removed was one.
    pub is_marker: bool,
}

#[derive(Clone, Debug)]
pub struct ListObjects {
    pub prefix: String,
    /// Empty: none.
    pub delimiter: String,
    /// Only keys (and common prefixes) above this one, in byte order. A common prefix equal to
    /// `after`, or that `after` lies within, has been given before and is skipped.
    pub after: String,
    /// Entries and common prefixes together; 0 gives an empty page without a `next`.
    pub max: usize,
}

/// An entry of a listing: what the `current` table has, and no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedObject {
    pub key: String,
    pub size: u64,
    pub etag: ETag,
    pub modified: Timestamp,
    pub storage_class: String,
    pub owner: AccountId,
    pub checksum: Option<(ChecksumAlgorithm, ChecksumType)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectPage {
    pub objects: Vec<ListedObject>,
    pub prefixes: Vec<String>,
    /// The last key or prefix given, when more follow.
    pub next: Option<String>,
}

#[derive(Clone, Debug)]
pub struct ListVersions {
    pub prefix: String,
    pub delimiter: String,
    /// Keys above this one; with `version_after`, also this key's versions older than that one.
    /// Common prefixes as with `ListObjects::after`.
    pub key_after: String,
    /// It need not be there any more. A `null` version that is gone doesn't tell where it stood:
    /// then the key's versions are given from the newest on, since a page twice is better than a
    /// gap for those who delete as they list.
    pub version_after: Option<VersionId>,
    pub max: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionPage {
    /// By key, newest first.
    pub versions: Vec<Version>,
    pub prefixes: Vec<String>,
    /// The last key (or prefix, then without a version) given, when more follow.
    pub next: Option<(String, Option<VersionId>)>,
}

#[derive(Clone, Debug)]
pub struct CreateUpload {
    pub key: String,
    pub attributes: Attributes,
    pub checksum: Option<(ChecksumAlgorithm, ChecksumType)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompletedPart {
    pub number: u16,
    /// As the client names it.
    pub etag: ETag,
    /// As the client names it, if it does: algorithm and value are compared.
    pub checksum: Option<Checksum>,
}

#[derive(Clone, Debug)]
pub struct CompleteUpload {
    pub key: String,
    pub upload: UploadId,
    /// At least one, in ascending order, as the caller has checked.
    pub parts: Vec<CompletedPart>,
    /// The whole object's checksum as the client names it: algorithm and value are compared.
    pub checksum: Option<Checksum>,
    /// The object's size as the client names it.
    pub size: Option<u64>,
    pub condition: WriteCondition,
}

#[derive(Clone, Debug)]
pub struct ListUploads {
    pub prefix: String,
    pub delimiter: String,
    pub key_after: String,
    /// With a key: also that key's uploads that come after this one; all of that key's when it is
    /// gone, so that who aborts as it lists misses none.
    pub upload_after: Option<UploadId>,
    pub max: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadPage {
    /// By key, then by the order they were started in.
    pub uploads: Vec<Upload>,
    pub prefixes: Vec<String>,
    pub next: Option<(String, Option<UploadId>)>,
}

/// What the health paths and the banner tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    pub disks_online: usize,
    pub disks_offline: usize,
    /// Every metadata group answers a linearizable read.
    pub can_read: bool,
    /// And enough disks are up for a write.
    pub can_write: bool,
    /// How many of the metadata group's voters must agree.
    pub metadata_quorum: usize,
    /// The geometry of the default class.
    pub data_shards: usize,
    pub parity_shards: usize,
}

/// The store. See the module's page for what an implementation must guarantee.
#[async_trait]
pub trait ObjectStore: Send + Sync + 'static {
    /// Makes the account known, or brings its names up to date.
    async fn put_account(&self, account: Account) -> Result<()>;
    async fn account(&self, id: &AccountId) -> Result<Option<Account>>;

    async fn create_bucket(&self, request: CreateBucket) -> Result<Bucket>;
    async fn bucket(&self, name: &str) -> Result<Bucket>;
    /// Up to `max`, ascending by name.
    async fn list_buckets(&self, request: ListBuckets) -> Result<Vec<Bucket>>;
    /// Refused while a version, a marker or an upload is in it, as AWS does.
    async fn delete_bucket(&self, bucket: BucketId) -> Result<()>;
    /// Enabled or suspended; S3 knows no way back to `Off`, so no caller asks for it.
    async fn set_versioning(&self, bucket: BucketId, versioning: Versioning) -> Result<()>;
    /// `None` takes the setting away.
    async fn put_bucket_setting(
        &self,
        bucket: BucketId,
        setting: BucketSetting,
        document: Option<Vec<u8>>,
    ) -> Result<()>;

    /// Whatever would take the bucket beyond a hard limit is refused from then on with
    /// `Refusal::QuotaExceeded`, where the order is decided.
    async fn set_quota(&self, bucket: BucketId, change: QuotaChange) -> Result<()>;
    /// What each of these buckets holds; nothing, for one that is not there.
    async fn usage(&self, buckets: &[BucketId]) -> Result<Vec<Usage>>;
    /// Refuses what the hard quota would refuse now, so that no body is sent in vain. Promises
    /// nothing: the write itself is held to the quota again.
    async fn check_quota(&self, bucket: BucketId, addition: Addition) -> Result<()>;

    /// A body that fails leaves nothing, and its error is the answer before any refusal.
    async fn put_object(
        &self,
        bucket: BucketId,
        request: PutObject,
        body: &mut dyn Body,
    ) -> Result<Written>;
    /// Opens a version for HEAD and GET. A delete marker is `Refusal::DeleteMarker`, a version
    /// that isn't there `NoSuchVersion` (also where the key has none at all), no version asked
    /// for and none there `NoSuchKey`.
    async fn open_object(
        &self,
        bucket: BucketId,
        key: &str,
        version: VersionSelector,
    ) -> Result<Box<dyn ObjectHandle>>;
    /// Removes a version or makes a marker: see `DeleteObject::version`. What isn't there is
    /// removed with success.
    async fn delete_object(&self, bucket: BucketId, request: DeleteObject) -> Result<Deleted>;
    /// One command, each key decided alone; answers in the order asked.
    async fn delete_objects(
        &self,
        bucket: BucketId,
        requests: Vec<DeleteObject>,
    ) -> Result<Vec<Result<Deleted>>>;
    /// Makes a version that shares the source's bytes, ETag, checksum and parts; no byte is read.
    /// `source` must be opened from the same bucket. `Refusal::Conflict` when no version has its
    /// bytes any more: open it anew. (A copy to another bucket or class is `put_object` with the
    /// source's reader.)
    async fn link_object(
        &self,
        bucket: BucketId,
        source: &dyn ObjectHandle,
        request: PutObject,
    ) -> Result<Written>;
    /// Replaces the tags of a version and nothing else; gives the id of the version it met, `None`
    /// in a bucket that never was versioned. Refused as `open_object` refuses.
    async fn put_object_tags(
        &self,
        bucket: BucketId,
        key: &str,
        version: VersionSelector,
        tags: Tags,
    ) -> Result<Option<VersionId>>;

    async fn list_objects(&self, bucket: BucketId, request: ListObjects) -> Result<ObjectPage>;
    async fn list_versions(&self, bucket: BucketId, request: ListVersions) -> Result<VersionPage>;

    async fn create_upload(&self, bucket: BucketId, request: CreateUpload) -> Result<Upload>;
    /// `NoSuchUpload` also where the upload is another key's; so it is in all that name one.
    async fn upload(&self, bucket: BucketId, key: &str, upload: UploadId) -> Result<Upload>;
    /// Takes the place of a part of that number uploaded before.
    async fn upload_part(
        &self,
        bucket: BucketId,
        key: &str,
        upload: UploadId,
        number: u16,
        body: &mut dyn Body,
    ) -> Result<UploadedPart>;
    /// Copies no byte. Refused by the first of these; the upload then stays as it was: in the
    /// order of the parts named, `InvalidPart` (not there, another ETag or checksum) or
    /// `PartTooSmall` (any but the last named); `SizeMismatch`; `ChecksumMismatch` of the object;
    /// the condition. The object's checksum is made from its parts' as the upload says, and is
    /// `None` unless each part has one of that algorithm.
    ///
    /// Repeated with the same parts (numbers and ETags) after it succeeded, it answers alike,
    /// whatever became of the object and without looking at the condition, for as long as the
    /// answer is kept; with others it is `NoSuchUpload`.
    async fn complete_upload(&self, bucket: BucketId, request: CompleteUpload) -> Result<Written>;
    async fn abort_upload(&self, bucket: BucketId, key: &str, upload: UploadId) -> Result<()>;
    async fn list_uploads(&self, bucket: BucketId, request: ListUploads) -> Result<UploadPage>;
    /// Up to `max` parts with numbers above `after`, and whether more follow.
    async fn list_parts(
        &self,
        bucket: BucketId,
        key: &str,
        upload: UploadId,
        after: u16,
        max: usize,
    ) -> Result<(Vec<UploadedPart>, bool)>;

    async fn health(&self) -> Health;
    /// What is counted and measured, as of now.
    async fn measures(&self) -> Vec<Measure>;
    /// Ends background work and closes the disks. Called once, after the last request.
    async fn close(&self);
}
