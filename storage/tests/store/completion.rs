//! Completes uploads and checks the object that results.

use std::sync::Arc;

use bytes::Bytes;
use drystone_store::ObjectStore;
use drystone_store::checksum::{DEFAULT, PartValue, checksum, combine};
use drystone_store::error::{Precondition, Refusal};
use drystone_store::objects::{ETagCondition, PutObject, ReadScope};
use drystone_store::types::{BucketId, ByteRange, ChecksumAlgorithm, ChecksumType};
use drystone_store::uploads::{CompleteUpload, CompletedPart, PART_SIZE_MIN_BYTES};
use futures_util::FutureExt as _;

use crate::body::{TestBody, etag, get, pattern, put, read, read_all, request};
use crate::buckets::{create, enable_versioning};
use crate::multipart::{LATEST, MIN, complete, completion, part, refusal, start, start_with};
use crate::objects::{attributes, delete};
use crate::versions::all_versions;
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
        condition: drystone_store::objects::WriteCondition {
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

    // All those left the upload as it was, and the key as well.
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
    enable_versioning(store, bucket).await;
    let upload = start(store, bucket, "k").await;
    let parts = [part(store, bucket, &upload, 1, "one").await];
    let mut request = completion(&upload, &parts);
    request.condition.if_none_match = Some(ETagCondition::Any);
    let first = store
        .complete_upload(bucket, request.clone())
        .await
        .unwrap();
    // The condition would fail now, because the first completion succeeded.
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

pub async fn s_11_an_open_multipart_object_stays_as_it_was(store: Arc<dyn ObjectStore>) {
    let store = &*store;
    let bucket = create(store, "stones").await;
    for len in [100, 300_000] {
        let bytes = pattern(1, len);
        let upload = start(store, bucket, "k").await;
        let parts = [part(store, bucket, &upload, 4, bytes.clone()).await];
        complete(store, bucket, &upload, &parts).await;
        let handle = store
            .open_object(bucket, "k", LATEST, ReadScope::Whole)
            .await
            .unwrap();
        put(store, bucket, "k", "another").await;
        store
            .delete_object(bucket, delete("k", LATEST))
            .await
            .unwrap();
        assert_eq!(read_all(&*handle).await, bytes);
        assert_eq!(handle.parts(0, 1000).await.unwrap().len(), 1);
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
    complete(store, bucket, &upload, &parts).await;
    let handle = store
        .open_object(bucket, "k", LATEST, ReadScope::Whole)
        .await
        .unwrap();
    assert_eq!(handle.object().attributes, attributes());
    assert_eq!(handle.version().owner, attributes().owner);
    let sum = handle.object().checksum.clone().unwrap();
    assert_eq!((sum.algorithm, sum.kind), kind);
    assert_eq!(handle.object().size, 0, "one empty part is an object too");
    assert_eq!(handle.parts_count(), 1);
    assert_eq!(read_all(&*handle).await, b"");
}

/// Parts of an upload that was begun without an algorithm may have any: the object has the default.
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
    let written = complete(store, bucket, &upload, &parts).await;
    let crc = |bytes: &[u8]| Some(checksum(DEFAULT.0, bytes));
    assert_eq!(written.checksum, crc(&bytes.concat()));
    let handle = store
        .open_object(bucket, "k", LATEST, ReadScope::Whole)
        .await
        .unwrap();
    for number in [1, 2] {
        let part = handle.part(number).await.unwrap().unwrap();
        assert_eq!(part.checksum, crc(&bytes[usize::from(number) - 1]));
    }
}

/// A copy is no upload: it shows a checksum of all bytes, also where its source has one of parts.
pub async fn s_18_a_copy_of_parts_has_a_checksum_of_all_bytes(store: Arc<dyn ObjectStore>) {
    let store = &*store;
    let bucket = create(store, "stones").await;
    let bytes = [pattern(1, MIN), pattern(2, 7)];
    let whole = |algorithm| checksum(algorithm, &bytes.concat());
    let (composite, full) = (ChecksumType::Composite, ChecksumType::FullObject);
    use ChecksumAlgorithm::{Crc32, Crc64Nvme, Sha256};
    for (wanted, has_crc, expected) in [
        ((Sha256, composite), true, Some(whole(Crc64Nvme))),
        ((Crc32, composite), true, Some(whole(Crc64Nvme))),
        ((Crc32, full), true, Some(whole(Crc32))),
        ((Crc64Nvme, full), false, Some(whole(Crc64Nvme))),
        // Nobody knows the checksum of all bytes: that of the parts stays.
        ((Sha256, composite), false, None),
    ] {
        let upload = start_with(store, bucket, "from", Some(wanted)).await;
        let mut parts = Vec::new();
        for (number, bytes) in (1..).zip(&bytes) {
            let mut body = TestBody::new(bytes.clone()).with_checksum(Some(wanted.0));
            if has_crc {
                body = body.with_crc64nvme();
            }
            let put = store.upload_part(bucket, "from", upload.id, number, &mut body);
            let part = put.await.unwrap();
            parts.push(CompletedPart {
                number,
                etag: part.etag,
                checksum: part.checksum,
            });
        }
        let own = complete(store, bucket, &upload, &parts).await.checksum;
        assert_eq!(own.as_ref().map(|own| own.kind), Some(wanted.1));
        let expected = expected.or(own);
        // A copy of a copy, too.
        for (from, to) in [("from", "to"), ("to", "last")] {
            let source = store
                .open_object(bucket, from, LATEST, ReadScope::Nothing)
                .await
                .unwrap();
            let linked = store.link_object(bucket, &*source, request(to)).await;
            assert_eq!(linked.unwrap().checksum, expected, "{wanted:?} {to}");
            let copy = store
                .open_object(bucket, to, LATEST, ReadScope::Nothing)
                .await
                .unwrap();
            assert_eq!(copy.object().checksum, expected, "{wanted:?} {to}");
        }
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
            let handle = store
                .open_object(bucket, "k", LATEST, ReadScope::Whole)
                .await
                .unwrap();
            assert_eq!(handle.object().checksum, expected);
            let listed = handle.part(2).await.unwrap().unwrap();
            assert_eq!(listed.checksum, parts[1].checksum);
        }
    }
    s_18_the_default_checksum_of_the_whole(store, bucket, &bytes).await;
    // One part has no checksum: the object has none either.
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
    let written = complete(store, bucket, &upload, &[bare]).await;
    assert_eq!(written.checksum, None);
}

