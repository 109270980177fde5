//! GetObjectAttributes: the facts of HEAD, the checksum and a page of the parts, as chosen.

use std::sync::Arc;

use drystone_store::objects::{ObjectHandle, ReadScope};
use drystone_store::types::Versioning;
use http::header;

use crate::context::Context;
use crate::ops::get_object;
use crate::request::Request;
use crate::values::attributes;
use crate::values::checksum;
use crate::values::paging;
use drystone_protocol::error::{Code, S3Error};
use drystone_protocol::response::{self, Response, X_AMZ_VERSION_ID};
use drystone_protocol::xml::write::Writer;

const ATTRIBUTES: [&str; 5] = [
    "ETag",
    "Checksum",
    "ObjectParts",
    "StorageClass",
    "ObjectSize",
];

pub async fn handle(context: Arc<Context>, request: Request) -> Result<Response, S3Error> {
    attributes::check_supported(&request.headers)?;
    let asked = asked(&request)?;
    let wants = |name: &str| asked.iter().any(|asked| asked == name);
    let bucket = request.bucket();
    let version = request.version()?;
    let handle = context
        .store
        .open_object(bucket.id, &request.key, version, ReadScope::Nothing)
        .await?;
    if let Some(answer) = get_object::unwanted(&request, handle.as_ref(), context.env.now())? {
        return Ok(answer);
    }
    let (version, object) = (handle.version(), handle.object());
    let mut xml = Writer::document("GetObjectAttributesResponse");
    if wants("ETag") {
        xml.value("ETag", object.etag);
    }
    if let Some(checksum) = object.checksum.as_ref().filter(|_| wants("Checksum")) {
        xml.open("Checksum");
        checksum::write(&mut xml, checksum, object.etag.parts);
        xml.text("ChecksumType", checksum.kind.name());
        xml.close("Checksum");
    }
    if wants("ObjectParts") && handle.parts_count() > 0 {
        write_parts(&mut xml, &request, handle.as_ref()).await?;
    }
    if wants("StorageClass") {
        let class = object.attributes.storage_class.as_str();
        xml.text(
            "StorageClass",
            if class.is_empty() { "STANDARD" } else { class },
        );
    }
    if wants("ObjectSize") {
        xml.value("ObjectSize", object.size);
    }
    xml.close("GetObjectAttributesResponse");
    let mut response = response::xml(xml);
    let modified = response::http_date(version.modified);
    response::set(&mut response, header::LAST_MODIFIED, modified);
    if bucket.versioning != Versioning::Off {
        response::set(&mut response, X_AMZ_VERSION_ID, version.id.to_string());
    }
    Ok(response)
}

/// The attributes that `x-amz-object-attributes` names, in one header or in several.
fn asked(request: &Request) -> Result<Vec<String>, S3Error> {
    let name = "x-amz-object-attributes";
    let values = request.headers.get_all(name).iter();
    let texts = values.map(|value| value.to_str().unwrap_or_default());
    let asked: Vec<String> = texts
        .flat_map(|text| text.split(','))
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .collect();
    if asked.is_empty() {
        return Err(S3Error::new(Code::InvalidRequest).message(
            "The x-amz-object-attributes header specifying the attributes to be retrieved is \
             either missing or empty",
        ));
    }
    if asked
        .iter()
        .all(|asked| ATTRIBUTES.contains(&asked.as_str()))
    {
        return Ok(asked);
    }
    let message = "Invalid attribute name specified.";
    let sent = request.header(name).unwrap_or_default();
    Err(S3Error::invalid_argument(message, name, sent))
}

async fn write_parts(
    xml: &mut Writer,
    request: &Request,
    handle: &dyn ObjectHandle,
) -> Result<(), S3Error> {
    let max = paging::page_len("x-amz-max-parts", request.header("x-amz-max-parts"))?;
    let after = paging::part_number_marker(request.header("x-amz-part-number-marker"))?;
    // One more than asked for shows whether the page is the last.
    let mut parts = handle.parts(after, max + 1).await?;
    let is_truncated = parts.len() > max;
    parts.truncate(max);
    xml.open("ObjectParts");
    xml.value("PartsCount", handle.parts_count());
    xml.value("PartNumberMarker", after);
    xml.value(
        "NextPartNumberMarker",
        parts.last().map_or(after, |part| part.number),
    );
    xml.value("MaxParts", max);
    xml.value("IsTruncated", is_truncated);
    for part in &parts {
        xml.open("Part");
        xml.value("PartNumber", part.number);
        xml.value("Size", part.size);
        if let Some(checksum) = &part.checksum {
            checksum::write(xml, checksum, 0);
        }
        xml.close("Part");
    }
    xml.close("ObjectParts");
    Ok(())
}
