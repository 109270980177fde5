//! Fixtures of the engine's tests: they write into an engine and read from it.

#![allow(clippy::unwrap_used)]

use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::timeout;

use super::Engine;
use crate::raft::group::Group;
use drystone_store::body::{Body, BodyReader};
use drystone_store::buckets::{Buckets as _, CreateBucket};
use drystone_store::error::Result;
use drystone_store::instance::Instance as _;
use drystone_store::objects::{Objects as _, PutObject, ReadScope};
use drystone_store::types::{AccountId, BucketId, ByteRange, Digest, UploadId, VersionSelector};
use drystone_store::uploads::{CreateUpload, Uploads as _};

/// The time after which a test stops waiting.
pub const PATIENCE: Duration = Duration::from_secs(240);
/// The sizes of objects in turn, in bytes: in the metadata, and of one and of two stripes.
const SIZES: [usize; 4] = [300, 5000, 60_000, 400_000];

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

/// Waits for a state of the store, and says what the store is doing if it never comes.
pub async fn until(engine: &Engine, mut reached: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !reached().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if timeout(PATIENCE, waiting).await.is_err() {
        let disks = engine.shards.disks();
        let disks: Vec<_> = disks
            .iter()
            .map(|disk| (disk.id(), disk.state().borrow().clone()))
            .collect();
        panic!(
            "the state is never reached: {disks:#?} {:#?} {:#?} {:#?} {:#?} {:#?}",
            engine.workers.runner.statuses(),
            engine.system.group.status(),
            engine.objects.group.status(),
            engine.heal_status().await,
            engine.health().await,
        );
    }
}

/// Returns the content of a numbered object.
pub fn content(n: usize) -> Vec<u8> {
    vec![n as u8; SIZES[n % SIZES.len()]]
}

/// Writes numbered objects, each of which must be acknowledged.
pub async fn write(engine: &Engine, bucket: BucketId, keys: Range<usize>) {
    for n in keys {
        put(engine, bucket, &n.to_string(), &mut Whole::new(content(n))).await;
    }
}

/// Reads numbered objects back.
pub async fn check(engine: &Engine, bucket: BucketId, keys: Range<usize>) {
    for n in keys {
        let key = n.to_string();
        let opened = engine.open_object(bucket, &key, VersionSelector::Latest, ReadScope::Whole);
        let opened = opened.await.unwrap();
        let size = content(n).len() as u64;
        let all = ByteRange {
            start: 0,
            end: size,
        };
        let read = opened.read(all).await.unwrap();
        assert!(rest(read).await == content(n), "{n}");
    }
}

/// Returns whether all four disks and voters are online, and all shards are healed.
pub async fn is_whole(engine: &Engine) -> bool {
    let whole = async |group: &Group| {
        let voters = group.voters().await;
        voters.is_ok_and(|voters| (voters.alive, voters.all) == (4, 4))
    };
    engine.health().await.disks_online == 4
        && whole(&engine.system.group).await
        && whole(&engine.objects.group).await
        && engine
            .heal_status()
            .await
            .is_ok_and(|heal| !heal.queueing && heal.queued_shards == 0)
}
