//! Agreement: compares the replicas of each group, and has those rebuilt that differ from the
//! others.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use crate::raft::group::Group;
use crate::raft::recovery::start::Groups;
use drystone_store::env::Env;
use drystone_store::measure::Measure;
use drystone_store::types::DiskId;
use drystone_store::workers::{Next, StepError, Wakeup, Worker};

/// The time between two comparisons.
const EVERY: Duration = Duration::from_secs(60);

pub struct Agreement {
    env: Arc<dyn Env>,
    groups: Groups,
    wakeup: Wakeup,
    differing: AtomicU64,
    refused: AtomicU64,
}

impl Agreement {
    pub fn new(env: Arc<dyn Env>, groups: Groups) -> Agreement {
        Agreement {
            env,
            groups,
            wakeup: Wakeup::default(),
            differing: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    pub fn compare(&self) {
        let Groups { system, objects } = &self.groups;
        let differing = [system, objects].map(|group| self.compare_group(group));
        let differing = differing.into_iter().filter(|differs| *differs).count();
        self.differing.store(differing as u64, Ordering::Relaxed);
    }

    /// Returns whether replicas of the group differ.
    fn compare_group(&self, group: &Group) -> bool {
        let Some((index, disks)) = group.disagreement() else {
            return false;
        };
        let is_decided = !disks.is_empty();
        if !is_decided || !self.can_do_without(&disks) {
            tracing::error!(
                index,
                is_decided,
                ?disks,
                "replicas of the metadata differ, and none of them can be refused: stop the store \
                 and check it"
            );
            return true;
        }
        for disk in disks {
            let why = format!("its metadata differ from most others' since entry {index}");
            group.refuse_disk(disk, &why);
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        true
    }

    /// Returns whether the metadata has a majority without these disks.
    fn can_do_without(&self, disks: &BTreeSet<DiskId>) -> bool {
        let Groups { system, objects } = &self.groups;
        system.has_majority_without(disks) && objects.has_majority_without(disks)
    }
}

#[async_trait]
impl Worker for Agreement {
    fn name(&self) -> &'static str {
        "agreement"
    }

    async fn step(&self) -> Result<Next, StepError> {
        self.compare();
        Ok(Next::At(self.env.after(EVERY)))
    }

    fn wakeup(&self) -> &Wakeup {
        &self.wakeup
    }

    async fn measures(&self) -> Vec<Measure> {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        vec![
            Measure::gauge(
                "metadata_groups_differing",
                "Groups of the metadata whose replicas differed when they were last compared.",
                load(&self.differing) as f64,
            ),
            Measure::counter(
                "metadata_replicas_refused_total",
                "Replicas of the metadata that are rebuilt because they differed from the others.",
                load(&self.refused),
            ),
        ]
    }
}
