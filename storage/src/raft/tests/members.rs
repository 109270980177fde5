//! Whole groups on several disks of one process, and the failures that they survive.

use std::time::Instant;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newborn_group_is_ready_at_once_and_reads_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let (disks, groups) = newborn(dir.path(), 4).await;
    groups.objects.ready().await.unwrap();
    groups.system.ready().await.unwrap();
    for n in 0..50 {
        groups
            .objects
            .propose(put("a", &n.to_string()))
            .await
            .unwrap();
        assert_eq!(name(&groups, "a").await, Some(n.to_string()));
    }
    let status = groups.objects.status();
    assert!(status.leader.is_some());
    assert_eq!((status.voters.len(), status.quorum), (4, 3));
    assert!(status.voters.iter().all(|voter| voter.alive));
    let voters = groups.objects.voters().await.unwrap();
    assert_eq!((voters.alive, voters.all, voters.quorum), (4, 4, 3));
    end(disks, groups).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_disk_is_a_group_too() {
    let dir = tempfile::tempdir().unwrap();
    let disks = open_disks(dir.path(), &[0], true);
    let groups = birth(&disks, 0).await;
    groups.objects.propose(put("a", "x")).await.unwrap();
    end(disks, groups).await;
    let disks = open_disks(dir.path(), &[0], false);
    let groups = again(&disks, 2).await;
    assert_eq!(name(&groups, "a").await, Some("x".into()));
    end(disks, groups).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_proposers_share_syncs() {
    let dir = tempfile::tempdir().unwrap();
    let (disks, groups) = newborn(dir.path(), 1).await;
    groups.objects.ready().await.unwrap();
    let leader = groups.objects.members().alive().remove(0);
    let last = || leader.last_log_id().map_or(0, |last| last.index);
    let (before, from) = (disks[0].db.syncs().durations().count(), last());
    // Makes the log thread wait until all proposals are queued, however fast syncs are.
    let (release, released) = std::sync::mpsc::channel::<()>();
    let wait = move |_| {
        released.recv().ok();
    };
    disks[0].db.write_synced(|_| (), wait).await;
    let proposals = (0..64).map(|n| {
        let group = groups.objects.clone();
        tokio::spawn(async move { group.propose(put(&n.to_string(), "x")).await })
    });
    let proposals: Vec<_> = proposals.collect();
    eventually(|| last() >= from + 64).await;
    drop(release);
    for proposal in proposals {
        proposal.await.unwrap().unwrap();
    }
    let syncs = disks[0].db.syncs().durations().count() - before;
    assert!(syncs < 64, "{syncs} syncs for 64 proposals");
    drop(leader);
    end(disks, groups).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_11_a_disk_that_fails_costs_nothing_even_the_leaders() {
    for kill_leader in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (disks, groups) = newborn(dir.path(), 4).await;
        groups.objects.ready().await.unwrap();
        groups.objects.propose(put("a", "before")).await.unwrap();
        let leader = groups.objects.status().leader.unwrap();
        let victim = disks
            .iter()
            .find(|disk| (disk.id == leader) == kill_leader)
            .unwrap();
        victim.db.break_disk();

        for n in 0..20 {
            groups
                .objects
                .propose(put("a", &n.to_string()))
                .await
                .unwrap();
        }
        assert_eq!(name(&groups, "a").await, Some("19".into()));
        let id = victim.id;
        let alive = |groups: &Groups| {
            let voters = groups.objects.status().voters;
            voters
                .iter()
                .filter(|voter| voter.alive)
                .map(|voter| voter.disk)
                .collect::<Vec<_>>()
        };
        eventually(|| alive(&groups).len() == 3 && !alive(&groups).contains(&id)).await;
        end(disks, groups).await;
    }
}

/// Found by reading: only the bytes that one process appends made a replica drop log, so a store
/// that was often restarted never dropped any.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_23_log_that_grew_over_several_starts_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let (disks, groups) = newborn(dir.path(), 1).await;
    groups.objects.ready().await.unwrap();
    let name = "x".repeat(100);
    for _ in 0..17 {
        let puts = (0..512).map(|n| groups.objects.propose(put(&n.to_string(), &name)));
        for done in futures_util::future::join_all(puts).await {
            done.unwrap();
        }
    }
    assert_eq!(groups.objects.purged(), 0);
    end(disks, groups).await;
    let disks = open_disks(dir.path(), &[0], false);
    let groups = again(&disks, 0).await;
    eventually(|| groups.objects.purged() > 0).await;
    end(disks, groups).await;
}

