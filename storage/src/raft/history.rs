//! The history of a store's metadata: its starts and its recoveries.

/// Names one recovery of a store's metadata.
pub type RecoveryId = [u8; 16];

/// The number of the store's current start and all its recoveries.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The number of this start.
    pub start: u64,
    /// All recoveries of the metadata. Their number is the groups' incarnation.
    pub recoveries: Vec<RecoveryId>,
}

impl History {
    pub fn incarnation(&self) -> u64 {
        self.recoveries.len() as u64
    }
}
