//! The Raft log and vote of every replica on one disk.
