//! Pages of objects and versions, compared with a filtered list of everything.

use super::{B, TestReplica};
use crate::db::Family;
use drystone_store::listings::{ListObjects, ListUploads, ListVersions};
use drystone_store::types::{VersionId, Versioning};

/// An object's key or a common prefix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListEntry {
    Key(String),
    Prefix(String),
}

/// Returns the entries of a listing of `keys`, which must be sorted.
pub fn entries(keys: &[String], prefix: &str, delimiter: &str, after: &str) -> Vec<ListEntry> {
    let mut found = Vec::new();
    for key in keys.iter().filter(|key| key.as_str() > after) {
        let Some(rest) = key.strip_prefix(prefix) else {
            continue;
        };
        let delimited = if delimiter.is_empty() {
            None
        } else {
            rest.find(delimiter)
        };
        let entry = match delimited {
            None => ListEntry::Key(key.clone()),
            Some(at) => {
                let common = &key[..prefix.len() + at + delimiter.len()];
                if after.starts_with(common) {
                    continue;
                }
                ListEntry::Prefix(common.to_owned())
            }
        };
        if found.last() != Some(&entry) {
            found.push(entry);
        }
    }
    found
}

impl TestReplica {
    /// Returns all pages of `max` together, and checks that each but the last is full.
    pub fn list(&self, prefix: &str, delimiter: &str, after: &str, max: usize) -> Vec<ListEntry> {
        let mut request = ListObjects {
            prefix: prefix.into(),
            delimiter: delimiter.into(),
            after: after.into(),
            max,
        };
        let mut found = Vec::new();
        loop {
            let page = self.state.view().list_objects(B, &request).unwrap();
            let mut these: Vec<_> = page.prefixes.into_iter().map(ListEntry::Prefix).collect();
            these.extend(
                page.objects
                    .into_iter()
                    .map(|object| ListEntry::Key(object.key)),
            );
            these.sort_by(|a, b| text(a).cmp(text(b)));
            let Some(next) = page.next else {
                assert!(these.len() <= max);
                found.extend(these);
                return found;
            };
            assert_eq!(these.len(), max, "a page that is not the last is full");
            assert_eq!(text(these.last().unwrap()), next);
            found.extend(these);
            request.after = next;
        }
    }

    /// Returns the versions of all pages of `max` together: keys, ids and whether they are the
    /// latest.
    pub fn list_versions(&self, prefix: &str, max: usize) -> Vec<(String, VersionId, bool)> {
        let mut request = ListVersions {
            prefix: prefix.into(),
            delimiter: String::new(),
            key_after: String::new(),
            version_after: None,
            max,
        };
        let mut found = Vec::new();
        loop {
            let page = self.state.view().list_versions(B, &request).unwrap();
            let of = |v: drystone_store::types::Version| (v.key, v.id, v.is_latest);
            found.extend(page.versions.into_iter().map(of));
            let Some((key, version)) = page.next else {
                return found;
            };
            (request.key_after, request.version_after) = (key, version);
        }
    }
}

fn text(entry: &ListEntry) -> &str {
    match entry {
        ListEntry::Key(text) | ListEntry::Prefix(text) => text,
    }
}

#[test]
fn b_11_r_15_a_row_that_does_not_decode_costs_its_own_entry_alone() {
    let mut replica = TestReplica::with(Versioning::Enabled);
    for key in ["a", "spoilt", "z"] {
        replica.put(key);
        replica.create_upload(key);
    }
    let (rocks, family) = (replica.db.rocks(), replica.db.family(Family::State));
    let rows = rocks.iterator_cf(family, rocksdb::IteratorMode::Start);
    let rows: Vec<_> = rows.map(|row| row.unwrap().0).collect();
    let spoilt = |key: &[u8]| key.windows(6).any(|part| part == b"spoilt");
    for key in rows.iter().filter(|key| spoilt(key)) {
        rocks.put_cf(family, key, [0xff]).unwrap();
    }
    let left = ["a", "z"];
    for max in [1, 2, 10] {
        let keys: Vec<_> = replica.list("", "", "", max);
        assert_eq!(keys, left.map(|key| ListEntry::Key(key.into())));
        let versions = replica.list_versions("", max);
        let keys: Vec<_> = versions.iter().map(|(key, ..)| key).collect();
        assert_eq!(keys, left);
    }
    let request = ListUploads {
        prefix: String::new(),
        delimiter: String::new(),
        key_after: String::new(),
        upload_after: None,
        max: 10,
    };
    let page = replica.state.view().list_uploads(B, &request).unwrap();
    let keys: Vec<_> = page.uploads.iter().map(|upload| &upload.key).collect();
    assert_eq!(keys, left);
}

