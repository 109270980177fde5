//! Listings, whole and in pages.

use drystone_storage::store::{
    ListObjects, ListUploads, ListVersions, ObjectPage, UploadPage, VersionPage,
};
use drystone_storage::types::VersionSelector;

use super::ops::{Op, Pick};
use super::side::Side;
use crate::listing::PAGES_MAX;
use crate::subject::Subject;

impl<S: Subject> Side<S> {
    pub async fn list_objects(&mut self, op: &Op) -> String {
        let Op::List {
            prefix,
            delimiter,
            after,
            max,
            ..
        } = op
        else {
            unreachable!("only called for listings");
        };
        let mut request = ListObjects {
            prefix: (*prefix).to_owned(),
            delimiter: (*delimiter).to_owned(),
            after: (*after).to_owned(),
            max: 1000,
        };
        let whole = self
            .store()
            .list_objects(self.bucket, request.clone())
            .await
            .unwrap();
        let mut sum = ObjectPage::default();
        request.max = *max;
        for _ in 0..PAGES_MAX {
            let page = self
                .store()
                .list_objects(self.bucket, request.clone())
                .await
                .unwrap();
            sum.objects.extend(page.objects);
            sum.prefixes.extend(page.prefixes);
            let Some(next) = page.next else { break };
            request.after = next;
        }
        assert_eq!(sum, whole, "pages add up to the whole");
        self.tell(Ok(whole))
    }

    pub async fn list_versions(&mut self, op: &Op) -> String {
        let Op::List {
            prefix,
            delimiter,
            after,
            marker,
            max,
            ..
        } = op
        else {
            unreachable!("only called for listings");
        };
        let marker = marker.map(|n| match self.version(Pick::Nth(n)) {
            VersionSelector::Id(id) => id,
            VersionSelector::Latest => unreachable!("a picked version has an id"),
        });
        let mut request = ListVersions {
            prefix: (*prefix).to_owned(),
            delimiter: (*delimiter).to_owned(),
            key_after: (*after).to_owned(),
            version_after: marker,
            max: 1000,
        };
        let whole = self
            .store()
            .list_versions(self.bucket, request.clone())
            .await
            .unwrap();
        let mut sum = VersionPage::default();
        request.max = *max;
        for _ in 0..PAGES_MAX {
            let page = self
                .store()
                .list_versions(self.bucket, request.clone())
                .await
                .unwrap();
            sum.versions.extend(page.versions);
            sum.prefixes.extend(page.prefixes);
            let Some(next) = page.next else { break };
            (request.key_after, request.version_after) = next;
        }
        assert_eq!(sum, whole, "pages add up to the whole");
        self.tell(Ok(whole))
    }

    pub async fn list_uploads(&mut self, op: &Op) -> String {
        let Op::List {
            prefix,
            delimiter,
            after,
            marker,
            max,
            ..
        } = op
        else {
            unreachable!("only called for listings");
        };
        let marker = marker.map(|n| self.upload(n).2);
        let mut request = ListUploads {
            prefix: (*prefix).to_owned(),
            delimiter: (*delimiter).to_owned(),
            key_after: (*after).to_owned(),
            upload_after: marker,
            max: 1000,
        };
        let whole = self
            .store()
            .list_uploads(self.bucket, request.clone())
            .await
            .unwrap();
        let mut sum = UploadPage::default();
        request.max = *max;
        for _ in 0..PAGES_MAX {
            let page = self
                .store()
                .list_uploads(self.bucket, request.clone())
                .await
                .unwrap();
            sum.uploads.extend(page.uploads);
            sum.prefixes.extend(page.prefixes);
            let Some(next) = page.next else { break };
            (request.key_after, request.upload_after) = next;
        }
        assert_eq!(sum, whole, "pages add up to the whole");
        self.tell(Ok(whole))
    }
}
