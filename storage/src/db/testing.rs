//! Faults on request and evidence of syncs, for tests.

#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use rocksdb::statistics::Ticker;

use super::{Db, DbShared, Resources};
use drystone_store::env::SystemEnv;

#[derive(Default)]
pub(super) struct Faults {
    broken: AtomicBool,
    gate: Arc<Gate>,
}

/// A gate at which all that a disk does waits while it is shut: a disk that hangs.
#[derive(Default)]
pub struct Gate {
    is_shut: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    /// Waits until the gate is open.
    pub fn pass(&self) {
        let shut = self.is_shut.lock().unwrap();
        drop(self.opened.wait_while(shut, |shut| *shut).unwrap());
    }

    pub fn set_shut(&self, shut: bool) {
        *self.is_shut.lock().unwrap() = shut;
        self.opened.notify_all();
    }
}

impl Faults {
    pub(super) fn check(&self) -> Result<(), String> {
        self.gate.pass();
        match self.broken.load(Ordering::SeqCst) {
            true => Err("injected fault".into()),
            false => Ok(()),
        }
    }
}

impl DbShared {
    /// For databases of this machine.
    pub fn system() -> DbShared {
        DbShared::new(Arc::new(SystemEnv), Resources::SMALL).expect("RocksDB makes an environment")
    }
}

impl Db {
    /// Makes every write and sync fail from now on, as on a disk that dies.
    pub fn break_disk(&self) {
        self.core.faults.broken.store(true, Ordering::SeqCst);
    }

    /// Returns the gate of this database's disk.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.core.faults.gate
    }

    /// Returns how often RocksDB has synced a WAL, by its own count.
    pub fn wal_syncs(&self) -> u64 {
        self.core.options.get_ticker_count(Ticker::WalFileSynced)
    }
}
