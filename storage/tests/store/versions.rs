//! Versions, markers, and the choice of the latest one.

use std::sync::Arc;

use drystone_store::ObjectStore;
use drystone_store::error::{Error, Refusal};
use drystone_store::listings::{ListObjects, ListVersions};
use drystone_store::objects::ReadScope;
use drystone_store::types::{BucketId, Version, VersionId, VersionSelector, Versioning};

use crate::body::{get, get_version, put};
use crate::buckets::{create, enable_versioning};
use crate::objects::{delete, missing};

const LATEST: VersionSelector = VersionSelector::Latest;
const NULL: VersionSelector = VersionSelector::Id(VersionId::Null);

pub async fn all_versions(store: &dyn ObjectStore, bucket: BucketId) -> Vec<Version> {
    let all = ListVersions {
        prefix: String::new(),
        delimiter: String::new(),
        key_after: String::new(),
        version_after: None,
        max: 1000,
    };
    let page = store.list_versions(bucket, all).await.unwrap();
    assert_eq!(page.next, None);
    page.versions
}

pub async fn all_objects(store: &dyn ObjectStore, bucket: BucketId) -> Vec<String> {
    let all = ListObjects {
        prefix: String::new(),
        delimiter: String::new(),
        after: String::new(),
        max: 1000,
    };
    let page = store.list_objects(bucket, all).await.unwrap();
    assert_eq!(page.next, None);
    page.objects.into_iter().map(|object| object.key).collect()
}

/// Describes the versions of the only key, newest first: `n` for a null one, `v` for another, with
/// its bytes; `M` for a marker. Checks that exactly the first is the latest, and that the listing
/// of objects agrees.
async fn picture(store: &dyn ObjectStore, bucket: BucketId) -> String {
    let versions = all_versions(store, bucket).await;
    let mut picture = Vec::new();
    for (place, version) in versions.iter().enumerate() {
        assert_eq!(version.is_latest, place == 0);
        let kind = match version.id {
            VersionId::Null => "n",
            VersionId::Ordered { .. } => "v",
        };
        let id = VersionSelector::Id(version.id);
        let bytes = match version.object {
            None => "M".to_owned(),
            Some(_) => {
                let bytes = get_version(store, bucket, &version.key, id).await;
                String::from_utf8(bytes).unwrap()
            }
        };
        picture.push(format!("{kind}{bytes}"));
    }
    let is_object = versions
        .first()
        .is_some_and(|newest| newest.object.is_some());
    assert_eq!(
        all_objects(store, bucket).await.len(),
        usize::from(is_object)
    );
    picture.join(" ")
}

pub async fn s_30_versions_stack_up_and_are_promoted(store: Arc<dyn ObjectStore>) {
    let store = &*store;
    let bucket = create(store, "stones").await;
    enable_versioning(store, bucket).await;
    let mut ids = Vec::new();
    for bytes in ["1", "2", "3", "4"] {
        ids.push(put(store, bucket, "k", bytes).await.version_id.unwrap());
    }
    assert_eq!(picture(store, bucket).await, "v4 v3 v2 v1");
    for (removed, left) in [(3, "v3 v2 v1"), (1, "v3 v1"), (2, "v1"), (0, "")] {
        let gone = delete("k", VersionSelector::Id(ids[removed]));
        let gone = store.delete_object(bucket, gone).await.unwrap();
        assert_eq!(
            (gone.version_id, gone.is_marker),
            (Some(ids[removed]), false)
        );
        assert_eq!(picture(store, bucket).await, left);
    }
    assert!(missing(store, bucket, "k").await);
}

pub async fn s_30_null_versions_in_every_order(store: Arc<dyn ObjectStore>) {
    let store = &*store;
    let bucket = create(store, "stones").await;
    let switch = async |to| store.set_versioning(bucket, to).await.unwrap();
    put(store, bucket, "k", "a").await;
    assert_eq!(put(store, bucket, "k", "b").await.version_id, None);
    assert_eq!(picture(store, bucket).await, "nb");
    switch(Versioning::Enabled).await;
    put(store, bucket, "k", "c").await;
    assert_eq!(picture(store, bucket).await, "vc nb");
    switch(Versioning::Suspended).await;
    // The null version leaves its old place below and becomes the newest.
    let written = put(store, bucket, "k", "d").await;
    assert_eq!(written.version_id, Some(VersionId::Null));
    assert_eq!(picture(store, bucket).await, "nd vc");
    put(store, bucket, "k", "e").await;
    assert_eq!(picture(store, bucket).await, "ne vc");
    switch(Versioning::Enabled).await;
    put(store, bucket, "k", "f").await;
    put(store, bucket, "k", "g").await;
    assert_eq!(picture(store, bucket).await, "vg vf ne vc");
    switch(Versioning::Suspended).await;
    put(store, bucket, "k", "h").await;
    assert_eq!(picture(store, bucket).await, "nh vg vf vc");
    let gone = store
        .delete_object(bucket, delete("k", NULL))
        .await
        .unwrap();
    assert_eq!(
        (gone.version_id, gone.is_marker),
        (Some(VersionId::Null), false)
    );
    assert_eq!(picture(store, bucket).await, "vg vf vc");
    assert_eq!(get(store, bucket, "k").await, b"g");
}

