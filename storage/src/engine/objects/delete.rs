//! Deletes: one command for many keys.

use crate::engine::Engine;
use crate::meta::command::{Change, DeleteKey, Reply};
use drystone_store::error::Result;
use drystone_store::objects::{DeleteObject, Deleted};
use drystone_store::types::{BucketId, VersionId, VersionSelector};

impl Engine {
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

/// Returns the version that a request names; `None`: the latest.
pub(super) fn named_version(version: VersionSelector) -> Option<VersionId> {
    match version {
        VersionSelector::Latest => None,
        VersionSelector::Id(id) => Some(id),
    }
}
