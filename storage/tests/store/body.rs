//! Bodies to write, and the bytes read.

use async_trait::async_trait;
use bytes::Bytes;
use drystone_store::ObjectStore;
use drystone_store::body::Body;
use drystone_store::checksum::checksum;
use drystone_store::error::{Error, Result};
use drystone_store::objects::{ObjectHandle, PutObject, ReadScope, Written};
use drystone_store::types::{
    BucketId, ByteRange, ChecksumAlgorithm, Digest, ETag, VersionSelector,
};
use md5::{Digest as _, Md5};

/// Bodies come in pieces of this odd size, so that their boundaries never align with the store's.
const PIECE_LEN: usize = 70_001;

/// A body from memory, digested as the front end would.
pub struct TestBody {
    rest: Bytes,
    len: usize,
    digest: Digest,
    interrupted: bool,
}

impl TestBody {
    pub fn new(bytes: impl Into<Bytes>) -> TestBody {
        let rest = bytes.into();
        TestBody {
            len: rest.len(),
            digest: Digest {
                md5: Md5::digest(&rest).into(),
                checksum: None,
                crc64nvme: None,
            },
            rest,
            interrupted: false,
        }
    }

    pub fn with_checksum(mut self, algorithm: Option<ChecksumAlgorithm>) -> TestBody {
        self.digest.checksum = algorithm.map(|algorithm| checksum(algorithm, &self.rest));
        self
    }

    /// Adds the checksum that the front end adds to a part of an upload that was begun without an
    /// algorithm.
    pub fn with_crc64nvme(mut self) -> TestBody {
        let crc = checksum(ChecksumAlgorithm::Crc64Nvme, &self.rest).value;
        self.digest.crc64nvme = crc.try_into().ok().map(u64::from_be_bytes);
        self
    }

    /// Makes the body end in an error instead of the final `None`.
    pub fn interrupted(mut self) -> TestBody {
        self.interrupted = true;
        self
    }
}

#[async_trait]
impl Body for TestBody {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.rest.is_empty() && self.interrupted {
            return Err(Error::Body("the client went away".into()));
        }
        let piece = self.rest.split_to(self.rest.len().min(PIECE_LEN));
        Ok(Some(piece).filter(|piece| !piece.is_empty()))
    }

    fn digest(&mut self) -> Digest {
        assert!(self.rest.is_empty() && !self.interrupted, "read to its end");
        self.digest.clone()
    }

    fn size_hint(&self) -> Option<u64> {
        Some(self.len as u64)
    }
}

/// Returns bytes that look random and depend on the seed alone.
pub fn pattern(seed: u64, len: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}

pub fn etag(bytes: &[u8]) -> ETag {
    ETag {
        md5: Md5::digest(bytes).into(),
        parts: 0,
    }
}

pub fn request(key: &str) -> PutObject {
    PutObject {
        key: key.to_owned(),
        attributes: Default::default(),
        condition: Default::default(),
    }
}

pub async fn put(
    store: &dyn ObjectStore,
    bucket: BucketId,
    key: &str,
    bytes: impl Into<Bytes>,
) -> Written {
    let mut body = TestBody::new(bytes);
    let written = store.put_object(bucket, request(key), &mut body).await;
    written.unwrap()
}

/// Reads the bytes of a range, and checks that they come in pieces that are never empty.
pub async fn read(handle: &dyn ObjectHandle, start: u64, end: u64) -> Vec<u8> {
    let mut reader = handle.read(ByteRange { start, end }).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(piece) = reader.next().await.unwrap() {
        assert!(!piece.is_empty());
        bytes.extend_from_slice(&piece);
    }
    assert_eq!(bytes.len() as u64, end - start);
    bytes
}

pub async fn read_all(handle: &dyn ObjectHandle) -> Vec<u8> {
    read(handle, 0, handle.object().size).await
}

/// Reads the bytes of the latest version.
pub async fn get(store: &dyn ObjectStore, bucket: BucketId, key: &str) -> Vec<u8> {
    get_version(store, bucket, key, VersionSelector::Latest).await
}

pub async fn get_version(
    store: &dyn ObjectStore,
    bucket: BucketId,
    key: &str,
    version: VersionSelector,
) -> Vec<u8> {
    let handle = store
        .open_object(bucket, key, version, ReadScope::Whole)
        .await
        .unwrap();
    read_all(handle.as_ref()).await
}
