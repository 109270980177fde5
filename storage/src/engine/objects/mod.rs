//! Objects: each operation joins metadata and shards.
//!
//! `put` writes the bytes of objects and parts, `get` reads those of an open version, and `delete`
//! removes versions.

mod delete;
mod get;
pub(super) mod put;

use std::sync::Arc;

use async_trait::async_trait;

use self::delete::named_version;
use self::get::{Handle, Source};
use self::put::written;
use super::Engine;
use crate::meta::command::{Change, Reply};
use crate::meta::view::View;
use drystone_store::body::Body;
use drystone_store::error::Result;
use drystone_store::objects::{
    DeleteObject, Deleted, ObjectHandle, Objects, PutObject, ReadScope, Written,
};
use drystone_store::types::{BucketId, Tags, VersionId, VersionSelector};

#[async_trait]
impl Objects for Engine {
    async fn put_object(
        &self,
        bucket: BucketId,
        request: PutObject,
        body: &mut dyn Body,
    ) -> Result<Written> {
        let epoch = self.objects.epochs.begin();
        let class = request.attributes.storage_class.clone();
        let (data, digest) = self.write_body(&epoch, bucket, &class, body).await?;
        let change = Change::PutObject {
            bucket,
            key: request.key,
            attributes: request.attributes,
            condition: request.condition,
            data: data.clone(),
            digest,
            nonce: self.env.nonce(),
        };
        written(self.commit_data(epoch, data, change).await?)
    }

    async fn open_object(
        &self,
        bucket: BucketId,
        key: &str,
        version: VersionSelector,
        scope: ReadScope,
    ) -> Result<Box<dyn ObjectHandle>> {
        let epoch = Arc::new(self.objects.epochs.begin());
        let key = key.to_owned();
        let read = move |view: &View<'_>| view.open(bucket, &key, version, scope);
        let (version, content) = self.objects.group.read(read).await?;
        Ok(Box::new(Handle {
            version,
            content,
            source: Source {
                bucket,
                group: self.objects.group.clone(),
                shards: self.shards.clone(),
                _epoch: epoch,
            },
        }))
    }

    async fn delete_object(&self, bucket: BucketId, request: DeleteObject) -> Result<Deleted> {
        let mut answers = self.delete_batch(bucket, vec![request]).await?;
        answers.pop().expect("one answer for one key")
    }

    /// Deletes all keys in one command. A part list costs it one row: gc removes the parts.
    async fn delete_objects(
        &self,
        bucket: BucketId,
        requests: Vec<DeleteObject>,
    ) -> Result<Vec<Result<Deleted>>> {
        self.delete_batch(bucket, requests).await
    }

    async fn link_object(
        &self,
        bucket: BucketId,
        source: &dyn ObjectHandle,
        request: PutObject,
    ) -> Result<Written> {
        self.check_metadata_space()?;
        let object = source.object();
        let change = Change::LinkObject {
            bucket,
            key: request.key,
            attributes: request.attributes,
            condition: request.condition,
            source: object.write_id,
            size: object.size,
            etag: object.etag,
            checksum: object.checksum.clone(),
            nonce: self.env.nonce(),
        };
        written(self.objects.propose(change).await?)
    }

    async fn put_object_tags(
        &self,
        bucket: BucketId,
        key: &str,
        version: VersionSelector,
        tags: Tags,
    ) -> Result<Option<VersionId>> {
        if !tags.is_empty() {
            self.check_metadata_space()?;
        }
        let change = Change::PutTags {
            bucket,
            key: key.to_owned(),
            version: named_version(version),
            tags,
        };
        match self.objects.propose(change).await? {
            Reply::Tagged { version_id } => Ok(version_id),
            other => unreachable!("tagging is answered by the version met, not {other:?}"),
        }
    }
}
