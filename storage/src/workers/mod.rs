//! The store's workers, which keep redundancy, room and knowledge of the disks as they should be.
//!
//! gc removes unused shards, heal rebuilds damaged or missing ones, re-encode gives undersized
//! writes all their shards, scrub and inventory look for damage, survey counts how many losses are
//! survived, and the damage queue receives what readers met. disks, losses, mounts, presence and
//! watchdog follow what becomes of the disks, and agreement compares the replicas of the metadata.
//! Each is a
//! [`Worker`](drystone_store::workers::Worker) with a file or folder of its own; `engine::workers`
//! registers them.

pub mod agreement;
pub mod damage;
pub mod disks;
pub mod gc;
pub mod heal;
pub mod inventory;
mod items;
pub mod losses;
pub mod mounts;
pub mod presence;
pub mod quotas;
pub mod reencode;
mod retries;
pub mod scrub;
pub mod survey;
pub mod watchdog;
