//! GetBucketVersioning.

use std::sync::Arc;

use drystone_store::types::Versioning;

use crate::context::Context;
use crate::request::Request;
use drystone_protocol::error::S3Error;
use drystone_protocol::response::{self, Response};
use drystone_protocol::xml::write::Writer;

/// A bucket that never was versioned has no status.
pub async fn handle(_: Arc<Context>, request: Request) -> Result<Response, S3Error> {
    let mut xml = Writer::document("VersioningConfiguration");
    match request.bucket().versioning {
        Versioning::Off => {}
        Versioning::Enabled => xml.text("Status", "Enabled"),
        Versioning::Suspended => xml.text("Status", "Suspended"),
    }
    xml.close("VersioningConfiguration");
    Ok(response::xml(xml))
}
