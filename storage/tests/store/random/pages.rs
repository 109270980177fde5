//! Listings, whole and in pages.

use drystone_store::listings::{
    ListObjects, ListUploads, ListVersions, ObjectPage, PAGE_LEN_MAX, UploadPage, VersionPage,
};
use drystone_store::types::VersionSelector;

use super::ops::{Pages, Pick};
use super::side::Side;
use crate::listing::PAGES_MAX;
use crate::subject::Subject;

impl<S: Subject> Side<S> {
    pub async fn list_objects(&mut self, pages: &Pages) -> String {
        let mut request = ListObjects {
            prefix: pages.prefix.to_owned(),
            delimiter: pages.delimiter.to_owned(),
            after: pages.after.to_owned(),
            max: PAGE_LEN_MAX,
        };
        let (store, bucket) = (self.store(), self.bucket);
        let page = async |request: &ListObjects| {
            let page = store.list_objects(bucket, request.clone()).await;
            page.unwrap()
        };
        let whole = page(&request).await;
        let mut sum = ObjectPage::default();
        request.max = pages.max;
        for _ in 0..PAGES_MAX {
            let page = page(&request).await;
            sum.objects.extend(page.objects);
            sum.prefixes.extend(page.prefixes);
            let Some(next) = page.next else { break };
            request.after = next;
        }
        assert_eq!(sum, whole, "pages add up to the whole");
        self.tell(Ok(whole))
    }

    pub async fn list_versions(&mut self, pages: &Pages) -> String {
        let marker = pages.marker.map(|n| match self.version(Pick::Nth(n)) {
            VersionSelector::Id(id) => id,
            VersionSelector::Latest => unreachable!("a picked version has an id"),
        });
        let mut request = ListVersions {
            prefix: pages.prefix.to_owned(),
            delimiter: pages.delimiter.to_owned(),
            key_after: pages.after.to_owned(),
            version_after: marker,
            max: PAGE_LEN_MAX,
        };
        let (store, bucket) = (self.store(), self.bucket);
        let page = async |request: &ListVersions| {
            let page = store.list_versions(bucket, request.clone()).await;
            page.unwrap()
        };
        let whole = page(&request).await;
        let mut sum = VersionPage::default();
        request.max = pages.max;
        for _ in 0..PAGES_MAX {
            let page = page(&request).await;
            sum.versions.extend(page.versions);
            sum.prefixes.extend(page.prefixes);
            let Some(next) = page.next else { break };
            (request.key_after, request.version_after) = next;
        }
        assert_eq!(sum, whole, "pages add up to the whole");
        self.tell(Ok(whole))
    }

    pub async fn list_uploads(&mut self, pages: &Pages) -> String {
        let marker = pages.marker.map(|n| self.upload(n).2);
        let mut request = ListUploads {
            prefix: pages.prefix.to_owned(),
            delimiter: pages.delimiter.to_owned(),
            key_after: pages.after.to_owned(),
            upload_after: marker,
            max: PAGE_LEN_MAX,
        };
        let (store, bucket) = (self.store(), self.bucket);
        let page = async |request: &ListUploads| {
            let page = store.list_uploads(bucket, request.clone()).await;
            page.unwrap()
        };
        let whole = page(&request).await;
        let mut sum = UploadPage::default();
        request.max = pages.max;
        for _ in 0..PAGES_MAX {
            let page = page(&request).await;
            sum.uploads.extend(page.uploads);
            sum.prefixes.extend(page.prefixes);
            let Some(next) = page.next else { break };
            (request.key_after, request.upload_after) = next;
        }
        assert_eq!(sum, whole, "pages add up to the whole");
        self.tell(Ok(whole))
    }
}
