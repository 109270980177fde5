//! ListObjects: the first version, still asked for by many clients.

use std::sync::Arc;

use drystone_store::listings::ListObjects;

use crate::context::Context;
use crate::ops::listing::{self, Asked, Owners};
use crate::request::Request;
use drystone_protocol::error::S3Error;
use drystone_protocol::response::{self, Response, X_AMZ_BUCKET_REGION};
use drystone_protocol::xml::write::Writer;

pub async fn handle(context: Arc<Context>, request: Request) -> Result<Response, S3Error> {
    let Asked {
        encoding,
        prefix,
        delimiter,
        max,
    } = Asked::read(&request, "max-keys")?;
    let asked = ListObjects {
        prefix,
        delimiter,
        after: listing::parameter(&request, "marker"),
        max,
    };
    let bucket = request.bucket();
    let page = context.store.list_objects(bucket.id, asked.clone()).await?;
    let owners = page.objects.iter().map(|object| &object.owner);
    let owners = Owners::look_up(&*context.store, owners).await?;

    let mut xml = Writer::document("ListBucketResult");
    xml.text("Name", &bucket.name);
    xml.text("Prefix", &encoding.apply(&asked.prefix));
    xml.text("Marker", &encoding.apply(&asked.after));
    // Without a delimiter the client takes the last key itself.
    if let Some(next) = page.next.as_ref().filter(|_| !asked.delimiter.is_empty()) {
        xml.text("NextMarker", &encoding.apply(next));
    }
    xml.value("MaxKeys", asked.max);
    listing::write_delimiter(&mut xml, &asked.delimiter, encoding);
    xml.value("IsTruncated", page.next.is_some());
    for object in &page.objects {
        listing::write_object(&mut xml, object, encoding, Some(&owners));
    }
    listing::write_prefixes(&mut xml, &page.prefixes, encoding);
    xml.close("ListBucketResult");
    let mut response = response::xml(xml);
    response::set(
        &mut response,
        X_AMZ_BUCKET_REGION,
        context.region_of(bucket),
    );
    Ok(response)
}
