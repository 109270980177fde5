//! Watchdog: finds disks that hang, or that are far slower than the others.
//!
//! A disk whose oldest operation is the same for [`SUSPECT_LOOKS`] looks, and for far more looks
//! than those of the other disks, is **slow**: writes continue without it, reads prefer the others,
//! and none of its metadata replicas leads. So is a disk whose syncs take far longer than the
//! others'. Where all disks are slow, none is: the machine is busy.
//!
//! After [`GIVE_UP_LOOKS`] looks the use of a slow disk ends like that of a disk that failed (B-52,
//! nobody waits for it any more, and it returns to service when it passes a probe
//! (`engine::renew`).
//!
//! Looks are counted, not time: a process that was stopped, or that got no processor, has not
//! looked meanwhile, and finds its disks as it left them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use super::heal::Healer;
use crate::disk::Disk;
use crate::raft::recovery::start::Groups;
use crate::shards::Shards;
use drystone_store::env::Env;
use drystone_store::lock::Mutex;
use drystone_store::measure::Measure;
use drystone_store::types::DiskId;
use drystone_store::workers::{Next, StepError, Wakeup, Worker};

/// A disk whose oldest operation is the same in this many looks is slow, two seconds by default, if
/// that is also this many times as often as for the median of the other disks.
const SUSPECT_LOOKS: u32 = 4;
/// A disk whose oldest operation is the same in this many looks is given up: after 30 seconds by
/// default.
const GIVE_UP_LOOKS: u32 = 60;
/// The syncs of disks are compared over this many looks: five seconds.
const COMPARE_LOOKS: u32 = 10;
/// A disk whose syncs were slow, and which syncs too little since, is avoided for this many
/// comparisons: 30 seconds by default.
const SLUGGISH_COMPARISONS: u32 = 6;
/// Fewer syncs than this say nothing about a disk.
const SYNCS_MIN: u64 = 3;
/// A disk is slow only if its syncs take at least this long on average.
const SLOW_SECONDS: f64 = 0.1;
/// And this many times as long as those of the median of the other disks.
const SLOW_FACTOR: f64 = 10.0;

pub struct Watchdog {
    env: Arc<dyn Env>,
    groups: Groups,
    shards: Arc<Shards>,
    healer: Arc<Healer>,
    look_every: Duration,
    record: Mutex<Record>,
    wakeup: Wakeup,
    given_up: AtomicU64,
}

/// The findings of the looks so far.
#[derive(Default)]
struct Record {
    disks: HashMap<DiskId, Observed>,
    /// Since the disks' syncs were last compared.
    looks: u32,
    /// The disks whose syncs were far slower than the others', with the number of comparisons since
    /// then for which they synced too little.
    sluggish: BTreeMap<DiskId, u32>,
    /// The disks that were suspect after the last look.
    suspects: BTreeSet<DiskId>,
}

#[derive(Default)]
struct Observed {
    oldest: Option<u64>,
    /// The number of looks that found the same oldest operation, after the first one.
    looks: u32,
    /// The syncs when they were last compared: their number and their seconds together.
    syncs: (u64, f64),
}

impl Record {
    /// Adds a look at all disks. Returns for each disk how many looks its oldest operation has
    /// lasted.
    fn look(&mut self, disks: &[Arc<dyn Disk>]) -> Vec<(DiskId, u32)> {
        self.disks
            .retain(|id, _| disks.iter().any(|disk| disk.id() == *id));
        let looks = disks.iter().map(|disk| {
            let seen = self.disks.entry(disk.id()).or_default();
            let oldest = disk.operations().oldest();
            let is_same = oldest.is_some() && oldest == seen.oldest;
            seen.looks = if is_same { seen.looks + 1 } else { 0 };
            seen.oldest = oldest;
            (disk.id(), seen.looks)
        });
        let looks = looks.collect();
        self.looks += 1;
        if self.looks >= COMPARE_LOOKS {
            self.looks = 0;
            self.compare_syncs(disks);
        }
        looks
    }

