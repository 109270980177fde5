//! The model's listings: one walk for objects, versions and uploads alike.

use async_trait::async_trait;

use super::rows::{BucketState, Row};
use super::state::MemoryStore;
use crate::error::Result;
use crate::listings::{
    ListObjects, ListUploads, ListVersions, ListedObject, Listings, ObjectPage, UploadPage,
    VersionPage,
};
use crate::types::{BucketId, Order, Upload, Version, VersionId};

#[async_trait]
impl Listings for MemoryStore {
    async fn list_objects(&self, bucket: BucketId, request: ListObjects) -> Result<ObjectPage> {
        Ok(self.state().bucket(bucket)?.list_objects(&request))
    }

    async fn list_versions(&self, bucket: BucketId, request: ListVersions) -> Result<VersionPage> {
        Ok(self.state().bucket(bucket)?.list_versions(&request))
    }

    async fn list_uploads(&self, bucket: BucketId, request: ListUploads) -> Result<UploadPage> {
        Ok(self.state().bucket(bucket)?.list_uploads(&request))
    }
}

/// The parameters that every listing has.
struct Filter<'a> {
    prefix: &'a str,
    delimiter: &'a str,
    after: &'a str,
    max: usize,
}

enum Entry<T> {
    Item(T),
    Prefix(String),
}

impl Filter<'_> {
    /// The common prefix that the key is rolled up into.
    fn common_prefix<'k>(&self, key: &'k str) -> Option<&'k str> {
        if self.delimiter.is_empty() {
            return None;
        }
        let at = key[self.prefix.len()..].find(self.delimiter)?;
        Some(&key[..self.prefix.len() + at + self.delimiter.len()])
    }

    /// A page of `items`, which come in the order of their keys and have passed the listing's own
    /// marker; and whether more follow.
    fn page<'k, T>(&self, items: impl Iterator<Item = (&'k str, T)>) -> (Vec<Entry<T>>, bool) {
        let mut page = Vec::new();
        let mut last_prefix = None;
        if self.max == 0 {
            return (page, false);
        }
        for (key, item) in items.filter(|(key, _)| key.starts_with(self.prefix)) {
            let prefix = self.common_prefix(key);
            // One at or before the marker was given before: all its keys are the same entry.
            let given = prefix.is_some_and(|p| p <= self.after || last_prefix == prefix);
            if given {
                continue;
            }
            if page.len() == self.max {
                return (page, true);
            }
            page.push(match prefix {
                Some(prefix) => Entry::Prefix(prefix.to_owned()),
                None => Entry::Item(item),
            });
            last_prefix = prefix;
        }
        (page, false)
    }
}

/// Splits a page and tells its last entry, if more follow.
fn split<T, N>(
    (page, more): (Vec<Entry<T>>, bool),
    name: impl Fn(&Entry<T>) -> N,
) -> (Vec<T>, Vec<String>, Option<N>) {
    let next = page.last().filter(|_| more).map(name);
    let (mut items, mut prefixes) = (Vec::new(), Vec::new());
    for entry in page {
        match entry {
            Entry::Item(item) => items.push(item),
            Entry::Prefix(prefix) => prefixes.push(prefix),
        }
    }
    (items, prefixes, next)
}

fn listed(key: &str, rows: &[Row]) -> Option<ListedObject> {
    let newest = rows.first()?;
    let object = newest.object.as_ref()?;
    let checksum = object.content.checksum.as_ref();
    Some(ListedObject {
        key: key.to_owned(),
        size: object.content.size,
        etag: object.content.etag,
        modified: newest.modified,
        storage_class: object.attributes.storage_class.clone(),
        owner: newest.owner.clone(),
        checksum: checksum.map(|sum| (sum.algorithm, sum.kind)),
    })
}

impl BucketState {
    pub fn list_objects(&self, request: &ListObjects) -> ObjectPage {
        let filter = Filter {
            prefix: &request.prefix,
            delimiter: &request.delimiter,
            after: &request.after,
            max: request.max,
        };
        let current = self
            .versions
            .iter()
            .filter(|(key, _)| **key > request.after)
            .filter_map(|(key, rows)| Some((key.as_str(), listed(key, rows)?)));
        let (objects, prefixes, next) = split(filter.page(current), |entry| match entry {
            Entry::Item(object) => object.key.clone(),
            Entry::Prefix(prefix) => prefix.clone(),
        });
        ObjectPage {
            objects,
            prefixes,
            next,
        }
    }

    pub fn list_versions(&self, request: &ListVersions) -> VersionPage {
        let filter = Filter {
            prefix: &request.prefix,
            delimiter: &request.delimiter,
            after: &request.key_after,
            max: request.max,
        };
        let rest_of_key = self.older_than(&request.key_after, request.version_after);
        let all = self.versions.iter().flat_map(|(key, rows)| {
            let with_place = rows.iter().enumerate();
            with_place.map(move |(place, row)| (key.as_str(), place, row))
        });
        let follow = all
            .filter(|(key, _, row)| match (*key).cmp(&request.key_after) {
                std::cmp::Ordering::Less => false,
                std::cmp::Ordering::Equal => rest_of_key.is_some_and(|order| row.order < order),
                std::cmp::Ordering::Greater => true,
            })
            .map(|(key, place, row)| (key, row.version(key, place == 0)));
        let name = |entry: &Entry<Version>| match entry {
            Entry::Item(version) => (version.key.clone(), Some(version.id)),
            Entry::Prefix(prefix) => (prefix.clone(), None),
        };
        let (versions, prefixes, next) = split(filter.page(follow), name);
        VersionPage {
            versions,
            prefixes,
            next,
        }
    }

    /// Below which order the versions of the marker's key follow; `None`: none of them do. A
    /// `null` version that is gone doesn't tell where it stood, so then all of them follow.
    fn older_than(&self, key: &str, version: Option<VersionId>) -> Option<Order> {
        match version? {
            VersionId::Ordered { order, .. } => Some(order),
            VersionId::Null => {
                let rows = self.versions.get(key)?;
                let null = rows.iter().find(|row| row.id == VersionId::Null);
                Some(null.map_or(Order(u64::MAX), |row| row.order))
            }
        }
    }

    pub fn list_uploads(&self, request: &ListUploads) -> UploadPage {
        let filter = Filter {
            prefix: &request.prefix,
            delimiter: &request.delimiter,
            after: &request.key_after,
            max: request.max,
        };
        // An upload that is gone doesn't tell where it stood, so then all of its key follow.
        let rest_of_key = request.upload_after.map(|id| {
            let found = self
                .uploads
                .iter()
                .find(|((key, _), state)| *key == request.key_after && state.info.id == id);
            found.map_or(Order(0), |((_, order), _)| *order)
        });
        let follow = self
            .uploads
            .iter()
            .filter(|((key, order), _)| match key.cmp(&request.key_after) {
                std::cmp::Ordering::Less => false,
                std::cmp::Ordering::Equal => rest_of_key.is_some_and(|after| *order > after),
                std::cmp::Ordering::Greater => true,
            })
            .map(|((key, _), state)| (key.as_str(), state.info.clone()));
        let name = |entry: &Entry<Upload>| match entry {
            Entry::Item(upload) => (upload.key.clone(), Some(upload.id)),
            Entry::Prefix(prefix) => (prefix.clone(), None),
        };
        let (uploads, prefixes, next) = split(filter.page(follow), name);
        UploadPage {
            uploads,
            prefixes,
            next,
        }
    }
}
