//! The reference: the whole store in memory, small enough to be seen right.
//!
//! Ordered maps behind one mutex. A body is read to its end before the mutex is taken, and every
//! method that changes something does so in one critical section: that section is where the order
//! is decided. Nothing survives the process. The engine is tested by giving it and this the same
//! operations; whoever needs a store without disks in a test takes this one too.
//!
//! `bucket` holds what happens within one bucket, `multipart` its uploads, `listing` its
//! pages; `rows` is what it keeps.

mod bucket;
mod listing;
mod multipart;
mod rows;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;

use self::rows::{BucketState, NewVersion, Stamp, Stored, total_len};
use crate::env::Env;
use crate::error::{Refusal, Result};
use crate::measure::Measure;
use crate::store::{
    Addition, AdditionOf, Body, BodyReader, CompleteUpload, CreateBucket, CreateUpload,
    DeleteObject, Deleted, Health, ListBuckets, ListObjects, ListUploads, ListVersions,
    ObjectHandle, ObjectPage, ObjectStore, PutObject, UploadPage, VersionPage, Written,
};
use crate::types::{
    Account, AccountId, Bucket, BucketId, BucketSetting, ByteRange, Digest, ObjectPart,
    ObjectVersion, Order, Quota, QuotaChange, Tags, Upload, UploadId, UploadedPart, Usage, Version,
    VersionId, VersionSelector, Versioning,
};

/// A store that forgets everything when it is dropped.
pub struct MemoryStore {
    env: Arc<dyn Env>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    accounts: BTreeMap<AccountId, Account>,
    buckets: BTreeMap<BucketId, BucketState>,
    /// Counts every change, as the index of a log does; ids and orders derive from it.
    index: u64,
}

impl State {
    fn bucket(&mut self, id: BucketId) -> Result<&mut BucketState, Refusal> {
        self.buckets.get_mut(&id).ok_or(Refusal::NoSuchBucket)
    }

    fn named(&self, name: &str) -> Option<&BucketState> {
        self.buckets
            .values()
            .find(|bucket| bucket.info.name == name)
    }
}

impl MemoryStore {
    pub fn new(env: Arc<dyn Env>) -> MemoryStore {
        MemoryStore {
            env,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no change panics half done")
    }

    /// The next place in the order of all changes.
    fn stamp(&self, state: &mut State) -> Stamp {
        state.index += 1;
        let random = u128::from_be_bytes(self.env.random());
        Stamp {
            order: Order::new(state.index, 0),
            nonce: random as u64,
            now: self.env.now(),
        }
    }
}

/// Reads a body to its end. Nothing is kept of one that fails.
async fn read_body(body: &mut dyn Body) -> Result<(Vec<Bytes>, Digest)> {
    let mut pieces = Vec::new();
    while let Some(piece) = body.next().await? {
        pieces.push(piece);
    }
    Ok((pieces, body.digest()))
}

#[async_trait]
impl ObjectStore for MemoryStore {
    async fn put_account(&self, account: Account) -> Result<()> {
        self.state().accounts.insert(account.id.clone(), account);
        Ok(())
    }

    async fn account(&self, id: &AccountId) -> Result<Option<Account>> {
        Ok(self.state().accounts.get(id).cloned())
    }

    async fn create_bucket(&self, request: CreateBucket) -> Result<Bucket> {
        let mut state = self.state();
        if let Some(taken) = state.named(&request.name) {
            let owner = taken.info.owner.clone();
            return Err(Refusal::BucketExists { owner }.into());
        }
        let stamp = self.stamp(&mut state);
        let bucket = Bucket {
            id: BucketId(stamp.order.0),
            name: request.name,
            owner: request.owner,
            created: stamp.now,
            location: request.location,
            versioning: Versioning::Off,
            quota: Quota::default(),
            settings: request.settings,
        };
        state
            .buckets
            .insert(bucket.id, BucketState::new(bucket.clone()));
        Ok(bucket)
    }

    async fn bucket(&self, name: &str) -> Result<Bucket> {
        let state = self.state();
        let bucket = state.named(name).ok_or(Refusal::NoSuchBucket)?;
        Ok(bucket.info.clone())
    }

