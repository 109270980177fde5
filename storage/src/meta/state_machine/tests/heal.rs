//! Replacements of shards and their refusals, the heal queue, and removed disks.

use super::{B, TestReplica, id};
use crate::db::Family;
use crate::meta::command::{Change, NewData, Reply, ScrubState, ShardSwap};
use crate::meta::record::GarbageShard;
use crate::meta::txn::RowReads as _;
use crate::meta::view::DataKind;
use drystone_store::error::Refusal;
use drystone_store::objects::WriteCondition;
use drystone_store::shard_set::{ShardAt, ShardId};
use drystone_store::types::{DiskId, Epoch, Timestamp, WriteId};

const FRESH: DiskId = DiskId([9; 16]);

fn at(disk: DiskId, generation: u32) -> ShardAt {
    ShardAt { disk, generation }
}

impl TestReplica {
    fn sharded_object(&mut self, key: &str) -> NewData {
        let data = self.sharded(70);
        let put = self.put_data(key, data.clone(), WriteCondition::default());
        assert!(put.is_ok());
        data
    }

    fn place(&self, id: WriteId, rank: usize) -> (ShardAt, u64, bool) {
        match self.state.view().data(id).unwrap().unwrap().kind {
            DataKind::Shards(set) => {
                let place = &set.shards[rank];
                (place.at(), place.checksum, place.missing)
            }
            other => panic!("{other:?}"),
        }
    }

    fn queue(&self) -> Vec<ShardId> {
        self.state.view().heals(None, 99).unwrap()
    }

    fn garbage(&self) -> Vec<GarbageShard> {
        let view = self.state.view();
        let page = view.garbage(None, Epoch(u64::MAX), 99).unwrap();
        page.rows.into_iter().flat_map(|row| row.shards).collect()
    }

    fn swap(&self, id: WriteId, rank: u8, to: ShardAt) -> ShardSwap {
        ShardSwap {
            write_id: id,
            rank,
            from: self.place(id, usize::from(rank)).0,
            to,
            checksum: 77,
        }
    }
}

#[test]
fn r_12_a_swap_names_the_new_shard_and_gives_the_old_one_to_gc_in_one_step() {
    let mut replica = TestReplica::new();
    let data = replica.sharded_object("k");
    let entry = ShardId {
        write_id: data.write_id,
        rank: 2,
    };
    assert_eq!(replica.queue(), [entry]);
    let swap = replica.swap(data.write_id, 2, at(FRESH, 1));
    let command = replica.command(Change::SwapShard(swap));
    assert_eq!(replica.apply(&command), Ok(Reply::Done));
    // The command is repeated, as after a leader's death.
    assert_eq!(replica.apply(&command), Ok(Reply::Done));
    assert_eq!(replica.place(data.write_id, 2), (at(FRESH, 1), 77, false));
    assert_eq!(replica.queue(), []);
    let old = GarbageShard {
        rank: 2,
        at: swap.from,
    };
    assert_eq!(replica.garbage(), [old]);
    let view = replica.state.view();
    let refers = |at| view.refers_to(data.write_id, 2, at).unwrap();
    assert!(refers(swap.to) && refers(swap.from), "readers may have it");
    assert!(!refers(at(FRESH, 2)), "another try's file is an orphan");
    drop(view);
    // A deletion in the same epoch adds the new ones to the garbage.
    replica.delete("k", None);
    let garbage = replica.garbage();
    assert_eq!(garbage.len(), 1 + 3);
    assert!(
        garbage.contains(&old)
            && garbage.contains(&GarbageShard {
                rank: 2,
                at: swap.to
            })
    );
    replica.check();
}

#[test]
fn f_24_a_swap_that_comes_too_late_changes_nothing() {
    let mut replica = TestReplica::new();
    let data = replica.sharded_object("k");
    let refused = Err(Refusal::Conflict);
    let late = replica.swap(data.write_id, 2, at(FRESH, 1));
    // Another heal was faster.
    let faster = replica.swap(data.write_id, 2, at(DiskId([8; 16]), 1));
    replica.done(Change::SwapShard(faster));
    assert_eq!(replica.propose(Change::SwapShard(late)), refused);
    assert_eq!(replica.place(data.write_id, 2).0, faster.to);
    // A disk that has another shard of the same write.
    let (other, ..) = replica.place(data.write_id, 0);
    let doubled = replica.swap(data.write_id, 1, at(other.disk, 1));
    assert_eq!(replica.propose(Change::SwapShard(doubled)), refused);
    // No such rank.
    let rank = ShardSwap { rank: 3, ..late };
    assert_eq!(replica.propose(Change::SwapShard(rank)), refused);
    // The write was deleted meanwhile, or overwritten.
    let before = replica.swap(data.write_id, 1, at(FRESH, 1));
    replica.sharded_object("k");
    assert_eq!(replica.propose(Change::SwapShard(before)), refused);
    // Its epoch has passed: gc may have removed the new shard.
    let data = replica.sharded_object("k");
    let slow = replica.swap(data.write_id, 1, at(FRESH, 1));
    let slow = replica.command(Change::SwapShard(slow));
    for change in [
        Change::RaiseEpoch { to: Epoch(3) },
        Change::RaiseFloor { to: Epoch(3) },
    ] {
        assert!(replica.propose(change).is_ok());
    }
    assert_eq!(replica.apply(&slow), Err(Refusal::EpochBelowFloor));
    replica.check();
}

