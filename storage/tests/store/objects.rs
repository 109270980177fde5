//! Put, open, read, link, delete, tags.

use std::sync::Arc;

use drystone_store::ObjectStore;
use drystone_store::error::{Error, Refusal};
use drystone_store::objects::{DeleteObject, PutObject, ReadScope};
use drystone_store::types::{
    Attributes, BucketId, ChecksumAlgorithm, Order, VersionId, VersionSelector,
};

use crate::body::{TestBody, etag, get, get_version, pattern, put, read, read_all, request};
use crate::buckets::{create, enable_versioning};

pub async fn missing(store: &dyn ObjectStore, bucket: BucketId, key: &str) -> bool {
    let answer = store
        .open_object(bucket, key, VersionSelector::Latest, ReadScope::Whole)
        .await;
    matches!(answer, Err(Error::Refused(Refusal::NoSuchKey)))
}

pub fn delete(key: &str, version: VersionSelector) -> DeleteObject {
    DeleteObject {
        key: key.to_owned(),
        version,
        condition: Default::default(),
    }
}

pub fn attributes() -> Attributes {
    Attributes {
        system: vec![("content-type".to_owned(), "text/x-stone".to_owned())],
        user: vec![
            ("b".to_owned(), vec![0xff, 0]),
            ("a".to_owned(), b"1".to_vec()),
        ],
        tags: vec![
            ("z".to_owned(), "1".to_owned()),
            ("é".to_owned(), String::new()),
        ],
        storage_class: String::new(),
        owner: drystone_store::types::AccountId("111122223333".to_owned()),
    }
}

pub async fn s_10_what_is_put_is_what_is_got(store: Arc<dyn ObjectStore>) {
    let bucket = create(&*store, "stones").await;
    for (len, algorithm) in [
        (5, ChecksumAlgorithm::Sha1),
        (100_000, ChecksumAlgorithm::Crc32c),
    ] {
        let bytes = pattern(1, len);
        let mut body = TestBody::new(bytes.clone()).with_checksum(Some(algorithm));
        let request = PutObject {
            attributes: attributes(),
            ..request("k")
        };
        let written = store.put_object(bucket, request, &mut body).await.unwrap();
        assert_eq!(written.version_id, None);
        assert_eq!(written.etag, etag(&bytes));
        assert_eq!(written.size, len as u64);

        let handle = store
            .open_object(bucket, "k", VersionSelector::Latest, ReadScope::Whole)
            .await
            .unwrap();
        let version = handle.version();
        assert_eq!((version.key.as_str(), version.id), ("k", VersionId::Null));
        assert!(version.is_latest);
        assert_eq!(version.modified, written.modified);
        assert_eq!(version.owner, attributes().owner);
        let object = handle.object();
        assert_eq!(object.size, written.size);
        assert_eq!(object.etag, written.etag);
        assert_eq!(object.checksum, written.checksum);
        assert_eq!(object.checksum.as_ref().unwrap().algorithm, algorithm);
        assert_eq!(object.attributes, attributes());
        assert_eq!(handle.parts_count(), 0);
        assert_eq!(handle.parts(0, 1000).await.unwrap(), []);
        assert_eq!(read_all(&*handle).await, bytes);
    }
}

pub async fn s_10_an_interrupted_body_leaves_nothing(store: Arc<dyn ObjectStore>) {
    let bucket = create(&*store, "stones").await;
    for len in [0, 10, 300_000] {
        let mut body = TestBody::new(pattern(1, len)).interrupted();
        let answer = store.put_object(bucket, request("new"), &mut body).await;
        assert!(matches!(answer, Err(Error::Body(_))));
        assert!(missing(&*store, bucket, "new").await);

        put(&*store, bucket, "old", "before").await;
        let mut body = TestBody::new(pattern(1, len)).interrupted();
        let answer = store.put_object(bucket, request("old"), &mut body).await;
        assert!(matches!(answer, Err(Error::Body(_))));
        assert_eq!(get(&*store, bucket, "old").await, b"before");
    }
}

pub async fn s_11_what_is_not_there_is_refused_by_its_kind(store: Arc<dyn ObjectStore>) {
    let bucket = create(&*store, "stones").await;
    let ordered = VersionSelector::Id(VersionId::Ordered {
        order: Order(1 << 20),
        nonce: 7,
    });
    let null = VersionSelector::Id(VersionId::Null);
    let refusal = async |key, version| match store
        .open_object(bucket, key, version, ReadScope::Whole)
        .await
    {
        Err(Error::Refused(refusal)) => refusal,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it is there"),
    };
    assert_eq!(
        refusal("k", VersionSelector::Latest).await,
        Refusal::NoSuchKey
    );
    assert_eq!(refusal("k", null).await, Refusal::NoSuchVersion);
    assert_eq!(refusal("k", ordered).await, Refusal::NoSuchVersion);
    put(&*store, bucket, "k", "x").await;
    assert_eq!(refusal("k", ordered).await, Refusal::NoSuchVersion);
    assert_eq!(
        refusal("k/", VersionSelector::Latest).await,
        Refusal::NoSuchKey
    );

    let elsewhere = store
        .open_object(
            BucketId(u64::MAX),
            "k",
            VersionSelector::Latest,
            ReadScope::Whole,
        )
        .await;
    assert!(matches!(
        elsewhere,
        Err(Error::Refused(Refusal::NoSuchBucket))
    ));
}

