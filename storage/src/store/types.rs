//! The words of the store: ids, versions, parts and what they carry.
//!
//! Everything here is plain data. What is kept on disk derives from these types through the
//! versioned records of `meta::record`, so a change here never changes a format by itself.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970 in UTC, as the proposer of a change saw them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Whole seconds, rounded down: the precision of HTTP dates.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }
}

/// A bucket's id. Never reused, so a write that comes late can't land in a namesake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BucketId(pub u64);

/// Names the bytes of one PUT or of one part attempt: 128 random bits, used once.
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

/// A disk's random id, the one in its identity file.
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

/// The period a write or read began in. Raised by a command every ten minutes; gc removes only
/// what lies below every epoch still in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u64);

/// Where a version stands in the order of its key: derived from the index of the log entry that
/// made it, never from a clock. The low 12 bits number the versions made by one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Order(pub u64);

impl Order {
    /// One log entry makes at most this many versions.
    pub const VERSIONS_PER_ENTRY: u16 = 4096;

    pub fn new(log_index: u64, sub: u16) -> Order {
        assert!(sub < Self::VERSIONS_PER_ENTRY && log_index < 1 << 52);
        Order(log_index << 12 | u64::from(sub))
    }
}

/// A version's id as clients see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum VersionId {
    /// Written while the bucket was unversioned or suspended; at most one for each key.
    Null,
    /// Names its place in the key's order, and 64 random bits so that it can't be guessed.
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

/// The text is no version id that this store can have given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a version id")]
pub struct InvalidVersionId;

/// Which version of a key is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionSelector {
    /// The newest one, be it an object or a delete marker.
    Latest,
    /// The one with this id.
    Id(VersionId),
}

/// An upload's id as clients see it: the write id that names its list of parts, in hex.
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
    /// Number of parts; 0 for an object written in one request.
    pub parts: u32,
}

impl fmt::Display for ETag {
    /// Without quotes: `md5` or `md5-parts`.
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

/// Of what a multipart object's checksum is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ChecksumType {
    /// Of all bytes.
    FullObject,
    /// Of the parts' checksums.
    Composite,
}

/// A checksum's value, big-endian as it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum {
    pub algorithm: ChecksumAlgorithm,
    pub kind: ChecksumType,
    pub value: Vec<u8>,
}

/// What the front end found out about a body while it streamed by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    pub md5: [u8; 16],
    pub checksum: Option<Checksum>,
    /// Taken beside a `checksum` of another algorithm, where the bytes are a part of what gets the
    /// default checksum as a whole.
    pub crc64nvme: Option<u64>,
}

/// Headers kept with an object and returned as they came, by lower-case header name
/// (`content-type`, `cache-control`, `expires`, `x-amz-website-redirect-location`, …).
pub type SystemMetadata = Vec<(String, String)>;
/// `x-amz-meta-*` without the prefix; names in lower case, values as raw bytes in order of arrival.
pub type UserMetadata = Vec<(String, Vec<u8>)>;
/// Keys and values of a tag set, in the order given.
pub type Tags = Vec<(String, String)>;

/// What a writer says about an object besides its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    pub system: SystemMetadata,
    pub user: UserMetadata,
    pub tags: Tags,
    /// Empty means STANDARD.
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

/// A document that belongs to a bucket and is kept as the front end wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum BucketSetting {
    Tagging,
}

/// How much a bucket may hold. Objects are all versions that are no delete markers; bytes are
/// their sizes, each counted in full, and those of the parts of uploads that have not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// What would grow beyond is refused; what shrinks goes on.
    pub hard_bytes: Option<u64>,
    pub hard_objects: Option<u64>,
    /// Beyond these the operator is told.
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

    /// Whether the operator is to be told of a bucket that holds so much.
    pub fn is_passed_softly(self, usage: &Usage) -> bool {
        self.soft_bytes.is_some_and(|max| usage.bytes() > max)
            || self.soft_objects.is_some_and(|max| usage.objects > max)
    }
}

/// What of a quota is changed: what is `None` stays, `Some(None)` takes the limit away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaChange {
    pub hard_bytes: Option<Option<u64>>,
    pub hard_objects: Option<Option<u64>>,
    pub soft_bytes: Option<Option<u64>>,
    pub soft_objects: Option<Option<u64>>,
}

/// What a bucket holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Versions that are objects.
    pub objects: u64,
    pub markers: u64,
    /// Uploads that have not ended.
    pub uploads: u64,
    /// Sizes of all objects; bytes that versions share count for each.
    pub object_bytes: u64,
    /// Sizes of the parts of uploads that have not ended.
    pub part_bytes: u64,
}

impl Usage {
    /// The bytes that quotas count.
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
    /// The location constraint given at creation, as given; empty for none.
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

/// What a version that is no delete marker has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectVersion {
    pub size: u64,
    pub etag: ETag,
    pub checksum: Option<Checksum>,
    pub attributes: Attributes,
    /// Names the bytes: equal for versions that share them.
    pub write_id: WriteId,
}

/// A part of a finished multipart object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectPart {
    pub number: u16,
    pub offset: u64,
    pub size: u64,
    pub checksum: Option<Checksum>,
}

/// A part of an upload that is not finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadedPart {
    pub number: u16,
    pub size: u64,
    pub etag: ETag,
    pub modified: Timestamp,
    /// As the client asked for it.
    pub checksum: Option<Checksum>,
    /// See [`Digest`].
    pub crc64nvme: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    pub id: UploadId,
    pub key: String,
    pub initiated: Timestamp,
    /// Who writes the object, its metadata, tags and class: what holds at completion.
    pub attributes: Attributes,
    pub checksum: Option<(ChecksumAlgorithm, ChecksumType)>,
}

/// A range of an object's bytes; never empty unless the object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    pub start: u64,
    /// Exclusive.
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
