//! Opening a version and reading ranges of it.
