//! Answers without the ids and times that differ between stores.

use drystone_store::listings::{ObjectPage, UploadPage, VersionPage};
use drystone_store::objects::{Deleted, Written};
use drystone_store::types::{
    Order, Timestamp, Upload, UploadId, UploadedPart, Version, VersionId, WriteId,
};

/// Ids in the order in which the store first returned them.
#[derive(Default)]
pub struct Names {
    pub versions: Vec<VersionId>,
    pub uploads: Vec<UploadId>,
    pub writes: Vec<WriteId>,
}

fn place<T: PartialEq + Copy>(known: &mut Vec<T>, id: T) -> usize {
    let found = known.iter().position(|old| *old == id);
    found.unwrap_or_else(|| {
        known.push(id);
        known.len() - 1
    })
}

/// Replaces ids and times of a store by values that all stores have in common.
pub trait Common {
    fn common(&mut self, names: &mut Names);
}

impl Common for VersionId {
    fn common(&mut self, names: &mut Names) {
        if *self != VersionId::Null {
            let order = Order(place(&mut names.versions, *self) as u64);
            *self = VersionId::Ordered { order, nonce: 0 };
        }
    }
}

impl Common for UploadId {
    fn common(&mut self, names: &mut Names) {
        let place = place(&mut names.uploads, *self) as u128;
        *self = UploadId(WriteId(place.to_be_bytes()));
    }
}

impl Common for Timestamp {
    fn common(&mut self, _: &mut Names) {
        *self = Timestamp(0);
    }
}

impl<T: Common> Common for Option<T> {
    fn common(&mut self, names: &mut Names) {
        self.iter_mut().for_each(|inner| inner.common(names));
    }
}

impl<T: Common> Common for Vec<T> {
    fn common(&mut self, names: &mut Names) {
        self.iter_mut().for_each(|inner| inner.common(names));
    }
}

impl<T: Common> Common for (String, T) {
    fn common(&mut self, names: &mut Names) {
        self.1.common(names);
    }
}

impl Common for Version {
    fn common(&mut self, names: &mut Names) {
        self.id.common(names);
        self.modified.common(names);
        if let Some(object) = &mut self.object {
            let place = place(&mut names.writes, object.write_id) as u128;
            object.write_id = WriteId(place.to_be_bytes());
        }
    }
}

impl Common for Written {
    fn common(&mut self, names: &mut Names) {
        self.version_id.common(names);
        self.modified.common(names);
    }
}

impl Common for Deleted {
    fn common(&mut self, names: &mut Names) {
        self.version_id.common(names);
    }
}

impl Common for UploadedPart {
    fn common(&mut self, names: &mut Names) {
        self.modified.common(names);
    }
}

impl Common for Upload {
    fn common(&mut self, names: &mut Names) {
        self.id.common(names);
        self.initiated.common(names);
    }
}

impl Common for ObjectPage {
    fn common(&mut self, names: &mut Names) {
        for object in &mut self.objects {
            object.modified.common(names);
        }
    }
}

impl Common for VersionPage {
    fn common(&mut self, names: &mut Names) {
        self.versions.common(names);
        self.next.common(names);
    }
}

impl Common for UploadPage {
    fn common(&mut self, names: &mut Names) {
        self.uploads.common(names);
        self.next.common(names);
    }
}

impl Common for (Vec<UploadedPart>, bool) {
    fn common(&mut self, names: &mut Names) {
        self.0.common(names);
    }
}

impl Common for () {
    fn common(&mut self, _: &mut Names) {}
}
