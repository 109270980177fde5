//! The bytes of objects and parts on their way in and out.

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::Result;
use crate::types::Digest;

/// The bytes of a PUT or of a part on their way in.
///
/// The front end verifies while it reads: lengths, signatures of chunks, digests. A body that
/// fails any check yields its error, at the latest in place of the final `None`.
#[async_trait]
pub trait Body: Send {
    /// Returns the next piece, and `None` after the last. Pieces may have any size but are never
    /// empty.
    async fn next(&mut self) -> Result<Option<Bytes>>;

    /// Returns the digest of all bytes. Called once, after `next` returned `None`.
    fn digest(&mut self) -> Digest;

    /// Returns the number of bytes that will come, where that is known beforehand.
    fn size_hint(&self) -> Option<u64>;
}

/// The bytes of a range on their way out.
#[async_trait]
pub trait BodyReader: Send {
    /// Returns the next piece, and `None` after the last byte of the range. After an error nothing
    /// follows.
    async fn next(&mut self) -> Result<Option<Bytes>>;
}
