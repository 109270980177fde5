//! The epoch clock and the epochs in use.
