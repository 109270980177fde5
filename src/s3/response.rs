//! Responses and their common headers.
