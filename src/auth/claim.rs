//! The claim of a request about its signature by Version 4, and the refusals of such claims.

use drystone_store::types::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::v4::canonical::{AmzDate, Scope, ServiceName};
use crate::v4::signed_headers::SignedHeaders;
use drystone_protocol::error::{Code, S3Error};

pub const CONTENT_SHA256: &str = "x-amz-content-sha256";

/// The most that a client's clock may be off.
pub const MAX_SKEW_MS: i64 = 15 * 60 * 1000;

/// The parameters that verification compares a claim with.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    pub service: ServiceName,
    pub now: Timestamp,
    /// The body, where it has been read already.
    pub body: Option<&'a [u8]>,
}

impl Expected<'_> {
    /// The hash of the body, where a request to this service need not declare it.
    pub fn implied_hash(&self) -> Option<String> {
        let body = self.body.filter(|_| !self.service.demands_content_hash());
        body.map(|body| hex::encode(Sha256::digest(body)))
    }
}

/// Everything that a request says about its signature.
#[derive(Debug)]
pub struct Claim {
    pub scope: Scope,
    pub date: AmzDate,
    pub signed_headers: SignedHeaders,
    pub signature: String,
    pub payload_hash: String,
    pub session_token: Option<String>,
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
