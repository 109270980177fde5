//! ListMultipartUploads: the uploads that are neither completed nor aborted.

use std::sync::Arc;

use drystone_store::listings::{ListUploads, UploadPage};
use drystone_store::types::{Upload, UploadId};

use crate::context::Context;
use crate::ops::listing::{self, Asked, Owners};
use crate::request::Request;
use crate::values::paging::Encoding;
use drystone_protocol::error::S3Error;
use drystone_protocol::response::{self, Response, iso_date};
use drystone_protocol::xml::write::Writer;

pub async fn handle(context: Arc<Context>, request: Request) -> Result<Response, S3Error> {
    let Asked {
        encoding,
        prefix,
        delimiter,
        max,
    } = Asked::read(&request, "max-uploads")?;
    let key_marker = listing::parameter(&request, "key-marker");
    let asked = ListUploads {
        prefix,
        delimiter,
        upload_after: upload_marker(&key_marker, request.query.get("upload-id-marker"))?,
        key_after: key_marker,
        max,
    };
    let bucket = request.bucket();
    let page = context.store.list_uploads(bucket.id, asked.clone()).await?;
    let owners = page.uploads.iter().map(|upload| &upload.attributes.owner);
    let owners = Owners::look_up(&*context.store, owners).await?;

    let mut xml = Writer::document("ListMultipartUploadsResult");
    xml.text("Bucket", &bucket.name);
    xml.text("KeyMarker", &encoding.apply(&asked.key_after));
    let marker = asked.upload_after.map(|id| id.to_string());
    xml.text("UploadIdMarker", &marker.unwrap_or_default());
    let (key, upload) = next_markers(&page).unwrap_or_default();
    xml.text("NextKeyMarker", &encoding.apply(&key));
    let upload = upload.map(|id| id.to_string()).unwrap_or_default();
    xml.text("NextUploadIdMarker", &upload);
    if !asked.prefix.is_empty() {
        xml.text("Prefix", &encoding.apply(&asked.prefix));
    }
    listing::write_delimiter(&mut xml, &asked.delimiter, encoding);
    xml.value("MaxUploads", asked.max);
    xml.value("IsTruncated", page.next.is_some());
    for upload in &page.uploads {
        write_upload(&mut xml, upload, encoding, &owners);
    }
    listing::write_prefixes(&mut xml, &page.prefixes, encoding);
    xml.close("ListMultipartUploadsResult");
    Ok(response::xml(xml))
}

/// AWS names the last upload given even when none follows.
fn next_markers(page: &UploadPage) -> Option<(String, Option<UploadId>)> {
    let last = || {
        let upload = page.uploads.last()?;
        Some((upload.key.clone(), Some(upload.id)))
    };
    page.next.clone().or_else(last)
}

/// Without a key marker the upload's is not looked at.
fn upload_marker(key_marker: &str, marker: Option<&str>) -> Result<Option<UploadId>, S3Error> {
    match marker {
        Some(text) if !text.is_empty() && !key_marker.is_empty() => {
            text.parse().map(Some).map_err(|_| {
                S3Error::invalid_argument("Invalid uploadId marker", "upload-id-marker", text)
            })
        }
        _ => Ok(None),
    }
}

fn write_upload(xml: &mut Writer, upload: &Upload, encoding: Encoding, owners: &Owners) {
    xml.open("Upload");
    xml.text("Key", &encoding.apply(&upload.key));
    xml.value("UploadId", upload.id);
    owners.write(xml, "Initiator", &upload.attributes.owner);
    owners.write(xml, "Owner", &upload.attributes.owner);
    let class = &upload.attributes.storage_class;
    xml.text("StorageClass", listing::storage_class(class));
    xml.text("Initiated", &iso_date(upload.initiated));
    listing::write_checksum_kind(xml, upload.checksum);
    xml.close("Upload");
}
