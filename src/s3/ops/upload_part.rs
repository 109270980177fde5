//! UploadPart: a part may be uploaded again, and the last one counts.

use std::sync::Arc;

use drystone_store::body::Body as _;
use drystone_store::buckets::AdditionOf;
use drystone_store::types::UploadedPart;
use http::{StatusCode, header};

use crate::context::Context;
use crate::ops::multipart::{part_number, upload_id};
use crate::request::Request;
use crate::values::checksum;
use drystone_protocol::error::S3Error;
use drystone_protocol::response::{self, Response};

pub async fn handle(context: Arc<Context>, mut request: Request) -> Result<Response, S3Error> {
    let number = part_number(&request)?;
    let id = upload_id(&request)?;
    let bucket = request.bucket().id;
    // Before a byte is read: the upload must be there, and the checksum must fit it.
    let upload = context.store.upload(bucket, &request.key, id).await?;
    let declared = checksum::declared(&request.headers)?;
    let algorithm = checksum::for_part(upload.checksum, declared.as_ref())?;
    let mut body = request.take_stream(algorithm)?.with_crc64nvme();
    let of = AdditionOf::Part { upload: id, number };
    context
        .check_quota(request.bucket(), of, body.size_hint())
        .await?;
    let part = context
        .store
        .upload_part(bucket, &request.key, id, number, &mut body)
        .await?;
    Ok(uploaded(&part))
}

fn uploaded(part: &UploadedPart) -> Response {
    let mut response = response::empty(StatusCode::OK);
    response::set(&mut response, header::ETAG, format!("\"{}\"", part.etag));
    if let Some(checksum) = &part.checksum {
        let name = checksum::header_name(checksum.algorithm);
        response::set(&mut response, name, checksum::display(checksum, 0));
    }
    response
}
