//! Deletes, and changes of a version's tags: one command each.

use crate::error::Result;
use crate::meta::command::{Change, DeleteKey, Reply};
use crate::node::Node;
use crate::store::{DeleteObject, Deleted};
use crate::types::{BucketId, Tags, VersionId, VersionSelector};

impl Node {
    /// One command, each key decided alone. The bytes that lose their last name become garbage in
    /// the same batch; gc removes them when no reader can be left.
    pub(crate) async fn delete(
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
                nonce: self.nonce(),
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

fn chosen(version: VersionSelector) -> Option<VersionId> {
    match version {
        VersionSelector::Latest => None,
        VersionSelector::Id(id) => Some(id),
    }
}
