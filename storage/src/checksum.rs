//! The checksums that objects carry: streaming, and combined from parts.
