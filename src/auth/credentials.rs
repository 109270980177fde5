//! Access keys and who they belong to.