pub async fn s_30_a_delete_marker_hides_and_its_removal_restores(store: Arc<dyn ObjectStore>) {
    let store = &*store;
    let bucket = create(store, "stones").await;
    enable_versioning(store, bucket).await;
    put(store, bucket, "k", "1").await;
    let marker = store
        .delete_object(bucket, delete("k", LATEST))
        .await
        .unwrap();
    assert!(marker.is_marker);
    let id = marker.version_id.unwrap();
    assert_eq!(picture(store, bucket).await, "vM v1");

    for (version, by_latest) in [(LATEST, true), (VersionSelector::Id(id), false)] {
        let refused = store
            .open_object(bucket, "k", version, ReadScope::Whole)
            .await
            .err()
            .unwrap();
        let Error::Refused(Refusal::DeleteMarker { id: of, latest, .. }) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!((of, latest), (id, by_latest));
    }
    store
        .delete_object(bucket, delete("k", LATEST))
        .await
        .unwrap();
    assert_eq!(picture(store, bucket).await, "vM vM v1", "markers stack up");
    for left in ["vM v1", "v1"] {
        let newest = all_versions(store, bucket).await[0].id;
        let gone = delete("k", VersionSelector::Id(newest));
        let gone = store.delete_object(bucket, gone).await.unwrap();
        assert_eq!((gone.version_id, gone.is_marker), (Some(newest), true));
        assert_eq!(picture(store, bucket).await, left);
    }
    assert_eq!(get(store, bucket, "k").await, b"1");

    let gone = store
        .delete_object(bucket, delete("never", LATEST))
        .await
        .unwrap();
    assert!(gone.is_marker, "also where there is nothing to hide");
}

pub async fn s_30_suspended_markers_take_the_null_versions_place(store: Arc<dyn ObjectStore>) {
    let store = &*store;
    let bucket = create(store, "stones").await;
    put(store, bucket, "k", "a").await;
    store
        .set_versioning(bucket, Versioning::Suspended)
        .await
        .unwrap();
    for _ in 0..2 {
        let marker = store
            .delete_object(bucket, delete("k", LATEST))
            .await
            .unwrap();
        assert_eq!(
            (marker.version_id, marker.is_marker),
            (Some(VersionId::Null), true)
        );
        assert_eq!(picture(store, bucket).await, "nM");
    }
    enable_versioning(store, bucket).await;
    put(store, bucket, "k", "b").await;
    assert_eq!(picture(store, bucket).await, "vb nM");
    store
        .set_versioning(bucket, Versioning::Suspended)
        .await
        .unwrap();
    store
        .delete_object(bucket, delete("k", LATEST))
        .await
        .unwrap();
    assert_eq!(picture(store, bucket).await, "nM vb");
    put(store, bucket, "k", "c").await;
    assert_eq!(picture(store, bucket).await, "nc vb");
    store
        .delete_object(bucket, delete("k", NULL))
        .await
        .unwrap();
    assert_eq!(picture(store, bucket).await, "vb");
    let gone = store
        .delete_object(bucket, delete("k", NULL))
        .await
        .unwrap();
    assert_eq!(
        (gone.version_id, gone.is_marker),
        (Some(VersionId::Null), false)
    );
}

pub async fn b_32_removing_the_latest_version_uncovers_the_one_before(store: Arc<dyn ObjectStore>) {
    // In another store the bytes were deleted and the pointer to the latest stayed: the key was
    // unreadable.
    let store = &*store;
    let bucket = create(store, "stones").await;
    enable_versioning(store, bucket).await;
    put(store, bucket, "k", "1").await;
    store
        .delete_object(bucket, delete("k", LATEST))
        .await
        .unwrap();
    let newest = put(store, bucket, "k", "3").await.version_id.unwrap();
    let gone = delete("k", VersionSelector::Id(newest));
    store.delete_object(bucket, gone).await.unwrap();
    assert_eq!(
        picture(store, bucket).await,
        "vM v1",
        "a marker is uncovered, no object"
    );
    let marker = all_versions(store, bucket).await[0].id;
    let gone = delete("k", VersionSelector::Id(marker));
    store.delete_object(bucket, gone).await.unwrap();
    assert_eq!(get(store, bucket, "k").await, b"1");
    assert_eq!(all_objects(store, bucket).await, ["k"]);
}

pub async fn b_33_racing_deletes_leave_nothing_behind(store: Arc<dyn ObjectStore>) {
    // In another store racing deletes left entries in listings, and two null versions of one key.
    let bucket = create(&*store, "stones").await;
    store
        .set_versioning(bucket, Versioning::Suspended)
        .await
        .unwrap();
    for round in 0..3 {
        let tasks: Vec<_> = (0..8)
            .map(|racer| {
                let store = store.clone();
                tokio::spawn(async move {
                    match racer % 4 {
                        0 => drop(put(&*store, bucket, "k", "x").await),
                        1 => drop(
                            store
                                .delete_object(bucket, delete("k", LATEST))
                                .await
                                .unwrap(),
                        ),
                        _ => drop(
                            store
                                .delete_object(bucket, delete("k", NULL))
                                .await
                                .unwrap(),
                        ),
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let left = picture(&*store, bucket).await;
        assert!(
            ["", "nx", "nM"].contains(&left.as_str()),
            "round {round}: {left}"
        );
    }
    store
        .delete_object(bucket, delete("k", NULL))
        .await
        .unwrap();
    assert_eq!(picture(&*store, bucket).await, "");
    store.delete_bucket(bucket).await.unwrap();
}
