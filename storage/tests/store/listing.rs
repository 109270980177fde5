//! Listings of objects, versions and uploads, and their pages.

use std::sync::Arc;

use drystone_store::ObjectStore;
use drystone_store::listings::{ListObjects, ListUploads, ListVersions, ObjectPage};
use drystone_store::types::{BucketId, UploadId, VersionId, VersionSelector};
use drystone_store::uploads::CreateUpload;

use crate::body::{etag, put};
use crate::buckets::{create, enable_versioning};
use crate::objects::delete;
use crate::versions::{all_objects, all_versions};

/// The maximum number of pages of a walk; one that never ends fails its comparison.
pub const PAGES_MAX: usize = 200;

/// Keys that other stores have mistaken for paths, patterns or ends of strings.
pub const ODD_KEYS: [&str; 16] = [
    "\0",
    " ",
    "%2e",
    "..",
    "../x",
    "/x",
    "a",
    "a ",
    "a/",
    "a//b",
    "a/\0",
    "a/b",
    "a/b/",
    "a\u{ffff}",
    "a\u{10ffff}",
    "é",
];

async fn list(
    store: &dyn ObjectStore,
    bucket: BucketId,
    (prefix, delimiter, after, max): (&str, &str, &str, usize),
) -> ObjectPage {
    let request = ListObjects {
        prefix: prefix.to_owned(),
        delimiter: delimiter.to_owned(),
        after: after.to_owned(),
        max,
    };
    store.list_objects(bucket, request).await.unwrap()
}

/// Returns keys and common prefixes of a page.
fn names(page: &ObjectPage) -> (Vec<&str>, Vec<&str>) {
    let keys = page.objects.iter().map(|object| object.key.as_str());
    (
        keys.collect(),
        page.prefixes.iter().map(String::as_str).collect(),
    )
}

pub async fn s_14_prefix_delimiter_and_after(store: Arc<dyn ObjectStore>) {
    let bucket = create(&*store, "stones").await;
    for key in [
        "a/1", "a/2", "a/b/3", "b", "ba", "c/", "c/d", "dxxe", "dxxxe",
    ] {
        put(&*store, bucket, key, "x").await;
    }
    type Case<'a> = (
        (&'a str, &'a str, &'a str, usize),
        &'a [&'a str],
        &'a [&'a str],
        Option<&'a str>,
    );
    let all = [
        "a/1", "a/2", "a/b/3", "b", "ba", "c/", "c/d", "dxxe", "dxxxe",
    ];
    let cases: [Case; 20] = [
        (("", "", "", 1000), &all, &[], None),
        (("", "", "", 9), &all, &[], None),
        (("", "", "", 8), &all[..8], &[], Some("dxxe")),
        (("", "", "", 0), &[], &[], None),
        (
            ("", "/", "", 1000),
            &["b", "ba", "dxxe", "dxxxe"],
            &["a/", "c/"],
            None,
        ),
        (("", "/", "", 2), &["b"], &["a/"], Some("b")),
        (("", "/", "", 1), &[], &["a/"], Some("a/")),
        (("", "/", "a/", 2), &["b", "ba"], &[], Some("ba")),
        (
            ("", "/", "a/1", 1000),
            &["b", "ba", "dxxe", "dxxxe"],
            &["c/"],
            None,
        ),
        (("", "/", "c.", 1000), &["dxxe", "dxxxe"], &["c/"], None),
        (("", "/", "dxxxe", 1000), &[], &[], None),
        (("a/", "/", "", 1000), &["a/1", "a/2"], &["a/b/"], None),
        (("a", "/", "", 1000), &[], &["a/"], None),
        (("a/b", "/", "a/", 1000), &[], &["a/b/"], None),
        (("b", "", "", 1000), &["b", "ba"], &[], None),
        (("b", "", "b", 1000), &["ba"], &[], None),
        (("c/", "/", "", 1000), &["c/", "c/d"], &[], None),
        (("d", "xx", "", 1000), &[], &["dxx"], None),
        (("dx", "xx", "", 1000), &["dxxe"], &["dxxx"], None),
        (("nothing", "/", "", 1000), &[], &[], None),
    ];
    for (asked, keys, prefixes, next) in cases {
        let page = list(&*store, bucket, asked).await;
        assert_eq!(
            names(&page),
            (keys.to_vec(), prefixes.to_vec()),
            "{asked:?}"
        );
        assert_eq!(page.next.as_deref(), next, "{asked:?}");
    }
    let page = list(&*store, bucket, ("b", "", "", 1)).await;
    assert_eq!(
        (page.objects[0].size, page.objects[0].etag),
        (1, etag(b"x"))
    );
}

