//! Operations that S3 has and Drystone does not have yet: 501, by the operation's name.

use std::sync::Arc;

use crate::context::Context;
use crate::request::Request;
use drystone_protocol::error::S3Error;
use drystone_protocol::response::Response;

pub async fn handle(_: Arc<Context>, request: Request) -> Result<Response, S3Error> {
    Err(S3Error::not_implemented(request.operation.name))
}
