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
use crate::db::DbError;
use crate::meta::states::STATE_FAMILIES;
use crate::raft::disk::OpenDisk;
use crate::raft::history::RecoveryId;
use crate::raft::inspect::{self, Position, Replica};
use crate::raft::log::{delete_log, put_beginning};
use crate::raft::replica_row::{ReplicaRow, delete_replica_row, put_replica_row};
use crate::raft::snapshot::put_membership;
use crate::raft::types::{LogId, Membership, ReplicaId, Seat, StoredMembership, Vote};
use drystone_store::crash::DiskPoint;
use drystone_store::error::{Error, Result};
use drystone_store::types::DiskId;

/// The facts about a replica that a decision needs.
#[derive(Clone, Debug)]
pub struct ReplicaSummary {
    pub id: ReplicaId,
    pub incarnation: u64,
    pub last: Option<Position>,
    /// The newest membership in its state or log: one set of voters, or two while they change.
    pub configs: Vec<BTreeSet<ReplicaId>>,
}

/// The strength of a group's replicas that are here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strength {
    /// They can elect a leader.
    Majority,
    /// The group can be recovered from this replica.
    Enough(ReplicaId),
    /// `here` of `voters` are here, and `needed` must be.
    TooFew {
        here: usize,
        needed: usize,
        voters: usize,
    },
}

fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// Returns the strength of `replicas`, which must be all replicas of one group and one incarnation
/// whose logs are intact.
pub fn strength(replicas: &[ReplicaSummary]) -> Strength {
    let wins = |candidate: &&ReplicaSummary| {
        let follows = |id: &ReplicaId| {
            let voter = replicas.iter().find(|replica| replica.id == *id);
            voter.is_some_and(|voter| voter.last <= candidate.last)
        };
        let won = |config: &BTreeSet<_>| {
            config.iter().filter(|id| follows(id)).count() >= majority(config.len())
        };
        let is_voter = candidate.configs.iter().any(|c| c.contains(&candidate.id));
        is_voter && candidate.configs.iter().all(won)
    };
    if replicas.iter().any(|replica| wins(&replica)) {
        return Strength::Majority;
    }
    let Some(newest) = replicas.iter().max_by_key(|replica| replica.last) else {
        return Strength::TooFew {
            here: 0,
            needed: 1,
            voters: 0,
        };
    };
    // The newest log's membership is in force. A later one would have needed a majority of this
    // one's voters, and a replica here would have it.
    for config in &newest.configs {
        let here = config
            .iter()
            .filter(|id| replicas.iter().any(|replica| replica.id == **id));
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

/// The reason why a store does not start with the disks that it has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Standstill {
    #[error(
        "disks {one} and {other} each continued without the other after others of the store were \
         lost; start with the disks that continued with the first or with the second, never with \
         both"
    )]
    SplitBrain { one: DiskId, other: DiskId },
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

/// The history on which the trusted disks agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgreedHistory {
    /// The longest list of recoveries. The lists of all other disks are beginnings of it.
    pub recoveries: Vec<RecoveryId>,
    /// A recovery that is prepared on all disks that take part in it and are trusted.
    pub unfinished: Option<PreparedRecovery>,
}

/// Compares the rosters of the `trusted` disks. `present`: all disks that are here, trusted or not.
pub fn agree(
    trusted: &BTreeMap<DiskId, Roster>,
    present: &BTreeSet<DiskId>,
) -> Result<AgreedHistory, Standstill> {
    let owns = || {
        trusted
            .iter()
            .filter_map(|(disk, w)| Some((*disk, w.own.as_ref()?)))
    };
    let Some((leading, longest)) = owns().max_by_key(|(_, own)| own.recoveries.len()) else {
        return Ok(AgreedHistory {
            recoveries: Vec::new(),
            unfinished: None,
        });
    };
    let recoveries = longest.recoveries.clone();
    if let Some((other, _)) = owns().find(|(_, own)| !recoveries.starts_with(&own.recoveries)) {
        return Err(Standstill::SplitBrain {
            one: leading,
            other,
        });
    }
    let current = || owns().filter(|(_, own)| own.recoveries == recoveries);
    let mut unfinished = None;
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
        unfinished = Some(prepared.clone());
    }
    Ok(AgreedHistory {
        recoveries,
        unfinished,
    })
}

/// Performs the first step: notes the recovery on all disks.
pub async fn prepare(disks: &[OpenDisk], prepared: &PreparedRecovery) -> Result<()> {
    let prepare = async |disk: &OpenDisk| -> Result<()> {
        change_own(disk, |own| own.prepared = Some(prepared.clone())).await?;
        disk.db.crash().pass_disk(DiskPoint::RecoveryPrepared);
        Ok(())
    };
    try_join_all(disks.iter().map(prepare)).await?;
    Ok(())
}

