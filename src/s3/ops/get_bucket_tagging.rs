//! GetBucketTagging.

use std::sync::Arc;

use drystone_store::types::BucketSetting;
use http::{StatusCode, header};

use crate::context::Context;
use crate::request::Request;
use drystone_protocol::error::{Code, S3Error};
use drystone_protocol::response::{self, Body, Response};

/// The document is kept as it is answered.
pub async fn handle(_: Arc<Context>, request: Request) -> Result<Response, S3Error> {
    let Some(document) = request.bucket().setting(BucketSetting::Tagging) else {
        return Err(S3Error::new(Code::NoSuchTagSet));
    };
    let mut response = response::new(StatusCode::OK, Body::from(document.to_vec()));
    response::set(&mut response, header::CONTENT_TYPE, response::XML);
    Ok(response)
}
