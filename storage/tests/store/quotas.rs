//! Quotas of buckets.

use std::sync::Arc;

use drystone_store::ObjectStore;
use drystone_store::buckets::{Addition, AdditionOf};
use drystone_store::error::{Error, QuotaUnit, Refusal, Result};
use drystone_store::objects::{DeleteObject, PutObject, ReadScope, Written};
use drystone_store::types::{BucketId, Quota, QuotaChange, Usage, VersionSelector, Versioning};
use drystone_store::uploads::{CompleteUpload, CompletedPart, CreateUpload};

use crate::body::{TestBody, pattern};
use crate::buckets::create;

/// The number of racing writers, and of those that the quota has room for.
const WRITERS: usize = 24;
const ROOM: usize = 7;
const LEN: usize = 20_000;

fn hard(bytes: Option<u64>, objects: Option<u64>) -> QuotaChange {
    QuotaChange {
        hard_bytes: Some(bytes),
        hard_objects: Some(objects),
        ..QuotaChange::default()
    }
}

async fn put(store: &dyn ObjectStore, bucket: BucketId, key: &str, len: usize) -> Result<Written> {
    let mut body = TestBody::new(pattern(1, len));
    store.put_object(bucket, request(key), &mut body).await
}

fn request(key: &str) -> PutObject {
    PutObject {
        key: key.to_owned(),
        attributes: Default::default(),
        condition: Default::default(),
    }
}

async fn delete(store: &dyn ObjectStore, bucket: BucketId, key: &str) {
    let request = DeleteObject {
        key: key.to_owned(),
        version: VersionSelector::Latest,
        condition: Default::default(),
    };
    store.delete_object(bucket, request).await.unwrap();
}

async fn usage(store: &dyn ObjectStore, bucket: BucketId) -> Usage {
    store.usage(&[bucket]).await.unwrap()[0]
}

#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T>, expected: (QuotaUnit, u64, u64, u64)) {
    match answer {
        Err(Error::Refused(Refusal::QuotaExceeded {
            counted,
            limit,
            used,
            wanted,
        })) => assert_eq!((counted, limit, used, wanted), expected),
        other => panic!("{other:?}"),
    }
}

pub async fn s_06_a_write_beyond_the_hard_quota_is_refused_and_leaves_nothing(
    store: Arc<dyn ObjectStore>,
) {
    let store = &*store;
    let bucket = create(store, "stones").await;
    put(store, bucket, "a", 100).await.unwrap();
    store
        .set_quota(bucket, hard(Some(50_000), Some(2)))
        .await
        .unwrap();
    let quota = store.bucket("stones").await.unwrap().quota;
    assert_eq!(
        (quota.hard_bytes, quota.hard_objects),
        (Some(50_000), Some(2))
    );

    let too_much = put(store, bucket, "b", 49_901).await;
    refused(too_much, (QuotaUnit::Bytes, 50_000, 100, 50_001));
    let absent = store
        .open_object(bucket, "b", VersionSelector::Latest, ReadScope::Whole)
        .await;
    assert!(matches!(absent, Err(Error::Refused(Refusal::NoSuchKey))));
    put(store, bucket, "b", 49_900).await.unwrap();
    let one_more = put(store, bucket, "c", 0).await;
    refused(one_more, (QuotaUnit::Objects, 2, 2, 3));

    let source = store
        .open_object(bucket, "a", VersionSelector::Latest, ReadScope::Whole)
        .await
        .unwrap();
    let linked = store.link_object(bucket, &*source, request("c")).await;
    refused(linked, (QuotaUnit::Bytes, 50_000, 50_000, 50_100));

    // The refusal comes before the bytes as well.
    let object = |key: &str, bytes| Addition {
        of: AdditionOf::Object {
            key: key.to_owned(),
        },
        bytes,
    };
    let early = store.check_quota(bucket, object("c", 1)).await;
    refused(early, (QuotaUnit::Bytes, 50_000, 50_000, 50_001));
    store.check_quota(bucket, object("a", 100)).await.unwrap();

    store.set_quota(bucket, hard(None, None)).await.unwrap();
    assert_eq!(
        store.bucket("stones").await.unwrap().quota,
        Quota::default()
    );
    put(store, bucket, "c", 60_000).await.unwrap();
    let elsewhere = store.set_quota(BucketId(u64::MAX), hard(None, None)).await;
    assert!(matches!(
        elsewhere,
        Err(Error::Refused(Refusal::NoSuchBucket))
    ));
}

pub async fn s_06_what_shrinks_or_stays_goes_on(store: Arc<dyn ObjectStore>) {
    let store = &*store;
    let bucket = create(store, "stones").await;
    for key in ["a", "b", "c"] {
        put(store, bucket, key, 1000).await.unwrap();
    }
    // The quota is below the present usage.
    store
        .set_quota(bucket, hard(Some(10), Some(1)))
        .await
        .unwrap();
    put(store, bucket, "a", 1000).await.unwrap();
    put(store, bucket, "a", 999).await.unwrap();
    refused(
        put(store, bucket, "a", 1000).await,
        (QuotaUnit::Bytes, 10, 2999, 3000),
    );
    let tags = vec![("k".to_owned(), "v".to_owned())];
    let tagged = store.put_object_tags(bucket, "a", VersionSelector::Latest, tags);
    tagged.await.unwrap();
    for key in ["a", "b", "c"] {
        delete(store, bucket, key).await;
    }
    assert_eq!(usage(store, bucket).await, Usage::default());
    put(store, bucket, "a", 10).await.unwrap();
}

