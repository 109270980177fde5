//! Recovers the metadata from the disks that are left, when a majority of voters is gone.
//!
//! Every acknowledged entry is on a majority of the V voters. So any V - majority + 1 of them (2 of
//! 4, 1 of 2) hold at least one copy of each entry, and the newest log among them holds all: it may
//! hold more than was acknowledged, never less. The replica with that log applies all of it and
//! starts again as the only voter, under a new id. The store's incarnation rises by one. Disks of a
//! lower incarnation lose their metadata, and `voters` gives them new replicas.
//!
//! The disks that take part agree in three steps. Any majority of the old voters would include one
//! of them.
//!
//! 1. [`prepare`]: each disk notes the recovery's id and the disks that take part. Power goes
//!    before all have: one disk without the note is enough to know that nothing was rewritten, and
//!    the next start forgets the recovery.
//! 2. [`form_group`]: one replica of each group is rewritten, in one batch. Power goes here, with
//!    all notes written: the next start continues where this one stopped. A disk that is missing
//!    then may have completed the recovery and answered requests, so the store waits for it.
//! 3. [`declare`]: each disk adds the recovery to its history. Power goes within: disks without it
//!    are where step 2 left them; a disk with it knows that all groups were rewritten. Nothing is
//!    answered before all disks have it, so that two halves of a store never both go on: the ids of
//!    their recoveries differ.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::try_join_all;

use super::roster::{PreparedRecovery, Roster, change_own};
use crate::meta::states::STATE_FAMILIES;
use crate::raft::history::RecoveryId;
use crate::raft::inspect::{self, Position, Replica};
use crate::raft::log::{delete_log, put_beginning, run_blocking};
use crate::raft::place::OpenDisk;
use crate::raft::replica_row::{ReplicaRow, delete_replica_row, put_replica_row};
use crate::raft::snapshot::put_membership;
use crate::raft::types::{LogId, Membership, ReplicaId, Seat, StoredMembership, Vote};
use drystone_store::crash::DiskPoint;
use drystone_store::error::{Error, Result};
use drystone_store::types::DiskId;

/// What a decision needs to know of a replica.
#[derive(Clone, Debug)]
pub struct End {
    pub id: ReplicaId,
    pub incarnation: u64,
    pub last: Option<Position>,
    /// The newest membership in its state or log: one set of voters, or two while they change.
    pub configs: Vec<BTreeSet<ReplicaId>>,
}

/// What the replicas of a group that are here can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strength {
    /// Elect a leader among them.
    Majority,
    /// Begin anew from this one.
    Enough(ReplicaId),
    /// Of `voters`, so many are here, and so many must be.
    TooFew {
        here: usize,
        needed: usize,
        voters: usize,
    },
}

fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// `ends`: all of one group and one incarnation whose logs are intact.
pub fn strength(ends: &[End]) -> Strength {
    let wins = |candidate: &&End| {
        let follows = |id: &ReplicaId| {
            let voter = ends.iter().find(|end| end.id == *id);
            voter.is_some_and(|voter| voter.last <= candidate.last)
        };
        let won = |config: &BTreeSet<_>| {
            config.iter().filter(|id| follows(id)).count() >= majority(config.len())
        };
        let stands = candidate.configs.iter().any(|c| c.contains(&candidate.id));
        stands && candidate.configs.iter().all(won)
    };
    if ends.iter().any(|end| wins(&end)) {
        return Strength::Majority;
    }
    let Some(newest) = ends.iter().max_by_key(|end| end.last) else {
        return Strength::TooFew {
            here: 0,
            needed: 1,
            voters: 0,
        };
    };
    // The newest log's membership is the one in force: a later one took effect only once a
    // majority of this one had it, which those here would have met.
    for config in &newest.configs {
        let here = config
            .iter()
            .filter(|id| ends.iter().any(|end| end.id == **id));
        let (here, voters) = (here.count(), config.len());
        let needed = voters - majority(voters) + 1;
        if here < needed {
            return Strength::TooFew {
                here,
                needed,
                voters,
            };
        }
    }
    match newest.configs.is_empty() || newest.last.is_none() {
        true => Strength::TooFew {
            here: 0,
            needed: 1,
            voters: 0,
        },
        false => Strength::Enough(newest.id),
    }
}

