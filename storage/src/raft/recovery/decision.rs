//! The decisions of a start: which disks it trusts, whether the metadata must be recovered, and
//! which disks begin with which replicas.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;

use super::recover::{self, AgreedHistory, ReplicaSummary, Standstill, Strength, Survivors};
use super::roster::{self, DatabaseFault, PreparedRecovery, Roster, Trust};
use crate::db::DbError;
use crate::raft::disk::OpenDisk;
use crate::raft::history::History;
use crate::raft::inspect::Replica;
use crate::raft::replica_row::{GROUPS, GroupId, ReplicaRow, ReplicaRows};
use crate::raft::types::ReplicaId;
use drystone_store::error::Error;
use drystone_store::error::Result;
use drystone_store::types::DiskId;

/// The reason why a start fails.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Standstill(#[from] Standstill),
    #[error(transparent)]
    Store(#[from] Error),
}

/// The facts about one disk: its roster and its replicas.
#[derive(Clone)]
pub(super) struct DiskSurvey {
    disk: OpenDisk,
    roster: Roster,
    replicas: Vec<(OpenDisk, Replica, ReplicaSummary)>,
}

impl DiskSurvey {
    fn incarnation(&self) -> u64 {
        self.roster.own.as_ref().map_or(0, |own| own.incarnation())
    }
}

/// Reads a disk's roster and replicas.
async fn survey(disk: &OpenDisk) -> Result<DiskSurvey, DbError> {
    // A database that failed before may still be readable, but would fail again.
    if let Some(failure) = disk.db.failure().borrow().clone() {
        return Err(failure);
    }
    let id = disk.id;
    let roster = disk.db.run_blocking(move |db| roster::read(db, id)).await?;
    let replicas = recover::summarize(disk).await?;
    if roster.own.is_none() && !replicas.is_empty() {
        return Err(disk.db.corrupt("it has replicas and no record of itself"));
    }
    Ok(DiskSurvey {
        disk: disk.clone(),
        roster,
        replicas,
    })
}

/// Returns each group's replicas on these disks.
fn survivors(surveys: &[&DiskSurvey]) -> Vec<Survivors> {
    let of = |group: GroupId| {
        let all = surveys.iter().flat_map(|survey| &survey.replicas);
        let of = all.filter(|(_, replica, _)| replica.group() == group.0);
        of.cloned().collect()
    };
    let group = |group| Survivors {
        replicas: of(group),
    };
    GROUPS.map(group).into()
}

/// The decision of a start on the trusted disks.
pub(super) struct Decision {
    pub agreed: AgreedHistory,
    /// A majority is missing, or a recovery was interrupted.
    must_recover: bool,
    trusts: BTreeMap<DiskId, Trust>,
}

impl Decision {
    /// Returns whether the disk has prepared, but not declared, a recovery that others have
    /// declared.
    fn is_late(&self, survey: &DiskSurvey) -> bool {
        let next = self.agreed.recoveries.get(survey.incarnation() as usize);
        let own = survey.roster.own.as_ref();
        let prepared = own.and_then(|own| own.prepared.as_ref());
        prepared.is_some_and(|prepared| Some(&prepared.id) == next)
    }
}

/// Decides with these disks alone, which are trusted.
fn decide(
    surveys: &[&DiskSurvey],
    present: &BTreeSet<DiskId>,
    may_recover: bool,
) -> Result<Decision, Standstill> {
    let rosters = surveys
        .iter()
        .map(|survey| (survey.disk.id, survey.roster.clone()));
    let agreed = recover::agree(&rosters.collect(), present)?;
    let incarnation = agreed.recoveries.len() as u64;
    let mut must_recover = agreed.unfinished.is_some();
    for group in survivors(surveys) {
        match group.strength(incarnation) {
            _ if agreed.unfinished.is_some() && group.is_formed(incarnation + 1) => {}
            Strength::Majority => {}
            Strength::Enough(_) => must_recover = true,
            Strength::TooFew {
                here,
                needed,
                voters,
            } => {
                return Err(Standstill::TooFew {
                    here,
                    needed,
                    voters,
                });
            }
        }
    }
    match must_recover && agreed.unfinished.is_none() && !may_recover {
        true => Err(Standstill::NoMajority),
        false => Ok(Decision {
            agreed,
            must_recover,
            trusts: BTreeMap::new(),
        }),
    }
}

