//! HeadObject: GetObject's answer without the bytes.

use std::sync::Arc;

use crate::protocol::error::S3Error;
use crate::protocol::response::Response;
use crate::s3::context::Context;
use crate::s3::ops::get_object::{self, Opened};
use crate::s3::request::Request;

pub async fn handle(context: Arc<Context>, request: Request) -> Result<Response, S3Error> {
    match get_object::open(&context, &request).await? {
        Opened::NotModified(response) | Opened::Found { response, .. } => Ok(response),
    }
}
