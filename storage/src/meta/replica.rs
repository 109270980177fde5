//! One replica of a group on one disk.
