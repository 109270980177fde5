//! Versions, markers, null versions and conditions.

use super::{B, Reply, TestReplica, etag};
use crate::meta::command::{Change, DeleteKey};
use drystone_store::error::{Precondition, Refusal};
use drystone_store::listings::ListObjects;
use drystone_store::objects::{Deleted, ETagCondition, WriteCondition};
use drystone_store::types::VersionId::Null;
use drystone_store::types::{Timestamp, VersionId, VersionSelector, Versioning};

fn marker(id: VersionId) -> Deleted {
    Deleted {
        version_id: Some(id),
        is_marker: true,
    }
}

fn removed(id: VersionId) -> Deleted {
    Deleted {
        version_id: Some(id),
        is_marker: false,
    }
}

#[test]
fn s_13_off_removes_the_object_and_a_missing_key_with_success() {
    let mut replica = TestReplica::new();
    replica.put("k");
    assert_eq!(replica.delete("k", None), Deleted::default());
    assert_eq!(replica.latest("k"), Err(Refusal::NoSuchKey));
    assert_eq!(replica.delete("k", None), Deleted::default());
    assert_eq!(replica.delete("k", Some(Null)), removed(Null));
    assert_eq!(replica.versions("k"), []);
    replica.check();
}

#[test]
fn s_30_enabled_keeps_versions_and_deletes_by_a_marker() {
    let mut replica = TestReplica::with(Versioning::Enabled);
    let (one, two) = (replica.put("k"), replica.put("k"));
    let deleted = replica.delete("k", None);
    let id = deleted.version_id.unwrap();
    assert_eq!(deleted, marker(id));
    assert_eq!(
        replica.versions("k"),
        [(id, true), (two, false), (one, false)]
    );
    let refused = replica.latest("k").unwrap_err();
    assert!(matches!(refused, Refusal::DeleteMarker { id: m, latest: true, .. } if m == id));
    let refused = replica.read("k", VersionSelector::Id(id)).unwrap_err();
    assert!(matches!(
        refused,
        Refusal::DeleteMarker { latest: false, .. }
    ));
    assert_eq!(replica.read("k", VersionSelector::Id(one)), Ok(one));
    assert_eq!(replica.delete("k", Some(id)), marker(id));
    assert_eq!(replica.latest("k"), Ok(two));
    // Deleting a key that never existed makes a marker, too.
    assert!(replica.delete("never", None).is_marker);
    replica.check();
}

#[test]
fn b_32_removing_the_newest_version_makes_the_next_one_current_in_one_step() {
    let mut replica = TestReplica::with(Versioning::Enabled);
    let ids = [replica.put("k"), replica.put("k"), replica.put("k")];
    assert_eq!(replica.delete("k", Some(ids[2])), removed(ids[2]));
    assert_eq!(replica.latest("k"), Ok(ids[1]));
    // Removing an older version does not change the newest.
    assert_eq!(replica.delete("k", Some(ids[0])), removed(ids[0]));
    assert_eq!(replica.latest("k"), Ok(ids[1]));
    assert_eq!(replica.delete("k", Some(ids[1])), removed(ids[1]));
    assert_eq!(replica.latest("k"), Err(Refusal::NoSuchKey));
    // Removing it again is no error.
    assert_eq!(replica.delete("k", Some(ids[1])), removed(ids[1]));
    assert_eq!(
        replica.read("k", VersionSelector::Id(ids[1])),
        Err(Refusal::NoSuchVersion)
    );
    replica.check();
}

#[test]
fn b_31_the_latest_version_is_the_log_s_last_whatever_the_clock_says() {
    let mut replica = TestReplica::with(Versioning::Enabled);
    let early = replica.put("k");
    let data = replica.inline("late");
    let mut command = replica.command(Change::PutObject {
        bucket: B,
        key: "k".into(),
        attributes: Default::default(),
        condition: Default::default(),
        digest: super::digest(4),
        data,
        nonce: 1,
    });
    command.time = Timestamp(-5);
    assert!(replica.apply(&command).is_ok());
    assert_ne!(replica.latest("k"), Ok(early));
    assert_eq!(replica.versions("k")[1], (early, false));
    replica.check();
}

#[test]
fn s_30_an_unversioned_object_stays_as_null_below_later_versions() {
    let mut replica = TestReplica::new();
    replica.put("k");
    replica.set_versioning(Versioning::Enabled);
    let new = replica.put("k");
    assert_eq!(replica.versions("k"), [(new, false), (Null, false)]);
    assert_eq!(replica.read("k", VersionSelector::Id(Null)), Ok(Null));
    replica.set_versioning(Versioning::Suspended);
    // A suspended write replaces the null version wherever it stands, and becomes the newest.
    assert_eq!(replica.put("k"), Null);
    assert_eq!(replica.versions("k"), [(Null, false), (new, false)]);
    replica.check();
}

