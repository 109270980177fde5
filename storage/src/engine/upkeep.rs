//! The tasks that run beside the requests: gc of each group, the watch over the disks, and the
//! damage that readers meet.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{MissedTickBehavior, timeout};

use super::{Engine, quotas, renew};
use crate::db::{Db, DbError};
use crate::disk::pending::{owes_stock, stock_taken};
use crate::disk::{Disk, DiskState};
use crate::meta::command::{Change, HealEntry};
use crate::meta::view::{Availability, DiskRow};
use crate::raft::recovery::start::Groups;
use crate::shards::DamageReport;
use crate::workers::disks::Disks;
use crate::workers::gc::Collector;
use crate::workers::inventory::Taking;
use crate::workers::wakeup::Wakeup;
use drystone_store::error::{Error, Result};
use drystone_store::store::Health;
use drystone_store::types::DiskId;

/// Damage that one command puts into the heal queue.
const DAMAGE_BATCH_LEN_MAX: usize = 256;

/// Between two rounds of gc at least this much time goes, however full the disks are.
const GC_PAUSE_MIN: Duration = Duration::from_secs(10);

/// So often the disks note that they are all here: a copy of one that is older than this is known
/// for what it is.
const PRESENCE_EVERY: Duration = Duration::from_secs(3600);
/// How long the end of the store waits for the disks' last note.
const LAST_NOTE_MAX: Duration = Duration::from_secs(5);

/// The tasks under way, ended with the store.
#[derive(Default)]
pub(super) struct Upkeep(Mutex<Vec<JoinHandle<()>>>);

impl Upkeep {
    /// One that panics is told: what it did is not done until the next start.
    pub(super) fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        let task = async move {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                tracing::error!("a task of the store's upkeep panicked: restart the server");
            }
        };
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(tokio::spawn(task));
    }

    /// Returns once all have let go of what they held.
    async fn end(&self) {
        let tasks = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.iter().for_each(JoinHandle::abort);
        join_all(tasks).await;
    }
}

/// Starts everything. The tasks hold parts of the engine, never the engine.
pub(super) fn start(
    engine: &Arc<Engine>,
    gc_every: Duration,
    mut damaged: mpsc::Receiver<DamageReport>,
) {
    for collector in [
        Collector::new(
            engine.env.clone(),
            engine.system.clone(),
            engine.system_epochs.clone(),
            None,
            Arc::default(),
        ),
        Collector::new(
            engine.env.clone(),
            engine.objects.clone(),
            engine.epochs.clone(),
            Some(engine.shards.clone()),
            engine.collected.clone(),
        ),
    ] {
        engine.upkeep.run(collect(collector, gc_every));
    }
    let healer = engine.healer.clone();
    engine.upkeep.run(async move { healer.run().await });
    for disk in engine.shards.disks() {
        engine.watch(disk);
    }
    let scrubber = engine.scrubber.clone();
    engine.upkeep.run(async move { scrubber.run().await });
    let disks = engine.disks.clone();
    engine.upkeep.run(async move { disks.run().await });
    engine.upkeep.run(note_presence(engine.groups()));
    let held: Vec<_> = {
        let databases = engine.databases();
        let held = databases.iter();
        held.filter_map(|held| Some((held.id(), held.db.clone()?)))
            .collect()
    };
    held.iter()
        .for_each(|(disk, db)| engine.take_stock(engine.stock.begin(), *disk, db));
    engine.upkeep.run(renew::run(Arc::downgrade(engine)));
    engine.upkeep.run(quotas::watch(Arc::downgrade(engine)));
    let weak = Arc::downgrade(engine);
    engine.upkeep.run(async move {
        let mut reports = Vec::new();
        while damaged.recv_many(&mut reports, DAMAGE_BATCH_LEN_MAX).await > 0 {
            let Some(engine) = weak.upgrade() else { return };
            if let Err(error) = engine.queue_heals(reports.drain(..)).await {
                // A reader that meets the damage again reports it again.
                tracing::warn!(%error, "damaged shards are not queued for healing");
            }
        }
    });
}

