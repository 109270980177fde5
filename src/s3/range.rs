//! Range headers: pure.
