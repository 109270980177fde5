//! ListObjectsV2.

use std::sync::Arc;

use drystone_store::listings::ListObjects;

use crate::context::Context;
use crate::ops::listing::{self, Asked, Owners};
use crate::request::Request;
use crate::values::paging::{self, TokenScope};
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
    let bucket = request.bucket();
    let scope = TokenScope::Bucket(bucket.id.0);
    let start_after = request.query.get("start-after");
    let token = request.query.get("continuation-token");
    // A token that is there but empty is echoed and begins at the beginning, as in AWS.
    let after = match token {
        Some(token) if !token.is_empty() => paging::open_token(scope, token)?,
        _ => start_after.unwrap_or_default().to_owned(),
    };
    let asked = ListObjects {
        prefix,
        delimiter,
        after,
        max,
    };
    let page = context.store.list_objects(bucket.id, asked.clone()).await?;
    let owners = if request.query.get("fetch-owner") == Some("true") {
        let owners = page.objects.iter().map(|object| &object.owner);
        Some(Owners::look_up(&*context.store, owners).await?)
    } else {
        None
    };

    let mut xml = Writer::document("ListBucketResult");
    xml.text("Name", &bucket.name);
    xml.text("Prefix", &encoding.apply(&asked.prefix));
    if let Some(start_after) = start_after {
        xml.text("StartAfter", &encoding.apply(start_after));
    }
    if let Some(token) = token {
        xml.text("ContinuationToken", token);
    }
    if let Some(next) = &page.next {
        xml.text("NextContinuationToken", &paging::issue_token(scope, next));
    }
    xml.value("KeyCount", page.objects.len() + page.prefixes.len());
    xml.value("MaxKeys", asked.max);
    listing::write_delimiter(&mut xml, &asked.delimiter, encoding);
    xml.value("IsTruncated", page.next.is_some());
    for object in &page.objects {
        listing::write_object(&mut xml, object, encoding, owners.as_ref());
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
