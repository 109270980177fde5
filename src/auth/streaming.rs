//! The aws-chunked framing, its signatures and trailers.
