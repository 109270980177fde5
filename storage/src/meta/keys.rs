//! Keys of every table.
