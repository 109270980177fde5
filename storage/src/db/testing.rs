//! Faults on request and evidence of syncs, for tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rocksdb::statistics::Ticker;

use super::{Db, DbShared};
use drystone_store::env::SystemEnv;

#[derive(Default)]
pub(super) struct Faults(AtomicBool);

impl Faults {
    pub(super) fn check(&self) -> Result<(), String> {
        match self.0.load(Ordering::SeqCst) {
            true => Err("injected fault".into()),
            false => Ok(()),
        }
    }
}

impl DbShared {
    /// For databases of this machine.
    pub fn system() -> DbShared {
        DbShared::new(Arc::new(SystemEnv)).expect("RocksDB makes an environment")
    }
}

impl Db {
    /// Makes every write and sync fail from now on, as on a disk that dies.
    pub fn break_disk(&self) {
        self.core.faults.0.store(true, Ordering::SeqCst);
    }

    /// Returns how often RocksDB has synced a WAL, by its own count.
    pub fn wal_syncs(&self) -> u64 {
        self.core.options.get_ticker_count(Ticker::WalFileSynced)
    }
}
