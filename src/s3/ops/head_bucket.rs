//! HeadBucket: is it there, may I, and where.

use std::sync::Arc;

use http::{HeaderName, StatusCode};

use crate::s3::error::S3Error;
use crate::s3::request::Request;
use crate::s3::response::{self, Response, X_AMZ_BUCKET_ARN, X_AMZ_BUCKET_REGION};
use crate::s3::server::Server;

const X_AMZ_ACCESS_POINT_ALIAS: HeaderName = HeaderName::from_static("x-amz-access-point-alias");

pub async fn handle(server: Arc<Server>, request: Request) -> Result<Response, S3Error> {
    let bucket = request.bucket();
    let mut response = response::empty(StatusCode::OK);
    response::set(&mut response, X_AMZ_BUCKET_REGION, server.region_of(bucket));
    let arn = response::bucket_arn(&bucket.name);
    response::set(&mut response, X_AMZ_BUCKET_ARN, arn);
    response::set(&mut response, X_AMZ_ACCESS_POINT_ALIAS, "false");
    Ok(response)
}
