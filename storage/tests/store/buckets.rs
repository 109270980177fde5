//! Buckets, their settings, and accounts.

use std::sync::Arc;

use drystone_store::ObjectStore;
use drystone_store::buckets::{CreateBucket, ListBuckets};
use drystone_store::error::{Error, Refusal};
use drystone_store::objects::DeleteObject;
use drystone_store::types::{
    Account, AccountId, Bucket, BucketId, BucketSetting, VersionSelector, Versioning,
};

use crate::body::{TestBody, put};
use crate::multipart::{part, start};
use crate::objects::missing;

pub async fn create(store: &dyn ObjectStore, name: &str) -> BucketId {
    create_for(store, name, "111122223333").await.id
}

async fn create_for(store: &dyn ObjectStore, name: &str, owner: &str) -> Bucket {
    let request = CreateBucket {
        name: name.to_owned(),
        owner: AccountId(owner.to_owned()),
        location: "eu-central-1".to_owned(),
        settings: Vec::new(),
    };
    store.create_bucket(request).await.unwrap()
}

pub async fn enable_versioning(store: &dyn ObjectStore, bucket: BucketId) {
    let enabled = store.set_versioning(bucket, Versioning::Enabled);
    enabled.await.unwrap();
}

pub async fn s_02_a_name_is_taken_once(store: Arc<dyn ObjectStore>) {
    let made = create_for(&*store, "stones", "111122223333").await;
    assert_eq!(made.name, "stones");
    assert_eq!(made.location, "eu-central-1");
    assert_eq!(made.versioning, Versioning::Off);
    assert_eq!(store.bucket("stones").await.unwrap(), made);
    for owner in ["111122223333", "444455556666"] {
        let again = CreateBucket {
            name: "stones".to_owned(),
            owner: AccountId(owner.to_owned()),
            location: String::new(),
            settings: Vec::new(),
        };
        let taken = Refusal::BucketExists {
            owner: AccountId("111122223333".to_owned()),
        };
        let answer = store.create_bucket(again).await;
        assert!(matches!(answer, Err(Error::Refused(r)) if r == taken));
    }
    let absent = store.bucket("stone").await;
    assert!(matches!(absent, Err(Error::Refused(Refusal::NoSuchBucket))));
}

pub async fn s_03_buckets_are_listed_by_name_in_pages(store: Arc<dyn ObjectStore>) {
    for (name, owner) in [
        ("b-2", "1"),
        ("a-1", "1"),
        ("b-1", "2"),
        ("b-3", "1"),
        ("c", "1"),
    ] {
        create_for(&*store, name, owner).await;
    }
    type Case<'a> = (Option<&'a str>, &'a str, &'a str, usize, &'a [&'a str]);
    let cases: [Case; 7] = [
        (None, "", "", 1000, &["a-1", "b-1", "b-2", "b-3", "c"]),
        (Some("1"), "", "", 1000, &["a-1", "b-2", "b-3", "c"]),
        (Some("1"), "b-", "", 1000, &["b-2", "b-3"]),
        (None, "b-", "b-1", 1000, &["b-2", "b-3"]),
        (Some("1"), "", "", 2, &["a-1", "b-2"]),
        (Some("1"), "", "b-2", 2, &["b-3", "c"]),
        (Some("3"), "", "", 1000, &[]),
    ];
    for (owner, prefix, after, max, expected) in cases {
        let request = ListBuckets {
            owner: owner.map(|owner| AccountId(owner.to_owned())),
            prefix: prefix.to_owned(),
            after: after.to_owned(),
            max,
        };
        let found = store.list_buckets(request).await.unwrap();
        let names: Vec<&str> = found.iter().map(|bucket| bucket.name.as_str()).collect();
        assert_eq!(names, expected, "{owner:?} {prefix} {after} {max}");
    }
}

pub async fn s_03_a_bucket_with_a_version_in_it_is_not_deleted(store: Arc<dyn ObjectStore>) {
    let store = &*store;
    let bucket = create(store, "stones").await;
    let refused = async || {
        let answer = store.delete_bucket(bucket).await;
        matches!(answer, Err(Error::Refused(Refusal::BucketNotEmpty)))
    };
    let delete = async |version| {
        let request = DeleteObject {
            key: "k".to_owned(),
            version,
            condition: Default::default(),
        };
        store
            .delete_object(bucket, request)
            .await
            .unwrap()
            .version_id
    };

    let upload = start(store, bucket, "k").await;
    put(store, bucket, "k", "object").await;
    assert!(refused().await);
    delete(VersionSelector::Latest).await;

    let versioning = Versioning::Enabled;
    store.set_versioning(bucket, versioning).await.unwrap();
    let marker = delete(VersionSelector::Latest).await.unwrap();
    assert!(refused().await, "a marker alone");
    delete(VersionSelector::Id(marker)).await;
    // A refusal takes nothing.
    let kept = store.upload(bucket, "k", upload.id).await.unwrap();
    assert_eq!(kept.id, upload.id);
    store.abort_upload(bucket, "k", upload.id).await.unwrap();

    store.delete_bucket(bucket).await.unwrap();
    let gone = store.delete_bucket(bucket).await;
    assert!(matches!(gone, Err(Error::Refused(Refusal::NoSuchBucket))));
    let gone = store.bucket("stones").await;
    assert!(matches!(gone, Err(Error::Refused(Refusal::NoSuchBucket))));
}

