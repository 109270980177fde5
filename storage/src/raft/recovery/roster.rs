//! What a disk's database says of itself, and witnesses of the other disks of its store.
//!
//! - **Starts.** Each start of the store has a number. First it is synced into every disk's own
//!   record, then into what every disk knows of every other ([`stamp`]). So a disk that says less
//!   of itself than another knows of it is an older copy of itself (F-14): its logs may lack what
//!   it has acknowledged. A disk that was merely away says just what the others know.
//! - **Databases.** Each has a random id. One that failed to write, or gave back what was not
//!   written, is *marked* on the other disks by this id (B-66, B-67), and made anew.
//! - **Recoveries.** The ids of all recoveries of the metadata, oldest first;
//!   their number is the store's epoch. And the one that is under way, with the disks that take
//!   part in it.
//!
//! Rows are sealed by the disk: a database that lies on another disk's place has none.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::try_join_all;
use rocksdb::{Direction, IteratorMode, WriteBatch};
use serde::{Deserialize, Serialize};

use crate::db::{Db, DbError, Family, log_tag};
use crate::raft::history::{RecoveryId, Standing};
use crate::raft::log::run_blocking;
use crate::raft::place::OpenDisk;
use crate::raft::types::{seal, unseal};
use drystone_store::crash::DiskPoint;
use drystone_store::types::DiskId;

const VERSION: u8 = 1;
const OWN: u8 = 0;
const KNOWN: u8 = 1;
const MARK: u8 = 2;

/// Names one database that a disk has or had.
pub type DatabaseId = [u8; 16];

/// What a database says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Own {
    pub database: DatabaseId,
    /// The last start that it took part in.
    pub start: u64,
    pub recoveries: Vec<RecoveryId>,
    pub preparing: Option<Preparing>,
}

/// A recovery under way. It happened only once all of `disks` have it among their `recoveries`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preparing {
    pub id: RecoveryId,
    pub disks: Vec<DiskId>,
}

impl Own {
    pub fn new(start: u64, recoveries: Vec<RecoveryId>) -> Own {
        Own {
            database: rand::random(),
            start,
            recoveries,
            preparing: None,
        }
    }

    pub fn epoch(&self) -> u64 {
        self.recoveries.len() as u64
    }
}

/// What is known of another disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    pub database: DatabaseId,
    pub start: u64,
}

/// Why a database is not to be used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// A write or sync failed. What it acknowledged before is there all the same.
    Unwritable,
    /// It gave back what was not written.
    Damaged,
}

/// All that a database witnesses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Witness {
    /// None: it is new.
    pub own: Option<Own>,
    pub known: BTreeMap<DiskId, Known>,
    pub marks: BTreeMap<(DiskId, DatabaseId), Fault>,
}

impl Witness {
    /// Marks that say nothing more, once `now` is known of the disks: of databases in whose place
    /// another was known before, by a start that is past now. Whoever brings the marked one back
    /// finds it older than what this database knows of its disk; for one that was stamped ahead of
    /// the start in which it failed, that is only so from the second start on that knows the other.
    fn settled_marks(&self, now: &[(DiskId, &Own)]) -> Vec<(DiskId, DatabaseId)> {
        let is_settled = |(of, database): &&(DiskId, DatabaseId)| {
            let (Some(known), Some((_, own))) =
                (self.known.get(of), now.iter().find(|(disk, _)| disk == of))
            else {
                return false;
            };
            known.database != *database && own.database == known.database && own.start > known.start
        };
        self.marks.keys().filter(is_settled).copied().collect()
    }
}

/// How far a disk's metadata are to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    Full,
    /// Its database failed to write once. Where the others are too few it still counts.
    Poor,
    /// An older copy of itself: what its replicas acknowledged may be missing.
    Stale,
    /// Its database is damaged.
    None,
}

/// Judges each disk by what it says of itself and the others of it.
pub fn judge(witnesses: &BTreeMap<DiskId, Witness>) -> BTreeMap<DiskId, Trust> {
    let judge = |(disk, witness): (&DiskId, &Witness)| {
        let Some(own) = &witness.own else {
            return (*disk, Trust::Full);
        };
        let others = witnesses.iter().filter(|(other, _)| *other != disk);
        let of_it = others
            .clone()
            .filter_map(|(_, other)| other.known.get(disk));
        let newest = of_it.max_by_key(|known| known.start);
        let faults: Vec<_> = others
            .filter_map(|(_, other)| other.marks.get(&(*disk, own.database)))
            .collect();
        let is_older = |known: &Known| {
            known.start > own.start || known.start == own.start && known.database != own.database
        };
        let trust = if faults.contains(&&Fault::Damaged) {
            Trust::None
        } else if newest.is_some_and(is_older) {
            Trust::Stale
        } else if !faults.is_empty() {
            Trust::Poor
        } else {
            Trust::Full
        };
        (*disk, trust)
    };
    witnesses.iter().map(judge).collect()
}

