//! Listings: one linearizable read each, at the cost of its page.

use async_trait::async_trait;

use super::Engine;
use drystone_store::error::Result;
use drystone_store::listings::{
    ListObjects, ListUploads, ListVersions, Listings, ObjectPage, PAGE_LEN_MAX, UploadPage,
    VersionPage,
};
use drystone_store::types::BucketId;

#[async_trait]
impl Listings for Engine {
    async fn list_objects(&self, bucket: BucketId, request: ListObjects) -> Result<ObjectPage> {
        assert!(request.max <= PAGE_LEN_MAX, "the caller bounds its pages");
        let group = &self.objects.group;
        group
            .read(move |view| view.list_objects(bucket, &request))
            .await
    }

    async fn list_versions(&self, bucket: BucketId, request: ListVersions) -> Result<VersionPage> {
        assert!(request.max <= PAGE_LEN_MAX, "the caller bounds its pages");
        let group = &self.objects.group;
        group
            .read(move |view| view.list_versions(bucket, &request))
            .await
    }

    async fn list_uploads(&self, bucket: BucketId, request: ListUploads) -> Result<UploadPage> {
        assert!(request.max <= PAGE_LEN_MAX, "the caller bounds its pages");
        let group = &self.objects.group;
        group
            .read(move |view| view.list_uploads(bucket, &request))
            .await
    }
}
