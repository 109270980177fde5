//! HeadBucket: whether the bucket is there, whether the caller may list it, and its region.

use std::sync::Arc;

use http::{HeaderName, StatusCode};

use crate::context::Context;
use crate::request::Request;
use drystone_iam::arn::Arn;
use drystone_protocol::error::S3Error;
use drystone_protocol::response::{self, Response, X_AMZ_BUCKET_ARN, X_AMZ_BUCKET_REGION};

const X_AMZ_ACCESS_POINT_ALIAS: HeaderName = HeaderName::from_static("x-amz-access-point-alias");

pub async fn handle(context: Arc<Context>, request: Request) -> Result<Response, S3Error> {
    let bucket = request.bucket();
    let mut response = response::empty(StatusCode::OK);
    response::set(
        &mut response,
        X_AMZ_BUCKET_REGION,
        context.region_of(bucket),
    );
    let arn = Arn::bucket(&bucket.name).to_string();
    response::set(&mut response, X_AMZ_BUCKET_ARN, arn);
    response::set(&mut response, X_AMZ_ACCESS_POINT_ALIAS, "false");
    Ok(response)
}
