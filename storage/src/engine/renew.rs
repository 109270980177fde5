//! Renew: takes a disk that failed back into use while the store is open, with a new database.
//!
//! After a failed write or sync, or a read that did not verify, nothing more is asked of a disk's
//! database (B-66), and no shard is written to the disk. Often the disk is well all the
//! same: a cable, a controller, one bad sector. Its possible losses are replaced in these steps:
//!
//! 1. The failure is marked on the other disks and the disk's replicas have ended
//!    (`workers::losses`).
//! 2. The disk passes a probe, and both groups answer without it. Power goes here: a marked
//!    database, which the next start rebuilds.
//! 3. A new database is made beside the old one, with the list of all shards that have files and a
//!    note that an inventory is due. Power goes here: the next start removes it, and continues as
//!    after step 2. Until here readers use the disk's shards.
//! 4. Everything in this process lets go of the old database. Until RocksDB has ended it would make
//!    and remove files by names that are the new one's.
//! 5. The new one gets the old one's name (`databases`). Power goes here: a database without
//!    replicas, which the next start admits.
//! 6. It joins the groups, which make replicas on it under new ids; the disk is up, accepts shards,
//!    and the inventory of the shards that it should have begins.
//!
//! A disk that keeps failing is tried ever less often, and after some tries not before the next
//! start.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;

use super::Engine;
use super::databases;
use crate::disk::DiskState;
use crate::disk::local::Reserve;
use crate::disk::local::probe::{ProbeError, probe};
use crate::meta::view::{Availability, DiskRow};
use drystone_store::env::Instant;
use drystone_store::error::{Error, Result};
use drystone_store::measure::Measure;
use drystone_store::types::DiskId;
use drystone_store::workers::{Next, StepError, Wakeup, Worker};

const PAUSE_FACTOR: u32 = 4;
/// The most tries of one disk, successful or not. With the pauses they take about two hours.
const TRIES_MAX: u32 = 6;
/// A disk that was up for this long counts as one that never failed.
const WELL_AFTER: Duration = Duration::from_secs(24 * 3600);
/// A disk that is full, and groups that do not answer, are asked again after this.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// A probe that takes longer than this has failed.
const PROBE_MAX: Duration = Duration::from_secs(120);

/// The counts of the worker, and its bell for those who know of another failed disk.
pub(crate) struct Renewals {
    /// How long after its failure a disk is first tried.
    after: Duration,
    pub wakeup: Arc<Wakeup>,
    /// The number of disks that were taken back, and of tries that failed, since the process began.
    pub renewed: AtomicU64,
    pub failed: AtomicU64,
}

impl Renewals {
    pub fn new(after: Duration) -> Renewals {
        Renewals {
            after,
            wakeup: Arc::default(),
            renewed: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }
}

/// Takes failed disks back into use.
pub(super) struct Renewer {
    engine: Weak<Engine>,
    renewals: Arc<Renewals>,
    tried: tokio::sync::Mutex<HashMap<DiskId, Tries>>,
}

/// The tries of one failed disk.
struct Tries {
    count: u32,
    due: Instant,
    /// When the disk came up again, if it did.
    up_since: Option<Instant>,
}

#[derive(Debug, thiserror::Error)]
enum RenewalError {
    /// It does not count as a try.
    #[error("{0}")]
    TooEarly(String),
    #[error("{0}")]
    Failed(String),
}

impl From<Error> for RenewalError {
    fn from(error: Error) -> RenewalError {
        RenewalError::Failed(error.to_string())
    }
}

impl From<ProbeError> for RenewalError {
    fn from(error: ProbeError) -> RenewalError {
        match error {
            ProbeError::Full => RenewalError::TooEarly(error.to_string()),
            ProbeError::Other | ProbeError::Failed { .. } => {
                RenewalError::Failed(error.to_string())
            }
        }
    }
}

impl Renewer {
    pub fn new(engine: &Arc<Engine>, renewals: Arc<Renewals>) -> Renewer {
        Renewer {
            engine: Arc::downgrade(engine),
            renewals,
            tried: tokio::sync::Mutex::default(),
        }
    }
}

#[async_trait]
impl Worker for Renewer {
    fn name(&self) -> &'static str {
        "renew"
    }