#[test]
fn b_12_an_entry_is_settled_only_while_its_shard_is_the_one_that_was_seen() {
    let mut replica = TestReplica::new();
    let data = replica.sharded_object("k");
    let entry = |rank| ShardId {
        write_id: data.write_id,
        rank,
    };
    let entries = (0..3).map(entry).collect();
    replica.done(Change::QueueHeal { entries });
    let seen =
        |replica: &TestReplica, rank| (entry(rank), replica.place(data.write_id, rank.into()).0);
    let all: Vec<_> = (0..3).map(|rank| seen(&replica, rank)).collect();
    // Rank 0 was replaced since, and rank 2 was never written.
    let swap = replica.swap(data.write_id, 0, at(FRESH, 1));
    replica.done(Change::SwapShard(swap));
    replica.done(Change::QueueHeal {
        entries: vec![entry(0)],
    });
    replica.done(Change::SettleHeals { entries: all });
    assert_eq!(replica.queue(), [entry(0), entry(2)]);
    let now = vec![seen(&replica, 0)];
    replica.done(Change::SettleHeals { entries: now });
    assert_eq!(replica.queue(), [entry(2)]);
}

#[test]
fn b_16_all_shards_of_a_removed_disk_are_queued_in_steps_that_a_crash_does_not_undo() {
    let mut replica = TestReplica::new();
    for n in 0..5 {
        replica.sharded_object(&format!("k{n}"));
    }
    replica.put("inline");
    let disk = DiskId([0; 16]);
    let step = Change::QueueDisk { disk, max: 2 };
    let queued = |shards, more| Ok(Reply::Queued { shards, more });
    assert_eq!(
        replica.propose(step.clone()),
        queued(0, false),
        "not removed"
    );
    assert_eq!(replica.state.view().removed_disks().unwrap(), []);
    replica.done(Change::RemoveDisk { disk });
    replica.done(Change::RemoveDisk { disk });
    assert_eq!(
        replica.state.view().removed_disks().unwrap(),
        [(disk, false)]
    );
    let before = replica.queue().len();
    // Six data rows, one of them inline.
    let mut shards = 0;
    for more in [true, true, true, false] {
        match replica.propose(step.clone()) {
            Ok(Reply::Queued { shards: n, more: m }) if m == more => shards += n,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(shards, 5);
    assert_eq!(replica.queue().len(), before + 5);
    assert_eq!(
        replica.state.view().removed_disks().unwrap(),
        [(disk, true)]
    );
    assert_eq!(replica.propose(step), queued(0, false));
    // A write in progress with a shard there queues it; no shard can be moved there.
    let late = replica.sharded_object("late");
    let entry = ShardId {
        write_id: late.write_id,
        rank: 0,
    };
    assert!(replica.queue().contains(&entry));
    replica.done(Change::SettleHeals {
        entries: vec![(entry, at(disk, 0))],
    });
    assert!(replica.queue().contains(&entry), "it is not whole there");
    let swap = replica.swap(late.write_id, 1, at(disk, 1));
    let refused = replica.propose(Change::SwapShard(swap));
    assert_eq!(refused, Err(Refusal::Conflict));
    replica.check();
}

#[test]
fn f_40_a_poisoned_cursor_of_scrub_is_as_good_as_none() {
    let mut replica = TestReplica::new();
    assert_eq!(replica.state.view().scrub(), None);
    let data = replica.sharded_object("k");
    let state = ScrubState {
        started: Timestamp(1),
        after: Some(data.write_id),
        shards: 2,
        findings: 1,
        finished: None,
    };
    replica.done(Change::NoteScrub(state));
    assert_eq!(replica.state.view().scrub(), Some(state));
    let view = replica.state.view();
    let (rows, last) = view.shard_sets(None, 9).unwrap();
    assert_eq!(
        (rows.len(), rows[0].entry.write_id, last),
        (1, data.write_id, None)
    );
    assert_eq!(view.shard_sets(None, 1).unwrap().1, Some(data.write_id));
    assert!(
        view.shard_sets(Some(data.write_id), 9)
            .unwrap()
            .0
            .is_empty()
    );
    let key = view.keys().scrub();
    drop(view);
    let family = replica.db.family(Family::State);
    replica.db.rocks().put_cf(family, key, b"poison").unwrap();
    assert_eq!(replica.state.view().scrub(), None);
}

#[test]
fn r_23_the_queue_shows_how_much_waits_and_since_when() {
    let mut replica = TestReplica::new();
    let data = replica.sharded_object("a");
    let entry = ShardId {
        write_id: data.write_id,
        rank: 0,
    };
    let first = replica.state.view().heal_queue(9).unwrap();
    assert_eq!((first.shards, first.writes, first.more), (1, 1, false));
    // An entry that is queued again keeps its time.
    replica.sharded_object("b");
    replica.done(Change::QueueHeal {
        entries: vec![entry, ShardId { rank: 2, ..entry }],
    });
    let queue = replica.state.view().heal_queue(9).unwrap();
    assert_eq!((queue.shards, queue.writes, queue.more), (3, 2, false));
    assert_eq!(queue.oldest, first.oldest);
    assert!(queue.oldest > Some(Timestamp(0)));
    assert!(replica.state.view().heal_queue(2).unwrap().more);
    assert_eq!(
        replica
            .state
            .view()
            .shard_to_heal(entry)
            .unwrap()
            .unwrap()
            .bucket,
        B
    );
    let nobody = ShardId {
        write_id: id(999),
        rank: 0,
    };
    assert!(
        replica
            .state
            .view()
            .shard_to_heal(nobody)
            .unwrap()
            .is_none()
    );
}