/// Why a store does not start with the disks that it has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Standstill {
    #[error(
        "disks {one} and {other} each went on without the other after others of the store were \
         lost; start with the disks that went on with the one or with the other, never with both"
    )]
    TwoHalves { one: DiskId, other: DiskId },
    #[error(
        "a recovery of the metadata was in progress when the store ended, and disk {missing} took \
         part in it; bring it back"
    )]
    RecoveryInterrupted { missing: DiskId },
    #[error(
        "{here} of {voters} copies of the metadata are usable, and {needed} are needed; bring \
         more of the store's disks back"
    )]
    TooFew {
        here: usize,
        needed: usize,
        voters: usize,
    },
    #[error("the metadata has no majority; it can be recovered from the disks that are here")]
    NoMajority,
}

/// What the disks that are trusted say together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// The longest past; that of all others is its beginning.
    pub recoveries: Vec<RecoveryId>,
    /// One that all who take part and are here have prepared.
    pub resumed: Option<PreparedRecovery>,
}

/// `trusted`: their rosters. `present`: all disks that are here, trusted or not.
pub fn past(
    trusted: &BTreeMap<DiskId, Roster>,
    present: &BTreeSet<DiskId>,
) -> Result<Past, Standstill> {
    let owns = || {
        trusted
            .iter()
            .filter_map(|(disk, w)| Some((*disk, w.own.as_ref()?)))
    };
    let Some((leading, longest)) = owns().max_by_key(|(_, own)| own.recoveries.len()) else {
        return Ok(Past {
            recoveries: Vec::new(),
            resumed: None,
        });
    };
    let recoveries = longest.recoveries.clone();
    if let Some((other, _)) = owns().find(|(_, own)| !recoveries.starts_with(&own.recoveries)) {
        return Err(Standstill::TwoHalves {
            one: leading,
            other,
        });
    }
    let current = || owns().filter(|(_, own)| own.recoveries == recoveries);
    let mut resumed = None;
    for (_, own) in current() {
        let Some(prepared) = &own.prepared else {
            continue;
        };
        let takes_part = |(disk, _): &(DiskId, _)| prepared.disks.contains(disk);
        let all_have = current()
            .filter(takes_part)
            .all(|(_, own)| own.prepared.as_ref() == Some(prepared));
        if !all_have {
            continue;
        }
        if let Some(missing) = prepared.disks.iter().find(|disk| !present.contains(disk)) {
            return Err(Standstill::RecoveryInterrupted { missing: *missing });
        }
        resumed = Some(prepared.clone());
    }
    Ok(Past {
        recoveries,
        resumed,
    })
}

/// First round.
pub async fn prepare(disks: &[OpenDisk], prepared: &PreparedRecovery) -> Result<()> {
    let prepare = async |disk: &OpenDisk| -> Result<()> {
        change_own(disk, |own| own.prepared = Some(prepared.clone())).await?;
        disk.db.crash().pass_disk(DiskPoint::RecoveryPrepared);
        Ok(())
    };
    try_join_all(disks.iter().map(prepare)).await?;
    Ok(())
}

/// Last round. `recoveries`: the store's past with this recovery as the last.
pub async fn declare(disks: &[OpenDisk], recoveries: &[RecoveryId]) -> Result<()> {
    let declare = async |disk: &OpenDisk| -> Result<()> {
        let declared = change_own(disk, |own| {
            own.recoveries = recoveries.to_vec();
            own.prepared = None;
        });
        declared.await?;
        disk.db.crash().pass_disk(DiskPoint::RecoveryDeclared);
        Ok(())
    };
    try_join_all(disks.iter().map(declare)).await?;
    Ok(())
}

/// Makes `replica`, with all that its log has, the only voter of its group.
///
/// One batch: power leaves the old replica or the new one. What is applied of the old log before
/// is in the same WAL before it. The vote is as if the new one had voted for itself in a term that
/// nobody had, so that whatever the old voters still say is of the past.
pub async fn form_group(disk: &OpenDisk, replica: &Replica, incarnation: u64) -> Result<ReplicaId> {
    let whole = replica.clone();
    let applied = tokio::task::spawn_blocking(move || -> Result<LogId> {
        inspect::catch_up(&whole, &whole)?;
        whole.db().flush(&STATE_FAMILIES)?;
        let (applied, _) = whole.read_applied()?;
        let all = applied.filter(|id| Some(Position::of(*id)) == whole.log_end);
        all.ok_or_else(|| Error::Corrupt(format!("the log of {} is not whole", whole.replica())))
    });
    let applied = applied.await.map_err(|_| Error::Closing)??;
    let (old, old_row) = (replica.replica(), replica.row());
    let new = ReplicaId::random();
    let row = ReplicaRow {
        incarnation,
        ..old_row
    };
    let voters = vec![BTreeSet::from([new])];
    let seats = BTreeMap::from([(new, Seat { disk: disk.id })]);
    let membership = Membership::new(voters, seats).map_err(|e| Error::Corrupt(e.to_string()))?;
    let membership = StoredMembership::new(Some(applied), membership);
    let term = replica.vote_term().max(applied.leader_id.term) + 1;
    let vote = Vote::new(term, new);
    let db = &disk.db;
    db.synced(|batch| {
        delete_replica_row(db, batch, old);
        delete_log(db, batch, old);
        put_replica_row(db, batch, new, &row);
        put_beginning(db, batch, new, &vote, &applied);
        put_membership(db, batch, row.state, &membership);
    })
    .await?;
    db.crash().pass_disk(DiskPoint::RecoveryFormed);
    tracing::warn!(group = row.group.0, disk = %disk.id, %old, %new, index = applied.index,
        incarnation, "metadata is recovered from the newest log");
    Ok(new)
}

