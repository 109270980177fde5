//! Races under conditions: one of those who start from the same state wins, and nobody's change is
//! lost.
//!
//! Each race is run a few times; `DRYSTONE_TEST_RACES` sets the number.

use std::sync::Arc;

use drystone_store::ObjectStore;
use drystone_store::error::{Error, Precondition, Refusal, Result};
use drystone_store::objects::{
    DeleteObject, ETagCondition, PutObject, ReadScope, WriteCondition, Written,
};
use drystone_store::types::{BucketId, ETag, VersionId, VersionSelector};
use drystone_store::uploads::{CompleteUpload, CompletedPart, CreateUpload};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::body::{TestBody, etag, get, pattern, put, read_all, request};
use crate::buckets::{create, enable_versioning};
use crate::objects::delete;
use crate::versions::{all_objects, all_versions};

const ROUNDS_VARIABLE: &str = "DRYSTONE_TEST_RACES";
const ROUNDS: usize = 2;
/// The number of concurrent writers.
const RACERS: usize = 32;
/// The number of concurrent counters, and how far each counts.
const COUNTERS: usize = 8;
const STEPS: usize = 4;

const LATEST: VersionSelector = VersionSelector::Latest;

fn rounds() -> usize {
    std::env::var(ROUNDS_VARIABLE).map_or(ROUNDS, |text| text.parse().unwrap())
}

/// Returns a bucket that was never versioned and one that is.
async fn buckets(store: &dyn ObjectStore) -> [BucketId; 2] {
    let (plain, versioned) = (create(store, "plain").await, create(store, "kept").await);
    enable_versioning(store, versioned).await;
    [plain, versioned]
}

fn only_new() -> WriteCondition {
    WriteCondition {
        if_none_match: Some(ETagCondition::Any),
        ..Default::default()
    }
}

fn only_if(etag: ETag) -> WriteCondition {
    WriteCondition {
        if_match: Some(ETagCondition::OneOf(vec![etag])),
        ..Default::default()
    }
}

async fn put_if(
    store: &dyn ObjectStore,
    bucket: BucketId,
    key: &str,
    bytes: Vec<u8>,
    condition: WriteCondition,
) -> Result<Written> {
    let request = PutObject {
        condition,
        ..request(key)
    };
    let mut body = TestBody::new(bytes);
    store.put_object(bucket, request, &mut body).await
}

/// Creates an upload of one part, ready to be completed.
async fn uploaded(
    store: &dyn ObjectStore,
    bucket: BucketId,
    key: &str,
    bytes: Vec<u8>,
    condition: WriteCondition,
) -> CompleteUpload {
    let create = CreateUpload {
        key: key.to_owned(),
        attributes: Default::default(),
        checksum: None,
    };
    let upload = store.create_upload(bucket, create).await.unwrap().id;
    let mut body = TestBody::new(bytes);
    let part = store.upload_part(bucket, key, upload, 1, &mut body);
    let part = CompletedPart {
        number: 1,
        etag: part.await.unwrap().etag,
        checksum: None,
    };
    CompleteUpload {
        key: key.to_owned(),
        upload,
        parts: vec![part],
        checksum: None,
        size: None,
        condition,
    }
}

/// The ways in which racers change the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Put,
    /// Large enough for shards.
    PutShards,
    Complete,
    Copy,
    Delete,
}

/// The outcome of a racer: its way, the bytes it wanted to write, and the answer.
type Outcome = (Way, Vec<u8>, Result<Option<VersionId>>);

/// Starts all racers at once, each with bytes of its own.
async fn race(
    store: &Arc<dyn ObjectStore>,
    bucket: BucketId,
    ways: &[Way],
    condition: &WriteCondition,
) -> Vec<Outcome> {
    let start = Arc::new(Barrier::new(RACERS));
    let mut racers = JoinSet::new();
    for racer in 0..RACERS {
        let (store, start, way) = (store.clone(), start.clone(), ways[racer % ways.len()]);
        let condition = condition.clone();
        let len = if way == Way::PutShards { 50_000 } else { 50 };
        let bytes = pattern(1 + racer as u64, len).to_vec();
        racers.spawn(async move {
            let store = &*store;
            let source = format!("source-{racer}");
            let completion = match way {
                Way::Complete => {
                    Some(uploaded(store, bucket, "k", bytes.clone(), condition.clone()).await)
                }
                Way::Copy => {
                    put(store, bucket, &source, bytes.clone()).await;
                    None
                }
                _ => None,
            };
            start.wait().await;
            let answer = match way {
                Way::Put | Way::PutShards => {
                    let written = put_if(store, bucket, "k", bytes.clone(), condition).await;
                    written.map(|written| written.version_id)
                }
                Way::Complete => {
                    let completion = completion.unwrap();
                    let written = store.complete_upload(bucket, completion).await;
                    written.map(|written| written.version_id)
                }
                Way::Copy => {
                    let source = store
                        .open_object(bucket, &source, LATEST, ReadScope::Whole)
                        .await
                        .unwrap();
                    let target = PutObject {
                        condition,
                        ..request("k")
                    };
                    let written = store.link_object(bucket, &*source, target).await;
                    written.map(|written| written.version_id)
                }
                Way::Delete => {
                    let request = DeleteObject {
                        condition,
                        ..delete("k", LATEST)
                    };
                    let deleted = store.delete_object(bucket, request).await;
                    deleted.map(|deleted| deleted.version_id)
                }
            };
            (way, bytes, answer)
        });
    }
    racers.join_all().await
}

