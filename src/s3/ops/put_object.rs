//! PutObject: one body becomes one version, or nothing.

use std::sync::Arc;

use drystone_store::body::Body as _;
use drystone_store::buckets::AdditionOf;
use drystone_store::objects::{PutObject, Written};
use http::{StatusCode, header};

use crate::context::Context;
use crate::request::Request;
use crate::values::attributes;
use crate::values::checksum::{self, DEFAULT_ALGORITHM};
use crate::values::precondition;
use drystone_protocol::error::S3Error;
use drystone_protocol::response::{self, Response};

pub async fn handle(context: Arc<Context>, mut request: Request) -> Result<Response, S3Error> {
    let put = PutObject {
        key: request.key.clone(),
        attributes: attributes::read(&request)?,
        condition: precondition::of_write(&request.headers),
    };
    let bucket = request.bucket().id;
    let mut body = request.take_stream(DEFAULT_ALGORITHM)?;
    let of = AdditionOf::Object {
        key: request.key.clone(),
    };
    context
        .check_quota(request.bucket(), of, body.size_hint())
        .await?;
    let written = context.store.put_object(bucket, put, &mut body).await?;
    Ok(answer(&written))
}

fn answer(written: &Written) -> Response {
    let mut response = response::empty(StatusCode::OK);
    response::set(&mut response, header::ETAG, format!("\"{}\"", written.etag));
    response::set_written_version(&mut response, written.version_id);
    if let Some(checksum) = &written.checksum {
        checksum::set_headers(response.headers_mut(), checksum, written.etag.parts);
    }
    response
}
