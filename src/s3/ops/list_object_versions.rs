//! ListObjectVersions: every version and delete marker, newest first within a key.

use std::sync::Arc;

use drystone_store::listings::ListVersions;
use drystone_store::types::{Version, VersionId};

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
    } = Asked::read(&request, "max-keys")?;
    let key_marker = listing::parameter(&request, "key-marker");
    let asked = ListVersions {
        prefix,
        delimiter,
        version_after: version_marker(&key_marker, request.query.get("version-id-marker"))?,
        key_after: key_marker,
        max,
    };
    let bucket = request.bucket();
    let page = context
        .store
        .list_versions(bucket.id, asked.clone())
        .await?;
    let owners = page.versions.iter().map(|version| &version.owner);
    let owners = Owners::look_up(&*context.store, owners).await?;

    let mut xml = Writer::document("ListVersionsResult");
    xml.text("Name", &bucket.name);
    xml.text("Prefix", &encoding.apply(&asked.prefix));
    xml.text("KeyMarker", &encoding.apply(&asked.key_after));
    let marker = asked.version_after.map(|id| id.to_string());
    xml.text("VersionIdMarker", &marker.unwrap_or_default());
    if let Some((key, version)) = &page.next {
        xml.text("NextKeyMarker", &encoding.apply(key));
        if let Some(version) = version {
            xml.value("NextVersionIdMarker", version);
        }
    }
    xml.value("MaxKeys", asked.max);
    listing::write_delimiter(&mut xml, &asked.delimiter, encoding);
    xml.value("IsTruncated", page.next.is_some());
    for version in &page.versions {
        write_version(&mut xml, version, encoding, &owners);
    }
    listing::write_prefixes(&mut xml, &page.prefixes, encoding);
    xml.close("ListVersionsResult");
    Ok(response::xml(xml))
}

fn version_marker(key_marker: &str, marker: Option<&str>) -> Result<Option<VersionId>, S3Error> {
    let Some(text) = marker.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let refused = |message| S3Error::invalid_argument(message, "version-id-marker", text);
    if key_marker.is_empty() {
        let message = "A version-id marker cannot be specified without a key marker.";
        return Err(refused(message));
    }
    let id = text
        .parse()
        .map_err(|_| refused("Invalid version id specified"))?;
    Ok(Some(id))
}

fn write_version(xml: &mut Writer, version: &Version, encoding: Encoding, owners: &Owners) {
    let element = match version.object {
        Some(_) => "Version",
        None => "DeleteMarker",
    };
    xml.open(element);
    xml.text("Key", &encoding.apply(&version.key));
    xml.value("VersionId", version.id);
    xml.value("IsLatest", version.is_latest);
    xml.text("LastModified", &iso_date(version.modified));
    if let Some(object) = &version.object {
        xml.text("ETag", &format!("\"{}\"", object.etag));
        let checksum = object.checksum.as_ref();
        listing::write_checksum_kind(xml, checksum.map(|c| (c.algorithm, c.kind)));
        xml.value("Size", object.size);
    }
    owners.write(xml, "Owner", &version.owner);
    if let Some(object) = &version.object {
        let class = &object.attributes.storage_class;
        xml.text("StorageClass", listing::storage_class(class));
    }
    xml.close(element);
}
