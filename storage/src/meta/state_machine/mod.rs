//! Applies commands: deterministic, one batch each.
