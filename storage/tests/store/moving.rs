//! Lists while others write, and beside the contents of other buckets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use drystone_store::ObjectStore;
use drystone_store::listings::{ListObjects, ListUploads, ListVersions, UploadPage};
use drystone_store::types::{BucketId, VersionId, VersionSelector};
use drystone_store::uploads::CreateUpload;
use tokio::task::JoinSet;

use crate::body::put;
use crate::buckets::{create, enable_versioning};
use crate::listing::PAGES_MAX;
use crate::objects::delete;

const WALKS: usize = 4;
const PAGE_LEN: usize = 7;
const STABLE: usize = 40;
const WRITERS: usize = 3;
/// The maximum number of turns of each writer. Writers that are faster than the walk add versions
/// in front of it for as long as they write.
const TURNS_MAX: usize = 500;

/// Runs the work among writers, who put and remove keys beside the stable ones, and write the
/// stable ones again, until the work is done.
async fn among_writers<T>(
    store: &Arc<dyn ObjectStore>,
    bucket: BucketId,
    work: impl Future<Output = T>,
) -> T {
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (store, stop) = (store.clone(), stop.clone());
        writers.spawn(async move {
            for turn in (writer + 1..).take(TURNS_MAX) {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let stable = stable(turn * 7 % STABLE);
                let passing = format!("{stable}-{writer}");
                put(&*store, bucket, &passing, "x").await;
                put(&*store, bucket, &stable, "x").await;
                let remove = delete(&passing, VersionSelector::Latest);
                store.delete_object(bucket, remove).await.unwrap();
            }
        });
    }
    let done = work.await;
    stop.store(true, Ordering::Relaxed);
    writers.join_all().await;
    done
}

/// Returns the name of a stable key; two are in each folder.
fn stable(n: usize) -> String {
    format!("{:02}/{n:03}", n / 2)
}

/// Checks that each is found once, and in order.
fn check(found: &[String], expected: impl Iterator<Item = String>) {
    assert!(found.is_sorted_by(|a, b| a < b), "{found:?}");
    for name in expected {
        assert!(found.contains(&name), "{name} is missing");
    }
}

async fn walk(store: &dyn ObjectStore, bucket: BucketId, delimiter: &str) -> Vec<String> {
    let mut request = ListObjects {
        prefix: String::new(),
        delimiter: delimiter.to_owned(),
        after: String::new(),
        max: PAGE_LEN,
    };
    let mut found = Vec::new();
    for _ in 0..PAGES_MAX {
        let page = store.list_objects(bucket, request.clone()).await.unwrap();
        found.extend(page.objects.into_iter().map(|object| object.key));
        found.extend(page.prefixes);
        match page.next {
            None => return found,
            Some(next) => request.after = next,
        }
    }
    panic!("a walk that does not end");
}

pub async fn s_14_what_stays_is_listed_once_whatever_is_written(store: Arc<dyn ObjectStore>) {
    let bucket = create(&*store, "stones").await;
    for n in 0..STABLE {
        put(&*store, bucket, &stable(n), "x").await;
    }
    let walks = async {
        for _ in 0..WALKS {
            check(&walk(&*store, bucket, "").await, (0..STABLE).map(stable));
            let folders = (0..STABLE / 2).map(|n| format!("{n:02}/"));
            check(&walk(&*store, bucket, "/").await, folders);
        }
    };
    among_writers(&store, bucket, walks).await;
    assert_eq!(walk(&*store, bucket, "").await.len(), STABLE);
}

pub async fn s_30_versions_that_stay_are_listed_once_whatever_is_written(
    store: Arc<dyn ObjectStore>,
) {
    let bucket = create(&*store, "stones").await;
    enable_versioning(&*store, bucket).await;
    let mut written = Vec::new();
    for n in 0..STABLE {
        let version = put(&*store, bucket, &stable(n), "x").await.version_id;
        written.push((stable(n), version.unwrap()));
    }
    let walk = async {
        let mut request = ListVersions {
            prefix: String::new(),
            delimiter: String::new(),
            key_after: String::new(),
            version_after: None,
            max: 50,
        };
        let mut found: Vec<(String, VersionId)> = Vec::new();
        for _ in 0..PAGES_MAX {
            let page = store.list_versions(bucket, request.clone()).await.unwrap();
            let versions = page.versions.into_iter();
            found.extend(versions.map(|version| (version.key, version.id)));
            match page.next {
                None => break,
                Some(next) => (request.key_after, request.version_after) = next,
            }
        }
        found
    };
    let found = among_writers(&store, bucket, walk).await;
    assert!(found.is_sorted_by_key(|(key, _)| key), "by key");
    for version in &written {
        let times = found.iter().filter(|found| *found == version).count();
        assert_eq!(times, 1, "{version:?}");
    }
}

pub async fn b_36_uploads_of_another_bucket_are_not_listed(store: Arc<dyn ObjectStore>) {
    // In another store any upload in flight in another bucket broke the listing of this one.
    let store = &*store;
    let (here, there) = (create(store, "here").await, create(store, "there").await);
    let mut ids = [Vec::new(), Vec::new()];
    for key in ["a", "b", "b", "c/d"] {
        for (bucket, ids) in [here, there].into_iter().zip(&mut ids) {
            let request = CreateUpload {
                key: key.to_owned(),
                attributes: Default::default(),
                checksum: None,
            };
            ids.push(store.create_upload(bucket, request).await.unwrap().id);
        }
    }
    let list = async |bucket| -> UploadPage {
        let request = ListUploads {
            prefix: String::new(),
            delimiter: String::new(),
            key_after: String::new(),
            upload_after: None,
            max: 1000,
        };
        store.list_uploads(bucket, request).await.unwrap()
    };
    for (bucket, ids) in [here, there].into_iter().zip(&ids) {
        let page = list(bucket).await;
        let found: Vec<_> = page.uploads.iter().map(|upload| upload.id).collect();
        assert_eq!((&found, page.next), (ids, None));
    }
    // An upload is not found through another bucket either.
    let foreign = store.upload(here, "a", ids[1][0]).await;
    assert!(foreign.is_err());
    store.abort_upload(there, "a", ids[1][0]).await.unwrap();
    assert_eq!(list(here).await.uploads.len(), ids[0].len());
}
