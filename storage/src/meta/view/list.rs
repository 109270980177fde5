//! Pages of objects, versions and uploads.
//!
//! One iterator walks one table between the prefix's bounds. At a key that has the delimiter after
//! the prefix, it adds the common prefix to the page and seeks past all keys under it. So a page
//! costs its own entries only, however many keys are below its common prefixes.

use super::View;
use crate::meta::keys::{self, KeyRange};
use crate::meta::record::{CurrentRow, UploadAt, UploadRow, VersionRow};
use crate::meta::txn::{RowReads, decode_or_skip};
use drystone_store::error::Result;
use drystone_store::listings::{
    ListObjects, ListUploads, ListVersions, ObjectPage, UploadPage, VersionPage,
};
use drystone_store::types::{BucketId, Order};

/// Returns the part of `key` up to and including the first delimiter after the prefix.
fn common_prefix<'k>(key: &'k str, prefix: &str, delimiter: &str) -> Option<&'k str> {
    if delimiter.is_empty() {
        return None;
    }
    let at = key.strip_prefix(prefix)?.find(delimiter)?;
    Some(&key[..prefix.len() + at + delimiter.len()])
}

/// Returns the end of a range, from where the next rows are read.
fn past(range: KeyRange) -> Vec<u8> {
    range.to
}

impl View<'_> {
    /// Lists objects. Scans only the table `current`.
    pub fn list_objects(&self, bucket: BucketId, request: &ListObjects) -> Result<ObjectPage> {
        self.live_bucket(bucket)?;
        let ListObjects {
            prefix,
            delimiter,
            after,
            max,
        } = request;
        let mut range = self.keys.currents(bucket, prefix);
        if !after.is_empty() {
            let from = match common_prefix(after, prefix, delimiter) {
                Some(given) => past(self.keys.currents(bucket, given)),
                None => [&self.keys.current(bucket, after)[..], &[0]].concat(),
            };
            range = range.starting_at(from);
        }
        let mut page = ObjectPage::default();
        if *max == 0 || range.from >= range.to {
            return Ok(page);
        }
        let mut rows = self.rows(&range);
        rows.seek_to_first();
        let mut last = String::new();
        while let Some((row, value)) = rows.item() {
            if page.objects.len() + page.prefixes.len() == *max {
                page.next = Some(last);
                break;
            }
            let key = keys::parse_current(row)?;
            if let Some(given) = common_prefix(key, prefix, delimiter) {
                last = given.to_owned();
                page.prefixes.push(last.clone());
                rows.seek(past(self.keys.currents(bucket, &last)));
            } else {
                last = key.to_owned();
                if let Some(current) = decode_or_skip::<CurrentRow>(row, value) {
                    page.objects.push(current.into_listed(last.clone()));
                }
                rows.next();
            }
        }
        self.ended(&rows)?;
        Ok(page)
    }

    pub fn list_versions(&self, bucket: BucketId, request: &ListVersions) -> Result<VersionPage> {
        self.live_bucket(bucket)?;
        let ListVersions {
            prefix,
            delimiter,
            key_after,
            max,
            ..
        } = request;
        let mut range = self.keys.versions(bucket, prefix);
        if !key_after.is_empty() {
            range = range.starting_at(self.versions_from(bucket, request)?);
        }
        let mut page = VersionPage::default();
        if *max == 0 || range.from >= range.to {
            return Ok(page);
        }
        let mut rows = self.rows(&range);
        rows.seek_to_first();
        let mut last = None;
        // The key of the row before, and its newest order, as a page may begin within a key.
        let (mut key_before, mut newest) = (String::new(), None);
        if request.version_after.is_some() {
            newest = self.newest(bucket, key_after)?.map(|(order, _)| order);
            key_before.clone_from(key_after);
        }
        while let Some((row, value)) = rows.item() {
            if page.versions.len() + page.prefixes.len() == *max {
                page.next = last;
                break;
            }
            let (key, order) = keys::parse_version(row)?;
            if let Some(given) = common_prefix(&key, prefix, delimiter) {
                let given = given.to_owned();
                rows.seek(past(self.keys.versions(bucket, &given)));
                page.prefixes.push(given.clone());
                last = Some((given, None));
                continue;
            }
            if key != key_before || newest.is_none() {
                newest = Some(order);
                key_before.clone_from(&key);
            }
            if let Some(version) = decode_or_skip::<VersionRow>(row, value) {
                last = Some((key.clone(), Some(version.id)));
                let version = version.into_version(key, newest == Some(order));
                page.versions.push(version);
            }
            rows.next();
        }
        self.ended(&rows)?;
        Ok(page)
    }

    /// Returns the first key with which a page of versions may begin.
    fn versions_from(&self, bucket: BucketId, request: &ListVersions) -> Result<Vec<u8>> {
        let key = &request.key_after;
        if let Some(given) = common_prefix(key, &request.prefix, &request.delimiter) {
            return Ok(past(self.keys.versions(bucket, given)));
        }
        let Some(id) = request.version_after else {
            return Ok(past(self.keys.versions_of(bucket, key)));
        };
        Ok(match self.order_of(bucket, key, id)? {
            // Older versions have a lower order and come later.
            Some(order) => keys::successor(&self.keys.version(bucket, key, order)),
            None => self.keys.versions_of(bucket, key).from,
        })
    }

    pub fn list_uploads(&self, bucket: BucketId, request: &ListUploads) -> Result<UploadPage> {
        self.live_bucket(bucket)?;
        let ListUploads {
            prefix,
            delimiter,
            key_after,
            max,
            ..
        } = request;
        let mut range = self.keys.uploads(bucket, prefix);
        if !key_after.is_empty() {
            range = range.starting_at(self.uploads_from(bucket, request)?);
        }
        let mut page = UploadPage::default();
        if *max == 0 || range.from >= range.to {
            return Ok(page);
        }
        let mut rows = self.rows(&range);
        rows.seek_to_first();
        let mut last = None;
        while let Some((row, value)) = rows.item() {
            if page.uploads.len() + page.prefixes.len() == *max {
                page.next = last;
                break;
            }
            let (key, _) = keys::parse_upload(row)?;
            if let Some(given) = common_prefix(&key, prefix, delimiter) {
                let given = given.to_owned();
                rows.seek(past(self.keys.uploads(bucket, &given)));
                page.prefixes.push(given.clone());
                last = Some((given, None));
                continue;
            }
            if let Some(upload) = decode_or_skip::<UploadRow>(row, value) {
                last = Some((key.clone(), Some(upload.id)));
                page.uploads.push(upload.into_upload(key));
            }
            rows.next();
        }
        self.ended(&rows)?;
        Ok(page)
    }

    fn uploads_from(&self, bucket: BucketId, request: &ListUploads) -> Result<Vec<u8>> {
        let key = &request.key_after;
        if let Some(given) = common_prefix(key, &request.prefix, &request.delimiter) {
            return Ok(past(self.keys.uploads(bucket, given)));
        }
        let Some(id) = request.upload_after else {
            return Ok(past(self.keys.uploads_of(bucket, key)));
        };
        let at: Option<UploadAt> = self.upload_at(bucket, key, id)?;
        Ok(match at {
            Some(UploadAt {
                order: Order(order),
                ..
            }) => self.keys.upload(bucket, key, Order(order + 1)),
            None => self.keys.uploads_of(bucket, key).from,
        })
    }
}
