//! DeleteObjectTagging: the empty set.

use std::sync::Arc;

use drystone_store::types::Tags;
use http::StatusCode;

use crate::protocol::error::S3Error;
use crate::protocol::response::Response;
use crate::s3::context::Context;
use crate::s3::ops::put_object_tagging::replace;
use crate::s3::request::Request;

pub async fn handle(context: Arc<Context>, request: Request) -> Result<Response, S3Error> {
    replace(&context, &request, Tags::new(), StatusCode::NO_CONTENT).await
}
