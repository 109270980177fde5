//! The store in memory: its state behind one mutex.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;

use super::rows::{BucketState, Stamp};
use crate::body::Body;
use crate::env::Env;
use crate::error::{Refusal, Result};
use crate::types::{Account, AccountId, BucketId, Digest, Order};

/// A store that forgets everything when it is dropped.
pub struct MemoryStore {
    pub(super) env: Arc<dyn Env>,
    state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    pub accounts: BTreeMap<AccountId, Account>,
    pub buckets: BTreeMap<BucketId, BucketState>,
    /// Counts every change, as the index of a log does; ids and orders derive from it.
    index: u64,
}

impl State {
    pub fn bucket(&mut self, id: BucketId) -> Result<&mut BucketState, Refusal> {
        self.buckets.get_mut(&id).ok_or(Refusal::NoSuchBucket)
    }

    pub fn bucket_named(&self, name: &str) -> Option<&BucketState> {
        self.buckets
            .values()
            .find(|bucket| bucket.info.name == name)
    }
}

impl MemoryStore {
    pub fn new(env: Arc<dyn Env>) -> MemoryStore {
        MemoryStore {
            env,
            state: Mutex::default(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no change panics half done")
    }

    /// Returns the next position in the order of all changes.
    pub(super) fn stamp(&self, state: &mut State) -> Stamp {
        state.index += 1;
        let random = u128::from_be_bytes(self.env.random());
        Stamp {
            order: Order::new(state.index, 0),
            nonce: random as u64,
            now: self.env.now(),
        }
    }
}

/// Reads a body to its end. Nothing is kept of one that fails.
pub(super) async fn read_body(body: &mut dyn Body) -> Result<(Vec<Bytes>, Digest)> {
    let mut pieces = Vec::new();
    while let Some(piece) = body.next().await? {
        pieces.push(piece);
    }
    Ok((pieces, body.digest()))
}
