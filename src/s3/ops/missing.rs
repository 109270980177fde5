//! What S3 has and Drystone hasn't yet: 501, by its name.

use std::sync::Arc;

use crate::protocol::error::S3Error;
use crate::protocol::response::Response;
use crate::s3::context::Context;
use crate::s3::request::Request;

pub async fn handle(_: Arc<Context>, request: Request) -> Result<Response, S3Error> {
    Err(S3Error::not_implemented(request.operation.name))
}
