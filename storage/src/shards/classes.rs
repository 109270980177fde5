//! The geometry of each storage class.

use std::collections::HashMap;

use super::erasure::Geometry;

/// The geometry of each storage class.
#[derive(Clone, Debug)]
pub struct Classes {
    /// For STANDARD and every class without one of its own.
    pub default: Geometry,
    pub by_name: HashMap<String, Geometry>,
}

impl Classes {
    /// So many lost disks cost no class a byte, but those with less parity.
    pub fn losses(&self) -> usize {
        let named = self.by_name.values().map(|geometry| geometry.parity());
        named.fold(self.default.parity(), usize::max)
    }

    pub(super) fn geometry(&self, class: &str) -> Geometry {
        *self.by_name.get(class).unwrap_or(&self.default)
    }
}
