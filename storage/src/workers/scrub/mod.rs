//! Scrub: reads every shard again, within a period, to find what has rotted while nobody read it.
//!
//! Redundancy is only worth what is still there: damage that is found when the next disk dies is
//! found too late. A pass goes through the data rows in their order and reads all shards of each
//! where the row says they are, side by side, block by block, header and footer. It compares each
//! payload with its checksum in the row, and the parity with the data. Damaged and missing shards
//! enter the heal queue; those on offline disks are skipped. Parity that was wrong from the
//! beginning is reported. Then the pass reads the disks themselves ([`disks`]).
//!
//! The progress of a pass is part of the metadata. It is written after each step, so that a start
//! continues with it; an interrupted step is done again. A cursor that does not decode begins a new
//! pass.

mod disks;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};

use super::heal::Healer;
use crate::meta::command::{Change, ScrubState, UpkeepSettings};
use crate::meta::view::View;
use crate::meta::view::upkeep::ShardToHeal;
use crate::raft::proposer::Proposer;
use crate::shards::{ShardCondition, Shards, WriteRef};
use drystone_store::env::Instant;
use drystone_store::error::Result;
use drystone_store::lock::Mutex;
use drystone_store::measure::Measure;
use drystone_store::operator::ScrubStatus;
use drystone_store::shard_set::{ShardAt, ShardId};
use drystone_store::types::{Timestamp, WriteId};
use drystone_store::workers::{Next, Pace, Pause, StepError, Wakeup, Worker};

/// The number of data rows of one step.
const STEP_ROWS: usize = 64;
/// The number of writes that are read at once.
const WRITES_AT_ONCE: usize = 2;
/// The least speed, however little there is to read, so that a pass that is behind can catch up.
const RATE_MIN: u64 = 4 << 20;
/// The part of its period that a pass is planned to take, because something may delay it.
const SPARE_PERCENT: u64 = 50;

/// The results of scrub since the process began.
#[derive(Default)]
struct Counts {
    shards: AtomicU64,
    findings: AtomicU64,
    unread: AtomicU64,
    wrong_parity: AtomicU64,
}

/// The shards and disks that a pass could not look at while this process had a part in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unread {
    /// The beginning of the pass.
    started: Timestamp,
    shards: u64,
    disks: u64,
}

/// The findings in one write.
#[derive(Default)]
struct Finding {
    /// The number of shards that were read.
    read: u64,
    /// Their disks are offline, or do not answer.
    unread: u64,
    /// They are not as they should be.
    damaged: Vec<ShardId>,
    has_wrong_parity: bool,
}

pub struct Scrubber {
    system: Proposer,
    objects: Proposer,
    shards: Arc<Shards>,
    healer: Arc<Healer>,
    pace: Arc<Pace>,
    wakeup: Wakeup,
    counts: Counts,
    unread: Mutex<Option<Unread>>,
}

impl Scrubber {
    pub fn new(
        system: Proposer,
        objects: Proposer,
        shards: Arc<Shards>,
        healer: Arc<Healer>,
    ) -> Scrubber {
        Scrubber {
            pace: Arc::new(Pace::new(system.env.clone(), RATE_MIN, false)),
            system,
            objects,
            shards,
            healer,
            wakeup: Wakeup::default(),
            counts: Counts::default(),
            unread: Mutex::default(),
        }
    }

    /// The pass in progress, or the last one.
    pub async fn state(&self) -> Result<Option<ScrubState>> {
        self.objects.group.read(|view| Ok(view.scrub())).await
    }

    /// The settings and the pass, as the operator sees them.
    pub async fn scrub_status(&self) -> Result<ScrubStatus> {
        let (settings, state) = (self.settings().await?, self.state().await?);
        let unread = state.and_then(|state| self.unread_of(state.started));
        Ok(ScrubStatus {
            paused: settings.scrub_paused,
            period_seconds: settings.scrub_period_seconds,
            started_ms: state.map(|state| state.started.0),
            finished_ms: state.and_then(|state| state.finished).map(|at| at.0),
            percent: percent(state),
            shards_read: state.map_or(0, |state| state.shards),
            findings: state.map_or(0, |state| state.findings),
            shards_unread: unread.map_or(0, |unread| unread.shards),
            disks_unread: unread.map_or(0, |unread| unread.disks),
        })
    }

    /// Returns what the pass that began then could not look at.
    fn unread_of(&self, started: Timestamp) -> Option<Unread> {
        self.unread
            .lock()
            .filter(|unread| unread.started == started)
    }

