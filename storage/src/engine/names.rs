//! The cache of bucket names.

use drystone_store::lock::Mutex;
use drystone_store::types::BucketId;
use std::collections::HashMap;

/// The largest number of names that are cached; past it all are forgotten and looked up again.
const NAMES_LEN_MAX: usize = 10_000;

/// The ids of bucket names that were looked up before. Only ever a short cut: a bucket's own group
/// decides whether the bucket still exists.
#[derive(Default)]
pub(super) struct Names(Mutex<HashMap<String, BucketId>>);

impl Names {
    pub fn get(&self, name: &str) -> Option<BucketId> {
        self.0.lock().get(name).copied()
    }

    pub fn remember(&self, name: &str, id: BucketId) {
        let mut names = self.0.lock();
        if names.len() >= NAMES_LEN_MAX {
            names.clear();
        }
        names.insert(name.to_owned(), id);
    }

    pub fn forget(&self, name: &str) {
        self.0.lock().remove(name);
    }
}
