//! Kept answers, epochs, restarts, and agreement between replicas.

use super::{B, Reply, TestReplica, id, owner};
use crate::db::{Db, DbShared, Family, StateId};
use crate::meta::command::{Change, Command};
use crate::meta::state_machine::State;
use crate::meta::states::delete_state;
use crate::meta::txn::RowReads;
use drystone_store::error::{Error, Refusal};
use drystone_store::objects::WriteCondition;
use drystone_store::shard_set::{ShardAt, ShardId};
use drystone_store::types::{
    Account, AccountId, BucketId, DiskId, Epoch, Timestamp, VersionSelector, Versioning,
};

fn put(replica: &mut TestReplica, condition: WriteCondition) -> Command {
    let data = replica.inline("x");
    replica.command(Change::PutObject {
        bucket: B,
        key: "k".into(),
        attributes: Default::default(),
        condition,
        digest: super::digest(1),
        data,
        nonce: 1,
    })
}

#[test]
fn f_29_a_repeated_command_gets_the_same_answer_and_makes_one_version() {
    let mut replica = TestReplica::with(Versioning::Enabled);
    let only_new = WriteCondition {
        if_none_match: Some(drystone_store::objects::ETagCondition::Any),
        ..WriteCondition::default()
    };
    let command = put(&mut replica, only_new.clone());
    let first = replica.apply(&command);
    assert!(first.is_ok());
    assert_eq!(replica.apply(&command), first);
    assert_eq!(replica.versions("k").len(), 1);
    // A refusal is kept too, even if the command would be decided differently now.
    let refused = put(&mut replica, only_new);
    let first = replica.apply(&refused);
    assert!(matches!(first, Err(Refusal::PreconditionFailed(_))));
    let version = replica.versions("k")[0].0;
    replica.delete("k", Some(version));
    assert_eq!(replica.apply(&refused), first);
    replica.check();
}

#[test]
fn bytes_are_committed_once() {
    let mut replica = TestReplica::with(Versioning::Enabled);
    let command = put(&mut replica, WriteCondition::default());
    assert!(replica.apply(&command).is_ok());
    let other = replica.command(command.change);
    assert_eq!(replica.apply(&other), Err(Refusal::Conflict));
    replica.check();
}

#[test]
fn replicas_come_to_the_same_rows() {
    let rows = || {
        let mut replica = TestReplica::with(Versioning::Enabled);
        for key in ["a", "b", "a"] {
            replica.put(key);
            replica.delete(key, None);
        }
        let view = replica.state.view();
        view.scan(&view.keys().state(), usize::MAX).unwrap()
    };
    assert_eq!(rows(), rows());
}

#[test]
fn b_62_the_changes_of_a_state_are_known_by_their_checksum() {
    let mut one = TestReplica::new();
    let mut other = TestReplica::on(&one.db, StateId(2));
    let changes = |replica: &TestReplica| replica.state.changes().unwrap();
    let mut seen = Vec::new();
    for n in 0..3 {
        let command = put(&mut one, WriteCondition::default());
        for replica in [&mut one, &mut other] {
            replica.apply(&command).ok();
        }
        assert_eq!(changes(&one), changes(&other), "{n}");
        seen.extend(changes(&one));
    }
    // Each command counts, also one that is refused.
    seen.dedup();
    assert_eq!(seen.len(), 3);
    // What comes to the same rows in another way is another history.
    let late = put(&mut one, WriteCondition::default());
    one.apply(&late).ok();
    assert_ne!(changes(&one), changes(&other));
}

/// An earlier version of the program wrote the state: what it changed is not known.
#[test]
fn f_36_a_state_without_a_checksum_gets_none() {
    let mut replica = TestReplica::new();
    let command = put(&mut replica, WriteCondition::default());
    replica.apply(&command).ok();
    let keys = replica.state.view().keys();
    let mut batch = rocksdb::WriteBatch::default();
    batch.delete_cf(replica.db.family(Family::State), keys.changes());
    replica.db.write_unsynced(batch).unwrap();
    let command = put(&mut replica, WriteCondition::default());
    replica.apply(&command).ok();
    assert_eq!(replica.state.changes().unwrap(), None);
}

