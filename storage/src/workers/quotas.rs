//! Quotas: tells the operator of buckets beyond their soft quotas.

use std::collections::HashSet;

use std::time::Duration;

use async_trait::async_trait;

use crate::raft::proposer::Proposer;
use drystone_store::error::{Error, Refusal, Result};
use drystone_store::lock::Mutex;
use drystone_store::measure::Measure;
use drystone_store::operator::{OVER_QUOTA_LEN_MAX, OverQuota};
use drystone_store::workers::{Next, StepError, Wakeup, Worker};

/// How often the log is brought up to date. The rows are there at once, for all who ask.
const EVERY: Duration = Duration::from_secs(60);
/// The most buckets that advice names. It says how many more there are.
const ADVISED_LEN_MAX: usize = 10;

pub struct Quotas {
    objects: Proposer,
    /// The buckets that were logged as beyond their soft quotas.
    logged: Mutex<HashSet<String>>,
    wakeup: Wakeup,
}

impl Quotas {
    pub fn new(objects: Proposer) -> Quotas {
        Quotas {
            objects,
            logged: Mutex::default(),
            wakeup: Wakeup::default(),
        }
    }

    /// The buckets beyond their soft quotas, at most [`OVER_QUOTA_LEN_MAX`].
    pub async fn over_quota(&self) -> Result<Vec<OverQuota>> {
        let read = self.objects.group.read(|view| {
            let mut over = Vec::new();
            for (id, since) in view.over_quotas(OVER_QUOTA_LEN_MAX)? {
                let bucket = match view.bucket(id) {
                    Err(Error::Refused(Refusal::NoSuchBucket)) => continue,
                    bucket => bucket?,
                };
                let usage = view.usage(id)?;
                over.push(OverQuota {
                    bucket: bucket.name,
                    since_ms: since.0,
                    bytes: usage.bytes(),
                    objects: usage.objects,
                    soft_bytes: bucket.quota.soft_bytes,
                    soft_objects: bucket.quota.soft_objects,
                });
            }
            Ok(over)
        });
        read.await
    }
}

#[async_trait]
impl Worker for Quotas {
    fn name(&self) -> &'static str {
        "quotas"
    }

    async fn step(&self) -> Result<Next, StepError> {
        let next = Next::At(self.objects.env.after(EVERY));
        let over = self.over_quota().await?;
        let mut logged = self.logged.lock();
        log_changes(&mut logged, &over);
        Ok(next)
    }

    fn wakeup(&self) -> &Wakeup {
        &self.wakeup
    }

    fn retry_after(&self) -> Duration {
        EVERY
    }

    async fn measures(&self) -> Vec<Measure> {
        let Ok(over) = self.over_quota().await else {
            return Vec::new();
        };
        let help = "Buckets beyond their soft quotas; at most 1000 are counted.";
        let name = "buckets_over_soft_quota";
        vec![Measure::gauge(name, help, over.len() as f64)]
    }
}

/// One sentence for each bucket, and one for those that are not named.
pub fn advice(over: &[OverQuota]) -> Vec<String> {
    let mut advice: Vec<String> = over.iter().take(ADVISED_LEN_MAX).map(sentence).collect();
    let more = over.len().saturating_sub(ADVISED_LEN_MAX);
    if more > 0 {
        let most = over.len() == OVER_QUOTA_LEN_MAX;
        let least = if most { "at least " } else { "" };
        advice.push(format!(
            "{least}{more} more buckets hold more than their soft quotas: `admin bucket ls` shows \
             them"
        ));
    }
    advice
}

fn sentence(over: &OverQuota) -> String {
    let mut passed = Vec::new();
    for (what, holds, limit) in [
        ("bytes", over.bytes, over.soft_bytes),
        ("objects", over.objects, over.soft_objects),
    ] {
        if let Some(limit) = limit.filter(|limit| holds > *limit) {
            passed.push(format!("{holds} {what}, its soft quota is {limit}"));
        }
    }
    format!(
        "bucket {} holds {}: delete objects, or raise the quota with `admin quota set`",
        over.bucket,
        passed.join("; and ")
    )
}

/// Logs each bucket once when it has come to hold more, and when it no longer does.
fn log_changes(logged: &mut HashSet<String>, over: &[OverQuota]) {
    let now: HashSet<String> = over.iter().map(|over| over.bucket.clone()).collect();
    for over in over.iter().filter(|over| !logged.contains(&over.bucket)) {
        let OverQuota { bucket, .. } = over;
        let (bytes, objects) = (over.bytes, over.objects);
        let (soft_bytes, soft_objects) = (over.soft_bytes, over.soft_objects);
        tracing::warn!(
            bucket,
            bytes,
            objects,
            soft_bytes,
            soft_objects,
            "over its soft quota"
        );
    }
    for bucket in logged.difference(&now) {
        tracing::info!(bucket, "within its soft quota again");
    }
    *logged = now;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(bucket: String) -> OverQuota {
        OverQuota {
            bucket,
            since_ms: 0,
            bytes: 11,
            objects: 3,
            soft_bytes: Some(10),
            soft_objects: Some(3),
        }
    }

    #[test]
    fn s_06_advice_names_what_is_passed_and_stays_short() {
        let sentences = advice(&[over("b".into())]);
        assert_eq!(
            sentences,
            [
                "bucket b holds 11 bytes, its soft quota is 10: delete objects, or raise the \
                 quota with `admin quota set`"
            ]
        );
        let many: Vec<_> = (0..12).map(|n| over(format!("b{n}"))).collect();
        let sentences = advice(&many);
        assert_eq!(sentences.len(), ADVISED_LEN_MAX + 1);
        assert!(sentences[ADVISED_LEN_MAX].starts_with("2 more buckets"));
    }

    #[test]
    fn s_06_a_bucket_is_reported_again_only_after_it_was_within() {
        let mut logged = HashSet::new();
        log_changes(&mut logged, &[over("a".into()), over("b".into())]);
        log_changes(&mut logged, &[over("b".into())]);
        assert_eq!(logged, HashSet::from(["b".to_owned()]));
    }
}
