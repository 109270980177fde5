//! PutObjectTagging: replaces the whole set of a version's tags, and changes nothing else.

use std::sync::Arc;

use drystone_store::types::Tags;
use http::StatusCode;

use crate::context::Context;
use crate::request::Request;
use crate::values::tags::{self, OBJECT_TAGS_MAX};
use drystone_protocol::error::S3Error;
use drystone_protocol::response::{self, Response, X_AMZ_VERSION_ID};

pub async fn handle(context: Arc<Context>, mut request: Request) -> Result<Response, S3Error> {
    let root = request.take_xml("Tagging").await?;
    let mut tags = tags::read(&root, OBJECT_TAGS_MAX)?;
    // Returned in the order of their keys, as the tags of a header are.
    tags.sort();
    replace(&context, &request, tags, StatusCode::OK).await
}

/// Sets the tags, and answers with `status`.
pub async fn replace(
    context: &Context,
    request: &Request,
    tags: Tags,
    status: StatusCode,
) -> Result<Response, S3Error> {
    let version = request.version()?;
    let bucket = request.bucket().id;
    let replaced = context
        .store
        .put_object_tags(bucket, &request.key, version, tags)
        .await;
    let method = request.operation.method.as_str();
    let met = replaced.map_err(|error| tags::refused(method, error))?;
    let mut response = response::empty(status);
    if let Some(id) = met {
        response::set(&mut response, X_AMZ_VERSION_ID, id.to_string());
    }
    Ok(response)
}
