//! DeleteObjectTagging: the empty set.

use std::sync::Arc;

use drystone_store::types::Tags;
use http::StatusCode;

use crate::context::Context;
use crate::ops::put_object_tagging::replace;
use crate::request::Request;
use drystone_protocol::error::S3Error;
use drystone_protocol::response::Response;

pub async fn handle(context: Arc<Context>, request: Request) -> Result<Response, S3Error> {
    replace(&context, &request, Tags::new(), StatusCode::NO_CONTENT).await
}