#[test]
fn s_30_suspended_deletes_replace_the_null_version_by_a_null_marker() {
    let mut replica = TestReplica::with(Versioning::Enabled);
    let kept = replica.put("k");
    replica.set_versioning(Versioning::Suspended);
    replica.put("k");
    assert_eq!(replica.delete("k", None), marker(Null));
    assert_eq!(replica.versions("k"), [(Null, true), (kept, false)]);
    // A null marker is replaced by the next one, or by an object.
    assert_eq!(replica.delete("k", None), marker(Null));
    assert_eq!(replica.versions("k"), [(Null, true), (kept, false)]);
    assert_eq!(replica.put("k"), Null);
    assert_eq!(replica.versions("k"), [(Null, false), (kept, false)]);
    assert_eq!(replica.delete("k", Some(Null)), removed(Null));
    assert_eq!(replica.latest("k"), Ok(kept));
    replica.check();
}

#[test]
fn b_33_repeated_deletes_leave_no_index_entry_and_one_null_version() {
    let mut replica = TestReplica::new();
    replica.put("k");
    replica.set_versioning(Versioning::Suspended);
    for _ in 0..3 {
        replica.delete("k", None);
        replica.put("k");
    }
    assert_eq!(replica.versions("k"), [(Null, false)]);
    // The same key several times in one command: each delete sees the result of the one before.
    let delete = |version, nonce| DeleteKey {
        key: "k".into(),
        version,
        condition: WriteCondition::default(),
        nonce,
    };
    let keys = vec![
        delete(None, 1),
        delete(None, 2),
        delete(Some(Null), 3),
        delete(Some(Null), 4),
    ];
    let answer = replica.propose(Change::DeleteObjects { bucket: B, keys });
    let expected = [marker(Null), marker(Null), marker(Null), removed(Null)];
    assert_eq!(answer, Ok(Reply::Deleted(expected.map(Ok).to_vec())));
    assert_eq!(replica.versions("k"), []);
    replica.check();
}

#[test]
fn markers_of_one_command_have_their_own_orders() {
    let mut replica = TestReplica::with(Versioning::Enabled);
    let keys = (0..3)
        .map(|nonce| DeleteKey {
            key: "k".into(),
            version: None,
            condition: WriteCondition::default(),
            nonce,
        })
        .collect();
    assert!(
        replica
            .propose(Change::DeleteObjects { bucket: B, keys })
            .is_ok()
    );
    assert_eq!(replica.versions("k").len(), 3);
    replica.check();
}

fn if_match(condition: ETagCondition) -> WriteCondition {
    WriteCondition {
        if_match: Some(condition),
        ..WriteCondition::default()
    }
}

fn if_none_match(condition: ETagCondition) -> WriteCondition {
    WriteCondition {
        if_none_match: Some(condition),
        ..WriteCondition::default()
    }
}

#[test]
fn s_17_conditions_are_held_against_the_current_version() {
    use ETagCondition::{Any, OneOf};
    let failed = |which| Some(Refusal::PreconditionFailed(which));
    let (right, wrong) = (OneOf(vec![etag(9), etag(1)]), OneOf(vec![etag(9)]));
    let size = |size| WriteCondition {
        if_match_size: Some(size),
        ..WriteCondition::default()
    };
    let modified = |modified| WriteCondition {
        if_match_modified: Some(Timestamp(modified)),
        ..WriteCondition::default()
    };
    // The version written below has 1 byte and is from second 1003.
    let cases = [
        (if_none_match(Any), None, failed(Precondition::IfNoneMatch)),
        (
            if_none_match(right.clone()),
            None,
            failed(Precondition::IfNoneMatch),
        ),
        (if_none_match(wrong.clone()), None, None),
        (if_match(Any), Some(Refusal::NoSuchKey), None),
        (if_match(right), Some(Refusal::NoSuchKey), None),
        (
            if_match(wrong),
            Some(Refusal::NoSuchKey),
            failed(Precondition::IfMatch),
        ),
        (size(1), None, None),
        (size(2), None, failed(Precondition::IfMatchSize)),
        (modified(1_004_999), None, None),
        (
            modified(1_003_999),
            None,
            failed(Precondition::IfMatchLastModified),
        ),
    ];
    for (condition, without, with) in cases {
        let mut absent = TestReplica::with(Versioning::Enabled);
        assert_eq!(absent.put_if("k", condition.clone()).err(), without);
        let mut present = TestReplica::new();
        present.put("k");
        assert_eq!(present.put_if("k", condition.clone()).err(), with);
        let mut present = TestReplica::new();
        present.put("k");
        let deleted = present.delete_if("k", None, condition.clone());
        assert_eq!(deleted.err(), with, "delete {condition:?}");
        // A marker counts as no version.
        let mut marked = TestReplica::with(Versioning::Enabled);
        marked.put("k");
        marked.delete("k", None);
        assert_eq!(marked.put_if("k", condition.clone()).err(), without);
        let mut absent = TestReplica::new();
        assert_eq!(absent.delete_if("k", None, condition).err(), without);
        for replica in [absent, present, marked] {
            replica.check();
        }
    }
}