    /// Adds shards that the pass could not look at, and notes the number of such disks.
    fn note_unread(&self, started: Timestamp, shards: u64, disks: u64) {
        self.counts.unread.fetch_add(shards, Ordering::Relaxed);
        let mut unread = self.unread.lock();
        let before = unread.filter(|unread| unread.started == started);
        *unread = Some(Unread {
            started,
            shards: before.map_or(0, |before| before.shards) + shards,
            // The disks of a pass may be looked at again after a pause.
            disks: before.map_or(0, |before| before.disks).max(disks),
        });
    }

    async fn settings(&self) -> Result<UpkeepSettings> {
        self.system.group.read(|view| view.upkeep_settings()).await
    }

    /// Begins a pass now.
    pub async fn begin(&self) -> Result<()> {
        self.begin_pass().await?;
        self.wake();
        Ok(())
    }

    /// Begins a step now: the settings or the pass changed.
    pub fn wake(&self) {
        self.wakeup.wake();
    }

    pub fn set_paused(&self, paused: bool) {
        self.pace.set_paused(paused);
        self.wake();
    }

    /// Continues the pass. Gives when the next one is due.
    async fn pass(&self) -> Result<Option<Instant>> {
        let settings = self.settings().await?;
        let period = settings.scrub_period();
        self.pace
            .set(self.rate(&settings).await, settings.scrub_paused);
        if settings.scrub_paused {
            return Ok(None);
        }
        let mut state = match self.state().await? {
            Some(state) if state.finished.is_none() => state,
            _ if period.is_zero() => return Ok(None),
            Some(state) => {
                // If the clock was ahead when the pass began, nobody knows when that was, and a new
                // one begins.
                let passed = u64::try_from(self.system.env.now().0 - state.started.0);
                let passed = passed.map_or(period, Duration::from_millis);
                let left = period.saturating_sub(passed);
                if !left.is_zero() {
                    return Ok(Some(self.system.env.after(left)));
                }
                self.begin_pass().await?
            }
            None => self.begin_pass().await?,
        };
        while state.finished.is_none() {
            let Ok(next) = self.step(state).await? else {
                return Ok(None);
            };
            let now = self.state().await?;
            if now.is_some_and(|now| now.started != state.started) {
                // An operator began a new pass meanwhile.
                return Ok(Some(self.system.env.instant()));
            }
            self.note(next).await?;
            state = next;
        }
        let ScrubState {
            shards, findings, ..
        } = state;
        match self.unread_of(state.started) {
            Some(unread) if unread.shards > 0 || unread.disks > 0 => {
                tracing::warn!(
                    shards,
                    findings,
                    unread = unread.shards,
                    disks = unread.disks,
                    "a pass of scrub could not look at everything"
                );
            }
            _ => tracing::info!(shards, findings, "all shards were read"),
        }
        Ok((!period.is_zero()).then(|| self.system.env.after(period)))
    }

    /// Reads the shards of the next rows.
    async fn step(&self, mut state: ScrubState) -> Result<Result<ScrubState, Pause>> {
        let after = state.after;
        let (rows, last) = self
            .objects
            .group
            .read(move |view| view.shard_sets(after, STEP_ROWS))
            .await?;
        let read = stream::iter(rows).map(|row| self.read_write(row));
        let mut read = read.buffer_unordered(WRITES_AT_ONCE);
        let mut entries = Vec::new();
        let mut findings = 0;
        while let Some(found) = read.next().await {
            let Ok(found) = found else {
                return Ok(Err(Pause));
            };
            state.shards += found.read;
            self.note_unread(state.started, found.unread, 0);
            findings += found.damaged.len() as u64 + u64::from(found.has_wrong_parity);
            entries.extend(found.damaged);
        }
        state.findings += findings;
        self.counts.findings.fetch_add(findings, Ordering::Relaxed);
        if !entries.is_empty() {
            self.objects.propose(Change::QueueHeal { entries }).await?;
            self.healer.wake();
        }
        match last {
            Some(last) => state.after = Some(last),
            // After an interruption the disks are read from the first: they are small beside the
            // shards.
            None => match self.disks(state.started).await? {
                Ok(()) => state.finished = Some(self.system.env.now()),
                Err(Pause) => return Ok(Err(Pause)),
            },
        }
        Ok(Ok(state))
    }

