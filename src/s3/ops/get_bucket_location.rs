//! GetBucketLocation: the region as it was given at creation.

use std::sync::Arc;

use crate::s3::error::S3Error;
use crate::s3::request::Request;
use crate::s3::response::{self, Response};
use crate::s3::server::Server;
use crate::s3::xml::Writer;

/// The one region that S3 gives no name.
const UNNAMED: &str = "us-east-1";

pub async fn handle(server: Arc<Server>, request: Request) -> Result<Response, S3Error> {
    let bucket = request.bucket();
    let location = match bucket.location.as_str() {
        "" => server.region.as_str(),
        given => given,
    };
    let mut xml = Writer::document("LocationConstraint");
    if location != UNNAMED {
        xml.content(location);
    }
    xml.close("LocationConstraint");
    Ok(response::xml(xml))
}
