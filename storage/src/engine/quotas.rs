//! Soft quotas: the operator is told of the buckets that hold more.

use std::collections::HashSet;
use std::sync::Weak;
use std::time::Duration;

use super::Engine;
use drystone_store::error::{Error, Refusal, Result};
use drystone_store::operator::{OVER_QUOTA_LEN_MAX, OverQuota};

/// So often the log is brought up to date. The rows are there at once, for all who ask.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Advice names so many buckets, and how many more there are.
const ADVISED_LEN_MAX: usize = 10;

impl Engine {
    pub(super) async fn over_quota(&self) -> Result<Vec<OverQuota>> {
        let look = self.objects.read(|view| {
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
        look.await
    }
}

/// One sentence for each, and one for those that are not named.
pub(super) fn advice(over: &[OverQuota]) -> Vec<String> {
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
        "bucket {} holds {}: have something deleted, or raise it with `admin quota set`",
        over.bucket,
        passed.join("; and ")
    )
}

/// Logs each bucket once when it has come to hold more, and when it no longer does.
pub(super) async fn watch(engine: Weak<Engine>) {
    let mut known = HashSet::new();
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    loop {
        ticks.tick().await;
        let Some(engine) = engine.upgrade() else {
            return;
        };
        match engine.over_quota().await {
            Ok(over) => tell(&mut known, &over),
            Err(error) => tracing::debug!(%error, "soft quotas are not looked at"),
        }
    }
}

fn tell(known: &mut HashSet<String>, over: &[OverQuota]) {
    let now: HashSet<String> = over.iter().map(|over| over.bucket.clone()).collect();
    for over in over.iter().filter(|over| !known.contains(&over.bucket)) {
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
    for bucket in known.difference(&now) {
        tracing::info!(bucket, "within its soft quota again");
    }
    *known = now;
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
                "bucket b holds 11 bytes, its soft quota is 10: have something deleted, or raise \
                 it with `admin quota set`"
            ]
        );
        let many: Vec<_> = (0..12).map(|n| over(format!("b{n}"))).collect();
        let sentences = advice(&many);
        assert_eq!(sentences.len(), ADVISED_LEN_MAX + 1);
        assert!(sentences[ADVISED_LEN_MAX].starts_with("2 more buckets"));
    }

    #[test]
    fn s_06_a_bucket_is_told_again_only_after_it_was_within() {
        let mut known = HashSet::new();
        tell(&mut known, &[over("a".into()), over("b".into())]);
        tell(&mut known, &[over("b".into())]);
        assert_eq!(known, HashSet::from(["b".to_owned()]));
    }
}
