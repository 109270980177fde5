//! Rows that do not decode, rows of newer versions, and contradictions.

use super::{B, Reply, TestReplica, id};
use crate::db::{Family, StateId};
use crate::meta::command::{Change, DeleteKey};
use crate::meta::keys::Keys;
use crate::meta::record::{Record, UsageRow};
use crate::meta::txn::RowReads;
use drystone_store::error::{Error, Refusal};
use drystone_store::listings::ListObjects;
use drystone_store::objects::WriteCondition;
use drystone_store::shard_set::{ShardAt, ShardId};
use drystone_store::types::{AccountId, BucketId, DiskId, Epoch, VersionId, Versioning};

const KEYS: Keys = Keys(StateId(1));

impl TestReplica {
    fn write(&self, key: &[u8], value: &[u8]) {
        let state = self.db.family(Family::State);
        self.db.rocks().put_cf(state, key, value).unwrap();
    }

    /// Returns all rows but those that each command changes.
    fn rows(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let view = self.state.view();
        let mut rows = view.scan(&KEYS.state(), usize::MAX).unwrap();
        let answers = KEYS.answers_below(Epoch(u64::MAX));
        rows.retain(|(key, _)| {
            let is_answer = *key >= answers.from && *key < answers.to;
            let own = [KEYS.applied(), KEYS.epochs(), KEYS.changes()];
            !is_answer && !own.contains(key)
        });
        rows
    }

    fn data_of(&self, key: &str) -> Vec<u8> {
        let latest = drystone_store::types::VersionSelector::Latest;
        let version = self.state.view().version(B, key, latest).unwrap();
        KEYS.data(version.object.unwrap().write_id)
    }
}

const NOT_A_ROW: &[u8] = b"\x01\xff\xff";
const NEWER: &[u8] = b"\x63?";

/// Once one bad row ended every replica of the group at the same entry, and each marked the disks
/// of the others as damaged.
#[test]
fn b_11_r_15_a_command_over_a_row_that_does_not_decode_is_refused_and_changes_nothing() {
    let mut replica = TestReplica::new();
    for key in ["a", "bad", "c"] {
        replica.put(key);
    }
    let data = replica.data_of("bad");
    replica.write(&data, NOT_A_ROW);
    let before = replica.rows();
    let refused = Err(Refusal::BadRow);
    assert_eq!(replica.put_if("bad", WriteCondition::default()), refused);
    let deleted = replica.delete_if("bad", None, WriteCondition::default());
    assert_eq!(deleted, Err(Refusal::BadRow));
    assert_eq!(replica.rows(), before);
    // Another key of the same request is deleted.
    let keys = ["a", "bad", "c"].map(|key| DeleteKey {
        key: key.into(),
        version: None,
        condition: WriteCondition::default(),
        nonce: 1,
    });
    let deleted = replica.propose(Change::DeleteObjects {
        bucket: B,
        keys: keys.into(),
    });
    let Ok(Reply::Deleted(answers)) = deleted else {
        panic!("{deleted:?}");
    };
    let refusals: Vec<_> = answers.into_iter().map(Result::err).collect();
    assert_eq!(refusals, [None, Some(Refusal::BadRow), None]);
    assert!(
        replica.latest("bad").is_ok(),
        "it is listed and shown as before"
    );
    assert_eq!(replica.latest("a"), Err(Refusal::NoSuchKey));
    // The answer to a refused command is kept like any other.
    let again = replica.command(Change::SealBucket { id: B });
    replica.write(&KEYS.usage(B), NOT_A_ROW);
    assert_eq!(replica.apply(&again), Err(Refusal::BadRow));
    let usage = UsageRow {
        objects: 1,
        ..UsageRow::default()
    };
    replica.write(&KEYS.usage(B), &usage.encode());
    assert_eq!(replica.apply(&again), Err(Refusal::BadRow));
}

#[test]
fn f_36_a_row_of_a_newer_version_stops_the_replica() {
    let mut replica = TestReplica::new();
    replica.put("k");
    let version = KEYS.versions_of(B, "k");
    let (row, _) = replica.state.view().scan(&version, 1).unwrap().remove(0);
    replica.write(&row, NEWER);
    let data = replica.inline("k");
    let put = replica.command(Change::PutObject {
        bucket: B,
        key: "k".into(),
        attributes: Default::default(),
        condition: WriteCondition::default(),
        digest: super::digest(1),
        data,
        nonce: 1,
    });
    let applied = replica.state.apply(replica.index + 1, &put, &[]);
    assert!(matches!(applied, Err(Error::Unfit(_))), "{applied:?}");
    assert!(replica.db.failure().borrow().is_none(), "its disk works");
}

