//! GetBucketLocation: the region as it was given at creation.

use std::sync::Arc;

use crate::context::Context;
use crate::request::Request;
use drystone_protocol::error::S3Error;
use drystone_protocol::response::{self, Response};
use drystone_protocol::xml::write::Writer;

/// The one region that S3 gives no name.
const UNNAMED: &str = "us-east-1";

pub async fn handle(context: Arc<Context>, request: Request) -> Result<Response, S3Error> {
    let bucket = request.bucket();
    let location = match bucket.location.as_str() {
        "" => context.region.as_str(),
        given => given,
    };
    let mut xml = Writer::document("LocationConstraint");
    if location != UNNAMED {
        xml.content(location);
    }
    xml.close("LocationConstraint");
    Ok(response::xml(xml))
}
