//! Shard sets: writing a body as one and reading ranges of one.
//!
//! [`Shards::write`] and [`Shards::read`] hold the rules of what must succeed; each says in its
//! module what is promised. Here are the disks, the geometry of each storage class, and the
//! upkeep of shards that gc asks for. What shards mean is the metadata's.

mod classes;
mod disk_set;
pub mod erasure;
mod lists;
mod placement;
mod plan;
mod plane;
mod read;
mod rebuild;
mod reencode;
#[cfg(test)]
mod tests;
mod write;

pub use self::classes::Classes;
pub use self::lists::RemovalOutcome;
pub use self::plane::{DAMAGE_QUEUE_LEN_MAX, Shards};
pub use self::rebuild::{HealError, ShardCondition, ShardRef};
pub use self::reencode::WriteToReencode;
pub use crate::disk::{ShardName, UnconfirmedShard};
