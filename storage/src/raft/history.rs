//! What has become of a store's metadata so far: its starts, and the times it was formed anew.

/// Names one forming anew of a store's metadata.
pub type ReformId = [u8; 16];

/// Where the store stands in its life.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// The number of this start.
    pub start: u64,
    /// All times that the metadata was formed anew; their number is the groups' epoch.
    pub reforms: Vec<ReformId>,
}

impl Standing {
    pub fn epoch(&self) -> u64 {
        self.reforms.len() as u64
    }
}