    fn compare_syncs(&mut self, disks: &[Arc<dyn Disk>]) {
        let means: Vec<_> = disks
            .iter()
            .filter_map(|disk| {
                let now = disk.syncs();
                let seen = self.disks.get_mut(&disk.id())?;
                let before = std::mem::replace(&mut seen.syncs, now);
                let count = now.0.saturating_sub(before.0);
                (count >= SYNCS_MIN).then(|| (disk.id(), (now.1 - before.1) / count as f64))
            })
            .collect();
        self.note_means(&means);
    }

    /// Notes which disks are sluggish now. One that is avoided may sync too little to tell: it
    /// stays so for [`SLUGGISH_COMPARISONS`], and is tried again.
    fn note_means(&mut self, means: &[(DiskId, f64)]) {
        self.sluggish.retain(|id, untold| {
            *untold += 1;
            let is_told = means.iter().any(|(told, _)| told == id);
            !is_told && *untold <= SLUGGISH_COMPARISONS
        });
        let found = sluggish(means).into_iter();
        self.sluggish.extend(found.map(|id| (id, 0)));
    }
}

/// Returns the disks whose syncs are far slower than those of the others. `means` has the seconds
/// that a sync takes on average.
fn sluggish(means: &[(DiskId, f64)]) -> BTreeSet<DiskId> {
    let is_slow = |(id, mean): &&(DiskId, f64)| {
        let others = means.iter().filter(|(other, _)| other != id);
        let mut others: Vec<f64> = others.map(|(_, mean)| *mean).collect();
        others.sort_by(f64::total_cmp);
        let median = others.get(others.len() / 2);
        *mean >= SLOW_SECONDS && median.is_some_and(|median| *mean >= SLOW_FACTOR * median)
    };
    means.iter().filter(is_slow).map(|(id, _)| *id).collect()
}

/// Returns the disks that hang by the looks that their oldest operations have lasted.
fn hanging(looks: &[(DiskId, u32)]) -> impl Iterator<Item = DiskId> {
    let hangs = |(id, own): &&(DiskId, u32)| {
        let others = looks.iter().filter(|(other, _)| other != id);
        let mut others: Vec<u32> = others.map(|(_, looks)| *looks).collect();
        others.sort_unstable();
        let median = others.get(others.len() / 2).copied().unwrap_or(0);
        *own >= SUSPECT_LOOKS.saturating_mul(median.saturating_add(1))
    };
    looks.iter().filter(hangs).map(|(id, _)| *id)
}

impl Watchdog {
    pub fn new(
        env: Arc<dyn Env>,
        groups: Groups,
        shards: Arc<Shards>,
        healer: Arc<Healer>,
        look_every: Duration,
    ) -> Watchdog {
        Watchdog {
            env,
            groups,
            shards,
            healer,
            look_every,
            record: Mutex::default(),
            wakeup: Wakeup::default(),
            given_up: AtomicU64::new(0),
        }
    }

    pub(crate) async fn look(&self) {
        let mut disks = self.shards.disks();
        disks.retain(|disk| disk.state().borrow().is_up());
        let (looks, mut slow): (_, BTreeSet<_>) = {
            let mut record = self.record.lock();
            (
                record.look(&disks),
                record.sluggish.keys().copied().collect(),
            )
        };
        slow.extend(hanging(&looks));
        let before = self.suspects(&disks);
        self.shards.set_slow(&slow);
        self.wake_heal(before, self.suspects(&disks));
        for group in [&self.groups.system, &self.groups.objects] {
            group.set_slow(&slow).await;
        }
        for (id, looks) in looks {
            let disk = disks.iter().find(|disk| disk.id() == id);
            if let Some(disk) = disk
                && looks >= GIVE_UP_LOOKS
                && slow.contains(&id)
                && self.can_do_without(&slow)
            {
                self.given_up.fetch_add(1, Ordering::Relaxed);
                disk.give_up("it does not answer");
            }
        }
    }

