//! How much memory a request may hold, by its body and its answer.

use crate::row::BodyKind;

/// Every request: the connection's buffers, headers, a batch of rows or a page of a part list.
const REQUEST_BYTES: u64 = 256 << 10;
/// A body on its way to the disks, with its parity: what waits for them is bounded there.
const STREAM_BYTES_MAX: u64 = 6 << 20;
/// A parsed document takes this many times its length.
const DOCUMENT_FACTOR: u64 = 4;
/// An answer on its way to the client: what is read ahead of it is bounded where it is read.
const ANSWER_BYTES_MAX: u64 = 3 << 20;

/// Returns the bytes that a request with such a body may hold while it is received.
pub fn body_bytes(kind: BodyKind, length: Option<u64>) -> u64 {
    let held = match kind {
        BodyKind::Nothing => 0,
        BodyKind::Document(max) => length.unwrap_or(u64::MAX).min(max as u64) * DOCUMENT_FACTOR,
        // Twice: the bytes, and at most as many of parity.
        BodyKind::Stream | BodyKind::Form => {
            let length = length.unwrap_or(u64::MAX);
            length.saturating_mul(2).min(STREAM_BYTES_MAX)
        }
    };
    REQUEST_BYTES + held
}

/// Returns the bytes that an answer of that length may hold while it is sent.
pub fn answer_bytes(length: u64) -> u64 {
    length.min(ANSWER_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_body_may_hold_is_bounded_by_its_kind() {
        let over = |kind, length| body_bytes(kind, length) - REQUEST_BYTES;
        assert_eq!(over(BodyKind::Nothing, Some(1 << 40)), 0);
        assert_eq!(over(BodyKind::Stream, Some(1000)), 2000);
        assert_eq!(over(BodyKind::Stream, Some(u64::MAX)), STREAM_BYTES_MAX);
        assert_eq!(over(BodyKind::Stream, None), STREAM_BYTES_MAX);
        assert_eq!(over(BodyKind::Document(100), Some(10)), 40);
        assert_eq!(over(BodyKind::Document(100), None), 400);
    }
}
