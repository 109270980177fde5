//! Multipart uploads under racing parts, completions and aborts: there is one outcome, and reads
//! agree with the answers from then on.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use drystone_store::ObjectStore;
use drystone_store::error::{Error, Refusal, Result};
use drystone_store::objects::Written;
use drystone_store::types::{BucketId, Upload};
use drystone_store::uploads::CompletedPart;
use tokio::sync::Barrier;

use crate::body::{get, pattern};
use crate::buckets::create;
use crate::multipart::{completion, part, start};
use crate::objects::missing;

/// Names the variable that sets how often each race is run; a few times without it.
const ROUNDS_VARIABLE: &str = "DRYSTONE_TEST_RACES";
const ROUNDS: u64 = 8;
/// Long enough to lie in shards, not in the metadata.
const PART_LEN: usize = 40_000;

fn rounds() -> u64 {
    std::env::var(ROUNDS_VARIABLE).map_or(ROUNDS, |rounds| rounds.parse().unwrap())
}

fn bytes_of(round: u64, number: u16) -> Bytes {
    pattern(round * 100 + u64::from(number), PART_LEN)
}

/// Starts an upload of parts 1 to `count`, each of which may be an object's last and only one.
async fn uploaded(
    store: &dyn ObjectStore,
    bucket: BucketId,
    round: u64,
    count: u16,
) -> (Upload, Vec<CompletedPart>) {
    let upload = start(store, bucket, &format!("k{round}")).await;
    let mut parts = Vec::new();
    for number in 1..=count {
        parts.push(part(store, bucket, &upload, number, bytes_of(round, number)).await);
    }
    (upload, parts)
}

/// Completes with one part, and reads the resulting object at once.
async fn complete_and_read(
    store: &dyn ObjectStore,
    bucket: BucketId,
    upload: &Upload,
    named: &CompletedPart,
    expected: &Bytes,
) -> Result<Written> {
    let request = completion(upload, std::slice::from_ref(named));
    let written = store.complete_upload(bucket, request).await?;
    assert!(get(store, bucket, &upload.key).await == *expected);
    Ok(written)
}

/// In another store a part sent again while its upload was completed cost the object its bytes.
pub async fn b_27_a_part_sent_again_while_its_upload_is_completed(store: Arc<dyn ObjectStore>) {
    let bucket = create(&*store, "stones").await;
    for round in 0..rounds() {
        let (upload, parts) = uploaded(&*store, bucket, round, 1).await;
        let again = bytes_of(round, 50);
        let resend = {
            let (store, upload, again) = (store.clone(), upload.clone(), again.clone());
            tokio::spawn(async move {
                let mut body = crate::body::TestBody::new(again);
                store
                    .upload_part(bucket, &upload.key, upload.id, 1, &mut body)
                    .await
            })
        };
        let old = bytes_of(round, 1);
        let completed = complete_and_read(&*store, bucket, &upload, &parts[0], &old).await;
        let resent = resend.await.unwrap();
        match (completed, resent) {
            (Ok(_), Err(Error::Refused(Refusal::NoSuchUpload)) | Ok(_)) => {
                assert!(get(&*store, bucket, &upload.key).await == old);
                let gone = store.upload(bucket, &upload.key, upload.id).await;
                assert!(matches!(gone, Err(Error::Refused(Refusal::NoSuchUpload))));
            }
            // The new part was there first: the upload is as it was, and holds the new part.
            (Err(Error::Refused(Refusal::InvalidPart { number: 1 })), Ok(new)) => {
                assert!(missing(&*store, bucket, &upload.key).await);
                let named = CompletedPart {
                    number: 1,
                    etag: new.etag,
                    checksum: None,
                };
                let done = complete_and_read(&*store, bucket, &upload, &named, &again).await;
                done.unwrap();
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Another store acknowledged a completion before its object could be read.
pub async fn b_28_completions_with_different_parts_and_an_abort(store: Arc<dyn ObjectStore>) {
    const COMPLETIONS: u16 = 3;
    let bucket = create(&*store, "stones").await;
    for round in 0..rounds() {
        let (upload, parts) = uploaded(&*store, bucket, round, COMPLETIONS).await;
        let line = Arc::new(Barrier::new(2 * usize::from(COMPLETIONS) + 1));
        // Each list is sent twice, as an impatient client does.
        let mut completions = Vec::new();
        for named in parts.iter().chain(&parts) {
            let (store, upload, line) = (store.clone(), upload.clone(), line.clone());
            let (named, expected) = (named.clone(), bytes_of(round, named.number));
            completions.push(tokio::spawn(async move {
                line.wait().await;
                let done = complete_and_read(&*store, bucket, &upload, &named, &expected).await;
                (named.number, done)
            }));
        }
        // The abort joins every other round, so completions also race among themselves.
        let abort = round % 2 == 1;
        line.wait().await;
        let aborted = match abort {
            true => store
                .abort_upload(bucket, &upload.key, upload.id)
                .await
                .is_ok(),
            false => false,
        };
        let mut winners = BTreeSet::new();
        for completion in completions {
            match completion.await.unwrap() {
                (number, Ok(_)) => drop(winners.insert(number)),
                (_, Err(Error::Refused(Refusal::NoSuchUpload))) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(winners.len(), usize::from(!aborted), "of a race one wins");
        match winners.first() {
            Some(number) => {
                assert!(get(&*store, bucket, &upload.key).await == bytes_of(round, *number));
            }
            None => assert!(missing(&*store, bucket, &upload.key).await),
        }
        let gone = store.upload(bucket, &upload.key, upload.id).await;
        assert!(matches!(gone, Err(Error::Refused(Refusal::NoSuchUpload))));
    }
}

/// Parts are sent in parallel, as every client does, and each is stored under its number.
pub async fn s_20_parts_in_parallel(store: Arc<dyn ObjectStore>) {
    const PARTS: u16 = 24;
    let bucket = create(&*store, "stones").await;
    let upload = start(&*store, bucket, "k").await;
    let tasks: Vec<_> = (1..=PARTS)
        .map(|number| {
            let (store, upload) = (store.clone(), upload.clone());
            let bytes = bytes_of(7, number);
            tokio::spawn(async move { part(&*store, bucket, &upload, number, bytes).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let (listed, more) = store
        .list_parts(bucket, "k", upload.id, 0, 1000)
        .await
        .unwrap();
    let numbers: Vec<u16> = listed.iter().map(|part| part.number).collect();
    assert_eq!((numbers, more), ((1..=PARTS).collect(), false));
    for part in listed {
        assert_eq!(part.etag, crate::body::etag(&bytes_of(7, part.number)));
    }
}