/// Decides with the fully trusted disks. If they are too few, decides also with disks that once
/// failed to write: they acknowledged nothing after that, and would not have opened if they had
/// lost synced writes. Returns the decision and the disks that count.
fn decide_with_trusted(
    surveys: &[DiskSurvey],
    present: &BTreeSet<DiskId>,
    may_recover: bool,
) -> Result<(Decision, Vec<DiskId>), Standstill> {
    let rosters = surveys
        .iter()
        .map(|survey| (survey.disk.id, survey.roster.clone()));
    let trusts = roster::judge(&rosters.collect());
    let with = |levels: &[Trust]| {
        let is_trusted = |survey: &&DiskSurvey| levels.contains(&trusts[&survey.disk.id]);
        let trusted: Vec<_> = surveys.iter().filter(is_trusted).collect();
        let decision = Decision {
            trusts: trusts.clone(),
            ..decide(&trusted, present, may_recover)?
        };
        Ok((
            decision,
            trusted.iter().map(|survey| survey.disk.id).collect(),
        ))
    };
    let has_last_resort = trusts.values().any(|trust| *trust == Trust::LastResort);
    match with(&[Trust::Full]) {
        Err(Standstill::TooFew { .. }) if has_last_resort => {
            let decision = with(&[Trust::Full, Trust::LastResort]);
            if decision.is_ok() {
                tracing::warn!("trusting disks that failed to write, as the others are too few");
            }
            decision
        }
        decision => decision,
    }
}