/// Performs the last step: adds the recovery to all disks' histories. `recoveries`: the whole
/// history, with this recovery as the last.
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

/// Performs the second step for one group: makes `replica`, with its whole log, the only voter.
///
/// One batch: power leaves the old replica or the new one. The entries of the old log that are
/// applied before are in the same WAL before it. The new replica's vote is for itself, in a term
/// that no replica had, so that messages of old voters are out of date.
pub async fn form_group(disk: &OpenDisk, replica: &Replica, incarnation: u64) -> Result<ReplicaId> {
    let whole = replica.clone();
    let applied = disk.db.env().spawn_blocking(move || -> Result<LogId> {
        inspect::catch_up(&whole, &whole)?;
        whole.db().flush(&STATE_FAMILIES)?;
        let (applied, _) = whole.read_applied()?;
        let all = applied.filter(|id| Some(Position::of(*id)) == whole.log_end);
        all.ok_or_else(|| Error::Unfit(format!("the log of {} is not whole", whole.replica())))
    });
    let applied = applied.await.map_err(|_| Error::Closing)??;
    let (old, old_row) = (replica.replica(), replica.row());
    let new = ReplicaId::random(disk.db.env().as_ref());
    let row = ReplicaRow {
        incarnation,
        ..old_row
    };
    let voters = vec![BTreeSet::from([new])];
    let seats = BTreeMap::from([(new, Seat { disk: disk.id })]);
    let membership = Membership::new(voters, seats).map_err(|e| Error::Unfit(e.to_string()))?;
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

/// A group's replicas on trusted disks.
pub struct Survivors {
    pub replicas: Vec<(OpenDisk, Replica, ReplicaSummary)>,
}

impl Survivors {
    fn of_incarnation(
        &self,
        incarnation: u64,
    ) -> impl Iterator<Item = &(OpenDisk, Replica, ReplicaSummary)> {
        self.replicas
            .iter()
            .filter(move |(_, _, summary)| summary.incarnation == incarnation)
    }

    pub fn strength(&self, incarnation: u64) -> Strength {
        let summaries: Vec<_> = self
            .of_incarnation(incarnation)
            .map(|(_, _, summary)| summary.clone())
            .collect();
        strength(&summaries)
    }

    /// Returns whether an interrupted recovery has formed this group already.
    pub fn is_formed(&self, incarnation: u64) -> bool {
        self.of_incarnation(incarnation).next().is_some()
    }

    /// Returns the replica to form the group from, unless the group is formed already.
    /// `incarnation`: the one before the recovery.
    fn newest(
        &self,
        incarnation: u64,
    ) -> Result<Option<&(OpenDisk, Replica, ReplicaSummary)>, Standstill> {
        if self.is_formed(incarnation + 1) {
            return Ok(None);
        }
        let newest = self
            .of_incarnation(incarnation)
            .max_by_key(|(_, _, summary)| summary.last);
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
            Strength::Majority | Strength::Enough(_) => Ok(newest),
        }
    }
}

