//! The reference: the whole store in memory, small enough to be seen right.
