//! The roster: what each disk's database records about itself and about the other disks.
//!
//! - **Starts.** Each start of the store has a number. It is synced first into every disk's own
//!   record, then into every disk's records of the others ([`stamp`]). So a disk whose own record
//!   has a lower number than another disk's record of it is an older copy of itself (F-14): its
//!   logs may lack entries that it has acknowledged. The own record of a disk that was merely
//!   offline has exactly the number that the others know.
//! - **Databases.** Each has a random id. A database that failed to write, or returned bytes that
//!   were not written, is *marked* on the other disks by this id (B-66, B-67), and is rebuilt.
//! - **Recoveries.** The ids of all recoveries of the metadata, oldest first; their number is the
//!   store's incarnation. And the recovery in progress, with the disks that take part in it.
//!
//! Rows are sealed with the disk's id, so a database that was moved to another disk has no valid
//! ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::try_join_all;
use rocksdb::{Direction, IteratorMode, WriteBatch};
use serde::{Deserialize, Serialize};

use crate::db::{Db, DbError, Family, log_tag};
use crate::raft::disk::OpenDisk;
use crate::raft::history::{History, RecoveryId};
use crate::raft::types::{RowFault, decode_sealed, seal};
use drystone_store::crash::DiskPoint;
use drystone_store::types::DiskId;

const VERSION: u8 = 1;
const OWN: u8 = 0;
const KNOWN: u8 = 1;
const MARK: u8 = 2;

/// Names one database that a disk has or had.
pub type DatabaseId = [u8; 16];

/// A database's record of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnRecord {
    pub database: DatabaseId,
    /// The last start that it took part in.
    pub start: u64,
    pub recoveries: Vec<RecoveryId>,
    pub prepared: Option<PreparedRecovery>,
}

/// A recovery in progress. It counts as done once all of `disks` have it among their `recoveries`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreparedRecovery {
    pub id: RecoveryId,
    pub disks: Vec<DiskId>,
}

impl OwnRecord {
    pub fn new(database: DatabaseId, start: u64, recoveries: Vec<RecoveryId>) -> OwnRecord {
        OwnRecord {
            database,
            start,
            recoveries,
            prepared: None,
        }
    }

    pub fn incarnation(&self) -> u64 {
        self.recoveries.len() as u64
    }
}

/// A database's record of another disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerRecord {
    pub database: DatabaseId,
    pub start: u64,
}

/// The reason why a database must not be used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DatabaseFault {
    /// A write or sync failed. Everything that it acknowledged before is still there.
    Unwritable,
    /// It returned bytes that were not written.
    Damaged,
}

/// All roster rows of one database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    /// None: the database is new.
    pub own: Option<OwnRecord>,
    pub known: BTreeMap<DiskId, PeerRecord>,
    pub marks: BTreeMap<(DiskId, DatabaseId), DatabaseFault>,
}

impl Roster {
    /// Returns the marks that are no longer needed once `now` is recorded.
    ///
    /// A mark is obsolete when its disk has a newer database that was already recorded by an
    /// earlier start. If the marked database came back, it would be found to be an older copy,
    /// because its start is lower than the recorded one. One start is not enough: the marked
    /// database may carry the number of the start in which it failed, so that only the second
    /// start with the newer database exceeds it.
    fn obsolete_marks(&self, now: &[(DiskId, &OwnRecord)]) -> Vec<(DiskId, DatabaseId)> {
        let is_obsolete = |(of, database): &&(DiskId, DatabaseId)| {
            let (Some(known), Some((_, own))) =
                (self.known.get(of), now.iter().find(|(disk, _)| disk == of))
            else {
                return false;
            };
            known.database != *database && own.database == known.database && own.start > known.start
        };
        self.marks.keys().filter(is_obsolete).copied().collect()
    }
}

/// The degree to which a disk's metadata are trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    Full,
    /// Its database failed to write once. It counts only if the other disks are too few.
    LastResort,
    /// The disk is an older copy of itself: entries that its replicas acknowledged may be missing.
    Stale,
    /// Its database is damaged.
    None,
}

