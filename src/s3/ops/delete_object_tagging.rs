//! DeleteObjectTagging: the empty set.

use std::sync::Arc;

use drystone_store::types::Tags;
use http::StatusCode;

use crate::s3::error::S3Error;
use crate::s3::ops::put_object_tagging::replace;
use crate::s3::request::Request;
use crate::s3::response::Response;
use crate::s3::server::Server;

pub async fn handle(server: Arc<Server>, request: Request) -> Result<Response, S3Error> {
    replace(&server, &request, Tags::new(), StatusCode::NO_CONTENT).await
}
