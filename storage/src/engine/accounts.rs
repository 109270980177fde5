//! Accounts: rows of group 0.

use async_trait::async_trait;

use super::Engine;
use crate::meta::command::Change;
use drystone_store::accounts::Accounts;
use drystone_store::error::Result;
use drystone_store::types::{Account, AccountId};

#[async_trait]
impl Accounts for Engine {
    /// Proposes nothing where the account is known already, as it is at every request but its
    /// first.
    async fn put_account(&self, account: Account) -> Result<()> {
        if self.account(&account.id).await?.as_ref() == Some(&account) {
            return Ok(());
        }
        self.system.propose(Change::PutAccount(account)).await?;
        Ok(())
    }

    async fn account(&self, id: &AccountId) -> Result<Option<Account>> {
        let id = id.clone();
        self.system.group.read(move |view| view.account(&id)).await
    }
}
