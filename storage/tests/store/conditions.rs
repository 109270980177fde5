//! Conditions, and the winners of races.

use std::sync::Arc;

use drystone_store::ObjectStore;
use drystone_store::error::{Error, Precondition, Refusal, Result};
use drystone_store::listings::{ListObjects, ListVersions};
use drystone_store::objects::{DeleteObject, ETagCondition, PutObject, ReadScope, WriteCondition};
use drystone_store::types::{BucketId, ETag, Timestamp, VersionId, VersionSelector, Versioning};

use crate::body::{TestBody, etag, get, pattern, put, request};
use crate::buckets::{create, enable_versioning};
use crate::objects::{delete, missing};

/// The number of concurrent writers in a race.
const RACERS: u64 = 8;

fn one_of(etags: &[ETag]) -> Option<ETagCondition> {
    Some(ETagCondition::OneOf(etags.to_vec()))
}

fn if_match(condition: Option<ETagCondition>) -> WriteCondition {
    WriteCondition {
        if_match: condition,
        ..Default::default()
    }
}

fn if_none_match(condition: Option<ETagCondition>) -> WriteCondition {
    WriteCondition {
        if_none_match: condition,
        ..Default::default()
    }
}

fn refusal<T>(answer: Result<T>) -> Option<Refusal> {
    match answer {
        Ok(_) => None,
        Err(Error::Refused(refusal)) => Some(refusal),
        Err(other) => panic!("{other:?}"),
    }
}

async fn put_if(
    store: &dyn ObjectStore,
    bucket: BucketId,
    key: &str,
    bytes: &'static str,
    condition: WriteCondition,
) -> Option<Refusal> {
    let request = PutObject {
        condition,
        ..request(key)
    };
    refusal(
        store
            .put_object(bucket, request, &mut TestBody::new(bytes))
            .await,
    )
}

pub async fn s_17_conditions_on_writes(store: Arc<dyn ObjectStore>) {
    let store = &*store;
    let bucket = create(store, "stones").await;
    let (one, other) = (etag(b"1"), etag(b"other"));
    let failed = |which| Some(Refusal::PreconditionFailed(which));
    let (is, is_not) = (
        failed(Precondition::IfMatch),
        failed(Precondition::IfNoneMatch),
    );
    let any = Some(ETagCondition::Any);
    let both = WriteCondition {
        if_match: any.clone(),
        if_none_match: any.clone(),
        ..Default::default()
    };
    let there = [
        (if_match(any.clone()), None),
        (if_match(one_of(&[other, one])), None),
        (if_match(one_of(&[other])), is.clone()),
        (if_match(one_of(&[])), is),
        (if_none_match(any.clone()), is_not.clone()),
        (if_none_match(one_of(&[other, one])), is_not.clone()),
        (if_none_match(one_of(&[other])), None),
        (both.clone(), is_not),
    ];
    let no_key = Some(Refusal::NoSuchKey);
    let absent = [
        (if_match(any.clone()), no_key.clone()),
        (if_match(one_of(&[one])), no_key.clone()),
        (if_none_match(any), None),
        (if_none_match(one_of(&[one])), None),
        (both, no_key),
    ];
    let latest = VersionSelector::Latest;
    for versioning in [Versioning::Off, Versioning::Enabled, Versioning::Suspended] {
        store.set_versioning(bucket, versioning).await.unwrap();
        for (condition, expected) in &there {
            put(store, bucket, "k", "1").await;
            let answer = put_if(store, bucket, "k", "2", condition.clone()).await;
            assert_eq!(&answer, expected, "{versioning:?} {condition:?}");
            let now: &[u8] = if answer.is_none() { b"2" } else { b"1" };
            assert_eq!(get(store, bucket, "k").await, now, "{condition:?}");
        }
        for (condition, expected) in &absent {
            // With versioning on, the current version is a delete marker.
            store
                .delete_object(bucket, delete("k", latest))
                .await
                .unwrap();
            let answer = put_if(store, bucket, "k", "2", condition.clone()).await;
            assert_eq!(&answer, expected, "{versioning:?} {condition:?}");
        }
    }
}

