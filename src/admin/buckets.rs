//! Buckets as the operator sees them: what they hold, and how much they may.

use drystone_store::ObjectStore;
use drystone_store::buckets::ListBuckets;
use drystone_store::listings::PAGE_LEN_MAX;
use drystone_store::types::{Bucket, QuotaChange, Usage, Versioning};
use http::StatusCode;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use crate::admin::document::Refused;
use drystone_protocol::query::Query;

/// A change of a bucket's quota: a number, or `null` for no limit. A field that is left out stays.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetQuota {
    bucket: String,
    #[serde(default, deserialize_with = "named")]
    hard_bytes: Option<Option<u64>>,
    #[serde(default, deserialize_with = "named")]
    hard_objects: Option<Option<u64>>,
    #[serde(default, deserialize_with = "named")]
    soft_bytes: Option<Option<u64>>,
    #[serde(default, deserialize_with = "named")]
    soft_objects: Option<Option<u64>>,
}

fn named<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Option<u64>>, D::Error> {
    Option::deserialize(value).map(Some)
}

/// Those with names above `after`, of whoever; `next` is what to go on after.
pub async fn page(store: &dyn ObjectStore, query: &Query) -> Result<Value, Refused> {
    query.check()?;
    let text = |name| query.get(name).unwrap_or_default().to_owned();
    let request = ListBuckets {
        owner: None,
        prefix: text("prefix"),
        after: text("after"),
        max: PAGE_LEN_MAX,
    };
    let buckets = store.list_buckets(request).await?;
    let next = (buckets.len() == PAGE_LEN_MAX)
        .then(|| buckets.last())
        .flatten();
    let next = next.map(|bucket| bucket.name.clone());
    let ids: Vec<_> = buckets.iter().map(|bucket| bucket.id).collect();
    let usages = store.usage(&ids).await?;
    let shown: Vec<Value> = buckets.iter().zip(&usages).map(shown).collect();
    Ok(json!({ "buckets": shown, "next": next }))
}

pub async fn one(store: &dyn ObjectStore, query: &Query) -> Result<Value, Refused> {
    query.check()?;
    let name = query.get("bucket").unwrap_or_default();
    if name.is_empty() {
        let what = "name the bucket: ?bucket=NAME";
        return Err(Refused::new(StatusCode::BAD_REQUEST, "MissingBucket", what));
    }
    look(store, name).await
}

pub async fn set_quota(store: &dyn ObjectStore, set: SetQuota) -> Result<Value, Refused> {
    let bucket = store.bucket(&set.bucket).await?;
    let change = QuotaChange {
        hard_bytes: set.hard_bytes,
        hard_objects: set.hard_objects,
        soft_bytes: set.soft_bytes,
        soft_objects: set.soft_objects,
    };
    store.set_quota(bucket.id, change).await?;
    tracing::info!(bucket = bucket.name, ?change, "quota set");
    look(store, &bucket.name).await
}

async fn look(store: &dyn ObjectStore, name: &str) -> Result<Value, Refused> {
    let bucket = store.bucket(name).await?;
    let usage = store.usage(&[bucket.id]).await?;
    let usage = usage.first().copied().unwrap_or_default();
    Ok(shown((&bucket, &usage)))
}

fn shown((bucket, usage): (&Bucket, &Usage)) -> Value {
    let versioning = match bucket.versioning {
        Versioning::Off => "off",
        Versioning::Enabled => "enabled",
        Versioning::Suspended => "suspended",
    };
    let quota = bucket.quota;
    json!({
        "name": bucket.name,
        "owner": bucket.owner.0,
        "created_ms": bucket.created.0,
        "versioning": versioning,
        "usage": {
            "objects": usage.objects,
            "bytes": usage.bytes(),
            "object_bytes": usage.object_bytes,
            "part_bytes": usage.part_bytes,
            "delete_markers": usage.markers,
            "uploads": usage.uploads,
        },
        "quota": {
            "hard_bytes": quota.hard_bytes,
            "hard_objects": quota.hard_objects,
            "soft_bytes": quota.soft_bytes,
            "soft_objects": quota.soft_objects,
        },
        "over_soft_quota": quota.is_passed_softly(usage),
    })
}