#[test]
fn b_34_markers_between_objects_never_shorten_or_end_a_listing() {
    let mut replica = TestReplica::with(Versioning::Enabled);
    let mut kept = Vec::new();
    for n in 0..200 {
        let key = format!("d{}/{n:04}", n % 3);
        replica.put(&key);
        if n % 7 == 0 {
            kept.push(key);
        } else {
            replica.delete(&key, None);
            replica.delete(&key, None);
        }
    }
    kept.sort();
    for max in [1, 2, 7, 1000] {
        assert_eq!(replica.list("", "", "", max), entries(&kept, "", "", ""));
        assert_eq!(replica.list("", "/", "", max), entries(&kept, "", "/", ""));
        assert_eq!(
            replica.list("d1/", "/", "", max),
            entries(&kept, "d1/", "/", "")
        );
    }
    replica.check();
}

#[test]
fn s_14_listing_sorts_by_bytes_and_counts_a_common_prefix_once() {
    let mut replica = TestReplica::new();
    let mut keys = [
        "a",
        "a\0b",
        "a/",
        "a/x",
        "a/y/z",
        "a0",
        "ab",
        "é/1",
        "\u{10ffff}",
        "\u{ff21}",
    ]
    .map(String::from)
    .to_vec();
    for key in &keys {
        replica.put(key);
    }
    keys.sort();
    for (prefix, delimiter, after) in [
        ("", "", ""),
        ("", "/", ""),
        ("", "/", "a/"),
        ("", "/", "a/x"),
        ("", "/", "a.zzz"),
        ("a/", "/", ""),
        ("a/", "/", "a/y"),
        ("a/", "/", "b"),
        ("a", "b", "a"),
        ("é", "/", "a"),
        ("", "y/", "a/x"),
    ] {
        for max in 1..4 {
            assert_eq!(
                replica.list(prefix, delimiter, after, max),
                entries(&keys, prefix, delimiter, after),
                "{prefix:?} {delimiter:?} {after:?} {max}"
            );
        }
    }
    let none = ListObjects {
        prefix: String::new(),
        delimiter: String::new(),
        after: String::new(),
        max: 0,
    };
    let page = replica.state.view().list_objects(B, &none).unwrap();
    assert_eq!(page, Default::default());
}

#[test]
fn s_30_a_page_of_versions_begins_in_the_middle_of_a_key() {
    let mut replica = TestReplica::with(Versioning::Enabled);
    let ids: Vec<_> = (0..4).map(|_| replica.put("k")).collect();
    replica.put("k/x");
    replica.put("l");
    let page = |key: &str, version, delimiter: &str| {
        let request = ListVersions {
            prefix: String::new(),
            delimiter: delimiter.into(),
            key_after: key.into(),
            version_after: version,
            max: 2,
        };
        replica.state.view().list_versions(B, &request).unwrap()
    };
    let first = page("", None, "/");
    assert!(first.versions[0].is_latest && !first.versions[1].is_latest);
    assert_eq!(first.next, Some(("k".into(), Some(ids[2]))));
    let second = page("k", Some(ids[2]), "/");
    assert_eq!(second.versions[0].id, ids[1]);
    assert!(second.versions.iter().all(|version| !version.is_latest));
    let third = page("k", Some(ids[0]), "/");
    assert_eq!(third.prefixes, ["k/"]);
    assert!(third.versions[0].is_latest);
    assert_eq!(third.next, None);
    // A page after a key below a common prefix does not repeat that prefix.
    let inside = page("k/x", Some(VersionId::Null), "/");
    assert_eq!((inside.prefixes.len(), inside.versions.len()), (0, 1));
    // The id of a null version that was removed has no order: all versions of the key are listed.
    assert_eq!(page("k", Some(VersionId::Null), "").versions[0].id, ids[3]);
    assert!(page("k", Some(VersionId::Null), "").versions[0].is_latest);
    // The page after a version that was the newest and was removed.
    replica.delete("k", Some(ids[3]));
    let request = ListVersions {
        prefix: String::new(),
        delimiter: String::new(),
        key_after: "k".into(),
        version_after: Some(ids[3]),
        max: 1,
    };
    let page = replica.state.view().list_versions(B, &request).unwrap();
    assert_eq!(
        (page.versions[0].id, page.versions[0].is_latest),
        (ids[2], true)
    );
}
