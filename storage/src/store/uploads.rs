//! Multipart uploads: their parts, and how they become objects.

use async_trait::async_trait;

use crate::body::Body;
use crate::error::Result;
use crate::objects::{WriteCondition, Written};
use crate::types::{
    Attributes, BucketId, Checksum, ChecksumAlgorithm, ChecksumType, ETag, Upload, UploadId,
    UploadedPart,
};

/// The highest part number of an upload; the lowest is 1.
pub const PART_NUMBER_MAX: u16 = 10_000;
/// The smallest size of a part that is not the last.
pub const PART_SIZE_MIN_BYTES: u64 = 5 << 20;
/// The largest body of one request, and so of one part.
pub const PART_SIZE_MAX_BYTES: u64 = 5 << 30;

/// A request to begin an upload.
#[derive(Clone, Debug)]
pub struct CreateUpload {
    pub key: String,
    pub attributes: Attributes,
    pub checksum: Option<(ChecksumAlgorithm, ChecksumType)>,
}

/// A part that a completion names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompletedPart {
    pub number: u16,
    /// The ETag that the client names.
    pub etag: ETag,
    /// The checksum that the client names, if it names one: algorithm and value are compared.
    pub checksum: Option<Checksum>,
}

/// A request to make an object of an upload's parts.
#[derive(Clone, Debug)]
pub struct CompleteUpload {
    pub key: String,
    pub upload: UploadId,
    /// At least one part, in ascending order. The caller has checked it.
    pub parts: Vec<CompletedPart>,
    /// The whole object's checksum that the client names: algorithm and value are compared.
    pub checksum: Option<Checksum>,
    /// The object's size that the client names.
    pub size: Option<u64>,
    pub condition: WriteCondition,
}

/// The multipart uploads of a store.
///
/// # What an implementation must guarantee
///
/// Besides what the crate's page says of all traits:
///
/// - **An upload belongs to its key**: every method answers `NoSuchUpload` for an id of another
///   key.
/// - **Completion copies no byte**, and happens at most once: the parts become the object, and the
///   upload ends, in one step.
/// - **An abort frees all parts**, also those that are being written: they never become visible.
#[async_trait]
pub trait Uploads: Send + Sync + 'static {
    async fn create_upload(&self, bucket: BucketId, request: CreateUpload) -> Result<Upload>;

    /// Returns the upload. An id of another key is `NoSuchUpload`, here as in the other methods.
    async fn upload(&self, bucket: BucketId, key: &str, upload: UploadId) -> Result<Upload>;

    /// Writes a part. It replaces a part that was uploaded with the same number before.
    async fn upload_part(
        &self,
        bucket: BucketId,
        key: &str,
        upload: UploadId,
        number: u16,
        body: &mut dyn Body,
    ) -> Result<UploadedPart>;

    /// Makes the object. Copies no byte. The first of these refuses it, and the upload then stays
    /// as it was: in the order of the parts named, `InvalidPart` (no such part, or another ETag or
    /// checksum) or `PartTooSmall` (any but the last named); `SizeMismatch`; `ChecksumMismatch` of
    /// the object; the condition. The object's checksum is made from its parts' as the upload says,
    /// and is `None` unless each part has one of that algorithm.
    ///
    /// Repeated with the same parts (numbers and ETags) after it succeeded, it gives the same
    /// answer, whatever became of the object and without a look at the condition, for as long as
    /// the answer is kept; with other parts it is `NoSuchUpload`.
    async fn complete_upload(&self, bucket: BucketId, request: CompleteUpload) -> Result<Written>;

    async fn abort_upload(&self, bucket: BucketId, key: &str, upload: UploadId) -> Result<()>;

    /// Returns up to `max` parts with numbers above `after`, and whether more follow.
    async fn list_parts(
        &self,
        bucket: BucketId,
        key: &str,
        upload: UploadId,
        after: u16,
        max: usize,
    ) -> Result<(Vec<UploadedPart>, bool)>;
}
