//! PutBucketVersioning: enables or suspends versioning, which cannot be switched off again.

use std::sync::Arc;

use drystone_store::types::Versioning;
use http::StatusCode;

use crate::context::Context;
use crate::request::Request;
use drystone_protocol::error::{Code, S3Error};
use drystone_protocol::response::{self, Response};
use drystone_protocol::xml::read::Element;

pub async fn handle(context: Arc<Context>, mut request: Request) -> Result<Response, S3Error> {
    if request.header("x-amz-mfa").is_some() {
        return Err(mfa_delete());
    }
    let asked = versioning(&request.take_xml("VersioningConfiguration").await?)?;
    let bucket = request.bucket();
    context.store.set_versioning(bucket.id, asked).await?;
    Ok(response::empty(StatusCode::OK))
}

fn mfa_delete() -> S3Error {
    S3Error::not_implemented("MFA delete")
}

fn versioning(root: &Element) -> Result<Versioning, S3Error> {
    match root.child_text("MfaDelete") {
        None | Some("Disabled") => {}
        Some("Enabled") => return Err(mfa_delete()),
        Some(_) => return Err(S3Error::new(Code::MalformedXML)),
    }
    match root.child_text("Status") {
        Some("Enabled") => Ok(Versioning::Enabled),
        Some("Suspended") => Ok(Versioning::Suspended),
        Some(_) => Err(S3Error::new(Code::MalformedXML)),
        None => Err(S3Error::new(Code::IllegalVersioningConfigurationException)),
    }
}
