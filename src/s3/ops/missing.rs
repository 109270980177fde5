//! What S3 has and Drystone hasn't yet: 501, by its name.

use std::sync::Arc;

use crate::s3::error::S3Error;
use crate::s3::request::Request;
use crate::s3::response::Response;
use crate::s3::server::Server;

pub async fn handle(_: Arc<Server>, request: Request) -> Result<Response, S3Error> {
    Err(S3Error::not_implemented(request.operation.name))
}
