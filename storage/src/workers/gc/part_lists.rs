//! Removal of part lists: their rows, some with each command. The shards of the parts are garbage
//! from then on.

use std::sync::atomic::Ordering;

use super::Collector;
use crate::meta::command::{Change, Reply};
use drystone_store::error::{Error, Result};
use drystone_store::types::{Epoch, WriteId};

/// The number of parts of a list that one command removes: each is a few rows in the batch of every
/// replica.
const PARTS_RELEASED_MAX: u32 = 500;

impl Collector {
    /// Removes the parts of a list and the list's row. Returns false if a row among them does not
    /// decode: it keeps the rest of its list, and nothing else.
    pub(super) async fn release_parts(&self, epoch: Epoch, list: WriteId) -> Result<bool> {
        loop {
            let change = Change::ReleaseParts {
                epoch,
                list,
                max: PARTS_RELEASED_MAX,
            };
            match self.propose(epoch, change).await {
                Ok(Reply::Emptied { more: true }) => {}
                Ok(_) => {
                    self.counts.garbage_removed.fetch_add(1, Ordering::Relaxed);
                    return Ok(true);
                }
                Err(Error::Refused(why)) => {
                    tracing::error!(%list, %why, "the parts of a deleted object are kept");
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
    }
}
