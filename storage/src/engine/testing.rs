//! Fixtures of the engine's tests: they write into an engine and read from it.

#![allow(clippy::unwrap_used)]

use async_trait::async_trait;
use bytes::Bytes;

use super::Engine;
use drystone_store::body::{Body, BodyReader};
use drystone_store::buckets::{Buckets as _, CreateBucket};
use drystone_store::error::Result;
use drystone_store::objects::{Objects as _, PutObject};
use drystone_store::types::{AccountId, BucketId, Digest, UploadId};
use drystone_store::uploads::{CreateUpload, Uploads as _};

/// A body in one piece, with a made-up digest.
pub struct Whole(Option<Bytes>);

impl Whole {
    pub fn new(bytes: impl Into<Bytes>) -> Whole {
        Whole(Some(bytes.into()))
    }
}

#[async_trait]
impl Body for Whole {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        Ok(self.0.take())
    }

    fn digest(&mut self) -> Digest {
        Digest {
            md5: [7; 16],
            checksum: None,
            crc64nvme: None,
        }
    }

    fn size_hint(&self) -> Option<u64> {
        None
    }
}

pub async fn create_bucket(engine: &Engine) -> BucketId {
    let request = CreateBucket {
        name: "stones".into(),
        owner: AccountId(String::new()),
        location: String::new(),
        settings: Vec::new(),
    };
    engine.create_bucket(request).await.unwrap().id
}

pub fn object(key: &str) -> PutObject {
    PutObject {
        key: key.into(),
        attributes: Default::default(),
        condition: Default::default(),
    }
}

pub async fn put(engine: &Engine, bucket: BucketId, key: &str, body: &mut dyn Body) {
    let put = engine.put_object(bucket, object(key), body);
    put.await.unwrap();
}

pub async fn create_upload(engine: &Engine, bucket: BucketId, key: &str) -> UploadId {
    let request = CreateUpload {
        key: key.into(),
        attributes: Default::default(),
        checksum: None,
    };
    engine.create_upload(bucket, request).await.unwrap().id
}

/// Reads the rest of a body.
pub async fn rest(mut reader: Box<dyn BodyReader>) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(piece) = reader.next().await.unwrap() {
        bytes.extend_from_slice(&piece);
    }
    bytes
}
