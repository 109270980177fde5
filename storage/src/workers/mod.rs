//! Background work: gc removes what is not used any more, heal rebuilds what is damaged or
//! missing, reencode encodes again what has fewer shards than its class, scrub and inventory look
//! for damage.

pub mod disks;
pub mod gc;
pub mod heal;
pub mod inventory;
mod reencode;
mod retries;
pub mod scrub;
pub mod wakeup;
