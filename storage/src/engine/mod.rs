//! One process's store: opened (`open`), kept whole (`workers`), and asked (here).

mod databases;
mod disks;
mod instance;
mod measures;
mod objects;
mod open;
mod open_error;
mod operate;
mod renew;
#[cfg(test)]
pub(crate) mod testing;
mod workers;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch;

pub use self::open::Options;
pub use self::open_error::OpenError;
use self::workers::Workers;
use crate::db::{Db, DbError, DbShared};
use crate::disk::identity::{DiskDirectory, Identity};
use crate::meta::command::{Change, Command};
use crate::meta::view::View;
use crate::raft::epochs::{EpochGuard, Epochs};
use crate::raft::group::Group;
use crate::shards::Shards;
use drystone_store::ObjectStore;
use drystone_store::body::Body;
use drystone_store::buckets::{Addition, CreateBucket, ListBuckets};
use drystone_store::env::Env;
use drystone_store::error::Result;
use drystone_store::instance::Health;
use drystone_store::listings::{
    ListObjects, ListUploads, ListVersions, ObjectPage, UploadPage, VersionPage,
};
use drystone_store::measure::Measure;
use drystone_store::objects::{DeleteObject, Deleted, ObjectHandle, PutObject, Written};
use drystone_store::types::{
    Account, AccountId, Bucket, BucketId, BucketSetting, DiskId, QuotaChange, Tags, Upload,
    UploadId, UploadedPart, Usage, VersionId, VersionSelector, Versioning,
};
use drystone_store::uploads::{CompleteUpload, CreateUpload};

/// One process's store: its disks, the metadata groups on them, and the workers of both.
pub struct Engine {
    pub(crate) env: Arc<dyn Env>,
    /// Group 0: names, accounts.
    pub(crate) system: Group,
    pub(crate) system_epochs: Arc<Epochs>,
    /// Group 1: buckets and their objects.
    pub(crate) objects: Group,
    pub(crate) epochs: Arc<Epochs>,
    pub(crate) shards: Arc<Shards>,
    pub(crate) names: Names,
    databases: Mutex<Vec<Held>>,
    /// What databases of new disks share with the others.
    db_shared: DbShared,
    /// An identity of this store, for new disks.
    template: Identity,
    /// Held by who replaces a disk, or its database.
    replacing: tokio::sync::Mutex<()>,
    /// Directories that hold disks which are not used, and why, until one of use takes the place.
    refused: Mutex<BTreeMap<String, String>>,
    /// What was wrong at the start with directories that are no disks, by directory.
    lost: HashMap<String, String>,
    pub(crate) workers: Workers,
}

/// A disk of this process.
struct Held {
    /// None while it is made anew.
    db: Option<Arc<Db>>,
    /// Of the last database. Its sender goes when RocksDB has ended.
    failure: watch::Receiver<Option<DbError>>,
    settled: DiskDirectory,
}

impl Held {
    fn new(settled: DiskDirectory, db: Arc<Db>) -> Held {
        let failure = db.failure();
        let db = Some(db);
        Held {
            settled,
            db,
            failure,
        }
    }

    fn id(&self) -> DiskId {
        self.settled.identity.disk
    }
}

impl Engine {
    /// A command of the objects' group, with its time and a fresh request id.
    pub(crate) fn command(&self, epoch: &EpochGuard, change: Change) -> Command {
        Command {
            request: self.env.write_id(),
            epoch: epoch.epoch(),
            time: self.env.now(),
            change,
        }
    }

