//! DeleteBucketTagging: the same whether there were tags or not.

use std::sync::Arc;

use drystone_store::types::BucketSetting;
use http::StatusCode;

use crate::protocol::error::S3Error;
use crate::protocol::response::{self, Response};
use crate::s3::context::Context;
use crate::s3::request::Request;

pub async fn handle(context: Arc<Context>, request: Request) -> Result<Response, S3Error> {
    let bucket = request.bucket().id;
    context
        .store
        .put_bucket_setting(bucket, BucketSetting::Tagging, None)
        .await?;
    Ok(response::empty(StatusCode::NO_CONTENT))
}
