//! DeleteBucketTagging: the same whether there were tags or not.

use std::sync::Arc;

use drystone_store::types::BucketSetting;
use http::StatusCode;

use crate::s3::error::S3Error;
use crate::s3::request::Request;
use crate::s3::response::{self, Response};
use crate::s3::server::Server;

pub async fn handle(server: Arc<Server>, request: Request) -> Result<Response, S3Error> {
    let bucket = request.bucket().id;
    server
        .store
        .put_bucket_setting(bucket, BucketSetting::Tagging, None)
        .await?;
    Ok(response::empty(StatusCode::NO_CONTENT))
}