    /// Reads the shards of one write.
    async fn read_write(&self, row: ShardToHeal) -> Result<Finding, Pause> {
        let write_id = row.entry.write_id;
        let write = WriteRef {
            write_id,
            bucket: row.bucket,
            size: row.size,
            set: &row.set,
        };
        let examined = self.shards.examine_write(write, &self.pace).await?;
        let mut finding = Finding::default();
        let shards = (0..).zip(&row.set.shards).zip(examined.shards);
        for ((rank, place), condition) in shards {
            let why = match condition {
                // One that was never written is queued already.
                None => continue,
                Some(ShardCondition::Offline | ShardCondition::Unknown(_)) => {
                    finding.unread += 1;
                    continue;
                }
                Some(ShardCondition::Whole) => None,
                Some(ShardCondition::Damaged(why)) => Some(why),
            };
            finding.read += 1;
            if let Some(why) = why
                && self.is_named(write_id, rank, place.at()).await
            {
                tracing::warn!(%write_id, rank, why, disk = %place.disk, "scrub found damage");
                finding.damaged.push(ShardId { write_id, rank });
            }
        }
        if examined.has_wrong_parity {
            // Nothing can be rebuilt from it, and heal would notice. The data are as they were
            // committed.
            tracing::error!(%write_id, "the parity of a write was not computed from its data");
            self.counts.wrong_parity.fetch_add(1, Ordering::Relaxed);
            finding.has_wrong_parity = true;
        }
        self.counts
            .shards
            .fetch_add(finding.read, Ordering::Relaxed);
        Ok(finding)
    }

    /// Whether the row still names the shard. A shard may lose its name after its row was read, and
    /// gc may have removed it. If the metadata do not answer it counts as named, and heal checks
    /// again.
    async fn is_named(&self, write_id: WriteId, rank: u8, at: ShardAt) -> bool {
        let look = move |view: &View<'_>| view.names(write_id, rank, at);
        self.objects.group.read(look).await.unwrap_or(true)
    }

    /// The bytes a second that read everything on the disks in time.
    async fn rate(&self, settings: &UpkeepSettings) -> u64 {
        let mut used = 0;
        for disk in self.shards.disks() {
            if let Some(space) = self.shards.space(disk.as_ref()) {
                used += space.total.saturating_sub(space.free);
            }
        }
        let period = match settings.scrub_period_seconds {
            0 => UpkeepSettings::default().scrub_period_seconds,
            seconds => seconds,
        };
        let seconds = (period.saturating_mul(SPARE_PERCENT) / 100).max(1);
        (used / seconds).max(RATE_MIN)
    }

    async fn begin_pass(&self) -> Result<ScrubState> {
        let state = ScrubState {
            started: self.system.env.now(),
            after: None,
            shards: 0,
            findings: 0,
            finished: None,
        };
        self.note(state).await?;
        Ok(state)
    }

    async fn note(&self, state: ScrubState) -> Result<()> {
        self.objects
            .propose(Change::NoteScrub(state))
            .await
            .map(drop)
    }
}

#[async_trait]
impl Worker for Scrubber {
    fn name(&self) -> &'static str {
        "scrub"
    }

    async fn step(&self) -> Result<Next, StepError> {
        Ok(self.pass().await?.into())
    }

    fn wakeup(&self) -> &Wakeup {
        &self.wakeup
    }

    fn pace(&self) -> Option<Arc<Pace>> {
        Some(self.pace.clone())
    }

    async fn measures(&self) -> Vec<Measure> {
        let mut measures = Vec::new();
        for (name, help, count) in [
            (
                "scrub_shards_read_total",
                "Shards that scrub has read.",
                &self.counts.shards,
            ),
            (
                "scrub_findings_total",
                "Shards that scrub found damaged or missing, and writes with wrong parity.",
                &self.counts.findings,
            ),
            (
                "scrub_shards_unread_total",
                "Shards that scrub could not look at.",
                &self.counts.unread,
            ),
            (
                "scrub_wrong_parity_total",
                "Writes whose parity scrub found not to be computed from their data.",
                &self.counts.wrong_parity,
            ),
        ] {
            measures.push(Measure::counter(name, help, count.load(Ordering::Relaxed)));
        }
        if let Ok(state) = self.state().await {
            let help = "How far the pass of scrub is; 1 when the last one has ended.";
            let ratio = f64::from(percent(state)) / 100.0;
            measures.push(Measure::gauge("scrub_pass_ratio", help, ratio));
        }
        measures
    }
}

/// How far a pass is, by the order of write ids.
fn percent(state: Option<ScrubState>) -> u8 {
    match state {
        Some(ScrubState {
            finished: Some(_), ..
        }) => 100,
        Some(ScrubState {
            after: Some(after), ..
        }) => (u32::from(after.0[0]) * 100 / 256) as u8,
        _ => 0,
    }
}
