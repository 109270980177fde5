//! The context that handlers work in.

use std::sync::Arc;

use drystone_store::ObjectStore;
use drystone_store::buckets::{Addition, AdditionOf};
use drystone_store::env::Env;
use drystone_store::types::Bucket;

use crate::keep_alive_interval::KeepAliveInterval;
use crate::settings::SettingsCache;
use drystone_protocol::error::S3Error;
use drystone_protocol::ids::Ids;

pub struct Context {
    pub store: Arc<dyn ObjectStore>,
    pub env: Arc<dyn Env>,
    pub ids: Arc<Ids>,
    pub region: String,
    /// The prefix that all paths may begin with; empty, or beginning with a `/`.
    pub path_prefix: String,
    pub keep_alive: KeepAliveInterval,
    pub settings: SettingsCache,
}

impl Context {
    /// The name of the bucket's region as it is called today.
    pub fn region_of<'a>(&'a self, bucket: &'a Bucket) -> &'a str {
        match bucket.location.as_str() {
            "" => &self.region,
            "EU" => "eu-west-1",
            given => given,
        }
    }

    /// Refuses a write that the bucket's hard quota would refuse now, before any of its bytes are
    /// read. The quota is checked again where the order of writes is decided.
    pub async fn check_quota(
        &self,
        bucket: &Bucket,
        of: AdditionOf,
        bytes: Option<u64>,
    ) -> Result<(), S3Error> {
        if bucket.quota.hard_bytes.is_none() && bucket.quota.hard_objects.is_none() {
            return Ok(());
        }
        let bytes = bytes.unwrap_or_default();
        let addition = Addition { of, bytes };
        Ok(self.store.check_quota(bucket.id, addition).await?)
    }
}