/// A round at once, for what the last process left, and then by the clock; and sooner when disks
/// have no room, as what was deleted may make some.
async fn collect(collector: Collector, every: Duration) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = wanted(&collector) => {}
        }
        if let Err(error) = collector.round().await {
            tracing::warn!(%error, "gc did not finish its round");
        }
    }
}

async fn note_presence(groups: Groups) {
    loop {
        // The start has noted it.
        tokio::time::sleep(PRESENCE_EVERY).await;
        if let Err(error) = groups.note_presence().await {
            tracing::warn!(%error, "the disks do not note that they are here");
        }
    }
}

async fn wanted(collector: &Collector) {
    tokio::time::sleep(GC_PAUSE_MIN).await;
    collector.wanted().await;
}

/// Ends the metadata replicas of a disk that is gone, and sees that the metadata goes on.
async fn watch(disk: Arc<dyn Disk>, groups: Groups, disks: Arc<Disks>, failed: Arc<Wakeup>) {
    let mut state = disk.state();
    let lost = state.wait_for(|state| matches!(state, DiskState::Lost(_) | DiskState::Failed(_)));
    let Ok(why) = lost.await.map(|state| state.clone()) else {
        return;
    };
    tracing::error!(disk = %disk.id(), ?why, "a disk is lost");
    if matches!(why, DiskState::Failed(_)) {
        groups.mark(disk.id()).await;
    }
    groups.system.replica_lost(disk.id());
    groups.objects.replica_lost(disk.id());
    match groups.recover_if_lost().await {
        Ok(true) => tracing::warn!("the metadata goes on from the disks that are left"),
        Ok(false) => {}
        Err(error) => tracing::error!(%error, "the metadata does not go on"),
    }
    disks.wake();
    failed.wake();
}

/// If the disk's database says that it is owed.
async fn take_stock(stock: Taking, disk: DiskId, db: Weak<Db>) {
    match ask(&db, owes_stock).await {
        Ok(true) if stock.to_its_end(disk).await => {}
        Ok(_) => return,
        Err(error) => return tracing::warn!(%error, %disk, "no stock is taken of a disk"),
    }
    if let Err(error) = ask(&db, stock_taken).await {
        tracing::warn!(%error, %disk, "stock will be taken of a disk again");
    }
}

/// Holds the database no longer than that, as it may have to be made anew meanwhile.
async fn ask<T: Send + 'static>(db: &Weak<Db>, what: fn(&Db) -> Result<T, DbError>) -> Result<T> {
    let db = db.upgrade().ok_or(Error::Closing)?;
    let asked = spawn_blocking(move || what(&db)).await;
    Ok(asked.map_err(|_| Error::Closing)??)
}

impl Engine {
    pub(super) fn watch(&self, disk: Arc<dyn Disk>) {
        let (groups, disks, failed) = (self.groups(), self.disks.clone(), self.failed.clone());
        self.upkeep.run(watch(disk, groups, disks, failed));
    }

    pub(super) fn take_stock(&self, stock: Taking, disk: DiskId, db: &Arc<Db>) {
        self.upkeep.run(take_stock(stock, disk, Arc::downgrade(db)));
    }

    async fn queue_heals(&self, reports: impl Iterator<Item = DamageReport>) -> Result<()> {
        let entries = reports
            .map(|report| HealEntry {
                write_id: report.write_id,
                rank: report.rank,
            })
            .collect();
        let epoch = self.epochs.begin();
        let command = self.command(&epoch, Change::QueueHeal { entries });
        self.objects.propose(command).await?;
        self.healer.wake();
        Ok(())
    }

    /// How many disks the store should have. As far as they are here, if nobody can tell.
    pub(super) async fn disks_known(&self) -> usize {
        let here = self.shards.disks().len() + self.refused().len();
        match self.disks.known().await {
            Ok(known) => {
                let gone =
                    |(_, row): &&(DiskId, DiskRow)| row.availability == Availability::Removed;
                known.len() - known.iter().filter(gone).count()
            }
            Err(_) => here,
        }
    }

