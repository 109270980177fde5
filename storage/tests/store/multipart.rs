//! Uploads: parts, completion, and what the object then is.

use std::sync::Arc;

use bytes::Bytes;
use drystone_storage::checksum::{DEFAULT, PartValue, checksum, combine, multipart_etag};
use drystone_storage::error::{Error, Precondition, Refusal, Result};
use drystone_storage::store::{
    CompleteUpload, CompletedPart, CreateUpload, ETagCondition, ObjectStore, PART_SIZE_MIN_BYTES,
    PutObject, Written,
};
use drystone_storage::types::{
    BucketId, ByteRange, ChecksumAlgorithm, ChecksumType, Upload, UploadId, UploadedPart,
    VersionId, VersionSelector, Versioning, WriteId,
};
use futures_util::FutureExt as _;

use crate::body::{TestBody, etag, get, pattern, put, read, read_all, request};
use crate::buckets::create;
use crate::objects::{attributes, delete, missing};
use crate::versions::all_versions;

pub const MIN: usize = PART_SIZE_MIN_BYTES as usize;
const LATEST: VersionSelector = VersionSelector::Latest;

pub async fn start(store: &dyn ObjectStore, bucket: BucketId, key: &str) -> Upload {
    start_with(store, bucket, key, None).await
}

async fn start_with(
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

fn refusal(answer: Result<Written>) -> Refusal {
    match answer {
        Err(Error::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

pub async fn s_20_parts_become_an_object(store: Arc<dyn ObjectStore>) {
    let store = &*store;
    let bucket = create(store, "stones").await;
    store
        .set_versioning(bucket, Versioning::Enabled)
        .await
        .unwrap();
    let upload = start(store, bucket, "k").await;
    let bytes = [pattern(1, MIN), pattern(2, MIN + 1), pattern(3, 10)];
    // Uploaded in any order, numbered with gaps; one that isn't named is dropped.
    let last = part(store, bucket, &upload, 10_000, bytes[2].clone()).await;
    part(store, bucket, &upload, 5, "not named").await;
    let first = part(store, bucket, &upload, 2, bytes[0].clone()).await;
    let middle = part(store, bucket, &upload, 7, bytes[1].clone()).await;
    assert!(
        missing(store, bucket, "k").await,
        "not before its completion"
    );

    let parts = [first, middle, last];
    let written = store
        .complete_upload(bucket, completion(&upload, &parts))
        .await
        .unwrap();
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

    let handle = store.open_object(bucket, "k", LATEST).await.unwrap();
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

    let gone = store.upload(bucket, "k", upload.id).await;
    assert!(matches!(gone, Err(Error::Refused(Refusal::NoSuchUpload))));

    // A link keeps the parts, and the object stays as it was when its key moves on.
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
    let linked = store.open_object(bucket, "link", LATEST).await.unwrap();
    assert_eq!(linked.parts(0, 1000).await.unwrap(), listed);
    let across = read(&*linked, min - 5, min + 5).await;
    assert!(across == whole[MIN - 5..MIN + 5]);
}

pub async fn s_11_an_open_multipart_object_stays_as_it_was(store: Arc<dyn ObjectStore>) {
    let store = &*store;
    let bucket = create(store, "stones").await;
    for len in [100, 300_000] {
        let bytes = pattern(1, len);
        let upload = start(store, bucket, "k").await;
        let parts = [part(store, bucket, &upload, 4, bytes.clone()).await];
        store
            .complete_upload(bucket, completion(&upload, &parts))
            .await
            .unwrap();
        let handle = store.open_object(bucket, "k", LATEST).await.unwrap();
        put(store, bucket, "k", "another").await;
        store
            .delete_object(bucket, delete("k", LATEST))
            .await
            .unwrap();
        assert_eq!(read_all(&*handle).await, bytes);
        assert_eq!(handle.parts(0, 1000).await.unwrap().len(), 1);
    }
}

pub async fn s_20_completion_is_refused_for_the_first_reason(store: Arc<dyn ObjectStore>) {
    let store = &*store;
    let bucket = create(store, "stones").await;
    let kind = (ChecksumAlgorithm::Crc32, ChecksumType::Composite);
    let upload = start_with(store, bucket, "k", Some(kind)).await;
    let good = part(store, bucket, &upload, 1, pattern(1, MIN)).await;
    let small = part(store, bucket, &upload, 2, pattern(2, MIN - 1)).await;
    let last = part(store, bucket, &upload, 3, "last").await;
    let absent = CompletedPart {
        number: 4,
        ..last.clone()
    };
    let other_etag = CompletedPart {
        etag: last.etag,
        ..good.clone()
    };
    let other_sum = CompletedPart {
        checksum: Some(checksum(ChecksumAlgorithm::Crc32, b"other")),
        ..good.clone()
    };
    let invalid = |number| Refusal::InvalidPart { number };
    let too_small = Refusal::PartTooSmall {
        number: 2,
        size: PART_SIZE_MIN_BYTES - 1,
        minimum: PART_SIZE_MIN_BYTES,
        etag: small.etag,
    };
    let cases = [
        (vec![good.clone(), absent.clone()], invalid(4)),
        (vec![other_etag, last.clone()], invalid(1)),
        (vec![other_sum, last.clone()], invalid(1)),
        (
            vec![good.clone(), small.clone(), last.clone()],
            too_small.clone(),
        ),
        (vec![small.clone(), absent], too_small),
    ];
    for (parts, expected) in cases {
        let answer = store
            .complete_upload(bucket, completion(&upload, &parts))
            .await;
        assert_eq!(refusal(answer), expected);
    }
    let parts = [good, last];
    let whole = CompleteUpload {
        size: Some(PART_SIZE_MIN_BYTES),
        checksum: Some(checksum(ChecksumAlgorithm::Crc32, b"other")),
        condition: drystone_storage::store::WriteCondition {
            if_match: Some(ETagCondition::Any),
            ..Default::default()
        },
        ..completion(&upload, &parts)
    };
    let total = PART_SIZE_MIN_BYTES + 4;
    let size_mismatch = Refusal::SizeMismatch {
        expected: PART_SIZE_MIN_BYTES,
        total,
    };
    assert_eq!(
        refusal(store.complete_upload(bucket, whole.clone()).await),
        size_mismatch
    );
    let right_size = CompleteUpload {
        size: Some(total),
        ..whole
    };
    let answer = store.complete_upload(bucket, right_size.clone()).await;
    assert_eq!(refusal(answer), Refusal::ChecksumMismatch);
    let mut right_sum = CompleteUpload {
        checksum: None,
        ..right_size
    };
    let answer = store.complete_upload(bucket, right_sum.clone()).await;
    assert_eq!(refusal(answer), Refusal::NoSuchKey);
    put(store, bucket, "k", "before").await;
    right_sum.condition.if_match = None;
    right_sum.condition.if_none_match = Some(ETagCondition::Any);
    let answer = store.complete_upload(bucket, right_sum.clone()).await;
    assert_eq!(
        refusal(answer),
        Refusal::PreconditionFailed(Precondition::IfNoneMatch)
    );

    // All those left the upload as it was, and the key too.
    assert_eq!(get(store, bucket, "k").await, b"before");
    right_sum.condition.if_none_match = None;
    assert_eq!(
        store.complete_upload(bucket, right_sum).await.unwrap().size,
        total
    );
}

pub async fn s_20_completion_asked_twice_answers_alike(store: Arc<dyn ObjectStore>) {
    let store = &*store;
    let bucket = create(store, "stones").await;
    store
        .set_versioning(bucket, Versioning::Enabled)
        .await
        .unwrap();
    let upload = start(store, bucket, "k").await;
    let parts = [part(store, bucket, &upload, 1, "one").await];
    let mut request = completion(&upload, &parts);
    request.condition.if_none_match = Some(ETagCondition::Any);
    let first = store
        .complete_upload(bucket, request.clone())
        .await
        .unwrap();
    // The condition would fail now, on its own success.
    let again = store
        .complete_upload(bucket, request.clone())
        .await
        .unwrap();
    assert_eq!(again, first);
    assert_eq!(
        all_versions(store, bucket).await.len(),
        1,
        "and no second version"
    );
    put(store, bucket, "k", "later").await;
    assert_eq!(
        store
            .complete_upload(bucket, request.clone())
            .await
            .unwrap(),
        first
    );
    assert_eq!(get(store, bucket, "k").await, b"later");

    let [named] = parts;
    let other_etag = CompletedPart {
        etag: etag(b"other"),
        ..named.clone()
    };
    let other_number = CompletedPart { number: 2, ..named };
    for other in [other_etag, other_number] {
        let answer = store
            .complete_upload(bucket, completion(&upload, &[other]))
            .await;
        assert_eq!(refusal(answer), Refusal::NoSuchUpload);
    }
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

pub async fn s_21_what_is_set_at_create_holds_at_completion(store: Arc<dyn ObjectStore>) {
    let store = &*store;
    let bucket = create(store, "stones").await;
    let kind = (ChecksumAlgorithm::Sha256, ChecksumType::Composite);
    let upload = start_with(store, bucket, "k", Some(kind)).await;
    assert_eq!(store.upload(bucket, "k", upload.id).await.unwrap(), upload);
    let other = PutObject {
        attributes: Default::default(),
        ..request("k")
    };
    store
        .put_object(bucket, other, &mut TestBody::new("x"))
        .await
        .unwrap();
    let parts = [part(store, bucket, &upload, 1, "").await];
    store
        .complete_upload(bucket, completion(&upload, &parts))
        .await
        .unwrap();
    let handle = store.open_object(bucket, "k", LATEST).await.unwrap();
    assert_eq!(handle.object().attributes, attributes());
    assert_eq!(handle.version().owner, attributes().owner);
    let sum = handle.object().checksum.clone().unwrap();
    assert_eq!((sum.algorithm, sum.kind), kind);
    assert_eq!(handle.object().size, 0, "one empty part is an object too");
    assert_eq!(handle.parts_count(), 1);
    assert_eq!(read_all(&*handle).await, b"");
}

/// Parts of an upload that was begun without an algorithm may have any: the whole has the default.
async fn s_18_the_default_checksum_of_the_whole(
    store: &dyn ObjectStore,
    bucket: BucketId,
    bytes: &[Bytes; 2],
) {
    let upload = start(store, bucket, "k").await;
    let mut parts = Vec::new();
    for (number, algorithm) in [(1, ChecksumAlgorithm::Sha1), (2, DEFAULT.0)] {
        let bytes = bytes[usize::from(number) - 1].clone();
        let mut body = TestBody::new(bytes).with_checksum(Some(algorithm));
        if algorithm != DEFAULT.0 {
            body = body.with_crc64nvme();
        }
        let put = store.upload_part(bucket, "k", upload.id, number, &mut body);
        let part = put.await.unwrap();
        parts.push(CompletedPart {
            number,
            etag: part.etag,
            checksum: part.checksum,
        });
    }
    let request = completion(&upload, &parts);
    let written = store.complete_upload(bucket, request).await.unwrap();
    let crc = |bytes: &[u8]| Some(checksum(DEFAULT.0, bytes));
    assert_eq!(written.checksum, crc(&bytes.concat()));
    let handle = store.open_object(bucket, "k", LATEST).await.unwrap();
    for number in [1, 2] {
        let part = handle.part(number).await.unwrap().unwrap();
        assert_eq!(part.checksum, crc(&bytes[usize::from(number) - 1]));
    }
}

pub async fn s_18_checksums_of_the_whole(store: Arc<dyn ObjectStore>) {
    let store = &*store;
    let bucket = create(store, "stones").await;
    let bytes = [pattern(1, MIN), pattern(2, 7)];
    for algorithm in ChecksumAlgorithm::ALL {
        for kind in [ChecksumType::Composite, ChecksumType::FullObject] {
            if !algorithm.supports(kind) {
                continue;
            }
            let upload = start_with(store, bucket, "k", Some((algorithm, kind))).await;
            let mut parts = Vec::new();
            for (number, bytes) in (1..).zip(&bytes) {
                parts.push(part(store, bucket, &upload, number, bytes.clone()).await);
            }
            let sums = parts
                .iter()
                .map(|part| &part.checksum.as_ref().unwrap().value);
            let sums: Vec<_> = sums
                .zip(&bytes)
                .map(|(value, bytes)| PartValue {
                    value,
                    size: bytes.len() as u64,
                })
                .collect();
            let expected = combine(algorithm, kind, &sums);
            if kind == ChecksumType::FullObject {
                assert_eq!(expected, Some(checksum(algorithm, &bytes.concat())));
            }
            let request = CompleteUpload {
                checksum: expected.clone(),
                ..completion(&upload, &parts)
            };
            let written = store.complete_upload(bucket, request).await.unwrap();
            assert_eq!(written.checksum, expected, "{algorithm} {kind:?}");
            let handle = store.open_object(bucket, "k", LATEST).await.unwrap();
            assert_eq!(handle.object().checksum, expected);
            let listed = handle.part(2).await.unwrap().unwrap();
            assert_eq!(listed.checksum, parts[1].checksum);
        }
    }
    s_18_the_default_checksum_of_the_whole(store, bucket, &bytes).await;
    // A part without one: the whole has none either.
    let kind = (ChecksumAlgorithm::Crc32, ChecksumType::FullObject);
    let upload = start_with(store, bucket, "k", Some(kind)).await;
    let mut body = TestBody::new("bare");
    store
        .upload_part(bucket, "k", upload.id, 1, &mut body)
        .await
        .unwrap();
    let bare = CompletedPart {
        number: 1,
        etag: etag(b"bare"),
        checksum: None,
    };
    let written = store
        .complete_upload(bucket, completion(&upload, &[bare]))
        .await
        .unwrap();
    assert_eq!(written.checksum, None);
}

pub async fn b_27_the_part_that_was_acknowledged_last_is_the_one(store: Arc<dyn ObjectStore>) {
    // Once elsewhere an UploadPart sent again while the first still ran lost the bytes of both.
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
    store
        .complete_upload(bucket, completion(&upload, &[named]))
        .await
        .unwrap();
    let bytes = get(&*store, bucket, "k").await;
    assert_eq!(etag(&bytes), kept[0].etag);
}

pub async fn b_42_a_read_that_is_given_up_and_asked_again_leaves_nothing_out(
    store: Arc<dyn ObjectStore>,
) {
    let bucket = create(&*store, "stones").await;
    let upload = start(&*store, bucket, "k").await;
    let bytes = pattern(42, 2 * MIN + 100_000);
    let mut parts = Vec::new();
    for (number, piece) in (1..).zip(bytes.chunks(MIN)) {
        let piece = Bytes::copy_from_slice(piece);
        parts.push(part(&*store, bucket, &upload, number, piece).await);
    }
    let request = completion(&upload, &parts);
    store.complete_upload(bucket, request).await.unwrap();
    let handle = store.open_object(bucket, "k", LATEST).await.unwrap();
    let (start, end) = (0, bytes.len() as u64);
    let mut reader = handle.read(ByteRange { start, end }).await.unwrap();
    let mut found = Vec::new();
    loop {
        match reader.next().now_or_never() {
            // Given up at its first wait.
            None => tokio::task::yield_now().await,
            Some(piece) => match piece.unwrap() {
                Some(piece) => found.extend_from_slice(&piece),
                None => break,
            },
        }
    }
    assert_eq!(found.len(), bytes.len());
    assert!(found == bytes);
}

/// Parts that end within, at and around blocks and stripes, and every range from one of these
/// places to another.
pub async fn f_35_ranges_across_parts(store: Arc<dyn ObjectStore>) {
    const BLOCK: usize = 32 << 10;
    const STRIPE: usize = 256 << 10;
    let bucket = create(&*store, "stones").await;
    let upload = start(&*store, bucket, "k").await;
    let lens = [MIN, MIN + 1, MIN + BLOCK - 1, MIN + STRIPE + 1, 8 << 10, 1];
    // Only the last part may be small, so the small ones are objects of their own.
    for (round, lens) in [&lens[..4], &lens[..1], &lens[4..5], &lens[5..]]
        .into_iter()
        .enumerate()
    {
        let upload = match round {
            0 => upload.clone(),
            _ => start(&*store, bucket, "k").await,
        };
        let (mut whole, mut parts, mut edges) = (Vec::new(), Vec::new(), vec![0]);
        for (number, len) in (1..).zip(lens) {
            let bytes = pattern(u64::from(number) + round as u64, *len);
            let start = whole.len();
            whole.extend_from_slice(&bytes);
            edges.extend([
                start + BLOCK,
                start + STRIPE,
                start + MIN / STRIPE * STRIPE,
                whole.len(),
            ]);
            parts.push(part(&*store, bucket, &upload, number, bytes).await);
        }
        let request = completion(&upload, &parts);
        store.complete_upload(bucket, request).await.unwrap();
        let handle = store.open_object(bucket, "k", LATEST).await.unwrap();
        let around = edges
            .iter()
            .flat_map(|at| [at.saturating_sub(1), *at, at + 1]);
        let mut cuts: Vec<usize> = around.filter(|cut| *cut <= whole.len()).collect();
        cuts.sort_unstable();
        cuts.dedup();
        for (place, start) in cuts.iter().enumerate() {
            // Long ranges are as many pieces of the same kind: a few are enough.
            let near = cuts[place..].iter().skip(1).take(5);
            for end in near.chain(cuts.last()).filter(|end| *end > start) {
                let found = read(&*handle, *start as u64, *end as u64).await;
                assert!(found == whole[*start..*end], "{start}..{end} of {lens:?}");
            }
        }
    }
}