/// Returns the winner. All others were refused for one of these reasons.
fn winner(outcomes: Vec<Outcome>, losses: &[Refusal]) -> (Way, Vec<u8>, Option<VersionId>) {
    let mut winners = Vec::new();
    for (way, bytes, answer) in outcomes {
        match answer {
            Ok(version) => winners.push((way, bytes, version)),
            Err(Error::Refused(refusal)) => assert!(losses.contains(&refusal), "{refusal:?}"),
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(winners.len(), 1, "one winner each time");
    winners.remove(0)
}

pub async fn b_30_of_racing_creators_one_wins_and_its_bytes_are_read(store: Arc<dyn ObjectStore>) {
    let ways = [Way::Put, Way::PutShards, Way::Complete, Way::Copy];
    let lost = Refusal::PreconditionFailed(Precondition::IfNoneMatch);
    for bucket in buckets(&*store).await {
        for _ in 0..rounds() {
            let outcomes = race(&store, bucket, &ways, &only_new()).await;
            let (way, bytes, version) = winner(outcomes, std::slice::from_ref(&lost));
            assert_eq!(get(&*store, bucket, "k").await, bytes, "{way:?}");
            let opened = store
                .open_object(bucket, "k", LATEST, ReadScope::Whole)
                .await
                .unwrap();
            assert_eq!(opened.version().id, version.unwrap_or(VersionId::Null));
            // In a versioned bucket the next round starts from a delete marker.
            let removed = store.delete_object(bucket, delete("k", LATEST)).await;
            removed.unwrap();
        }
    }
}

pub async fn b_30_of_racing_changes_to_one_state_one_wins(store: Arc<dyn ObjectStore>) {
    let ways = [Way::Put, Way::Complete, Way::Copy, Way::Delete];
    // If the delete has won, nothing is there to match.
    let lost = [
        Refusal::PreconditionFailed(Precondition::IfMatch),
        Refusal::NoSuchKey,
    ];
    for bucket in buckets(&*store).await {
        for round in 0..rounds() {
            let before = format!("before {round}").into_bytes();
            put(&*store, bucket, "k", before.clone()).await;
            let outcomes = race(&store, bucket, &ways, &only_if(etag(&before))).await;
            let (way, bytes, _) = winner(outcomes, &lost);
            let now = store
                .open_object(bucket, "k", LATEST, ReadScope::Whole)
                .await;
            match (way, now) {
                (Way::Delete, now) => assert!(now.is_err(), "it was deleted"),
                (_, now) => assert_eq!(read_all(&*now.unwrap()).await, bytes, "{way:?}"),
            }
            let listed = all_objects(&*store, bucket).await;
            assert_eq!(listed.contains(&"k".to_owned()), way != Way::Delete);
        }
    }
}

/// Reads the number that the key holds, and replaces it by the next one.
async fn count_up(store: &dyn ObjectStore, bucket: BucketId) {
    loop {
        let (number, condition) = match store
            .open_object(bucket, "n", LATEST, ReadScope::Whole)
            .await
        {
            Ok(opened) => {
                let text = String::from_utf8(read_all(&*opened).await).unwrap();
                (
                    text.parse::<usize>().unwrap(),
                    only_if(opened.object().etag),
                )
            }
            Err(Error::Refused(Refusal::NoSuchKey)) => (0, only_new()),
            Err(other) => panic!("{other:?}"),
        };
        let next = (number + 1).to_string().into_bytes();
        match put_if(store, bucket, "n", next, condition).await {
            Ok(_) => return,
            // Another was faster: the count advanced all the same.
            Err(Error::Refused(Refusal::PreconditionFailed(_))) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
}

pub async fn b_31_no_increment_of_a_counter_is_lost(store: Arc<dyn ObjectStore>) {
    let [plain, versioned] = buckets(&*store).await;
    for bucket in [plain, versioned] {
        let mut counters = JoinSet::new();
        for _ in 0..COUNTERS {
            let store = store.clone();
            counters.spawn(async move {
                for _ in 0..STEPS * rounds() {
                    count_up(&*store, bucket).await;
                }
            });
        }
        counters.join_all().await;
        let total = COUNTERS * STEPS * rounds();
        assert_eq!(
            get(&*store, bucket, "n").await,
            total.to_string().as_bytes()
        );
        if bucket == versioned && total < 1000 {
            assert_eq!(all_versions(&*store, bucket).await.len(), total);
        }
    }
}
