//! Conditional requests in RFC order: pure.
