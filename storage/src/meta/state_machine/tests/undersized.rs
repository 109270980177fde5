//! Undersized writes: their queue, and the command that re-encodes them.

use super::{B, TestReplica};
use crate::meta::command::{Change, NewData, Reencoding, Reply, ShardSwap};
use crate::meta::record::GarbageShard;
use crate::meta::view::DataKind;
use drystone_store::error::Refusal;
use drystone_store::objects::WriteCondition;
use drystone_store::shard_set::{ShardAt, ShardId, ShardPlace, ShardSet};
use drystone_store::types::{DiskId, Epoch, WriteId};

impl TestReplica {
    fn undersized_object(&mut self, key: &str) -> NewData {
        let data = self.undersized(70);
        let put = self.put_data(key, data.clone(), WriteCondition::default());
        assert!(put.is_ok());
        data
    }

    fn set(&self, id: WriteId) -> ShardSet {
        match self.state.view().data(id).unwrap().unwrap().kind {
            DataKind::Shards(set) => set,
            other => panic!("{other:?}"),
        }
    }

    fn waiting(&self) -> Vec<WriteId> {
        self.state.view().undersized_writes(None, 99).unwrap()
    }

    fn all_garbage(&self) -> Vec<GarbageShard> {
        let view = self.state.view();
        let page = view.garbage(None, Epoch(u64::MAX), 99).unwrap();
        page.rows.into_iter().flat_map(|row| row.shards).collect()
    }

    /// Replaces a write's shards by four others, with names of their own.
    pub(super) fn reencoding(&mut self, id: WriteId) -> Reencoding {
        let generation = 1000 + self.next() as u32;
        let place = |disk| ShardPlace {
            disk: DiskId([disk; 16]),
            generation,
            checksum: 9,
            payload_checksum: 600,
            missing: false,
        };
        let old = self.set(id);
        Reencoding {
            write_id: id,
            from: old.places().collect(),
            to: Some(ShardSet {
                data_shards: 2,
                parity_shards: 2,
                undersized: false,
                shards: (0..4).map(place).collect(),
                ..old
            }),
        }
    }
}

fn of(reencoding: &Reencoding) -> ShardSet {
    reencoding.to.clone().unwrap()
}

#[test]
fn b_25_r_23_an_undersized_write_is_queued_by_the_command_that_names_it() {
    let mut replica = TestReplica::new();
    let first = replica.undersized_object("k");
    replica.put("inline");
    assert_eq!(replica.waiting(), [first.write_id]);
    // It is not in the queue of shards, because none of its own is missing.
    assert_eq!(replica.state.view().heals(None, 99).unwrap(), []);
    replica.check();
    // Its row is deleted with the data row, and only then.
    let second = replica.undersized_object("k");
    assert_eq!(replica.waiting(), [second.write_id]);
    assert_eq!(replica.state.view().undersized_count(9).unwrap(), 1);
    let third = replica.undersized_object("other");
    let view = replica.state.view();
    let after = view.undersized_writes(Some(second.write_id), 9).unwrap();
    assert_eq!(after, [third.write_id]);
    assert_eq!(view.undersized_count(1).unwrap(), 1);
    drop(view);
    replica.delete("k", None);
    replica.delete("other", None);
    assert_eq!(replica.waiting(), []);
    replica.check();
}

#[test]
fn r_23_a_reencoded_write_has_the_new_shards_and_gives_all_old_ones_to_gc() {
    let mut replica = TestReplica::new();
    let data = replica.undersized_object("k");
    let id = data.write_id;
    let link = Change::LinkObject {
        bucket: B,
        key: "linked".into(),
        attributes: Default::default(),
        condition: WriteCondition::default(),
        source: id,
        size: data.size,
        etag: super::etag(data.size),
        checksum: None,
        nonce: 1,
    };
    assert!(replica.propose(link).is_ok());
    let rank = |rank| ShardId { write_id: id, rank };
    replica.done(Change::QueueHeal {
        entries: vec![rank(0), rank(2)],
    });
    let old = replica.set(id);
    let reencoding = replica.reencoding(id);
    let command = replica.command(Change::ReencodeData(reencoding.clone()));
    assert_eq!(replica.apply(&command), Ok(Reply::Done));
    // The command is repeated, as after a leader's death.
    assert_eq!(replica.apply(&command), Ok(Reply::Done));
    assert_eq!(replica.set(id), of(&reencoding));
    assert_eq!(replica.waiting(), []);
    assert_eq!(replica.state.view().heals(None, 99).unwrap(), []);
    assert_eq!(replica.all_garbage(), GarbageShard::all_of(&old));
    let view = replica.state.view();
    for (rank, at) in (0..).zip(old.places()) {
        assert!(view.refers_to(id, rank, at).unwrap(), "readers may have it");
    }
    for (rank, at) in (0..).zip(of(&reencoding).places()) {
        assert!(view.refers_to(id, rank, at).unwrap());
        let other = ShardAt {
            generation: 1,
            ..at
        };
        assert!(!view.refers_to(id, rank, other).unwrap());
    }
    drop(view);
    replica.check();
    // Both keys name the same row; all new shards become garbage with the second.
    replica.delete("k", None);
    assert_eq!(replica.set(id), of(&reencoding));
    replica.delete("linked", None);
    assert_eq!(replica.all_garbage().len(), 3 + 4);
    replica.check();
}