    fn suspects(&self, disks: &[Arc<dyn Disk>]) -> BTreeSet<DiskId> {
        let ids = disks.iter().map(|disk| disk.id());
        ids.filter(|id| self.shards.is_suspect(*id)).collect()
    }

    /// Wakes heal if it can use a disk again that was suspect at the last look or since.
    fn wake_heal(&self, mut before: BTreeSet<DiskId>, now: BTreeSet<DiskId>) {
        let mut record = self.record.lock();
        before.append(&mut record.suspects);
        if before.difference(&now).next().is_some() {
            self.healer.wake_all();
        }
        record.suspects = now;
    }

    /// Returns whether the metadata has a majority without the slow disks. Where it has none,
    /// giving one up would gain nothing.
    fn can_do_without(&self, slow: &BTreeSet<DiskId>) -> bool {
        let Groups { system, objects } = &self.groups;
        system.has_majority_without(slow) && objects.has_majority_without(slow)
    }
}

#[async_trait]
impl Worker for Watchdog {
    fn name(&self) -> &'static str {
        "watchdog"
    }

    async fn step(&self) -> Result<Next, StepError> {
        self.look().await;
        Ok(Next::At(self.env.after(self.look_every)))
    }

    fn wakeup(&self) -> &Wakeup {
        &self.wakeup
    }

    async fn measures(&self) -> Vec<Measure> {
        let help = "Disks that were given up because they did not answer.";
        let given_up = self.given_up.load(Ordering::Relaxed);
        vec![Measure::counter("disks_given_up_total", help, given_up)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b_52_a_disk_hangs_by_the_others() {
        let hanging = |looks: &[u32]| -> Vec<u8> {
            let looks: Vec<_> = (0..)
                .map(|n| DiskId([n; 16]))
                .zip(looks.iter().copied())
                .collect();
            hanging(&looks).map(|id| id.0[0]).collect()
        };
        assert_eq!(hanging(&[0, 0, 4, 0]), [2]);
        assert_eq!(hanging(&[0, 0, 3, 0]), []);
        // All take long: the machine is busy.
        assert_eq!(hanging(&[5, 6, 7, 9]), []);
        assert_eq!(hanging(&[1, 1, 60, 1]), [2]);
        // Of two disks, the one that answers shows that the other one hangs.
        assert_eq!(hanging(&[0, 8]), [1]);
    }

    #[test]
    fn r_17_a_sluggish_disk_that_syncs_nothing_is_avoided_for_a_while() {
        let id = |n: u8| DiskId([n; 16]);
        let others = [(id(0), 0.01), (id(1), 0.01)];
        let with = |mean| vec![others[0], others[1], (id(2), mean)];
        let mut record = Record::default();
        record.note_means(&with(1.0));
        for _ in 0..SLUGGISH_COMPARISONS {
            record.note_means(&others);
            assert!(record.sluggish.contains_key(&id(2)));
        }
        record.note_means(&others);
        assert!(record.sluggish.is_empty());
        // One that is told to be well again is used at once.
        record.note_means(&with(1.0));
        record.note_means(&with(0.01));
        assert!(record.sluggish.is_empty());
    }

    #[test]
    fn r_17_a_disk_is_sluggish_by_the_others_and_by_what_a_user_notices() {
        let id = |n: u8| DiskId([n; 16]);
        let means =
            |seconds: &[f64]| -> Vec<_> { (0..).map(id).zip(seconds.iter().copied()).collect() };
        let none = BTreeSet::new();
        assert_eq!(
            sluggish(&means(&[0.01, 0.012, 0.011, 1.1])),
            BTreeSet::from([id(3)])
        );
        // All are slow, or none is slow enough to be noticed.
        assert_eq!(sluggish(&means(&[1.0, 1.2, 1.1, 1.1])), none);
        assert_eq!(sluggish(&means(&[0.001, 0.001, 0.001, 0.09])), none);
        // There is nothing to compare it with.
        assert_eq!(sluggish(&means(&[5.0])), none);
    }
}