#[test]
fn commands_below_the_floor_are_refused() {
    let mut replica = TestReplica::new();
    let command = put(&mut replica, WriteCondition::default());
    assert!(replica.apply(&command).is_ok());
    let raised = replica.propose(Change::RaiseEpoch { to: Epoch(3) });
    let epochs = |epoch, floor| {
        Ok(Reply::Epochs {
            epoch: Epoch(epoch),
            floor: Epoch(floor),
        })
    };
    assert_eq!(raised, epochs(3, 0));
    let above = replica.propose(Change::RaiseFloor { to: Epoch(4) });
    assert_eq!(above, epochs(3, 0), "the floor stays at or below the epoch");
    assert_eq!(
        replica.propose(Change::RaiseFloor { to: Epoch(2) }),
        epochs(3, 2)
    );
    assert_eq!(replica.apply(&command), Err(Refusal::EpochBelowFloor));
    // Commands of the group's own upkeep are accepted with any epoch.
    assert_eq!(
        replica.propose(Change::RaiseEpoch { to: Epoch(4) }),
        epochs(4, 2)
    );
}

/// Once one slow reader kept every answer, because it held the floor.
#[test]
fn f_29_answers_are_kept_and_dropped_by_their_own_limit() {
    let mut replica = TestReplica::new();
    let command = put(&mut replica, WriteCondition::default());
    let first = replica.apply(&command);
    assert!(first.is_ok());
    let late = put(&mut replica, WriteCondition::default());
    assert!(replica.propose(Change::RaiseEpoch { to: Epoch(3) }).is_ok());
    let drop_below = |replica: &mut TestReplica, epoch| {
        let dropped = replica.propose(Change::DropAnswers {
            issued_below: Epoch(epoch),
            finished_ms: 0,
            max: 9,
        });
        assert_eq!(dropped, Ok(Reply::Dropped { more: false }));
    };
    let answers = |replica: &TestReplica| {
        let view = replica.state.view();
        let rows = view.scan(&view.keys().answers_below(Epoch(u64::MAX)), 99);
        rows.unwrap().len()
    };
    let before = answers(&replica);
    assert!(replica.propose(Change::RaiseFloor { to: Epoch(0) }).is_ok());
    drop_below(&mut replica, 4);
    assert_eq!(
        answers(&replica),
        before,
        "no epoch is dropped before it is over"
    );
    assert_eq!(replica.apply(&command), first);
    // A reader holds epoch 0, and the floor with it.
    drop_below(&mut replica, 1);
    assert_eq!(answers(&replica), 0);
    // Whether these were carried out is not known any more.
    for command in [&command, &late] {
        assert_eq!(replica.apply(command), Err(Refusal::EpochBelowFloor));
    }
    // A write that began long ago commits, as the floor allows, if it is issued now.
    let mut slow = put(&mut replica, WriteCondition::default());
    slow.issued = Epoch(3);
    let done = replica.apply(&slow);
    assert!(slow.epoch == Epoch(0) && done.is_ok());
    assert_eq!(replica.apply(&slow), done);
    replica.check();
}