/// Surveys the disks and decides. Recovers the metadata if that is necessary and allowed, and
/// decides again. Returns the surveys, the decision and the disks that count.
pub(super) async fn survey_and_decide(
    disks: &[OpenDisk],
    damaged: &mut Vec<(DiskId, String)>,
    may_recover: bool,
) -> Result<(Vec<DiskSurvey>, Decision, Vec<DiskId>), StartError> {
    loop {
        let mut surveys = Vec::new();
        for (disk, survey) in disks.iter().zip(join_all(disks.iter().map(survey)).await) {
            match survey {
                Ok(survey) => surveys.push(survey),
                // Its metadata are whole. Whoever can read them must start the store.
                Err(error @ DbError::Unfit(_)) => return Err(Error::from(error).into()),
                Err(_) if damaged.iter().any(|(id, _)| *id == disk.id) => {}
                Err(error) => damaged.push((disk.id, error.to_string())),
            }
        }
        let mut present: BTreeSet<_> = disks.iter().map(|disk| disk.id).collect();
        present.extend(damaged.iter().map(|(disk, _)| *disk));
        let (decision, trusted) = decide_with_trusted(&surveys, &present, may_recover)?;
        let is_trusted = |survey: &&DiskSurvey| trusted.contains(&survey.disk.id);
        let late: Vec<_> = surveys
            .iter()
            .filter(is_trusted)
            .filter(|survey| decision.is_late(survey))
            .collect();
        if let Some(first) = late.first() {
            // A crash interrupted the declaration. These disks took part like the others, so the
            // recovery is declared on them, too.
            let own = first
                .roster
                .own
                .as_ref()
                .map_or(0, |own| own.recoveries.len());
            let same = late
                .iter()
                .filter(|survey| survey.incarnation() == own as u64);
            let disks: Vec<_> = same.map(|survey| survey.disk.clone()).collect();
            recover::declare(&disks, &decision.agreed.recoveries[..=own]).await?;
            continue;
        }
        if !decision.must_recover {
            for survey in surveys.iter().filter(|survey| !is_trusted(survey)) {
                let mark = match decision.trusts[&survey.disk.id] {
                    Trust::None => "damaged",
                    Trust::LastResort => "unwritable",
                    Trust::Full | Trust::Stale => continue,
                };
                damaged.push((survey.disk.id, format!("its database is marked as {mark}")));
            }
            surveys.retain(|survey| damaged.iter().all(|(id, _)| *id != survey.disk.id));
            return Ok((surveys, decision, trusted));
        }
        let incarnation = decision.agreed.recoveries.len() as u64;
        let takes_part = |survey: &&DiskSurvey| {
            is_trusted(survey) && survey.roster.own.is_some() && survey.incarnation() == incarnation
        };
        let parts: Vec<_> = surveys.iter().filter(takes_part).collect();
        let disks: Vec<_> = parts.iter().map(|survey| survey.disk.clone()).collect();
        if let Some(unfinished) = &decision.agreed.unfinished {
            void_without(&disks, unfinished).await?;
        }
        // If a disk fails during the recovery, the next survey finds it damaged, and the others
        // decide again.
        match recover::recover(&disks, &survivors(&parts), &decision.agreed).await {
            Ok(recovered) => drop(recovered?),
            Err(error) if disks.iter().any(OpenDisk::has_failed) => {
                tracing::error!(%error, "a disk failed during a recovery");
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Marks the databases of the disks that took part in the recovery and cannot be read now as
/// damaged, as the recovery is completed without them. One of them may have formed a group already:
/// if it came back as it is, it would lead beside the others.
async fn void_without(disks: &[OpenDisk], unfinished: &PreparedRecovery) -> Result<()> {
    let is_here = |id: &&DiskId| disks.iter().any(|disk| disk.id == **id);
    for absent in unfinished.disks.iter().filter(|id| !is_here(id)) {
        for disk in disks {
            roster::mark_known(disk, *absent, DatabaseFault::Damaged).await?;
        }
    }
    Ok(())
}

/// Replicas of the past on a disk. They are removed once the groups answer without them.
pub(super) struct Leftover {
    pub disk: OpenDisk,
    pub replicas: Vec<(ReplicaId, ReplicaRow)>,
    /// The disk takes part in the start; only these replicas do not.
    pub in_use: bool,
    /// The disk is an older copy of itself.
    pub stale: bool,
}

/// Divides the replicas into those that the groups start with, by disk, and the leftovers.
pub(super) fn divide(
    surveys: Vec<DiskSurvey>,
    agreed: AgreedHistory,
    trusted: &[DiskId],
) -> (History, Vec<(OpenDisk, ReplicaRows)>, Vec<Leftover>) {
    let starts = surveys
        .iter()
        .filter_map(|survey| Some(survey.roster.own.as_ref()?.start));
    let history = History {
        start: starts.max().unwrap_or(0) + 1,
        recoveries: agreed.recoveries,
    };
    let (mut rows, mut leftovers) = (Vec::new(), Vec::new());
    for survey in surveys {
        let own = survey.roster.own.as_ref();
        let is_trusted = trusted.contains(&survey.disk.id);
        let in_use = is_trusted && own.is_some_and(|own| own.recoveries == history.recoveries);
        let all = survey
            .replicas
            .iter()
            .map(|(_, replica, _)| (replica.replica(), replica.row()));
        let (seats, replicas) =
            all.partition(|(_, row)| in_use && row.incarnation == history.incarnation());
        if in_use {
            rows.push((survey.disk.clone(), seats));
        }
        leftovers.push(Leftover {
            disk: survey.disk,
            replicas,
            in_use,
            stale: !is_trusted,
        });
    }
    leftovers.retain(|leftover| !leftover.in_use || !leftover.replicas.is_empty());
    (history, rows, leftovers)
}
