//! Deletes, and changes of a version's tags: one command each.

use crate::engine::Engine;
use crate::meta::command::{Change, DeleteKey, Reply};
use crate::meta::view::View;
use drystone_store::error::Result;
use drystone_store::objects::{DeleteObject, Deleted};
use drystone_store::types::{BucketId, Tags, VersionId, VersionSelector};

/// Parts whose names go in one command, but for those of a single key: each is a few rows in the
/// batch of every replica.
const DELETED_PARTS_MAX: u32 = 10_000;

impl Engine {
    /// Each key is decided alone, and all of them in one command, unless so many parts may go with
    /// them that several are due. The bytes that lose their last name become garbage in the same
    /// batch; gc removes them when no reader can be left.
    pub(crate) async fn delete(
        &self,
        bucket: BucketId,
        requests: Vec<DeleteObject>,
    ) -> Result<Vec<Result<Deleted>>> {
        let mut answers = Vec::with_capacity(requests.len());
        for requests in self.by_parts(bucket, requests).await? {
            answers.extend(self.delete_at_once(bucket, requests).await?);
        }
        Ok(answers)
    }

    /// Parts the deletes of many keys, in their order, by what goes with each as far as can be
    /// told.
    async fn by_parts(
        &self,
        bucket: BucketId,
        requests: Vec<DeleteObject>,
    ) -> Result<Vec<Vec<DeleteObject>>> {
        if requests.len() <= 1 {
            return Ok(vec![requests]);
        }
        let asked: Vec<_> = requests
            .iter()
            .map(|request| (request.key.clone(), request.version))
            .collect();
        let look = move |view: &View<'_>| {
            let parts = asked.iter().map(|(key, version)| {
                // What is not there, or not as it should be, is for the command to say.
                view.part_count(bucket, key, *version).unwrap_or(0)
            });
            Ok(parts.collect::<Vec<_>>())
        };
        let counts = self.objects.read(look).await?;
        Ok(divide(requests.into_iter().zip(counts), DELETED_PARTS_MAX))
    }

    async fn delete_at_once(
        &self,
        bucket: BucketId,
        requests: Vec<DeleteObject>,
    ) -> Result<Vec<Result<Deleted>>> {
        let epoch = self.epochs.begin();
        let keys = requests
            .into_iter()
            .map(|request| DeleteKey {
                key: request.key,
                version: chosen(request.version),
                condition: request.condition,
                nonce: self.env.nonce(),
            })
            .collect();
        let command = self.command(&epoch, Change::DeleteObjects { bucket, keys });
        match self.objects.propose(command).await? {
            Reply::Deleted(answers) => Ok(answers
                .into_iter()
                .map(|answer| answer.map_err(Into::into))
                .collect()),
            other => unreachable!("a delete is answered key by key, not {other:?}"),
        }
    }

    pub(crate) async fn put_tags(
        &self,
        bucket: BucketId,
        key: &str,
        version: VersionSelector,
        tags: Tags,
    ) -> Result<Option<VersionId>> {
        if !tags.is_empty() {
            self.room_for_metadata().await?;
        }
        let epoch = self.epochs.begin();
        let change = Change::PutTags {
            bucket,
            key: key.to_owned(),
            version: chosen(version),
            tags,
        };
        match self.objects.propose(self.command(&epoch, change)).await? {
            Reply::Tagged { version_id } => Ok(version_id),
            other => unreachable!("tagging is answered by the version met, not {other:?}"),
        }
    }
}

/// Cuts a list where the counts of what lies between would pass `max`.
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

fn chosen(version: VersionSelector) -> Option<VersionId> {
    match version {
        VersionSelector::Latest => None,
        VersionSelector::Id(id) => Some(id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by reading: a thousand keys of ten thousand parts each went in one batch.
    #[test]
    fn f_31_deletes_of_many_parts_go_in_several_commands_in_their_order() {
        let cut = |counts: &[u32]| divide((0..).zip(counts.iter().copied()), 10);
        assert_eq!(cut(&[0, 1, 9]), [vec![0, 1, 2]]);
        assert_eq!(cut(&[0, 20, 0, 1]), [vec![0], vec![1], vec![2, 3]]);
        assert_eq!(cut(&[6, 4, 1, 9, 1]), [vec![0, 1], vec![2, 3], vec![4]]);
        assert_eq!(cut(&[]), [Vec::<i32>::new()]);
    }
}