/// Once the newer of two versions was shown as the older one, after the clock was set back.
#[test]
fn f_20_r_14_time_never_goes_back() {
    let mut replica = TestReplica::with(Versioning::Enabled);
    let mut times = Vec::new();
    for time in [5_000_000, 4_000_000, 5_000_001, i64::MIN] {
        let mut command = put(&mut replica, WriteCondition::default());
        command.time = Timestamp(time);
        match replica.apply(&command) {
            Ok(Reply::Written { modified, .. }) => times.push(modified.0),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(times, [5_000_000, 5_000_000, 5_000_001, 5_000_001]);
    // The clock is part of the state, and a refused command moves it, too.
    let mut refused = replica.command(Change::SealBucket { id: B });
    refused.time = Timestamp(6_000_000);
    assert_eq!(replica.apply(&refused), Err(Refusal::BucketNotEmpty));
    let clock = replica.state.view().epochs().unwrap().clock;
    assert_eq!(clock, Timestamp(6_000_000));
}

fn at(disk: u8) -> ShardAt {
    ShardAt {
        disk: DiskId([disk; 16]),
        generation: 0,
    }
}

#[test]
fn last_references_go_into_garbage_of_the_epoch_that_is() {
    let mut replica = TestReplica::new();
    let data = replica.sharded(70);
    let write_id = data.write_id;
    assert!(
        replica
            .put_data("k", data, WriteCondition::default())
            .is_ok()
    );
    let view = replica.state.view();
    let entry = ShardId { write_id, rank: 2 };
    assert_eq!(view.heals(None, 9).unwrap(), std::slice::from_ref(&entry));
    assert_eq!(view.heals(Some(entry), 9).unwrap(), []);
    drop(view);
    assert!(replica.propose(Change::RaiseEpoch { to: Epoch(5) }).is_ok());
    replica.delete("k", None);
    let view = replica.state.view();
    assert_eq!(view.heals(None, 9).unwrap(), []);
    assert_eq!(view.garbage(None, Epoch(5), 9).unwrap().rows, []);
    let garbage = view.garbage(None, Epoch(6), 9).unwrap().rows;
    assert_eq!((garbage[0].epoch, garbage[0].bucket), (Epoch(5), B));
    // Readers that began before may still read it; the same shard on another disk has no name.
    assert!(view.refers_to(write_id, 1, at(1)).unwrap());
    assert!(!view.refers_to(write_id, 1, at(2)).unwrap());
    drop(view);
    assert!(replica.propose(Change::RaiseEpoch { to: Epoch(6) }).is_ok());
    assert!(replica.propose(Change::RaiseFloor { to: Epoch(6) }).is_ok());
    let refers = |replica: &TestReplica| {
        let view = replica.state.view();
        view.refers_to(write_id, 1, at(1)).unwrap()
    };
    assert!(!refers(&replica));
    replica.done(Change::ForgetGarbage {
        entries: vec![(Epoch(5), write_id)],
    });
    let view = replica.state.view();
    assert_eq!(view.garbage(None, Epoch(9), 9).unwrap().rows, []);
}

#[test]
fn only_shards_that_are_named_are_queued_for_healing() {
    let mut replica = TestReplica::new();
    let data = replica.sharded(70);
    let entry = |write_id, rank| ShardId { write_id, rank };
    let named = entry(data.write_id, 0);
    assert!(
        replica
            .put_data("k", data, WriteCondition::default())
            .is_ok()
    );
    let entries = vec![named, entry(named.write_id, 3), entry(id(999), 0)];
    replica.done(Change::QueueHeal { entries });
    let queue = replica.state.view().heals(None, 9).unwrap();
    assert_eq!(queue, [named, entry(named.write_id, 2)]);
}

#[test]
fn names_are_reserved_made_active_and_released() {
    let mut replica = TestReplica::new();
    let reserve = |name: &str, owner: AccountId| Change::ReserveBucket {
        name: name.into(),
        owner,
    };
    let reserved = |n| Ok(Reply::Reserved { id: BucketId(n) });
    assert_eq!(replica.propose(reserve("one", owner())), reserved(1));
    // Interrupted here, the creation is finished by its owner, under the same id, and by nobody
    // else.
    assert_eq!(replica.propose(reserve("one", owner())), reserved(1));
    let other = AccountId("2".into());
    let taken = Err(Refusal::BucketExists { owner: owner() });
    assert_eq!(replica.propose(reserve("one", other.clone())), taken);
    assert_eq!(replica.state.view().bucket_id("one").unwrap(), None);
    let activate = |id| Change::ActivateBucket {
        name: "one".into(),
        id: BucketId(id),
    };
    assert_eq!(replica.propose(activate(2)), Err(Refusal::NoSuchBucket));
    replica.done(activate(1));
    let found = replica.state.view().bucket_id("one").unwrap();
    assert_eq!(found, Some(BucketId(1)));
    assert_eq!(replica.propose(reserve("one", owner())), taken);
    assert_eq!(replica.propose(reserve("two", other.clone())), reserved(2));
    let names = |prefix: &str, after: &str, owner: Option<&AccountId>| {
        let names = replica.state.view().list_names(prefix, after, 9, owner);
        names
            .unwrap()
            .into_iter()
            .map(|n| n.name)
            .collect::<Vec<_>>()
    };
    assert_eq!(names("", "", None), ["one"]);
    assert_eq!(names("", "one", None), [""; 0]);
    assert_eq!(names("t", "", None), [""; 0]);
    assert_eq!(names("o", "a", Some(&owner())), ["one"]);
    assert_eq!(names("o", "z", None), [""; 0]);
    assert_eq!(names("", "", Some(&other)), [""; 0]);
    // The release of another id does not free the name; its own does, and the id is not used again.
    let release = |id| Change::ReleaseBucket {
        name: "one".into(),
        id: BucketId(id),
    };
    replica.done(release(7));
    assert!(replica.state.view().name("one").unwrap().is_some());
    replica.done(release(1));
    assert_eq!(replica.propose(reserve("one", other)), reserved(3));
}

#[test]
fn accounts_and_settings_are_kept() {
    let mut replica = TestReplica::new();
    let account = Account {
        id: owner(),
        canonical_id: "ab".into(),
        display_name: "me".into(),
    };
    replica.done(Change::PutAccount(account.clone()));
    assert_eq!(
        replica.state.view().account(&owner()).unwrap(),
        Some(account)
    );
    let setting = drystone_store::types::BucketSetting::Tagging;
    let mut put = |document: Option<&[u8]>| {
        replica.done(Change::PutBucketSetting {
            bucket: B,
            setting,
            document: document.map(<[u8]>::to_vec),
        });
        let bucket = replica.state.view().bucket(B).unwrap();
        bucket.setting(setting).map(<[u8]>::to_vec)
    };
    assert_eq!(put(Some(b"doc")), Some(b"doc".to_vec()));
    assert_eq!(put(None), None);
}

#[test]
fn versioning_never_goes_back_to_off() {
    let mut replica = TestReplica::with(Versioning::Enabled);
    let off = replica.propose(Change::SetVersioning {
        bucket: B,
        versioning: Versioning::Off,
    });
    assert_eq!(off, Err(Refusal::Conflict));
}

#[test]
fn a_restart_finds_what_was_applied_and_goes_on() {
    let mut replica = TestReplica::with(Versioning::Enabled);
    let version = replica.put("k");
    let dir = replica.dir.take().unwrap();
    let (index, serial) = (replica.index, replica.serial);
    replica.db.close();
    drop(replica);
    let db = Db::open(dir.path(), &DbShared::system()).unwrap();
    let state = State::new(db.clone(), StateId(1));
    let keys = crate::meta::keys::Keys(StateId(1));
    let applied = state.view().raw(&keys.applied()).unwrap();
    assert_eq!(applied, Some(index.to_be_bytes().to_vec()));
    let mut replica = TestReplica {
        db,
        state,
        index,
        serial,
        epoch: Epoch(0),
        dir: Some(dir),
    };
    assert_eq!(replica.latest("k"), Ok(version));
    let value = {
        let view = replica.state.view();
        let found = view.version(B, "k", VersionSelector::Latest).unwrap();
        view.value(found.object.unwrap().write_id).unwrap()
    };
    assert_eq!(value, b"k");
    replica.put("k");
    replica.check();
}

#[test]
fn a_destroyed_state_takes_nothing_of_its_neighbours() {
    let mut replica = TestReplica::new();
    replica.put("k");
    let mut other = TestReplica::on(&replica.db, StateId(2));
    other.put("k");
    delete_state(&replica.db, StateId(1)).unwrap();
    for family in [Family::State, Family::Values] {
        let range = crate::meta::keys::Keys(StateId(1)).state();
        let mut rows = replica
            .db
            .rocks()
            .raw_iterator_cf_opt(replica.db.family(family), crate::meta::txn::bounded(&range));
        rows.seek_to_first();
        assert!(!rows.valid());
    }
    assert!(other.latest("k").is_ok());
    other.check();
}

#[test]
fn a_row_that_does_not_decode_is_an_error_for_what_needs_it_alone() {
    let mut replica = TestReplica::new();
    replica.put("bad");
    replica.put("good");
    let keys = crate::meta::keys::Keys(StateId(1));
    let state = replica.db.family(Family::State);
    let current = keys.current(B, "bad");
    replica.db.rocks().put_cf(state, current, b"\x01?").unwrap();
    let view = replica.state.view();
    let read = view.version(B, "bad", VersionSelector::Latest);
    assert!(matches!(read, Err(Error::BadRow(_))));
    assert!(replica.latest("good").is_ok());
}
