//! Checks the final content of a store against itself.

use drystone_store::error::{Error, Refusal};
use drystone_store::objects::{ObjectHandle, ReadScope};
use drystone_store::types::{Version, VersionId, VersionSelector};

use super::side::Side;
use crate::body::{etag, read_all};
use crate::subject::Subject;

impl<S: Subject> Side<S> {
    /// Reads everything and checks it against itself: the listing of objects has exactly the latest
    /// versions that are no markers; each key has one latest and at most one `null` version; every
    /// version opens and has the bytes its ETag says. Returns all of it, to be compared with the
    /// other side.
    pub async fn audit(&mut self) -> String {
        let (store, bucket) = (self.store(), self.bucket);
        let versions = crate::versions::all_versions(&*store, bucket).await;
        let current = crate::versions::all_objects(&*store, bucket).await;
        let latest: Vec<&Version> = versions
            .iter()
            .filter(|version| version.is_latest)
            .collect();
        let latest_objects = latest.iter().filter(|version| version.object.is_some());
        assert!(latest_objects.map(|version| &version.key).eq(&current));
        let mut keys: Vec<&str> = versions
            .iter()
            .map(|version| version.key.as_str())
            .collect();
        keys.dedup();
        assert!(keys.is_sorted());
        assert!(
            latest
                .iter()
                .map(|version| version.key.as_str())
                .eq(keys.iter().copied())
        );
        for key in keys {
            let of_key = versions.iter().filter(|version| version.key == key);
            assert!(
                of_key
                    .filter(|version| version.id == VersionId::Null)
                    .count()
                    <= 1
            );
        }
        for version in &versions {
            let id = VersionSelector::Id(version.id);
            let opened = store
                .open_object(bucket, &version.key, id, ReadScope::Whole)
                .await;
            match opened {
                Ok(handle) => check_bytes(&*handle, version).await,
                Err(Error::Refused(Refusal::DeleteMarker { .. })) => {
                    assert!(version.object.is_none());
                }
                Err(other) => panic!("{}: {other:?}", version.key),
            }
        }
        let usage = store.usage(&[bucket]).await.unwrap()[0];
        let objects = versions
            .iter()
            .filter_map(|version| version.object.as_ref());
        assert_eq!(usage.objects, objects.clone().count() as u64);
        assert_eq!(
            usage.object_bytes,
            objects.map(|object| object.size).sum::<u64>()
        );
        let mut told = format!("{usage:?}") + &self.tell(Ok(versions));
        for place in 0..self.names.uploads.len() {
            let (key, id) = (self.keys[&place].clone(), self.names.uploads[place]);
            let parts = store.list_parts(bucket, &key, id, 0, 1000).await;
            told += &self.tell(parts);
        }
        told
    }
}

async fn check_bytes(handle: &dyn ObjectHandle, listed: &Version) {
    assert_eq!(handle.version(), listed);
    let bytes = read_all(handle).await;
    if handle.parts_count() == 0 {
        assert_eq!(etag(&bytes), handle.object().etag);
    }
    let parts = handle.parts(0, 1000).await.unwrap();
    assert_eq!(parts.len(), handle.parts_count() as usize);
    let mut offset = 0;
    for part in parts {
        assert_eq!(part.offset, offset);
        offset += part.size;
        let range = part.offset as usize..offset as usize;
        if let Some(sum) = part.checksum {
            let own = drystone_store::checksum::checksum(sum.algorithm, &bytes[range]);
            assert_eq!(own.value, sum.value);
        }
    }
}
