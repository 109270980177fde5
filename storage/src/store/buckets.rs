//! Buckets: their names, settings and quotas.

use async_trait::async_trait;

use crate::error::Result;
use crate::types::{
    AccountId, Bucket, BucketId, BucketSetting, QuotaChange, UploadId, Usage, Versioning,
};

/// A request to create a bucket.
#[derive(Clone, Debug)]
pub struct CreateBucket {
    pub name: String,
    pub owner: AccountId,
    pub location: String,
    /// The settings that the bucket has from its first moment on.
    pub settings: Vec<(BucketSetting, Vec<u8>)>,
}

/// A request for a page of buckets.
#[derive(Clone, Debug)]
pub struct ListBuckets {
    /// Only the buckets of this account; `None`: all.
    pub owner: Option<AccountId>,
    pub prefix: String,
    /// Only names above this one.
    pub after: String,
    pub max: usize,
}

/// Bytes that are about to be written, for a check of the quota before they are sent.
#[derive(Clone, Debug)]
pub struct Addition {
    pub of: AdditionOf,
    pub bytes: u64,
}

/// The object or part that an [`Addition`] adds.
#[derive(Clone, Debug)]
pub enum AdditionOf {
    Object { key: String },
    Part { upload: UploadId, number: u16 },
}

/// The buckets of a store.
///
/// # What an implementation must guarantee
///
/// Besides what the crate's page says of all traits:
///
/// - **One bucket a name**: of racing creations of one name one wins, whatever their owners.
/// - **Ids are never reused**: a request that names a deleted bucket by its id is refused with
///   `Refusal::NoSuchBucket`, also when the name has been given to a new bucket.
/// - **No object is lost with its bucket**: the check that a bucket is empty and its deletion are
///   one step in the order of writes.
/// - **Exact quotas**: usage counts every acknowledged write, and a hard limit is checked where the
///   order of writes is decided.
#[async_trait]
pub trait Buckets: Send + Sync + 'static {
    async fn create_bucket(&self, request: CreateBucket) -> Result<Bucket>;

    async fn bucket(&self, name: &str) -> Result<Bucket>;

    /// Returns up to `max` buckets, ascending by name.
    async fn list_buckets(&self, request: ListBuckets) -> Result<Vec<Bucket>>;

    /// Refused while the bucket holds a version or a marker. Unfinished uploads go with it, as on
    /// AWS.
    async fn delete_bucket(&self, bucket: BucketId) -> Result<()>;

    /// Enables or suspends versioning. S3 knows no way back to `Off`, so no caller asks for it.
    async fn set_versioning(&self, bucket: BucketId, versioning: Versioning) -> Result<()>;

    /// Replaces a setting. `None` removes it.
    async fn put_bucket_setting(
        &self,
        bucket: BucketId,
        setting: BucketSetting,
        document: Option<Vec<u8>>,
    ) -> Result<()>;

    /// Changes the bucket's limits. A write that would exceed a hard limit is refused from then on
    /// with `Refusal::QuotaExceeded`, where the order is decided.
    async fn set_quota(&self, bucket: BucketId, change: QuotaChange) -> Result<()>;

    /// Returns the usage of each of these buckets; nothing is used in one that does not exist.
    async fn usage(&self, buckets: &[BucketId]) -> Result<Vec<Usage>>;

    /// Refuses an addition that the hard quota would refuse now, so that no body is sent in vain.
    /// Promises nothing: the write itself is checked against the quota again.
    async fn check_quota(&self, bucket: BucketId, addition: Addition) -> Result<()>;
}
