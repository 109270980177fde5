//! The engine as its operator sees it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use super::Engine;
use crate::disk::{Disk, DiskState as Here, Space};
use crate::meta::command::{Change, SettingsChange};
use crate::meta::view::{Availability, DiskRow};
use crate::workers::quotas;
use crate::workers::survey::{self, Standing};
use drystone_store::error::{Error, Result};
use drystone_store::operator::{
    DiskState, DiskStatus, HealStatus, Operator, Redundancy, ReplaceError, Status, UpkeepChange,
};
use drystone_store::types::DiskId;
use drystone_store::workers::Runner;

#[async_trait]
impl Operator for Engine {
    async fn status(&self) -> Result<Status> {
        let heal = self.heal_status().await?;
        let standing = self.standing().await?;
        let survey = self.workers.surveyor.last();
        let redundancy = survey::redundancy(survey.as_deref(), &standing);
        let disks = self.disk_statuses().await?;
        let over_quota = self.workers.quotas.over_quota().await?;
        let mut advice = self.advice(&disks, &heal);
        advice.extend(advice_on_unreadable(&redundancy));
        advice.extend(quotas::advice(&over_quota));
        // The group that tolerates fewer losses.
        let voters = standing.voters.iter().min_by_key(|voters| voters.alive);
        let voters = *voters.ok_or(Error::Closing)?;
        Ok(Status {
            advice,
            disks,
            redundancy,
            heal,
            scrub: self.workers.scrubber.scrub_status().await?,
            over_quota,
            metadata_voters_alive: voters.alive,
            metadata_voters: voters.all,
            metadata_quorum: voters.quorum,
        })
    }

    async fn replace_disk(
        &self,
        old: &str,
        new: Option<&Path>,
    ) -> Result<DiskStatus, ReplaceError> {
        let id = self.replace(old, new).await?.to_string();
        let disks = self.disk_statuses().await?;
        let joined = disks.into_iter().find(|disk| disk.id == id);
        Ok(joined.ok_or(Error::Closing)?)
    }

    async fn change_upkeep(&self, change: UpkeepChange) -> Result<()> {
        let _one = self.disks.replacing.lock().await;
        let UpkeepChange {
            heal_paused,
            heal_bytes_per_second,
            remove_after_seconds,
            scrub_paused,
            scrub_period_seconds,
        } = change;
        let change = SettingsChange {
            remove_after_seconds,
            heal_paused,
            heal_bytes_per_second,
            scrub_paused,
            scrub_period_seconds,
        };
        let disks = &self.workers.disks;
        disks.change(Change::SetUpkeep(change)).await?;
        let settings = disks.settings().await?;
        self.workers
            .healer
            .set_pace(settings.heal_bytes_per_second, settings.heal_paused);
        self.workers.scrubber.set_paused(settings.scrub_paused);
        self.workers.disks.wake();
        Ok(())
    }

    async fn begin_scrub(&self) -> Result<()> {
        self.workers.scrubber.begin().await
    }

    fn workers(&self) -> &Runner {
        &self.workers.runner
    }
}

impl Engine {
    /// Returns what decides how many more disks may be lost, beside the objects' shards.
    pub(super) async fn standing(&self) -> Result<Standing> {
        Ok(Standing {
            up: self.shards.up(),
            writable: self.shards.writable(),
            needed: self.shards.needed_for_writes(),
            voters: vec![
                self.system.group.voters().await?,
                self.objects.group.voters().await?,
            ],
        })
    }

    async fn disk_statuses(&self) -> Result<Vec<DiskStatus>> {
        let (survey, standing) = (self.workers.surveyor.last(), self.standing().await?);
        let here: HashMap<DiskId, Arc<dyn Disk>> = {
            let disks = self.shards.disks().into_iter();
            disks.map(|disk| (disk.id(), disk)).collect()
        };
        let mut statuses = Vec::new();
        for (id, row) in self.workers.disks.known().await? {
            let lost = self.disks.lost_at_start(&row.directory);
            let disk = here.get(&id);
            let space = match disk {
                Some(disk) => disk.space().ok(),
                None => None,
            };
            let mut status = disk_status(id, row, disk, space.unwrap_or_default());
            if status.reason.is_none() && self.shards.is_suspect(id) {
                status.reason = Some("it is suspect: it does not answer in time".to_owned());
            }
            if status.state == DiskState::Offline {
                status.reason = status.reason.or(lost);
            }
            let state = status.state;
            status.can_be_taken_out =
                survey::can_be_taken_out(id, state, survey.as_deref(), &standing);
            statuses.push(status);
        }
        statuses.sort_by(|a, b| {
            a.directory
                .cmp(&b.directory)
                .then(a.since_ms.cmp(&b.since_ms))
        });
        Ok(statuses)
    }

    pub(super) async fn heal_status(&self) -> Result<HealStatus> {
        let workers = &self.workers;
        let is_inventory_under_way = workers.inventory.is_under_way();
        let removed = workers.disks.removed().await?;
        let status = workers.healer.heal_status(removed, is_inventory_under_way);
        status.await
    }

