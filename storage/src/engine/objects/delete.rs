//! Deletes: one command for many keys.

use crate::engine::Engine;
use crate::meta::command::{Change, DeleteKey, Reply};
use crate::meta::view::View;
use drystone_store::error::Result;
use drystone_store::objects::{DeleteObject, Deleted};
use drystone_store::types::{BucketId, VersionId, VersionSelector};

/// The number of parts whose names one command removes, unless a single key has more: each is a few
/// rows in the batch of every replica.
const DELETED_PARTS_MAX: u32 = 10_000;

impl Engine {
    /// Divides the deletes of many keys, in their order, by the number of parts that each removes,
    /// as far as it is known.
    pub(super) async fn delete_batches(
        &self,
        bucket: BucketId,
        requests: Vec<DeleteObject>,
    ) -> Result<Vec<Vec<DeleteObject>>> {
        if requests.len() <= 1 {
            return Ok(vec![requests]);
        }
        let versions: Vec<_> = requests
            .iter()
            .map(|request| (request.key.clone(), request.version))
            .collect();
        let read = move |view: &View<'_>| {
            let counts = versions.iter().map(|(key, version)| {
                // The command answers for a version that does not exist or cannot be read.
                view.part_count(bucket, key, *version).unwrap_or(0)
            });
            Ok(counts.collect::<Vec<_>>())
        };
        let counts = self.objects.group.read(read).await?;
        Ok(divide(requests.into_iter().zip(counts), DELETED_PARTS_MAX))
    }

    /// Deletes the keys in one command. The bytes that lose their last name become garbage in the
    /// same batch; gc removes them when no reader can be left.
    pub(super) async fn delete_batch(
        &self,
        bucket: BucketId,
        requests: Vec<DeleteObject>,
    ) -> Result<Vec<Result<Deleted>>> {
        let keys = requests
            .into_iter()
            .map(|request| DeleteKey {
                key: request.key,
                version: named_version(request.version),
                condition: request.condition,
                nonce: self.env.nonce(),
            })
            .collect();
        let change = Change::DeleteObjects { bucket, keys };
        match self.objects.propose(change).await? {
            Reply::Deleted(answers) => Ok(answers
                .into_iter()
                .map(|answer| answer.map_err(Into::into))
                .collect()),
            other => unreachable!("a delete is answered key by key, not {other:?}"),
        }
    }
}

/// Divides a list so that the counts of each piece add up to `max` at most, unless a piece has one
/// element.
fn divide<T>(counted: impl Iterator<Item = (T, u32)>, max: u32) -> Vec<Vec<T>> {
    let (mut all, mut last, mut sum) = (Vec::new(), Vec::new(), 0u32);
    for (one, count) in counted {
        sum = sum.saturating_add(count);
        if sum > max && !last.is_empty() {
            sum = count;
            all.push(std::mem::take(&mut last));
        }
        last.push(one);
    }
    all.push(last);
    all
}

/// Returns the version that a request names; `None`: the latest.
pub(super) fn named_version(version: VersionSelector) -> Option<VersionId> {
    match version {
        VersionSelector::Latest => None,
        VersionSelector::Id(id) => Some(id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by reading: a thousand keys of ten thousand parts each were deleted in one batch.
    #[test]
    fn f_31_deletes_of_many_parts_go_in_several_commands_in_their_order() {
        let cut = |counts: &[u32]| divide((0..).zip(counts.iter().copied()), 10);
        assert_eq!(cut(&[0, 1, 9]), [vec![0, 1, 2]]);
        assert_eq!(cut(&[0, 20, 0, 1]), [vec![0], vec![1], vec![2, 3]]);
        assert_eq!(cut(&[6, 4, 1, 9, 1]), [vec![0, 1], vec![2, 3], vec![4]]);
        assert_eq!(cut(&[]), [Vec::<i32>::new()]);
    }
}
