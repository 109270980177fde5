//! Opens disks, starts the metadata groups and is the store.
