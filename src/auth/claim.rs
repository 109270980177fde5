//! What a request says about its signature by Version 4, and how that is refused.

use crate::v4::canonical::{AmzDate, Scope};
use drystone_protocol::error::{Code, S3Error};

pub const CONTENT_SHA256: &str = "x-amz-content-sha256";

/// How far a client's clock may be off.
pub const MAX_SKEW_MS: i64 = 15 * 60 * 1000;

/// What a request says about its signature.
#[derive(Debug)]
pub struct Claim {
    pub scope: Scope,
    pub date: AmzDate,
    pub signed_headers: String,
    pub signature: String,
    pub payload_hash: String,
}

pub fn invalid_content_sha256(value: &str) -> S3Error {
    S3Error::new(Code::InvalidArgument)
        .message(
            "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, \
             STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER, \
             STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD, \
             STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER or a valid sha256 value.",
        )
        .with("ArgumentName", CONTENT_SHA256)
        .with("ArgumentValue", value)
}

pub fn ecdsa_not_implemented() -> S3Error {
    S3Error::new(Code::NotImplemented).message("AWS4-ECDSA-P256-SHA256 is not implemented")
}
