//! Buckets: changes over two groups, step by step.
//!
//! A name lives in group 0, the bucket itself and all that decides about its objects in a group of
//! its own. Create: reserve the name (*creating*) → write the bucket's row → activate the name →
//! acknowledge. Delete: seal the bucket if it has no version of any key → release the name → remove
//! its unfinished uploads and its other rows in bounded steps → acknowledge. Power may fail between
//! any two steps. The next request that meets the name, or the sweep at the start, completes a
//! change that it finds half done:
//!
//! - *creating*, no row: no client got an answer. Another creation by the same owner continues it.
//! - *creating* with a row: the same; the row is found equal.
//! - active, sealed: whoever meets the name releases it.

use async_trait::async_trait;

use super::Engine;
use crate::meta::command::{Change, Reply};
use crate::meta::view::View;
use drystone_store::buckets::{Addition, Buckets, CreateBucket, ListBuckets};
use drystone_store::error::{Error, Refusal, Result};
use drystone_store::types::{Bucket, BucketId, BucketSetting, QuotaChange, Usage, Versioning};

/// The number of rows that one step removes of a sealed bucket.
const EMPTY_ROWS_MAX: u32 = 1000;
/// The number of buckets that the sweep at the start reads at once.
const SEALED_LEN_MAX: usize = 100;

#[async_trait]
impl Buckets for Engine {
    async fn create_bucket(&self, request: CreateBucket) -> Result<Bucket> {
        let CreateBucket {
            name,
            owner,
            location,
            settings,
        } = request;
        // Looking it up also completes a deletion that a crash interrupted, and frees the name.
        match self.bucket(&name).await {
            Ok(bucket) => {
                let owner = bucket.owner;
                return Err(Refusal::BucketExists { owner }.into());
            }
            Err(Error::Refused(Refusal::NoSuchBucket)) => {}
            Err(error) => return Err(error),
        }
        self.check_metadata_space()?;
        let reserve = Change::ReserveBucket {
            name: name.clone(),
            owner: owner.clone(),
        };
        let id = match self.system.propose(reserve).await? {
            Reply::Reserved { id } => id,
            other => unreachable!("a reservation is answered by an id, not {other:?}"),
        };
        let create = Change::CreateBucket {
            id,
            name: name.clone(),
            owner,
            location,
            settings,
        };
        self.objects.propose(create).await?;
        let activate = Change::ActivateBucket {
            name: name.clone(),
            id,
        };
        self.system.propose(activate).await?;
        self.bucket(&name).await
    }

    /// One read of the bucket's own group decides. The name's id is cached, as ids are never reused
    /// and the group says when a bucket no longer exists.
    async fn bucket(&self, name: &str) -> Result<Bucket> {
        if let Some(id) = self.names.get(name) {
            match self.objects.group.read(move |view| view.bucket(id)).await {
                Err(Error::Refused(Refusal::NoSuchBucket)) => self.names.forget(name),
                answer => return answer,
            }
        }
        let owned = name.to_owned();
        let find = move |view: &View<'_>| view.bucket_id(&owned);
        let id = self.system.group.read(find).await?;
        let id = id.ok_or(Refusal::NoSuchBucket)?;
        match self.objects.group.read(move |view| view.bucket(id)).await {
            Ok(bucket) => {
                self.names.remember(name, id);
                Ok(bucket)
            }
            Err(Error::Refused(Refusal::NoSuchBucket)) => {
                // Sealed, and the name not released yet: complete the deletion.
                let name = name.to_owned();
                self.system
                    .propose(Change::ReleaseBucket { name, id })
                    .await?;
                Err(Refusal::NoSuchBucket.into())
            }
            Err(error) => Err(error),
        }
    }

