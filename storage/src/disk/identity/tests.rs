#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::fs;

use super::directory::SHARDS;
use super::file::{COPY_FILE, FILE, NEW_FILE, decode};
use super::*;
use drystone_store::crash::Crash;
use drystone_store::env::SystemEnv;

fn dirs(root: &Path, count: usize) -> Vec<PathBuf> {
    (0..count).map(|n| root.join(format!("d{n}"))).collect()
}

fn born(dirs: &[PathBuf]) {
    let mut found = claim_all(dirs, &[], &SystemEnv, &Crash::default()).unwrap();
    found
        .disks
        .iter_mut()
        .for_each(|disk| mark_born(disk, &SystemEnv, &Crash::default()).unwrap());
}

fn refused(dirs: &[PathBuf]) -> IdentityError {
    claim_all(dirs, &[], &SystemEnv, &Crash::default()).unwrap_err()
}

#[test]
fn a_birth_makes_disks_of_one_store_and_they_are_found_again() {
    let root = tempfile::tempdir().unwrap();
    let dirs = dirs(root.path(), 4);
    let first = claim_all(&dirs, &[], &SystemEnv, &Crash::default()).unwrap();
    assert!(first.birth && first.lost.is_empty());
    let ids: HashSet<_> = first.disks.iter().map(|disk| disk.identity.disk).collect();
    assert_eq!(ids.len(), 4);
    drop(first);
    born(&dirs);
    let again = claim_all(&dirs, &[], &SystemEnv, &Crash::default()).unwrap();
    assert!(!again.birth);
    assert_eq!(
        again
            .disks
            .iter()
            .map(|d| d.identity.disk)
            .collect::<HashSet<_>>(),
        ids
    );
}

#[test]
fn f_14_an_emptied_or_missing_directory_is_lost_and_never_a_new_disk() {
    let root = tempfile::tempdir().unwrap();
    let dirs = dirs(root.path(), 4);
    born(&dirs);
    fs::remove_dir_all(&dirs[1]).unwrap();
    fs::remove_dir_all(&dirs[2]).unwrap();
    fs::create_dir(&dirs[2]).unwrap();
    let found = claim_all(&dirs, &[], &SystemEnv, &Crash::default()).unwrap();
    assert_eq!(found.disks.len(), 2);
    assert!(matches!(found.lost[0], IdentityError::Missing { .. }));
    assert!(matches!(found.lost[1], IdentityError::Empty { .. }));
    assert_eq!(fs::read_dir(&dirs[2]).unwrap().count(), 0);
    assert!(!dirs[1].exists());
}

/// Found by reading: one read-only disk kept the whole store from starting.
#[test]
fn f_09_a_disk_that_cannot_be_locked_is_lost_and_the_others_go_on() {
    let root = tempfile::tempdir().unwrap();
    let dirs = dirs(root.path(), 4);
    born(&dirs);
    // Opening it for writing fails, as on a read-only file system.
    fs::remove_file(dirs[1].join(LOCK_FILE)).unwrap();
    fs::create_dir(dirs[1].join(LOCK_FILE)).unwrap();
    let found = claim_all(&dirs, &[], &SystemEnv, &Crash::default()).unwrap();
    assert_eq!(found.disks.len(), 3);
    assert!(matches!(&found.lost[0], IdentityError::Io { dir, .. } if *dir == dirs[1]));
}

/// Found by reading: a disk whose addition was interrupted, alone while the others are not mounted,
/// created a new store in their mount points.
#[test]
fn f_14_a_disk_that_was_to_replace_another_begins_no_birth() {
    let root = tempfile::tempdir().unwrap();
    let dirs = dirs(root.path(), 2);
    born(&dirs);
    let of = claim_all(&dirs, &[], &SystemEnv, &Crash::default())
        .unwrap()
        .disks[0]
        .identity;
    for dir in &dirs {
        fs::remove_dir_all(dir).unwrap();
        fs::create_dir(dir).unwrap();
    }
    drop(adopt(&dirs[1], &of, &SystemEnv, &Crash::default()).unwrap());
    let found = claim_all(&dirs, &[], &SystemEnv, &Crash::default()).unwrap();
    assert!(!found.birth);
    assert!(matches!(found.lost[0], IdentityError::Empty { .. }));
    assert_eq!(fs::read_dir(&dirs[0]).unwrap().count(), 0);
}

#[test]
fn a_birth_that_was_cut_is_finished_with_the_same_directories_only() {
    let root = tempfile::tempdir().unwrap();
    let dirs = dirs(root.path(), 4);
    drop(claim_all(&dirs, &[], &SystemEnv, &Crash::default()).unwrap());
    // The fourth crashed before its identity was written, the first after it.
    fs::remove_file(dirs[3].join(FILE)).unwrap();
    fs::remove_dir_all(dirs[3].join(SHARDS)).unwrap();
    fs::write(dirs[3].join(NEW_FILE), b"cut").unwrap();
    fs::remove_dir_all(shard_folder(&dirs[0], 7)).unwrap();
    assert!(matches!(
        refused(&dirs[..3]),
        IdentityError::OtherBirth { .. }
    ));
    let found = claim_all(&dirs, &[], &SystemEnv, &Crash::default()).unwrap();
    assert!(found.birth && found.disks.len() == 4);
    assert!(dirs.iter().all(|dir| shard_folder(dir, 7).is_dir()));
    let cluster = found.disks[0].identity.cluster;
    assert!(
        found
            .disks
            .iter()
            .all(|disk| disk.identity.cluster == cluster)
    );
}

