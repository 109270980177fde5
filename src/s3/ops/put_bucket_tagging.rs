//! PutBucketTagging: replaces the whole set.

use std::sync::Arc;

use drystone_store::types::BucketSetting;
use http::StatusCode;

use crate::s3::error::S3Error;
use crate::s3::request::Request;
use crate::s3::response::{self, Response};
use crate::s3::server::Server;
use crate::s3::tags::{self, BUCKET_TAGS_MAX};

pub async fn handle(server: Arc<Server>, mut request: Request) -> Result<Response, S3Error> {
    let root = request.take_xml("Tagging").await?;
    let tags = tags::read(&root, BUCKET_TAGS_MAX)?;
    // The empty set is none: asked for, it isn't there.
    let document = (!tags.is_empty()).then(|| tags::document(&tags).finish().into_bytes());
    let bucket = request.bucket().id;
    server
        .store
        .put_bucket_setting(bucket, BucketSetting::Tagging, document)
        .await?;
    Ok(response::empty(StatusCode::NO_CONTENT))
}
