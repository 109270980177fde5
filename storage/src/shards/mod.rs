//! Shard sets: a body is written as one, and ranges of it are read from one.
//!
//! [`Shards::write`] and [`Shards::read`] decide how many disks must succeed; the modules `write`
//! and `read` say what they promise. `plane` has the disks, `classes` the geometry of each storage
//! class, `reservations` the space that writes in progress will use, `removal` and `lists` what gc
//! asks for, `background` the removals that nobody waits for, `examine`, `rebuild` and `reencode`
//! what heal and scrub ask for. Only the metadata know which shards mean something.

mod background;
mod classes;
mod disk_set;
pub mod erasure;
mod examine;
mod lists;
mod payload;
mod placement;
mod plan;
mod plane;
mod read;
mod rebuild;
mod reencode;
mod removal;
mod reservations;
#[cfg(test)]
mod tests;
mod write;

pub use self::classes::Classes;
#[cfg(test)]
pub use self::disk_set::DEADLINE;
pub use self::examine::{ShardCondition, ShardRef, WriteRef};
pub use self::plane::{DAMAGE_QUEUE_LEN_MAX, Shards};
pub use self::rebuild::HealError;
pub use self::removal::{Removal, RemovalOutcome};
pub use crate::disk::{ShardName, UnconfirmedShard};
