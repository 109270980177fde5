//! Checksum headers and trailers.