/// Once the counts wrapped around in a release, and panicked in other builds.
#[test]
fn r_32_a_count_below_zero_stops_the_replica() {
    let mut replica = TestReplica::new();
    replica.put("k");
    replica.write(&KEYS.usage(B), &UsageRow::default().encode());
    let keys = vec![DeleteKey {
        key: "k".into(),
        version: None,
        condition: WriteCondition::default(),
        nonce: 1,
    }];
    let delete = replica.command(Change::DeleteObjects { bucket: B, keys });
    let applied = replica.state.apply(replica.index + 1, &delete, &[]);
    assert!(matches!(applied, Err(Error::Unfit(_))), "{applied:?}");
    assert!(replica.db.failure().borrow().is_none());
}

/// Once one such row stopped gc for good, each start, and the list of all buckets.
#[test]
fn b_11_r_15_reads_of_upkeep_leave_out_rows_that_do_not_decode() {
    let mut replica = TestReplica::new();
    let placed = |replica: &mut TestReplica, key: &str| {
        let data = replica.sharded(70);
        let id = data.write_id;
        let put = replica.put_data(key, data, WriteCondition::default());
        assert!(put.is_ok());
        id
    };
    let ids = ["a", "b", "c"].map(|key| placed(&mut replica, key));
    for key in ["a", "b", "c"] {
        replica.delete(key, None);
    }
    replica.write(&KEYS.garbage(Epoch(0), ids[1]), NOT_A_ROW);
    let view = replica.state.view();
    let page = view.garbage(None, Epoch(9), 2).unwrap();
    assert_eq!((page.rows.len(), page.last), (1, Some((Epoch(0), ids[1]))));
    let rest = view.garbage(page.last, Epoch(9), 9).unwrap();
    assert_eq!(
        (rest.rows[0].write_id, rest.last),
        (ids[2], Some((Epoch(0), ids[2])))
    );
    // Whether the bad row names this shard is not known, so it stays.
    let at = ShardAt {
        disk: DiskId([0; 16]),
        generation: 0,
    };
    assert!(view.refers_to(ids[1], 0, at).unwrap());
    assert!(!view.refers_to(id(77), 0, at).unwrap());
    drop(view);

    let named = placed(&mut replica, "d");
    let bad = placed(&mut replica, "e");
    replica.write(&KEYS.data(bad), NOT_A_ROW);
    let entries = [bad, named].map(|write_id| ShardId { write_id, rank: 0 });
    replica.done(Change::QueueHeal {
        entries: entries.into(),
    });
    let queue = replica.state.view().heals(None, 9).unwrap();
    assert!(queue.contains(&entries[1]));

    replica.write(&KEYS.bucket(BucketId(9)), NOT_A_ROW);
    replica.write(&KEYS.name("bad"), NOT_A_ROW);
    replica.write(&KEYS.disk(DiskId([9; 16])), NOT_A_ROW);
    replica.write(&KEYS.over_quota(BucketId(9)), NOT_A_ROW);
    let disks = vec![9, 8]
        .into_iter()
        .map(|n| (DiskId([n; 16]), "/d".into()));
    replica.done(Change::RegisterDisks {
        disks: disks.collect(),
    });
    let view = replica.state.view();
    assert_eq!(view.sealed_buckets(None, 9).unwrap(), []);
    assert_eq!(view.list_names("", "", 9, None).unwrap(), []);
    assert_eq!(view.over_quotas(9).unwrap(), []);
    let known: Vec<_> = view
        .disks()
        .unwrap()
        .into_iter()
        .map(|(disk, _)| disk)
        .collect();
    assert_eq!(known, [DiskId([8; 16])]);
    let listed = view.list_objects(
        B,
        &ListObjects {
            prefix: String::new(),
            delimiter: String::new(),
            after: String::new(),
            max: 9,
        },
    );
    assert_eq!(listed.unwrap().objects.len(), 2);
}

#[test]
fn a_reservation_over_a_bad_name_is_refused() {
    let mut replica = TestReplica::with(Versioning::Enabled);
    assert_ne!(replica.put("k"), VersionId::Null);
    replica.write(&KEYS.name("bad"), NOT_A_ROW);
    let reserve = |name: &str| Change::ReserveBucket {
        name: name.into(),
        owner: AccountId("1".into()),
    };
    assert_eq!(replica.propose(reserve("bad")), Err(Refusal::BadRow));
    assert!(replica.propose(reserve("good")).is_ok());
}
