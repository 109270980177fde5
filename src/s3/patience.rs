//! How long operations that take their time leave a client without a sign of life.

use std::time::Duration;

/// For how long a client is left without a word.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Before the answer is begun, counted from when the request was read. None: at once.
    pub before: Duration,
    /// Between two signs of life.
    pub between: Duration,
}

impl Patience {
    /// Well below the idle limits of clients and proxies, most of which are a minute or half of it;
    /// and long enough that what is refused is refused by its status.
    pub const DEFAULT: Patience = Patience {
        before: Duration::from_secs(5),
        between: Duration::from_secs(5),
    };
}
