//! AbortMultipartUpload: frees the space of the parts.

use std::sync::Arc;

use http::StatusCode;

use crate::context::Context;
use crate::ops::multipart::upload_id;
use crate::request::Request;
use crate::values::precondition;
use drystone_protocol::error::S3Error;
use drystone_protocol::response::{self, Response};

pub async fn handle(context: Arc<Context>, request: Request) -> Result<Response, S3Error> {
    let (bucket, key) = (request.bucket(), request.key.as_str());
    let upload = upload_id(&request)?;
    if let Some(asked) = precondition::of_abort(&request)? {
        let found = context.store.upload(bucket.id, key, upload).await?;
        if found.initiated.seconds() != asked.seconds() {
            return Err(precondition::failed(precondition::IF_MATCH_INITIATED));
        }
    }
    context.store.abort_upload(bucket.id, key, upload).await?;
    Ok(response::empty(StatusCode::NO_CONTENT))
}
