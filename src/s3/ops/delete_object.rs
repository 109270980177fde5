//! DeleteObject: removes a version, or makes a delete marker. A missing object is no error.

use std::sync::Arc;

use drystone_store::objects::DeleteObject;
use http::StatusCode;

use crate::context::Context;
use crate::request::Request;
use crate::values::precondition;
use drystone_protocol::error::S3Error;
use drystone_protocol::response::{self, Response, X_AMZ_DELETE_MARKER, X_AMZ_VERSION_ID};

pub async fn handle(context: Arc<Context>, request: Request) -> Result<Response, S3Error> {
    let delete = DeleteObject {
        key: request.key.clone(),
        version: request.version()?,
        condition: precondition::of_delete(&request)?,
    };
    let deleted = context
        .store
        .delete_object(request.bucket().id, delete)
        .await?;
    let mut response = response::empty(StatusCode::NO_CONTENT);
    if deleted.is_marker {
        response::set(&mut response, X_AMZ_DELETE_MARKER, "true");
    }
    if let Some(id) = deleted.version_id {
        response::set(&mut response, X_AMZ_VERSION_ID, id.to_string());
    }
    Ok(response)
}
