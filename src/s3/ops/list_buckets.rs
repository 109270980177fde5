//! ListBuckets: the caller's own, by name, in pages.

use std::sync::Arc;

use drystone_store::buckets::ListBuckets;
use drystone_store::listings::PAGE_LEN_MAX;
use drystone_store::types::{AccountId, Bucket};

use crate::context::Context;
use crate::ops::listing::Owners;
use crate::request::Request;
use crate::values::paging::{self, TokenScope};
use drystone_iam::arn::Arn;
use drystone_protocol::error::S3Error;
use drystone_protocol::response::{self, Response, iso_date};
use drystone_protocol::xml::write::Writer;

pub async fn handle(context: Arc<Context>, request: Request) -> Result<Response, S3Error> {
    let max = paging::buckets_len(request.query.get("max-buckets"))?;
    let owner = request.account();
    let scope = TokenScope::Account(&owner.0);
    let after = match request.query.get("continuation-token") {
        Some(token) if !token.is_empty() => paging::open_token(scope, token)?,
        _ => String::new(),
    };
    let prefix = request.query.get("prefix").unwrap_or_default();
    let region = request
        .query
        .get("bucket-region")
        .filter(|region| !region.is_empty());
    // One more than asked for shows whether a page follows.
    let mut buckets = collect(&context, &owner, after, prefix, region, max + 1).await?;
    let truncated = buckets.len() > max;
    buckets.truncate(max);
    let owners = Owners::look_up(&*context.store, [&owner].into_iter()).await?;

    let mut xml = Writer::document("ListAllMyBucketsResult");
    owners.write(&mut xml, "Owner", &owner);
    xml.open("Buckets");
    for bucket in &buckets {
        xml.open("Bucket");
        xml.text("Name", &bucket.name);
        xml.text("CreationDate", &iso_date(bucket.created));
        xml.text("BucketRegion", context.region_of(bucket));
        xml.text("BucketArn", &Arn::bucket(&bucket.name).to_string());
        xml.close("Bucket");
    }
    xml.close("Buckets");
    if let Some(last) = buckets.last().filter(|_| truncated) {
        xml.text("ContinuationToken", &paging::issue_token(scope, &last.name));
    }
    if !prefix.is_empty() {
        xml.text("Prefix", prefix);
    }
    xml.close("ListAllMyBucketsResult");
    Ok(response::xml(xml))
}

/// Up to `wanted` of the owner's buckets in this region, read in the store's pages.
async fn collect(
    context: &Context,
    owner: &AccountId,
    mut after: String,
    prefix: &str,
    region: Option<&str>,
    wanted: usize,
) -> Result<Vec<Bucket>, S3Error> {
    let mut found = Vec::new();
    while found.len() < wanted {
        let page = context.store.list_buckets(ListBuckets {
            owner: Some(owner.clone()),
            prefix: prefix.to_owned(),
            after,
            max: PAGE_LEN_MAX,
        });
        let page = page.await?;
        let full = page.len() == PAGE_LEN_MAX;
        let Some(last) = page.last() else { break };
        after = last.name.clone();
        let here =
            |bucket: &Bucket| region.is_none_or(|region| context.region_of(bucket) == region);
        found.extend(page.into_iter().filter(here));
        if !full {
            break;
        }
    }
    found.truncate(wanted);
    Ok(found)
}
