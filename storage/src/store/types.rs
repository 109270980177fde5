//! The types of the store: ids, versions, parts and their attributes.
//!
//! Everything here is plain data. Records on disk are made from these types through the versioned
//! records of `meta::record`, so a change here never changes a format by itself.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970 in UTC, by the clock of the proposer of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Returns whole seconds, rounded down: the precision of HTTP dates.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }
}

/// A bucket's id. It is never reused, so a late write cannot end up in a new bucket of the same
/// name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BucketId(pub u64);

/// The name of the bytes of one PUT or of one attempt of a part: 128 random bits, used once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WriteId(pub [u8; 16]);

impl fmt::Debug for WriteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for WriteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// A disk's random id, from its identity file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DiskId(pub [u8; 16]);

impl fmt::Debug for DiskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for DiskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// The period in which a write or read began. A command raises it every ten minutes. gc removes
/// only what lies below every epoch that is still in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u64);

/// The position of a version in the order of its key. It comes from the index of the log entry that
/// made the version, never from a clock. The low 12 bits number the versions made by one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Order(pub u64);

impl Order {
    /// The most versions that one log entry makes.
    pub const VERSIONS_PER_ENTRY: u16 = 4096;

    pub fn new(log_index: u64, sub: u16) -> Order {
        assert!(sub < Self::VERSIONS_PER_ENTRY && log_index < 1 << 52);
        Order(log_index << 12 | u64::from(sub))
    }
}

/// A version's id, as clients see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum VersionId {
    /// The version was written while the bucket was unversioned or suspended. A key has at most
    /// one.
    Null,
    /// The version's position in the key's order, and 64 random bits so that the id cannot be
    /// guessed.
    Ordered { order: Order, nonce: u64 },
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VersionId::Null => f.write_str("null"),
            VersionId::Ordered { order, nonce } => write!(f, "{:016x}{nonce:016x}", order.0),
        }
    }
}

impl std::str::FromStr for VersionId {
    type Err = InvalidVersionId;

    fn from_str(s: &str) -> Result<VersionId, InvalidVersionId> {
        if s == "null" {
            return Ok(VersionId::Null);
        }
        let lower_hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        if s.len() != 32 || !s.bytes().all(lower_hex) {
            return Err(InvalidVersionId);
        }
        let half = |part: &str| u64::from_str_radix(part, 16).map_err(|_| InvalidVersionId);
        Ok(VersionId::Ordered {
            order: Order(half(&s[..16])?),
            nonce: half(&s[16..])?,
        })
    }
}

/// The error of a text that is no version id of this store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a version id")]
pub struct InvalidVersionId;

/// The version of a key that a request means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionSelector {
    /// The newest one, which is an object or a delete marker.
    Latest,
    /// The one with this id.
    Id(VersionId),
}

/// An upload's id, as clients see it: the write id of its part list, in hex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UploadId(pub WriteId);

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl std::str::FromStr for UploadId {
    type Err = InvalidVersionId;

    fn from_str(s: &str) -> Result<UploadId, InvalidVersionId> {
        let lower_hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        if s.len() != 32 || !s.bytes().all(lower_hex) {
            return Err(InvalidVersionId);
        }
        let n = u128::from_str_radix(s, 16).map_err(|_| InvalidVersionId)?;
        Ok(UploadId(WriteId(n.to_be_bytes())))
    }
}

/// An entity tag: the MD5 of the bytes, or of the parts' MD5s together with their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ETag {
    pub md5: [u8; 16],
    /// The number of parts, or 0 for an object written in one request.
    pub parts: u32,
}

impl fmt::Display for ETag {
    /// Writes `md5` or `md5-parts`, without quotes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.md5.iter().try_for_each(|b| write!(f, "{b:02x}"))?;
        if self.parts > 0 {
            write!(f, "-{}", self.parts)
        } else {
            Ok(())
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ChecksumAlgorithm {
    Crc32,
    Crc32c,
    Crc64Nvme,
    Sha1,
    Sha256,
    Md5,
    Sha512,
    /// The 64-bit XXH3.
    XxHash3,
    XxHash64,
    XxHash128,
}

/// The input of a multipart object's checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ChecksumType {
    /// All bytes of the object.
    FullObject,
    /// The checksums of the parts.
    Composite,
}

/// A checksum. Its value is big-endian, as it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum {
    pub algorithm: ChecksumAlgorithm,
    pub kind: ChecksumType,
    pub value: Vec<u8>,
}

/// The digests that the front end computed while a body streamed by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    pub md5: [u8; 16],
    pub checksum: Option<Checksum>,
    /// Computed besides a `checksum` of another algorithm, if the bytes are a part of an object.
    pub crc64nvme: Option<u64>,
}

/// Headers that are kept with an object and returned unchanged, by lower-case name (`content-type`,
/// `cache-control`, `expires`, `x-amz-website-redirect-location`, …).
pub type SystemMetadata = Vec<(String, String)>;
/// `x-amz-meta-*` headers without the prefix: names in lower case, values as raw bytes, in order of
/// arrival.
pub type UserMetadata = Vec<(String, Vec<u8>)>;
/// The keys and values of a tag set, in the order given.
pub type Tags = Vec<(String, String)>;

/// Everything that a writer says about an object besides its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    pub system: SystemMetadata,
    pub user: UserMetadata,
    pub tags: Tags,
    /// The storage class. Empty means STANDARD.
    pub storage_class: String,
    /// The account that wrote it.
    pub owner: AccountId,
}

