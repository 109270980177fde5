//! DeleteBucketTagging: the same whether there were tags or not.

use std::sync::Arc;

use drystone_store::types::BucketSetting;
use http::StatusCode;

use crate::context::Context;
use crate::request::Request;
use drystone_protocol::error::S3Error;
use drystone_protocol::response::{self, Response};

pub async fn handle(context: Arc<Context>, request: Request) -> Result<Response, S3Error> {
    let bucket = request.bucket().id;
    context
        .store
        .put_bucket_setting(bucket, BucketSetting::Tagging, None)
        .await?;
    Ok(response::empty(StatusCode::NO_CONTENT))
}
