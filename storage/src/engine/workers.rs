//! The workers of an engine, registered with its runner.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::mpsc;

use super::renew::{Renewals, Renewer};
use super::{Engine, Options};
use crate::raft::proposer::Proposer;
use crate::raft::recovery::start::Groups;
use crate::shards::Shards;
use crate::workers::agreement::Agreement;
use crate::workers::damage::DamageQueue;
use crate::workers::disks::Disks;
use crate::workers::gc::Collector;
use crate::workers::heal::Healer;
use crate::workers::inventory::Inventory;
use crate::workers::losses::Losses;
use crate::workers::mounts::{Mounts, Places, Replace};
use crate::workers::presence::Presence;
use crate::workers::quotas::Quotas;
use crate::workers::reencode::Reencoder;
use crate::workers::scrub::Scrubber;
use crate::workers::survey::Surveyor;
use crate::workers::watchdog::Watchdog;
use drystone_store::error::Result;
use drystone_store::shard_set::ShardId;
use drystone_store::workers::{Pace, Runner};

/// The runner, and the workers that others ask or wake.
pub(crate) struct Workers {
    pub runner: Runner,
    pub disks: Arc<Disks>,
    pub healer: Arc<Healer>,
    pub inventory: Arc<Inventory>,
    pub losses: Arc<Losses>,
    pub quotas: Arc<Quotas>,
    pub reencoder: Arc<Reencoder>,
    pub renewals: Arc<Renewals>,
    pub scrubber: Arc<Scrubber>,
    pub surveyor: Arc<Surveyor>,
}

impl Workers {
    pub async fn new(
        system: &Proposer,
        objects: &Proposer,
        shards: &Arc<Shards>,
        renew_after: Duration,
    ) -> Result<Workers> {
        let settings = system.group.read(|view| view.upkeep_settings()).await?;
        let pace = Pace::new(
            system.env.clone(),
            settings.heal_bytes_per_second,
            settings.heal_paused,
        );
        let pace = Arc::new(pace);
        let (system, objects) = (|| system.clone(), || objects.clone());
        let reencoder = Reencoder::new(objects(), shards.clone(), pace.clone());
        let reencoder = Arc::new(reencoder);
        let healer = Healer::new(objects(), shards.clone(), pace.clone(), reencoder.clone());
        let healer = Arc::new(healer);
        let surveyor = Arc::new(Surveyor::new(objects(), shards.clone()));
        let disks = Disks::new(
            system(),
            objects(),
            shards.clone(),
            healer.clone(),
            surveyor.clone(),
        );
        let disks = Arc::new(disks);
        let renewals = Arc::new(Renewals::new(renew_after));
        let groups = Groups {
            system: system().group,
            objects: objects().group,
        };
        let losses = Losses::new(system().env, groups, disks.clone(), renewals.wakeup.clone());
        let inventory = Inventory::new(objects(), shards.clone(), healer.clone(), pace);
        let scrubber = Scrubber::new(system(), objects(), shards.clone(), healer.clone());
        Ok(Workers {
            runner: Runner::new(system().env),
            disks,
            healer,
            inventory: Arc::new(inventory),
            losses: Arc::new(losses),
            quotas: Arc::new(Quotas::new(objects())),
            reencoder,
            renewals,
            scrubber: Arc::new(scrubber),
            surveyor,
        })
    }

    /// Registers all workers. They hold parts of the engine, never the engine.
    pub fn start(&self, engine: &Arc<Engine>, options: &Options, damaged: mpsc::Receiver<ShardId>) {
        let (system, objects) = (engine.system.clone(), engine.objects.clone());
        let (shards, healer) = (engine.shards.clone(), self.healer.clone());
        let run = |worker| self.runner.add(worker);
        run(Arc::new(Collector::new(
            "gc-system",
            system,
            None,
            options.gc_every,
        )));
        run(Arc::new(Collector::new(
            "gc-objects",
            objects.clone(),
            Some(shards),
            options.gc_every,
        )));
        run(self.healer.clone());
        run(self.reencoder.clone());
        run(self.scrubber.clone());
        run(self.surveyor.clone());
        run(self.disks.clone());
        run(self.losses.clone());
        run(self.inventory.clone());
        run(Arc::new(Renewer::new(engine, self.renewals.clone())));
        if let Some(state_file) = options.state_file.clone()
            && options.replace_by_mounts
        {
            let places = Places {
                state_file,
                directories: options.directories.clone(),
            };
            let (env, shards) = (engine.env.clone(), engine.shards.clone());
            let store: Weak<dyn Replace> = Arc::<Engine>::downgrade(engine);
            let disks = self.disks.clone();
            run(Arc::new(Mounts::new(env, disks, shards, places, store)));
        }
        run(Arc::new(Presence::new(engine.env.clone(), engine.groups())));
        run(Arc::new(Agreement::new(
            engine.env.clone(),
            engine.groups(),
        )));
        run(self.quotas.clone());
        let shards = engine.shards.clone();
        let watchdog = Watchdog::new(
            engine.env.clone(),
            engine.groups(),
            shards,
            healer.clone(),
            options.look_every,
        );
        run(Arc::new(watchdog));
        run(Arc::new(DamageQueue::new(objects, healer, damaged)));
        for disk in engine.shards.disks() {
            self.losses.watch(disk.as_ref());
        }
        for handle in engine.disks.handles().iter() {
            if let Some(db) = &handle.db {
                let announced = self.inventory.announce();
                self.inventory.begin(announced, handle.id(), db);
            }
        }
    }
}