#[test]
fn a_delete_of_many_keys_decides_each_alone() {
    let mut replica = TestReplica::new();
    replica.put("a");
    replica.put("b");
    let delete = |key: &str, condition| DeleteKey {
        key: key.into(),
        version: None,
        condition,
        nonce: 0,
    };
    let keys = vec![
        delete("a", if_none_match(ETagCondition::Any)),
        delete("b", WriteCondition::default()),
    ];
    let answer = replica.propose(Change::DeleteObjects { bucket: B, keys });
    let failed = Refusal::PreconditionFailed(Precondition::IfNoneMatch);
    let expected = vec![Err(failed), Ok(Deleted::default())];
    assert_eq!(answer, Ok(Reply::Deleted(expected)));
    assert_eq!(replica.latest("a"), Ok(Null));
    replica.check();
}

#[test]
fn s_16_tags_are_replaced_on_the_version_meant_and_nothing_else_changes() {
    let mut replica = TestReplica::with(Versioning::Enabled);
    let one = replica.put("k");
    let two = replica.put("k");
    let mut tag = |version, value: &str| {
        replica.propose(Change::PutTags {
            bucket: B,
            key: "k".into(),
            version,
            tags: vec![("t".into(), value.into())],
        })
    };
    let tagged = |id| Ok(Reply::Tagged { version_id: id });
    assert_eq!(tag(None, "new"), tagged(Some(two)));
    assert_eq!(tag(Some(one), "old"), tagged(Some(one)));
    assert_eq!(tag(Some(Null), "none"), Err(Refusal::NoSuchVersion));
    let view = replica.state.view();
    let tags = |selector| view.version(B, "k", selector).unwrap().object.unwrap();
    assert_eq!(
        tags(VersionSelector::Latest).attributes.tags[0].1,
        "new".to_owned()
    );
    let old = tags(VersionSelector::Id(one)).attributes.tags;
    assert_eq!(old[0].1, "old".to_owned());
    drop(view);
    let marker = replica.delete("k", None).version_id.unwrap();
    let refused = replica.propose(Change::PutTags {
        bucket: B,
        key: "k".into(),
        version: None,
        tags: vec![],
    });
    assert!(matches!(refused, Err(Refusal::DeleteMarker { id, .. }) if id == marker));
    replica.check();
}

#[test]
fn a_link_shares_bytes_and_its_end_frees_them_once() {
    let mut replica = TestReplica::new();
    let data = replica.sharded(5);
    let source = data.write_id;
    assert!(
        replica
            .put_data("a", data, WriteCondition::default())
            .is_ok()
    );
    let link = |key: &str| Change::LinkObject {
        bucket: B,
        key: key.into(),
        attributes: Default::default(),
        condition: WriteCondition::default(),
        source,
        size: 5,
        etag: etag(5),
        checksum: None,
        nonce: 3,
    };
    assert!(replica.propose(link("b")).is_ok());
    // A link onto itself, as for a change of an object's attributes.
    assert!(replica.propose(link("a")).is_ok());
    replica.check();
    assert_eq!(replica.state.view().data(source).unwrap().unwrap().refs, 2);
    replica.delete("a", None);
    assert_eq!(
        replica
            .state
            .view()
            .garbage(None, super::Epoch(9), 9)
            .unwrap()
            .rows,
        []
    );
    replica.delete("b", None);
    let garbage = replica
        .state
        .view()
        .garbage(None, super::Epoch(9), 9)
        .unwrap()
        .rows;
    assert_eq!(garbage.len(), 1);
    assert_eq!(garbage[0].write_id, source);
    assert_eq!(replica.propose(link("c")), Err(Refusal::Conflict));
    replica.check();
}

#[test]
fn a_sealed_bucket_is_gone_and_only_an_empty_one_can_be_sealed() {
    let mut replica = TestReplica::with(Versioning::Enabled);
    let seal = Change::SealBucket { id: B };
    let id = replica.put("k");
    assert_eq!(replica.propose(seal.clone()), Err(Refusal::BucketNotEmpty));
    let marker = replica.delete("k", None).version_id;
    replica.delete("k", Some(id));
    assert_eq!(replica.propose(seal.clone()), Err(Refusal::BucketNotEmpty));
    replica.delete("k", marker);
    assert_eq!(replica.propose(seal.clone()), Ok(Reply::Done));
    assert_eq!(replica.propose(seal), Err(Refusal::NoSuchBucket));
    let put = replica.put_if("k", WriteCondition::default());
    assert_eq!(put, Err(Refusal::NoSuchBucket));
    let list = ListObjects {
        prefix: String::new(),
        delimiter: String::new(),
        after: String::new(),
        max: 1,
    };
    let listed = super::refusal(replica.state.view().list_objects(B, &list));
    assert_eq!(listed, Err(Refusal::NoSuchBucket));
    let again = Change::CreateBucket {
        id: B,
        name: "b".into(),
        owner: super::owner(),
        location: String::new(),
        settings: Vec::new(),
    };
    assert_eq!(replica.propose(again), Err(Refusal::NoSuchBucket));
    assert_eq!(
        replica.state.view().sealed_buckets(None, 9).unwrap()[0].0,
        B
    );
    let emptied = replica.propose(Change::EmptyBucket { id: B, max: 10 });
    assert_eq!(emptied, Ok(Reply::Emptied { more: false }));
    assert_eq!(replica.state.view().sealed_buckets(None, 9).unwrap(), []);
}