async fn begin(
    store: &dyn ObjectStore,
    bucket: BucketId,
    key: &str,
) -> drystone_store::types::UploadId {
    let request = CreateUpload {
        key: key.to_owned(),
        attributes: Default::default(),
        checksum: None,
    };
    store.create_upload(bucket, request).await.unwrap().id
}

pub async fn s_06_parts_count_and_a_completion_moves_their_bytes(store: Arc<dyn ObjectStore>) {
    let store = &*store;
    let bucket = create(store, "stones").await;
    store
        .set_quota(bucket, hard(Some(30_000), Some(1)))
        .await
        .unwrap();
    let upload = begin(store, bucket, "k").await;
    let part = async |number, len| {
        let mut body = TestBody::new(pattern(2, len));
        store
            .upload_part(bucket, "k", upload, number, &mut body)
            .await
    };
    part(1, 20_000).await.unwrap();
    part(2, 10_000).await.unwrap();
    refused(part(3, 1).await, (QuotaUnit::Bytes, 30_000, 30_000, 30_001));
    refused(
        part(1, 20_001).await,
        (QuotaUnit::Bytes, 30_000, 30_000, 30_001),
    );
    let early = Addition {
        of: AdditionOf::Part { upload, number: 2 },
        bytes: 10_001,
    };
    let early = store.check_quota(bucket, early).await;
    refused(early, (QuotaUnit::Bytes, 30_000, 30_000, 30_001));
    let taken_again = part(1, 19_000).await.unwrap();
    let so_far = usage(store, bucket).await;
    assert_eq!((so_far.part_bytes, so_far.object_bytes), (29_000, 0));

    // One object is allowed; while another is there, the completion is refused and nothing is lost.
    put(store, bucket, "other", 1000).await.unwrap();
    let complete = CompleteUpload {
        key: "k".to_owned(),
        upload,
        parts: vec![CompletedPart {
            number: 1,
            etag: taken_again.etag,
            checksum: None,
        }],
        checksum: None,
        size: None,
        condition: Default::default(),
    };
    let answer = store.complete_upload(bucket, complete.clone()).await;
    refused(answer, (QuotaUnit::Objects, 1, 1, 2));
    delete(store, bucket, "other").await;
    store.complete_upload(bucket, complete).await.unwrap();
    let whole = usage(store, bucket).await;
    assert_eq!((whole.part_bytes, whole.object_bytes), (0, 19_000));

    let aborted = begin(store, bucket, "l").await;
    let mut body = TestBody::new(pattern(3, 11_000));
    let put = store.upload_part(bucket, "l", aborted, 1, &mut body);
    put.await.unwrap();
    assert_eq!(usage(store, bucket).await.bytes(), 30_000);
    store.abort_upload(bucket, "l", aborted).await.unwrap();
    assert_eq!(usage(store, bucket).await.bytes(), 19_000);
}

pub async fn s_06_versions_count_and_markers_do_not(store: Arc<dyn ObjectStore>) {
    let store = &*store;
    let bucket = create(store, "stones").await;
    store
        .set_versioning(bucket, Versioning::Enabled)
        .await
        .unwrap();
    store.set_quota(bucket, hard(None, Some(2))).await.unwrap();
    put(store, bucket, "k", 10).await.unwrap();
    put(store, bucket, "k", 10).await.unwrap();
    delete(store, bucket, "k").await;
    refused(
        put(store, bucket, "k", 10).await,
        (QuotaUnit::Objects, 2, 2, 3),
    );
    delete(store, bucket, "k").await;
    let now = usage(store, bucket).await;
    assert_eq!((now.objects, now.markers, now.object_bytes), (2, 2, 20));
}

pub async fn s_06_racing_writers_never_pass_the_quota(store: Arc<dyn ObjectStore>) {
    let bucket = create(&*store, "stones").await;
    for (change, counted) in [
        (
            hard(Some((ROOM * LEN + LEN / 2) as u64), None),
            QuotaUnit::Bytes,
        ),
        (hard(None, Some(ROOM as u64)), QuotaUnit::Objects),
    ] {
        store.set_quota(bucket, change).await.unwrap();
        let writers: Vec<_> = (0..WRITERS)
            .map(|n| {
                let store = store.clone();
                tokio::spawn(async move { put(&*store, bucket, &format!("k{n}"), LEN).await })
            })
            .collect();
        let mut written = Vec::new();
        for (n, writer) in writers.into_iter().enumerate() {
            match writer.await.unwrap() {
                Ok(_) => written.push(format!("k{n}")),
                Err(Error::Refused(Refusal::QuotaExceeded { counted: by, .. })) => {
                    assert_eq!(by, counted);
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        assert_eq!(written.len(), ROOM);
        assert_eq!(
            crate::versions::all_objects(&*store, bucket).await.len(),
            ROOM
        );
        for key in written {
            delete(&*store, bucket, &key).await;
        }
        assert_eq!(usage(&*store, bucket).await, Usage::default());
    }
}