    async fn step(&self) -> Result<Next, StepError> {
        let Some(engine) = self.engine.upgrade() else {
            return Ok(Next::WhenWoken);
        };
        let mut tried = self.tried.lock().await;
        Ok(engine.renew_failed(&mut tried).await.into())
    }

    fn wakeup(&self) -> &Wakeup {
        &self.renewals.wakeup
    }

    async fn measures(&self) -> Vec<Measure> {
        let measures = [
            (
                "disk_renewals_total",
                "Disks that failed and were taken back with a new database.",
                &self.renewals.renewed,
            ),
            (
                "disk_renewal_failures_total",
                "Tries to take a failed disk back that failed.",
                &self.renewals.failed,
            ),
        ];
        let measures = measures
            .into_iter()
            .map(|(name, help, count)| Measure::counter(name, help, count.load(Ordering::Relaxed)));
        measures.collect()
    }
}

impl Engine {
    /// Tries the disks that are due. Gives when the next one is.
    async fn renew_failed(&self, tried: &mut HashMap<DiskId, Tries>) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        for disk in self.shards.disks() {
            if !matches!(*disk.state().borrow(), DiskState::Failed(_)) {
                continue;
            }
            let (id, now) = (disk.id(), self.env.instant());
            drop(disk);
            let fresh = || Tries {
                count: 0,
                due: now + self.workers.renewals.after,
                up_since: None,
            };
            let tries = tried.entry(id).or_insert_with(fresh);
            if tries
                .up_since
                .take()
                .is_some_and(|up| now - up > WELL_AFTER)
            {
                *tries = fresh();
            }
            if tries.due <= now && tries.count < TRIES_MAX {
                self.try_to_renew(id, tries).await;
            }
            if tries.up_since.is_some() {
                continue;
            }
            if tries.count < TRIES_MAX {
                next = Some(next.map_or(tries.due, |next| next.min(tries.due)));
            } else {
                tracing::error!(disk = %id, tries = TRIES_MAX,
                    "a disk keeps failing: it is not tried again before the next start");
            }
        }
        next
    }

    async fn try_to_renew(&self, disk: DiskId, tries: &mut Tries) {
        let renewed = self.renew(disk).await;
        if let Err(RenewalError::TooEarly(why)) = &renewed {
            tracing::info!(%disk, why, "a disk that failed is not taken back yet");
            tries.due = self.env.after(ASK_AGAIN_AFTER);
            return;
        }
        tries.count += 1;
        let pause = self.workers.renewals.after * PAUSE_FACTOR.pow(tries.count);
        tries.due = self.env.after(pause);
        match renewed {
            Ok(()) => {
                tries.up_since = Some(self.env.instant());
                self.workers
                    .renewals
                    .renewed
                    .fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%disk, "a disk that failed is up again");
            }
            Err(why) => {
                self.workers.renewals.failed.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%disk, %why, "a disk that failed stays down");
            }
        }
    }

    async fn renew(&self, disk: DiskId) -> Result<(), RenewalError> {
        let settled = {
            let handles = self.disks.handles();
            let handle = handles.iter().find(|handle| handle.id() == disk);
            handle.map(|handle| handle.settled.clone())
        };
        let Some(settled) = settled else {
            return Err(RenewalError::Failed("it is not this process's".into()));
        };
        // While the groups do not answer without the disk, it is not touched.
        self.system.group.ready().await.map_err(too_early)?;
        self.objects.group.ready().await.map_err(too_early)?;
        let (probed, env) = (settled.clone(), self.env.clone());
        let probed = self
            .env
            .spawn_blocking(move || probe(&probed, env.as_ref(), Reserve::default()));
        let probed = self.env.timeout(PROBE_MAX, probed).await;
        let probed = probed.map_err(|_| RenewalError::Failed("it does not answer".into()))?;
        probed.map_err(|_| Error::Closing)??;

        let _one = self.disks.replacing.lock().await;
        // It may have been replaced meanwhile.
        let known = self.workers.disks.known().await.map_err(too_early)?;
        let is_removed = |(id, row): &(DiskId, DiskRow)| {
            *id == disk && row.availability == Availability::Removed
        };
        if known.iter().any(is_removed) {
            return Err(RenewalError::Failed("it was removed or replaced".into()));
        }
        self.system.group.ready().await.map_err(too_early)?;
        let epochs = self.objects.group.read(|view| view.epochs());
        let epoch = epochs.await.map_err(too_early)?.epoch;
        let (here, shared) = (settled.clone(), self.disks.db_shared.clone());
        let made = self
            .env
            .spawn_blocking(move || databases::make(&here, &shared, epoch));
        made.await.map_err(|_| Error::Closing)??;
        self.let_go(disk).await?;
        let (here, shared) = (settled.clone(), self.disks.db_shared.clone());
        let placed = self
            .env
            .spawn_blocking(move || databases::put_in_place(&here, &shared));
        let db = placed.await.map_err(|_| Error::Closing)??;
        self.join(settled, db).await?;
        self.workers.disks.wake();
        Ok(())
    }
}

