//! The response of a running store to disks that fail for good: their databases are marked on the
//! other disks, and the metadata is recovered when no majority is left.
//!
//! All voters are on this process's own disks, so no other process can have a leader. The groups'
//! handles stay valid; proposals and reads in progress find the new leader.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;

use super::decision::{StartError, divide, survey_and_decide};
use super::roster::{self, DatabaseFault};
use super::start::{Groups, StartOutcome};
use crate::db::DbError;
use crate::raft::disk::{OpenDisk, ReplicaDisk};
use crate::raft::group::Group;
use crate::raft::members::{Member, MemberSetup, Members};
use crate::raft::replica_row::{ReplicaRows, replica_rows};
use drystone_store::error::{Error, Result};
use drystone_store::types::DiskId;

/// The time for marking a failed database on another disk.
const MARK_MAX: Duration = Duration::from_secs(10);

/// Keeps a group's voters from being replaced until it is dropped.
struct VoterPause<'a>(&'a watch::Sender<bool>);

impl Drop for VoterPause<'_> {
    fn drop(&mut self) {
        self.0.send_replace(false);
    }
}

impl Members {
    fn pause(&self) -> VoterPause<'_> {
        self.paused.send_replace(true);
        VoterPause(&self.paused)
    }

    /// Returns whether the replicas that are alive can elect a leader.
    pub fn has_majority(&self) -> bool {
        let mut alive = self.alive();
        alive.retain(|member| member.shared.db.failure().borrow().is_none());
        let newest = alive.iter().max_by_key(|member| member.last_log_id());
        newest.is_some_and(|newest| {
            newest.configs().iter().all(|config| {
                let here = |id| alive.iter().any(|member| member.replica == id);
                config.iter().filter(|id| here(**id)).count() > config.len() / 2
            })
        })
    }

    async fn stop(&self) {
        for member in self.alive() {
            if let Some(member) = self.remove(member.replica) {
                Member::end(&member).await;
            }
        }
    }
}

impl Groups {
    /// Marks the database of `id`, which has failed, on each other disk, so that no restart trusts
    /// it (B-66).
    ///
    /// Power goes before any disk has the mark: the database has acknowledged nothing since it
    /// failed, and everything before is there, or it would not open.
    pub async fn mark(&self, id: DiskId) {
        let disks = self.objects.members().disks();
        let failed = disks.iter().find(|disk| disk.id == id);
        let failure = failed.and_then(|disk| disk.db.failure().borrow().clone());
        let fault = match failure {
            // No write failed.
            Some(DbError::Hindered(..)) => return,
            Some(DbError::Damaged(_)) => DatabaseFault::Damaged,
            _ => DatabaseFault::Unwritable,
        };
        let others = self.objects.members().healthy();
        let others = others.iter().filter(|other| other.id != id);
        // The caller must not wait for a disk that hangs.
        join_all(others.map(|other| async move {
            let other = other.open_disk();
            let marked = roster::mark_known(&other, id, fault);
            let marked = other.db.env().timeout(MARK_MAX, marked).await;
            if !matches!(marked, Ok(Ok(()))) {
                tracing::warn!(?marked, disk = %other.id, "a failed database is not marked here");
            }
        }))
        .await;
    }

    /// Recovers both groups if one has lost its majority ([`super::recover`]). Returns whether it
    /// did.
    ///
    /// Power goes at any time: the next start finds the disks as after a recovery at a start.
    pub async fn recover_if_lost(&self) -> Result<bool, StartError> {
        let (system, objects) = (self.system.members(), self.objects.members());
        if system.has_majority() && objects.has_majority() {
            return Ok(false);
        }
        let _paused = (system.pause(), objects.pause());
        let _only_one = (system.change.lock().await, objects.change.lock().await);
        if system.has_majority() && objects.has_majority() {
            return Ok(false);
        }
        if let Some(why) = system.halt().or(objects.halt()) {
            // The others would stop at the same entry.
            return Err(Error::Unfit(why.to_string()).into());
        }
        tracing::error!("the metadata has lost its majority");
        system.stop().await;
        objects.stop().await;
        let (has_recovered, mut outcome) = match self.recover().await {
            Ok(recovered) => recovered,
            Err(error) => {
                // The groups continue without a majority and refuse requests by themselves.
                system.stop().await;
                objects.stop().await;
                self.restart_replicas().await?;
                return Err(error);
            }
        };
        outcome.admit_leftovers().await?;
        Ok(has_recovered)
    }