/// A group's replicas of one incarnation on trusted disks.
pub struct Survivors {
    pub replicas: Vec<(OpenDisk, Replica, End)>,
}

impl Survivors {
    fn of_incarnation(&self, incarnation: u64) -> impl Iterator<Item = &(OpenDisk, Replica, End)> {
        self.replicas
            .iter()
            .filter(move |(_, _, end)| end.incarnation == incarnation)
    }

    pub fn strength(&self, incarnation: u64) -> Strength {
        let ends: Vec<_> = self
            .of_incarnation(incarnation)
            .map(|(_, _, end)| end.clone())
            .collect();
        strength(&ends)
    }

    /// Whether a recovery that was cut has rewritten this group.
    pub fn is_formed(&self, incarnation: u64) -> bool {
        self.of_incarnation(incarnation).next().is_some()
    }

    /// What is left to rewrite when the group is to begin anew after `incarnation`.
    fn newest(&self, incarnation: u64) -> Result<Option<&(OpenDisk, Replica, End)>, Standstill> {
        if self.is_formed(incarnation + 1) {
            return Ok(None);
        }
        let of = self
            .of_incarnation(incarnation)
            .max_by_key(|(_, _, end)| end.last);
        match self.strength(incarnation) {
            Strength::TooFew {
                here,
                needed,
                voters,
            } => Err(Standstill::TooFew {
                here,
                needed,
                voters,
            }),
            Strength::Majority | Strength::Enough(_) => Ok(of),
        }
    }
}

/// All rounds, or those that a cut has left. Gives the store's past with this recovery.
pub async fn recover(
    disks: &[OpenDisk],
    groups: &[Survivors],
    past: &Past,
) -> Result<Result<Vec<RecoveryId>, Standstill>> {
    let incarnation = past.recoveries.len() as u64;
    let mut from = Vec::new();
    for group in groups {
        match group.newest(incarnation) {
            Ok(newest) => from.extend(newest),
            Err(standstill) => return Ok(Err(standstill)),
        }
    }
    let prepared = match &past.resumed {
        Some(resumed) => resumed.clone(),
        None => PreparedRecovery {
            id: rand::random(),
            disks: disks.iter().map(|disk| disk.id).collect(),
        },
    };
    tracing::warn!(
        disks = disks.len(),
        incarnation = incarnation + 1,
        "a majority of the metadata's copies is lost: recovering it from the others"
    );
    prepare(disks, &prepared).await?;
    for (disk, replica, _) in from {
        form_group(disk, replica, incarnation + 1).await?;
    }
    let mut recoveries = past.recoveries.clone();
    recoveries.push(prepared.id);
    declare(disks, &recoveries).await?;
    Ok(Ok(recoveries))
}