    /// Says what to do, in one sentence for each thing.
    fn advice(&self, disks: &[DiskStatus], heal: &HealStatus) -> Vec<String> {
        let mut advice = Vec::new();
        let writes = match heal.queued_more {
            true => format!("more than {}", heal.queued_writes),
            false => heal.queued_writes.to_string(),
        };
        for disk in disks.iter().filter(|disk| disk.state == DiskState::Offline) {
            let (id, dir) = (&disk.id, disk.directory.display());
            let why = disk.reason.as_deref().unwrap_or("it is not there");
            advice.push(format!(
                "disk {id} ({dir}) does not answer ({why}): bring it back, or put an empty \
                 directory in its place and run `admin disk replace {dir}`"
            ));
        }
        let unreplaced =
            |disk: &&DiskStatus| disk.state == DiskState::Removed && disk.replaced_by.is_none();
        for disk in disks.iter().filter(unreplaced) {
            let (id, dir) = (&disk.id, disk.directory.display());
            advice.push(format!(
                "disk {id} ({dir}) was removed: put an empty directory in its place and run \
                 `admin disk replace {dir}`"
            ));
        }
        if heal.lost_shards > 0 {
            advice.push(format!(
                "{} shards are of objects that have too few good ones left to be read: bring \
                 back the disks that were lost",
                heal.lost_shards
            ));
        }
        if heal.no_disk_shards > 0 {
            advice.push(format!(
                "{} shards have no disk that they could be rebuilt on: {writes} objects have less \
                 redundancy than they should until there is another disk",
                heal.no_disk_shards
            ));
        }
        if heal.paused && heal.queued_shards > 0 {
            advice.push(format!(
                "heal is paused and {writes} objects have less redundancy than they should: run \
                 `admin heal resume`"
            ));
        }
        advice.extend(advice_on_undersized(heal));
        let refused = self.disks.refused();
        advice.extend(refused.iter().map(|(dir, why)| format!("{dir}: {why}")));
        advice
    }
}

/// Says that disks are offline that objects need.
fn advice_on_unreadable(redundancy: &Redundancy) -> Option<String> {
    let writes = redundancy.unreadable_writes.filter(|writes| *writes > 0)?;
    Some(format!(
        "{writes} objects cannot be read while the disks are offline that have their shards: bring \
         these back"
    ))
}

/// Says what undersized writes wait for.
fn advice_on_undersized(heal: &HealStatus) -> Option<String> {
    let what = match heal.paused {
        true => "heal is paused: run `admin heal resume`",
        false => {
            "bring back or replace the disks that are missing, or make room on those that are full"
        }
    };
    let waits = heal.undersized_writes > 0 && (heal.paused || heal.undersized_waiting);
    let than = if heal.undersized_more {
        "more than "
    } else {
        ""
    };
    waits.then(|| {
        format!(
            "{than}{} objects were written with fewer shards than their class, for want of disks, \
             and wait to be re-encoded: {what}",
            heal.undersized_writes
        )
    })
}

fn disk_status(id: DiskId, row: DiskRow, here: Option<&Arc<dyn Disk>>, space: Space) -> DiskStatus {
    let mut reason = None;
    let mut state = match row.availability {
        Availability::Up | Availability::Offline => DiskState::Offline,
        Availability::Removed => DiskState::Removed,
    };
    if let Some(disk) = here {
        let now = disk.state().borrow().clone();
        match now {
            Here::Up => state = DiskState::Up,
            Here::Failed(why) | Here::Lost(why) => reason = Some(why.to_string()),
        }
    }
    DiskStatus {
        id: id.to_string(),
        directory: row.directory.into(),
        state,
        reason,
        since_ms: row.since.0,
        total_bytes: space.total,
        free_bytes: space.free,
        replaced_by: row.replaced_by.map(|by| by.to_string()),
        can_be_taken_out: false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::Options;
    use crate::engine::testing::{Whole, create_bucket, put};
    use drystone_store::instance::Instance as _;

    /// Found by reading: a status between the command that removes a disk and the first step of
    /// queueing its shards said that all is well.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn b_12_a_disk_that_is_gone_is_being_queued_until_all_of_it_is() {
        let root = tempfile::tempdir().unwrap();
        let directories = (0..4).map(|n| root.path().join(format!("{n}"))).collect();
        let engine = Engine::open(Options::new(directories)).await.unwrap();
        let bucket = create_bucket(&engine).await;
        put(&engine, bucket, "k", &mut Whole::new(vec![7; 60_000])).await;
        let (old, new) = (engine.shards.disks()[0].id(), None);
        // Nothing wakes the worker that does what follows.
        let gone = engine
            .workers
            .disks
            .change(Change::ReplaceDisk { old, new })
            .await;
        gone.unwrap();
        assert!(engine.heal_status().await.unwrap().queueing);
        engine.workers.disks.wake();
        let queued = async {
            while engine.heal_status().await.unwrap().queueing {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let queued = tokio::time::timeout(Duration::from_secs(60), queued).await;
        queued.unwrap();
        assert_eq!(engine.heal_status().await.unwrap().queued_shards, 1);
        engine.close().await;
    }
}
