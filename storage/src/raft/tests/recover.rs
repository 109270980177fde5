//! Recoveries from what is left, interrupted at every step, and the disks that come back.

use std::fs;

use super::*;
use crate::meta::keys::Keys;
use crate::raft::recovery::decision::StartError;
use crate::raft::recovery::recover::{self, Standstill};
use crate::raft::recovery::roster::PreparedRecovery;
use crate::raft::recovery::start::StartOutcome;
use crate::raft::replica_row::replica_rows;

const ALL: [u8; 4] = [0, 1, 2, 3];

async fn write(groups: &Groups, from: u32, to: u32) {
    let proposals = (from..to).map(|n| groups.objects.propose(put(&n.to_string(), "x")));
    for result in futures_util::future::join_all(proposals).await {
        result.unwrap();
    }
}

async fn check(groups: &Groups, to: u32) {
    for n in 0..to {
        assert_eq!(name(groups, &n.to_string()).await, Some("x".into()), "{n}");
    }
}

async fn refused(disks: Vec<OpenDisk>, may_recover: bool) -> Standstill {
    let refused = start(&disks, 2, may_recover).await;
    close(disks).await;
    match refused {
        Err(StartError::Standstill(standstill)) => standstill,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it starts"),
    }
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_dir(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

fn swap(dir: &Path, disk: u8, image: &Path) {
    fs::remove_dir_all(dir.join(disk.to_string())).unwrap();
    copy_dir(image, &dir.join(disk.to_string()));
}

/// Makes a store of `count` disks with some entries, and stops it.
async fn stopped(dir: &Path, count: u8) {
    let (disks, groups) = newborn(dir, count).await;
    write(&groups, 0, 100).await;
    settle(&groups).await;
    end(disks, groups).await;
}

/// Starts a store of four on these disks, which are a majority.
async fn again_on(dir: &Path, numbers: &[u8]) -> (Vec<OpenDisk>, Groups) {
    let disks = open_disks(dir, numbers, false);
    let groups = again(&disks, 2).await;
    (disks, groups)
}

/// Starts a store of four on these disks. The metadata may be recovered.
async fn recover_on(dir: &Path, numbers: &[u8]) -> (Vec<OpenDisk>, Groups) {
    let disks = open_disks(dir, numbers, false);
    let groups = start(&disks, 2, true).await.unwrap();
    (disks, groups)
}

/// Checks that these disks, which are a majority, start and have all entries.
async fn check_on(dir: &Path, numbers: &[u8], to: u32) {
    let (disks, groups) = again_on(dir, numbers).await;
    check(&groups, to).await;
    end(disks, groups).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_16_any_two_of_four_go_on_with_all_and_the_others_join_them() {
    let dir = tempfile::tempdir().unwrap();
    stopped(dir.path(), 4).await;
    for (round, left) in [[0, 1], [1, 3], [0, 2]].into_iter().enumerate() {
        let written = 100 + 20 * round as u32;
        let standstill = refused(open_disks(dir.path(), &left, false), false).await;
        assert_eq!(standstill, Standstill::NoMajority);

        let (disks, groups) = recover_on(dir.path(), &left).await;
        check(&groups, written).await;
        write(&groups, written, written + 10).await;
        until_voters(&groups, 2).await;
        end(disks, groups).await;

        // The others come back: their old replicas do not count.
        let before: Vec<_> = open_disks(dir.path(), &ALL, false);
        let old: Vec<_> = before
            .iter()
            .map(|d| replica_rows(&d.db).unwrap())
            .collect();
        let groups = again(&before, 2).await;
        until_voters(&groups, 4).await;
        for (disk, old) in before.iter().zip(old) {
            let new = replica_rows(&disk.db).unwrap();
            let kept = old
                .iter()
                .any(|(id, _)| new.iter().any(|(other, _)| other == id));
            assert_eq!(kept, left.contains(&disk.id.0[0]), "{}", disk.id);
        }
        write(&groups, written + 10, written + 20).await;
        eventually(|| groups.objects.all_applied()).await;
        check(&groups, written + 20).await;
        end(before, groups).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_16_one_of_two_goes_on_and_one_of_four_waits_unharmed() {
    let dir = tempfile::tempdir().unwrap();
    let disks = open_disks(dir.path(), &[0, 1], true);
    let groups = birth(&disks, 1).await;
    write(&groups, 0, 50).await;
    end(disks, groups).await;
    let disks = open_disks(dir.path(), &[1], false);
    let groups = start(&disks, 1, true).await.unwrap();
    write(&groups, 50, 60).await;
    check(&groups, 60).await;
    end(disks, groups).await;

    let dir = tempfile::tempdir().unwrap();
    stopped(dir.path(), 4).await;
    let standstill = refused(open_disks(dir.path(), &[2], false), true).await;
    let (here, needed, voters) = (1, 2, 4);
    assert_eq!(
        standstill,
        Standstill::TooFew {
            here,
            needed,
            voters
        }
    );
    check_on(dir.path(), &ALL, 100).await;
}

/// The point at which a recovery was interrupted.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Interruption {
    FirstPrepared,
    Prepared,
    FirstGroup,
    BothGroups,
    FirstDeclared,
}

const ID: crate::raft::history::RecoveryId = [5; 16];

async fn recover_until(dir: &Path, at: Interruption) {
    recover_of(dir, &[0, 1], at).await;
}

async fn recover_of(dir: &Path, numbers: &[u8], at: Interruption) {
    let disks = open_disks(dir, numbers, false);
    let recovery = PreparedRecovery {
        id: ID,
        disks: disks.iter().map(|disk| disk.id).collect(),
    };
    let prepared = match at {
        Interruption::FirstPrepared => &disks[..1],
        _ => &disks[..],
    };
    recover::prepare(prepared, &recovery).await.unwrap();
    let groups = match at {
        Interruption::FirstPrepared | Interruption::Prepared => 0,
        Interruption::FirstGroup => 1,
        Interruption::BothGroups | Interruption::FirstDeclared => 2,
    };
    // Not on the disk that declares first.
    for (disk, replica, _) in recover::summarize(&disks[1])
        .await
        .unwrap()
        .iter()
        .take(groups)
    {
        recover::form_group(disk, replica, 1).await.unwrap();
    }
    if at == Interruption::FirstDeclared {
        recover::declare(&disks[..1], &[ID]).await.unwrap();
    }
    close(disks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_01_a_recovery_interrupted_at_any_step_is_finished_or_forgotten() {
    use Interruption::*;
    for at in [
        FirstPrepared,
        Prepared,
        FirstGroup,
        BothGroups,
        FirstDeclared,
    ] {
        // All disks start again.
        let dir = tempfile::tempdir().unwrap();
        stopped(dir.path(), 4).await;
        recover_until(dir.path(), at).await;
        let (disks, groups) = again_on(dir.path(), &ALL).await;
        check(&groups, 100).await;
        write(&groups, 100, 110).await;
        until_voters(&groups, 4).await;
        end(disks, groups).await;

        // The two that took part start again, and then all.
        let dir = tempfile::tempdir().unwrap();
        stopped(dir.path(), 4).await;
        recover_until(dir.path(), at).await;
        let (disks, groups) = recover_on(dir.path(), &[0, 1]).await;
        check(&groups, 100).await;
        write(&groups, 100, 110).await;
        end(disks, groups).await;
        let (disks, groups) = again_on(dir.path(), &ALL).await;
        until_voters(&groups, 4).await;
        check(&groups, 110).await;
        end(disks, groups).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_01_without_one_who_took_part_an_interrupted_recovery_is_waited_for_or_void() {
    use Interruption::*;
    for at in [Prepared, FirstGroup, BothGroups] {
        let dir = tempfile::tempdir().unwrap();
        stopped(dir.path(), 4).await;
        recover_until(dir.path(), at).await;
        let standstill = refused(open_disks(dir.path(), &[1, 2, 3], false), true).await;
        let missing = DiskId([0; 16]);
        assert_eq!(
            standstill,
            Standstill::RecoveryInterrupted { missing },
            "{at:?}"
        );
    }
    // The disk that is here has not even prepared, so the other cannot have rewritten anything.
    let dir = tempfile::tempdir().unwrap();
    stopped(dir.path(), 4).await;
    recover_until(dir.path(), FirstPrepared).await;
    let (disks, groups) = again_on(dir.path(), &[1, 2, 3]).await;
    write(&groups, 100, 110).await;
    end(disks, groups).await;
    let (disks, groups) = again_on(dir.path(), &ALL).await;
    check(&groups, 110).await;
    until_voters(&groups, 4).await;
    end(disks, groups).await;
    // The disk that had prepared has forgotten the recovery.
    check_on(dir.path(), &[0, 2, 3], 110).await;
}

/// Found by reading: an interrupted recovery was resumed only by fully trusted disks; there were
/// too few, and every start hung.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_01_an_interrupted_recovery_that_needs_a_disk_that_failed_to_write_is_finished_with_it() {
    for at in [
        Interruption::Prepared,
        Interruption::FirstGroup,
        Interruption::BothGroups,
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (disks, groups) = newborn(dir.path(), 4).await;
        write(&groups, 0, 20).await;
        disks[1].db.break_disk();
        groups.objects.replica_lost(disks[1].id);
        groups.mark(disks[1].id).await;
        write(&groups, 20, 40).await;
        end(disks, groups).await;

        recover_of(dir.path(), &[1, 2], at).await;
        let disks = open_disks(dir.path(), &[1, 2], false);
        let groups = start(&disks, 2, true).await.unwrap();
        check(&groups, 40).await;
        write(&groups, 40, 50).await;
        end(disks, groups).await;
    }
}

/// Found by reading: a disk took part in a recovery, could not be opened while the others finished
/// it, and came back later. Then it led its half of the group beside theirs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_39_who_was_left_out_as_an_interrupted_recovery_was_finished_never_leads() {
    let dir = tempfile::tempdir().unwrap();
    stopped(dir.path(), 4).await;
    recover_of(dir.path(), &[0, 1, 2], Interruption::FirstGroup).await;
    let mut disks = open_disks(dir.path(), &[0, 1, 2], false);
    let left_out = disks.remove(1);
    let formed = replica_rows(&left_out.db).unwrap();
    let damaged = vec![(left_out.id, "it does not open".to_owned())];
    let restart = GroupStart::Restart { may_recover: true };
    let started = start_groups(&disks, damaged, restart, 2).await;
    let groups = started.map_err(|e| e.to_string()).unwrap().groups;
    write(&groups, 100, 110).await;
    disks.push(left_out);
    end(disks, groups).await;

    let disks = open_disks(dir.path(), &[0, 1, 2], false);
    let restart = GroupStart::Restart { may_recover: false };
    let started = start_groups(&disks, Vec::new(), restart, 2).await;
    let StartOutcome {
        groups, damaged, ..
    } = started.map_err(|e| e.to_string()).unwrap();
    assert_eq!(damaged.len(), 1);
    assert_eq!(damaged[0].0, disks[1].id);
    check(&groups, 110).await;
    let voters = groups.objects.status().voters;
    assert!(voters.iter().all(|voter| voter.disk != disks[1].id));
    assert_eq!(replica_rows(&disks[1].db).unwrap(), formed);
    end(disks, groups).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_39_two_halves_that_both_went_on_never_start_together() {
    let dir = tempfile::tempdir().unwrap();
    stopped(dir.path(), 4).await;
    for half in [[0, 1], [2, 3]] {
        let (disks, groups) = recover_on(dir.path(), &half).await;
        write(&groups, 100, 110).await;
        end(disks, groups).await;
    }
    let standstill = refused(open_disks(dir.path(), &ALL, false), true).await;
    assert!(
        matches!(standstill, Standstill::SplitBrain { .. }),
        "{standstill}"
    );
    let standstill = refused(open_disks(dir.path(), &[0, 2], false), true).await;
    assert!(
        matches!(standstill, Standstill::SplitBrain { .. }),
        "{standstill}"
    );
    // Each half is as it was.
    for half in [[0, 1], [2, 3]] {
        check_on(dir.path(), &half, 110).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_11_two_of_four_that_die_under_writers_cost_nothing() {
    for at_once in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (disks, groups) = newborn(dir.path(), 4).await;
        groups.objects.ready().await.unwrap();
        let writers: Vec<_> = (0..8u32)
            .map(|writer| {
                let group = groups.objects.clone();
                tokio::spawn(async move {
                    for n in 0..40 {
                        let id = (writer * 40 + n).to_string();
                        group.propose(put(&id, "x")).await.unwrap();
                    }
                })
            })
            .collect();
        eventually(|| disks[0].db.wal_syncs() > 30).await;
        let leader = groups.objects.status().leader.unwrap();
        let mut victims: Vec<_> = disks
            .iter()
            .filter(|disk| disk.id != leader)
            .take(1)
            .collect();
        victims.extend(disks.iter().find(|disk| disk.id == leader));
        for victim in &victims {
            victim.db.break_disk();
            groups.objects.replica_lost(victim.id);
            if !at_once {
                groups.recover_if_lost().await.unwrap();
            }
        }
        groups.recover_if_lost().await.unwrap();
        for writer in writers {
            writer.await.unwrap();
        }
        check(&groups, 320).await;
        until_voters(&groups, 2).await;
        let lost: Vec<_> = victims.iter().map(|disk| disk.id.0[0]).collect();
        end(disks, groups).await;
        let left: Vec<_> = ALL.into_iter().filter(|n| !lost.contains(n)).collect();
        check_on(dir.path(), &left, 320).await;
    }
}

/// Once an older copy counted: three of four disks were here, and two of them lacked entries that
/// only the missing one still had.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_14_b_67_an_older_copy_of_a_disk_never_votes() {
    let dir = tempfile::tempdir().unwrap();
    stopped(dir.path(), 4).await;
    let images = dir.path().join("images");
    for n in ALL {
        copy_dir(&dir.path().join(n.to_string()), &images.join(n.to_string()));
    }
    let (disks, groups) = again_on(dir.path(), &ALL).await;
    write(&groups, 100, 200).await;
    end(disks, groups).await;

    swap(dir.path(), 1, &images.join("1"));
    let disks = open_disks(dir.path(), &ALL, false);
    let old = replica_rows(&disks[1].db).unwrap();
    let groups = again(&disks, 2).await;
    check(&groups, 200).await;
    until_voters(&groups, 4).await;
    let new = replica_rows(&disks[1].db).unwrap();
    assert!(
        old.iter()
            .all(|(id, _)| new.iter().all(|(other, _)| other != id))
    );
    end(disks, groups).await;

    // Two older copies and one current disk: the two would outvote it.
    for n in [1, 2] {
        swap(dir.path(), n, &images.join(n.to_string()));
    }
    let standstill = refused(open_disks(dir.path(), &[0, 1, 2], false), true).await;
    assert!(
        matches!(standstill, Standstill::TooFew { here: 1, .. }),
        "{standstill}"
    );
    let (disks, groups) = recover_on(dir.path(), &ALL).await;
    check(&groups, 200).await;
    end(disks, groups).await;
}

/// A copy made while the store ran, put in place after it had ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_14_a_copy_of_this_very_run_is_older_once_presence_was_noted() {
    let dir = tempfile::tempdir().unwrap();
    let (disks, groups) = newborn(dir.path(), 4).await;
    write(&groups, 0, 50).await;
    let image = dir.path().join("image");
    copy_dir(&dir.path().join("1"), &image);
    write(&groups, 50, 100).await;
    groups.note_presence().await.unwrap();
    end(disks, groups).await;

    swap(dir.path(), 1, &image);
    let disks = open_disks(dir.path(), &ALL, false);
    let old = replica_rows(&disks[1].db).unwrap();
    let groups = again(&disks, 2).await;
    check(&groups, 100).await;
    until_voters(&groups, 4).await;
    let new = replica_rows(&disks[1].db).unwrap();
    assert!(
        old.iter()
            .all(|(id, _)| new.iter().all(|(other, _)| other != id))
    );
    end(disks, groups).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_14_disks_that_were_offline_count_as_before() {
    let dir = tempfile::tempdir().unwrap();
    stopped(dir.path(), 4).await;
    let (disks, groups) = again_on(dir.path(), &[0, 1, 2]).await;
    write(&groups, 100, 120).await;
    end(disks, groups).await;
    // A disk that was offline and two that were not: a majority, by their own logs.
    let (disks, groups) = again_on(dir.path(), &[0, 1, 3]).await;
    check(&groups, 120).await;
    write(&groups, 120, 130).await;
    end(disks, groups).await;
    check_on(dir.path(), &ALL, 130).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b_66_a_database_that_failed_to_write_is_not_trusted_again() {
    let dir = tempfile::tempdir().unwrap();
    let (disks, groups) = newborn(dir.path(), 4).await;
    write(&groups, 0, 20).await;
    disks[2].db.break_disk();
    groups.objects.replica_lost(disks[2].id);
    groups.mark(disks[2].id).await;
    write(&groups, 20, 40).await;
    end(disks, groups).await;

    let disks = open_disks(dir.path(), &ALL, false);
    let restart = GroupStart::Restart { may_recover: false };
    let StartOutcome {
        groups, damaged, ..
    } = start_groups(&disks, Vec::new(), restart, 2).await.unwrap();
    assert_eq!(damaged.len(), 1);
    assert_eq!(damaged[0].0, disks[2].id);
    groups.objects.ready().await.unwrap();
    let alive = groups.objects.status().voters;
    assert!(
        alive
            .iter()
            .all(|voter| voter.alive == (voter.disk != disks[2].id))
    );
    check(&groups, 40).await;
    end(disks, groups).await;

    // If the others are too few, it counts: it acknowledged nothing after it failed.
    let (disks, groups) = recover_on(dir.path(), &[1, 2]).await;
    check(&groups, 40).await;
    end(disks, groups).await;
}

/// Found by reading: one disk that could be read but not written made every start of the store
/// fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_09_a_disk_that_fails_as_the_store_starts_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    stopped(dir.path(), 4).await;
    let disks = open_disks(dir.path(), &ALL, false);
    disks[1].db.break_disk();
    let restart = GroupStart::Restart { may_recover: false };
    let started = start_groups(&disks, Vec::new(), restart, 2).await;
    let StartOutcome {
        groups, damaged, ..
    } = started.map_err(|e| e.to_string()).unwrap();
    let left_out: Vec<_> = damaged.iter().map(|(disk, _)| *disk).collect();
    assert_eq!(left_out, [disks[1].id]);
    groups.objects.ready().await.unwrap();
    check(&groups, 100).await;
    write(&groups, 100, 110).await;
    end(disks, groups).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_09_a_disk_that_fails_as_it_comes_back_stops_nobody() {
    let dir = tempfile::tempdir().unwrap();
    stopped(dir.path(), 4).await;
    let (disks, groups) = recover_on(dir.path(), &[0, 1]).await;
    end(disks, groups).await;
    let disks = open_disks(dir.path(), &ALL, false);
    let restart = GroupStart::Restart { may_recover: false };
    let started = start_groups(&disks, Vec::new(), restart, 2).await;
    let mut started = started.map_err(|e| e.to_string()).unwrap();
    started.groups.objects.ready().await.unwrap();
    started.groups.system.ready().await.unwrap();
    disks[2].db.break_disk();
    started.admit_leftovers().await.unwrap();
    let groups = started.groups.clone();
    drop(started);
    until_voters(&groups, 3).await;
    check(&groups, 100).await;
    end(disks, groups).await;
}

/// Found by reading: the disk was asked to take part again and again, without a pause.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_09_a_disk_that_fails_in_a_recovery_takes_no_further_part() {
    let dir = tempfile::tempdir().unwrap();
    stopped(dir.path(), 4).await;
    let disks = open_disks(dir.path(), &[0, 1], false);
    disks[1].db.break_disk();
    let standstill = tokio::time::timeout(PATIENCE, refused(disks, true)).await;
    let (here, needed, voters) = (1, 2, 4);
    assert_eq!(
        standstill.unwrap(),
        Standstill::TooFew {
            here,
            needed,
            voters
        }
    );
    // The recovery was only prepared and nothing was rewritten: both disks go on.
    let (disks, groups) = recover_on(dir.path(), &[0, 1]).await;
    check(&groups, 100).await;
    end(disks, groups).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_22_what_an_interrupted_transfer_left_goes_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    stopped(dir.path(), 4).await;
    let disks = open_disks(dir.path(), &ALL, false);
    let left = Keys(StateId(7)).epochs();
    let state = |n: usize| disks[n].db.family(Family::State);
    let mut batch = WriteBatch::default();
    batch.put_cf(state(2), &left, b"of no replica");
    disks[2].db.write_unsynced(batch).unwrap();
    let groups = again(&disks, 2).await;
    let found = disks[2].db.rocks().get_cf(state(2), &left).unwrap();
    assert_eq!(found, None);
    check(&groups, 100).await;
    end(disks, groups).await;
}
