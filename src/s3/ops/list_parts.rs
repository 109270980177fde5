//! ListParts: the parts that an unfinished upload has so far.

use std::sync::Arc;

use drystone_store::types::UploadedPart;

use crate::context::Context;
use crate::ops::listing::{self, Owners};
use crate::ops::multipart::upload_id;
use crate::request::Request;
use crate::values::checksum;
use crate::values::paging;
use drystone_protocol::error::S3Error;
use drystone_protocol::response::{self, Response, iso_date};
use drystone_protocol::xml::write::Writer;

pub async fn handle(context: Arc<Context>, request: Request) -> Result<Response, S3Error> {
    let max = paging::page_len("max-parts", request.query.get("max-parts"))?;
    let after = paging::part_number_marker(request.query.get("part-number-marker"))?;
    let (bucket, key) = (request.bucket(), request.key.as_str());
    let id = upload_id(&request)?;
    let store = &*context.store;
    let upload = store.upload(bucket.id, key, id).await?;
    let (mut parts, more) = match max {
        0 => (Vec::new(), false),
        _ => store.list_parts(bucket.id, key, id, after, max).await?,
    };
    if upload.checksum.is_none() {
        // Each part has one all the same, for the whole object's. It is shown only if one was
        // asked for.
        parts.iter_mut().for_each(|part| part.checksum = None);
    }
    let owner = &upload.attributes.owner;
    let owners = Owners::look_up(store, [owner].into_iter()).await?;

    let mut xml = Writer::document("ListPartsResult");
    xml.text("Bucket", &bucket.name);
    xml.text("Key", key);
    xml.value("UploadId", id);
    owners.write(&mut xml, "Initiator", owner);
    owners.write(&mut xml, "Owner", owner);
    let class = &upload.attributes.storage_class;
    xml.text("StorageClass", listing::storage_class(class));
    xml.value("PartNumberMarker", after);
    xml.value(
        "NextPartNumberMarker",
        parts.last().map_or(0, |part| part.number),
    );
    xml.value("MaxParts", max);
    xml.value("IsTruncated", more);
    listing::write_checksum_kind(&mut xml, upload.checksum);
    for part in &parts {
        write_part(&mut xml, part);
    }
    xml.close("ListPartsResult");
    Ok(response::xml(xml))
}

fn write_part(xml: &mut Writer, part: &UploadedPart) {
    xml.open("Part");
    xml.value("PartNumber", part.number);
    xml.text("LastModified", &iso_date(part.modified));
    xml.text("ETag", &format!("\"{}\"", part.etag));
    xml.value("Size", part.size);
    if let Some(checksum) = &part.checksum {
        checksum::write(xml, checksum, 0);
    }
    xml.close("Part");
}
