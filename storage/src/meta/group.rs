//! The handle on one Raft group. openraft's types end here.