pub async fn b_42_a_read_that_is_aborted_and_repeated_leaves_nothing_out(
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
    complete(&*store, bucket, &upload, &parts).await;
    let handle = store
        .open_object(bucket, "k", LATEST, ReadScope::Whole)
        .await
        .unwrap();
    let (start, end) = (0, bytes.len() as u64);
    let mut reader = handle.read(ByteRange { start, end }).await.unwrap();
    let mut found = Vec::new();
    loop {
        match reader.next().now_or_never() {
            // The caller drops it at its first wait.
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

/// Reads every range between places within, at and around the ends of blocks, stripes and parts.
pub async fn f_35_ranges_across_parts(store: Arc<dyn ObjectStore>) {
    const BLOCK: usize = 32 << 10;
    const STRIPE: usize = 256 << 10;
    let bucket = create(&*store, "stones").await;
    let upload = start(&*store, bucket, "k").await;
    let lens = [MIN, MIN + 1, MIN + BLOCK - 1, MIN + STRIPE + 1, 8 << 10, 1];
    // Only the last part may be small, so small ones are put into objects of their own.
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
        complete(&*store, bucket, &upload, &parts).await;
        let handle = store
            .open_object(bucket, "k", LATEST, ReadScope::Whole)
            .await
            .unwrap();
        let around = edges
            .iter()
            .flat_map(|at| [at.saturating_sub(1), *at, at + 1]);
        let mut cuts: Vec<usize> = around.filter(|cut| *cut <= whole.len()).collect();
        cuts.sort_unstable();
        cuts.dedup();
        for (place, start) in cuts.iter().enumerate() {
            // Long ranges consist of more pieces of the same kind: a few are enough.
            let near = cuts[place..].iter().skip(1).take(5);
            for end in near.chain(cuts.last()).filter(|end| *end > start) {
                let found = read(&*handle, *start as u64, *end as u64).await;
                assert!(found == whole[*start..*end], "{start}..{end} of {lens:?}");
            }
        }
    }
}
