//! The interval of signs of life to a client that waits for an operation that takes long.

use std::time::Duration;

/// How long a client waits without a sign of life.
#[derive(Clone, Copy, Debug)]
pub struct KeepAliveInterval {
    /// Before the answer is begun, counted from when the request was read. Zero: at once.
    pub before: Duration,
    /// Between two signs of life.
    pub between: Duration,
}

impl KeepAliveInterval {
    /// Well below the idle limits of clients and proxies, most of which are a minute or half of it;
    /// and long enough that a request that is refused is refused by its status.
    pub const DEFAULT: KeepAliveInterval = KeepAliveInterval {
        before: Duration::from_secs(5),
        between: Duration::from_secs(5),
    };
}
