//! GetBucketVersioning.

use std::sync::Arc;

use drystone_store::types::Versioning;

use crate::s3::error::S3Error;
use crate::s3::request::Request;
use crate::s3::response::{self, Response};
use crate::s3::server::Server;
use crate::s3::xml::Writer;

/// A bucket that never was versioned has no status.
pub async fn handle(_server: Arc<Server>, request: Request) -> Result<Response, S3Error> {
    let mut xml = Writer::document("VersioningConfiguration");
    match request.bucket().versioning {
        Versioning::Off => {}
        Versioning::Enabled => xml.text("Status", "Enabled"),
        Versioning::Suspended => xml.text("Status", "Suspended"),
    }
    xml.close("VersioningConfiguration");
    Ok(response::xml(xml))
}