/// Writes the row of the upkeep's settings, which [`change_upkeep`] reads, on these disks.
fn write_upkeep(disks: &[OpenDisk], value: Option<&[u8]>) {
    for disk in disks {
        for (_, row) in crate::raft::replica_row::replica_rows(&disk.db).unwrap() {
            let key = crate::meta::keys::Keys(row.state).upkeep();
            let mut batch = WriteBatch::default();
            match value {
                Some(value) => batch.put_cf(disk.db.family(Family::State), key, value),
                None => batch.delete_cf(disk.db.family(Family::State), key),
            }
            disk.db.write_unsynced(batch).unwrap();
        }
    }
}

fn change_upkeep() -> Command {
    Command {
        change: Change::SetUpkeep(Default::default()),
        ..put("a", "x")
    }
}

fn marks(disks: &[OpenDisk]) -> usize {
    let marks = |disk: &OpenDisk| {
        let roster = crate::raft::recovery::roster::read(&disk.db, disk.id);
        roster.unwrap().marks.len()
    };
    disks.iter().map(marks).sum()
}

/// Found by reading: a row of a newer version ended every replica at the same entry as if its disk
/// were damaged. The disks marked each other, and no later start trusted any of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_36_metadata_that_no_replica_can_continue_with_stop_the_group_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    // One disk more than voters.
    let disks = open_disks(dir.path(), &[0, 1, 2, 3], true);
    let groups = birth(&disks, 1).await;
    groups.objects.propose(put("a", "before")).await.unwrap();
    settle(&groups).await;
    write_upkeep(&disks, Some(b"\x63?"));
    let stopped = |error: &dyn std::fmt::Display| {
        let text = error.to_string();
        assert!(text.contains("has stopped"), "{text}");
    };
    let refused = groups.objects.propose(change_upkeep()).await;
    stopped(&refused.unwrap_err());
    let read = groups.objects.read(|view| view.epochs()).await;
    stopped(&read.unwrap_err());
    // The other group goes on, and so do the disks.
    groups.system.propose(put("b", "x")).await.unwrap();
    assert!(groups.recover_if_lost().await.is_err());
    assert!(
        disks
            .iter()
            .all(|disk| disk.db.failure().borrow().is_none())
    );
    assert_eq!((marks(&disks), groups.objects.replica_changes().1), (0, 0));
    end(disks, groups).await;

    let disks = open_disks(dir.path(), &[0, 1, 2, 3], false);
    let Err(refused) = start(&disks, 1, true).await else {
        panic!("it starts with rows that it does not know");
    };
    stopped(&refused);
    assert_eq!(marks(&disks), 0);
    close(disks).await;

    // What another version of the program does: it knows the row.
    let disks = open_disks(dir.path(), &[0, 1, 2, 3], false);
    write_upkeep(&disks, None);
    let groups = again(&disks, 1).await;
    assert_eq!(name(&groups, "a").await, Some("before".into()));
    end(disks, groups).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_32_a_replica_that_alone_cannot_continue_stops_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (disks, groups) = newborn(dir.path(), 4).await;
    groups.objects.propose(put("a", "before")).await.unwrap();
    settle(&groups).await;
    let leader = groups.objects.status().leader.unwrap();
    let bad = disks.iter().position(|disk| disk.id == leader).unwrap();
    write_upkeep(&disks[bad..=bad], Some(b"\x63?"));
    groups.objects.propose(change_upkeep()).await.unwrap();
    let alive = |groups: &Groups| {
        let voters = groups.objects.status().voters;
        voters.iter().filter(|voter| voter.alive).count()
    };
    eventually(|| alive(&groups) == 3).await;
    for n in 0..5 {
        let put = put("a", &n.to_string());
        groups.objects.propose(put).await.unwrap();
    }
    assert_eq!(name(&groups, "a").await, Some("4".into()));
    // It gets no other replica in its place: there may be something to find out from it.
    assert_eq!((marks(&disks), groups.objects.replica_changes().1), (0, 0));
    assert!(disks[bad].db.failure().borrow().is_none());
    end(disks, groups).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_is_not_here_is_asked_for_ever_less_often() {
    let dir = tempfile::tempdir().unwrap();
    let (disks, groups) = newborn(dir.path(), 4).await;
    groups.objects.propose(put("a", "x")).await.unwrap();
    end(disks, groups).await;
    let disks = open_disks(dir.path(), &[0, 1, 2], false);
    let groups = again(&disks, 2).await;
    groups.objects.propose(put("a", "y")).await.unwrap();
    let begun = Instant::now();
    tokio::time::sleep(Duration::from_secs(1)).await;
    // Two groups: their pauses, heartbeats and one election each.
    let (asked, seconds) = (groups.objects.unreachable(), 1 + begun.elapsed().as_secs());
    assert!((1..60 * seconds).contains(&asked), "{asked} in {seconds} s");
    end(disks, groups).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proposals_go_on_while_the_leaders_disk_fails() {
    let dir = tempfile::tempdir().unwrap();
    let (disks, groups) = newborn(dir.path(), 4).await;
    groups.objects.ready().await.unwrap();
    let writers = (0..16).map(|n| {
        let group = groups.objects.clone();
        tokio::spawn(async move {
            for m in 0..30 {
                group
                    .propose(put(&n.to_string(), &m.to_string()))
                    .await
                    .unwrap();
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    eventually(|| disks[0].db.syncs().durations().count() > 20).await;
    let leader = groups.objects.status().leader.unwrap();
    disks
        .iter()
        .find(|disk| disk.id == leader)
        .unwrap()
        .db
        .break_disk();
    for writer in writers {
        writer.await.unwrap();
    }
    for n in 0..16 {
        assert_eq!(name(&groups, &n.to_string()).await, Some("29".into()));
    }
    end(disks, groups).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_11_a_read_under_which_a_disk_fails_is_answered_by_another() {
    let dir = tempfile::tempdir().unwrap();
    let (disks, groups) = newborn(dir.path(), 4).await;
    groups.objects.propose(put("a", "x")).await.unwrap();
    let dbs: Vec<_> = disks
        .iter()
        .map(|disk| (disk.id, disk.db.clone()))
        .collect();
    let leader = groups.objects.status().leader.unwrap();
    let (_, failing) = dbs.into_iter().find(|(id, _)| *id == leader).unwrap();
    let found = groups.objects.read(move |view| {
        let account = view.account(&AccountId("a".into()))?;
        let has_failed = failing.failure().borrow().is_some();
        match has_failed {
            // The leader's replica is being read, and its files are missing.
            false => Err(failing.give_up("no such file").into()),
            true => Ok(account.map(|account| account.display_name)),
        }
    });
    assert_eq!(found.await.unwrap(), Some("x".into()));
    assert_ne!(groups.objects.status().leader, Some(leader));
    end(disks, groups).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_three_of_four_start_again() {
    let dir = tempfile::tempdir().unwrap();
    let (disks, groups) = newborn(dir.path(), 4).await;
    for n in 0..100 {
        groups
            .objects
            .propose(put(&n.to_string(), "x"))
            .await
            .unwrap();
    }
    end(disks, groups).await;

    for missing in 0..4u8 {
        let there: Vec<_> = (0..4).filter(|n| *n != missing).collect();
        let disks = open_disks(dir.path(), &there, false);
        let groups = again(&disks, 2).await;
        for n in 0..100 {
            assert_eq!(name(&groups, &n.to_string()).await, Some("x".into()));
        }
        groups.objects.propose(put("more", "x")).await.unwrap();
        end(disks, groups).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_23_a_voter_behind_a_purge_catches_up_by_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let (disks, groups) = newborn(dir.path(), 4).await;
    groups.objects.propose(put("first", "x")).await.unwrap();
    end(disks, groups).await;

    // Without disk 3, the groups write more log than they keep, flush and purge.
    let disks = open_disks(dir.path(), &[0, 1, 2], false);
    let groups = again(&disks, 2).await;
    groups.objects.ready().await.unwrap();
    for round in 0..50 {
        let proposals = (0..100).map(|n| groups.objects.propose(put(&format!("{round}-{n}"), "x")));
        for result in futures_util::future::join_all(proposals).await {
            result.unwrap();
        }
    }
    groups.objects.compact().await;
    eventually(|| groups.objects.purged() > 0).await;
    end(disks, groups).await;

    let disks = open_disks(dir.path(), &[0, 1, 2, 3], false);
    let groups = again(&disks, 2).await;
    groups.objects.propose(put("last", "x")).await.unwrap();
    // Three of four are needed: without disk 0, disk 3 must have all.
    eventually(|| groups.objects.all_applied()).await;
    end(disks, groups).await;
    let disks = open_disks(dir.path(), &[1, 2, 3], false);
    let groups = again(&disks, 2).await;
    for id in ["first", "0-0", "49-99", "last"] {
        assert_eq!(name(&groups, id).await, Some("x".into()), "{id}");
    }
    end(disks, groups).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_birth_that_was_interrupted_is_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let disks = open_disks(dir.path(), &[0, 1, 2, 3], true);
    // Rows of replicas that never had a log, on some disks.
    for disk in &disks[..2] {
        let row = crate::raft::replica_row::ReplicaRow {
            group: crate::raft::replica_row::OBJECT_GROUP,
            incarnation: 0,
            state: StateId(5),
        };
        let id = crate::raft::types::ReplicaId(99);
        let fill = |batch: &mut WriteBatch| {
            crate::raft::replica_row::put_replica_row(&disk.db, batch, id, &row);
        };
        disk.db.synced(fill).await.unwrap();
    }
    for _ in 0..2 {
        let groups = birth(&disks, 2).await;
        groups.objects.propose(put("a", "x")).await.unwrap();
        assert_eq!(groups.objects.status().voters.len(), 4);
        groups.system.shutdown().await;
        groups.objects.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_birth_that_was_interrupted_between_its_groups_is_finished() {
    use crate::raft::replica_row::{OBJECT_GROUP, replica_rows};
    let dir = tempfile::tempdir().unwrap();
    let (disks, groups) = newborn(dir.path(), 4).await;
    end(disks, groups).await;
    let disks = open_disks(dir.path(), &[0, 1, 2, 3], false);
    // The object group's log had not reached any disk yet.
    for disk in &disks {
        let rows = replica_rows(&disk.db).unwrap();
        let (replica, row) = rows
            .iter()
            .find(|(_, row)| row.group == OBJECT_GROUP)
            .unwrap();
        crate::meta::states::delete_state(&disk.db, row.state).unwrap();
        let forget = |batch: &mut WriteBatch| {
            crate::raft::log::delete_log(&disk.db, batch, *replica);
        };
        disk.db.synced(forget).await.unwrap();
    }
    let groups = birth(&disks, 2).await;
    groups.system.ready().await.unwrap();
    groups.objects.ready().await.unwrap();
    groups.objects.propose(put("a", "x")).await.unwrap();
    assert_eq!(groups.objects.status().voters.len(), 4);
    end(disks, groups).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_handles_end_everything() {
    let dir = tempfile::tempdir().unwrap();
    let (disks, groups) = newborn(dir.path(), 4).await;
    groups.objects.propose(put("a", "x")).await.unwrap();
    drop(groups);
    let weak: Vec<_> = disks.iter().map(|disk| Arc::downgrade(&disk.db)).collect();
    drop(disks);
    eventually(|| weak.iter().all(|db| db.upgrade().is_none())).await;
}

/// The client went away while the commit was in progress.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_22_a_proposal_goes_on_without_its_caller() {
    let dir = tempfile::tempdir().unwrap();
    let (disks, groups) = newborn(dir.path(), 1).await;
    groups.objects.ready().await.unwrap();
    let mut proposal = Box::pin(groups.objects.propose(put("a", "x")));
    assert!(futures_util::poll!(&mut proposal).is_pending());
    drop(proposal);
    // Whatever else is committed meanwhile, the proposal is committed sooner or later.
    let mut others = 0;
    while name(&groups, "a").await.is_none() {
        others += 1;
        assert!(others < 10_000, "the proposal was lost");
        groups.objects.propose(put("b", "y")).await.unwrap();
    }
    end(disks, groups).await;
}

/// A row is damaged so that its disk does not notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b_62_a_replica_that_differs_from_the_others_is_refused() {
    use crate::db::{DbError, Family};
    use crate::meta::keys::Keys;
    use crate::meta::record::{EpochsRow, Record as _};
    use crate::raft::replica_row::{OBJECT_GROUP, replica_rows};
    let dir = tempfile::tempdir().unwrap();
    let (disks, groups) = newborn(dir.path(), 4).await;
    groups.objects.propose(put("first", "x")).await.unwrap();
    let leader = groups.objects.status().leader.unwrap();
    let wrong = disks.iter().find(|disk| disk.id != leader).unwrap();
    eventually(|| groups.objects.all_applied()).await;
    assert_eq!(groups.objects.disagreement(), None);
    let rows = replica_rows(&wrong.db).unwrap();
    let (_, row) = rows
        .iter()
        .find(|(_, row)| row.group == OBJECT_GROUP)
        .unwrap();
    let key = Keys(row.state).epochs();
    let state = wrong.db.family(Family::State);
    let epochs = wrong.db.rocks().get_cf(state, &key).unwrap().unwrap();
    // It refuses what the others carry out.
    let epochs = EpochsRow {
        answers: Epoch(1),
        ..EpochsRow::decode(&epochs).unwrap()
    };
    let mut batch = WriteBatch::default();
    batch.put_cf(state, &key, epochs.encode());
    wrong.db.write_unsynced(batch).unwrap();
    for n in 0..300 {
        groups
            .objects
            .propose(put(&n.to_string(), "x"))
            .await
            .unwrap();
    }
    let is_decided = |(_, disks): (u64, std::collections::BTreeSet<DiskId>)| !disks.is_empty();
    eventually(|| groups.objects.disagreement().is_some_and(is_decided)).await;
    let (index, differing) = groups.objects.disagreement().unwrap();
    assert_eq!((index, differing), (256, [wrong.id].into()));
    groups.objects.refuse_disk(wrong.id, "it differs");
    let failure = wrong.db.failure().borrow().clone();
    assert!(matches!(failure, Some(DbError::Damaged(_))), "{failure:?}");
    eventually(|| groups.objects.disagreement().is_none()).await;
    groups.objects.propose(put("last", "x")).await.unwrap();
    end(disks, groups).await;
}