    fn databases(&self) -> MutexGuard<'_, Vec<Held>> {
        self.databases
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn refused(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The most names remembered; past it all are forgotten and looked up again.
const NAMES_LEN_MAX: usize = 10_000;

/// Bucket names met before and their ids. Only ever a short cut: a bucket's own group decides
/// whether it still is.
#[derive(Default)]
pub(crate) struct Names(Mutex<HashMap<String, BucketId>>);

impl Names {
    pub fn get(&self, name: &str) -> Option<BucketId> {
        self.lock().get(name).copied()
    }

    pub fn remember(&self, name: &str, id: BucketId) {
        let mut names = self.lock();
        if names.len() >= NAMES_LEN_MAX {
            names.clear();
        }
        names.insert(name.to_owned(), id);
    }

    pub fn forget(&self, name: &str) {
        self.lock().remove(name);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, BucketId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl ObjectStore for Engine {
    async fn put_account(&self, account: Account) -> Result<()> {
        self.register(account).await
    }

    async fn account(&self, id: &AccountId) -> Result<Option<Account>> {
        self.find_account(id).await
    }

    async fn create_bucket(&self, request: CreateBucket) -> Result<Bucket> {
        self.make_bucket(request).await
    }

    async fn bucket(&self, name: &str) -> Result<Bucket> {
        self.find_bucket(name).await
    }

    async fn list_buckets(&self, request: ListBuckets) -> Result<Vec<Bucket>> {
        self.buckets(request).await
    }

    async fn delete_bucket(&self, bucket: BucketId) -> Result<()> {
        self.remove_bucket(bucket).await
    }

    async fn set_versioning(&self, bucket: BucketId, versioning: Versioning) -> Result<()> {
        self.change_versioning(bucket, versioning).await
    }

    async fn put_bucket_setting(
        &self,
        bucket: BucketId,
        setting: BucketSetting,
        document: Option<Vec<u8>>,
    ) -> Result<()> {
        self.change_setting(bucket, setting, document).await
    }

    async fn set_quota(&self, bucket: BucketId, change: QuotaChange) -> Result<()> {
        self.change_quota(bucket, change).await
    }

    async fn usage(&self, buckets: &[BucketId]) -> Result<Vec<Usage>> {
        self.usages(buckets.to_vec()).await
    }

    async fn check_quota(&self, bucket: BucketId, addition: Addition) -> Result<()> {
        let check = move |view: &View<'_>| view.check_quota(bucket, &addition);
        self.objects.read(check).await
    }

    async fn put_object(
        &self,
        bucket: BucketId,
        request: PutObject,
        body: &mut dyn Body,
    ) -> Result<Written> {
        self.put(bucket, request, body).await
    }

    async fn open_object(
        &self,
        bucket: BucketId,
        key: &str,
        version: VersionSelector,
    ) -> Result<Box<dyn ObjectHandle>> {
        Ok(Box::new(self.open_version(bucket, key, version).await?))
    }

    async fn delete_object(&self, bucket: BucketId, request: DeleteObject) -> Result<Deleted> {
        let mut answers = self.delete(bucket, vec![request]).await?;
        answers.pop().expect("one answer for one key")
    }

    async fn delete_objects(
        &self,
        bucket: BucketId,
        requests: Vec<DeleteObject>,
    ) -> Result<Vec<Result<Deleted>>> {
        self.delete(bucket, requests).await
    }

    async fn link_object(
        &self,
        bucket: BucketId,
        source: &dyn ObjectHandle,
        request: PutObject,
    ) -> Result<Written> {
        self.link(bucket, source, request).await
    }

    async fn put_object_tags(
        &self,
        bucket: BucketId,
        key: &str,
        version: VersionSelector,
        tags: Tags,
    ) -> Result<Option<VersionId>> {
        self.put_tags(bucket, key, version, tags).await
    }

    async fn list_objects(&self, bucket: BucketId, request: ListObjects) -> Result<ObjectPage> {
        self.objects_page(bucket, request).await
    }

    async fn list_versions(&self, bucket: BucketId, request: ListVersions) -> Result<VersionPage> {
        self.versions_page(bucket, request).await
    }

    async fn create_upload(&self, bucket: BucketId, request: CreateUpload) -> Result<Upload> {
        self.start_upload(bucket, request).await
    }

    async fn upload(&self, bucket: BucketId, key: &str, upload: UploadId) -> Result<Upload> {
        self.find_upload(bucket, key, upload).await
    }

    async fn upload_part(
        &self,
        bucket: BucketId,
        key: &str,
        upload: UploadId,
        number: u16,
        body: &mut dyn Body,
    ) -> Result<UploadedPart> {
        self.put_part(bucket, key, upload, number, body).await
    }

    async fn complete_upload(&self, bucket: BucketId, request: CompleteUpload) -> Result<Written> {
        self.complete(bucket, request).await
    }

    async fn abort_upload(&self, bucket: BucketId, key: &str, upload: UploadId) -> Result<()> {
        self.abort(bucket, key, upload).await
    }

    async fn list_uploads(&self, bucket: BucketId, request: ListUploads) -> Result<UploadPage> {
        self.uploads_page(bucket, request).await
    }

    async fn list_parts(
        &self,
        bucket: BucketId,
        key: &str,
        upload: UploadId,
        after: u16,
        max: usize,
    ) -> Result<(Vec<UploadedPart>, bool)> {
        self.parts_page(bucket, key, upload, after, max).await
    }

    async fn health(&self) -> Health {
        self.look().await
    }

    async fn measures(&self) -> Vec<Measure> {
        self.measure().await
    }

    async fn close(&self) {
        self.stop().await
    }
}
