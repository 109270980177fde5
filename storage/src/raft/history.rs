//! What has become of a store's metadata so far: its starts, and its recoveries.

/// Names one recovery of a store's metadata.
pub type RecoveryId = [u8; 16];

/// Where the store stands in its life.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// The number of this start.
    pub start: u64,
    /// All recoveries of the metadata; their number is the groups' incarnation.
    pub recoveries: Vec<RecoveryId>,
}

impl Standing {
    pub fn incarnation(&self) -> u64 {
        self.recoveries.len() as u64
    }
}
