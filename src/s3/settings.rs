//! The parsed settings of buckets, kept so that not every request parses them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use drystone_store::lock::Mutex;
use drystone_store::types::{Bucket, BucketId, BucketSetting, Tags};

use crate::values::tags::{self, BUCKET_TAGS_MAX};
use drystone_iam::facts::BucketSettings;
use drystone_protocol::error::S3Error;
use drystone_protocol::xml;

/// The bytes of stored settings whose parsed form is kept.
const STORED_BYTES_MAX: usize = 16 << 20;

type Stored = Vec<(BucketSetting, Vec<u8>)>;

/// Parsed settings by bucket. An entry is good as long as the bucket's row has the same bytes: they
/// come with the row in any case, and comparing is much cheaper than parsing.
#[derive(Debug)]
pub struct SettingsCache {
    none: Arc<BucketSettings>,
    stored_bytes_max: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    entries: HashMap<BucketId, (Stored, Arc<BucketSettings>)>,
    /// From the oldest entry to the newest.
    order: VecDeque<BucketId>,
    stored_bytes: usize,
}

impl Default for SettingsCache {
    fn default() -> SettingsCache {
        SettingsCache::bounded(STORED_BYTES_MAX)
    }
}

impl SettingsCache {
    fn bounded(stored_bytes_max: usize) -> SettingsCache {
        SettingsCache {
            none: Arc::default(),
            stored_bytes_max,
            kept: Mutex::default(),
        }
    }

    /// Returns the bucket's settings, parsed now or earlier.
    pub fn of(&self, bucket: &Bucket) -> Arc<BucketSettings> {
        if bucket.settings.is_empty() {
            return self.none.clone();
        }
        let mut kept = self.kept.lock();
        if let Some((stored, parsed)) = kept.entries.get(&bucket.id)
            && *stored == bucket.settings
        {
            return parsed.clone();
        }
        let parsed = Arc::new(parse(bucket));
        kept.put(bucket, parsed.clone(), self.stored_bytes_max);
        parsed
    }
}

impl Kept {
    fn put(&mut self, bucket: &Bucket, parsed: Arc<BucketSettings>, stored_bytes_max: usize) {
        self.remove(bucket.id);
        let entry = (bucket.settings.clone(), parsed);
        self.stored_bytes += bytes_of(&entry.0);
        self.entries.insert(bucket.id, entry);
        self.order.push_back(bucket.id);
        while self.stored_bytes > stored_bytes_max {
            let Some(oldest) = self.order.front().copied() else {
                return;
            };
            self.remove(oldest);
        }
    }

    fn remove(&mut self, id: BucketId) {
        if let Some((stored, _)) = self.entries.remove(&id) {
            self.stored_bytes -= bytes_of(&stored);
            self.order.retain(|kept| *kept != id);
        }
    }
}

fn bytes_of(stored: &Stored) -> usize {
    stored.iter().map(|(_, document)| document.len()).sum()
}

fn parse(bucket: &Bucket) -> BucketSettings {
    let tags = bucket.setting(BucketSetting::Tagging).map(parse_tags);
    let tags = tags.transpose().unwrap_or_else(|error| {
        tracing::error!(bucket = bucket.name, %error, "the bucket's tags cannot be read");
        None
    });
    BucketSettings {
        tags: tags.unwrap_or_default(),
    }
}

fn parse_tags(document: &[u8]) -> Result<Tags, S3Error> {
    tags::read(&xml::read::parse(document, "Tagging")?, BUCKET_TAGS_MAX)
}

#[cfg(test)]
mod tests {
    use drystone_store::types::{AccountId, Quota, Timestamp, Versioning};

    use super::*;

    fn bucket(id: u64, tag: &str) -> Bucket {
        let tags = vec![("team".to_owned(), tag.to_owned())];
        let document = tags::document(&tags).finish().into_bytes();
        Bucket {
            id: BucketId(id),
            name: format!("b{id}"),
            owner: AccountId::default(),
            created: Timestamp(0),
            location: String::new(),
            versioning: Versioning::Off,
            quota: Quota::default(),
            settings: vec![(BucketSetting::Tagging, document)],
        }
    }

    fn tag(settings: &BucketSettings) -> Option<&str> {
        settings.tags.first().map(|(_, value)| value.as_str())
    }

    #[test]
    fn settings_are_parsed_once_until_they_change() {
        let cache = SettingsCache::default();
        let first = cache.of(&bucket(1, "red"));
        assert_eq!(tag(&first), Some("red"));
        assert!(Arc::ptr_eq(&first, &cache.of(&bucket(1, "red"))));
        assert_eq!(tag(&cache.of(&bucket(2, "red"))), Some("red"));
        assert_eq!(tag(&cache.of(&bucket(1, "blue"))), Some("blue"));
        let mut without = bucket(1, "blue");
        without.settings.clear();
        assert_eq!(tag(&cache.of(&without)), None);
    }

    #[test]
    fn settings_that_are_kept_have_a_bound() {
        let stored = bytes_of(&bucket(0, "red").settings);
        let cache = SettingsCache::bounded(3 * stored);
        let oldest = cache.of(&bucket(0, "red"));
        for id in 1..10 {
            assert_eq!(tag(&cache.of(&bucket(id, "red"))), Some("red"));
        }
        let newest = cache.of(&bucket(9, "red"));
        assert!(Arc::ptr_eq(&newest, &cache.of(&bucket(9, "red"))));
        assert!(!Arc::ptr_eq(&oldest, &cache.of(&bucket(0, "red"))));
        let kept = cache.kept.lock();
        assert_eq!((kept.entries.len(), kept.order.len()), (3, 3));
        assert_eq!(kept.stored_bytes, 3 * stored);
    }

    #[test]
    fn settings_that_cannot_be_read_are_none() {
        let mut damaged = bucket(1, "red");
        damaged.settings[0].1.truncate(20);
        assert_eq!(tag(&SettingsCache::default().of(&damaged)), None);
    }
}
