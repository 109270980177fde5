//! Uploads: their parts, and their ends.

use std::sync::Arc;

use bytes::Bytes;
use drystone_store::ObjectStore;
use drystone_store::checksum::multipart_etag;
use drystone_store::error::{Error, Refusal, Result};
use drystone_store::objects::{ReadScope, Written};
use drystone_store::types::{
    BucketId, ChecksumAlgorithm, ChecksumType, RangeSpec, Upload, UploadId, UploadedPart,
    VersionId, VersionSelector, WriteId,
};
use drystone_store::uploads::{CompleteUpload, CompletedPart, CreateUpload, PART_SIZE_MIN_BYTES};

use crate::body::{TestBody, etag, get, pattern, read, read_all, request};
use crate::buckets::{create, enable_versioning};
use crate::objects::{attributes, delete, missing};

pub const MIN: usize = PART_SIZE_MIN_BYTES as usize;
pub const LATEST: VersionSelector = VersionSelector::Latest;

pub async fn start(store: &dyn ObjectStore, bucket: BucketId, key: &str) -> Upload {
    start_with(store, bucket, key, None).await
}

pub async fn start_with(
    store: &dyn ObjectStore,
    bucket: BucketId,
    key: &str,
    checksum: Option<(ChecksumAlgorithm, ChecksumType)>,
) -> Upload {
    let request = CreateUpload {
        key: key.to_owned(),
        attributes: attributes(),
        checksum,
    };
    store.create_upload(bucket, request).await.unwrap()
}

pub async fn part(
    store: &dyn ObjectStore,
    bucket: BucketId,
    upload: &Upload,
    number: u16,
    bytes: impl Into<Bytes>,
) -> CompletedPart {
    let algorithm = upload.checksum.map(|(algorithm, _)| algorithm);
    let mut body = TestBody::new(bytes).with_checksum(algorithm);
    let done = store
        .upload_part(bucket, &upload.key, upload.id, number, &mut body)
        .await;
    let done = done.unwrap();
    assert_eq!(done.number, number);
    CompletedPart {
        number,
        etag: done.etag,
        checksum: done.checksum,
    }
}

pub fn completion(upload: &Upload, parts: &[CompletedPart]) -> CompleteUpload {
    CompleteUpload {
        key: upload.key.clone(),
        upload: upload.id,
        parts: parts.to_vec(),
        checksum: None,
        size: None,
        condition: Default::default(),
    }
}

pub async fn complete(
    store: &dyn ObjectStore,
    bucket: BucketId,
    upload: &Upload,
    parts: &[CompletedPart],
) -> Written {
    let request = completion(upload, parts);
    store.complete_upload(bucket, request).await.unwrap()
}

