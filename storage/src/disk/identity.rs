//! Who a disk is, and the lock against two processes.
