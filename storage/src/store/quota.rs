//! Quotas: the decision whether a change is allowed.

use crate::error::{QuotaUnit, Refusal};
use crate::types::{Quota, Usage};

impl Quota {
    /// Refuses a change that grows beyond a hard limit. A change that shrinks is allowed, even if
    /// the bucket stays beyond the limit.
    pub fn allows(&self, used: &Usage, wanted: &Usage) -> Result<(), Refusal> {
        let bytes = (self.hard_bytes, used.bytes(), wanted.bytes());
        let objects = (self.hard_objects, used.objects, wanted.objects);
        for (counted, (limit, used, wanted)) in
            [(QuotaUnit::Bytes, bytes), (QuotaUnit::Objects, objects)]
        {
            if let Some(limit) = limit.filter(|limit| wanted > used && wanted > *limit) {
                return Err(Refusal::QuotaExceeded {
                    counted,
                    limit,
                    used,
                    wanted,
                });
            }
        }
        Ok(())
    }
}
