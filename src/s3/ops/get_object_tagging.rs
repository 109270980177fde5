//! GetObjectTagging: a version's tags. Without tags it is an empty set.

use std::sync::Arc;

use drystone_store::objects::ReadScope;
use drystone_store::types::Versioning;

use crate::context::Context;
use crate::request::Request;
use crate::values::tags;
use drystone_protocol::error::S3Error;
use drystone_protocol::response::{self, Response, X_AMZ_VERSION_ID};

pub async fn handle(context: Arc<Context>, request: Request) -> Result<Response, S3Error> {
    let bucket = request.bucket();
    let version = request.version()?;
    let opened = context
        .store
        .open_object(bucket.id, &request.key, version, ReadScope::Nothing)
        .await;
    let handle = opened.map_err(|error| tags::refused("GET", error))?;
    let mut response = response::xml(tags::document(&handle.object().attributes.tags));
    if bucket.versioning != Versioning::Off {
        response::set(
            &mut response,
            X_AMZ_VERSION_ID,
            handle.version().id.to_string(),
        );
    }
    Ok(response)
}
