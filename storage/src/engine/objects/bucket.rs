//! Buckets and accounts: changes over two groups, step by step.
//!
//! A name lives in group 0, the bucket itself and all that decides about its objects in its own
//! group. Create: the name is taken (*creating*) → the bucket's row → the name is active →
//! acknowledged. Delete: the bucket is sealed if it is empty → the name is dropped → acknowledged
//! → a worker removes what is left of it. Power may go between any two steps; the next one who
//! meets the name, or the sweep at start, finishes what it finds half done:
//!
//! - *creating*, no row: nobody was told of it. Another creation by the same owner goes on with it.
//! - *creating* with a row: likewise; the row is found equal.
//! - active, sealed: the name is dropped by whoever meets it.

use crate::engine::Engine;
use crate::meta::command::{Change, Reply};
use drystone_store::buckets::{CreateBucket, ListBuckets};
use drystone_store::error::{Error, Refusal, Result};
use drystone_store::types::{
    Account, AccountId, Bucket, BucketId, BucketSetting, QuotaChange, Usage, Versioning,
};

/// Rows that one command of the emptying worker removes.
const EMPTY_ROWS_MAX: u32 = 1000;
/// Buckets that the sweep at start takes in one look.
const SEALED_LEN_MAX: usize = 100;

impl Engine {
    pub(crate) async fn register(&self, account: Account) -> Result<()> {
        let known = self.find_account(&account.id).await?;
        if known.as_ref() == Some(&account) {
            return Ok(());
        }
        let epoch = self.system_epochs.begin();
        let command = self.command(&epoch, Change::PutAccount(account));
        self.system.propose(command).await.map(drop)
    }

    pub(crate) async fn find_account(&self, id: &AccountId) -> Result<Option<Account>> {
        let id = id.clone();
        self.system.read(move |view| view.account(&id)).await
    }

    pub(crate) async fn make_bucket(&self, request: CreateBucket) -> Result<Bucket> {
        let CreateBucket {
            name,
            owner,
            location,
            settings,
        } = request;
        // A namesake whose deletion was cut half-way gives its name free first.
        match self.find_bucket(&name).await {
            Ok(bucket) => {
                return Err(Refusal::BucketExists {
                    owner: bucket.owner,
                }
                .into());
            }
            Err(Error::Refused(Refusal::NoSuchBucket)) => {}
            Err(error) => return Err(error),
        }
        self.room_for_metadata().await?;
        let reserve = Change::ReserveBucket {
            name: name.clone(),
            owner: owner.clone(),
        };
        let id = match self.propose_system(reserve).await? {
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
        let epoch = self.epochs.begin();
        self.objects.propose(self.command(&epoch, create)).await?;
        self.propose_system(Change::ActivateBucket {
            name: name.clone(),
            id,
        })
        .await?;
        self.find_bucket(&name).await
    }

    /// One look into the bucket's own group decides; the name's id is remembered, as ids are never
    /// reused and the group says when one is gone.
    pub(crate) async fn find_bucket(&self, name: &str) -> Result<Bucket> {
        if let Some(id) = self.names.get(name) {
            match self.objects.read(move |view| view.bucket(id)).await {
                Err(Error::Refused(Refusal::NoSuchBucket)) => self.names.forget(name),
                answer => return answer,
            }
        }
        let named = name.to_owned();
        let id = self.system.read(move |view| view.bucket_id(&named)).await?;
        let id = id.ok_or(Refusal::NoSuchBucket)?;
        match self.objects.read(move |view| view.bucket(id)).await {
            Ok(bucket) => {
                self.names.remember(name, id);
                Ok(bucket)
            }
            Err(Error::Refused(Refusal::NoSuchBucket)) => {
                // Sealed, and the name not dropped yet: finish the deletion.
                self.propose_system(Change::ReleaseBucket {
                    name: name.to_owned(),
                    id,
                })
                .await?;
                Err(Refusal::NoSuchBucket.into())
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn buckets(&self, request: ListBuckets) -> Result<Vec<Bucket>> {
        let names = self
            .system
            .read(move |view| {
                let ListBuckets {
                    owner,
                    prefix,
                    after,
                    max,
                } = &request;
                view.list_names(prefix, after, *max, owner.as_ref())
            })
            .await?;
        self.objects
            .read(move |view| {
                let found = names.iter().map(|name| match view.bucket(name.id) {
                    // Sealed since the names were read.
                    Err(Error::Refused(Refusal::NoSuchBucket)) => Ok(None),
                    bucket => bucket.map(Some),
                });
                Ok(found
                    .collect::<Result<Vec<_>>>()?
                    .into_iter()
                    .flatten()
                    .collect())
            })
            .await
    }

    pub(crate) async fn remove_bucket(&self, id: BucketId) -> Result<()> {
        let bucket = self.objects.read(move |view| view.bucket(id)).await?;
        let epoch = self.epochs.begin();
        self.objects
            .propose(self.command(&epoch, Change::SealBucket { id }))
            .await?;
        self.names.forget(&bucket.name);
        self.propose_system(Change::ReleaseBucket {
            name: bucket.name,
            id,
        })
        .await?;
        self.empty_bucket(id).await
    }

    /// Removes what a sealed bucket left behind, in bounded commands.
    async fn empty_bucket(&self, id: BucketId) -> Result<()> {
        loop {
            let epoch = self.epochs.begin();
            let change = Change::EmptyBucket {
                id,
                max: EMPTY_ROWS_MAX,
            };
            match self.objects.propose(self.command(&epoch, change)).await? {
                Reply::Emptied { more: true } => {}
                _ => return Ok(()),
            }
        }
    }

    /// Finishes the deletions that a crash cut after their first step.
    pub(crate) async fn finish_deletions(&self) -> Result<()> {
        loop {
            let sealed = self
                .objects
                .read(|view| view.sealed_buckets(SEALED_LEN_MAX))
                .await?;
            if sealed.is_empty() {
                return Ok(());
            }
            for (id, name) in sealed {
                self.propose_system(Change::ReleaseBucket { name, id })
                    .await?;
                self.empty_bucket(id).await?;
            }
        }
    }

    pub(crate) async fn change_versioning(
        &self,
        bucket: BucketId,
        versioning: Versioning,
    ) -> Result<()> {
        let epoch = self.epochs.begin();
        let change = Change::SetVersioning { bucket, versioning };
        self.objects
            .propose(self.command(&epoch, change))
            .await
            .map(drop)
    }

    pub(crate) async fn change_setting(
        &self,
        bucket: BucketId,
        setting: BucketSetting,
        document: Option<Vec<u8>>,
    ) -> Result<()> {
        if document.is_some() {
            self.room_for_metadata().await?;
        }
        let epoch = self.epochs.begin();
        let change = Change::PutBucketSetting {
            bucket,
            setting,
            document,
        };
        self.objects
            .propose(self.command(&epoch, change))
            .await
            .map(drop)
    }

    pub(crate) async fn change_quota(&self, bucket: BucketId, change: QuotaChange) -> Result<()> {
        let epoch = self.epochs.begin();
        let change = Change::SetQuota { bucket, change };
        self.objects
            .propose(self.command(&epoch, change))
            .await
            .map(drop)
    }

    pub(crate) async fn usages(&self, buckets: Vec<BucketId>) -> Result<Vec<Usage>> {
        self.objects
            .read(move |view| buckets.iter().map(|id| view.usage(*id)).collect())
            .await
    }

    async fn propose_system(&self, change: Change) -> Result<Reply> {
        let epoch = self.system_epochs.begin();
        let command = self.command(&epoch, change);
        self.system.propose(command).await
    }
}
