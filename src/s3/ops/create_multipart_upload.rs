//! CreateMultipartUpload: the attributes that are given here become the object's at completion.

use std::sync::Arc;

use drystone_store::buckets::AdditionOf;
use drystone_store::uploads::CreateUpload;
use http::HeaderName;

use crate::context::Context;
use crate::request::Request;
use crate::values::attributes;
use crate::values::checksum;
use drystone_protocol::error::S3Error;
use drystone_protocol::response::{self, Response};
use drystone_protocol::xml::write::Writer;

const X_AMZ_CHECKSUM_ALGORITHM: HeaderName = HeaderName::from_static("x-amz-checksum-algorithm");
const X_AMZ_CHECKSUM_TYPE: HeaderName = HeaderName::from_static("x-amz-checksum-type");

pub async fn handle(context: Arc<Context>, request: Request) -> Result<Response, S3Error> {
    let (bucket, key) = (request.bucket(), request.key.as_str());
    let attributes = attributes::read(&request)?;
    let checksum = checksum::for_upload(&request.headers)?;
    // Refused here if there is no room for one more object, so that no part is sent in vain.
    let of = AdditionOf::Object {
        key: key.to_owned(),
    };
    context.check_quota(bucket, of, Some(0)).await?;
    let upload = context.store.create_upload(
        bucket.id,
        CreateUpload {
            key: key.to_owned(),
            attributes,
            checksum,
        },
    );
    let upload = upload.await?;

    let mut xml = Writer::document("InitiateMultipartUploadResult");
    xml.text("Bucket", &bucket.name);
    xml.text("Key", key);
    xml.value("UploadId", upload.id);
    xml.close("InitiateMultipartUploadResult");
    let mut response = response::xml(xml);
    if let Some((algorithm, kind)) = upload.checksum {
        response::set(&mut response, X_AMZ_CHECKSUM_ALGORITHM, algorithm.name());
        response::set(&mut response, X_AMZ_CHECKSUM_TYPE, kind.name());
    }
    Ok(response)
}