    async fn list_buckets(&self, request: ListBuckets) -> Result<Vec<Bucket>> {
        let list = move |view: &View<'_>| {
            let ListBuckets {
                owner,
                prefix,
                after,
                max,
            } = &request;
            view.list_names(prefix, after, *max, owner.as_ref())
        };
        let names = self.system.group.read(list).await?;
        let read = move |view: &View<'_>| {
            let buckets = names.iter().map(|name| match view.bucket(name.id) {
                // Sealed since the names were read.
                Err(Error::Refused(Refusal::NoSuchBucket)) => Ok(None),
                Err(Error::BadRow(what)) => {
                    tracing::error!(what, "a bucket is left out of a listing");
                    Ok(None)
                }
                bucket => bucket.map(Some),
            });
            let buckets = buckets.collect::<Result<Vec<_>>>()?;
            Ok(buckets.into_iter().flatten().collect())
        };
        self.objects.group.read(read).await
    }

    async fn delete_bucket(&self, id: BucketId) -> Result<()> {
        let bucket = self.objects.group.read(move |view| view.bucket(id)).await?;
        self.objects.propose(Change::SealBucket { id }).await?;
        self.names.forget(&bucket.name);
        let name = bucket.name;
        self.system
            .propose(Change::ReleaseBucket { name, id })
            .await?;
        self.empty_bucket(id).await
    }

    async fn set_versioning(&self, bucket: BucketId, versioning: Versioning) -> Result<()> {
        let change = Change::SetVersioning { bucket, versioning };
        self.objects.propose(change).await?;
        Ok(())
    }

    async fn put_bucket_setting(
        &self,
        bucket: BucketId,
        setting: BucketSetting,
        document: Option<Vec<u8>>,
    ) -> Result<()> {
        if document.is_some() {
            self.check_metadata_space()?;
        }
        let change = Change::PutBucketSetting {
            bucket,
            setting,
            document,
        };
        self.objects.propose(change).await?;
        Ok(())
    }

    async fn set_quota(&self, bucket: BucketId, change: QuotaChange) -> Result<()> {
        let change = Change::SetQuota { bucket, change };
        self.objects.propose(change).await?;
        Ok(())
    }

    async fn usage(&self, buckets: &[BucketId]) -> Result<Vec<Usage>> {
        let buckets = buckets.to_vec();
        let read = move |view: &View<'_>| buckets.iter().map(|id| view.usage(*id)).collect();
        self.objects.group.read(read).await
    }

    async fn check_quota(&self, bucket: BucketId, addition: Addition) -> Result<()> {
        let check = move |view: &View<'_>| view.check_quota(bucket, &addition);
        self.objects.group.read(check).await
    }
}

impl Engine {
    /// Removes the rows that a sealed bucket left behind, in bounded commands.
    async fn empty_bucket(&self, id: BucketId) -> Result<()> {
        loop {
            let max = EMPTY_ROWS_MAX;
            match self
                .objects
                .propose(Change::EmptyBucket { id, max })
                .await?
            {
                Reply::Emptied { more: true } => {}
                _ => return Ok(()),
            }
        }
    }

    /// Completes the deletions that a crash interrupted after their first step.
    pub(super) async fn finish_deletions(&self) -> Result<()> {
        let mut after = None;
        loop {
            let read = move |view: &View<'_>| view.sealed_buckets(after, SEALED_LEN_MAX);
            let sealed = self.objects.group.read(read).await?;
            let Some((last, _)) = sealed.last() else {
                return Ok(());
            };
            after = Some(*last);
            for (id, name) in sealed {
                match self.finish_deletion(id, name).await {
                    // It costs the rest of that bucket, not the start.
                    Err(Error::Refused(refusal)) => {
                        tracing::error!(%refusal, bucket = id.0, "a deletion is not finished");
                    }
                    finished => finished?,
                }
            }
        }
    }

    async fn finish_deletion(&self, id: BucketId, name: String) -> Result<()> {
        self.system
            .propose(Change::ReleaseBucket { name, id })
            .await?;
        self.empty_bucket(id).await
    }
}
