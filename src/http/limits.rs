//! The bounds on the work of a server at one time, and on how slow a client may be.
//!
//! Everything that clients can make more of has its bound here. [`Limits::of`] derives the bounds
//! that depend on the machine from its memory and its descriptors, once.

use std::time::Duration;

use crate::pace::Pace;

/// Memory that requests may take for what they hold, as a part of the machine's.
const MEMORY_DIVISOR: u64 = 4;
const MEMORY_BYTES_MIN: u64 = 64 << 20;
const MEMORY_BYTES_MAX: u64 = 16 << 30;
/// The part of the machine's memory for what connections hold without a request, and the most that
/// one holds: a head that does not end.
const CONNECTIONS_MEMORY_DIVISOR: u64 = 8;
const CONNECTION_BYTES_MAX: u64 = 192 << 10;
const CONNECTIONS_MIN: usize = 64;
/// One client has at most this part of all connections, or this many, if they are that many.
const CLIENT_CONNECTIONS_DIVISOR: usize = 4;
const CLIENT_CONNECTIONS_MIN: usize = 256;
/// A connection takes one descriptor, and a write one for each shard of its stripe.
const DESCRIPTORS_PER_CONNECTION: usize = 4;
const DESCRIPTORS_PER_REQUEST: usize = 16;

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once. Beyond it the one that is idle for longest gives way.
    pub connections: usize,
    /// Connections of one client: of one address, or of one network of IPv6.
    pub client_connections: usize,
    /// Further connections, which get probes and metrics answered and 503 for all else.
    pub spare_connections: usize,
    /// Requests in work. One whose answer is only sent any more is not.
    pub requests: usize,
    /// Forms whose fields are received, so that nobody knows who sent them.
    pub forms: usize,
    /// Requests that wait for their turn, and for how long; past either they get 503.
    pub queue: usize,
    pub queue_wait: Duration,
    /// The bytes of bodies and answers that the requests in work may hold together. Each counts
    /// with the most that it may hold.
    pub memory_bytes: u64,
    /// From a connection's begin to the end of its TLS handshake.
    pub handshake: Duration,
    /// From a head's first byte to its end, and the same for the fields of a form.
    pub head: Duration,
    /// A connection on which nothing is asked.
    pub idle: Duration,
    /// The least that a client must send of its body, and take of its answer.
    pub pace: Pace,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 16_384,
            client_connections: 4096,
            spare_connections: 64,
            requests: 1024,
            forms: 64,
            queue: 1024,
            queue_wait: Duration::from_secs(5),
            memory_bytes: 1 << 30,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            pace: Pace {
                bytes: 32 << 10,
                window: Duration::from_secs(30),
            },
        }
    }
}

impl Limits {
    /// For a machine with so much memory, and a process with so many descriptors.
    pub fn of(memory_bytes: u64, descriptors: u64) -> Limits {
        let limits = Limits::default();
        let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
        let within = |most: usize, part: usize| most.min(descriptors / part).max(1);
        let by_memory = memory_bytes / CONNECTIONS_MEMORY_DIVISOR / CONNECTION_BYTES_MAX;
        let by_memory = usize::try_from(by_memory).unwrap_or(usize::MAX);
        let connections = within(limits.connections, DESCRIPTORS_PER_CONNECTION)
            .min(by_memory.max(CONNECTIONS_MIN));
        Limits {
            connections,
            client_connections: (connections / CLIENT_CONNECTIONS_DIVISOR)
                .max(CLIENT_CONNECTIONS_MIN)
                .min(connections),
            spare_connections: within(limits.spare_connections, DESCRIPTORS_PER_REQUEST),
            requests: within(limits.requests, DESCRIPTORS_PER_REQUEST),
            forms: within(limits.forms, DESCRIPTORS_PER_REQUEST),
            memory_bytes: (memory_bytes / MEMORY_DIVISOR).clamp(MEMORY_BYTES_MIN, MEMORY_BYTES_MAX),
            ..limits
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Limits;

    #[test]
    fn f_26_few_descriptors_leave_most_to_the_disks() {
        let few = Limits::of(8 << 30, 256);
        assert_eq!((few.connections, few.spare_connections), (64, 16));
        assert_eq!((few.requests, few.memory_bytes), (16, 2 << 30));
        let many = Limits::of(64 << 30, 1 << 20);
        assert_eq!((many.connections, many.requests), (16_384, 1024));
        assert_eq!(Limits::of(1 << 20, 1 << 20).memory_bytes, 64 << 20);
    }

    #[test]
    fn a_60_connections_are_bounded_by_memory_and_by_client() {
        let of = |memory| {
            let limits = Limits::of(memory, 1 << 20);
            (limits.connections, limits.client_connections)
        };
        assert_eq!(of(64 << 30), (16_384, 4096));
        assert_eq!(of(2 << 30), (1365, 341));
        assert_eq!(of(512 << 20), (341, 256));
        assert_eq!(of(1 << 20), (64, 64));
        assert_eq!(Limits::of(64 << 30, 256).client_connections, 64);
    }
}