/// Performs all steps, or those that an interruption has left. Returns all recoveries, with this
/// one as the last.
pub async fn recover(
    disks: &[OpenDisk],
    groups: &[Survivors],
    agreed: &AgreedHistory,
) -> Result<Result<Vec<RecoveryId>, Standstill>> {
    let incarnation = agreed.recoveries.len() as u64;
    let mut from = Vec::new();
    for group in groups {
        match group.newest(incarnation) {
            Ok(newest) => from.extend(newest),
            Err(standstill) => return Ok(Err(standstill)),
        }
    }
    let prepared = match &agreed.unfinished {
        Some(unfinished) => unfinished.clone(),
        None => PreparedRecovery {
            id: disks[0].db.env().random(),
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
    let mut recoveries = agreed.recoveries.clone();
    recoveries.push(prepared.id);
    declare(disks, &recoveries).await?;
    Ok(Ok(recoveries))
}

/// Returns the replicas of a disk with their summaries.
pub async fn summarize(
    disk: &OpenDisk,
) -> Result<Vec<(OpenDisk, Replica, ReplicaSummary)>, DbError> {
    let owner = disk.clone();
    let read = disk.db.run_blocking(move |db| {
        let replicas = inspect::replicas(db)?;
        let summarize = |replica: Replica| {
            let summary = ReplicaSummary {
                id: replica.replica(),
                incarnation: replica.incarnation(),
                last: replica.log_end,
                configs: replica.newest_membership()?.get_joint_config().clone(),
            };
            Ok((owner.clone(), replica, summary))
        };
        let summaries = replicas.into_iter().map(summarize);
        summaries.collect::<Result<Vec<_>, _>>()
    });
    read.await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::recovery::roster::OwnRecord;

    fn summary(id: u64, term: u64, index: u64, configs: &[&[u64]]) -> ReplicaSummary {
        let ids = |ids: &&[u64]| ids.iter().copied().map(ReplicaId).collect();
        let leader = 1;
        ReplicaSummary {
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

    fn too_few(replicas: &[ReplicaSummary]) -> bool {
        matches!(strength(replicas), Strength::TooFew { .. })
    }

    #[test]
    fn f_16_two_of_four_or_one_of_two_hold_all_and_one_of_four_does_not() {
        let (one, two) = (summary(1, 3, 90, &[FOUR]), summary(2, 4, 80, &[FOUR]));
        let three = summary(3, 3, 10, &[FOUR]);
        let all = [one.clone(), two.clone(), three];
        assert_eq!(strength(&all), Strength::Majority);
        // The log with the newer term wins, not the longer one.
        assert_eq!(strength(&all[..2]), Strength::Enough(ReplicaId(2)));
        assert!(too_few(&all[..1]));
        assert_eq!(
            strength(&[summary(1, 1, 1, &[&[1, 2]])]),
            Strength::Enough(ReplicaId(1))
        );
        assert!(too_few(&[summary(1, 1, 1, &[&[1, 2, 3]])]));
        assert!(too_few(&[]));
    }

    #[test]
    fn f_22_those_who_left_the_membership_do_not_count() {
        // Two of the four old voters. One has the change that replaces all of them.
        let old = summary(1, 3, 90, &[FOUR]);
        let saw = summary(2, 3, 91, &[FOUR, &[5, 6, 7, 8]]);
        assert!(too_few(&[old.clone(), saw.clone()]));
        let new = summary(5, 3, 91, &[FOUR, &[5, 6, 7, 8]]);
        assert!(too_few(&[old.clone(), saw.clone(), new.clone()]));
        let other = summary(6, 3, 91, &[FOUR, &[5, 6, 7, 8]]);
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
                ..OwnRecord::new([1; 16], 1, recoveries)
            }),
            ..Roster::default()
        }
    }

    fn agree_on(disks: &[(u8, Roster)]) -> Result<AgreedHistory, Standstill> {
        let trusted: BTreeMap<_, _> = disks
            .iter()
            .map(|(n, roster)| (DiskId([*n; 16]), roster.clone()))
            .collect();
        let present = trusted.keys().copied().collect();
        agree(&trusted, &present)
    }

    #[test]
    fn f_39_two_halves_that_both_went_on_refuse_each_other() {
        let mut other = owned(1, None);
        other.own.as_mut().unwrap().recoveries[0] = [9; 16];
        let halves = [(1, owned(2, None)), (2, other)];
        assert!(matches!(
            agree_on(&halves),
            Err(Standstill::SplitBrain { .. })
        ));
        // The history of a disk that did not go on is a beginning of the other's.
        let late = [
            (1, owned(2, None)),
            (2, owned(1, None)),
            (3, owned(0, None)),
        ];
        assert_eq!(agree_on(&late).unwrap().recoveries.len(), 2);
    }

    #[test]
    fn f_01_an_interrupted_recovery_is_forgotten_resumed_or_waited_for() {
        let both: (u8, &[u8]) = (7, &[1, 2]);
        let begun = [(1, owned(0, Some(both))), (2, owned(0, None))];
        assert_eq!(agree_on(&begun).unwrap().unfinished, None);
        let prepared = [(1, owned(0, Some(both))), (2, owned(0, Some(both)))];
        assert!(agree_on(&prepared).unwrap().unfinished.is_some());
        let waits = [(1, owned(0, Some(both))), (3, owned(0, None))];
        let missing = DiskId([2; 16]);
        assert_eq!(
            agree_on(&waits),
            Err(Standstill::RecoveryInterrupted { missing })
        );
        // The recovery is declared on one disk: the other follows.
        let mut first = owned(0, None);
        first.own.as_mut().unwrap().recoveries.push([7; 16]);
        let declared = agree_on(&[(1, first), (2, owned(0, Some(both)))]).unwrap();
        assert_eq!((declared.recoveries.len(), declared.unfinished), (1, None));
    }
}