/// As on AWS, where the deletion succeeds and the uploads are gone.
pub async fn s_03_unfinished_uploads_go_with_their_bucket(store: Arc<dyn ObjectStore>) {
    let store = &*store;
    let old = create(store, "stones").await;
    let other = create(store, "pebbles").await;
    let mut uploads = Vec::new();
    for key in ["a", "b", "b"] {
        let upload = start(store, old, key).await;
        for number in 1..=3 {
            part(store, old, &upload, number, vec![7; 20_000]).await;
        }
        uploads.push(upload);
    }
    let empty = start(store, old, "c").await;
    let kept = start(store, other, "a").await;
    store.delete_bucket(old).await.unwrap();

    let gone = store.bucket("stones").await;
    assert!(matches!(gone, Err(Error::Refused(Refusal::NoSuchBucket))));
    for upload in uploads.iter().chain([&empty]) {
        let gone = store.upload(old, &upload.key, upload.id).await;
        assert!(matches!(gone, Err(Error::Refused(Refusal::NoSuchBucket))));
        let mut late = TestBody::new("late");
        let late = store.upload_part(old, &upload.key, upload.id, 4, &mut late);
        assert!(matches!(
            late.await,
            Err(Error::Refused(Refusal::NoSuchBucket))
        ));
    }
    let new = create(store, "stones").await;
    for upload in &uploads {
        let gone = store.upload(new, &upload.key, upload.id).await;
        assert!(matches!(gone, Err(Error::Refused(Refusal::NoSuchUpload))));
    }
    assert_eq!(store.usage(&[new]).await.unwrap(), [Default::default()]);
    // Those of another bucket stay.
    part(store, other, &kept, 1, vec![7; 20_000]).await;
}

pub async fn s_03_what_was_in_a_deleted_bucket_is_not_in_its_namesake(store: Arc<dyn ObjectStore>) {
    let old = create(&*store, "stones").await;
    put(&*store, old, "k", "x").await;
    let delete = DeleteObject {
        key: "k".to_owned(),
        version: VersionSelector::Latest,
        condition: Default::default(),
    };
    store.delete_object(old, delete).await.unwrap();
    store.delete_bucket(old).await.unwrap();
    let new = create(&*store, "stones").await;
    assert_ne!(new, old, "an id is never reused");
    let mut body = TestBody::new("late");
    let late = store
        .put_object(old, crate::body::request("k"), &mut body)
        .await;
    assert!(matches!(late, Err(Error::Refused(Refusal::NoSuchBucket))));
    assert!(missing(&*store, new, "k").await);
}

pub async fn s_06_settings_and_accounts_are_kept_as_given(store: Arc<dyn ObjectStore>) {
    let bucket = create(&*store, "stones").await;
    let tagging = BucketSetting::Tagging;
    for document in [Some(b"<a/>".to_vec()), Some(b"<b/>".to_vec()), None, None] {
        let put = store.put_bucket_setting(bucket, tagging, document.clone());
        put.await.unwrap();
        let found = store.bucket("stones").await.unwrap();
        assert_eq!(found.setting(tagging), document.as_deref());
    }

    let with_tags = CreateBucket {
        name: "pebbles".to_owned(),
        owner: AccountId("111122223333".to_owned()),
        location: String::new(),
        settings: vec![(tagging, b"<c/>".to_vec())],
    };
    let made = store.create_bucket(with_tags).await.unwrap();
    assert_eq!(made.setting(tagging), Some(b"<c/>".as_slice()));
    assert_eq!(store.bucket("pebbles").await.unwrap(), made);

    let id = AccountId("111122223333".to_owned());
    assert_eq!(store.account(&id).await.unwrap(), None);
    for name in ["ann", "ben"] {
        let account = Account {
            id: id.clone(),
            canonical_id: "7".repeat(64),
            display_name: name.to_owned(),
        };
        store.put_account(account.clone()).await.unwrap();
        assert_eq!(store.account(&id).await.unwrap(), Some(account));
    }
}