fn key(kind: u8, ids: &[&[u8]]) -> Vec<u8> {
    [&[log_tag::WITNESS, kind][..], &ids.concat()].concat()
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

fn decode<T: for<'a> Deserialize<'a>>(disk: DiskId, sealed: &[u8]) -> Option<T> {
    match unseal(owner(disk), sealed)?.split_first()? {
        (&VERSION, record) => postcard::from_bytes(record).ok(),
        _ => None,
    }
}

pub fn put_own(db: &Db, batch: &mut WriteBatch, disk: DiskId, own: &Own) {
    put(db, batch, disk, key(OWN, &[]), own);
}

/// All that the database of `disk` witnesses. Blocks.
pub fn read(db: &Db, disk: DiskId) -> Result<Witness, DbError> {
    let mut witness = Witness::default();
    let first = [log_tag::WITNESS];
    let mode = IteratorMode::From(&first, Direction::Forward);
    for row in db.rocks().iterator_cf(db.family(Family::Log), mode) {
        let (key, value) = row.map_err(|e| db.failed(e))?;
        let bad = || db.corrupt(format!("witness row {key:02x?} is not this disk's"));
        let Some((&log_tag::WITNESS, rest)) = key.split_first() else {
            break;
        };
        let (kind, ids) = rest.split_first().ok_or_else(bad)?;
        let id = |at: usize| -> Option<[u8; 16]> { ids.get(at..at + 16)?.try_into().ok() };
        match *kind {
            OWN => witness.own = Some(decode(disk, &value).ok_or_else(bad)?),
            KNOWN => {
                let of = DiskId(id(0).ok_or_else(bad)?);
                witness
                    .known
                    .insert(of, decode(disk, &value).ok_or_else(bad)?);
            }
            MARK => {
                let (of, database) = id(0).zip(id(16)).ok_or_else(bad)?;
                let fault = decode(disk, &value).ok_or_else(bad)?;
                witness.marks.insert((DiskId(of), database), fault);
            }
            _ => return Err(bad()),
        }
    }
    Ok(witness)
}

pub async fn read_own(db: &Arc<Db>, disk: DiskId) -> Result<Option<Own>, DbError> {
    let db = db.clone();
    Ok(run_blocking(move || read(&db, disk)).await?.own)
}

/// Changes a database's own record, and makes it if it has none.
pub async fn change_own(disk: &OpenDisk, change: impl FnOnce(&mut Own)) -> Result<Own, DbError> {
    let own = read_own(&disk.db, disk.id).await?;
    let mut own = own.unwrap_or_else(|| Own::new(0, Vec::new()));
    change(&mut own);
    disk.db
        .synced(|batch| put_own(&disk.db, batch, disk.id, &own))
        .await?;
    Ok(own)
}

/// Makes a database one of the store's as it stands. One that has replicas of another past must
/// have lost them before: they would count as if they had been there all the time.
pub async fn join(disk: &OpenDisk, standing: &Standing) -> Result<Own, DbError> {
    let join = |own: &mut Own| {
        own.start = own.start.max(standing.start);
        own.recoveries = standing.recoveries.clone();
        own.preparing = None;
    };
    change_own(disk, join).await
}

/// Notes on all `disks` that they take part in this start.
///
/// Power goes within the first half: some say more of themselves than anyone knows of them, which
/// is no sign of age. Within the second: each disk that is known to have taken part says so.
pub async fn stamp(disks: &[OpenDisk], start: u64) -> Result<(), DbError> {
    let own = async |disk: &OpenDisk| {
        let stamped = change_own(disk, |own| {
            own.start = own.start.max(start);
            // Who starts has thought over what was being prepared.
            own.preparing = None;
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
            let (db, id) = (disk.db.clone(), disk.id);
            let before = run_blocking(move || read(&db, id)).await?;
            let fill = |batch: &mut WriteBatch| {
                for (of, database) in before.settled_marks(&known) {
                    let key = key(MARK, &[&of.0, &database]);
                    batch.delete_cf(disk.db.family(Family::Log), key);
                }
                for (of, own) in known.iter().filter(|(of, _)| *of != disk.id) {
                    let known = Known {
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

/// Marks the database of `disk` as not to be used again, on one of the `others`.
pub async fn mark(
    other: &OpenDisk,
    disk: DiskId,
    database: DatabaseId,
    fault: Fault,
) -> Result<(), DbError> {
    let key = key(MARK, &[&disk.0, &database]);
    let fill = |batch: &mut WriteBatch| put(&other.db, batch, other.id, key, &fault);
    other.db.synced(fill).await
}

/// The same for the database that `other` knows the disk by.
pub async fn mark_known(other: &OpenDisk, disk: DiskId, fault: Fault) -> Result<(), DbError> {
    let (db, id) = (other.db.clone(), other.id);
    let known = run_blocking(move || read(&db, id)).await?.known;
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

    /// Says of itself `start`, with a database named after it.
    fn witness(database: u8, start: u64, known: &[(u8, u8, u64)]) -> Witness {
        let known = known.iter().map(|&(n, database, start)| {
            let database = [database; 16];
            (disk(n), Known { database, start })
        });
        Witness {
            own: Some(Own {
                database: [database; 16],
                ..Own::new(start, Vec::new())
            }),
            known: known.collect(),
            marks: BTreeMap::new(),
        }
    }

    fn judged(witnesses: Vec<Witness>) -> Vec<Trust> {
        let numbered = (1..).map(disk).zip(witnesses).collect();
        judge(&numbered).into_values().collect()
    }

    #[test]
    fn f_14_an_older_copy_is_told_from_a_disk_that_was_away() {
        let away = judged(vec![
            witness(1, 7, &[(2, 2, 5), (3, 3, 7)]),
            witness(2, 5, &[(1, 1, 5), (3, 3, 5)]),
            witness(3, 7, &[(1, 1, 7), (2, 2, 5)]),
        ]);
        assert_eq!(away, [Trust::Full; 3]);
        let older = judged(vec![
            witness(1, 7, &[(2, 2, 7)]),
            witness(2, 5, &[(1, 1, 5)]),
        ]);
        assert_eq!(older, [Trust::Full, Trust::Stale]);
        // A start that was cut between its stamps makes nobody old.
        let cut = judged(vec![
            witness(1, 8, &[(2, 2, 7)]),
            witness(2, 7, &[(1, 1, 7)]),
        ]);
        assert_eq!(cut, [Trust::Full; 2]);
        // Made anew since the copy was taken; and the copy's word is no word against the other.
        let anew = judged(vec![
            witness(9, 7, &[(2, 2, 7)]),
            witness(2, 5, &[(1, 1, 5)]),
        ]);
        assert_eq!(anew, [Trust::Full, Trust::Stale]);
    }

    #[test]
    fn b_66_a_mark_is_about_one_database_and_no_other() {
        let mut all = vec![witness(1, 7, &[]), witness(2, 7, &[]), witness(3, 7, &[])];
        all[0].marks.insert((disk(2), [2; 16]), Fault::Unwritable);
        all[0].marks.insert((disk(3), [8; 16]), Fault::Damaged);
        assert_eq!(judged(all.clone()), [Trust::Full, Trust::Poor, Trust::Full]);
        all[1].marks.insert((disk(3), [3; 16]), Fault::Damaged);
        assert_eq!(judged(all), [Trust::Full, Trust::Poor, Trust::None]);
    }

    #[test]
    fn b_66_a_mark_goes_when_the_database_would_be_old_without_it() {
        let mut marked = witness(1, 7, &[(2, 2, 7)]);
        marked.marks.insert((disk(2), [2; 16]), Fault::Unwritable);
        let settled = |marked: &Witness, database: u8, start: u64| {
            let own = witness(database, start, &[]).own.unwrap();
            marked.settled_marks(&[(disk(2), &own)]).len()
        };
        // It is still the one that failed, or the other one was never known before.
        assert_eq!(settled(&marked, 2, 8), 0);
        assert_eq!(settled(&marked, 3, 8), 0);
        marked.known = witness(1, 7, &[(2, 3, 7)]).known;
        assert_eq!(settled(&marked, 3, 7), 0);
        assert_eq!(settled(&marked, 3, 8), 1);
        // From then on the marked one is old, however far ahead it was.
        for start in [7, 8] {
            let without = [witness(1, 8, &[(2, 3, 8)]), witness(2, start, &[])];
            assert_eq!(judged(without.into())[1], Trust::Stale);
        }
    }
}