pub async fn s_17_conditions_on_deletes(store: Arc<dyn ObjectStore>) {
    let store = &*store;
    let bucket = create(store, "stones").await;
    let delete_if = async |version, condition: WriteCondition| {
        let request = DeleteObject {
            condition,
            ..delete("k", version)
        };
        refusal(store.delete_object(bucket, request).await)
    };
    let failed = |which| Some(Refusal::PreconditionFailed(which));
    let size = |size| WriteCondition {
        if_match_size: Some(size),
        ..Default::default()
    };
    let time = |time| WriteCondition {
        if_match_modified: Some(time),
        ..Default::default()
    };
    let any = if_match(Some(ETagCondition::Any));
    let latest = VersionSelector::Latest;

    let modified = put(store, bucket, "k", "1").await.modified;
    let earlier = Timestamp(modified.0 - 5000);
    let wrong = [
        (if_match(one_of(&[etag(b"2")])), Precondition::IfMatch),
        (size(2), Precondition::IfMatchSize),
        (time(earlier), Precondition::IfMatchLastModified),
    ];
    for (condition, which) in &wrong {
        assert_eq!(delete_if(latest, condition.clone()).await, failed(*which));
    }
    let same_second = Timestamp(modified.seconds() * 1000);
    for right in [
        any.clone(),
        if_match(one_of(&[etag(b"1")])),
        size(1),
        time(same_second),
    ] {
        put(store, bucket, "k", "1").await;
        let modified = store
            .open_object(bucket, "k", latest, ReadScope::Whole)
            .await
            .unwrap()
            .version()
            .modified;
        let right = WriteCondition {
            if_match_modified: right
                .if_match_modified
                .map(|_| Timestamp(modified.seconds() * 1000)),
            ..right
        };
        assert_eq!(delete_if(latest, right).await, None);
        assert!(missing(store, bucket, "k").await);
    }
    // Without an object If-Match fails; the other two let a repeated delete pass.
    assert_eq!(
        delete_if(latest, any.clone()).await,
        Some(Refusal::NoSuchKey)
    );
    assert_eq!(delete_if(latest, size(7)).await, None);
    assert_eq!(delete_if(latest, time(earlier)).await, None);

    // The condition applies to the current version, whichever version is removed.
    enable_versioning(store, bucket).await;
    let old = put(store, bucket, "k", "old").await.version_id.unwrap();
    put(store, bucket, "k", "new").await;
    let old = VersionSelector::Id(old);
    let is_old = if_match(one_of(&[etag(b"old")]));
    assert_eq!(delete_if(old, is_old).await, failed(Precondition::IfMatch));
    assert_eq!(
        delete_if(old, if_match(one_of(&[etag(b"new")]))).await,
        None
    );
    assert_eq!(delete_if(latest, any.clone()).await, None);
    assert_eq!(
        delete_if(latest, any).await,
        Some(Refusal::NoSuchKey),
        "a marker"
    );
}

async fn race(
    store: &Arc<dyn ObjectStore>,
    bucket: BucketId,
    key: &str,
    len: usize,
) -> Vec<(Vec<u8>, Result<drystone_store::objects::Written>)> {
    let tasks: Vec<_> = (0..RACERS)
        .map(|racer| {
            let (store, bytes) = (store.clone(), pattern(racer, len));
            let request = request(key);
            tokio::spawn(async move {
                let mut body = TestBody::new(bytes.clone());
                let answer = store.put_object(bucket, request, &mut body).await;
                (bytes.to_vec(), answer)
            })
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    answers
}

pub async fn b_31_of_racing_writers_the_last_is_the_latest_everywhere(store: Arc<dyn ObjectStore>) {
    let bucket = create(&*store, "stones").await;
    enable_versioning(&*store, bucket).await;
    let answers = race(&store, bucket, "k", 100).await;
    let latest = store
        .open_object(bucket, "k", VersionSelector::Latest, ReadScope::Whole)
        .await
        .unwrap();
    let order = |id: &VersionId| match id {
        VersionId::Ordered { order, .. } => *order,
        VersionId::Null => panic!("versioning is on"),
    };
    let last = answers
        .iter()
        .map(|(bytes, answer)| (answer.as_ref().unwrap().version_id.unwrap(), bytes))
        .max_by_key(|(id, _)| order(id))
        .unwrap();
    assert_eq!(latest.version().id, last.0);
    assert_eq!(&get(&*store, bucket, "k").await, last.1);

    let all = ListVersions {
        prefix: String::new(),
        delimiter: String::new(),
        key_after: String::new(),
        version_after: None,
        max: 1000,
    };
    let versions = store.list_versions(bucket, all).await.unwrap().versions;
    assert_eq!(versions.len() as u64, RACERS, "none is lost");
    let orders: Vec<_> = versions.iter().map(|version| order(&version.id)).collect();
    assert!(orders.is_sorted_by(|newer, older| newer > older));
    let current = ListObjects {
        prefix: String::new(),
        delimiter: String::new(),
        after: String::new(),
        max: 1000,
    };
    let objects = store.list_objects(bucket, current).await.unwrap().objects;
    assert_eq!(objects.len(), 1);
    assert_eq!(objects[0].etag, etag(last.1));
}
