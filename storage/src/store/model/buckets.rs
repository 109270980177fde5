//! The model's buckets, their settings and their quotas.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::rows::{BucketState, UploadState};
use super::state::MemoryStore;
use crate::buckets::{Addition, AdditionOf, Buckets, CreateBucket, ListBuckets};
use crate::error::{Refusal, Result};
use crate::types::{Bucket, BucketId, BucketSetting, Quota, QuotaChange, Usage, Versioning};

#[async_trait]
impl Buckets for MemoryStore {
    async fn create_bucket(&self, request: CreateBucket) -> Result<Bucket> {
        let mut state = self.state();
        if let Some(taken) = state.bucket_named(&request.name) {
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
        let bucket = state.bucket_named(name).ok_or(Refusal::NoSuchBucket)?;
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
        // Unfinished uploads go with the bucket.
        if !state.bucket(bucket)?.versions.is_empty() {
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
}

impl BucketState {
    pub fn new(info: Bucket) -> BucketState {
        BucketState {
            info,
            versions: BTreeMap::new(),
            uploads: BTreeMap::new(),
            completed: BTreeMap::new(),
        }
    }

    /// Counts from scratch at each call, so that no count can be wrong.
    pub fn usage(&self) -> Usage {
        let rows = || self.versions.values().flatten();
        let objects = || rows().filter_map(|row| row.object.as_ref());
        Usage {
            objects: objects().count() as u64,
            markers: rows().filter(|row| row.object.is_none()).count() as u64,
            uploads: self.uploads.len() as u64,
            object_bytes: objects().map(|object| object.content.size).sum(),
            part_bytes: self.uploads.values().map(UploadState::part_bytes).sum(),
        }
    }

    pub fn check_quota(&self, addition: &Addition) -> Result<(), Refusal> {
        let used = self.usage();
        let mut wanted = used;
        match &addition.of {
            AdditionOf::Object { key } => {
                let replaced = self.replaced(key);
                wanted.objects += u64::from(replaced.is_none());
                wanted.object_bytes -= replaced.map_or(0, |object| object.content.size);
                wanted.object_bytes += addition.bytes;
            }
            AdditionOf::Part { upload, number } => {
                let upload = self.uploads.values().find(|state| state.info.id == *upload);
                let replaced = upload.map_or(0, |upload| upload.part_len(*number));
                wanted.part_bytes = wanted.part_bytes - replaced + addition.bytes;
            }
        }
        self.info.quota.allows(&used, &wanted)
    }
}
