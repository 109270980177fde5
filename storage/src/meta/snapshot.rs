//! Snapshots: a flush when taken, streamed ranges when sent.