    async fn list_buckets(&self, request: ListBuckets) -> Result<Vec<Bucket>> {
        let state = self.state();
        let mut found: Vec<Bucket> = state
            .buckets
            .values()
            .map(|bucket| &bucket.info)
            .filter(|bucket| request.owner.as_ref().is_none_or(|id| *id == bucket.owner))
            .filter(|bucket| bucket.name.starts_with(&request.prefix))
            .filter(|bucket| bucket.name > request.after)
            .cloned()
            .collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found.truncate(request.max);
        Ok(found)
    }

    async fn delete_bucket(&self, bucket: BucketId) -> Result<()> {
        let mut state = self.state();
        if !state.bucket(bucket)?.is_empty() {
            return Err(Refusal::BucketNotEmpty.into());
        }
        state.buckets.remove(&bucket);
        Ok(())
    }

    async fn set_versioning(&self, bucket: BucketId, versioning: Versioning) -> Result<()> {
        self.state().bucket(bucket)?.info.versioning = versioning;
        Ok(())
    }

    async fn put_bucket_setting(
        &self,
        bucket: BucketId,
        setting: BucketSetting,
        document: Option<Vec<u8>>,
    ) -> Result<()> {
        let mut state = self.state();
        let settings = &mut state.bucket(bucket)?.info.settings;
        settings.retain(|(name, _)| *name != setting);
        settings.extend(document.map(|document| (setting, document)));
        Ok(())
    }

    async fn set_quota(&self, bucket: BucketId, change: QuotaChange) -> Result<()> {
        let mut state = self.state();
        let info = &mut state.bucket(bucket)?.info;
        info.quota = info.quota.changed(change);
        Ok(())
    }

    async fn usage(&self, buckets: &[BucketId]) -> Result<Vec<Usage>> {
        let state = self.state();
        let usage = |id| state.buckets.get(id).map(BucketState::usage);
        Ok(buckets
            .iter()
            .map(|id| usage(id).unwrap_or_default())
            .collect())
    }

    async fn check_quota(&self, bucket: BucketId, addition: Addition) -> Result<()> {
        Ok(self.state().bucket(bucket)?.check_quota(&addition)?)
    }

    async fn put_object(
        &self,
        bucket: BucketId,
        request: PutObject,
        body: &mut dyn Body,
    ) -> Result<Written> {
        let (data, digest) = read_body(body).await?;
        let write_id = self.env.write_id();
        let mut state = self.state();
        let stamp = self.stamp(&mut state);
        let new = NewVersion::written(request, data, digest, write_id);
        Ok(state.bucket(bucket)?.put(new, stamp)?)
    }

    async fn open_object(
        &self,
        bucket: BucketId,
        key: &str,
        version: VersionSelector,
    ) -> Result<Box<dyn ObjectHandle>> {
        let mut state = self.state();
        let (version, stored) = state.bucket(bucket)?.open(key, version)?;
        Ok(Box::new(MemoryHandle { version, stored }))
    }

    async fn delete_object(&self, bucket: BucketId, request: DeleteObject) -> Result<Deleted> {
        let mut state = self.state();
        let stamp = self.stamp(&mut state);
        Ok(state.bucket(bucket)?.delete(request, stamp)?)
    }

    async fn delete_objects(
        &self,
        bucket: BucketId,
        requests: Vec<DeleteObject>,
    ) -> Result<Vec<Result<Deleted>>> {
        let mut state = self.state();
        state.bucket(bucket)?;
        let mut answers = Vec::new();
        for request in requests {
            let stamp = self.stamp(&mut state);
            let answer = state.bucket(bucket)?.delete(request, stamp);
            answers.push(answer.map_err(Into::into));
        }
        Ok(answers)
    }

    async fn link_object(
        &self,
        bucket: BucketId,
        source: &dyn ObjectHandle,
        request: PutObject,
    ) -> Result<Written> {
        let mut state = self.state();
        let stamp = self.stamp(&mut state);
        let write_id = source.object().write_id;
        Ok(state.bucket(bucket)?.link(write_id, request, stamp)?)
    }

    async fn put_object_tags(
        &self,
        bucket: BucketId,
        key: &str,
        version: VersionSelector,
        tags: Tags,
    ) -> Result<Option<VersionId>> {
        Ok(self.state().bucket(bucket)?.put_tags(key, version, tags)?)
    }

    async fn list_objects(&self, bucket: BucketId, request: ListObjects) -> Result<ObjectPage> {
        Ok(self.state().bucket(bucket)?.list_objects(&request))
    }

