//! The meter of the bytes that the replicas of one disk append to their logs.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

/// The bytes appended on a disk before its replicas flush their states and drop log.
pub(super) const LOG_BYTES_BEFORE_FLUSH: u64 = 32 << 20;

/// Counts the bytes that the replicas of one disk append.
pub struct LogMeter {
    bytes: AtomicU64,
    /// The number of times that `LOG_BYTES_BEFORE_FLUSH` were appended.
    full: watch::Sender<u64>,
}

impl Default for LogMeter {
    fn default() -> LogMeter {
        LogMeter {
            bytes: AtomicU64::new(0),
            full: watch::Sender::new(0),
        }
    }
}

impl LogMeter {
    pub fn add(&self, bytes: u64) {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let times = (before + bytes) / LOG_BYTES_BEFORE_FLUSH;
        if times != before / LOG_BYTES_BEFORE_FLUSH {
            self.full.send_replace(times);
        }
    }

    /// Returns a receiver that changes whenever it is time to flush.
    pub fn full(&self) -> watch::Receiver<u64> {
        self.full.subscribe()
    }
}
