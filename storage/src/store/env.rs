//! The clock and the randomness that commands carry.
//!
//! The state machine has neither: whoever proposes a command asks here once and writes the
//! answer into it. Tests give their own.

use std::time::{SystemTime, UNIX_EPOCH};

use rand::RngExt as _;

use crate::types::{Timestamp, WriteId};

pub trait Env: Send + Sync + 'static {
    fn now(&self) -> Timestamp;
    fn random(&self) -> [u8; 16];

    fn write_id(&self) -> WriteId {
        WriteId(self.random())
    }
}

/// The machine's clock and the thread's cryptographic generator.
#[derive(Debug, Default)]
pub struct SystemEnv;

impl Env for SystemEnv {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp(since.as_millis() as i64)
    }

    fn random(&self) -> [u8; 16] {
        rand::rng().random()
    }
}