    async fn list_versions(&self, bucket: BucketId, request: ListVersions) -> Result<VersionPage> {
        Ok(self.state().bucket(bucket)?.list_versions(&request))
    }

    async fn create_upload(&self, bucket: BucketId, request: CreateUpload) -> Result<Upload> {
        let id = UploadId(self.env.write_id());
        let mut state = self.state();
        let stamp = self.stamp(&mut state);
        Ok(state.bucket(bucket)?.create_upload(id, request, stamp))
    }

    async fn upload(&self, bucket: BucketId, key: &str, upload: UploadId) -> Result<Upload> {
        let mut state = self.state();
        Ok(state.bucket(bucket)?.upload(key, upload)?.info.clone())
    }

    async fn upload_part(
        &self,
        bucket: BucketId,
        key: &str,
        upload: UploadId,
        number: u16,
        body: &mut dyn Body,
    ) -> Result<UploadedPart> {
        let (data, digest) = read_body(body).await?;
        let mut state = self.state();
        let stamp = self.stamp(&mut state);
        let bucket = state.bucket(bucket)?;
        bucket.upload(key, upload)?;
        bucket.check_quota(&Addition {
            of: AdditionOf::Part { upload, number },
            bytes: total_len(&data),
        })?;
        let upload = bucket.upload(key, upload)?;
        Ok(upload.put_part(number, data, digest, stamp))
    }

    async fn complete_upload(&self, bucket: BucketId, request: CompleteUpload) -> Result<Written> {
        let mut state = self.state();
        let stamp = self.stamp(&mut state);
        Ok(state.bucket(bucket)?.complete_upload(request, stamp)?)
    }

    async fn abort_upload(&self, bucket: BucketId, key: &str, upload: UploadId) -> Result<()> {
        Ok(self.state().bucket(bucket)?.abort_upload(key, upload)?)
    }

    async fn list_uploads(&self, bucket: BucketId, request: ListUploads) -> Result<UploadPage> {
        Ok(self.state().bucket(bucket)?.list_uploads(&request))
    }

    async fn list_parts(
        &self,
        bucket: BucketId,
        key: &str,
        upload: UploadId,
        after: u16,
        max: usize,
    ) -> Result<(Vec<UploadedPart>, bool)> {
        let mut state = self.state();
        Ok(state
            .bucket(bucket)?
            .upload(key, upload)?
            .list_parts(after, max))
    }

    /// Nothing: it has neither disks nor upkeep.
    async fn measures(&self) -> Vec<Measure> {
        Vec::new()
    }

    async fn health(&self) -> Health {
        Health {
            disks_online: 1,
            disks_offline: 0,
            can_read: true,
            can_write: true,
            metadata_quorum: 1,
            data_shards: 1,
            parity_shards: 0,
        }
    }

    async fn close(&self) {}
}

/// A version opened for reading: it holds the bytes, so they stay when the version goes.
struct MemoryHandle {
    version: Version,
    stored: Arc<Stored>,
}

#[async_trait]
impl ObjectHandle for MemoryHandle {
    fn version(&self) -> &Version {
        &self.version
    }

    fn object(&self) -> &ObjectVersion {
        let object = self.version.object.as_ref();
        object.expect("only a version with bytes is opened")
    }

    async fn part(&self, number: u16) -> Result<Option<ObjectPart>> {
        let parts = &self.stored.parts;
        Ok(parts.iter().find(|part| part.number == number).cloned())
    }

    async fn parts(&self, after: u16, max: usize) -> Result<Vec<ObjectPart>> {
        let parts = self.stored.parts.iter();
        Ok(parts
            .filter(|part| part.number > after)
            .take(max)
            .cloned()
            .collect())
    }

    async fn read(&self, range: ByteRange) -> Result<Box<dyn BodyReader>> {
        assert!(range.start <= range.end && range.end <= self.object().size);
        let mut offset = 0;
        let mut pieces = Vec::new();
        for piece in &self.stored.data {
            let len = piece.len() as u64;
            let start = range.start.clamp(offset, offset + len) - offset;
            let end = range.end.clamp(offset, offset + len) - offset;
            if start < end {
                pieces.push(piece.slice(start as usize..end as usize));
            }
            offset += len;
        }
        Ok(Box::new(MemoryReader(pieces.into_iter())))
    }
}

struct MemoryReader(std::vec::IntoIter<Bytes>);

#[async_trait]
impl BodyReader for MemoryReader {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        Ok(self.0.next())
    }
}