/// A 12-digit account id.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AccountId(pub String);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    pub id: AccountId,
    /// 64 hex digits: the owner id that S3 shows.
    pub canonical_id: String,
    pub display_name: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Versioning {
    #[default]
    Off,
    Enabled,
    Suspended,
}

/// The kind of a document that belongs to a bucket. The store keeps the document as the front end
/// wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum BucketSetting {
    Tagging,
}

/// The limits of a bucket. Objects are all versions that are no delete markers. Bytes are the sizes
/// of these objects, each counted in full, and of the parts of unfinished uploads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// Writes that would exceed it are refused. Changes that shrink the bucket are allowed.
    pub hard_bytes: Option<u64>,
    pub hard_objects: Option<u64>,
    /// Beyond it, `admin status` warns the operator.
    pub soft_bytes: Option<u64>,
    pub soft_objects: Option<u64>,
}

impl Quota {
    pub fn changed(self, change: QuotaChange) -> Quota {
        Quota {
            hard_bytes: change.hard_bytes.unwrap_or(self.hard_bytes),
            hard_objects: change.hard_objects.unwrap_or(self.hard_objects),
            soft_bytes: change.soft_bytes.unwrap_or(self.soft_bytes),
            soft_objects: change.soft_objects.unwrap_or(self.soft_objects),
        }
    }

    /// Returns whether this usage exceeds a soft limit.
    pub fn is_passed_softly(self, usage: &Usage) -> bool {
        self.soft_bytes.is_some_and(|max| usage.bytes() > max)
            || self.soft_objects.is_some_and(|max| usage.objects > max)
    }
}

/// A change of a quota. `None` keeps a limit, `Some(None)` removes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaChange {
    pub hard_bytes: Option<Option<u64>>,
    pub hard_objects: Option<Option<u64>>,
    pub soft_bytes: Option<Option<u64>>,
    pub soft_objects: Option<Option<u64>>,
}

/// The contents of a bucket, as counted for quotas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The number of versions that are objects.
    pub objects: u64,
    pub markers: u64,
    /// The number of unfinished uploads.
    pub uploads: u64,
    /// The sizes of all objects. Bytes that versions share count for each.
    pub object_bytes: u64,
    /// The sizes of the parts of unfinished uploads.
    pub part_bytes: u64,
}

impl Usage {
    /// Returns the bytes that quotas count.
    pub fn bytes(&self) -> u64 {
        self.object_bytes.saturating_add(self.part_bytes)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    pub id: BucketId,
    pub name: String,
    pub owner: AccountId,
    pub created: Timestamp,
    /// The location constraint as it was given at creation, or empty.
    pub location: String,
    pub versioning: Versioning,
    pub quota: Quota,
    pub settings: Vec<(BucketSetting, Vec<u8>)>,
}

impl Bucket {
    pub fn setting(&self, which: BucketSetting) -> Option<&[u8]> {
        self.settings
            .iter()
            .find(|(name, _)| *name == which)
            .map(|(_, doc)| doc.as_slice())
    }
}

/// A version of a key, without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub key: String,
    pub id: VersionId,
    pub is_latest: bool,
    pub modified: Timestamp,
    /// `None` for a delete marker.
    pub object: Option<ObjectVersion>,
    pub owner: AccountId,
}

/// The attributes of a version that is an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectVersion {
    pub size: u64,
    pub etag: ETag,
    pub checksum: Option<Checksum>,
    pub attributes: Attributes,
    /// The name of the bytes. Versions that share bytes have the same.
    pub write_id: WriteId,
}

/// A part of a completed multipart object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectPart {
    pub number: u16,
    pub offset: u64,
    pub size: u64,
    pub checksum: Option<Checksum>,
}

/// A part of an unfinished upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadedPart {
    pub number: u16,
    pub size: u64,
    pub etag: ETag,
    pub modified: Timestamp,
    /// The checksum that the client asked for.
    pub checksum: Option<Checksum>,
    /// See [`Digest`].
    pub crc64nvme: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    pub id: UploadId,
    pub key: String,
    pub initiated: Timestamp,
    /// The object's owner, metadata, tags and class. They take effect at completion.
    pub attributes: Attributes,
    pub checksum: Option<(ChecksumAlgorithm, ChecksumType)>,
}

/// A range that is asked for before the object's size is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeSpec {
    /// From this byte to the end.
    From(u64),
    /// From the first number to the second, inclusive, or to the end if that comes first. The
    /// second is not below the first.
    Between(u64, u64),
    /// This number of bytes before the end, or all if there are fewer.
    Last(u64),
}

impl RangeSpec {
    /// Returns the range within an object of this size; `None` if it has none of the bytes.
    pub fn within(self, size: u64) -> Option<ByteRange> {
        let (start, end) = match self {
            RangeSpec::From(first) => (first, size),
            RangeSpec::Between(first, last) => (first, last.saturating_add(1).min(size)),
            RangeSpec::Last(len) => (size.saturating_sub(len), size),
        };
        (start < end).then_some(ByteRange { start, end })
    }
}

/// A range of an object's bytes. It is empty only if the object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    pub start: u64,
    /// The end of the range, exclusive.
    pub end: u64,
}

impl ByteRange {
    pub fn len(self) -> u64 {
        self.end - self.start
    }

    pub fn is_empty(self) -> bool {
        self.start >= self.end
    }
}
