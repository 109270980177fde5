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
