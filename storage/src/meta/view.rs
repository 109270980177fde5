//! Typed reads of one snapshot of a state.