    /// Recovers both groups, whose replicas are stopped. Returns whether that made a new
    /// incarnation.
    async fn recover(&self) -> Result<(bool, StartOutcome), StartError> {
        let (system, objects) = (self.system.members(), self.objects.members());
        let before = objects.history();
        let healthy = objects.healthy();
        let open: Vec<_> = healthy.iter().map(ReplicaDisk::open_disk).collect();
        let (surveys, decision, trusted) = survey_and_decide(&open, &mut Vec::new(), true).await?;
        let (history, rows, leftovers) = divide(surveys, decision.agreed, &trusted);
        let used: Vec<_> = rows.iter().map(|(disk, _)| disk.clone()).collect();
        let stamped = roster::stamp(&used, history.start).await;
        stamped.map_err(Error::from)?;
        for group in [system, objects] {
            group.set_history(history.clone());
        }
        admit(&self.system, &rows).await?;
        admit(&self.objects, &rows).await?;
        self.system.ready().await?;
        self.objects.ready().await?;
        let has_recovered = before.incarnation() != history.incarnation();
        let outcome = StartOutcome::of(self.clone(), history, leftovers);
        Ok((has_recovered, outcome))
    }

    /// Admits a disk that joins the running store, or has a new database, under a new start number.
    /// A disk that went offline has recorded the old database under the last number, and by that
    /// number the new database would be an older copy.
    ///
    /// Never runs beside a recovery, as each would overwrite the other's records of a disk.
    pub async fn join_running(&self, disk: &OpenDisk) -> Result<()> {
        let (system, objects) = (self.system.members(), self.objects.members());
        let _paused = (system.pause(), objects.pause());
        let _only_one = (system.change.lock().await, objects.change.lock().await);
        let mut history = objects.history();
        history.start += 1;
        self.join(disk, &history).await?;
        system.set_history(history.clone());
        objects.set_history(history);
        Ok(())
    }

    /// Records on all disks, under a new start number, that they are here. So copies of a disk that
    /// were made before now are found to be older (F-14), not only copies from an earlier start.
    ///
    /// Power goes within: as within [`roster::stamp`] at a start.
    ///
    /// Does nothing while the membership changes: a change that waits for a lost majority must not
    /// keep a store from closing.
    pub async fn note_presence(&self) -> Result<()> {
        let (system, objects) = (self.system.members(), self.objects.members());
        let (Ok(_system), Ok(_objects)) = (system.change.try_lock(), objects.change.try_lock())
        else {
            return Ok(());
        };
        let mut history = objects.history();
        history.start += 1;
        let here: Vec<_> = objects
            .healthy()
            .iter()
            .map(ReplicaDisk::open_disk)
            .collect();
        roster::stamp(&here, history.start).await?;
        system.set_history(history.clone());
        objects.set_history(history);
        Ok(())
    }

    /// Starts the replicas again that were stopped for a recovery. A replica of a recovery that is
    /// not declared yet must not answer.
    async fn restart_replicas(&self) -> Result<()> {
        let incarnation = self.objects.members().history().incarnation();
        let mut rows = Vec::new();
        for disk in self
            .objects
            .members()
            .healthy()
            .iter()
            .map(ReplicaDisk::open_disk)
        {
            match disk.db.run_blocking(|db| replica_rows(db)).await {
                Ok(mut found) => {
                    found.retain(|(_, row)| row.incarnation == incarnation);
                    rows.push((disk, found));
                }
                Err(error) => {
                    tracing::error!(%error, disk = %disk.id, "a disk's replicas stay stopped")
                }
            }
        }
        admit(&self.system, &rows).await?;
        admit(&self.objects, &rows).await
    }
}

/// Starts a group's replicas in `rows`, and makes one campaign.
async fn admit(group: &Group, rows: &[(OpenDisk, ReplicaRows)]) -> Result<()> {
    let members = group.members();
    let disks = members.disks();
    for (disk, rows) in rows {
        let disk = disks.iter().find(|open| open.id == disk.id);
        for (replica, row) in rows.iter().filter(|(_, row)| row.group == members.group) {
            let Some(disk) = disk.cloned() else {
                continue;
            };
            let setup = MemberSetup {
                disk,
                replica: *replica,
                row: *row,
            };
            members.admit(setup).await?;
        }
    }
    members.elect_at_start().await;
    Ok(())
}