pub fn refusal(answer: Result<Written>) -> Refusal {
    match answer {
        Err(Error::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

pub async fn s_20_parts_become_an_object(store: Arc<dyn ObjectStore>) {
    let store = &*store;
    let bucket = create(store, "stones").await;
    enable_versioning(store, bucket).await;
    let upload = start(store, bucket, "k").await;
    let bytes = [pattern(1, MIN), pattern(2, MIN + 1), pattern(3, 10)];
    // Parts come in any order, numbered with gaps; one that the completion doesn't name is dropped.
    let last = part(store, bucket, &upload, 10_000, bytes[2].clone()).await;
    part(store, bucket, &upload, 5, "not named").await;
    let first = part(store, bucket, &upload, 2, bytes[0].clone()).await;
    let middle = part(store, bucket, &upload, 7, bytes[1].clone()).await;
    assert!(
        missing(store, bucket, "k").await,
        "not before its completion"
    );

    let parts = [first, middle, last];
    let written = complete(store, bucket, &upload, &parts).await;
    let whole = bytes.concat();
    assert_eq!(written.size, whole.len() as u64);
    assert_eq!(
        written.etag,
        multipart_etag(parts.iter().map(|part| part.etag.md5))
    );
    assert!(matches!(
        written.version_id,
        Some(VersionId::Ordered { .. })
    ));

    let handle = store
        .open_object(bucket, "k", LATEST, ReadScope::Whole)
        .await
        .unwrap();
    assert_eq!(handle.parts_count(), 3);
    assert!(read_all(&*handle).await == whole);
    for (start, end) in [
        (MIN - 1, MIN + 1),
        (0, 1),
        (2 * MIN, 2 * MIN + 11),
        (MIN, 2 * MIN + 2),
    ] {
        assert!(read(&*handle, start as u64, end as u64).await == whole[start..end]);
    }
    let listed = handle.parts(0, 1000).await.unwrap();
    let places: Vec<_> = listed
        .iter()
        .map(|part| (part.number, part.offset, part.size))
        .collect();
    let min = PART_SIZE_MIN_BYTES;
    assert_eq!(
        places,
        [(2, 0, min), (7, min, min + 1), (10_000, 2 * min + 1, 10)]
    );
    assert_eq!(handle.parts(2, 1).await.unwrap(), listed[1..2]);
    assert_eq!(handle.part(7).await.unwrap().as_ref(), Some(&listed[1]));
    assert_eq!(handle.part(5).await.unwrap(), None);

    let open = async |scope| store.open_object(bucket, "k", LATEST, scope).await.unwrap();
    let len = whole.len();
    let range = |first, last| ReadScope::Range(RangeSpec::Between(first, last));
    for (scope, start, end) in [
        (ReadScope::Part(7), MIN, 2 * MIN + 1),
        (ReadScope::Part(10_000), len - 10, len),
        (range(min - 1, min), MIN - 1, MIN + 1),
        (range(0, u64::MAX), 0, len),
        (ReadScope::Range(RangeSpec::From(min)), MIN, len),
        (ReadScope::Range(RangeSpec::Last(11)), len - 11, len),
    ] {
        let handle = open(scope).await;
        assert!(read(&*handle, start as u64, end as u64).await == whole[start..end]);
        assert_eq!(handle.parts(2, 1).await.unwrap(), listed[1..2]);
    }
    let bare = open(ReadScope::Nothing).await;
    assert_eq!(bare.parts(0, 1000).await.unwrap(), listed);
    assert_eq!(bare.part(10_000).await.unwrap().as_ref(), Some(&listed[2]));

    let gone = store.upload(bucket, "k", upload.id).await;
    assert!(matches!(gone, Err(Error::Refused(Refusal::NoSuchUpload))));

    // A link keeps the parts, and the linked object stays as it was when the source key changes.
    let link = store
        .link_object(bucket, &*handle, request("link"))
        .await
        .unwrap();
    assert_eq!(link.etag, written.etag);
    let newest = VersionSelector::Id(written.version_id.unwrap());
    store
        .delete_object(bucket, delete("k", newest))
        .await
        .unwrap();
    let linked = store
        .open_object(bucket, "link", LATEST, ReadScope::Whole)
        .await
        .unwrap();
    assert_eq!(linked.parts(0, 1000).await.unwrap(), listed);
    let across = read(&*linked, min - 5, min + 5).await;
    assert!(across == whole[MIN - 5..MIN + 5]);
}

pub async fn s_20_an_upload_is_there_only_under_its_key(store: Arc<dyn ObjectStore>) {
    let store = &*store;
    let bucket = create(store, "stones").await;
    let mine = start(store, bucket, "k").await;
    part(store, bucket, &mine, 1, "x").await;
    let no_upload = |error: Option<Error>| {
        assert!(
            matches!(error, Some(Error::Refused(Refusal::NoSuchUpload))),
            "{error:?}"
        );
    };
    let unknown = UploadId(WriteId([7; 16]));
    for (key, id) in [("other", mine.id), ("k", unknown)] {
        no_upload(store.upload(bucket, key, id).await.err());
        let mut body = TestBody::new("x");
        no_upload(store.upload_part(bucket, key, id, 1, &mut body).await.err());
        no_upload(store.list_parts(bucket, key, id, 0, 1000).await.err());
        let named = Upload {
            key: key.to_owned(),
            id,
            ..mine.clone()
        };
        let parts = [CompletedPart {
            number: 1,
            etag: etag(b"x"),
            checksum: None,
        }];
        no_upload(
            store
                .complete_upload(bucket, completion(&named, &parts))
                .await
                .err(),
        );
        no_upload(store.abort_upload(bucket, key, id).await.err());
    }
    store.abort_upload(bucket, "k", mine.id).await.unwrap();
    no_upload(store.abort_upload(bucket, "k", mine.id).await.err());
    let mut body = TestBody::new("x");
    no_upload(
        store
            .upload_part(bucket, "k", mine.id, 1, &mut body)
            .await
            .err(),
    );
    assert!(missing(store, bucket, "k").await);
}

pub async fn s_20_parts_are_listed_in_pages(store: Arc<dyn ObjectStore>) {
    let store = &*store;
    let bucket = create(store, "stones").await;
    let upload = start(store, bucket, "k").await;
    for number in [9, 1, 300, 10_000, 2] {
        part(store, bucket, &upload, number, format!("part {number}")).await;
    }
    let mut body = TestBody::new("cut").interrupted();
    let cut = store
        .upload_part(bucket, "k", upload.id, 5, &mut body)
        .await;
    assert!(matches!(cut, Err(Error::Body(_))));
    let cases: [(u16, usize, &[u16], bool); 6] = [
        (0, 1000, &[1, 2, 9, 300, 10_000], false),
        (0, 2, &[1, 2], true),
        (2, 3, &[9, 300, 10_000], false),
        (8, 1, &[9], true),
        (10_000, 5, &[], false),
        (0, 5, &[1, 2, 9, 300, 10_000], false),
    ];
    for (after, max, numbers, more) in cases {
        let page = store
            .list_parts(bucket, "k", upload.id, after, max)
            .await
            .unwrap();
        let found: Vec<u16> = page.0.iter().map(|part| part.number).collect();
        assert_eq!((found.as_slice(), page.1), (numbers, more), "{after} {max}");
        for UploadedPart {
            number,
            size,
            etag: tag,
            ..
        } in page.0
        {
            let bytes = format!("part {number}");
            assert_eq!((size, tag), (bytes.len() as u64, etag(bytes.as_bytes())));
        }
    }
}

pub async fn b_27_the_part_that_was_acknowledged_last_is_the_one(store: Arc<dyn ObjectStore>) {
    // In another store an UploadPart sent again while the first still ran lost the bytes of both.
    let bucket = create(&*store, "stones").await;
    let upload = start(&*store, bucket, "k").await;
    let old = part(&*store, bucket, &upload, 1, pattern(1, 50_000)).await;
    let new = part(&*store, bucket, &upload, 1, pattern(2, 60_000)).await;
    let answer = store
        .complete_upload(bucket, completion(&upload, &[old]))
        .await;
    assert_eq!(refusal(answer), Refusal::InvalidPart { number: 1 });
    let kept = store
        .list_parts(bucket, "k", upload.id, 0, 1000)
        .await
        .unwrap()
        .0;
    assert_eq!(kept[0].etag, new.etag);

    let tasks: Vec<_> = (0..6)
        .map(|racer| {
            let (store, upload) = (store.clone(), upload.clone());
            tokio::spawn(
                async move { part(&*store, bucket, &upload, 1, pattern(racer, 50_000)).await },
            )
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let kept = store
        .list_parts(bucket, "k", upload.id, 0, 1000)
        .await
        .unwrap()
        .0;
    assert_eq!(kept.len(), 1);
    let named = CompletedPart {
        number: 1,
        etag: kept[0].etag,
        checksum: None,
    };
    complete(&*store, bucket, &upload, &[named]).await;
    let bytes = get(&*store, bucket, "k").await;
    assert_eq!(etag(&bytes), kept[0].etag);
}
