//! HeadObject: GetObject's answer without the bytes.

use std::sync::Arc;

use crate::context::Context;
use crate::ops::get_object::{self, Opened};
use crate::request::Request;
use drystone_protocol::error::S3Error;
use drystone_protocol::response::Response;
use drystone_store::objects::ReadScope;

pub async fn handle(context: Arc<Context>, request: Request) -> Result<Response, S3Error> {
    match get_object::open(&context, &request, |_, _| ReadScope::Nothing).await? {
        Opened::NotModified(response) | Opened::Found { response, .. } => Ok(response),
    }
}
