//! Writing bytes: the body first, then the one command that names it.
//!
//! 1. The write begins in an epoch, so that gc leaves its shards alone while it runs.
//! 2. The body is read. Small ones stay in memory and travel in the command; larger ones become
//!    shards, each on its disk's list of unconfirmed shards before its file can exist. Power fails
//!    here: unnamed shards are on the disks; gc finds them on those lists below the floor.
//! 3. One command through the log: the commit point. Power fails here: either the entry is on a
//!    majority and the object exists, or it is not and the shards are as in 2.
//! 4. The shards are confirmed: their disks' lists forget them. Power fails here: gc asks the
//!    metadata, finds them named and forgets them then.

use bytes::{Bytes, BytesMut};

use crate::engine::Engine;
use crate::meta::command::{Change, Location, NewData, Reply};
use crate::raft::epochs::EpochGuard;
use crate::shards::Removal;
use drystone_store::body::Body;
use drystone_store::error::{Error, Refusal, Result};
use drystone_store::objects::Written;
use drystone_store::types::{BucketId, Digest};

/// The largest object that lies in the metadata; larger ones are shards.
pub const INLINE_SIZE_MAX_BYTES: usize = 8 << 10;

impl Engine {
    /// Refuses a write if the voters' disks have no space for more metadata. Every operation that
    /// adds rows calls this first; those that remove rows, or complete what was begun, do not.
    pub(crate) fn check_metadata_space(&self) -> Result<()> {
        let voters = self.objects.group.status().voters;
        let disks: Vec<_> = voters.iter().map(|voter| voter.disk).collect();
        self.shards.room_for_metadata(&disks)
    }

    /// Reads a body to its end. Its size decides where it goes: into memory or onto the disks.
    pub(crate) async fn write_body(
        &self,
        epoch: &EpochGuard,
        bucket: BucketId,
        class: &str,
        body: &mut dyn Body,
    ) -> Result<(NewData, Digest)> {
        self.check_metadata_space()?;
        let write_id = self.env.write_id();
        let start = read_start(body).await?;
        let (size, location) = match start {
            Start::Whole(bytes) => (bytes.len() as u64, Location::Inline(bytes.to_vec())),
            Start::More(bytes) => {
                let (size, set) = self
                    .shards
                    .write(write_id, epoch.epoch(), bucket, class, bytes, body)
                    .await?;
                (size, Location::Shards(set))
            }
        };
        Ok((
            NewData {
                write_id,
                size,
                location,
            },
            body.digest(),
        ))
    }

    /// Proposes the command that names `data`. The answer decides what becomes of its shards. Runs
    /// to its end in a task of its own, whatever becomes of the caller.
    pub(crate) async fn commit_data(
        &self,
        epoch: EpochGuard,
        data: NewData,
        change: Change,
    ) -> Result<Reply> {
        let (objects, shards) = (self.objects.clone(), self.shards.clone());
        let (healer, reencoder) = (self.workers.healer.clone(), self.workers.reencoder.clone());
        let commit = self.env.spawn(async move {
            let answer = objects.propose_in(&epoch, change).await;
            if let Location::Shards(set) = &data.location {
                match &answer {
                    Ok(_) => {
                        shards.confirm(data.write_id, set);
                        if set.shards.iter().any(|place| place.missing) {
                            healer.wake();
                        }
                        if set.undersized {
                            reencoder.queued();
                        }
                    }
                    // A command that is refused like this may still have been carried out before:
                    // the same one under another leader, or another one with these bytes.
                    Err(Error::Refused(Refusal::EpochBelowFloor | Refusal::Conflict)) => {}
                    // Certainly not named, and never will be: no need to wait for gc, nor for
                    // their disks. Shards that a disk keeps nevertheless are on its list.
                    Err(Error::Refused(_)) => shards.remove_aside(Removal {
                        write_id: data.write_id,
                        shards: (0..).zip(set.places()).collect(),
                    }),
                    // Unknown: the disks' lists keep the shards until gc can ask.
                    Err(_) => {}
                }
            }
            drop(epoch);
            answer
        });
        commit.await.map_err(|_| Error::Closing)?
    }
}

/// The beginning of a body.
enum Start {
    /// The body ended.
    Whole(Bytes),
    /// More bytes follow.
    More(Bytes),
}

/// Reads until the body ends or is too large for the metadata.
async fn read_start(body: &mut dyn Body) -> Result<Start> {
    let Some(first) = body.next().await? else {
        return Ok(Start::Whole(Bytes::new()));
    };
    if first.len() > INLINE_SIZE_MAX_BYTES {
        return Ok(Start::More(first));
    }
    let mut start = BytesMut::from(first);
    while let Some(piece) = body.next().await? {
        start.extend_from_slice(&piece);
        if start.len() > INLINE_SIZE_MAX_BYTES {
            return Ok(Start::More(start.freeze()));
        }
    }
    Ok(Start::Whole(start.freeze()))
}

/// Returns the answer to a command that makes a version.
pub(crate) fn written(reply: Reply) -> Result<Written> {
    match reply {
        Reply::Written {
            version_id,
            etag,
            size,
            checksum,
            modified,
        } => Ok(Written {
            version_id,
            etag,
            size,
            checksum,
            modified,
        }),
        other => unreachable!("a write is answered by what was written, not {other:?}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::engine::Options;
    use crate::engine::testing::{self, Whole};
    use drystone_store::instance::Instance as _;
    use drystone_store::objects::{Objects as _, ReadScope};
    use drystone_store::types::{ByteRange, VersionSelector};

    #[tokio::test]
    async fn b_19_bytes_that_another_command_named_outlive_the_one_that_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let directories = (0..2).map(|n| root.path().join(format!("{n}"))).collect();
        let engine = Engine::open(Options::new(directories)).await.unwrap();
        let bucket = testing::create_bucket(&engine).await;
        let bytes = Bytes::from(vec![7; 100_000]);
        let mut body = Whole::new(bytes.clone());
        let epoch = engine.objects.epochs.begin();
        let (data, digest) = engine
            .write_body(&epoch, bucket, "", &mut body)
            .await
            .unwrap();
        let change = || Change::PutObject {
            bucket,
            key: "k".into(),
            attributes: Default::default(),
            condition: Default::default(),
            data: data.clone(),
            digest: digest.clone(),
            nonce: 0,
        };
        engine
            .commit_data(epoch, data.clone(), change())
            .await
            .unwrap();
        let again = engine.commit_data(engine.objects.epochs.begin(), data.clone(), change());
        assert!(matches!(
            again.await,
            Err(Error::Refused(Refusal::Conflict))
        ));
        let handle = engine
            .open_object(bucket, "k", VersionSelector::Latest, ReadScope::Whole)
            .await
            .unwrap();
        let end = bytes.len() as u64;
        let reader = handle.read(ByteRange { start: 0, end }).await.unwrap();
        assert!(testing::rest(reader).await == bytes);
        engine.close().await;
    }
}