    pub(super) async fn look(&self) -> Health {
        let disks = self.shards.disks();
        let online = disks
            .iter()
            .filter(|disk| disk.state().borrow().is_up())
            .count();
        let can_read = futures_util::try_join!(self.system.ready(), self.objects.ready()).is_ok();
        let geometry = self.shards.default_geometry();
        Health {
            disks_online: online,
            disks_offline: self.disks_known().await.saturating_sub(online),
            can_read,
            can_write: can_read && self.shards.can_write(),
            metadata_quorum: self.objects.status().quorum,
            data_shards: geometry.data(),
            parity_shards: geometry.parity(),
        }
    }

    /// Requests are over: the tasks end, then the groups, then the databases are written out.
    pub(super) async fn stop(&self) {
        self.upkeep.end().await;
        // A disk that hangs must not keep the store from ending.
        let noted = timeout(LAST_NOTE_MAX, async { self.groups().note_presence().await }).await;
        if !matches!(noted, Ok(Ok(()))) {
            tracing::warn!(?noted, "the disks do not note that they were here");
        }
        self.system.shutdown().await;
        self.objects.shutdown().await;
        let databases: Vec<_> = self.databases().drain(..).collect();
        let closed = join_all(
            databases
                .into_iter()
                .map(|held| spawn_blocking(move || held.db.iter().for_each(|db| db.close()))),
        );
        if closed.await.iter().any(Result::<_, _>::is_err) {
            tracing::error!(error = %Error::Closing, "a database did not close");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::engine::Options;
    use crate::meta::command::{ScrubState, UpkeepSettings};
    use drystone_store::store::ObjectStore as _;
    use drystone_store::types::Timestamp;

    async fn store() -> (tempfile::TempDir, Arc<Engine>) {
        let root = tempfile::tempdir().unwrap();
        let directories = (0..2).map(|n| root.path().join(format!("{n}"))).collect();
        let engine = Engine::open(Options::new(directories)).await.unwrap();
        (root, engine)
    }

    async fn propose(engine: &Engine, change: Change) {
        let epoch = engine.epochs.begin();
        let command = engine.command(&epoch, change);
        engine.objects.propose(command).await.unwrap();
    }

    /// Found by reading: a pass that began under a clock that was ahead was the last one until the
    /// true time came there.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn f_20_scrub_begins_again_where_its_last_pass_lies_in_the_future() {
        let (_root, engine) = store().await;
        let ahead = Timestamp(engine.env.now().0 + (1 << 40));
        let state = async || engine.scrubber.state().await.unwrap();
        while state().await.is_none_or(|state| state.finished.is_none()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let later = ScrubState {
            started: ahead,
            finished: Some(ahead),
            ..state().await.unwrap()
        };
        propose(&engine, Change::NoteScrub(later)).await;
        engine.scrubber.wake();
        let begun = async {
            while state().await.is_some_and(|state| state.started == ahead) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(120), begun).await.unwrap();
        engine.close().await;
    }

    /// Found by reading: a disk that joined after its command's answer was lost counted as away,
    /// and would have been given up while it worked.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn r_12_a_disk_that_is_here_does_not_stay_away() {
        let (_root, engine) = store().await;
        let disk = engine.shards.disks()[0].id();
        engine
            .disks
            .change(Change::MarkOffline { disk })
            .await
            .unwrap();
        engine.disks.wake();
        let back = async {
            let is_up =
                |(id, row): &(DiskId, DiskRow)| *id == disk && row.availability == Availability::Up;
            while !engine.disks.known().await.unwrap().iter().any(is_up) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(120), back).await.unwrap();
        engine.close().await;
    }

    /// Found by reading: the tasks that waited for it ended in a panic, at every start again.
    #[test]
    fn r_16_no_setting_is_longer_than_a_clock_can_tell() {
        let settings = UpkeepSettings {
            remove_after_seconds: u64::MAX,
            scrub_period_seconds: u64::MAX,
            ..UpkeepSettings::default()
        };
        for time in [settings.remove_after(), settings.scrub_period()] {
            assert!(tokio::time::Instant::now().checked_add(2 * time).is_some());
        }
    }
}
