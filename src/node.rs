//! The composition root: store, accounts and server, started and stopped.
