//! Listings: pages of a bucket's objects, versions and uploads, by prefix and delimiter.

use async_trait::async_trait;

use crate::error::Result;
use crate::types::{
    AccountId, BucketId, ChecksumAlgorithm, ChecksumType, ETag, Timestamp, Upload, UploadId,
    Version, VersionId,
};

/// The largest number of keys, uploads, parts or versions in one page.
pub const PAGE_LEN_MAX: usize = 1000;

/// A request for a page of objects.
#[derive(Clone, Debug)]
pub struct ListObjects {
    pub prefix: String,
    /// Empty: none.
    pub delimiter: String,
    /// Only keys (and common prefixes) above this one, in byte order. A common prefix that equals
    /// `after`, or that `after` lies within, was in an earlier page and is skipped.
    pub after: String,
    /// Entries and common prefixes together; 0 gives an empty page without a `next`.
    pub max: usize,
}

/// An entry of a listing of objects: the columns of the `current` table and no more.
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

/// A page of objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectPage {
    pub objects: Vec<ListedObject>,
    pub prefixes: Vec<String>,
    /// The page's last key or prefix, when more follow.
    pub next: Option<String>,
}

/// A request for a page of versions.
#[derive(Clone, Debug)]
pub struct ListVersions {
    pub prefix: String,
    pub delimiter: String,
    /// Keys above this one; with `version_after`, also this key's versions older than that one.
    /// Common prefixes as with `ListObjects::after`.
    pub key_after: String,
    /// The version need not exist any more. The place of a `null` version that was removed is
    /// unknown; then all versions of its key are listed from the newest on, since a repeated page
    /// is better than a gap for a client that deletes as it lists.
    pub version_after: Option<VersionId>,
    pub max: usize,
}

/// A page of versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionPage {
    /// By key, newest first.
    pub versions: Vec<Version>,
    pub prefixes: Vec<String>,
    /// The page's last key (or prefix, then without a version), when more follow.
    pub next: Option<(String, Option<VersionId>)>,
}

/// A request for a page of uploads.
#[derive(Clone, Debug)]
pub struct ListUploads {
    pub prefix: String,
    pub delimiter: String,
    pub key_after: String,
    /// With a key: also that key's uploads that come after this one. If this one no longer exists,
    /// all of the key's uploads are listed, so that a client that aborts as it lists misses none.
    pub upload_after: Option<UploadId>,
    pub max: usize,
}

/// A page of uploads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadPage {
    /// By key, then in the order in which they were created.
    pub uploads: Vec<Upload>,
    pub prefixes: Vec<String>,
    pub next: Option<(String, Option<UploadId>)>,
}

/// The listings of a bucket.
///
/// # What an implementation must guarantee
///
/// Besides what the crate's page says of all traits:
///
/// - **In byte order of keys**, as AWS lists them, and never more than `max` entries.
/// - **Complete across pages**: an entry that exists from before the first page until after the
///   last is in one of them, if each page begins where the one before ended. It is repeated only
///   where the marker itself was removed, as `ListVersions::version_after` says.
///
/// Callers bound `max` by [`PAGE_LEN_MAX`].
#[async_trait]
pub trait Listings: Send + Sync + 'static {
    async fn list_objects(&self, bucket: BucketId, request: ListObjects) -> Result<ObjectPage>;

    async fn list_versions(&self, bucket: BucketId, request: ListVersions) -> Result<VersionPage>;

    async fn list_uploads(&self, bucket: BucketId, request: ListUploads) -> Result<UploadPage>;
}
