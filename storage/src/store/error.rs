//! Errors of the store, by kinds that a caller can act on.

use crate::types::{AccountId, Timestamp, VersionId};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the store. The front end maps each kind to one S3 error by an exhaustive `match`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The state machine refused the command. Nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),

    /// The source of the body failed or did not verify. What was written of it is removed. The
    /// front end's own error is inside.
    #[error("body: {0}")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),

    /// Fewer disks or metadata replicas answer than the promise needs. The caller may retry later.
    #[error("unavailable: {0}")]
    Unavailable(String),

    /// The disks have no room above the reserve.
    #[error("disks are full: {0}")]
    Full(String),

    /// The write began so long ago that gc may have removed its bytes. The caller may retry with a
    /// new write.
    #[error("write took longer than its epoch")]
    Expired,

    /// More chunks are damaged or missing than the parity can replace.
    #[error("data is damaged beyond repair: {0}")]
    Corrupt(String),

    /// A row of the metadata does not decode. It costs what it describes, and nothing else.
    #[error("row of the metadata does not decode: {0}")]
    BadRow(String),

    /// The metadata contradict themselves, or another version of the program wrote them. A replica
    /// that finds this must not continue.
    #[error("metadata are not as this program expects: {0}")]
    Unfit(String),

    /// The store is shutting down.
    #[error("shutting down")]
    Closing,

    #[error("i/o: {0}")]
    Io(#[from] std::io::Error),
}

/// The reason why the state machine refused a command or a read found nothing.
///
/// It is deterministic: every replica refuses in the same way, and so is a retried command refused
/// again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
pub enum Refusal {
    #[error("no such bucket")]
    NoSuchBucket,
    #[error("bucket name is taken by {owner:?}")]
    BucketExists { owner: AccountId },
    #[error("bucket is not empty")]
    BucketNotEmpty,
    #[error("no such key")]
    NoSuchKey,
    #[error("no such version")]
    NoSuchVersion,
    /// The version asked for is a delete marker. `latest` is set if no version was asked for.
    #[error("version {id} is a delete marker")]
    DeleteMarker {
        id: VersionId,
        modified: Timestamp,
        latest: bool,
    },
    #[error("no such upload")]
    NoSuchUpload,
    #[error("part {number} is not there or has another etag")]
    InvalidPart { number: u16 },
    /// A part other than the last is smaller than 5 MiB.
    #[error("part {number} is too small")]
    PartTooSmall {
        number: u16,
        size: u64,
        minimum: u64,
        etag: crate::types::ETag,
    },
    /// A checksum named at completion, or that of the object, differs from those of the parts.
    #[error("checksum of part or object does not match")]
    ChecksumMismatch,
    /// The size named at completion differs from the sum of the parts.
    #[error("the parts hold {total} bytes, not {expected}")]
    SizeMismatch { expected: u64, total: u64 },
    #[error("precondition {0:?} failed")]
    PreconditionFailed(Precondition),
    /// Another change came between this command's read and its commit. The store itself retries
    /// where it can.
    #[error("conflicting change")]
    Conflict,
    /// The command's epoch lies below the floor.
    #[error("epoch below the floor")]
    EpochBelowFloor,
    /// The object would be larger than the maximum.
    #[error("object too large")]
    TooLarge,
    /// The change would exceed the bucket's hard quota.
    #[error("{used} {counted:?} of a quota of {limit} are used, and {wanted} would be")]
    QuotaExceeded {
        counted: QuotaUnit,
        limit: u64,
        used: u64,
        wanted: u64,
    },
    /// A row that the change needs, replaces or removes does not decode. It stays as it is.
    #[error("a row of the metadata does not decode")]
    BadRow,
}

/// The unit of a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum QuotaUnit {
    Bytes,
    Objects,
}

/// The condition of a request that did not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Precondition {
    IfMatch,
    IfNoneMatch,
    IfMatchSize,
    IfMatchLastModified,
    /// A condition on the source of a copy.
    Source,
}
