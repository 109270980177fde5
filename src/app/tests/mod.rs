//! Services beside each other on one port.

mod paths;
mod probes;

use crate::probes::metrics::{Access, Metrics};
use drystone_world::World;

fn metrics(world: &World, access: Access) -> Metrics {
    Metrics {
        access,
        prefix: "test",
        version: "1.2.3",
        store: world.store.clone(),
        traffic: world.transport.traffic.clone(),
        admission: world.admission.clone(),
        certificate: None,
    }
}
