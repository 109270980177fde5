//! Campaigns after an event.

use std::time::Duration;

use drystone_store::env::Instant;

/// The number of campaigns after an event, and the pause between two of them.
const ELECTION_TRIES: u32 = 5;
pub const ELECTION_PAUSE: Duration = Duration::from_millis(250);

/// Campaigns that an event has caused. They end when there is a leader. The old leader's entries
/// may still arrive while the longest log is chosen, so one campaign may not be enough. After the
/// last one, openraft's own timeouts take over.
pub struct Election {
    pub tries_left: u32,
    pub next: Instant,
}

impl Election {
    pub fn due(next: Instant) -> Election {
        Election {
            tries_left: ELECTION_TRIES,
            next,
        }
    }
}
