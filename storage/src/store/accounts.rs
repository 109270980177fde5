//! The accounts that a store knows: the owners of buckets and objects.

use async_trait::async_trait;

use crate::error::Result;
use crate::types::{Account, AccountId};

/// The accounts of a store.
///
/// # What an implementation must guarantee
///
/// Besides what the crate's page says of all traits:
///
/// - **Idempotent**: the same account put again changes nothing and succeeds.
/// - **Never removed**: an account that was put once is found from then on, as objects name it for
///   as long as they live.
#[async_trait]
pub trait Accounts: Send + Sync + 'static {
    /// Makes the account known, or brings its names up to date.
    async fn put_account(&self, account: Account) -> Result<()>;

    /// Returns the account, or `None` if it was never put.
    async fn account(&self, id: &AccountId) -> Result<Option<Account>>;
}