#[test]
fn f_39_foreign_mixed_copied_and_repeated_directories_are_refused_untouched() {
    let root = tempfile::tempdir().unwrap();
    let all = dirs(root.path(), 4);
    fs::create_dir(&all[0]).unwrap();
    fs::write(all[0].join("photo"), b"x").unwrap();
    assert!(matches!(refused(&all[..2]), IdentityError::Foreign { .. }));
    assert!(!all[1].exists(), "nothing was made");
    assert!(matches!(
        refused(&[all[1].clone(), all[1].clone()]),
        IdentityError::Twice { .. }
    ));
    born(&all[1..2]);
    born(&all[2..3]);
    assert!(matches!(
        refused(&all[1..3]),
        IdentityError::OtherStore { .. }
    ));
    fs::create_dir(&all[3]).unwrap();
    fs::copy(all[1].join(FILE), all[3].join(FILE)).unwrap();
    let copied = [all[1].clone(), all[3].clone()];
    assert!(matches!(refused(&copied), IdentityError::Copy { .. }));
}

#[test]
fn two_processes_cannot_have_one_disk() {
    let root = tempfile::tempdir().unwrap();
    let dirs = dirs(root.path(), 1);
    let first = claim_all(&dirs, &[], &SystemEnv, &Crash::default()).unwrap();
    assert!(matches!(refused(&dirs), IdentityError::Locked { .. }));
    drop(first);
    claim_all(&dirs, &[], &SystemEnv, &Crash::default()).unwrap();
}

#[test]
fn of_two_racing_births_the_second_never_writes_over_the_first() {
    let root = tempfile::tempdir().unwrap();
    let dirs = dirs(root.path(), 2);
    // Inspected before the other start came, and continued after it has ended.
    let mut states = vec![DirectoryState::Missing, DirectoryState::Missing];
    born(&dirs);
    let before: Vec<_> = dirs
        .iter()
        .map(|dir| fs::read(dir.join(FILE)).unwrap())
        .collect();
    let refused =
        create_disks(&dirs, &mut states, None, &SystemEnv, &Crash::default()).unwrap_err();
    assert!(matches!(refused, IdentityError::Locked { .. }), "{refused}");
    let after: Vec<_> = dirs
        .iter()
        .map(|dir| fs::read(dir.join(FILE)).unwrap())
        .collect();
    assert_eq!(before, after);
}

#[test]
fn f_05_every_flipped_bit_of_an_identity_is_seen() {
    let root = tempfile::tempdir().unwrap();
    let dirs = dirs(root.path(), 1);
    born(&dirs);
    let bytes = fs::read(dirs[0].join(FILE)).unwrap();
    let identity = decode(&bytes).unwrap();
    assert!(is_still(&SystemEnv, &dirs[0], identity.disk).unwrap());
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(decode(&flipped), None, "bit {bit}");
    }
    // One of the two is enough, and the other is repaired.
    for name in [FILE, COPY_FILE] {
        fs::write(dirs[0].join(name), &bytes[..50]).unwrap();
        assert!(is_still(&SystemEnv, &dirs[0], identity.disk).unwrap());
        let found = claim_all(&dirs, &[], &SystemEnv, &Crash::default()).unwrap();
        assert_eq!(found.disks[0].identity, identity);
        assert_eq!(fs::read(dirs[0].join(name)).unwrap(), bytes);
    }
    for name in [FILE, COPY_FILE] {
        fs::write(dirs[0].join(name), &bytes[..50]).unwrap();
    }
    assert!(!is_still(&SystemEnv, &dirs[0], identity.disk).unwrap());
    assert!(matches!(
        claim_all(&dirs, &[], &SystemEnv, &Crash::default()).unwrap_err(),
        IdentityError::Damaged { .. }
    ));
}

/// Writes a file of another version, which may be longer and ends with its checksum.
fn write_version(dir: &Path, version: u16, more: usize) {
    let mut bytes = fs::read(dir.join(FILE)).unwrap();
    bytes.truncate(96);
    bytes[8..10].copy_from_slice(&version.to_le_bytes());
    bytes.extend(vec![7; more]);
    let checksum = xxhash_rust::xxh3::xxh3_64(&bytes);
    bytes.extend(checksum.to_le_bytes());
    fs::write(dir.join(FILE), bytes).unwrap();
}

/// Once nothing but a row that did not decode said that a newer version had written the store.
#[test]
fn f_36_a_store_of_a_newer_version_is_refused_untouched() {
    let root = tempfile::tempdir().unwrap();
    let dirs = dirs(root.path(), 4);
    born(&dirs);
    for more in [0, 24] {
        write_version(&dirs[2], 2, more);
        let before = fs::read(dirs[2].join(FILE)).unwrap();
        let error = refused(&dirs);
        assert!(
            matches!(&error, IdentityError::Newer { dir, found: 2, known: 1 } if *dir == dirs[2]),
            "{error}"
        );
        assert!(lock_only(&dirs, &SystemEnv).is_err());
        assert_eq!(fs::read(dirs[2].join(FILE)).unwrap(), before);
    }
    // A bit that flipped in the version is damage, and the copy tells the truth.
    let mut bytes = fs::read(dirs[1].join(FILE)).unwrap();
    bytes[8] ^= 2;
    fs::write(dirs[1].join(FILE), bytes).unwrap();
    fs::copy(dirs[2].join(COPY_FILE), dirs[2].join(FILE)).unwrap();
    let found = claim_all(&dirs, &[], &SystemEnv, &Crash::default()).unwrap();
    assert_eq!((found.disks.len(), found.lost.len()), (4, 0));
}
