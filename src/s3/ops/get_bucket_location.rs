//! GetBucketLocation: the region as it was given at creation.

use std::sync::Arc;

use crate::protocol::error::S3Error;
use crate::protocol::response::{self, Response};
use crate::protocol::xml::write::Writer;
use crate::s3::context::Context;
use crate::s3::request::Request;

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