/// The replicas of a disk, and where they end. Blocks.
pub async fn ends(disk: &OpenDisk) -> Result<Vec<(OpenDisk, Replica, End)>> {
    let (db, disk) = (disk.db.clone(), disk.clone());
    let read = run_blocking(move || {
        let replicas = inspect::replicas(&db)?;
        let end = |replica: Replica| {
            let end = End {
                id: replica.replica(),
                incarnation: replica.incarnation(),
                last: replica.log_end,
                configs: replica.newest_membership()?.get_joint_config().clone(),
            };
            Ok((disk.clone(), replica, end))
        };
        replicas.into_iter().map(end).collect::<Result<Vec<_>, _>>()
    });
    Ok(read.await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::recovery::roster::OwnRecord;

    fn end(id: u64, term: u64, index: u64, configs: &[&[u64]]) -> End {
        let ids = |ids: &&[u64]| ids.iter().copied().map(ReplicaId).collect();
        let leader = 1;
        End {
            id: ReplicaId(id),
            incarnation: 0,
            last: Some(Position {
                term,
                leader,
                index,
            }),
            configs: configs.iter().map(ids).collect(),
        }
    }

    const FOUR: &[u64] = &[1, 2, 3, 4];

    fn too_few(ends: &[End]) -> bool {
        matches!(strength(ends), Strength::TooFew { .. })
    }

    #[test]
    fn f_16_two_of_four_or_one_of_two_hold_all_and_one_of_four_does_not() {
        let (one, two) = (end(1, 3, 90, &[FOUR]), end(2, 4, 80, &[FOUR]));
        let three = end(3, 3, 10, &[FOUR]);
        let all = [one.clone(), two.clone(), three];
        assert_eq!(strength(&all), Strength::Majority);
        // The newer log, not the longer one.
        assert_eq!(strength(&all[..2]), Strength::Enough(ReplicaId(2)));
        assert!(too_few(&all[..1]));
        assert_eq!(
            strength(&[end(1, 1, 1, &[&[1, 2]])]),
            Strength::Enough(ReplicaId(1))
        );
        assert!(too_few(&[end(1, 1, 1, &[&[1, 2, 3]])]));
        assert!(too_few(&[]));
    }

    #[test]
    fn f_22_those_who_left_the_membership_do_not_count() {
        // Two of the old four, of whom one saw the change that put all in other hands.
        let old = end(1, 3, 90, &[FOUR]);
        let saw = end(2, 3, 91, &[FOUR, &[5, 6, 7, 8]]);
        assert!(too_few(&[old.clone(), saw.clone()]));
        let new = end(5, 3, 91, &[FOUR, &[5, 6, 7, 8]]);
        assert!(too_few(&[old.clone(), saw.clone(), new.clone()]));
        let other = end(6, 3, 91, &[FOUR, &[5, 6, 7, 8]]);
        assert!(matches!(
            strength(&[old, saw, new, other]),
            Strength::Enough(_)
        ));
    }

    fn owned(incarnation: u8, prepared: Option<(u8, &[u8])>) -> Roster {
        let recoveries = (1..=incarnation).map(|n| [n; 16]).collect();
        let prepared = prepared.map(|(id, disks)| PreparedRecovery {
            id: [id; 16],
            disks: disks.iter().map(|n| DiskId([*n; 16])).collect(),
        });
        Roster {
            own: Some(OwnRecord {
                prepared,
                ..OwnRecord::new(1, recoveries)
            }),
            ..Roster::default()
        }
    }

    fn past_of(disks: &[(u8, Roster)]) -> Result<Past, Standstill> {
        let trusted: BTreeMap<_, _> = disks
            .iter()
            .map(|(n, roster)| (DiskId([*n; 16]), roster.clone()))
            .collect();
        let present = trusted.keys().copied().collect();
        past(&trusted, &present)
    }

    #[test]
    fn f_39_two_halves_that_both_went_on_refuse_each_other() {
        let mut other = owned(1, None);
        other.own.as_mut().unwrap().recoveries[0] = [9; 16];
        let halves = [(1, owned(2, None)), (2, other)];
        assert!(matches!(
            past_of(&halves),
            Err(Standstill::TwoHalves { .. })
        ));
        // One that did not go on has a past that the other shares.
        let late = [
            (1, owned(2, None)),
            (2, owned(1, None)),
            (3, owned(0, None)),
        ];
        assert_eq!(past_of(&late).unwrap().recoveries.len(), 2);
    }

    #[test]
    fn f_01_an_interrupted_recovery_is_forgotten_resumed_or_waited_for() {
        let both: (u8, &[u8]) = (7, &[1, 2]);
        let begun = [(1, owned(0, Some(both))), (2, owned(0, None))];
        assert_eq!(past_of(&begun).unwrap().resumed, None);
        let prepared = [(1, owned(0, Some(both))), (2, owned(0, Some(both)))];
        assert!(past_of(&prepared).unwrap().resumed.is_some());
        let waits = [(1, owned(0, Some(both))), (3, owned(0, None))];
        let missing = DiskId([2; 16]);
        assert_eq!(
            past_of(&waits),
            Err(Standstill::RecoveryInterrupted { missing })
        );
        // Declared on one: the other follows.
        let mut first = owned(0, None);
        first.own.as_mut().unwrap().recoveries.push([7; 16]);
        let declared = past_of(&[(1, first), (2, owned(0, Some(both)))]).unwrap();
        assert_eq!((declared.recoveries.len(), declared.resumed), (1, None));
    }
}
