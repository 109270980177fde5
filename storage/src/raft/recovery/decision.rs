//! The decisions of a start: which disks it trusts, whether the metadata must be recovered, and
//! which disks begin with which replicas.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;

use super::recover::{self, End, Past, Standstill, Strength, Survivors};
use super::roster::{self, Fault, PreparedRecovery, Roster, Trust};
use crate::raft::history::Standing;
use crate::raft::inspect::Replica;
use crate::raft::log::run_blocking;
use crate::raft::place::OpenDisk;
use crate::raft::replica_row::{GROUPS, GroupId, ReplicaRow, Rows};
use crate::raft::types::ReplicaId;
use drystone_store::error::Error;
use drystone_store::error::Result;
use drystone_store::types::DiskId;

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Standstill(#[from] Standstill),
    #[error(transparent)]
    Store(#[from] Error),
}

/// What a disk has.
#[derive(Clone)]
pub(super) struct Look {
    disk: OpenDisk,
    roster: Roster,
    replicas: Vec<(OpenDisk, Replica, End)>,
}

impl Look {
    fn incarnation(&self) -> u64 {
        self.roster.own.as_ref().map_or(0, |own| own.incarnation())
    }
}

async fn look(disk: &OpenDisk) -> Result<Look> {
    // It can still be read, and would fail again where it failed before.
    if let Some(failure) = disk.db.failure().borrow().clone() {
        return Err(failure.into());
    }
    let (db, id) = (disk.db.clone(), disk.id);
    let roster = run_blocking(move || roster::read(&db, id)).await?;
    let replicas = recover::ends(disk).await?;
    if roster.own.is_none() && !replicas.is_empty() {
        return Err(disk.db.corrupt("its replicas are not its own").into());
    }
    Ok(Look {
        disk: disk.clone(),
        roster,
        replicas,
    })
}

fn survivors(looks: &[&Look]) -> Vec<Survivors> {
    let of = |group: GroupId| {
        let all = looks.iter().flat_map(|look| &look.replicas);
        let of = all.filter(|(_, replica, _)| replica.group() == group.0);
        of.cloned().collect()
    };
    let group = |group| Survivors {
        replicas: of(group),
    };
    GROUPS.map(group).into()
}

/// What to do with the disks that are trusted.
pub(super) struct Decision {
    pub past: Past,
    /// A majority is missing, or a recovery was cut.
    must_recover: bool,
    trusts: BTreeMap<DiskId, Trust>,
}

impl Decision {
    /// Whether the disk has prepared the recovery that the others have declared after its own last.
    fn is_late(&self, look: &Look) -> bool {
        let next = self.past.recoveries.get(look.incarnation() as usize);
        let own = look.roster.own.as_ref();
        let prepared = own.and_then(|own| own.prepared.as_ref());
        prepared.is_some_and(|prepared| Some(&prepared.id) == next)
    }
}

fn decide(
    looks: &[&Look],
    present: &BTreeSet<DiskId>,
    may_recover: bool,
) -> Result<Decision, Standstill> {
    let rosters = looks.iter().map(|look| (look.disk.id, look.roster.clone()));
    let past = recover::past(&rosters.collect(), present)?;
    let incarnation = past.recoveries.len() as u64;
    let mut must_recover = past.resumed.is_some();
    for group in survivors(looks) {
        match group.strength(incarnation) {
            _ if past.resumed.is_some() && group.is_formed(incarnation + 1) => {}
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
    match must_recover && past.resumed.is_none() && !may_recover {
        true => Err(Standstill::NoMajority),
        false => Ok(Decision {
            past,
            must_recover,
            trusts: BTreeMap::new(),
        }),
    }
}

/// Decides with the disks that deserve full trust, and where they are too few also with those
/// that once failed to write: nothing was acknowledged after that, and a database that had lost
/// what was synced before would not have opened. Gives the disks that count.
fn decide_whom(
    looks: &[Look],
    present: &BTreeSet<DiskId>,
    may_recover: bool,
) -> Result<(Decision, Vec<DiskId>), Standstill> {
    let rosters = looks.iter().map(|look| (look.disk.id, look.roster.clone()));
    let trusts = roster::judge(&rosters.collect());
    let with = |least: &[Trust]| {
        let counts = |look: &&Look| least.contains(&trusts[&look.disk.id]);
        let trusted: Vec<_> = looks.iter().filter(counts).collect();
        let decision = Decision {
            trusts: trusts.clone(),
            ..decide(&trusted, present, may_recover)?
        };
        Ok((decision, trusted.iter().map(|look| look.disk.id).collect()))
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

/// Looks, and forms the metadata anew where that must and may be.
pub(super) async fn look_and_decide(
    disks: &[OpenDisk],
    damaged: &mut Vec<(DiskId, String)>,
    may_recover: bool,
) -> Result<(Vec<Look>, Decision, Vec<DiskId>), StartError> {
    loop {
        let mut looks = Vec::new();
        for (disk, look) in disks.iter().zip(join_all(disks.iter().map(look)).await) {
            match look {
                Ok(look) => looks.push(look),
                Err(_) if damaged.iter().any(|(id, _)| *id == disk.id) => {}
                Err(error) => damaged.push((disk.id, error.to_string())),
            }
        }
        let mut present: BTreeSet<_> = disks.iter().map(|disk| disk.id).collect();
        present.extend(damaged.iter().map(|(disk, _)| *disk));
        let (decision, counts) = decide_whom(&looks, &present, may_recover)?;
        let trusted = |look: &&Look| counts.contains(&look.disk.id);
        let late: Vec<_> = looks
            .iter()
            .filter(trusted)
            .filter(|look| decision.is_late(look))
            .collect();
        if let Some(first) = late.first() {
            // Cut while it was declared: what these disks have of it is as good as the others'.
            let own = first
                .roster
                .own
                .as_ref()
                .map_or(0, |own| own.recoveries.len());
            let same = late.iter().filter(|look| look.incarnation() == own as u64);
            let disks: Vec<_> = same.map(|look| look.disk.clone()).collect();
            recover::declare(&disks, &decision.past.recoveries[..=own]).await?;
            continue;
        }
        if !decision.must_recover {
            for look in looks.iter().filter(|look| !trusted(look)) {
                let mark = match decision.trusts[&look.disk.id] {
                    Trust::None => "damaged",
                    Trust::LastResort => "unwritable",
                    Trust::Full | Trust::Stale => continue,
                };
                damaged.push((look.disk.id, format!("its database is marked as {mark}")));
            }
            looks.retain(|look| damaged.iter().all(|(id, _)| *id != look.disk.id));
            return Ok((looks, decision, counts));
        }
        let incarnation = decision.past.recoveries.len() as u64;
        let takes_part = |look: &&Look| {
            trusted(look) && look.roster.own.is_some() && look.incarnation() == incarnation
        };
        let parts: Vec<_> = looks.iter().filter(takes_part).collect();
        let disks: Vec<_> = parts.iter().map(|look| look.disk.clone()).collect();
        if let Some(resumed) = &decision.past.resumed {
            void_without(&disks, resumed).await?;
        }
        // A disk that fails on the way is found damaged by the next look, and the rest decides.
        match recover::recover(&disks, &survivors(&parts), &decision.past).await {
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
async fn void_without(disks: &[OpenDisk], resumed: &PreparedRecovery) -> Result<()> {
    let is_here = |id: &&DiskId| disks.iter().any(|disk| disk.id == **id);
    for absent in resumed.disks.iter().filter(|id| !is_here(id)) {
        for disk in disks {
            roster::mark_known(disk, *absent, Fault::Damaged).await?;
        }
    }
    Ok(())
}

/// What must go once the groups answer without it.
pub(super) struct Leftover {
    pub disk: OpenDisk,
    pub replicas: Vec<(ReplicaId, ReplicaRow)>,
    /// The disk is in use but for these replicas.
    pub in_use: bool,
    pub stale: bool,
}

/// Who starts with which replicas, and what is left over.
pub(super) fn divide(
    looks: Vec<Look>,
    past: Past,
    counts: &[DiskId],
) -> (Standing, Vec<(OpenDisk, Rows)>, Vec<Leftover>) {
    let starts = looks
        .iter()
        .filter_map(|look| Some(look.roster.own.as_ref()?.start));
    let standing = Standing {
        start: starts.max().unwrap_or(0) + 1,
        recoveries: past.recoveries,
    };
    let (mut rows, mut leftovers) = (Vec::new(), Vec::new());
    for look in looks {
        let own = look.roster.own.as_ref();
        let trusted = counts.contains(&look.disk.id);
        let in_use = trusted && own.is_some_and(|own| own.recoveries == standing.recoveries);
        let all = look
            .replicas
            .iter()
            .map(|(_, replica, _)| (replica.replica(), replica.row()));
        let (seats, replicas) =
            all.partition(|(_, row)| in_use && row.incarnation == standing.incarnation());
        if in_use {
            rows.push((look.disk.clone(), seats));
        }
        leftovers.push(Leftover {
            disk: look.disk,
            replicas,
            in_use,
            stale: !trusted,
        });
    }
    leftovers.retain(|leftover| !leftover.in_use || !leftover.replicas.is_empty());
    (standing, rows, leftovers)
}