fn too_early(error: Error) -> RenewalError {
    RenewalError::TooEarly(error.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use super::*;
    use crate::disk::pending::needs_inventory;
    use crate::engine::Options;
    use crate::engine::testing::{Whole, check, create_bucket, is_whole, put, until, write};
    use drystone_store::accounts::Accounts as _;
    use drystone_store::instance::Instance as _;
    use drystone_store::operator::ReplaceError;
    use drystone_store::types::{Account, AccountId};

    fn options(root: &Path, renew_after: Duration) -> Options {
        let directories: Vec<PathBuf> = (0..4).map(|n| root.join(n.to_string())).collect();
        Options {
            renew_after,
            recover_after: Duration::from_millis(100),
            ..Options::new(directories)
        }
    }

    async fn reopened(options: &Options) -> Arc<Engine> {
        loop {
            match Engine::open(options.clone()).await {
                Err(error) if error.to_string().contains("in use") => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                opened => return opened.unwrap(),
            }
        }
    }

    fn break_database(engine: &Engine, directory: &Path) -> DiskId {
        let handles = engine.disks.handles();
        let held = handles.iter().find(|held| held.settled.dir == directory);
        let held = held.unwrap();
        held.db.as_ref().unwrap().break_disk();
        held.id()
    }

    async fn is_failed(engine: &Engine, id: DiskId) -> bool {
        let disks = engine.shards.disks();
        let disk = disks.iter().find(|disk| disk.id() == id).unwrap();
        matches!(*disk.state().borrow(), DiskState::Failed(_))
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn f_11_r_03_databases_that_fail_one_after_the_other_cost_no_request_and_are_rebuilt() {
        let root = tempfile::tempdir().unwrap();
        let options = options(root.path(), Duration::from_millis(100));
        let engine = Engine::open(options.clone()).await.unwrap();
        let bucket = create_bucket(&engine).await;
        write(&engine, bucket, 0..10).await;
        let mut written = 10;
        // At once, only two of them could be lost.
        for directory in &options.directories[..3] {
            let id = break_database(&engine, directory);
            until(&engine, async || {
                write(&engine, bucket, written..written + 3).await;
                written += 3;
                is_failed(&engine, id).await
            })
            .await;
            until(&engine, async || {
                write(&engine, bucket, written..written + 1).await;
                written += 1;
                is_whole(&engine).await
            })
            .await;
            check(&engine, bucket, 0..written).await;
        }
        let rows = engine.workers.disks.known().await.unwrap();
        assert!(
            rows.iter()
                .all(|(_, row)| row.availability == Availability::Up)
        );
        for held in engine.disks.handles().iter() {
            assert!(!needs_inventory(held.db.as_ref().unwrap()).unwrap());
        }
        engine.close().await;
        drop(engine);
        for directory in &options.directories {
            for rest in ["meta.new", "meta.old", "probe", "shards/00/probe"] {
                assert!(!directory.join(rest).exists(), "{rest}");
            }
        }
        let engine = reopened(&options).await;
        until(&engine, async || is_whole(&engine).await).await;
        check(&engine, bucket, 0..written).await;
        engine.close().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn r_03_a_disk_that_keeps_failing_is_given_up_and_the_others_serve() {
        let root = tempfile::tempdir().unwrap();
        let options = options(root.path(), Duration::from_millis(1));
        let engine = Engine::open(options.clone()).await.unwrap();
        let bucket = create_bucket(&engine).await;
        write(&engine, bucket, 0..10).await;
        let folder = options.directories[1].join("shards/5a");
        fs::rename(&folder, root.path().join("5a")).unwrap();
        let id = break_database(&engine, &options.directories[1]);
        until(&engine, async || {
            engine.account(&AccountId("nobody".into())).await.unwrap();
            put(&engine, bucket, "more", &mut Whole::new("x")).await;
            engine.workers.renewals.failed.load(Ordering::Relaxed) == u64::from(TRIES_MAX)
        })
        .await;
        // A place to write to again comes too late, and nothing was thrown away.
        fs::rename(root.path().join("5a"), &folder).unwrap();
        engine.workers.renewals.wakeup.wake();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(is_failed(&engine, id).await);
        let tried = engine.workers.renewals.failed.load(Ordering::Relaxed);
        assert_eq!(tried, u64::from(TRIES_MAX));
        write(&engine, bucket, 10..20).await;
        check(&engine, bucket, 0..20).await;
        engine.close().await;
        drop(engine);
        let engine = reopened(&options).await;
        until(&engine, async || is_whole(&engine).await).await;
        check(&engine, bucket, 0..20).await;
        engine.close().await;
    }

    /// The store cannot do without the failed disks: two of two are needed.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn f_16_no_database_goes_while_the_groups_do_not_answer_without_it() {
        let root = tempfile::tempdir().unwrap();
        let options = options(root.path(), Duration::from_millis(50));
        let engine = Engine::open(options.clone()).await.unwrap();
        let bucket = create_bucket(&engine).await;
        write(&engine, bucket, 0..10).await;
        for directory in &options.directories[..3] {
            break_database(&engine, directory);
        }
        let account = Account {
            id: AccountId("nobody".into()),
            canonical_id: String::new(),
            display_name: String::new(),
        };
        assert!(engine.put_account(account).await.is_err());
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(engine.workers.renewals.renewed.load(Ordering::Relaxed), 0);
        for directory in &options.directories {
            assert!(!directory.join("meta.new").exists());
        }
        engine.close().await;
        drop(engine);
        let engine = reopened(&options).await;
        check(&engine, bucket, 0..10).await;
        engine.close().await;
    }

    /// A disk that only failed to write may hold what no other disk has.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn f_14_a_wrong_place_for_its_successor_costs_no_disk_that_can_be_read() {
        let root = tempfile::tempdir().unwrap();
        let options = options(root.path(), Duration::from_secs(600));
        let engine = Engine::open(options.clone()).await.unwrap();
        let bucket = create_bucket(&engine).await;
        write(&engine, bucket, 0..10).await;
        let [failed, gone @ ..] = &options.directories[..3] else {
            unreachable!("there are four")
        };
        let id = break_database(&engine, failed);
        until(&engine, async || {
            put(&engine, bucket, "more", &mut Whole::new("x")).await;
            is_failed(&engine, id).await
        })
        .await;
        let photos = root.path().join("photos");
        fs::create_dir(&photos).unwrap();
        fs::write(photos.join("cat"), b"x").unwrap();
        let old = failed.display().to_string();
        let refused = engine.replace(&old, Some(&photos)).await;
        assert!(matches!(refused, Err(ReplaceError::Directory(_))));
        for folder in gone
            .iter()
            .flat_map(|dir| fs::read_dir(dir.join("shards")).unwrap())
        {
            for shard in fs::read_dir(folder.unwrap().path()).unwrap() {
                fs::remove_file(shard.unwrap().path()).unwrap();
            }
        }
        check(&engine, bucket, 0..10).await;
        engine.close().await;
    }
}