pub async fn s_11_an_open_object_stays_as_it_was(store: Arc<dyn ObjectStore>) {
    let bucket = create(&*store, "stones").await;
    for len in [100, 300_000] {
        let bytes = pattern(1, len);
        put(&*store, bucket, "k", bytes.clone()).await;
        let handle = store
            .open_object(bucket, "k", VersionSelector::Latest, ReadScope::Whole)
            .await
            .unwrap();
        put(&*store, bucket, "k", pattern(2, len)).await;
        assert_eq!(read_all(&*handle).await, bytes);
        let gone = delete("k", VersionSelector::Latest);
        store.delete_object(bucket, gone).await.unwrap();
        assert_eq!(read(&*handle, 10, 90).await, bytes[10..90]);
    }
}

pub async fn s_12_a_link_shares_bytes_and_outlives_its_source(store: Arc<dyn ObjectStore>) {
    let bucket = create(&*store, "stones").await;
    for len in [0, 100, 300_000] {
        let bytes = pattern(3, len);
        put(&*store, bucket, "from", bytes.clone()).await;
        let source = store
            .open_object(bucket, "from", VersionSelector::Latest, ReadScope::Whole)
            .await
            .unwrap();
        let request = PutObject {
            attributes: attributes(),
            ..request("to")
        };
        let linked = store
            .link_object(bucket, &*source, request.clone())
            .await
            .unwrap();
        assert_eq!(linked.etag, etag(&bytes));
        let gone = delete("from", VersionSelector::Latest);
        store.delete_object(bucket, gone).await.unwrap();
        let handle = store
            .open_object(bucket, "to", VersionSelector::Latest, ReadScope::Whole)
            .await
            .unwrap();
        assert_eq!(handle.object().write_id, source.object().write_id);
        assert_eq!(handle.object().attributes, attributes());
        assert_eq!(read_all(&*handle).await, bytes);

        // A link onto itself: new attributes, the same bytes.
        let other = crate::body::request("to");
        store.link_object(bucket, &*handle, other).await.unwrap();
        let handle = store
            .open_object(bucket, "to", VersionSelector::Latest, ReadScope::Whole)
            .await
            .unwrap();
        assert_eq!(handle.object().attributes, Attributes::default());
        assert_eq!(read_all(&*handle).await, bytes);

        let gone = delete("to", VersionSelector::Latest);
        store.delete_object(bucket, gone).await.unwrap();
        let late = store.link_object(bucket, &*source, request).await;
        assert!(matches!(late, Err(Error::Refused(Refusal::Conflict))));
        assert!(missing(&*store, bucket, "to").await);
    }
}

pub async fn s_13_delete_is_idempotent(store: Arc<dyn ObjectStore>) {
    let bucket = create(&*store, "stones").await;
    put(&*store, bucket, "k", "x").await;
    for version in [
        VersionSelector::Latest,
        VersionSelector::Id(VersionId::Null),
    ] {
        for _ in 0..2 {
            let gone = store
                .delete_object(bucket, delete("k", version))
                .await
                .unwrap();
            let named = (version != VersionSelector::Latest).then_some(VersionId::Null);
            assert_eq!((gone.version_id, gone.is_marker), (named, false));
            assert!(missing(&*store, bucket, "k").await);
        }
        put(&*store, bucket, "k", "x").await;
    }
}

pub async fn s_13_delete_objects_decides_each_key_alone(store: Arc<dyn ObjectStore>) {
    let bucket = create(&*store, "stones").await;
    enable_versioning(&*store, bucket).await;
    let first = put(&*store, bucket, "a", "1").await.version_id.unwrap();
    put(&*store, bucket, "b", "2").await;
    let mut if_match = delete("b", VersionSelector::Latest);
    if_match.condition.if_match = Some(drystone_store::objects::ETagCondition::OneOf(vec![]));
    let asked = vec![
        delete("a", VersionSelector::Latest),
        if_match,
        delete("a", VersionSelector::Id(first)),
        delete("a", VersionSelector::Id(first)),
        delete("never", VersionSelector::Id(first)),
        delete("never", VersionSelector::Latest),
    ];
    let answers = store.delete_objects(bucket, asked).await.unwrap();
    assert_eq!(answers.len(), 6);
    let markers: Vec<Option<bool>> = answers
        .iter()
        .map(|answer| answer.as_ref().ok().map(|gone| gone.is_marker))
        .collect();
    let done = Some(false);
    assert_eq!(markers, [Some(true), None, done, done, done, Some(true)]);
    assert_eq!(answers[2].as_ref().unwrap().version_id, Some(first));
    assert_eq!(answers[3].as_ref().unwrap().version_id, Some(first));
    assert_eq!(get(&*store, bucket, "b").await, b"2");

    let nowhere = store.delete_objects(BucketId(u64::MAX), vec![]).await;
    assert!(matches!(
        nowhere,
        Err(Error::Refused(Refusal::NoSuchBucket))
    ));
}

