//! HeadObject: GetObject's answer without the bytes.

use std::sync::Arc;

use crate::s3::error::S3Error;
use crate::s3::ops::get_object::{self, Opened};
use crate::s3::request::Request;
use crate::s3::response::Response;
use crate::s3::server::Server;

pub async fn handle(server: Arc<Server>, request: Request) -> Result<Response, S3Error> {
    match get_object::open(&server, &request).await? {
        Opened::NotModified(response) | Opened::Found { response, .. } => Ok(response),
    }
}
