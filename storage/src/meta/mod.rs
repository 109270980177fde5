//! The metadata plane: what exists.

pub mod command;