pub async fn s_16_tags_are_replaced_and_nothing_else(store: Arc<dyn ObjectStore>) {
    let bucket = create(&*store, "stones").await;
    let tags = |value: &str| vec![("k".to_owned(), value.to_owned())];
    let set = async |version, value| {
        let answer = store
            .put_object_tags(bucket, "k", version, tags(value))
            .await;
        answer.map_err(|error| match error {
            Error::Refused(refusal) => refusal,
            other => panic!("{other:?}"),
        })
    };
    let latest = VersionSelector::Latest;
    assert_eq!(set(latest, "0").await, Err(Refusal::NoSuchKey));
    let old = put(&*store, bucket, "k", "old").await;
    assert_eq!(set(latest, "1").await, Ok(None));
    enable_versioning(&*store, bucket).await;
    let new = put(&*store, bucket, "k", "new").await.version_id;
    let null = VersionSelector::Id(VersionId::Null);
    assert_eq!(set(null, "2").await, Ok(Some(VersionId::Null)));
    assert_eq!(set(latest, "3").await, Ok(new));
    for (version, value, body) in [(null, "2", "old"), (latest, "3", "new")] {
        let handle = store
            .open_object(bucket, "k", version, ReadScope::Whole)
            .await
            .unwrap();
        assert_eq!(handle.object().attributes.tags, tags(value));
        assert_eq!(read_all(&*handle).await, body.as_bytes());
        if version == null {
            assert_eq!(handle.version().modified, old.modified);
        }
    }
    let marker = store
        .delete_object(bucket, delete("k", latest))
        .await
        .unwrap();
    let refused = set(latest, "4").await;
    assert!(matches!(
        refused,
        Err(Refusal::DeleteMarker { latest: true, .. })
    ));
    let marker = VersionSelector::Id(marker.version_id.unwrap());
    let refused = set(marker, "4").await;
    assert!(matches!(
        refused,
        Err(Refusal::DeleteMarker { latest: false, .. })
    ));
    assert_eq!(get_version(&*store, bucket, "k", null).await, b"old");
}

pub async fn f_33_zero_bytes(store: Arc<dyn ObjectStore>) {
    let bucket = create(&*store, "stones").await;
    let plain = put(&*store, bucket, "k", "").await;
    assert_eq!(plain.etag.to_string(), "d41d8cd98f00b204e9800998ecf8427e");
    enable_versioning(&*store, bucket).await;
    let versioned = put(&*store, bucket, "k", "").await.version_id.unwrap();
    for version in [VersionId::Null, versioned] {
        let handle = store
            .open_object(bucket, "k", VersionSelector::Id(version), ReadScope::Whole)
            .await
            .unwrap();
        assert_eq!(handle.object().size, 0);
        assert_eq!(read_all(&*handle).await, b"");
    }
    let gone = delete("k", VersionSelector::Id(versioned));
    store.delete_object(bucket, gone).await.unwrap();
    assert_eq!(get(&*store, bucket, "k").await, b"");
}

/// Sizes at which bodies are stored differently: the inline limit, a block, a chunk, stripes of one
/// to four chunks.
pub const BOUNDARIES: [usize; 7] = [
    0,
    8 << 10,
    32 << 10,
    128 << 10,
    256 << 10,
    384 << 10,
    512 << 10,
];

pub async fn f_35_sizes_at_every_boundary(store: Arc<dyn ObjectStore>) {
    let bucket = create(&*store, "stones").await;
    let sizes = BOUNDARIES
        .iter()
        .flat_map(|at| [at.saturating_sub(1), *at, at + 1]);
    for len in sizes {
        let bytes = pattern(len as u64, len);
        put(&*store, bucket, "k", bytes.clone()).await;
        let handle = store
            .open_object(bucket, "k", VersionSelector::Latest, ReadScope::Whole)
            .await
            .unwrap();
        assert_eq!(handle.object().etag, etag(&bytes), "{len}");
        assert_eq!(read_all(&*handle).await, bytes, "{len}");
        for at in BOUNDARIES.into_iter().chain([len]).filter(|at| *at <= len) {
            let (start, end) = (at.saturating_sub(1), (at + 1).min(len));
            let part = read(&*handle, start as u64, end as u64).await;
            assert_eq!(part, bytes[start..end], "{start}..{end} of {len}");
            let rest = read(&*handle, at as u64, len as u64).await;
            assert_eq!(rest, bytes[at..], "{at}.. of {len}");
        }
    }
}