/// Judges each disk by its own record and the other disks' records and marks of it.
pub fn judge(rosters: &BTreeMap<DiskId, Roster>) -> BTreeMap<DiskId, Trust> {
    let judge = |(disk, roster): (&DiskId, &Roster)| {
        let Some(own) = &roster.own else {
            return (*disk, Trust::Full);
        };
        let others = rosters.iter().filter(|(other, _)| *other != disk);
        let of_it = others
            .clone()
            .filter_map(|(_, other)| other.known.get(disk));
        let newest = of_it.max_by_key(|known| known.start);
        let faults: Vec<_> = others
            .filter_map(|(_, other)| other.marks.get(&(*disk, own.database)))
            .collect();
        let is_older = |known: &PeerRecord| {
            known.start > own.start || known.start == own.start && known.database != own.database
        };
        let trust = if faults.contains(&&DatabaseFault::Damaged) {
            Trust::None
        } else if newest.is_some_and(is_older) {
            Trust::Stale
        } else if !faults.is_empty() {
            Trust::LastResort
        } else {
            Trust::Full
        };
        (*disk, trust)
    };
    rosters.iter().map(judge).collect()
}

fn key(kind: u8, ids: &[&[u8]]) -> Vec<u8> {
    [&[log_tag::ROSTER, kind][..], &ids.concat()].concat()
}

fn owner(disk: DiskId) -> u64 {
    let (first, _) = disk.0.split_at(8);
    first
        .iter()
        .fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}

fn put(db: &Db, batch: &mut WriteBatch, disk: DiskId, key: Vec<u8>, record: &impl Serialize) {
    let mut bytes = vec![VERSION];
    bytes.extend(postcard::to_allocvec(record).expect("a record always encodes"));
    batch.put_cf(db.family(Family::Log), key, seal(owner(disk), bytes));
}

fn decode<T: for<'a> Deserialize<'a>>(disk: DiskId, sealed: &[u8]) -> Result<T, RowFault> {
    decode_sealed(owner(disk), sealed, |bytes| match bytes.split_first()? {
        (&VERSION, record) => postcard::from_bytes(record).ok(),
        _ => None,
    })
}

pub fn put_own(db: &Db, batch: &mut WriteBatch, disk: DiskId, own: &OwnRecord) {
    put(db, batch, disk, key(OWN, &[]), own);
}

/// Reads the roster in the database of `disk`. Blocks.
pub fn read(db: &Db, disk: DiskId) -> Result<Roster, DbError> {
    let mut roster = Roster::default();
    let first = [log_tag::ROSTER];
    let mode = IteratorMode::From(&first, Direction::Forward);
    for row in db.rocks().iterator_cf(db.family(Family::Log), mode) {
        let (key, value) = row.map_err(|e| db.failed(e))?;
        let fault = |fault: RowFault| fault.into_error(db, format!("roster row {key:02x?}"));
        let bad = || db.corrupt(format!("roster row {key:02x?} is not this disk's"));
        let Some((&log_tag::ROSTER, rest)) = key.split_first() else {
            break;
        };
        let (kind, ids) = rest.split_first().ok_or_else(bad)?;
        let id = |at: usize| -> Option<[u8; 16]> { ids.get(at..at + 16)?.try_into().ok() };
        match *kind {
            OWN => roster.own = Some(decode(disk, &value).map_err(fault)?),
            KNOWN => {
                let of = DiskId(id(0).ok_or_else(bad)?);
                roster
                    .known
                    .insert(of, decode(disk, &value).map_err(fault)?);
            }
            MARK => {
                let (of, database) = id(0).zip(id(16)).ok_or_else(bad)?;
                let fault = decode(disk, &value).map_err(fault)?;
                roster.marks.insert((DiskId(of), database), fault);
            }
            _ => return Err(fault(RowFault::Unfit)),
        }
    }
    Ok(roster)
}

pub async fn read_own(db: &Arc<Db>, disk: DiskId) -> Result<Option<OwnRecord>, DbError> {
    Ok(db.run_blocking(move |db| read(db, disk)).await?.own)
}

