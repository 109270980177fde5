//! Configuration: TOML, then environment, then flags.