#[test]
fn f_24_a_set_that_comes_too_late_is_not_named() {
    let mut replica = TestReplica::new();
    let refused = Err(Refusal::Conflict);
    let id = replica.undersized_object("k").write_id;
    let late = replica.reencoding(id);
    // A shard was healed meanwhile.
    replica.done(Change::SwapShard(ShardSwap {
        write_id: id,
        rank: 1,
        from: late.from[1],
        to: ShardAt {
            disk: DiskId([7; 16]),
            generation: 5,
        },
        checksum: 3,
    }));
    let old = replica.set(id);
    assert!(old.undersized);
    let propose = |replica: &mut TestReplica, reencoding: &Reencoding| {
        replica.propose(Change::ReencodeData(reencoding.clone()))
    };
    assert_eq!(propose(&mut replica, &late), refused);
    // Another re-encoding was faster: the shards that the second one saw are replaced already.
    let (first, second) = (replica.reencoding(id), replica.reencoding(id));
    assert_eq!(propose(&mut replica, &first), Ok(Reply::Done));
    assert_eq!(propose(&mut replica, &second), refused);
    assert_eq!(replica.set(id), of(&first));
    // A heal of a shard that was replaced with the old set.
    let swap = ShardSwap {
        write_id: id,
        rank: 2,
        from: old.shards[2].at(),
        to: ShardAt {
            disk: DiskId([8; 16]),
            generation: 6,
        },
        checksum: 3,
    };
    assert_eq!(replica.propose(Change::SwapShard(swap)), refused);
    // Overwritten, and deleted.
    let id = replica.undersized_object("k").write_id;
    let before = replica.reencoding(id);
    let next = replica.undersized_object("k").write_id;
    assert_eq!(propose(&mut replica, &before), refused);
    let before = replica.reencoding(next);
    replica.delete("k", None);
    assert_eq!(propose(&mut replica, &before), refused);
    replica.check();
    // Its epoch has passed: gc may have removed the new shards.
    let id = replica.undersized_object("k").write_id;
    let slow = replica.reencoding(id);
    let slow = replica.command(Change::ReencodeData(slow));
    for change in [
        Change::RaiseEpoch { to: Epoch(3) },
        Change::RaiseFloor { to: Epoch(3) },
    ] {
        assert!(replica.propose(change).is_ok());
    }
    assert_eq!(replica.apply(&slow), Err(Refusal::EpochBelowFloor));
    assert_eq!(replica.waiting(), [id]);
    replica.check();
}

#[test]
fn r_12_no_set_is_named_that_would_be_worse() {
    let mut replica = TestReplica::new();
    let id = replica.undersized_object("k").write_id;
    let old = replica.set(id);
    let good = replica.reencoding(id);
    let spoiled = |spoil: fn(&mut Vec<ShardPlace>)| {
        let mut reencoding = good.clone();
        spoil(&mut reencoding.to.as_mut().unwrap().shards);
        reencoding
    };
    let worse = [
        spoiled(|shards| shards[3].missing = true),
        spoiled(|shards| shards[3].disk = shards[0].disk),
        spoiled(|shards| shards.truncate(3)),
        spoiled(Vec::clear),
        // A file that the row names already would become garbage at once.
        spoiled(|shards| shards[0].generation = 0),
    ];
    for reencoding in worse {
        let refused = replica.propose(Change::ReencodeData(reencoding.clone()));
        assert_eq!(refused, Err(Refusal::Conflict), "{reencoding:?}");
    }
    let disk = DiskId([3; 16]);
    replica.done(Change::RemoveDisk { disk });
    let refused = replica.propose(Change::ReencodeData(good));
    assert_eq!(refused, Err(Refusal::Conflict));
    assert_eq!((replica.set(id), replica.waiting()), (old, vec![id]));
    assert_eq!(replica.all_garbage(), []);
    replica.check();
}

#[test]
fn r_23_a_write_with_all_shards_of_its_class_leaves_the_queue_and_keeps_its_shards() {
    let mut replica = TestReplica::new();
    let id = replica.undersized_object("k").write_id;
    let entry = ShardId {
        write_id: id,
        rank: 1,
    };
    replica.done(Change::QueueHeal {
        entries: vec![entry],
    });
    let old = replica.set(id);
    let settle = |from| {
        let (write_id, to) = (id, None);
        Change::ReencodeData(Reencoding { write_id, from, to })
    };
    assert_eq!(
        replica.propose(settle(Vec::new())),
        Err(Refusal::Conflict),
        "another set was seen"
    );
    replica.done(settle(old.places().collect()));
    let undersized = false;
    assert_eq!(replica.set(id), ShardSet { undersized, ..old });
    assert_eq!(replica.waiting(), []);
    assert_eq!(replica.state.view().heals(None, 99).unwrap(), [entry]);
    assert_eq!(replica.all_garbage(), []);
    replica.check();
}