/// Changes a database's own record. Creates the record if there is none.
pub async fn change_own(
    disk: &OpenDisk,
    change: impl FnOnce(&mut OwnRecord),
) -> Result<OwnRecord, DbError> {
    let own = read_own(&disk.db, disk.id).await?;
    let new = || OwnRecord::new(disk.db.env().random(), 0, Vec::new());
    let mut own = own.unwrap_or_else(new);
    change(&mut own);
    disk.db
        .synced(|batch| put_own(&disk.db, batch, disk.id, &own))
        .await?;
    Ok(own)
}

/// Makes a database part of the store, with the store's history. A database with replicas of
/// another history must have lost them before: they would count as if they had always been part of
/// this one.
pub async fn join(disk: &OpenDisk, history: &History) -> Result<OwnRecord, DbError> {
    let join = |own: &mut OwnRecord| {
        own.start = own.start.max(history.start);
        own.recoveries = history.recoveries.clone();
        own.prepared = None;
    };
    change_own(disk, join).await
}

/// Records on all `disks` that they take part in this start.
///
/// Power goes within the first half: some own records have a higher number than the other disks'
/// records, which does not make any disk look old. Within the second half: each disk that the
/// others know to have taken part has it in its own record, too.
pub async fn stamp(disks: &[OpenDisk], start: u64) -> Result<(), DbError> {
    let own = async |disk: &OpenDisk| {
        let stamped = change_own(disk, |own| {
            own.start = own.start.max(start);
            // The decision of this start has already considered the prepared recovery.
            own.prepared = None;
        });
        let own = stamped.await?;
        disk.db.crash().pass_disk(DiskPoint::StartStamped);
        Ok::<_, DbError>(own)
    };
    let owns = try_join_all(disks.iter().map(own)).await?;
    let known: Vec<_> = disks.iter().map(|disk| disk.id).zip(&owns).collect();
    let note = |disk: &OpenDisk| {
        let (disk, known) = (disk.clone(), known.clone());
        async move {
            let id = disk.id;
            let before = disk.db.run_blocking(move |db| read(db, id)).await?;
            let fill = |batch: &mut WriteBatch| {
                for (of, database) in before.obsolete_marks(&known) {
                    let key = key(MARK, &[&of.0, &database]);
                    batch.delete_cf(disk.db.family(Family::Log), key);
                }
                for (of, own) in known.iter().filter(|(of, _)| *of != disk.id) {
                    let known = PeerRecord {
                        database: own.database,
                        start: own.start,
                    };
                    let key = key(KNOWN, &[&of.0]);
                    put(&disk.db, batch, disk.id, key, &known);
                }
            };
            disk.db.synced(fill).await?;
            disk.db.crash().pass_disk(DiskPoint::StartKnown);
            Ok::<_, DbError>(())
        }
    };
    try_join_all(disks.iter().map(note)).await?;
    Ok(())
}

/// Marks the database of `disk` on the disk `other` as one that must not be used again.
pub async fn mark(
    other: &OpenDisk,
    disk: DiskId,
    database: DatabaseId,
    fault: DatabaseFault,
) -> Result<(), DbError> {
    let key = key(MARK, &[&disk.0, &database]);
    let fill = |batch: &mut WriteBatch| put(&other.db, batch, other.id, key, &fault);
    other.db.synced(fill).await
}

/// Lifts these marks from a database. Blocks.
pub fn lift(db: &Db, marks: impl IntoIterator<Item = (DiskId, DatabaseId)>) -> Result<(), DbError> {
    let mut batch = WriteBatch::default();
    for (of, database) in marks {
        let key = key(MARK, &[&of.0, &database]);
        batch.delete_cf(db.family(Family::Log), key);
    }
    db.write_unsynced(batch)?;
    // The store is stopped, so nothing else makes it durable.
    db.flush(&[Family::Log])
}

