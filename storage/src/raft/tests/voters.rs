//! Voters that are lost and replaced while the group continues.

use super::*;
use crate::raft::replica_row::replica_rows;

fn voters(groups: &Groups) -> Vec<DiskId> {
    let voters = groups.objects.status().voters;
    assert!(voters.iter().all(|voter| voter.alive), "{voters:?}");
    voters.into_iter().map(|voter| voter.disk).collect()
}

async fn write(groups: &Groups, from: u32, to: u32) {
    for n in from..to {
        let written = groups.objects.propose(put(&n.to_string(), "x")).await;
        written.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_22_lost_voters_are_replaced_one_after_the_other_under_load() {
    let dir = tempfile::tempdir().unwrap();
    let disks = open_disks(dir.path(), &[0, 1, 2, 3, 4], true);
    let groups = birth(&disks, 1).await;
    groups.objects.ready().await.unwrap();
    assert_eq!(voters(&groups).len(), 3);
    let writer = {
        let group = groups.objects.clone();
        tokio::spawn(async move {
            for n in 0..300 {
                group.propose(put(&n.to_string(), "x")).await.unwrap();
            }
        })
    };
    // Two losses, one after the other: three voters would not survive both at once.
    let mut lost = Vec::new();
    for leads in [false, true] {
        let leader = groups.objects.status().leader.unwrap();
        let is = |disk: &&OpenDisk| (disk.id == leader) == leads;
        let voters = voters(&groups);
        let mut candidates = disks.iter().filter(|disk| voters.contains(&disk.id));
        let victim = candidates.find(is).unwrap();
        victim.db.break_disk();
        groups.objects.replica_lost(victim.id);
        lost.push(victim.id);
        let is_replaced = || {
            let voters = groups.objects.status().voters;
            !voters.iter().any(|voter| voter.disk == victim.id)
        };
        eventually(|| groups.objects.status().leader.is_some() && is_replaced()).await;
        until_voters(&groups, 3).await;
    }
    writer.await.unwrap();
    assert!(voters(&groups).iter().all(|disk| !lost.contains(disk)));
    for n in 0..300 {
        assert_eq!(name(&groups, &n.to_string()).await, Some("x".into()));
    }
    end(disks, groups).await;

    // The lost disks come back with their old replicas: these do not vote, and are dropped.
    let disks = open_disks(dir.path(), &[0, 1, 2, 3, 4], false);
    let groups = again(&disks, 1).await;
    write(&groups, 300, 310).await;
    assert!(voters(&groups).iter().all(|disk| !lost.contains(disk)));
    let back = disks.iter().filter(|disk| lost.contains(&disk.id));
    for disk in back {
        eventually(|| replica_rows(&disk.db).unwrap().is_empty()).await;
    }
    assert_eq!(name(&groups, "309").await, Some("x".into()));
    end(disks, groups).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_14_a_disk_that_joins_takes_the_place_of_a_lost_one_by_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let (mut disks, groups) = newborn(dir.path(), 4).await;
    for round in 0..50 {
        let proposals = (0..100).map(|n| groups.objects.propose(put(&format!("{round}-{n}"), "x")));
        for result in futures_util::future::join_all(proposals).await {
            result.unwrap();
        }
    }
    groups.objects.compact().await;
    eventually(|| groups.objects.purged() > 0).await;
    disks[1].db.break_disk();
    groups.objects.replica_lost(disks[1].id);
    groups.objects.propose(put("more", "x")).await.unwrap();
    // No other disk can hold a replica.
    assert_eq!(groups.objects.status().voters.len(), 4);

    let joined = open_disks(dir.path(), &[7], true).remove(0);
    for group in [&groups.objects, &groups.system] {
        group.add_disk(joined.id, joined.db.clone());
    }
    until_voters(&groups, 4).await;
    assert!(voters(&groups).contains(&joined.id));
    // One more disk may fail: the new voter counts.
    disks[2].db.break_disk();
    groups.objects.replica_lost(disks[2].id);
    groups.objects.propose(put("last", "x")).await.unwrap();
    for id in ["0-0", "49-99", "more", "last"] {
        assert_eq!(name(&groups, id).await, Some("x".into()), "{id}");
    }
    disks.push(joined);
    end(disks, groups).await;
}

/// The disk comes back under its id, with a new database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b_66_a_disk_with_a_new_database_gets_a_new_replica() {
    let dir = tempfile::tempdir().unwrap();
    let (disks, groups) = newborn(dir.path(), 4).await;
    write(&groups, 0, 20).await;
    let before = replica_rows(&disks[1].db).unwrap();
    let fresh = Db::create(&dir.path().join("fresh"), &DbShared::system()).unwrap();
    for group in [&groups.objects, &groups.system] {
        group.add_disk(disks[1].id, fresh.clone());
    }
    eventually(|| replica_rows(&fresh).unwrap().len() == 2).await;
    until_voters(&groups, 4).await;
    let after = replica_rows(&fresh).unwrap();
    assert!(
        before
            .iter()
            .all(|(id, _)| after.iter().all(|(new, _)| new != id))
    );
    write(&groups, 20, 30).await;
    assert_eq!(name(&groups, "29").await, Some("x".into()));
    drop(fresh);
    end(disks, groups).await;
}

/// Found by reading: the failed disk should have recorded the start as well, so the other disk
/// could not join.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_14_a_disk_joins_while_another_one_is_down() {
    let dir = tempfile::tempdir().unwrap();
    let (mut disks, groups) = newborn(dir.path(), 4).await;
    write(&groups, 0, 20).await;
    disks[1].db.break_disk();
    groups.objects.replica_lost(disks[1].id);
    let joined = open_disks(dir.path(), &[7], true).remove(0);
    groups.join_running(&joined).await.unwrap();
    until_voters(&groups, 4).await;
    assert!(voters(&groups).contains(&joined.id));
    disks.push(joined);
    end(disks, groups).await;
}

/// Found by reading: a disk that went offline had a record of another disk's old database. By that
/// record the new database was an older copy, because both had the number of the same start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_14_a_disk_with_a_new_database_is_no_older_copy_to_one_that_was_offline() {
    let dir = tempfile::tempdir().unwrap();
    let (mut disks, groups) = newborn(dir.path(), 5).await;
    write(&groups, 0, 20).await;
    // The disk with the newest records of the others.
    disks[4].db.break_disk();
    groups.objects.replica_lost(disks[4].id);
    let fresh = Db::create(&dir.path().join("fresh"), &DbShared::system()).unwrap();
    let renewed = OpenDisk {
        id: disks[1].id,
        db: fresh,
    };
    groups.join_running(&renewed).await.unwrap();
    let has_replicas = || replica_rows(&renewed.db).unwrap().len() == 2;
    let alive = || {
        let four = |group: &crate::raft::group::Group| {
            let voters = group.status().voters;
            voters.iter().filter(|voter| voter.alive).count() == 4
        };
        four(&groups.objects) && four(&groups.system)
    };
    eventually(|| has_replicas() && alive()).await;
    write(&groups, 20, 40).await;
    disks.push(renewed);
    end(disks, groups).await;

    std::fs::rename(dir.path().join("1"), dir.path().join("old")).unwrap();
    std::fs::rename(dir.path().join("fresh"), dir.path().join("1")).unwrap();
    let disks = open_disks(dir.path(), &[0, 1, 4], false);
    let groups = start(&disks, 2, false).await.unwrap();
    assert_eq!(name(&groups, "39").await, Some("x".into()));
    end(disks, groups).await;
}
