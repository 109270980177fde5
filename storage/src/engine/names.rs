//! The cache of bucket names.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use drystone_store::types::BucketId;

/// The largest number of names that are cached; past it all are forgotten and looked up again.
const NAMES_LEN_MAX: usize = 10_000;

/// The ids of bucket names that were looked up before. Only ever a short cut: a bucket's own group
/// decides whether the bucket still exists.
#[derive(Default)]
pub(super) struct Names(Mutex<HashMap<String, BucketId>>);

impl Names {
    pub fn get(&self, name: &str) -> Option<BucketId> {
        self.lock().get(name).copied()
    }

    pub fn remember(&self, name: &str, id: BucketId) {
        let mut names = self.lock();
        if names.len() >= NAMES_LEN_MAX {
            names.clear();
        }
        names.insert(name.to_owned(), id);
    }

    pub fn forget(&self, name: &str) {
        self.lock().remove(name);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, BucketId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
