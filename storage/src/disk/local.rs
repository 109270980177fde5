//! A directory as a disk.
