//! DeleteBucket: refused while a version is in it; unfinished uploads go with the bucket.

use std::sync::Arc;

use drystone_store::error::{Error, Refusal};
use drystone_store::types::Versioning;
use http::StatusCode;

use crate::context::Context;
use crate::request::Request;
use drystone_protocol::error::{Code, S3Error};
use drystone_protocol::response::{self, Response};

pub async fn handle(context: Arc<Context>, request: Request) -> Result<Response, S3Error> {
    let bucket = request.bucket();
    let deleted = context.store.delete_bucket(bucket.id).await;
    deleted.map_err(|error| match error {
        Error::Refused(Refusal::BucketNotEmpty) => not_empty(bucket.versioning),
        error => error.into(),
    })?;
    Ok(response::empty(StatusCode::NO_CONTENT))
}

/// The contents of a versioned bucket may not show in a listing, so S3 says where to look.
fn not_empty(versioning: Versioning) -> S3Error {
    let error = S3Error::new(Code::BucketNotEmpty);
    match versioning {
        Versioning::Off => error,
        Versioning::Enabled | Versioning::Suspended => error.message(
            "The bucket you tried to delete is not empty. You must delete all versions in the \
             bucket.",
        ),
    }
}
