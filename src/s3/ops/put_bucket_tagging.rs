//! PutBucketTagging: replaces the whole set.

use std::sync::Arc;

use drystone_store::types::BucketSetting;
use http::StatusCode;

use crate::context::Context;
use crate::request::Request;
use crate::values::tags::{self, BUCKET_TAGS_MAX};
use drystone_protocol::error::S3Error;
use drystone_protocol::response::{self, Response};

pub async fn handle(context: Arc<Context>, mut request: Request) -> Result<Response, S3Error> {
    let root = request.take_xml("Tagging").await?;
    let tags = tags::read(&root, BUCKET_TAGS_MAX)?;
    // The empty set counts as none: reading it is an error.
    let document = (!tags.is_empty()).then(|| tags::document(&tags).finish().into_bytes());
    let bucket = request.bucket().id;
    context
        .store
        .put_bucket_setting(bucket, BucketSetting::Tagging, document)
        .await?;
    Ok(response::empty(StatusCode::NO_CONTENT))
}
