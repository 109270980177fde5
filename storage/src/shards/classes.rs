//! The geometry of each storage class.

use std::collections::HashMap;

use super::erasure::Geometry;

/// The geometry of each storage class.
#[derive(Clone, Debug)]
pub struct Classes {
    /// The geometry of STANDARD and of every class that has none of its own.
    pub default: Geometry,
    pub by_name: HashMap<String, Geometry>,
}

impl Classes {
    /// The largest parity of any class: how many disks the best-protected class can lose.
    pub fn losses(&self) -> usize {
        let named = self.by_name.values().map(|geometry| geometry.parity());
        named.fold(self.default.parity(), usize::max)
    }

    /// Returns the least number of disks that take a write of any class.
    pub(super) fn disks_min(&self) -> usize {
        let all = self.by_name.values().chain([&self.default]);
        let least = |class: &Geometry| (1..=class.total()).find(|up| class.fit(*up).is_some());
        all.filter_map(least).max().unwrap_or(1)
    }

    pub(super) fn geometry(&self, class: &str) -> Geometry {
        *self.by_name.get(class).unwrap_or(&self.default)
    }
}
