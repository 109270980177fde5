//! Bodies of the operator's requests: small, and what was signed.

use axum::body::Body;
use http::StatusCode;
use http_body_util::{BodyExt as _, Limited};
use sha2::{Digest as _, Sha256};

use crate::admin::document::Refused;
use drystone_auth::identity::Payload;

const BODY_BYTES_MAX: usize = 64 << 10;

/// All of a body, if it has the hash that was signed.
pub async fn read(body: Body, payload: &Payload) -> Result<Vec<u8>, Refused> {
    let Payload::Sha256(signed) = payload else {
        let what = "sign the body's hash: x-amz-content-sha256";
        return Err(Refused::new(StatusCode::FORBIDDEN, "UnsignedBody", what));
    };
    let bytes = Limited::new(body, BODY_BYTES_MAX).collect().await;
    let bytes = bytes.map_err(|error| {
        Refused::new(StatusCode::BAD_REQUEST, "IncompleteBody", error.to_string())
    })?;
    let bytes = bytes.to_bytes().to_vec();
    match Sha256::digest(&bytes)[..] == signed[..] {
        true => Ok(bytes),
        false => Err(Refused::new(
            StatusCode::BAD_REQUEST,
            "XAmzContentSHA256Mismatch",
            "the body is not the one that was signed",
        )),
    }
}