pub async fn s_14_odd_keys_come_in_byte_order(store: Arc<dyn ObjectStore>) {
    let bucket = create(&*store, "stones").await;
    for key in ODD_KEYS.iter().rev() {
        put(&*store, bucket, key, key.to_string()).await;
    }
    let mut sorted = ODD_KEYS.to_vec();
    sorted.sort_by_key(|key| key.as_bytes());
    assert_eq!(all_objects(&*store, bucket).await, sorted);
    for key in ODD_KEYS {
        assert_eq!(crate::body::get(&*store, bucket, key).await, key.as_bytes());
    }
    let page = list(&*store, bucket, ("a", "/", "", 1000)).await;
    assert_eq!(
        names(&page),
        (vec!["a", "a ", "a\u{ffff}", "a\u{10ffff}"], vec!["a/"])
    );
    let page = list(&*store, bucket, ("", "\u{10ffff}", "a\u{ffff}", 1000)).await;
    assert_eq!(names(&page), (vec!["é"], vec!["a\u{10ffff}"]));
}

pub async fn s_14_pages_add_up_to_the_whole(store: Arc<dyn ObjectStore>) {
    let bucket = create(&*store, "stones").await;
    for key in ODD_KEYS {
        put(&*store, bucket, key, "x").await;
    }
    for (prefix, delimiter) in [
        ("", ""),
        ("", "/"),
        ("a", "/"),
        ("a/", "/"),
        ("", "a"),
        ("", "//"),
    ] {
        let whole = list(&*store, bucket, (prefix, delimiter, "", 1000)).await;
        assert_eq!(whole.next, None);
        for max in 1..=ODD_KEYS.len() {
            let mut sum = ObjectPage::default();
            let mut after = String::new();
            for _ in 0..PAGES_MAX {
                let page = list(&*store, bucket, (prefix, delimiter, &after, max)).await;
                let len = page.objects.len() + page.prefixes.len();
                sum.objects.extend(page.objects);
                sum.prefixes.extend(page.prefixes);
                match page.next {
                    None => break,
                    Some(next) => {
                        assert_eq!(len, max, "a page before the last is full");
                        assert!(next > after);
                        after = next;
                    }
                }
            }
            assert_eq!(sum, whole, "{prefix:?} {delimiter:?} {max}");
        }
    }
}

pub async fn b_34_markers_between_the_keys_end_no_page_early(store: Arc<dyn ObjectStore>) {
    // Another store reported after a page with many markers that nothing follows.
    let store = &*store;
    let bucket = create(store, "stones").await;
    enable_versioning(store, bucket).await;
    let (mut kept, mut folders) = (Vec::new(), Vec::new());
    for n in 0..60 {
        let key = format!("{:02}/{n}", n / 10);
        put(store, bucket, &key, "x").await;
        if n % 20 == 19 {
            folders.push(format!("{:02}/", n / 10));
            kept.push(key);
        } else {
            let hide = delete(&key, VersionSelector::Latest);
            store.delete_object(bucket, hide).await.unwrap();
        }
    }
    assert_eq!(all_objects(store, bucket).await, kept);
    for (delimiter, expected) in [("", &kept), ("/", &folders)] {
        let (mut found, mut after) = (Vec::new(), String::new());
        for _ in 0..PAGES_MAX {
            let page = list(store, bucket, ("", delimiter, &after, 1)).await;
            found.extend(page.objects.into_iter().map(|object| object.key));
            found.extend(page.prefixes);
            let Some(next) = page.next else { break };
            after = next;
        }
        assert_eq!(&found, expected);
    }
    assert_eq!(all_versions(store, bucket).await.len(), 60 + 57);
}

