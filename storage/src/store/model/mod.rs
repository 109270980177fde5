//! The reference: the whole store in memory, small enough to be checked by reading.
//!
//! Ordered maps behind one mutex. A body is read to its end before the mutex is locked, and every
//! method that changes something does so in one critical section: that section is where the order
//! is decided. Nothing survives the process. The engine is tested by giving it and this the same
//! operations; tests that need a store without disks use this one too.
//!
//! One file for each subject, as in the crate: `accounts`, `buckets`, `objects`, `listings`,
//! `uploads`, `instance`. `state` is the store itself, and `rows` what it keeps.

mod accounts;
mod buckets;
mod instance;
mod listings;
mod objects;
mod rows;
mod state;
mod uploads;

pub use self::state::MemoryStore;
