//! Listings of objects and versions.
