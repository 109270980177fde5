//! DeleteBucket: refused while anything is in it.

use std::sync::Arc;

use http::StatusCode;

use crate::s3::error::S3Error;
use crate::s3::request::Request;
use crate::s3::response::{self, Response};
use crate::s3::server::Server;

pub async fn handle(server: Arc<Server>, request: Request) -> Result<Response, S3Error> {
    let bucket = request.bucket();
    server.store.delete_bucket(bucket.id).await?;
    Ok(response::empty(StatusCode::NO_CONTENT))
}
