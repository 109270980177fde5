//! What a running store does about disks that fail for good: it marks their databases on the
//! other disks, and recovers the metadata when no majority is left.
//!
//! All voters are this process's own disks, so whoever is not here is gone: nobody else can lead.
//! The groups' handles stay; proposals and reads that are under way find the new leader.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::timeout;

use super::decision::{StartError, divide, look_and_decide};
use super::roster::{self, Fault};
use super::start::{Groups, Started};
use crate::db::DbError;
use crate::raft::group::Group;
use crate::raft::log::run_blocking;
use crate::raft::members::{Member, Members, Seated};
use crate::raft::place::{OpenDisk, Place};
use crate::raft::replica_row::{Rows, replica_rows};
use drystone_store::error::Result;
use drystone_store::types::DiskId;

/// A failed database is marked on another disk within this time, or not.
const MARK_MAX: Duration = Duration::from_secs(10);

/// Keeps a group's voters as they are while this lives.
struct Paused<'a>(&'a watch::Sender<bool>);

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        self.0.send_replace(false);
    }
}

impl Members {
    fn pause(&self) -> Paused<'_> {
        self.paused.send_replace(true);
        Paused(&self.paused)
    }

    fn has_majority(&self) -> bool {
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
            if let Some(member) = self.take_out(member.replica) {
                Member::end(&member).await;
            }
        }
    }

    /// The places whose databases work.
    pub(super) fn healthy(&self) -> Vec<Place> {
        let mut places = self.places();
        places.retain(|place| place.db.failure().borrow().is_none());
        places
    }
}

impl Groups {
    /// The disk's database is not to be used again: each other disk notes it, so that no restart
    /// takes it for good (B-66).
    ///
    /// Power goes before any has: nothing was acknowledged by it since it failed, and what it
    /// acknowledged before is there, or it would not open.
    pub async fn mark(&self, disk: DiskId) {
        let places = self.objects.members().places();
        let failed = places.iter().find(|place| place.disk == disk);
        let failure = failed.and_then(|place| place.db.failure().borrow().clone());
        let fault = match failure {
            // No write of it failed.
            Some(DbError::Hindered(..)) => return,
            Some(DbError::Damaged(_)) => Fault::Damaged,
            _ => Fault::Unwritable,
        };
        let others = self.objects.members().healthy();
        let others = others.iter().filter(|other| other.disk != disk);
        // What comes after this must not wait for one that hangs.
        join_all(others.map(|other| async move {
            let other = other.open();
            let marked = roster::mark_known(&other, disk, fault);
            let marked = timeout(MARK_MAX, marked).await;
            if !matches!(marked, Ok(Ok(()))) {
                tracing::warn!(?marked, disk = %other.id, "a failed database is not marked here");
            }
        }))
        .await;
    }

    /// Forms both groups anew if one has lost its majority, as [`super::recover`] says. Says
    /// whether it did.
    ///
    /// Power goes at any time: the next start finds what it would find of a recovery of its own.
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
        tracing::error!("the metadata has lost its majority");
        system.stop().await;
        objects.stop().await;
        let before = objects.standing();
        let open = |group: &Members| group.healthy().iter().map(Place::open).collect::<Vec<_>>();
        let (looks, past, counts) =
            match look_and_decide(&open(objects), &mut Vec::new(), true).await {
                Ok((looks, decision, counts)) => (looks, decision.past, counts),
                Err(error) => {
                    // As they were: they refuse by themselves, and nothing is destroyed.
                    self.go_on_as_before().await?;
                    return Err(error);
                }
            };
        let (standing, rows, leftovers) = divide(looks, past, &counts);
        let used: Vec<_> = rows.iter().map(|(disk, _)| disk.clone()).collect();
        let stamped = roster::stamp(&used, standing.start).await;
        stamped.map_err(drystone_store::error::Error::from)?;
        for group in [&self.system, &self.objects] {
            group.members().stands(standing.clone());
            admit(group, &rows).await?;
        }
        self.system.ready().await?;
        self.objects.ready().await?;
        let anew = before.incarnation() != standing.incarnation();
        let groups = self.clone();
        Started::of(groups, standing, leftovers).take_in().await?;
        Ok(anew)
    }

    /// Takes in a disk that joins the running store, or took the place of another one, under a
    /// number above all before: a disk that went since the last one knows the old database by it.
    /// Never beside a recovery: each would write over what the other says of a disk.
    pub async fn join_running(&self, disk: &OpenDisk) -> Result<()> {
        let (system, objects) = (self.system.members(), self.objects.members());
        let _paused = (system.pause(), objects.pause());
        let _only_one = (system.change.lock().await, objects.change.lock().await);
        let mut standing = objects.standing();
        standing.start += 1;
        self.join(disk, &standing).await?;
        system.stands(standing.clone());
        objects.stands(standing);
        Ok(())
    }

    /// Notes on all disks that they are here under a number above all before, so that a copy that
    /// was made of a disk till now is known for older (F-14), not only one from an earlier start.
    ///
    /// Power goes within: as within the stamps of a start.
    ///
    /// While the membership changes nothing is noted: a change that waits for a majority that is
    /// gone must not keep a store from ending.
    pub async fn note_presence(&self) -> Result<()> {
        let (system, objects) = (self.system.members(), self.objects.members());
        let (Ok(_system), Ok(_objects)) = (system.change.try_lock(), objects.change.try_lock())
        else {
            return Ok(());
        };
        let mut standing = objects.standing();
        standing.start += 1;
        let here: Vec<_> = objects.healthy().iter().map(Place::open).collect();
        roster::stamp(&here, standing.start).await?;
        system.stands(standing.clone());
        objects.stands(standing);
        Ok(())
    }

    async fn go_on_as_before(&self) -> Result<()> {
        let mut rows = Vec::new();
        for disk in self.objects.members().healthy().iter().map(Place::open) {
            let db = disk.db.clone();
            let found = run_blocking(move || replica_rows(&db)).await?;
            rows.push((disk, found));
        }
        admit(&self.system, &rows).await?;
        admit(&self.objects, &rows).await
    }
}

/// Starts a group's replicas in `rows`, and has one stand for election.
async fn admit(group: &Group, rows: &[(OpenDisk, Rows)]) -> Result<()> {
    let members = group.members();
    let places = members.places();
    for (disk, rows) in rows {
        let place = places.iter().find(|place| place.disk == disk.id);
        for (replica, row) in rows.iter().filter(|(_, row)| row.group == members.group) {
            let Some(place) = place.cloned() else {
                continue;
            };
            let seated = Seated {
                place,
                replica: *replica,
                row: *row,
            };
            members.admit(seated).await?;
        }
    }
    members.elect_at_start().await;
    Ok(())
}
