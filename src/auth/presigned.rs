//! Signature Version 4 in the query.