/// Marks the database of `disk` that `other` has on record.
pub async fn mark_known(
    other: &OpenDisk,
    disk: DiskId,
    fault: DatabaseFault,
) -> Result<(), DbError> {
    let id = other.id;
    let known = other.db.run_blocking(move |db| read(db, id)).await?.known;
    match known.get(&disk) {
        Some(known) => mark(other, disk, known.database, fault).await,
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(n: u8) -> DiskId {
        DiskId([n; 16])
    }

    /// A roster whose own record has this `database` and `start`.
    fn roster(database: u8, start: u64, known: &[(u8, u8, u64)]) -> Roster {
        let known = known.iter().map(|&(n, database, start)| {
            let database = [database; 16];
            (disk(n), PeerRecord { database, start })
        });
        Roster {
            own: Some(OwnRecord::new([database; 16], start, Vec::new())),
            known: known.collect(),
            marks: BTreeMap::new(),
        }
    }

    fn judged(rosters: Vec<Roster>) -> Vec<Trust> {
        let numbered = (1..).map(disk).zip(rosters).collect();
        judge(&numbered).into_values().collect()
    }

    #[test]
    fn f_14_an_older_copy_is_distinguished_from_a_disk_that_was_offline() {
        let offline = judged(vec![
            roster(1, 7, &[(2, 2, 5), (3, 3, 7)]),
            roster(2, 5, &[(1, 1, 5), (3, 3, 5)]),
            roster(3, 7, &[(1, 1, 7), (2, 2, 5)]),
        ]);
        assert_eq!(offline, [Trust::Full; 3]);
        let older = judged(vec![roster(1, 7, &[(2, 2, 7)]), roster(2, 5, &[(1, 1, 5)])]);
        assert_eq!(older, [Trust::Full, Trust::Stale]);
        // A start that crashed between its two halves makes no disk old.
        let crashed = judged(vec![roster(1, 8, &[(2, 2, 7)]), roster(2, 7, &[(1, 1, 7)])]);
        assert_eq!(crashed, [Trust::Full; 2]);
        // The first database was rebuilt since the second was copied; the record in the old copy
        // does not count against the first.
        let rebuilt = judged(vec![roster(9, 7, &[(2, 2, 7)]), roster(2, 5, &[(1, 1, 5)])]);
        assert_eq!(rebuilt, [Trust::Full, Trust::Stale]);
    }

    #[test]
    fn b_66_a_mark_is_about_one_database_and_no_other() {
        let mut all = vec![roster(1, 7, &[]), roster(2, 7, &[]), roster(3, 7, &[])];
        all[0]
            .marks
            .insert((disk(2), [2; 16]), DatabaseFault::Unwritable);
        all[0]
            .marks
            .insert((disk(3), [8; 16]), DatabaseFault::Damaged);
        let expected = [Trust::Full, Trust::LastResort, Trust::Full];
        assert_eq!(judged(all.clone()), expected);
        all[1]
            .marks
            .insert((disk(3), [3; 16]), DatabaseFault::Damaged);
        assert_eq!(judged(all), [Trust::Full, Trust::LastResort, Trust::None]);
    }

    #[test]
    fn b_66_a_mark_goes_when_the_database_would_be_old_without_it() {
        let mut marked = roster(1, 7, &[(2, 2, 7)]);
        marked
            .marks
            .insert((disk(2), [2; 16]), DatabaseFault::Unwritable);
        let obsolete = |marked: &Roster, database: u8, start: u64| {
            let own = roster(database, start, &[]).own.unwrap();
            marked.obsolete_marks(&[(disk(2), &own)]).len()
        };
        // The disk still has the failed database, or the new one was not on record before.
        assert_eq!(obsolete(&marked, 2, 8), 0);
        assert_eq!(obsolete(&marked, 3, 8), 0);
        marked.known = roster(1, 7, &[(2, 3, 7)]).known;
        assert_eq!(obsolete(&marked, 3, 7), 0);
        assert_eq!(obsolete(&marked, 3, 8), 1);
        // From then on the marked database counts as an older copy, whatever its own number.
        for start in [7, 8] {
            let without = [roster(1, 8, &[(2, 3, 8)]), roster(2, start, &[])];
            assert_eq!(judged(without.into())[1], Trust::Stale);
        }
    }
}
