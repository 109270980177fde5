//! Listings: one linearizable look each, at the cost of its page.

use crate::engine::Engine;
use drystone_store::error::Result;
use drystone_store::listings::{
    ListObjects, ListUploads, ListVersions, ObjectPage, PAGE_LEN_MAX, UploadPage, VersionPage,
};
use drystone_store::types::BucketId;

impl Engine {
    pub(crate) async fn objects_page(
        &self,
        bucket: BucketId,
        request: ListObjects,
    ) -> Result<ObjectPage> {
        assert!(request.max <= PAGE_LEN_MAX, "the caller bounds its pages");
        self.objects
            .read(move |view| view.list_objects(bucket, &request))
            .await
    }

    pub(crate) async fn versions_page(
        &self,
        bucket: BucketId,
        request: ListVersions,
    ) -> Result<VersionPage> {
        assert!(request.max <= PAGE_LEN_MAX, "the caller bounds its pages");
        self.objects
            .read(move |view| view.list_versions(bucket, &request))
            .await
    }

    pub(crate) async fn uploads_page(
        &self,
        bucket: BucketId,
        request: ListUploads,
    ) -> Result<UploadPage> {
        assert!(request.max <= PAGE_LEN_MAX, "the caller bounds its pages");
        self.objects
            .read(move |view| view.list_uploads(bucket, &request))
            .await
    }
}
