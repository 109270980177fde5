//! PUT: bytes first, then the one command that makes them an object.