pub async fn s_30_version_listings_go_on_after_any_marker(store: Arc<dyn ObjectStore>) {
    let store = &*store;
    let bucket = create(store, "stones").await;
    for key in ["a", "b/1", "b/2", "c"] {
        put(store, bucket, key, "null").await;
    }
    enable_versioning(store, bucket).await;
    for key in ["a", "b/1", "c"] {
        put(store, bucket, key, "newer").await;
        let hide = delete(key, VersionSelector::Latest);
        store.delete_object(bucket, hide).await.unwrap();
    }
    let all = all_versions(store, bucket).await;
    assert_eq!(all.len(), 10);
    let ask = async |delimiter: &str, after: Option<(String, Option<VersionId>)>, max| {
        let (key_after, version_after) = after.unwrap_or_default();
        let request = ListVersions {
            prefix: String::new(),
            delimiter: delimiter.to_owned(),
            key_after,
            version_after,
            max,
        };
        store.list_versions(bucket, request).await.unwrap()
    };
    for max in 1..=10 {
        let (mut sum, mut next) = (Vec::new(), None);
        for _ in 0..PAGES_MAX {
            let page = ask("", next, max).await;
            sum.extend(page.versions);
            next = page.next;
            if next.is_none() {
                break;
            }
            assert_eq!(sum.len() % max, 0);
        }
        assert_eq!(sum, all, "pages of {max}");
    }
    let rest = ask("", Some(("a".to_owned(), None)), 1000).await;
    assert_eq!(rest.versions, all[3..], "a key alone: none of its versions");
    let rest = ask("", Some(("aa".to_owned(), Some(VersionId::Null))), 1000).await;
    assert_eq!(rest.versions, all[3..], "a key that isn't there");

    let rolled = ask("/", None, 1000).await;
    assert_eq!(
        (rolled.versions.len(), rolled.prefixes),
        (6, vec!["b/".to_owned()])
    );
    let page = ask("/", None, 4).await;
    assert_eq!(page.next, Some(("b/".to_owned(), None)));
    let rest = ask("/", page.next, 1000).await;
    assert_eq!(
        (rest.versions.as_slice(), rest.prefixes.len()),
        (&all[7..], 0)
    );

    // A client that deletes while it lists continues from a removed version.
    for place in [1, 2] {
        let gone = all[place].id;
        let remove = delete("a", VersionSelector::Id(gone));
        store.delete_object(bucket, remove).await.unwrap();
        let rest = ask("", Some(("a".to_owned(), Some(gone))), 1000).await;
        // A removed null version doesn't show its former place.
        let seen_again = if place == 2 { 1 } else { 0 };
        assert_eq!(rest.versions.len(), 7 + seen_again + (2 - place));
    }
}

pub async fn s_20_upload_listings_go_on_after_any_marker(store: Arc<dyn ObjectStore>) {
    let store = &*store;
    let bucket = create(store, "stones").await;
    let mut all = Vec::new();
    for key in ["a", "a", "a", "b/1", "b/2", "c", "c"] {
        let request = CreateUpload {
            key: key.to_owned(),
            attributes: Default::default(),
            checksum: None,
        };
        all.push(store.create_upload(bucket, request).await.unwrap());
    }
    let ask =
        async |prefix: &str, delimiter: &str, after: Option<(String, Option<UploadId>)>, max| {
            let (key_after, upload_after) = after.unwrap_or_default();
            let request = ListUploads {
                prefix: prefix.to_owned(),
                delimiter: delimiter.to_owned(),
                key_after,
                upload_after,
                max,
            };
            store.list_uploads(bucket, request).await.unwrap()
        };
    for max in 1..=8 {
        let (mut sum, mut next) = (Vec::new(), None);
        for _ in 0..PAGES_MAX {
            let page = ask("", "", next, max).await;
            sum.extend(page.uploads);
            next = page.next;
            if next.is_none() {
                break;
            }
        }
        assert_eq!(sum, all, "by key, then by start, in pages of {max}");
    }
    assert_eq!(ask("b/", "", None, 1000).await.uploads, all[3..5]);
    let page = ask("", "/", None, 4).await;
    assert_eq!(
        (page.uploads.len(), page.prefixes),
        (3, vec!["b/".to_owned()])
    );
    assert_eq!(page.next, Some(("b/".to_owned(), None)));
    assert_eq!(ask("", "/", page.next, 1000).await.uploads, all[5..]);
    let after_key = ask("", "", Some(("a".to_owned(), None)), 1000).await;
    assert_eq!(after_key.uploads, all[3..]);

    // A client that aborts while it lists continues from a removed upload.
    store.abort_upload(bucket, "a", all[0].id).await.unwrap();
    let rest = ask("", "", Some(("a".to_owned(), Some(all[0].id))), 1000).await;
    assert_eq!(rest.uploads, all[1..]);
}
