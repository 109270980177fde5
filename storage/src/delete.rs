//! Deletes, and changes of a version's tags.
