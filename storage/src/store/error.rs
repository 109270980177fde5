//! What can go wrong, in kinds that a caller can act on.

use crate::types::{AccountId, Timestamp, VersionId};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Kinds, not texts: the front end maps each to one S3 error by an exhaustive `match`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The state machine said no; nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),

    /// The body's source failed or did not verify; what was written of it is gc's.
    /// The front end's own error travels inside.
    #[error("body: {0}")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),

    /// Fewer disks or metadata replicas answer than the promise needs. Retry later.
    #[error("unavailable: {0}")]
    Unavailable(String),

    /// No room above the reserve.
    #[error("disks are full: {0}")]
    Full(String),

    /// The write began so long ago that its bytes may be gone. Retry with a new write.
    #[error("write took longer than its epoch")]
    Expired,

    /// More chunks are damaged or missing than parity can make up for.
    #[error("data is damaged beyond repair: {0}")]
    Corrupt(String),

    /// The store is shutting down.
    #[error("shutting down")]
    Closing,

    #[error("i/o: {0}")]
    Io(#[from] std::io::Error),
}

/// Why the state machine refused a command or a read found nothing.
///
/// Deterministic: every replica refuses alike, and a retried command is refused again alike.
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
    /// The version asked for is a delete marker. `latest`: found by asking for no version.
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
    /// A checksum named at completion, or the object's, is not what the parts have.
    #[error("checksum of part or object does not match")]
    ChecksumMismatch,
    /// The size named at completion is not what the parts add up to.
    #[error("the parts hold {total} bytes, not {expected}")]
    SizeMismatch { expected: u64, total: u64 },
    #[error("precondition {0:?} failed")]
    PreconditionFailed(Precondition),
    /// Another change came between this command's reading and its commit. The store retries it
    /// itself where it can.
    #[error("conflicting change")]
    Conflict,
    /// The command's epoch lies below the floor.
    #[error("epoch below the floor")]
    EpochBelowFloor,
    /// The object's size would pass the most an object may have.
    #[error("object too large")]
    TooLarge,
    /// The bucket's hard quota does not allow what this would add.
    #[error("{used} {counted:?} of a quota of {limit} are used, and {wanted} would be")]
    QuotaExceeded {
        counted: QuotaUnit,
        limit: u64,
        used: u64,
        wanted: u64,
    },
}

/// What a quota counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum QuotaUnit {
    Bytes,
    Objects,
}

/// Which condition of a request did not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Precondition {
    IfMatch,
    IfNoneMatch,
    IfMatchSize,
    IfMatchLastModified,
    /// A condition on the source of a copy.
    Source,
}
